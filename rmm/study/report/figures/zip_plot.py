"""Zip plots: all intervals of a method, sorted by how far the estimate lies from the truth.

Morris, White & Crowther (2019), Statistics in Medicine 38:2074-2102, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rmm.study.design.estimand import Estimand
from rmm.study.measures.score_cells import bounds_of
from rmm.study.report.data.format_numbers import rate
from rmm.study.report.data.levels import words
from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import MOST_PANELS, Chart, Key, Pen

if TYPE_CHECKING:
    import pandas as pd

#: Intervals drawn of one method; of more, every so-manyth by centile.
MOST_INTERVALS = 400


@dataclass(frozen=True, order=True)
class Interval:
    """Distances of an interval's ends from the truth, at the centile of |z| of its estimate."""

    centile: float
    low: float
    high: float

    @property
    def covers(self) -> bool:
        """Whether it holds the truth."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class ZipPanel:
    """Intervals of one method in one scenario.

    `coverage` is the share that holds the truth and its 95% interval; empty where it is unknown.
    """

    title: str
    intervals: tuple[Interval, ...]
    nominal: float
    coverage: tuple[float, ...]
    method: str
    where: tuple[str, ...]
    width: tuple[float, float] = (-1.0, 1.0)

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        for covers, colour in ((True, "#bcbcbc"), (False, pen.looks[self.method].colour)):
            chosen = [i for i in self.intervals if i.covers == covers]
            # One path with gaps: hundreds of intervals stay small in the page.
            xs = [x for i in chosen for x in (i.low, i.high, math.nan)]
            ys = [y for i in chosen for y in (i.centile, i.centile, math.nan)]
            cell.plot(xs, ys, color=colour, lw=0.7 if covers else 1.1, zorder=2 + (not covers))
        cell.axvline(0, color="#222222", lw=0.8, zorder=4)
        cell.axhline(100 * self.nominal, color="#222222", lw=0.9, ls=(0, (5, 3)), zorder=4)
        for edge in self.coverage[1:]:
            cell.axhline(100 * edge, color="#222222", lw=0.9, ls=(0, (1, 2)), zorder=4)
        cell.set_xlim(*self.width)
        cell.set_ylim(0, 100.5)
        cell.set_yticks([0, 25, 50, 75, 100 * self.nominal])
        cell.yaxis.set_major_formatter(lambda y, _: f"{y:g}")


def zips(results: Results) -> list[Chart]:
    """The zip plot of the main estimand."""
    estimand = results.study.estimands[0]
    bounds = bounds_of(estimand.alpha[0])
    table = results.estimates
    if bounds[0] not in table or table[bounds[0]].isna().all():
        return []
    counted = table["status"].isin(results.usable)
    usable = table[counted & (table["parameter"] == estimand.parameter)]
    usable = usable.dropna(subset=["truth", "mean", "sd", *bounds])
    scenarios = shown_scenarios(results, estimand)
    panels = [
        panel
        for scenario in scenarios
        for method in results.methods
        if (panel := _panel(results, usable, estimand, scenario, method)) is not None
    ]
    if not panels:
        return []
    panels = [replace(p, width=_width(panels)) for p in panels]
    return [_chart(results, estimand, panels, len(scenarios))]


def _chart(results: Results, estimand: Estimand, panels: Sequence[ZipPanel], shown: int) -> Chart:
    level = f"{100 * (1 - estimand.alpha[0]):g}%"
    caption = (
        f"{level} intervals minus the truth, sorted by |z| = |estimate − truth| / standard error, "
        "the farthest from the truth at the top. Grey: holds the truth; in the method’s colour, "
        f"and thicker: does not. Dashed: where a {level} interval should change from one to the "
        "other; dotted: 95% Monte Carlo interval (Wilson) of the coverage found, which the title "
        "says. All misses on one side are bias; misses far below the dashed line are standard "
        "errors that are too small."
    )
    if any(len(panel.intervals) == MOST_INTERVALS for panel in panels):
        caption += f" At most {MOST_INTERVALS} intervals of a panel are drawn, evenly by centile."
    if shown < len(results.scenarios):
        caption += " Scenarios: those with the lowest and the highest coverage of any method."
    keys = (Key("pale", "holds the truth"), Key("dark", "does not"))
    return Chart(
        "zip",
        f"All intervals, {estimand.parameter} (zip plot)",
        caption,
        "tests",
        tuple(panels),
        f"{level} interval − truth",
        "Centile of |z|",
        keys,
        (3.3, 3.4),
        3,
    )


def shown_scenarios(results: Results, estimand: Estimand) -> list[str]:
    """All scenarios if there is room, else those of lowest and highest coverage."""
    every = [str(s) for s in results.scenarios["scenario"]]
    room = MOST_PANELS // len(results.methods)
    if len(every) <= max(1, room):
        return every
    rows = _coverage(results, estimand)
    if rows.empty:
        return every[: max(1, room)]
    found = (
        rows.loc[rows["value"] == end, "scenario"] for end in rows["value"].agg(["min", "max"])
    )
    ends = list(dict.fromkeys(str(scenarios.iloc[0]) for scenarios in found))
    return ends[: max(1, room)]


def _coverage(results: Results, estimand: Estimand) -> pd.DataFrame:
    rows = results.measure("coverage")
    rows = rows[(rows["parameter"] == estimand.parameter) & rows["value"].notna()]
    return rows[(rows["alpha"] - estimand.alpha[0]).abs() < 1e-12]


def _panel(
    results: Results,
    usable: pd.DataFrame,
    estimand: Estimand,
    scenario: str,
    method: str,
) -> ZipPanel | None:
    rows = usable[(usable["scenario"] == scenario) & (usable["method"] == method)]
    if rows.empty:
        return None
    lower, upper = bounds_of(estimand.alpha[0])
    z = ((rows["mean"] - rows["truth"]) / rows["sd"]).abs().rank(method="first")
    every = sorted(
        Interval(100 * float(r) / len(rows), float(low), float(high))
        for r, low, high in zip(
            z, rows[lower] - rows["truth"], rows[upper] - rows["truth"], strict=True
        )
    )
    row = results.scenarios[results.scenarios["scenario"] == scenario].to_dict("records")[0]
    where = (results.filters.method(method), *results.filters.scenario(row))
    place = words(results, row)
    title = f"{method}{', ' * bool(place)}{place}"
    coverage = _coverage(results, estimand)
    found = coverage[(coverage["scenario"] == scenario) & (coverage["method"] == method)]
    covered = [float(found[name].iloc[0]) for name in ("value", "lower", "upper") if len(found)]
    title += f": coverage {rate(covered[0])}" if covered else ""
    nominal = 1 - estimand.alpha[0]
    return ZipPanel(title, _thinned(every), nominal, tuple(covered), method, where)


def _thinned(every: Sequence[Interval]) -> tuple[Interval, ...]:
    """At most MOST_INTERVALS of them, evenly spaced by centile."""
    if len(every) <= MOST_INTERVALS:
        return tuple(every)
    step = len(every) / MOST_INTERVALS
    return tuple(every[int((k + 0.5) * step)] for k in range(MOST_INTERVALS))


def _width(panels: Sequence[ZipPanel]) -> tuple[float, float]:
    """Limits that all panels share; the few farthest intervals are cut."""
    ends = sorted(max(-i.low, i.high) for panel in panels for i in panel.intervals)
    most = 1.05 * ends[int(0.99 * (len(ends) - 1))]
    return -most, most
