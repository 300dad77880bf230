"""Weight functions compared: is it the mean, the sum, the share, the strongest member?

The same model is fitted with each candidate's weights. Parameters of two weight functions cannot be
compared; the evidence, predictions of left-out groups and what the models say of the outcome can.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.arguments import readable
from rmm.design.prepare import Model, prepare
from rmm.errors import DataError, SpecificationWarning
from rmm.families import is_family
from rmm.fitting.pipeline import fit
from rmm.formula.prior_syntax import Prior, PriorChoice, PriorStatement, read_priors
from rmm.formula.replaced_weights import with_weights
from rmm.posterior.comparison.averaging import AverageFit, average
from rmm.posterior.comparison.bayes_factors import compared_priors, evidence_table
from rmm.posterior.comparison.compare import compare
from rmm.posterior.comparison.outcome_scale import (
    contributions,
    typical_weights,
    weights_where,
)
from rmm.posterior.evidence.evidence import GOOD, evidence_of
from rmm.posterior.fit import Fit
from rmm.posterior.prediction.linear_predictor import (
    flat_draws,
    group_totals,
    layout_of,
    weight_totals,
    weights_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAME = 1e-9  # difference of weights by rounding
_LAPLACE_DRAWS = 250  # of each chain
_DRAWS, _NUMBERS = 400, 20_000_000  # of weights that are looked at, at most


@dataclass(frozen=True)
class WeightComparison:
    """Candidates for the weights of one `mm()` block.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per candidate, the best evidence first. ``log_evidence`` and ``mcse``,
        ``bayes_factor`` against the best, ``probability`` of the model if all are equally likely
        beforehand; ``elpd`` (leave-one-out) and its ``se``, ``stacking`` weight; then what the
        model says on scales that all share: ``largest_weight`` and ``effective_members`` of a group
        on average, and ``effect[x]``, the change of the linear predictor by one standard deviation
        of the weighted sum of x over groups.
    fits : mapping of str to Fit
    priors : pandas.DataFrame
        Index (parameter, candidate): ``prior``, and its width ``on_outcome``, the scale of the
        group's outcome.
    notes : tuple of str
        Candidates that are the same model, or one another's special case, and priors that differ.
    """

    table: pd.DataFrame
    fits: Mapping[str, Fit]
    priors: pd.DataFrame
    notes: tuple[str, ...]

    def average(self, by: str = "stacking") -> AverageFit:
        """The candidates averaged; see `rmm.average`."""
        column = {"stacking": "stacking", "evidence": "probability"}.get(by)
        if column is None:
            return average(self.fits, by)  # which says what is allowed
        return AverageFit(self.fits, self.table[column].reindex(list(self.fits)), by)

    def plot(self) -> Figure:
        """Evidence, stacking weights and the effect of members under each candidate.

        Returns
        -------
        matplotlib.figure.Figure
        """
        # Late: figures need matplotlib, the numbers do not.
        from rmm.posterior.comparison.weights_figure import draw

        return draw(self.table)

    def __str__(self) -> str:
        parts = [self.table.map(_shown).to_string(), "Priors:"]
        parts += [self.priors.to_string(float_format="{:.3g}".format), *self.notes]
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.table.map(_shown).to_html(border=0)
        priors = self.priors.to_html(float_format="{:.3g}".format, border=0)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"{table}<p>Priors:</p>{priors}{notes}"


@readable(DataError, is_family=is_family)
def compare_weights(
    formula: str,
    data: Any,
    candidates: Sequence[str] | Mapping[str, str],
    family: Any = "gaussian",
    *,
    block: int = 1,
    priors: Any = "weakly_informative",
    backend: str = "laplace",
    **options: Any,
) -> WeightComparison:
    """Fit a model with several weight functions, and compare them.

    All candidates have the same priors on the scale of the group's outcome. Unless you state a
    prior of `b_l1`, that of each coefficient is such that one standard deviation of the weighted
    sum of its covariate, at the prior's centre of the weights, contributes as much under every
    candidate.

    Parameters
    ----------
    formula : str
        With an `mm()` block, whose weights are replaced.
    data : frame, table, mapping or path
        As for `rmm.fit`.
    candidates : sequence of str, or mapping of str to str
        What may stand in `fn()`, such as ``["1/n", "share", "x == max(x)", "share^b1"]``, with a
        constraint ``"1, c = FALSE"`` (the sum); names for them as a mapping. Without a constraint,
        that of the formula's block stays.
    family : str or Family
    block : int
        Number of the `mm()` block, from 1.
    priors : str, mapping or list
        As for `rmm.fit`; the same for all.
    backend : str
        Default ``"laplace"``, which is fast; evidence is also computed for Stan's and JAGS's fits.
    **options
        Further arguments of `rmm.fit`, such as ``seed``.

    Returns
    -------
    WeightComparison

    Raises
    ------
    RmmError
        As `rmm.fit`; or if an evidence cannot be trusted.

    Warns
    -----
    SpecificationWarning
        If candidates have different priors on the scale of the outcome.
    """
    if backend == "laplace":  # more draws are only copies of its few hundred effective ones
        options.setdefault("draws", _LAPLACE_DRAWS)
    named = _named(candidates)
    texts = {name: with_weights(formula, text, block) for name, text in named.items()}
    fits: dict[str, Fit] = {}
    for name, text in texts.items():
        fits[name] = _fitted(text, data, family, priors, backend, options, block)
    found = {name: evidence_of(one, one.settings.seed, GOOD) for name, one in fits.items()}
    shares = dict.fromkeys(fits, 1 / len(fits))
    table = evidence_table(found, shares).drop(columns=["log_bayes_factor", "prior"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecificationWarning)
        left_out = compare(fits)
    table["elpd"], table["elpd_se"] = left_out["elpd"], left_out["se"]
    table["stacking"] = left_out["weight"]
    shared = {name: _shared_quantities(one, block - 1) for name, one in fits.items()}
    table = table.join(pd.DataFrame.from_dict(shared, orient="index"))
    models = {name: one.model for name, one in fits.items()}
    shown, notes = compared_priors(models)
    for note in notes:
        if "differ" in note:
            warnings.warn(note, SpecificationWarning, stacklevel=3)
    return WeightComparison(table, fits, shown, (*_relations(models, block - 1), *notes))


def _named(candidates: Any) -> dict[str, str]:
    """Candidates by name: their own text, or the user's names."""
    if isinstance(candidates, str) or not isinstance(candidates, Mapping | Sequence):
        raise DataError(
            '`candidates` must be a list of weights, such as ["1/n", "share"], or a mapping of '
            f"names to weights, not {type(candidates).__name__}."
        )
    pairs = candidates.items() if isinstance(candidates, Mapping) else ((c, c) for c in candidates)
    found = {}
    for name, text in pairs:
        if not isinstance(text, str) or not isinstance(name, str):
            raise DataError(f"A candidate must be text, not {text!r}.")
        if name in found:
            raise DataError(f"The candidate {name!r} is given twice.")
        found[name] = text
    if len(found) < 2:
        raise DataError(f"A comparison needs two candidates or more, not {len(found)}.")
    return found


