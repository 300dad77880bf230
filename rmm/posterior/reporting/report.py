"""A paragraph for a paper about a fit, and the table of each of its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rmm._version import __version__
from rmm.errors import counted
from rmm.families.variants.varying_sd import B_SIGMA
from rmm.formula.weights.weight_function import Column, value_columns
from rmm.model.spec import INTERCEPT, MemberPart, ModelSpec
from rmm.posterior.diagnostics.contraction import mostly_prior
from rmm.posterior.diagnostics.summary import Diagnostics, Weighing
from rmm.posterior.reporting.summary_tables import decimals_of

if TYPE_CHECKING:
    from rmm.backends.base import Settings
    from rmm.design.prepare import Model

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CONSTRAINTS = {
    "group": "normalised to sum to 1 within groups",
    "total": "normalised to sum to the number of groups",
    "none": "not normalised",
}
_SETS = {"weakly_informative": "weakly informative priors", "rmm": "the priors of R's rmm"}


@dataclass(frozen=True)
class Subject:
    """What a report needs to know of a fit; `table` is its summary."""

    model: Model
    backend: str
    settings: Settings
    table: pd.DataFrame
    diagnostics: Diagnostics
    weighing: Weighing | None
    own_program: bool


@dataclass(frozen=True)
class Report:
    """A paragraph, and where its numbers come from.

    Attributes
    ----------
    text : str
    numbers : pandas.DataFrame
        One row per number, in the order of the text: columns ``shown`` (as in the text), ``value``
        and ``source`` (the Python expression, with `fit` for the fit).
    """

    text: str
    numbers: pd.DataFrame

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


@dataclass
class Numbers:
    """Numbers as they are written, with their sources."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    def write(self, value: float, form: str, source: str) -> str:
        """The number as text; keeps its source."""
        shown = form.format(value)
        if shown.lstrip("-").strip("0.") == "":
            shown = shown.lstrip("-")
        self.rows.append((shown, float(value), source))
        return shown

    def count(self, value: int, source: str) -> str:
        """A number of things: words up to ten."""
        shown = _NUMBERS[value] if value < len(_NUMBERS) else f"{value:,}"
        self.rows.append((shown, float(value), source))
        return shown

    def several(self, value: int, noun: str, source: str) -> str:
        """``300 groups``; ``one group``."""
        return f"{self.count(value, source)} {noun}{'' if value == 1 else 's'}"


def write_report(subject: Subject) -> Report:
    """The report of a fit."""
    numbers = Numbers()
    sentences = [
        *_data(subject, numbers),
        *_weights(subject),
        *_method(subject, numbers),
        *_results(subject, numbers),
        *_doubts(subject),
    ]
    table = pd.DataFrame(numbers.rows, columns=["shown", "value", "source"])
    return Report(" ".join(sentences), table)


def _data(subject: Subject, numbers: Numbers) -> Iterator[str]:
    spec, design = subject.model.spec, subject.model.design
    outcome = spec.family.in_words[0]
    kind = "multiple-membership model" if spec.blocks else "model"
    groups = numbers.several(
        design.J, "group" if spec.blocks else "observation", "fit.model.design.J"
    )
    text = f"We fitted a Bayesian {kind} of {outcome} to {groups}"
    blocks = []
    for i, member in enumerate(design.members[: len(spec.blocks)]):
        source = f"fit.model.design.members[{i}]"
        sizes = np.diff(member.start)
        low, high = int(sizes.min()), int(sizes.max())
        count = numbers.count(member.n_present, f"{source}.n_present")
        least = numbers.count(low, f"np.diff({source}.start).min()")
        most = "" if low == high else numbers.count(high, f"np.diff({source}.start).max()")
        each = f"{least} to {most}" if most else least
        noun = "member" if high == 1 else "members"
        blocks.append(f"{count} different members ({each} {noun} per group)")
    if blocks:
        text += f", formed by {' and by '.join(blocks)}"
    units = [
        numbers.count(n.n_units, f"fit.model.design.nestings[{i}].n_units")
        + f" units (`{part.block.unit}`{'' if part.random else ', with fixed effects'})"
        for i, (part, n) in enumerate(zip(spec.nestings, design.nestings, strict=True))
    ]
    if units:
        text += f", nested in {' and '.join(units)}"
    yield f"{text}."
    if spec.family.sigma is not None:
        right = spec.family.sigma.text.partition("~")[2].strip()
        yield f"The log of the residual standard deviation of a group is linear: {right}."
    if spec.family.observation_weights:
        yield (
            f"The log likelihood of a group counts `{spec.family.observation_weights}` times "
            "(observation weights)."
        )
    if subject.model.transform is not None:
        yield f"Predictors were transformed (`{subject.model.transform}`)."
    if subject.model.dropped is not None:
        yield f"{subject.model.dropped}."
    if subject.model.imputed:
        yield (
            f"Missing values are parameters ({subject.model.imputed}), which are normal given the "
            "complete covariates of their level."
        )


