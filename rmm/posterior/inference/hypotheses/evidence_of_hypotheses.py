"""Hypotheses about parameters of a fit: probabilities, evidence ratios, and Bayes factors.

A point is compared with the prior by the Savage-Dickey density ratio: posterior over prior density
at the point is the Bayes factor of the model with the parameter held there against the fitted one,
if the other parameters have the same prior in both. Dickey (1971), Annals of Mathematical
Statistics 42, 204-223; Wagenmakers and others (2010), Cognitive Psychology 60, 158-189.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import numpy as np
import pandas as pd

from rmm.arguments import shortened
from rmm.backends.base import Settings
from rmm.backends.convergence import convergence
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import size_changes
from rmm.errors import FormulaError
from rmm.posterior.draw_estimates import Estimates
from rmm.posterior.inference.hypotheses.point_density import density_at
from rmm.posterior.inference.hypotheses.prior_of_combination import (
    CombinationPrior,
    combination_prior,
)
from rmm.posterior.inference.hypotheses.statement import Statement, parse_statement
from rmm.tables.read import Array

COLUMNS = (
    "estimate",
    "low",
    "high",
    "probability",
    "prior_probability",
    "evidence_ratio",
    "bayes_factor",
    "log_bf",
    "log_bf_error",
    "hdi_share",
)
_WRITTEN_OUT = 1e4  # Bayes factors between its inverse and it


class Fitted(Protocol):
    """What is needed of a fit."""

    model: Model
    settings: Settings
    own_program: bool

    @property
    def _estimates(self) -> Estimates: ...


@dataclass(frozen=True)
class Hypotheses:
    """Hypotheses and what the fit says of them; printed, it is a table with remarks.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per hypothesis, with its text as index:

        * ``estimate``, ``low``, ``high``: posterior mean and interval of what is compared (the
          parameters, without the numbers);
        * ``probability``, ``prior_probability``: that the hypothesis is true; missing for points;
        * ``evidence_ratio``: probability / (1 - probability), against the complement;
        * ``bayes_factor``: evidence ratio over that of the prior; of a point the posterior over the
          prior density there. Above 1 the data speak for the hypothesis;
        * ``log_bf``, ``log_bf_error``: its natural logarithm, and the Monte Carlo error of that;
        * ``hdi_share``: of intervals, the share of the highest density interval that is inside.
    remarks : tuple of str
        What to know of single rows.
    prob : float
        Probability of the intervals.
    """

    table: pd.DataFrame
    remarks: tuple[str, ...]
    prob: float

    def __str__(self) -> str:
        lines = [self._shown().to_string()]
        return "\n".join([*lines, *([""] if self.remarks else []), *self.remarks])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self._shown().rename_axis(None).to_html(border=0)
        return table + "".join(f"<p>{escape(line)}</p>" for line in self.remarks)

    def _shown(self) -> pd.DataFrame:
        """Without columns that are missing throughout; Bayes factors with three digits."""
        kept = self.table.dropna(axis="columns", how="all")
        shown = pd.DataFrame(index=kept.index)
        for name in kept:
            digits = name in ("evidence_ratio", "bayes_factor")
            shown[name] = [_text(v, digits) for v in kept[name]]
        return shown


def _text(value: float, digits: bool) -> str:
    if np.isnan(value):
        return ""
    if not digits or 1 / _WRITTEN_OUT <= value < _WRITTEN_OUT:
        return f"{value:.3g}" if digits else f"{value:.3f}"
    return f"{value:.2g}"


def hypotheses_of(fit: Fitted, texts: tuple[Any, ...], prob: float) -> Hypotheses:
    """The table of some hypotheses.

    Parameters
    ----------
    fit : Fit
    texts : tuple
        Texts, or lists of them.
    prob : float
        Of intervals.

    Raises
    ------
    FormulaError
        For a text that is no hypothesis; with a caret under the place.
    """
    if isinstance(prob, bool) or not isinstance(prob, int | float) or not 0 < prob < 1:
        raise FormulaError(f"`prob` must be a number between 0 and 1, not {shortened(prob)}.")
    labels = fit._estimates.elements.labels
    statements = [parse_statement(text, labels) for text in _flat(texts)]
    if not statements:
        raise FormulaError('Give at least one hypothesis, such as fit.hypothesis("b_w[b1] > 0").')
    rows, remarks = [], []
    for statement in statements:
        row, said = _row(fit, statement, prob)
        rows.append(row)
        remarks += [f"{statement.text}: {line}" for line in said]
    index = pd.Index([s.text for s in statements], name="hypothesis")
    table = pd.DataFrame(rows, index=index, columns=list(COLUMNS))
    return Hypotheses(table, tuple(remarks), float(prob))


def _flat(texts: tuple[Any, ...]) -> list[Any]:
    out: list[Any] = []
    for one in texts:
        many = isinstance(one, Iterable) and not isinstance(one, str | bytes | Mapping)
        out += list(one) if many else [one]
    return out


def _row(fit: Fitted, statement: Statement, prob: float) -> tuple[dict[str, float], list[str]]:
    # Late: a fit by itself does not need it.
    from arviz_stats.base import array_stats

    estimates = fit._estimates
    places = {label: i for i, label in enumerate(estimates.elements.labels)}
    values = sum(
        factor * estimates.elements.values[:, :, places[name]]
        for name, factor in statement.factors.items()
    )
    draws = np.asarray(values)
    change = _common_change(fit.model, estimates, statement)
    low, high = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2])
    row = dict.fromkeys(COLUMNS, np.nan)
    row |= {"estimate": float(draws.mean()), "low": float(low), "high": float(high)}
    if statement.kind == "interval":
        ends = array_stats.hdi(draws.ravel(), prob)
        inside = min(float(ends[1]), statement.high) - max(float(ends[0]), statement.low)
        row["hdi_share"] = max(0.0, inside) / float(ends[1] - ends[0])
    prior, joint = None, _of_joint_prior(fit.model, statement)
    if not fit.own_program and not joint:
        prior = combination_prior(
            fit.model, statement.factors, fit.settings.seed, stated=change is not None
        )
    if statement.kind == "point":
        compared = draws if change is None else draws / change
        said = _point(row, compared, statement, prior, _size(estimates, compared))
    else:
        said = _probability(row, draws, statement, prior, estimates)
    if prior is None and joint:
        said.append(joint)
    elif prior is None:
        said.append("the priors of your own program are not known, so there is no Bayes factor.")
    return row, said


def _of_joint_prior(model: Model, statement: Statement) -> str | None:
    """Why there is no Bayes factor of elements that have a prior together, if there are any."""
    if any(name.startswith("tau[") for name in statement.factors):
        return "thresholds have one prior, of sorted draws, so there is no Bayes factor."
    vectors = {name.partition("[")[0] for name in statement.factors}
    known = model.priors.elements
    several = {c.cor for c in model.spec.correlated if len(known.get(c.pcor, ())) > 1}
    if vectors & several:
        return "correlations have one prior, that of their matrix, so there is no Bayes factor."
    return None


def _common_change(model: Model, estimates: Estimates, statement: Statement) -> Array | None:
    """(chain, draw) factor by which all parameters of a combination differ from those of a prior.

    That coefficients of `w ~ 1/n^b` (c = FALSE) are 0 means the same at any group size. The prior
    of b is independent of coefficients at the typical size, so that there the density ratio is the
    Bayes factor of the nested model.
    """
    if statement.kind != "point" or statement.low != 0:
        return None
    changes = size_changes(model.spec, model.design.members, estimates.elements.parameters)
    found = [changes.get(name.partition("[")[0]) for name in statement.factors]
    return found[0] if all(one is found[0] for one in found) else None


def _size(estimates: Estimates, draws: Array) -> float:
    """Effective draws of a combination."""
    if estimates.weighing is not None:
        return float(min(estimates.weighing.ess, draws.size))
    found = convergence(draws[:, :, None])
    return float(np.nan_to_num(np.minimum(found["ess_bulk"], found["ess_tail"])[0]))


def _probability(
    row: dict[str, float],
    draws: Array,
    statement: Statement,
    prior: CombinationPrior | None,
    estimates: Estimates,
) -> list[str]:
    """Of a direction or an interval; remarks."""
    true = ((draws > statement.low) & (draws < statement.high)).astype(float)
    p = float(true.mean())
    odds = np.inf if p == 1 else p / (1 - p)
    row |= {"probability": p, "evidence_ratio": odds}
    said = []
    if p in (0.0, 1.0):
        said.append(
            f"{'all' if p else 'none'} of the draws; the evidence ratio is beyond what they can "
            "show."
        )
    if prior is None:
        return said
    before = prior.probability(statement.low, statement.high)
    row["prior_probability"] = before
    if not 0 < before < 1:
        said.append("the prior excludes the hypothesis or its complement.")
        return said
    ratio = odds / (before / (1 - before))
    with np.errstate(divide="ignore"):
        row |= {"bayes_factor": ratio, "log_bf": float(np.log(ratio))}
    if 0 < p < 1:
        error = _error(estimates, true)
        row["log_bf_error"] = error / (p * (1 - p))
    return said


def _error(estimates: Estimates, true: Array) -> float:
    """Monte Carlo error of a share."""
    if estimates.weighing is not None:
        return float(np.std(true) / np.sqrt(min(estimates.weighing.ess, true.size)))
    return float(convergence(true[:, :, None])["mcse_mean"][0])


def _point(
    row: dict[str, float],
    draws: Array,
    statement: Statement,
    prior: CombinationPrior | None,
    size: float,
) -> list[str]:
    """The Savage-Dickey density ratio; remarks."""
    if prior is None:
        return []
    before = prior.density(statement.low)
    if not before > 0:
        return ["the prior excludes this point."]
    found = density_at(draws.ravel(), statement.low, size, prior.support)
    log = found.log - float(np.log(before))
    row |= {"bayes_factor": float(np.exp(log)), "log_bf": log, "log_bf_error": found.error}
    if not found.beyond:
        return []
    return [
        "the point lies beyond all draws, so that its posterior density is extrapolated with "
        "normal tails. Report the Bayes factor as an order of magnitude at most."
    ]
