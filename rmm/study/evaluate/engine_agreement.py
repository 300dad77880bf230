"""Two engines on the same data sets: do their posteriors agree, and how sure is that?

A method that `confirms` another one fits the same model to the first data sets by another engine,
usually by MCMC what a fast engine has fitted to all. Two questions are asked of each estimand: do
posterior means differ (in posterior standard deviations), and do posterior standard deviations (by
the logarithm of their ratio)? The answers come from paired differences with t intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from rmm.study.files.parquet import NOT_CONVERGED, OK
from rmm.study.measures.measure_values import rate_of

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.design.study import Study

Array = np.ndarray[Any, Any]

#: Differences that do not matter: means in posterior standard deviations, standard deviations as
#: a ratio.
SHIFT_MARGIN, RATIO_MARGIN = 0.1, 1.05
#: Data sets below which there is no verdict.
LEAST = 10
#: Level of the intervals, and of the tests after Holm's correction.
LEVEL, ALPHA = 0.95, 0.01
AGREE, DIFFER, UNDECIDED, TOO_FEW = "agree", "differ", "undecided", "too few data sets"

_KEY = ["scenario", "replication", "parameter"]
_VALUES = ["mean", "sd", "lower", "upper", "p_value"]
_TEST_LEVEL = 0.05
#: Tests that reject, by the suffix of the columns of their method.
_TESTS = {"rejections": "", "confirming_rejections": "_other"}
_MARGINS = {"shift": SHIFT_MARGIN, "sd_ratio": math.log(RATIO_MARGIN)}


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences, its t interval, and the p value of no difference."""

    estimate: float
    lower: float
    upper: float
    p: float


def mean_difference(differences: Sequence[float] | Array) -> Difference:
    """The mean of paired differences, with n - 1 degrees of freedom.

    Parameters
    ----------
    differences : (n,) array
        One difference per data set. Of a single one there is no interval.

    Returns
    -------
    Difference
        Its interval has level `LEVEL`; p is two-sided. Both are nan for n below 2.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return Difference(float(values.mean()) if len(values) else math.nan, *[math.nan] * 3)
    if np.ptp(values) == 0:  # the same in all data sets, such as 0 of one engine with itself
        same = float(values[0])
        return Difference(same, same, same, float(same == 0))
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(LEVEL)
    return Difference(float(values.mean()), float(low), float(high), float(test.pvalue))


def verdict(found: Difference, adjusted: float, margin: float, n: int) -> str:
    """What a comparison shows.

    Parameters
    ----------
    found : Difference
    adjusted : float
        Its p value after Holm's correction.
    margin : float
        The largest difference that does not matter.
    n : int
        Data sets that both engines can use.

    Returns
    -------
    str
        "agree" where the interval lies inside the margin, "differ" where the adjusted p value is
        below `ALPHA` and the estimate outside, "undecided" otherwise; "too few data sets" below
        `LEAST`.
    """
    if n < LEAST:
        return TOO_FEW
    if max(abs(found.lower), abs(found.upper)) < margin:
        return AGREE
    if adjusted < ALPHA and abs(found.estimate) > margin:
        return DIFFER
    return UNDECIDED


def study_confirmations(study: Study, estimates: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows of `confirmations` for a study, in the order of its scenarios and estimands."""
    pairs = [(m.config["confirms"], m.name) for m in study.methods if m.config.get("confirms")]
    if not pairs:
        return []
    nulls = {e.parameter: e.null for e in study.estimands}
    untested = [e.parameter for e in study.estimands if not e.tested]
    own = _without_fallbacks(study, estimates)
    found = confirmations(own, pairs, nulls, untested).to_dict("records")
    order = {scenario.id: i for i, scenario in enumerate(study.scenarios)}
    place = {name: i for i, name in enumerate(nulls)}
    return sorted(found, key=lambda r: (order[r["scenario"]], place[r["parameter"]]))


