"""One regression without member effects: data of a replication -> rows of estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from rmm.formula.terms import Formula
from rmm.study.files.parquet import OK
from rmm.study.methods import maximum_likelihood
from rmm.study.methods.layouts import LAYOUTS, Flat
from rmm.study.methods.regressions import (
    Array,
    Estimates,
    Problem,
    Regression,
    _regressors,
    regression_of,
)
from rmm.study.methods.task import INTERVALS, Outcome, Task, parsed


def fit_regression(task: Task) -> Outcome:
    """Classical, robust or cluster-robust regression on one row per group or membership."""
    formula, config = parsed(task.formula), task.method.config
    regression = regression_of(task.method.backend, task.drawn.truth.spec.family.name)
    flat = LAYOUTS[task.method.kind.layout](task.drawn, formula, config["summary"])
    problem = _problem(regression, task, formula, flat)
    found = regression.fit(problem)
    if not (np.isfinite(found.mean).all() and np.isfinite(found.sd).all()):
        raise ValueError(_not_finite(problem))
    df = _degrees(regression, problem, found)
    names = [*problem.names, *regression.positive]
    rows = _rows(names, found, df, len(regression.positive), task.nulls)
    return Outcome(OK, tuple(rows), fit=found.result)


def _problem(regression: Regression, task: Task, formula: Formula, flat: Flat) -> Problem:
    config = task.method.config
    names, matrix = _regressors(regression, formula, flat, task.drawn)
    maximum_likelihood.check_rank(matrix, names, "collinear")
    offset = np.zeros(len(matrix))
    for fixed in formula.fixed:
        offset = offset + fixed.value * flat.term(fixed.term)
    clusters = None
    if config["errors"] == "cluster":
        clusters = np.column_stack([flat.units[u] for u in config["cluster"]])
    outcome = np.squeeze(np.column_stack(list(flat.outcomes.values())))
    return Problem(outcome, matrix, names, offset, flat.strata, config["errors"], clusters)


def _not_finite(problem: Problem) -> str:
    """Why an estimate has no error: two-way clustered variances can be negative."""
    if problem.clusters is not None and problem.clusters.shape[1] == 2:
        return (
            "a two-way clustered variance is negative or not finite, which happens with few "
            "clusters (Cameron, Gelbach & Miller 2011)"
        )
    return "an estimate or standard error is not finite"


def _degrees(regression: Regression, problem: Problem, found: Estimates) -> float:
    """Degrees of freedom of the tests; infinity where the normal distribution is used."""
    if not regression.student:
        return float("inf")
    if problem.clusters is None:
        return found.df
    return float(min(len(np.unique(codes)) for codes in problem.clusters.T) - 1)


def _rows(
    names: Sequence[str],
    found: Estimates,
    df: float,
    positive: int,
    nulls: Mapping[str, float],
) -> list[dict[str, Any]]:
    mean, sd = found.mean.copy(), found.sd.copy()
    null = np.array([nulls.get(name, 0.0) for name in names])
    p = 2 * special.stdtr(df, -np.abs((mean - null) / sd))
    columns: dict[str, Any] = {"mean": mean, "median": mean, "sd": sd, "null": null, "p_value": p}
    for label, level in INTERVALS:
        half = float(special.stdtrit(df, (1 + level) / 2)) * sd
        columns[f"lower{label}"], columns[f"upper{label}"] = mean - half, mean + half
    for at in range(len(names) - positive, len(names)):
        _exponentiate(columns, at, df)
    lists = {k: v.tolist() for k, v in columns.items()}
    return [
        {"parameter": name, "df": df, **{k: v[i] for k, v in lists.items()}}
        for i, name in enumerate(names)
    ]


def _exponentiate(columns: dict[str, Array], at: int, df: float) -> None:
    """A parameter from the log scale: interval and test as there, standard error by delta."""
    log, error, null = (float(columns[k][at]) for k in ("mean", "sd", "null"))
    columns["mean"][at] = np.exp(log)  # the median is the same array
    columns["sd"][at] = np.exp(log) * error
    for label, _ in INTERVALS:
        for bound in (f"lower{label}", f"upper{label}"):
            columns[bound][at] = np.exp(columns[bound][at])
    distance = np.inf if null <= 0 else abs(log - np.log(null)) / error
    columns["p_value"][at] = 2 * special.stdtr(df, -distance)
