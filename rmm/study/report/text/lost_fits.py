"""Sentences where fits that are not usable decide a verdict: bounds of rates over all fits.

White, Pham, Quartagno & Morris (2023), International Journal of Epidemiology 53, dyad134; Pawel,
Bartoš, Siepe & Lohmann (2026), The American Statistician 80, 31-48.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.study.design.estimand import Estimand
from rmm.study.measures.proportions import acceptance_band
from rmm.study.measures.score_cells import LOWER, PER_METHOD, UPPER
from rmm.study.report.data.format_numbers import FEW, rate
from rmm.study.report.data.levels import is_null, words
from rmm.study.report.data.results import Results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BoundedRate:
    """A rate of a method in a scenario: over usable fits, and its bounds over all fits."""

    scenario: str
    usable: Mapping[str, Any]
    lower: Mapping[str, Any]
    upper: Mapping[str, Any]

    @property
    def lost(self) -> float:
        """Share of fits that are not usable."""
        return 1 - float(self.usable["n"]) / float(self.upper["n"])

    @property
    def width(self) -> float:
        """How far the bounds are apart."""
        return float(self.upper["value"] - self.lower["value"])


def bounded_rates(
    results: Results, measure: str, estimand: Estimand, method: str
) -> list[BoundedRate]:
    """Rates of a method at the first alpha, in scenarios where it has lost fits."""
    found = [
        _of(results.measure(measure, policy), estimand, method)
        for policy in (PER_METHOD, LOWER, UPPER)
    ]
    usable, lower, upper = found
    return [
        BoundedRate(scenario, row, lower[scenario], upper[scenario])
        for scenario, row in usable.items()
        if scenario in upper and row["n"] < upper[scenario]["n"]
    ]


def _of(rows: pd.DataFrame, estimand: Estimand, method: str) -> dict[str, Mapping[Any, Any]]:
    """Scenario -> row."""
    level = (rows["alpha"].isna()) | ((rows["alpha"] - estimand.alpha[0]).abs() < 1e-12)
    mine = rows[level & (rows["parameter"] == estimand.parameter) & (rows["method"] == method)]
    return {str(row["scenario"]): row for row in mine.to_dict("records")}


def lost_fit_findings(results: Results, estimand: Estimand) -> list[tuple[str, str]]:
    """A sentence for each method and rate whose verdict the bounds change."""
    said = []
    for method in results.methods:
        null = [
            one
            for one in bounded_rates(results, "rejection", estimand, method)
            if is_null(results, one.scenario, estimand)
        ]
        covered = bounded_rates(results, "coverage", estimand, method)
        alpha = estimand.alpha[0]
        for name, found, level, hits in (
            ("rejection rate", null, alpha, "rejects"),
            ("coverage", covered, 1 - alpha, "holds the truth"),
        ):
            judged = [one for one in found if one.usable["n"] >= FEW]
            changed = [one for one in judged if _depends(one, level)]
            if changed:
                heading = f"the {name} of {estimand.parameter}"
                said.append((method, _sentence(results, heading, changed, len(judged), hits)))
    return said


def _depends(one: BoundedRate, level: float) -> bool:
    """Whether the verdict at a bound is another one than that of the usable fits."""
    verdicts = {_verdict(row, level) for row in (one.usable, one.lower, one.upper)}
    return len(verdicts) > 1


def _verdict(row: Mapping[str, Any], level: float) -> int:
    """Below (-1), within (0) or above (1) the band of a correct rate."""
    low, high = acceptance_band(level, int(row["n"]))
    return int(row["value"] > high) - int(row["value"] < low)


def _sentence(
    results: Results, heading: str, changed: Sequence[BoundedRate], judged: int, hits: str
) -> str:
    worst = max(changed, key=lambda one: (one.width, one.scenario))
    row = results.scenarios[results.scenarios["scenario"] == worst.scenario].iloc[0].to_dict()
    place = words(results, row)
    where = f" at {place}" if place else ""
    count = f" in {len(changed)} of {judged} scenarios with lost fits" if judged > 1 else ""
    return (
        f"has no usable fit of {100 * worst.lost:.1f}% of the data sets{where}: {heading} is "
        f"{rate(float(worst.usable['value']))} of the others, and over all fits between "
        f"{rate(float(worst.lower['value']))} (no lost fit {hits}) and "
        f"{rate(float(worst.upper['value']))} (every lost fit {hits}). The verdict depends on the "
        f"lost fits{count}."
    )
