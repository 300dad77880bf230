"""One regression without member effects: data of a replication -> rows of estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from rmm.formula.terms import Formula
from rmm.study.files.parquet import OK
from rmm.study.methods.frequentist import maximum_likelihood
from rmm.study.methods.frequentist.shared_member_errors import SharedMembers
from rmm.study.methods.frequentist.wild_bootstrap import wild_bootstrap
from rmm.study.methods.layouts import LAYOUTS, Flat
from rmm.study.methods.regressions import (
    CLUSTERED,
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
    rows = estimate_rows(names, found.mean, found.sd, df, task.nulls, len(regression.positive))
    if config["errors"] == "bootstrap":
        rows = _bootstrapped(rows, problem, task)
    return Outcome(OK, tuple(rows), fit=found.result)


def _problem(regression: Regression, task: Task, formula: Formula, flat: Flat) -> Problem:
    config = task.method.config
    names, matrix = _regressors(regression, formula, flat, task.drawn)
    maximum_likelihood.check_rank(matrix, names, "collinear")
    offset = np.zeros(len(matrix))
    for fixed in formula.fixed:
        offset = offset + fixed.value * flat.term(fixed.term)
    clusters, shared = None, None
    if config["errors"] in CLUSTERED:
        clusters = np.column_stack([flat.units[u] for u in config["cluster"]])
    if config["errors"] == "shared_members":
        m = task.drawn.memberships
        rows = flat.units.get("group", np.arange(len(matrix)))
        shared = SharedMembers(rows, m.group, m.member)
    return Problem(
        np.squeeze(np.column_stack(list(flat.outcomes.values()))),
        matrix,
        names,
        offset,
        flat.strata,
        config["errors"],
        clusters,
        shared,
        config["correlation"],
        task.drawn.truth.spec.family.name,
    )


def _bootstrapped(rows: list[dict[str, Any]], problem: Problem, task: Task) -> list[dict[str, Any]]:
    """The rows with tests and intervals of the wild cluster bootstrap."""
    assert problem.clusters is not None, "checked with the study file"
    found = wild_bootstrap(
        problem.outcome - problem.offset,
        problem.matrix,
        np.unique(problem.clusters[:, 0], return_inverse=True)[1],
        np.array([row["null"] for row in rows]),
        [level for _, level in INTERVALS],
        task.method.config["bootstrap_draws"],
        np.random.default_rng(task.seed),
    )
    for row, one in zip(rows, found, strict=True):
        row["p_value"] = one.p_value
        for (label, _), (low, high) in zip(INTERVALS, one.bounds, strict=True):
            row[f"lower{label}"], row[f"upper{label}"] = low, high
    return rows


def _not_finite(problem: Problem) -> str:
    """Why an estimate has no error: two-way clustered variances can be negative."""
    if problem.clusters is not None and problem.clusters.shape[1] == 2:
        return (
            "a two-way clustered variance is negative or not finite, which happens with few "
            "clusters (Cameron, Gelbach & Miller 2011)"
        )
    if problem.shared is not None:
        return (
            "a variance robust to shared members is negative or not finite, which happens with "
            "few members"
        )
    return "an estimate or standard error is not finite"


def _degrees(regression: Regression, problem: Problem, found: Estimates) -> float:
    """Degrees of freedom of the tests; infinity where the normal distribution is used."""
    if not regression.student:
        return float("inf")
    if problem.shared is not None:
        return float(problem.shared.members - 1)
    if problem.clusters is None:
        return found.df
    return float(min(len(np.unique(codes)) for codes in problem.clusters.T) - 1)


def estimate_rows(
    names: Sequence[str],
    mean: Array,
    sd: Array,
    df: float | Array,
    nulls: Mapping[str, float],
    positive: int = 0,
) -> list[dict[str, Any]]:
    """Rows of estimates with tests and intervals by Student's t, or the normal distribution.

    Parameters
    ----------
    names : sequence of str
        Of the k parameters.
    mean, sd : (k,) arrays
    df : float or (k,) array
        Degrees of freedom; infinity: the normal distribution.
    nulls : mapping
        Parameter -> the value that is tested; 0 for others.
    positive : int
        How many of the last parameters are logarithms of what is reported.
    """
    mean, sd = mean.copy(), sd.copy()
    df = np.broadcast_to(np.asarray(df, dtype=float), mean.shape)
    null = np.array([nulls.get(name, 0.0) for name in names])
    p = 2 * special.stdtr(df, -np.abs((mean - null) / sd))
    columns: dict[str, Any] = {"mean": mean, "median": mean, "sd": sd, "null": null, "p_value": p}
    for label, level in INTERVALS:
        half = special.stdtrit(df, (1 + level) / 2) * sd
        columns[f"lower{label}"], columns[f"upper{label}"] = mean - half, mean + half
    for at in range(len(names) - positive, len(names)):
        _exponentiate(columns, at, float(df[at]))
    lists = {k: v.tolist() for k, v in {**columns, "df": df}.items()}
    return [
        {"parameter": name, **{k: v[i] for k, v in lists.items()}} for i, name in enumerate(names)
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