def _weights(subject: Subject) -> Iterator[str]:
    for part in subject.model.spec.blocks:
        block = f" of block{part.suffix.replace('_', ' ', 1)}" if part.suffix else ""
        weight = part.weight
        yield (
            f"The weights{block} are w = {weight.text}, {_CONSTRAINTS[weight.constraint]}"
            f"{_of_weights(part)}."
        )
        if part.related:
            matrix = subject.model.covariances[part.block.covariance or ""]
            ones = bool(np.all(np.diag(matrix.values) == 1))
            kind = "correlations" if ones else "covariances"
            yield (
                f"The random effects of members{block} have known {kind}: their covariance matrix "
                f"is {part.sigma}^2 {part.block.covariance}."
            )
        if part.series:
            column = part.block.time_column
            time = f"`{column}`" if column else "the order of a member's groups"
            yield (
                f"The random effects of a member{block} are an AR(1) process in time ({time}): "
                f"effects d units of time apart have the correlation {part.rho}^d."
            )


def _of_weights(part: MemberPart) -> str:
    if not part.estimated:
        return " and known"
    names = [f"{part.b_w}[{name}]" for name in part.weight.parameters]
    return f", with {' and '.join(names)} estimated"


def _method(subject: Subject, numbers: Numbers) -> Iterator[str]:
    choice, settings = subject.model.choice, subject.settings
    priors = _SETS[choice.base]
    if choice.statements:
        priors += f" and {'; '.join(s.text for s in choice.statements)}"
    if subject.own_program:
        priors = "the priors of a program of our own"
    d, found = subject.diagnostics, subject.weighing
    if found is not None:
        k = numbers.write(found.pareto_k, "{:z.2f}", 'fit.diagnostics()["pareto_k"]')
        size = numbers.write(d.min_ess_bulk, "{:.0f}", 'fit.diagnostics()["min_ess_bulk"]')
        engine = (
            "a nested Laplace approximation with importance sampling (Pareto k = "
            f"{k}, {size} effective draws)"
        )
    else:
        name = {"stan": "Hamiltonian Monte Carlo (Stan", "jags": "Gibbs sampling (JAGS"}.get(
            subject.backend, f"the engine {subject.backend} ("
        )
        chains = numbers.several(settings.chains, "chain", "fit.settings.chains")
        draws = numbers.write(settings.draws, "{:,.0f}", "fit.settings.draws")
        rhat = numbers.write(d.max_rhat, "{:.3f}", 'fit.diagnostics()["max_rhat"]')
        ess = min(d.min_ess_bulk, d.min_ess_tail)
        smallest = "bulk" if ess == d.min_ess_bulk else "tail"
        size = numbers.write(ess, "{:,.0f}", f'fit.diagnostics()["min_ess_{smallest}"]')
        diverging = f", {counted(d.divergences, 'divergence')}" if subject.backend == "stan" else ""
        engine = (
            f"{name}; {chains} of {draws} draws, largest R-hat {rhat}, smallest effective sample "
            f"size {size}{diverging})"
        )
    yield f"We used rmm {__version__} with {priors}, and {engine}."
    if not d.converged:
        yield (
            "The fit has NOT converged by these checks, so the following numbers are not reliable "
            "and should not be reported."
        )


def _results(subject: Subject, numbers: Numbers) -> Iterator[str]:
    """One sentence per parameter of the summary; the first interval says what it is."""
    first = True
    for name in subject.table.index:
        row = subject.table.loc[name]
        form = f"{{:.{decimals_of(float(row['mcse_mean']))}f}}"
        source = f'fit.summary().loc["{name}"'
        mean, low, high = (
            numbers.write(float(row[column]), form, f'{source}, "{column}"]')
            for column in ("mean", "q2.5", "q97.5")
        )
        kind = "95% credible interval " if first else ""
        first = False
        yield _sentence(subject, str(name), mean, f"({kind}{low} to {high})")


