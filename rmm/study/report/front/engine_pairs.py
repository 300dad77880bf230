"""A study of parity on the first screen: the same models on two engines, compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import counted
from rmm.study.evaluate.criteria import parity
from rmm.study.report.data.format_numbers import fixed
from rmm.study.report.data.results import Results, StudyResults
from rmm.study.report.front.cells import EMPTY, MARKS, Cell, Column
from rmm.study.report.front.verdicts import Verdict

if TYPE_CHECKING:
    import pandas as pd

#: Criterion of a study file that makes it a study of parity.
CRITERION = "parity"


def pair_table(results: Results) -> pd.DataFrame | None:
    """Comparisons of the same model on two engines, as `rmm study judge` makes them.

    Returns
    -------
    DataFrame or None
        One row per pair of methods, data set and parameter; None where the study file does not ask
        for parity, or no pair has results.
    """
    if not isinstance(results, StudyResults) or CRITERION not in results.study.criteria:
        return None
    if "mcse" not in results.estimates:
        return None
    table = parity.judge(results.study, results.estimates, _settings(results)).table
    return None if table.empty else table


def pair_answer(results: Results, table: pd.DataFrame) -> list[str]:
    """Whether the posteriors agree, and how far they are apart."""
    limits, failed = _settings(results), int((~table["passed"]).sum())
    posteriors = (
        f"{counted(len(table), 'posterior')} of {counted(table['methods'].nunique(), 'model')}"
    )
    size = fixed(float(table["z"].abs().max()), 1)
    ratio = round(100 * (float(np.exp(np.log(table["sd_ratio"]).abs().max())) - 1))
    apart = (
        f"means differ by at most {size} combined Monte Carlo standard errors (limit "
        f"{limits['mcse']:g}), standard deviations by at most {ratio}% (limit "
        f"{100 * (limits['sd_ratio'] - 1):.0f}%)"
    )
    if not failed:
        return [
            f"The engines agree on {'all ' * (len(table) > 1)}{posteriors}.",
            f"{apart[0].upper()}{apart[1:]}.",
        ]
    return [
        f"The engines do not agree on {failed:,} of {posteriors}: {apart}; both fits must have "
        "converged."
    ]


def pair_columns(results: Results, table: pd.DataFrame, methods: list[str]) -> list[Column]:
    """Of each method and the one of its model on another engine the largest differences."""
    assert isinstance(results, StudyResults)
    limits = _settings(results)
    pairs = parity.pairs(results.study)
    rows = {}
    for method in methods:
        names = [f"{a.name}, {b.name}" for a, b in pairs if method in (a.name, b.name)]
        rows[method] = table[table["methods"].isin(names)]
    largest = limits["sd_ratio"]
    ratios = {m: np.exp(np.log(rows[m]["sd_ratio"]).abs().max()) for m in methods}
    return [
        Column(
            "Difference of means",
            "largest, in Monte Carlo errors",
            f"limit {limits['mcse']:g}",
            tuple(_cell(rows[m]["z"].abs().max(), limits["mcse"], 1) for m in methods),
        ),
        Column(
            "Ratio of SDs",
            "farthest from 1",
            f"limit {largest:g}",
            tuple(_cell(ratio, largest, 2) for ratio in ratios.values()),
        ),
        Column(
            "Parameters",
            "that agree",
            "of those compared",
            tuple(_agreeing(rows[m]["passed"]) for m in methods),
        ),
    ]


def _settings(results: Results) -> Mapping[str, Any]:
    assert isinstance(results, StudyResults)
    return results.study.criteria[CRITERION]


def _cell(value: float, limit: float, decimals: int) -> Cell:
    """The largest of some differences; empty where there is none."""
    if not np.isfinite(value):
        return EMPTY
    verdict = Verdict.HIGH if value > limit else Verdict.FINE
    return Cell(fixed(float(value), decimals), MARKS[verdict], verdict.value, verdict.fault)


def _agreeing(passed: pd.Series[bool]) -> Cell:
    if not len(passed):
        return EMPTY
    failed = not passed.all()
    return Cell(f"{int(passed.sum())} of {len(passed)}", fault=failed)
