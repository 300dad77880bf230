"""Bland-Altman plots: how estimates of a method differ from the baseline's on the same data.

Bland & Altman (1986), The Lancet 327, 307-310.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

_WIDTH = 1.959964  # standard deviations to the limits of agreement


@dataclass(frozen=True, eq=False)
class DifferencePanel:
    """Pairs of fits on the same data sets: their means across, their differences up."""

    title: str
    x: Array
    y: Array
    center: float
    spread: float
    method: str
    where: tuple[str, ...]
    limits: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0))

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        look, kept = pen.looks[self.method], thinned(self.x)
        cell.plot(
            self.x[kept], self.y[kept], color=look.colour, marker=look.marker, ms=2.2, ls="",
            alpha=0.55,
        )  # fmt: skip
        cell.axhline(self.center, color=DARK, lw=0.9)
        for side in (-1, 1):
            cell.axhline(
                self.center + side * _WIDTH * self.spread, color=DARK, lw=0.9, ls=(0, (5, 3))
            )
        cell.set_xlim(*self.limits[0])
        cell.set_ylim(*self.limits[1])
        cell.grid(color="#e4e4e4", lw=0.6, zorder=0)
        cell.set_axisbelow(True)


def bland_altman(results: Results) -> list[Chart]:
    """Differences of each method from the baseline; none with one method or without pairs."""
    scenarios = list(usable_estimates(results))
    base = results.study.baseline
    panels = tuple(panel for methods in scenarios for panel in _panels(methods, base))
    if not panels:
        return []
    return [
        Chart(
            "bland_altman",
            f"Differences from {base} on the same data, {main_name(results)} (Bland-Altman plot)",
            "Each point is a data set with usable fits of both methods. Solid line: mean "
            "difference. Dashed: ± 1.96 standard deviations of the differences."
            + shown_words(results, len(scenarios)),
            "differences",
            panels[:MOST_PANELS],
            "Mean of both estimates",
            f"Estimate − estimate of {base}",
            (Key("line", "mean difference"), Key("dashed", "95% of differences")),
            (3.3, 2.75),
            3,
        )
    ]


def _panels(methods: Sequence[Estimates], base: str) -> list[DifferencePanel]:
    """The methods of one scenario but the baseline, on the same axes."""
    reference = next((one for one in methods if one.method == base), None)
    if reference is None:
        return []
    others = [one for one in methods if one.method != base]
    made = [panel for one in others if (panel := _panel(reference, one)) is not None]
    if not made:
        return []
    limits = (limits_of([p.x for p in made]), limits_of([p.y for p in made]))
    return [replace(panel, limits=limits) for panel in made]


def _panel(base: Estimates, one: Estimates) -> DifferencePanel | None:
    _, left, right = np.intersect1d(base.replication, one.replication, return_indices=True)
    if len(left) < 2:
        return None
    a, b = base.estimate[left], one.estimate[right]
    difference = b - a
    return DifferencePanel(
        title_of([one.method, one.place]),
        (a + b) / 2,
        difference,
        float(difference.mean()),
        float(difference.std(ddof=1)),
        one.method,
        one.where,
    )
