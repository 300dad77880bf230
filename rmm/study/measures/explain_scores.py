"""What explains the differences of a measure between scenarios, from a table of scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from rmm.errors import StudyError, unknown_name
from rmm.study.measures.measure_values import NAN
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.response_surface import ResponseSurface, fit_surface
from rmm.study.measures.score_cells import PER_METHOD
from rmm.study.measures.variance_shares import decompose, share_rows

Array = np.ndarray[Any, Any]
#: Rows of a table of scores that belong together -> labels of the rows of results.
_CELL = ("method", "parameter", "measure", "alpha")


def variance_shares(
    scores: pd.DataFrame,
    factors: Sequence[str],
    measures: Sequence[str] = ("bias", "coverage", "rejection"),
    *,
    policy: str = PER_METHOD,
    correlations: Mapping[tuple[Any, ...], Any] | None = None,
) -> pd.DataFrame:
    """Divide the differences of measures between scenarios among factors and Monte Carlo noise.

    An analysis of variance of the measures, each scenario counting the same, in which the Monte
    Carlo errors are known and subtracted (Skrondal 2000, Multivariate Behavioral Research 35,
    137-167, on simulation studies as experiments). The sum of squares of a factor beside the other
    factors and their two-way interactions (type II; in balanced designs the usual one) has the
    expectation mu'A mu + tr(AS) for true values mu and error variances S (Searle 1971, Linear
    Models, section 2.5); tr(AS) is subtracted. Numeric factors with more than six levels have a
    linear and a quadratic term.

    Parameters
    ----------
    scores : pandas.DataFrame
        As `performance` returns it, or `performance.parquet` of a study merged with its
        `scenarios.parquet`. One row per scenario, method, parameter, measure, alpha and policy.
    factors : sequence of str
        Columns of factors.
    measures : sequence of str
        Names of measures; those that `scores` does not have are left out.
    policy : str
        Of the rows that are used.
    correlations : mapping, optional
        (method, parameter, measure, alpha) -> (N, N) array or sparse array of the correlations of
        the Monte Carlo errors of the scenarios, in the order of their rows. By default errors of
        scenarios are independent, as they are if no two scenarios have the same data sets.

    Returns
    -------
    pandas.DataFrame
        For each method, parameter, measure and level (with the number of `scenarios`) one row per
        `source`: the factors, their interactions (``A x B``), `higher order` (what two-way
        interactions leave), `not separable` (designs that are not balanced: what several sources
        share), `Monte Carlo noise` and `total`. `variance` is the mean square over the scenarios
        that the source explains, noise subtracted, in squared units of the measure, `share` that
        divided by the total; `variance_mcse` and `share_mcse` are Monte Carlo standard errors for
        normal errors. Estimates are unbiased and can be below 0. Shares add up to 1. `p_value` is
        of the hypothesis that the source explains nothing (Satterthwaite 1946, Biometrics Bulletin
        2, 110-114).

    Raises
    ------
    StudyError
        For an unknown factor or measure, or if no measure has values in three scenarios.
    """
    check_columns(scores, factors)
    for name in measures:
        if name not in MEASURES:
            raise StudyError("`measures`: " + unknown_name(name, "a measure", MEASURES))
    found = []
    for key, rows in cells_of(scores, measures, policy):
        values, variances, wide, kept = known_errors(rows, key[2])
        levels = {name: rows.loc[kept, name].tolist() for name in factors}
        if len(values) < 3 or all(len(set(column)) < 2 for column in levels.values()):
            continue
        correlation = None if correlations is None else correlations[key][kept][:, kept]
        shares = decompose(
            values, levels, _spread(variances, correlation), _spread(wide, correlation)
        )
        labels = dict(zip(_CELL, key, strict=True))
        found.append(share_rows(shares, **labels, scenarios=len(values)))
    if not found:
        raise StudyError(
            f"No measure of {', '.join(measures)} has values with Monte Carlo errors in three "
            "scenarios or more that differ in a factor."
        )
    return pd.concat(found, ignore_index=True)


def response_surface(
    scores: pd.DataFrame,
    x: str,
    y: str,
    measure: str,
    *,
    method: Any = None,
    parameter: Any = None,
    alpha: float | None = None,
    policy: str = PER_METHOD,
    log: Sequence[str] = (),
) -> ResponseSurface:
    """Fit a smooth surface of a measure over two numeric factors, with Monte Carlo errors.

    Parameters
    ----------
    scores : pandas.DataFrame
        As of `variance_shares`. Select one level of each other factor first: the rows are taken
        as scenarios with data sets of their own.
    x, y : str
        Columns of two numeric factors with 3 levels or more each.
    measure : str
        Name of a measure.
    method, parameter, alpha : label, label and float, optional
        Which rows; needed if there are several.
    policy : str
        Of the rows that are used.
    log : sequence of str
        The factors of which logarithms are used.

    Returns
    -------
    ResponseSurface
        ``surface.at(x, y)`` gives values and Monte Carlo standard errors. A quadratic polynomial,
        or a cubic one if a test of lack of fit rejects that (p < .05), by least squares with
        weights 1/mcse^2, rates on the scale of empirical logits; see
        `rmm.study.measures.response_surface.fit_surface`.

    Raises
    ------
    StudyError
        For an unknown column or measure, several methods, parameters or levels, or too few
        scenarios.
    """
    check_columns(scores, (x, y))
    if measure not in MEASURES:
        raise StudyError("`measure`: " + unknown_name(measure, "a measure", MEASURES))
    chosen = scores
    for name, label in (("method", method), ("parameter", parameter), ("alpha", alpha)):
        chosen = chosen if label is None else chosen[chosen[name] == label]
    cells = list(cells_of(chosen, [measure], policy))
    if len(cells) != 1:
        shown = "; ".join(f"{m}, {p}, alpha {a:g}" for (m, p, _, a), _ in cells[:10])
        raise StudyError(
            f"Combinations of method, parameter and alpha that the table has for {measure}: "
            f"{len(cells)}.\n  Choose one with `method`, `parameter` and `alpha`"
            + (f": {shown}." if cells else ".")
        )
    return surface_of(cells[0][1], x, y, measure, log)


def surface_of(
    rows: pd.DataFrame, x: str, y: str, measure: str, log: Sequence[str] = ()
) -> ResponseSurface:
    """The surface of the rows of one cell of a table of scores."""
    rate = MEASURES[measure].rate
    return fit_surface(
        rows[x].to_numpy(dtype=float),
        rows[y].to_numpy(dtype=float),
        rows["value"].to_numpy(dtype=float),
        rows["mcse"].to_numpy(dtype=float),
        n=rows["n"].to_numpy(dtype=float) if rate else None,
        log=(x in log, y in log),
    )


def check_columns(scores: pd.DataFrame, factors: Sequence[str]) -> None:
    """Refuse factors that are no columns; `StudyError` lists the columns."""
    for name in factors:
        if name not in scores:
            raise StudyError(unknown_name(name, "a column of the scores", list(scores.columns)))


def cells_of(
    scores: pd.DataFrame, measures: Sequence[str], policy: str
) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """(method, parameter, measure, alpha) and its rows, one per scenario."""
    chosen = scores[(scores["policy"] == policy) & scores["measure"].isin(list(measures))]
    groups = chosen.groupby(list(_CELL), sort=False, dropna=False, observed=True)
    for (method, parameter, measure, _), rows in groups:
        if rows["value"].notna().any():
            alpha = float(rows["alpha"].iloc[0])
            level = NAN if np.isnan(alpha) else alpha  # one object, as a key of mappings
            yield (method, parameter, measure, level), rows.reset_index(drop=True)


def known_errors(rows: pd.DataFrame, measure: str) -> tuple[Array, Array, Array, Array]:
    """Values, error variances, those for p values, and the places of rows that have them.

    The variance of a rate is estimated without bias by p (1 - p) / (n - 1), which is 0 at rates of
    0 and 1. For p values it is at least that of two hits and two misses more (Agresti & Coull
    1998, The American Statistician 52, 119-126).
    """
    value = rows["value"].to_numpy(dtype=float)
    n = rows["n"].to_numpy(dtype=float)
    variance = rows["mcse"].to_numpy(dtype=float) ** 2
    wide = variance
    if MEASURES[measure].rate:
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.where(n > 1, value * (1 - value) / (n - 1), np.nan)
            p = (value * n + 2) / (n + 4)
            wide = np.maximum(variance, p * (1 - p) / (n + 4))
    kept = np.flatnonzero(np.isfinite(value) & np.isfinite(variance))
    return value[kept], variance[kept], wide[kept], kept


def _spread(variances: Array, correlation: Any) -> Any:
    """Sparse covariance matrix of the errors."""
    if correlation is None:
        return sparse.diags_array(variances)
    sd = sparse.diags_array(np.sqrt(variances))
    return sd @ sparse.csr_array(correlation) @ sd
