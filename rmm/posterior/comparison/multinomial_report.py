"""A paragraph for a paper about a multinomial fit, and the table of each of its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from rmm._version import __version__
from rmm.backends.base import Settings
from rmm.errors import counted
from rmm.formula.prior_syntax import PriorChoice
from rmm.formula.terms import MemberBlock
from rmm.model.spec import INTERCEPT
from rmm.posterior.diagnostics.summary import Diagnostics
from rmm.posterior.reporting.report import Numbers, Report
from rmm.posterior.reporting.summary_tables import decimals_of
from rmm.tables.read import Array

_SETS = {"weakly_informative": "weakly informative priors", "rmm": "the priors of R's rmm"}
_CONSTRAINTS = {
    "group": "normalised to sum to 1 within groups",
    "total": "normalised to sum to the number of groups",
    "none": "not normalised",
}
_ENGINES = {"stan": "Hamiltonian Monte Carlo (Stan", "jags": "Gibbs sampling (JAGS"}


@dataclass(frozen=True)
class Facts:
    """What the report of a multinomial fit needs to know.

    Attributes
    ----------
    categories : tuple of str
        The reference first.
    counts : (K,) array
        Groups of each category.
    block : MemberBlock or None
    members : int
        Number of members.
    priors : PriorChoice
        As the user stated them.
    dropped : str
        Sentence on groups that were left out, or "".
    transform : str or None
    backend : str
    settings : Settings
    table : pandas.DataFrame
        The summary.
    diagnostics : Diagnostics
    """

    categories: tuple[str, ...]
    counts: Array
    block: MemberBlock | None
    members: int
    priors: PriorChoice
    dropped: str
    transform: str | None
    backend: str
    settings: Settings
    table: pd.DataFrame
    diagnostics: Diagnostics


def write_multinomial_report(facts: Facts) -> Report:
    """The report of a multinomial fit.

    Parameters
    ----------
    facts : Facts

    Returns
    -------
    Report
    """
    numbers = Numbers()
    sentences = [*_data(facts, numbers), *_method(facts, numbers), *_results(facts, numbers)]
    table = pd.DataFrame(numbers.rows, columns=["shown", "value", "source"])
    return Report(" ".join(sentences), table)


def _data(facts: Facts, numbers: Numbers) -> Iterator[str]:
    kind, unit = "model", "observations"
    if facts.block is not None:
        kind, unit = "multiple-membership model", "groups"
    source = "len(fit.model.codes)"
    count = numbers.write(float(facts.counts.sum()), "{:,.0f}", source)
    text = (
        f"We fitted a Bayesian {kind} of an outcome with {len(facts.categories)} unordered "
        f"categories (multinomial logit) to {count} {unit}"
    )
    if facts.block is not None:
        source = "fit.model.base.design.members[0].n_members"
        text += f", formed by {numbers.write(facts.members, '{:,.0f}', source)} different members"
    yield f"{text}."
    shares = [
        f"{name} ({numbers.write(float(count), '{:,.0f}', f'(fit.model.codes == {k}).sum()')})"
        for k, (name, count) in enumerate(zip(facts.categories, facts.counts, strict=True))
    ]
    yield f"The categories are {', '.join(shares)}; {facts.categories[0]} is the reference."
    if facts.transform is not None:
        yield f"Predictors were transformed (`{facts.transform}`)."
    if facts.dropped:
        yield facts.dropped
    if facts.block is not None:
        weight = facts.block.weight
        known = "known"
        if weight.estimated:
            names = [f"b_w[{name}]" for name in weight.parameters]
            known = f"the same for all categories, with {' and '.join(names)} estimated"
        yield f"The weights are w = {weight.text}, {_CONSTRAINTS[weight.constraint]}, {known}."


def _method(facts: Facts, numbers: Numbers) -> Iterator[str]:
    priors, d = _SETS[facts.priors.base], facts.diagnostics
    if facts.priors.statements:
        priors += f" and {'; '.join(s.text for s in facts.priors.statements)}"
    if d.pareto_k is not None:
        k = numbers.write(d.pareto_k, "{:z.2f}", 'fit.diagnostics()["pareto_k"]')
        size = numbers.write(d.min_ess_bulk, "{:.0f}", 'fit.diagnostics()["min_ess_bulk"]')
        engine = (
            "a nested Laplace approximation with importance sampling (Pareto k = "
            f"{k}, {size} effective draws)"
        )
    else:
        chains = numbers.write(facts.settings.chains, "{:.0f}", "fit.choices.settings.chains")
        draws = numbers.write(facts.settings.draws, "{:,.0f}", "fit.choices.settings.draws")
        rhat = numbers.write(d.max_rhat, "{:.3f}", 'fit.diagnostics()["max_rhat"]')
        smallest = "bulk" if d.min_ess_bulk <= d.min_ess_tail else "tail"
        ess = min(d.min_ess_bulk, d.min_ess_tail)
        size = numbers.write(ess, "{:,.0f}", f'fit.diagnostics()["min_ess_{smallest}"]')
        diverging = f", {counted(d.divergences, 'divergence')}" if facts.backend == "stan" else ""
        name = _ENGINES.get(facts.backend, f"the engine {facts.backend} (")
        engine = (
            f"{name}; {chains} chains of {draws} draws, largest R-hat {rhat}, smallest effective "
            f"sample size {size}{diverging})"
        )
    yield f"We used rmm {__version__} with {priors}, and {engine}."
    if not d.converged:
        yield (
            "The fit has NOT converged by these checks, so the following numbers are not reliable "
            "and should not be reported."
        )


def _results(facts: Facts, numbers: Numbers) -> Iterator[str]:
    """One sentence per parameter of the summary; the first interval says what it is."""
    for place, name in enumerate(map(str, facts.table.index)):
        row = {str(column): float(values.iloc[place]) for column, values in facts.table.items()}
        form = f"{{:.{decimals_of(row['mcse_mean'])}f}}"
        mean, low, high = (
            numbers.write(row[c], form, f'fit.summary().loc["{name}", "{c}"]')
            for c in ("mean", "q2.5", "q97.5")
        )
        kind = "95% credible interval " if place == 0 else ""
        yield f"{_called(facts, name)} is {mean} ({kind}{low} to {high})."


def _called(facts: Facts, name: str) -> str:
    """The subject of a sentence about a parameter."""
    vector, _, element = name.partition("[")
    element = element[:-1]
    if vector == "b_w":
        return f"The weight coefficient {element}"
    if vector == "sigma_l1":
        return f"The standard deviation of the random effects of members on {element}"
    # Labels may contain colons: the category is the one whose name is longest.
    category = max(
        (k for k in facts.categories[1:] if element.startswith(f"{k}:")), key=len, default=""
    )
    label = element.removeprefix(f"{category}:")
    odds = f"the log odds of {category} against {facts.categories[0]}"
    if label == INTERCEPT:
        return f"The intercept of {odds}"
    whose = " of the members" if vector == "b_l1" else ""
    return f"The coefficient of {label}{whose} for {odds}"
