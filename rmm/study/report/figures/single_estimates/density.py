"""Densities of estimates: one panel per scenario, a curve per method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import DARK, Chart, Key, Pen, method_keys
from rmm.study.report.figures.single_estimates.usable_estimates import (
    Array,
    Estimates,
    limits_of,
    main_name,
    shown_words,
    usable_estimates,
)

_GRID = 160  # points of a curve
_LEAST = 10  # estimates of a curve


@dataclass(frozen=True, eq=False)
class Curve:
    """The density of one method's estimates at the points of the axis."""

    method: str
    heights: Array
    where: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DensityPanel:
    """One scenario."""

    title: str
    at: Array
    curves: tuple[Curve, ...]
    truth: float
    where: tuple[str, ...]

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        for curve in self.curves:
            look = pen.looks[curve.method]
            made = cell.plot(self.at, curve.heights, color=look.colour, ls=look.line, lw=1.3)
            pen.tag(made, curve.where)
        if np.isfinite(self.truth):
            cell.axvline(self.truth, color=DARK, lw=0.8, zorder=1)
        cell.set_xlim(self.at[0], self.at[-1])
        cell.set_ylim(bottom=0)


def densities(results: Results) -> list[Chart]:
    """Densities of estimates of the main estimand; none of fewer than ten, or of equal ones."""
    scenarios = [
        [one for one in methods if len(one.estimate) >= _LEAST and np.ptp(one.estimate) > 0]
        for methods in usable_estimates(results)
    ]
    scenarios = [methods for methods in scenarios if methods]
    if not scenarios:
        return []
    panels = tuple(_panel(methods) for methods in scenarios)
    methods = [m for m in results.methods if any(c.method == m for p in panels for c in p.curves)]
    truth = (Key("line", "true value"),) if np.isfinite(panels[0].truth) else ()
    return [
        Chart(
            "density",
            f"Distribution of the estimates, {main_name(results)}",
            "Kernel density (Gaussian, Scott’s rule) of the estimates of all data sets. Estimates "
            "far from all others are outside the axes."
            + shown_words(results, len(scenarios), points=False),
            "estimates",
            panels,
            "Estimate",
            "Density",
            (*method_keys(methods), *truth),
        )
    ]


def _panel(methods: list[Estimates]) -> DensityPanel:
    low, high = limits_of([one.estimate for one in methods])
    at = np.linspace(low, high, _GRID)
    curves = tuple(Curve(m.method, _heights(m.estimate, at), m.where[:1]) for m in methods)
    first = methods[0]
    return DensityPanel(first.place, at, curves, first.truth, first.where[1:])


def _heights(estimates: Array, at: Array) -> Array:
    """The density at points of the axis; its width is that of the estimates inside the axis."""
    inside = estimates[(estimates >= at[0]) & (estimates <= at[-1])]
    if len(inside) < 2 or np.ptp(inside) == 0:
        return np.zeros_like(at)
    heights: Array = stats.gaussian_kde(inside)(at) * len(inside) / len(estimates)
    return heights
