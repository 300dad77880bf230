"""Regressions without member effects, by statsmodels: what is done in practice.

`REGRESSIONS` has a row for each: ordinary least squares, and logistic regression. A new one is a
function and a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rmm.simulation import Drawn
from rmm.study.layouts import LAYOUTS, Flat, parameter_of
from rmm.study.results import OK
from rmm.study.tasks import INTERVALS, Outcome, Task, parsed
from rmm.terms import Formula

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Regression:
    """One row of `REGRESSIONS`.

    Attributes
    ----------
    fit : callable
        ``(outcome, matrix, offset, keywords of statsmodels' fit) -> results`` with `params`,
        `bse` and `df_resid`; outcome is (N,), or (N, 2) successes and failures.
    outcomes : tuple of str
        Kinds of outcomes that it takes (`rmm.terms.Outcome`).
    families : tuple of str
        Families of the truth that it can be fitted to; empty: all that have such an outcome.
    robust : mapping
        Keywords of statsmodels' `fit` for heteroskedasticity-robust errors.
    student : bool
        Tests and intervals by Student's t (with clusters: their smallest number less one degrees
        of freedom), or by the normal distribution.
    """

    fit: Callable[[Array, Array, Array, Mapping[str, Any]], Any]
    outcomes: tuple[str, ...]
    families: tuple[str, ...]
    robust: Mapping[str, Any]
    student: bool


def fit_regression(task: Task) -> Outcome:
    """Classical, robust or cluster-robust regression on one row per group or membership."""
    formula, config = parsed(task.formula), task.method.config
    regression = REGRESSIONS[task.method.backend]
    flat = LAYOUTS[task.method.kind.layout](task.drawn, formula, config["summary"])
    names, matrix = _regressors(formula, flat, task.drawn)
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise ValueError(f"the {len(names)} regressors {', '.join(names)} are collinear")
    offset = np.zeros(len(matrix))
    for fixed in formula.fixed:
        offset = offset + fixed.value * flat.term(fixed.term)
    outcome = np.squeeze(np.column_stack(list(flat.outcomes.values())))
    result = regression.fit(outcome, matrix, offset, _errors(regression, config, flat))
    df = _degrees(regression, config, flat, result)
    mean, sd = np.asarray(result.params), np.asarray(result.bse)
    if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
        raise ValueError("an estimate or standard error is not finite")
    return Outcome(OK, tuple(_rows(names, mean, sd, df, task.nulls)), fit=result)


def _least_squares(
    outcome: Array, matrix: Array, offset: Array, keywords: Mapping[str, Any]
) -> Any:
    from statsmodels.regression.linear_model import OLS

    return OLS(outcome - offset, matrix).fit(**keywords)


def _logistic(outcome: Array, matrix: Array, offset: Array, keywords: Mapping[str, Any]) -> Any:
    """Maximum likelihood; complete separation, where it has no maximum, is a failed fit."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", PerfectSeparationWarning)
        try:
            result = GLM(outcome, matrix, family=Binomial(), offset=offset).fit(**keywords)
        except PerfectSeparationWarning as found:
            raise ValueError("the predictors separate the outcome completely") from found
    if not result.converged:
        raise ValueError("iteratively reweighted least squares has not converged")
    return result


def _regressors(formula: Formula, flat: Flat, drawn: Drawn) -> tuple[list[str], Array]:
    names = [parameter_of(term, drawn.truth, drawn) for term in formula.terms]
    values = [flat.term(term) for term in formula.terms]
    if formula.intercept:
        names, values = ["b_l2[Intercept]", *names], [np.ones(len(flat.outcome)), *values]
    return names, np.column_stack(values)


def _errors(regression: Regression, config: Mapping[str, Any], flat: Flat) -> dict[str, Any]:
    if config["errors"] == "robust":
        return dict(regression.robust)
    if config["errors"] == "cluster":
        codes = np.column_stack([flat.units[u] for u in config["cluster"]])
        groups = codes[:, 0] if codes.shape[1] == 1 else codes
        use_t = {"use_t": True} if regression.student else {}
        return {"cov_type": "cluster", "cov_kwds": {"groups": groups}, **use_t}
    return {}


def _degrees(regression: Regression, config: Mapping[str, Any], flat: Flat, result: Any) -> float:
    """Degrees of freedom of the tests; infinity where the normal distribution is used."""
    if not regression.student:
        return float("inf")
    if config["errors"] != "cluster":
        return float(result.df_resid)
    return float(min(len(np.unique(flat.units[u])) for u in config["cluster"]) - 1)


def _rows(
    names: Sequence[str], mean: Array, sd: Array, df: float, nulls: Mapping[str, float]
) -> list[dict[str, Any]]:
    null = np.array([nulls.get(name, 0.0) for name in names])
    p = 2 * special.stdtr(df, -np.abs((mean - null) / sd))
    columns: dict[str, Any] = {"mean": mean, "median": mean, "sd": sd, "null": null, "p_value": p}
    for label, level in INTERVALS:
        half = float(special.stdtrit(df, (1 + level) / 2)) * sd
        columns[f"lower{label}"], columns[f"upper{label}"] = mean - half, mean + half
    lists = {k: v.tolist() for k, v in columns.items()}
    return [
        {"parameter": name, "df": df, **{k: v[i] for k, v in lists.items()}}
        for i, name in enumerate(names)
    ]


# statsmodels knows HC3 for least squares; for GLM it would silently give HC0.
REGRESSIONS: dict[str, Regression] = {
    "ols": Regression(
        _least_squares, ("plain",), (), robust={"cov_type": "HC3", "use_t": True}, student=True
    ),
    "glm": Regression(
        _logistic, ("plain", "cbind"), ("binomial",), robust={"cov_type": "HC0"}, student=False
    ),
}