def _sentence(subject: Subject, name: str, mean: str, interval: str) -> str:
    vector, _, element = name.partition("[")
    element = element[:-1]
    if element in _plain_columns(subject, vector):
        change = subject.model.spec.family.in_words[1]
        whom = " in all members of a group" if vector.startswith("b_l1") else ""
        return f"If {element} is one unit higher{whom}, {change} by {mean} {interval}."
    called = _of_smooth(subject.model.spec, vector, element) or _of_sigma(vector, element)
    called = called or _called(subject, name, vector, element)
    return f"{called} is {mean} {interval}."


def _plain_columns(subject: Subject, vector: str) -> list[str]:
    """Columns whose coefficient alone says what one unit more of them does."""
    spec = subject.model.spec
    if subject.model.transform is not None:
        return []
    terms = list(spec.terms) if vector == "b_l2" else []
    used = []
    for part in spec.members:
        if vector == part.b and part.weight.constraint == "group":  # weights sum to 1
            terms += part.block.terms
            features = [f.atom for f in part.block.features if f.atom is not None]
            used += [c for atom in features for c in value_columns(atom.expression)]
    for nest in spec.nestings:
        terms += nest.terms if vector == nest.b and nest.random else ()
    used += [c for term in terms for atom in term.atoms for c in value_columns(atom.expression)]
    return [
        term.label
        for term in terms
        if len(term.atoms) == 1
        and isinstance(term.atoms[0].expression, Column)
        and used.count(term.label) == 1
    ]


def _called(subject: Subject, name: str, vector: str, element: str) -> str:
    """The subject of a sentence about a parameter."""
    spec = subject.model.spec
    if vector == "b_l2" and element == INTERCEPT:
        return "The intercept"
    if vector.startswith("b_w"):
        return f"The weight coefficient {element}"
    of_members = _of_members(spec, vector, element)
    if of_members is not None:
        return of_members
    for roles in spec.roles:
        if vector == roles.cor:
            return f"The correlation of the members' effects in the roles {element}"
    for nest in spec.nestings:
        if vector == nest.sigma:
            return f"The standard deviation of the random effects of `{nest.block.unit}`"
    if vector == "tau":
        return f"The threshold {element}"
    for parameter in spec.family.parameters:
        if vector == parameter.name:
            return parameter.words[0].upper() + parameter.words[1:]
    return f"The coefficient {name}"


def _of_members(spec: ModelSpec, vector: str, element: str) -> str | None:
    """The subject of a sentence about effects of members; None for other parameters."""
    if vector.startswith("sigma_slope_l1"):
        return f"The standard deviation of the members' slopes of {element}"
    for part in spec.members:
        where = _in_block(part.suffix)
        if vector == part.cor:
            return f"The correlation of the members' effects {element}{where}"
        if vector == part.sigma:
            steps = "steps of the members' random walks"
            what = steps if part.walk else "random effects of members"
            return f"The standard deviation of the {what}{where}"
        if part.series and vector == part.rho:
            return f"The correlation of a member's effects one unit of time apart{where}"
    for one in spec.imputed:
        if vector == one.sigma:
            return f"The standard deviation of `{one.column}` given complete covariates"
    return None


def _of_smooth(spec: ModelSpec, vector: str, element: str) -> str | None:
    """The subject of a sentence about a smooth term `s(x)`; None for other parameters."""
    if element in (atom.label for atom in spec.formula.smooths):
        return f"The slope of the line that is closest to the smooth function {element}"
    for part in spec.members:
        if part.smooth is not None and vector == part.sigma:
            return f"The standard deviation of {part.smooth.label} about its line ({vector})"
    return None


def _of_sigma(vector: str, element: str) -> str | None:
    """The subject of a sentence about a coefficient of the residual sd; None for others."""
    if vector != B_SIGMA:
        return None
    what = "intercept" if element == INTERCEPT else f"coefficient of {element}"
    return f"The {what} in the log of the residual standard deviation"


def _in_block(suffix: str) -> str:
    return f" (block {suffix[1:]})" if suffix else ""


def _doubts(subject: Subject) -> Iterator[str]:
    if subject.own_program:
        return
    names = mostly_prior(subject.table)
    if names:
        verb = "is" if len(names) == 1 else "are"
        yield (
            f"{', '.join(names)} {verb} mostly decided by the prior (the posterior standard "
            "deviation is more than 0.8 times that of the prior)."
        )