def _fitted(
    formula: str,
    data: Any,
    family: Any,
    priors: Any,
    backend: str,
    options: Mapping[str, Any],
    block: int,
) -> Fit:
    """The fit of a candidate, whose coefficients have the common priors on the outcome's scale."""
    return fit(
        formula,
        data,
        family,
        priors=_common_priors(formula, data, family, priors, options, block),
        backend=backend,
        **options,
    )


def _common_priors(
    formula: str, data: Any, family: Any, priors: Any, options: Mapping[str, Any], block: int
) -> PriorChoice:
    """The priors, with those of `b_l1` on the outcome's scale unless the user has stated them."""
    choice = read_priors(priors)
    given = {
        name: options[name] for name in ("transform", "missing", "na", "cov") if name in options
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecificationWarning)  # the fit itself warns
        model = prepare(formula, data, family, priors=choice, **given)
    part, member = model.spec.members[block - 1], model.design.members[block - 1]
    stated = any(statement.target == part.b for statement in choice.statements)
    if stated or choice.base != "weakly_informative" or not part.covariates:
        return choice
    labels = [str(label) for label in model.design.coords[f"covariate_l1{part.suffix}"]]
    own = []
    for label, prior, sd, contributed in zip(
        labels,
        model.priors.elements[part.b],
        member.b_scale,
        contributions(model, block - 1, part),
        strict=False,  # features have no weights
    ):
        if contributed > 0:
            prior = Prior("normal", (0.0, prior.values[1] * float(sd) / float(contributed)))
            own.append(PriorStatement(part.b, label, prior, f"{part.b}[{label}] ~ {prior}"))
    return replace(choice, statements=(*choice.statements, *own))


