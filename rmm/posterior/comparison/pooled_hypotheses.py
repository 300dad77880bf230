"""Hypotheses about the mixture of fits of multiply imputed tables.

Probabilities and densities of the mixture are means over the fits, since each has the same share;
their Monte Carlo errors are those of a mean over tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmm.posterior.fit import Fit
from rmm.posterior.inference.hypotheses.evidence_of_hypotheses import Hypotheses
from rmm.posterior.inference.hypotheses.statement import Statement, parse_statement
from rmm.tables.read import Array

_SAME = 1e-3  # difference of prior probabilities, which may be estimated by draws
_NO_PRIOR = (
    "the fits have different priors, because default priors are scaled by each table. For a Bayes "
    "factor state the priors as numbers, the same in all fits."
)


def pooled_hypotheses(fits: Sequence[Fit], texts: tuple[Any, ...], prob: float) -> Hypotheses:
    """The table of some hypotheses; see `rmm.Fit.hypothesis`.

    Parameters
    ----------
    fits : sequence of Fit
        Of one model, with equal numbers of draws.
    texts : tuple
        Texts, or lists of them.
    prob : float
        Of intervals.
    """
    each = [fit.hypothesis(*texts, prob=prob) for fit in fits]
    labels = fits[0]._estimates.elements.labels
    same_priors = all(_same_priors(fits[0], fit) for fit in fits[1:])
    rows, remarks = [], list[str]()
    for place, text in enumerate(each[0].table.index):
        own = pd.DataFrame([found.table.iloc[place] for found in each])
        statement = parse_statement(str(text), labels)
        row, remark = _row(own, statement, _combined(fits, statement), prob, same_priors)
        rows.append(row)
        remarks += [f"{text}: {remark}"] * bool(remark)
    shared = [line for line in each[0].remarks if all(line in one.remarks for one in each)]
    table = pd.DataFrame(rows, index=each[0].table.index, columns=each[0].table.columns)
    return Hypotheses(table, (*shared, *remarks), float(prob))


def _combined(fits: Sequence[Fit], statement: Statement) -> Array:
    """Mixed draws of the linear combination."""
    parts = []
    for fit in fits:
        elements = fit._estimates.elements
        places = {label: i for i, label in enumerate(elements.labels)}
        values = sum(f * elements.values[:, :, places[n]] for n, f in statement.factors.items())
        parts.append(np.asarray(values).ravel())
    return np.concatenate(parts)


def _row(
    own: pd.DataFrame, statement: Statement, draws: Array, prob: float, same_priors: bool
) -> tuple[dict[str, float], str]:
    """Columns of one hypothesis from those of the fits, and a remark or nothing."""
    # Late: a fit by itself does not need it.
    from arviz_stats.base import array_stats

    low, high = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2])
    row = {"estimate": float(draws.mean()), "low": float(low), "high": float(high)}
    if statement.kind == "interval":
        ends = array_stats.hdi(draws, prob)
        inside = min(float(ends[1]), statement.high) - max(float(ends[0]), statement.low)
        row["hdi_share"] = max(0.0, inside) / float(ends[1] - ends[0])
    if statement.kind == "point":
        known = own["bayes_factor"].notna().all()
        if not (known and same_priors):
            return row, _NO_PRIOR if known else ""
        mean, error = _mean(own["bayes_factor"], own["bayes_factor"] * own["log_bf_error"])
        return row | _factor(mean, error / mean), ""
    p, error = _mean(own["probability"])
    row |= {"probability": p, "evidence_ratio": np.inf if p == 1 else p / (1 - p)}
    before = own["prior_probability"]
    if before.isna().any():
        return row, ""
    if before.max() - before.min() > _SAME and not same_priors:
        return row, _NO_PRIOR
    prior = float(before.mean())
    row["prior_probability"] = prior
    if not 0 < prior < 1:
        return row, ""
    ratio = row["evidence_ratio"] / (prior / (1 - prior))
    return row | _factor(ratio, error / (p * (1 - p)) if 0 < p < 1 else np.nan), ""


def _mean(values: pd.Series, errors: pd.Series | None = None) -> tuple[float, float]:
    """Mean over tables and its error: they vary by table and, in them, by draws."""
    between = float(values.var(ddof=1)) / len(values)
    own = 0.0 if errors is None else float((errors**2).sum()) / len(values) ** 2
    return float(values.mean()), float(np.sqrt(max(between, own)))


def _factor(value: float, error: float) -> dict[str, float]:
    with np.errstate(divide="ignore"):
        log = float(np.log(value))
    return {"bayes_factor": value, "log_bf": log, "log_bf_error": error}


def _same_priors(one: Fit, other: Fit) -> bool:
    first, second = one.model.priors.data, other.model.priors.data
    return set(first) == set(second) and all(
        np.allclose(first[name], second[name], rtol=1e-9, atol=0) for name in first
    )
