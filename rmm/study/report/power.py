"""Figures of a power study: points, curves with their bands, and the sizes for the target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmm.study.power import Power, PowerCurve, curves_from
from rmm.study.report.figures import MOST_PANELS, is_null, readable
from rmm.study.report.numbers import compact, wilson
from rmm.study.report.results import Results
from rmm.style import FILL, RULE, SETTINGS, Look, looks_of

_COLUMNS, _WIDTH, _HEIGHT = 2, 4.1, 2.9
CAPTION = (
    "Share of replications that reject, by size. Points: simulated, with 95% Monte Carlo intervals "
    "(Wilson). Lines: probit regression on the square root of the size, with its 95% band; none "
    "where the points do not determine one, dotted where they speak against it. Bars at the "
    "target: the size for it, with its 95% interval."
)


def curves_of(results: Results) -> list[PowerCurve]:
    """The curves of a power study from its results; empty for another study."""
    said = results.config.get("power")
    if not said:
        return []
    power = asked(said, results)
    estimand = next(e for e in results.config["estimands"] if e["parameter"] == power.parameter)
    scenarios = results.scenarios.rename(columns=lambda name: name.removeprefix("factor."))
    records = scenarios.to_dict("records")
    factors = {str(r["scenario"]): {str(k): v for k, v in r.items() if k != "scenario"}
               for r in records}  # fmt: skip
    null = {s for s in factors if is_null(results, str(s), {"null": 0.0, **estimand})}
    return curves_from(power, results.performance, factors, null)


def asked(said: Mapping[str, Any], results: Results) -> Power:
    """What the study asks, from its resolved file."""
    methods = tuple(said["methods"]) or tuple(results.methods)
    return Power(
        said["parameter"], said["alpha"], said["target"], said["size"], methods, search=None
    )


def power_figure(results: Results) -> Any:
    """Power curves as a matplotlib Figure, a panel per combination of the other factors.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where the study asks for no power.
    """
    curves = curves_of(results)
    if not curves:
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    power = asked(results.config["power"], results)
    panels: dict[str, list[PowerCurve]] = {}
    for curve in curves:
        panels.setdefault(_title(curve), []).append(curve)
    shown = list(panels.items())[:MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    with rc_context(SETTINGS):
        figure = Figure(
            figsize=(max(6.4, columns * _WIDTH), rows * _HEIGHT + 0.4), layout="constrained"
        )
        cells = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True).ravel()
        looks = looks_of(results.methods)
        for cell, (title, here) in zip(cells, shown, strict=False):
            _panel(cell, title, here, power, looks)
        for cell in cells[len(shown) :]:
            cell.set_visible(False)
        figure.supxlabel(readable(power.size), fontsize=9)
        figure.supylabel(f"Power of the test of {power.parameter}", fontsize=9)
        _legend(figure, curves, looks)
    return figure


def _title(curve: PowerCurve) -> str:
    return ", ".join(f"{readable(f)} {compact(v)}" for f, v in curve.setting.items())


def _panel(
    cell: Any, title: str, curves: Sequence[PowerCurve], power: Power, looks: Mapping[str, Look]
) -> None:
    cell.axhline(power.target, color=RULE, lw=0.8, zorder=1)
    for number, found in enumerate(curves):
        _points(cell, found, looks[found.method])
        if found.curve is not None:
            _curve(cell, found, looks[found.method])
        _size(cell, found, power.target, looks[found.method], number)
    cell.set_ylim(0, 1.02)
    cell.set_title(title)
    cell.grid(axis="y", color="#e4e4e4", lw=0.6, zorder=0)
    cell.set_axisbelow(True)


def _points(cell: Any, found: PowerCurve, look: Look) -> None:
    points = [p for p in found.points if p.n]
    ends = [wilson(p.power, p.n) for p in points]
    bars = [[p.power - low for p, (low, _) in zip(points, ends, strict=True)],
            [high - p.power for p, (_, high) in zip(points, ends, strict=True)]]  # fmt: skip
    cell.errorbar([p.size for p in points], [p.power for p in points], yerr=bars, ls="none",
                  color=look.colour, marker=look.marker, ms=4.5, elinewidth=1.0, capsize=2,
                  zorder=4)  # fmt: skip


def _curve(cell: Any, found: PowerCurve, look: Look) -> None:
    assert found.curve is not None
    first, last = np.sqrt(found.curve.studied)
    grid = np.linspace(first, last, 101) ** 2
    middle, low, high = found.curve.at(grid)
    cell.fill_between(grid, low, high, color=FILL, lw=0, alpha=0.6, zorder=2)
    for edge in (low, high):
        cell.plot(grid, edge, color=look.colour, lw=0.5, zorder=3)
    line = look.line if found.curve.trusted else (0, (1, 3))
    cell.plot(grid, middle, color=look.colour, ls=line, lw=1.4, zorder=3)


def _size(cell: Any, found: PowerCurve, target: float, look: Look, number: int) -> None:
    """The interval of the size, a little below the target for each method in turn."""
    size = found.size(target)
    first, last = size.studied
    low, high = max(size.low, first), min(size.high, last)
    if found.curve is None or math.isnan(size.value) or low > high:
        return
    y = target - 0.03 * (number + 1)
    cell.plot([low, high], [y, y], color=look.colour, lw=2.0, solid_capstyle="butt", zorder=5)
    if first <= size.value <= last:
        cell.plot([size.value], [y], color=look.colour, marker="|", ms=8, mew=1.6, zorder=5)


def _legend(figure: Any, curves: Sequence[PowerCurve], looks: Mapping[str, Look]) -> None:
    from matplotlib.lines import Line2D

    methods = list(dict.fromkeys(curve.method for curve in curves))
    keys = [Line2D([], [], color=looks[m].colour, marker=looks[m].marker, ls=looks[m].line,
                   ms=4.5, lw=1.4, label=m) for m in methods]  # fmt: skip
    figure.legend(handles=keys, loc="outside upper left", ncols=min(4, len(keys)), frameon=False,
                  fontsize=8, handlelength=3)  # fmt: skip
