"""Nested-loop plots: a measure over all scenarios at once, the factors as steps below it.

Ruecker & Schwarzer (2014), BMC Medical Research Methodology 14:129.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import Results
from rmm.study.report.figures.by_factor import MEASURED, Measured, read, rows_of
from rmm.study.report.figures.chart import DARK, Chart, Key, Pen, method_keys

if TYPE_CHECKING:
    import pandas as pd

#: Fewer scenarios than this are read more easily elsewhere.
LEAST_SCENARIOS = 8
#: A factor with more levels is named by its ends.
MOST_NAMED = 20
_STRIP, _STEP = 0.15, 0.07  # height of a factor's strip and of its steps, of the measure's


@dataclass(frozen=True)
class Course:
    """A method's values over the scenarios in their nested order; nan where there is none."""

    method: str
    values: tuple[float, ...]
    where: tuple[str, ...]


@dataclass(frozen=True)
class Strip:
    """A factor below the values: its name with its levels, and the level's number by scenario."""

    name: str
    steps: tuple[int, ...]


@dataclass(frozen=True)
class NestedPanel:
    """All scenarios side by side."""

    courses: tuple[Course, ...]
    strips: tuple[Strip, ...]
    target: float | None
    title: str = ""
    where: tuple[str, ...] = ()

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        known = [v for c in self.courses for v in c.values if math.isfinite(v)]
        known += [] if self.target is None else [self.target]
        low, high = min(known), max(known)
        unit = (high - low) or 1.0
        if self.target is not None:
            cell.axhline(self.target, color=DARK, lw=0.8, zorder=1)
        for course in self.courses:
            look = pen.looks[course.method]
            xs, ys = _steps(course.values)
            pen.tag(cell.plot(xs, ys, color=look.colour, ls=look.line, lw=1.3), course.where)
        for number, strip in enumerate(self.strips):
            _draw_strip(cell, strip, low - unit * (0.1 + _STRIP * (number + 1)), unit)
        cell.set_ylim(low - unit * (0.12 + _STRIP * len(self.strips)), high + 0.06 * unit)
        cell.set_yticks([t for t in cell.get_yticks() if low - 0.05 * unit <= t <= high + unit / 9])
        cell.set_xlim(0, len(self.strips[0].steps))
        cell.set_xticks([])
        cell.grid(axis="y", color="#e4e4e4", lw=0.6, zorder=0)


def _steps(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Each value over the width of its scenario."""
    xs = [x for i in range(len(values)) for x in (float(i), float(i + 1))]
    return xs, [v for v in values for _ in range(2)]


def _draw_strip(cell: Any, strip: Strip, base: float, unit: float) -> None:
    top = max(1, *strip.steps)
    xs, ys = _steps([base + _STEP * unit * k / top for k in strip.steps])
    cell.plot(xs, ys, color="#333333", lw=1.0)
    cell.text(0, base + (_STEP + 0.012) * unit, strip.name, fontsize=7.5, color="#333333")


def nested_loops(results: Results) -> list[Chart]:
    """One plot per measure with numbers in enough scenarios, for the main estimand."""
    if len(results.factors) < 2:
        return []
    made = [_chart(row, results) for row in MEASURED if row.name != "relative_error_se"]
    return [chart for chart in made if chart is not None]


def _chart(measured: Measured, results: Results) -> Chart | None:
    estimand = results.study.estimands[0]
    rows = rows_of(measured, estimand, results)
    rows = rows[rows["value"].notna()]
    if rows["scenario"].nunique() < LEAST_SCENARIOS:
        return None
    target = measured.target(estimand) if measured.target else None
    factors = [f for f in (*results.factors[1:], results.factors[0]) if rows[f].nunique() > 1]
    panel = _panel(rows, factors, results, target)
    names = method_keys([course.method for course in panel.courses])
    names += (Key("line", measured.target_name or "zero"),) if target is not None else ()
    caption = (
        f"{read(measured, estimand).split('. ')[0]}. Each step is a scenario; the lines below "
        "say the level of each factor, a step up for each level in the order named. All "
        "scenarios are shown whatever is chosen above."
    )
    return Chart(
        f"nested_{measured.name}",
        f"{measured.title} in all {len(panel.courses[0].values)} scenarios, {estimand.parameter} "
        "(nested loops)",
        caption,
        measured.section,
        (panel,),
        f"Scenarios, by {', '.join(map(readable, factors))}",
        measured.y,
        names,
        (8.4, 3.0 + 0.45 * len(factors)),
        1,
    )


def _panel(
    rows: pd.DataFrame, factors: Sequence[str], results: Results, target: float | None
) -> NestedPanel:
    filters = results.filters
    numbers = {f: [filters.place(f, v) for v in rows[f]] for f in factors}
    order = dict(zip(rows["scenario"], zip(*numbers.values(), strict=True), strict=True))
    scenarios = sorted(order, key=lambda s: order[s])
    values = rows.pivot_table(index="scenario", columns="method", values="value")
    values = values.reindex(scenarios)
    courses = tuple(
        Course(m, tuple(map(float, values[m])), (results.filters.method(m),))
        for m in results.methods
        if m in values
    )
    strips = tuple(
        Strip(f"{readable(f)}: {_words(filters.levels[f])}", tuple(order[s][i] for s in scenarios))
        for i, f in enumerate(factors)
    )
    return NestedPanel(courses, strips, target)


def _words(levels: Sequence[Any]) -> str:
    """All levels; of many, the ends and the number."""
    if len(levels) <= MOST_NAMED:
        return ", ".join(map(compact, levels))
    return f"{compact(levels[0])} to {compact(levels[-1])} ({len(levels)} levels)"
