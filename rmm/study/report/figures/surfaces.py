"""A measure as a smooth surface over two numeric factors: filled contours, one panel per method."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from rmm.errors import StudyError
from rmm.study.design.estimand import Estimand
from rmm.study.measures.explain_scores import surface_of
from rmm.study.measures.response_surface import ENOUGH, ResponseSurface
from rmm.study.report.data.format_numbers import compact, decimals_for, fixed
from rmm.study.report.data.labels import is_numeric, readable
from rmm.study.report.data.results import Results
from rmm.study.report.figures.by_factor import MEASURED, Measured, rows_of
from rmm.study.report.figures.chart import MOST_PANELS, Chart, Pen

Array = np.ndarray[Any, Any]
#: Measures with surfaces, by their names in `MEASURED`.
_SHOWN = ("type1_error", "power", "coverage", "bias")
#: Levels of both factors: fewer are better seen as lines.
LEAST_LEVELS = 4
_POINTS = 60
_CONTOURS = 8


@dataclass(frozen=True, eq=False)
class SurfacePanel:
    """One method, at one combination of the other factors."""

    title: str
    surface: ResponseSurface
    points: tuple[tuple[float, float], ...]
    limits: tuple[float, float]
    decimals: int
    where: tuple[str, ...]

    def grid(self) -> tuple[Array, Array, Array, Array]:
        """x, y, values and Monte Carlo standard errors of a grid over the scenarios."""
        axes = [
            np.geomspace(*ends, _POINTS) if logs else np.linspace(*ends, _POINTS)
            for ends, logs in zip(self.surface.bounds, self.surface.log, strict=True)
        ]
        x, y = np.meshgrid(*axes)
        return x, y, *self.surface.at(x, y)

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        x, y, values, _ = self.grid()
        levels = MaxNLocator(_CONTOURS).tick_values(*self.limits)
        cell.contourf(x, y, values, levels=levels, cmap="Greys", alpha=0.75, extend="both")
        lines = cell.contour(x, y, values, levels=levels, colors="#222222", linewidths=0.6)
        cell.clabel(lines, fmt=lambda v: fixed(float(v), self.decimals), fontsize=7)
        cell.plot(
            *zip(*self.points, strict=True),
            ls="",
            marker=".",
            ms=4,
            color="#111111",
            clip_on=False,
            zorder=5,
        )
        for log, name in zip(self.surface.log, ("set_xscale", "set_yscale"), strict=True):
            if log:
                getattr(cell, name)("log")


def surfaces(results: Results) -> list[Chart]:
    """Of rejection, coverage and bias of the main estimand, over two factors of many numbers."""
    smooth = [f for f in results.factors if _smooth(results.filters.levels[f])]
    if len(smooth) != 2:
        return []
    chosen = [row for row in MEASURED if row.name in _SHOWN]
    made = [_chart(row, results, smooth) for row in chosen]
    return [chart for chart in made if chart is not None]


def _smooth(levels: Sequence[Any]) -> bool:
    return is_numeric(levels) and len(levels) >= LEAST_LEVELS


def _chart(measured: Measured, results: Results, smooth: Sequence[str]) -> Chart | None:
    estimand = results.study.estimands[0]
    table = rows_of(measured, estimand, results)
    table = table[table["value"].notna()]
    across, up = smooth
    others = [f for f in results.factors if f not in smooth]
    log = _log_factors(results, smooth)
    fitted = list(_fitted(table, measured, results, others, (across, up), log))
    if not fitted or len(fitted) > MOST_PANELS:
        return None
    grids = [np.stack(surface.at(*_corners(surface))) for *_, surface in fitted]
    values = np.concatenate([grid[0].ravel() for grid in grids])
    limits = float(values.min()), float(values.max())
    if limits[0] == limits[1]:
        return None
    errors = np.concatenate([grid[1].ravel() for grid in grids])
    decimals = decimals_for([(limits[1] - limits[0]) / _CONTOURS], most=4)
    panels = tuple(
        SurfacePanel(
            title,
            surface,
            tuple(rows[[across, up]].itertuples(index=False, name=None)),
            limits,
            decimals,
            where,
        )
        for title, where, rows, surface in fitted
    )
    return Chart(
        f"surface_{measured.name}",
        f"{measured.title} as a surface over {readable(across)} and {readable(up)}, "
        f"{estimand.parameter}",
        _caption(estimand, [surface for *_, surface in fitted], errors, decimals),
        measured.section,
        panels,
        readable(across),
        readable(up),
    )


def _fitted(
    table: pd.DataFrame,
    measured: Measured,
    results: Results,
    others: Sequence[str],
    smooth: tuple[str, str],
    log: Sequence[str],
) -> Any:
    """(title, classes, rows, surface) of each method and combination of other factors."""
    settings = [list(dict.fromkeys(table[f])) for f in others]
    for method, levels in itertools.product(results.methods, itertools.product(*settings)):
        rows = table[table["method"] == method]
        for factor, level in zip(others, levels, strict=True):
            rows = rows[rows[factor] == level]
        try:
            surface = surface_of(rows, *smooth, measured.measure, log)
        except StudyError:  # too few scenarios
            continue
        words = [f"{readable(f)} {compact(v)}" for f, v in zip(others, levels, strict=True)]
        where = (results.filters.method(method),)
        yield ", ".join([method, *words]), where, rows, surface


def _corners(surface: ResponseSurface) -> Any:
    x, y = (np.linspace(*ends, _POINTS) for ends in surface.bounds)
    return np.meshgrid(x, y)


def _log_factors(results: Results, smooth: Sequence[str]) -> list[str]:
    """Factors whose range the study file spreads by logarithms."""
    vary = results.study.config.get("vary", {})
    return [f for f in smooth if vary.get(f.removeprefix("factor."), {}).get("log")]


def _caption(
    estimand: Estimand, fitted: Sequence[ResponseSurface], errors: Array, decimals: int
) -> str:
    degrees = {1: "planes", 2: "quadratic", 3: "cubic"}
    kinds = " and ".join(degrees[d] for d in sorted({s.degree for s in fitted}))
    missed = sum(s.lack_of_fit < ENOUGH for s in fitted)
    text = (
        "Polynomials fitted to the scenarios (points) by least squares with weights 1/MCSE² "
        f"({kinds}; rates on the logit scale). Monte Carlo standard errors of the surface: median "
        f"{fixed(float(np.median(errors)), decimals + 1)}, largest "
        f"{fixed(float(errors.max()), decimals + 1)}."
    )
    if missed:
        text += (
            f" In {missed} of {len(fitted)} panels the scenarios differ from the surface by more "
            "than Monte Carlo errors (p < .05); its standard errors are larger by this."
        )
    return text
