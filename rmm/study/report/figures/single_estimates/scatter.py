"""Scatter of standard errors against estimates: one panel per method and scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import DARK, MOST_PANELS, Chart, Key, Pen
from rmm.study.report.figures.single_estimates.usable_estimates import (
    Array,
    Estimates,
    limits_of,
    main_name,
    shown_words,
    thinned,
    title_of,
    usable_estimates,
)


@dataclass(frozen=True, eq=False)
class ScatterPanel:
    """Fits of one method: estimates across, standard errors up."""

    title: str
    x: Array
    y: Array
    truth: float
    method: str
    where: tuple[str, ...]
    limits: tuple[tuple[float, float], tuple[float, float]]

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        look = pen.looks[self.method]
        cell.plot(self.x, self.y, color=look.colour, marker=look.marker, ms=2.2, ls="", alpha=0.55)
        if np.isfinite(self.truth):
            cell.axvline(self.truth, color=DARK, lw=0.8, zorder=1)
        cell.set_xlim(*self.limits[0])
        cell.set_ylim(*self.limits[1])
        cell.grid(color="#e4e4e4", lw=0.6, zorder=0)
        cell.set_axisbelow(True)


def scatters(results: Results) -> list[Chart]:
    """The scatter of the main estimand; none without standard errors."""
    scenarios = list(usable_estimates(results))
    with_se = [[one for one in methods if np.isfinite(one.se).any()] for methods in scenarios]
    panels = tuple(panel for methods in with_se if methods for panel in _panels(methods))
    if not panels:
        return []
    return [
        Chart(
            "scatter",
            f"Standard errors against estimates, {main_name(results)}",
            "Each point is a data set. Vertical line: true value. Points far from all others are "
            "outside the axes." + shown_words(results, len(scenarios)),
            "estimates",
            panels[:MOST_PANELS],
            "Estimate",
            "Standard error",
            (Key("line", "true value"),) if np.isfinite(panels[0].truth) else (),
            (3.3, 2.75),
            3,
        )
    ]


def _panels(methods: list[Estimates]) -> list[ScatterPanel]:
    """The methods of one scenario, on the same axes."""
    limits = (limits_of([m.estimate for m in methods]), limits_of([m.se for m in methods]))
    panels = []
    for one in methods:
        kept = thinned(one.estimate)
        x, y, title = one.estimate[kept], one.se[kept], title_of([one.method, one.place])
        panels.append(ScatterPanel(title, x, y, one.truth, one.method, one.where, limits))
    return panels