def _shared_quantities(one: Fit, index: int) -> dict[str, float]:
    """What a fit says of the weights of a block and of the effects of its covariates."""
    model = one.model
    part, member = model.spec.members[index], model.design.members[index]
    draws = flat_draws(one.run, model)
    count = len(next(iter(draws.values())))
    kept = max(1, min(_DRAWS, _NUMBERS // max(len(member.member), 1)))
    rows = np.linspace(0, count - 1, min(kept, count)).astype(int)
    some = {name: values[rows] for name, values in draws.items()}
    weights = weights_of(layout_of(model), index, part, some, weight_totals(model, some))
    start, filled = member.start, np.diff(member.start) > 0
    sums = group_totals(weights, start)[:, filled]
    squares = group_totals(weights**2, start)[:, filled]
    largest = np.maximum.reduceat(weights, start[:-1][filled], axis=1)
    out = {
        "largest_weight": float(np.mean(largest / sums)),
        "effective_members": float(np.mean(sums**2 / squares)),
    }
    labels = model.design.coords[f"covariate_l1{part.suffix}"] if part.columns else ()
    for k, (label, x) in enumerate(zip(labels, member.X.T, strict=False)):
        known = member.weight is not None  # X has sums over members then, one row per group
        total = x[None] if known else group_totals(weights * x, start)
        effect = some[part.b][:, k] * total.std(axis=1, ddof=1)
        out[f"effect[{label}]"] = float(effect.mean())
        out[f"effect[{label}]_sd"] = float(effect.std(ddof=1))
    return out


def _relations(models: Mapping[str, Model], index: int) -> list[str]:
    """Candidates that are the same model, or one another where coefficients are 0."""
    first = next(iter(models.values())).design.members[index]
    if np.diff(first.start).max(initial=0) <= 1:
        return ["All groups have one member, whose weight is 1 wherever weights sum to 1."]
    weights = {name: _at_zero(model, index) for name, model in models.items()}
    notes = []
    for (one, a), (two, b) in itertools.combinations(weights.items(), 2):
        free = [n for n in (one, two) if models[n].spec.members[index].estimated]
        times = float(a @ b / (b @ b)) if a.shape == b.shape and (b @ b) > 0 else np.nan
        if not np.allclose(a, times * b, rtol=_SAME, atol=_SAME):
            continue
        if not free:
            same = "the same weights" if np.isclose(times, 1) else f"{times:g} times the weights"
            notes.append(f"`{one}` has {same} of `{two}` here: they are one model.")
        elif not np.isclose(times, 1):
            continue
        elif len(free) == 1:
            fixed = two if free[0] == one else one
            notes.append(f"`{free[0]}` is `{fixed}` where its coefficients are 0.")
        else:
            notes.append(f"`{one}` and `{two}` have the same weights where coefficients are 0.")
    return notes


def _at_zero(model: Model, index: int) -> np.ndarray[Any, Any]:
    """(M,) weights: known, or where the coefficients are 0."""
    part = model.spec.members[index]
    if not part.estimated:
        return typical_weights(model, index, part)
    return weights_where(model, index, part, 0.0)


def _shown(value: float) -> str:
    """Three digits; of an evidence two decimals, as differences of 0.1 matter."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