def _without_fallbacks(study: Study, estimates: pd.DataFrame) -> pd.DataFrame:
    """Fits by a fallback count as not usable: they say nothing of the engine that is confirmed."""
    other = {m.name: m.fallback.backend for m in study.methods if m.fallback is not None}
    if not other:
        return estimates
    theirs = estimates["method"].astype(str).map(other) == estimates["backend"].astype(str)
    status = estimates["status"].astype(str)
    return estimates.assign(status=status.mask(theirs & (status == OK), NOT_CONVERGED))


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
        Rows of `rmm.study.files.parquet.ESTIMATES`.
    pairs : iterable of (str, str)
        (method, the one that confirms it).
    nulls : mapping
        Estimand -> its null value, tested at 5% as in `rmm.study.performance`.
    untested : iterable of str
        Estimands that have no test.

    Returns
    -------
    pandas.DataFrame
        One row per scenario, pair and estimand. `asked`: data sets that both were to fit; `n`:
        those where both fits are usable; `dropped`: the share of the others. `shift`: mean of
        (mean - confirming mean) / confirming sd; `sd_ratio`: geometric mean of sd / confirming sd;
        each with `_lower`, `_upper`, `_p` (of no difference), `_p_holm` (adjusted over all
        comparisons of at least `LEAST` data sets) and `_verdict`. `rejections` and
        `confirming_rejections`: tests that reject, of n, with `_rate` and the ends `_lower` and
        `_upper` of its 95% interval; nan where nothing is tested.
    """
    tested, rows = set(nulls) - set(untested), []
    for method, confirming in pairs:
        here = _pairs(estimates, method, confirming, list(nulls))
        for (scenario, parameter), found in here.groupby(
            ["scenario", "parameter"], sort=False, observed=True
        ):
            null = nulls[str(parameter)] if parameter in tested else None
            rows.append(
                {
                    "scenario": str(scenario),
                    "method": method,
                    "confirming": confirming,
                    "parameter": str(parameter),
                    **_compared(found, null),
                }
            )
    return pd.DataFrame(_with_verdicts(rows), columns=COLUMNS)


def _pairs(
    estimates: pd.DataFrame, method: str, confirming: str, parameters: Sequence[str]
) -> pd.DataFrame:
    """Data sets that both methods were to fit, a row per estimand that either has estimates of."""
    table = estimates[estimates["parameter"].isin(parameters)]
    mine, theirs = (
        table[table["method"] == name].reindex(columns=[*_KEY, *_VALUES, "status"])
        for name in (method, confirming)
    )
    both = mine.merge(theirs, on=_KEY, suffixes=("", "_other"))
    numbers = both[["mean", "sd", "mean_other", "sd_other"]].astype(float)
    usable = (both[["status", "status_other"]] == OK).all(axis=1) & numbers.notna().all(axis=1)
    usable &= (numbers[["sd", "sd_other"]] > 0).all(axis=1)
    estimated = numbers[["mean", "sd"]].notna().all(axis=1)
    estimated |= numbers[["mean_other", "sd_other"]].notna().all(axis=1)
    both = both.assign(usable=usable, estimated=estimated)
    # Not parameters that no fit has, such as those of weights in a model with known weights.
    there = both.groupby("parameter", observed=True)["estimated"].transform("any")
    return both[there.astype(bool)]


def _compared(both: pd.DataFrame, null: float | None) -> dict[str, Any]:
    used = both[both["usable"]]
    differences = {
        "shift": (used["mean"] - used["mean_other"]) / used["sd_other"],
        "sd_ratio": np.log((used["sd"] / used["sd_other"]).to_numpy(float)),
    }
    out: dict[str, Any] = {"asked": len(both), "n": len(used), "dropped": 1 - len(used) / len(both)}
    out |= {name: mean_difference(np.asarray(v, float)) for name, v in differences.items()}
    if null is not None and len(used):
        for name, suffix in _TESTS.items():
            out |= _rejections(name, _rejects(used, null, suffix))
    return out


def _rejections(name: str, rejects: Array) -> dict[str, Any]:
    found = rate_of(float(rejects.mean()), len(rejects))
    return {
        name: int(rejects.sum()),
        f"{name}_rate": found.value,
        f"{name}_lower": found.lower,
        f"{name}_upper": found.upper,
    }


def _with_verdicts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the verdict of each comparison, Holm's correction over all that are judged."""
    judged = [(i, name) for i, row in enumerate(rows) if row["n"] >= LEAST for name in _MARGINS]
    adjusted: dict[tuple[int, str], float] = {}
    if judged:
        # Here, as every report asks for pairs of engines and few studies have some.
        from statsmodels.stats.multitest import multipletests

        p = [rows[i][name].p for i, name in judged]
        corrected = multipletests(p, alpha=ALPHA, method="holm")[1]
        adjusted = dict(zip(judged, map(float, corrected), strict=True))
    out = []
    for i, row in enumerate(rows):
        found = dict(row)
        for name, margin in _MARGINS.items():
            difference: Difference = found.pop(name)
            p_holm = adjusted.get((i, name), math.nan)
            ends = (difference.estimate, difference.lower, difference.upper)
            shown = [math.exp(v) for v in ends] if name == "sd_ratio" else ends
            found |= dict(zip((name, f"{name}_lower", f"{name}_upper"), shown, strict=True))
            found |= {f"{name}_p": difference.p, f"{name}_p_holm": p_holm}
            found[f"{name}_verdict"] = verdict(difference, p_holm, margin, row["n"])
        out.append(found)
    return out


def _rejects(both: pd.DataFrame, null: float, suffix: str) -> Array:
    """0 or 1 for each fit: by its p value, or by its interval where it has none."""
    lower, upper, p = (both[f"{name}{suffix}"].to_numpy(float) for name in _VALUES[2:])
    return np.where(np.isnan(p), (lower > null) | (upper < null), p < _TEST_LEVEL).astype(float)


COLUMNS = [
    "scenario",
    "method",
    "confirming",
    "parameter",
    "asked",
    "n",
    "dropped",
    *(
        f"{name}{end}"
        for name in _MARGINS
        for end in ("", "_lower", "_upper", "_p", "_p_holm", "_verdict")
    ),
    *_TESTS,
    *(f"{name}_{part}" for name in _TESTS for part in ("rate", "lower", "upper")),
]
