"""Two engines on the same data sets: how far apart their posteriors are, fit by fit.

A method that `confirms` another one fits the same model to the first data sets by another engine,
usually by MCMC what a fast engine has fitted to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_KEY = ["scenario", "replication", "parameter"]
_VALUES = ["mean", "sd", "lower", "upper", "p_value"]
_ALPHA = 0.05


def confirmations(
    estimates: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    nulls: Mapping[str, float],
    untested: Iterable[str] = (),
) -> pd.DataFrame:
    """Differences between methods and those that confirm them.

    Parameters
    ----------
    estimates : pandas.DataFrame
        Rows of `rmm.study.results.ESTIMATES`.
    pairs : iterable of (str, str)
        (method, the one that confirms it).
    nulls : mapping
        Estimand -> its null value, tested at 5% as in `rmm.study.performance`.
    untested : iterable of str
        Estimands that have no test.

    Returns
    -------
    pandas.DataFrame
        One row per scenario, pair and estimand: `n` data sets that both have fitted and usable;
        `shift`, the mean of (mean - confirming mean) / confirming sd; `sd_ratio`, the geometric
        mean of sd / confirming sd; `rejection` and `confirming_rejection`, with the difference
        `rejection_shift`. Columns `_mcse` hold their standard errors, over data sets: they contain
        the Monte Carlo error of both engines.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    usable = estimates[(estimates["status"] == "ok") & estimates["parameter"].isin(list(nulls))]
    for method, confirming in pairs:
        mine, theirs = (
            usable[usable["method"] == name].reindex(columns=[*_KEY, *_VALUES])
            for name in (method, confirming)
        )
        both = mine.merge(theirs, on=_KEY, suffixes=("", "_other"))
        for (scenario, parameter), found in both.groupby(
            ["scenario", "parameter"], sort=False, observed=True
        ):
            null = None if parameter in set(untested) else nulls[str(parameter)]
            rows.append({"scenario": str(scenario), "method": method, "confirming": confirming,
                         "parameter": str(parameter), **_compared(found, null)})  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _compared(both: pd.DataFrame, null: float | None) -> dict[str, Any]:
    shift = ((both["mean"] - both["mean_other"]) / both["sd_other"]).to_numpy(float)
    ratio = np.log((both["sd"] / both["sd_other"]).to_numpy(float))
    ratio_mean, ratio_error = _mean(ratio)
    out: dict[str, Any] = {"n": len(both)}
    out["shift"], out["shift_mcse"] = _mean(shift)
    out["sd_ratio"] = float(np.exp(ratio_mean))
    out["sd_ratio_mcse"] = float(np.exp(ratio_mean) * ratio_error)
    if null is not None:
        first, second = (_rejects(both, null, suffix) for suffix in ("", "_other"))
        out |= {"rejection": float(first.mean()), "confirming_rejection": float(second.mean())}
        out["rejection_shift"], out["rejection_shift_mcse"] = _mean(first - second)
    return out


def _rejects(both: pd.DataFrame, null: float, suffix: str) -> np.ndarray[Any, Any]:
    """0 or 1 for each fit: by its p value, or by its interval where it has none."""
    lower, upper, p = (both[f"{name}{suffix}"].to_numpy(float) for name in _VALUES[2:])
    return np.where(np.isnan(p), (lower > null) | (upper < null), p < _ALPHA).astype(float)


def _mean(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """A mean and its standard error; the error is nan for one value."""
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


COLUMNS = [
    "scenario", "method", "confirming", "parameter", "n", "shift", "shift_mcse", "sd_ratio",
    "sd_ratio_mcse", "rejection", "confirming_rejection", "rejection_shift",
    "rejection_shift_mcse",
]  # fmt: skip
