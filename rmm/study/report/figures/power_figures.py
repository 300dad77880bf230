"""Figures of a power study: points, curves with their bands, and the sizes for the target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.posterior.plots.style import FILL, RULE, Look
from rmm.study.design.power_rule import Power
from rmm.study.evaluate import power as evaluate
from rmm.study.evaluate.power import PowerCurve
from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import Results, StudyResults
from rmm.study.report.figures.chart import MOST_PANELS, Chart, Key, Pen, method_keys

CAPTION = (
    "Share of replications that reject, by size. Points: simulated, with 95% Monte Carlo intervals "
    "(Wilson). Lines: probit regression on the square root of the size, with its 95% band; none "
    "where the points do not determine one, dotted where they speak against it. Bars at the "
    "target: the size for it, with its 95% interval."
)


@dataclass(frozen=True)
class PowerPanel:
    """Curves of all methods at one combination of the other factors; `tags` by method."""

    title: str
    curves: tuple[PowerCurve, ...]
    target: float
    tags: Mapping[str, tuple[str, ...]]
    where: tuple[str, ...] = ()

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        cell.axhline(self.target, color=RULE, lw=0.8, zorder=1)
        for number, found in enumerate(self.curves):
            look = pen.looks[found.method]
            drawn = _points(cell, found, look)
            if found.curve is not None:
                drawn += _curve(cell, found, look)
            drawn += _size(cell, found, self.target, look, number)
            pen.tag(drawn, self.tags[found.method])
        cell.set_ylim(0, 1.02)
        cell.grid(axis="y", color="#e4e4e4", lw=0.6, zorder=0)
        cell.set_axisbelow(True)


def power_curves(results: Results) -> list[Chart]:
    """Power curves, a panel per combination of the other factors; none where no power is asked."""
    if not isinstance(results, StudyResults):
        return []
    power = results.study.power
    curves = evaluate.power_curves(results.study, results.performance) if power else []
    if power is None or not curves:
        return []
    together: dict[str, list[PowerCurve]] = {}
    for curve in curves:
        together.setdefault(_title(curve), []).append(curve)
    panels = [_panel(title, here, power, results) for title, here in together.items()]
    methods = list(dict.fromkeys(curve.method for curve in curves))
    return [
        Chart(
            "power_curves",
            f"Power by size, {power.parameter}",
            CAPTION,
            "tests",
            tuple(panels[:MOST_PANELS]),
            readable(power.size),
            "Power",
            (*method_keys(methods), Key("line", "target power")),
        )
    ]


def _panel(title: str, curves: Sequence[PowerCurve], power: Power, results: Results) -> PowerPanel:
    tags = {c.method: (results.filters.method(c.method),) for c in curves}
    factors = {f.removeprefix("factor."): f for f in results.factors}
    setting = {factors[f]: v for f, v in curves[0].setting.items() if f in factors}
    where = tuple(results.filters.level(f, v) for f, v in setting.items())
    return PowerPanel(title, tuple(curves), power.target, tags, where)


def _title(curve: PowerCurve) -> str:
    return ", ".join(f"{readable(f)} {compact(v)}" for f, v in curve.setting.items())


def _points(cell: Any, found: PowerCurve, look: Look) -> list[Any]:
    points = [p for p in found.points if p.n]
    ends = [p.interval for p in points]
    bars = [
        [p.power - low for p, (low, _) in zip(points, ends, strict=True)],
        [high - p.power for p, (_, high) in zip(points, ends, strict=True)],
    ]
    drawn = cell.errorbar(
        [p.size for p in points],
        [p.power for p in points],
        yerr=bars,
        ls="none",
        color=look.colour,
        marker=look.marker,
        ms=4.5,
        elinewidth=1.0,
        capsize=2,
        zorder=4,
    )
    return list(drawn.get_children())


def _curve(cell: Any, found: PowerCurve, look: Look) -> list[Any]:
    assert found.curve is not None
    first, last = np.sqrt(found.curve.studied)
    grid = np.linspace(first, last, 101) ** 2
    middle, low, high = found.curve.at(grid)
    line = look.line if found.curve.trusted else (0, (1, 3))
    return [
        cell.fill_between(grid, low, high, color=FILL, lw=0, alpha=0.6, zorder=2),
        *cell.plot(grid, low, color=look.colour, lw=0.5, zorder=3),
        *cell.plot(grid, high, color=look.colour, lw=0.5, zorder=3),
        *cell.plot(grid, middle, color=look.colour, ls=line, lw=1.4, zorder=3),
    ]


def _size(cell: Any, found: PowerCurve, target: float, look: Look, number: int) -> list[Any]:
    """The interval of the size, a little below the target for each method in turn."""
    size = found.size(target)
    first, last = size.studied
    low, high = max(size.low, first), min(size.high, last)
    if found.curve is None or math.isnan(size.value) or low > high:
        return []
    y = target - 0.03 * (number + 1)
    drawn = cell.plot(
        [low, high], [y, y], color=look.colour, lw=2.0, solid_capstyle="butt", zorder=5
    )
    if first <= size.value <= last:
        drawn += cell.plot(
            [size.value], [y], color=look.colour, marker="|", ms=8, mew=1.6, zorder=5
        )
    return list(drawn)
