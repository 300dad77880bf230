"""Heat maps: a measure over two factors, one panel per method, the numbers written into it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.patches import Rectangle

from rmm.study.measures.measures import RATES
from rmm.study.report.data.format_numbers import MISSING, compact, decimals_for, fixed, rate
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import Results
from rmm.study.report.figures.by_factor import MEASURED, Measured, rows_of
from rmm.study.report.figures.chart import Chart, Pen

_SHOWN = ("type1_error", "power", "bias")
#: A map with more rows or columns has too many numbers to read.
MOST_LEVELS = 40


@dataclass(frozen=True)
class Cell:
    """A number at (column, row); `shade` from 0, white, to 1, dark."""

    column: int
    row: int
    text: str
    shade: float
    where: tuple[str, ...]


@dataclass(frozen=True)
class HeatPanel:
    """One method."""

    title: str
    cells: tuple[Cell, ...]
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    where: tuple[str, ...]

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        for one in self.cells:
            grey = 1 - 0.72 * one.shade
            box = Rectangle(
                (one.column - 0.5, one.row - 0.5),
                1,
                1,
                facecolor=(grey,) * 3,
                edgecolor="white",
                lw=1.2,
            )
            text = cell.text(
                one.column,
                one.row,
                one.text,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if grey < 0.55 else "#111111",
            )
            pen.tag([cell.add_patch(box), text], one.where)
        cell.set_xlim(-0.5, len(self.columns) - 0.5)
        cell.set_ylim(-0.5, len(self.rows) - 0.5)
        cell.set_xticks(range(len(self.columns)), self.columns)
        cell.set_yticks(range(len(self.rows)), self.rows)
        cell.tick_params(length=0)
        for side in ("left", "bottom"):
            cell.spines[side].set_visible(False)


def heat_maps(results: Results) -> list[Chart]:
    """Of rejection and bias of the main estimand, in studies of just two factors."""
    if len(results.factors) != 2:
        return []
    if max(len(levels) for levels in results.filters.levels.values()) > MOST_LEVELS:
        return []
    made = [_chart(row, results) for row in MEASURED if row.name in _SHOWN]
    return [chart for chart in made if chart is not None]


def _chart(measured: Measured, results: Results) -> Chart | None:
    estimand = results.study.estimands[0]
    table = rows_of(measured, estimand, results)
    table = table[table["value"].notna()]
    across, down = results.factors
    if min(table[across].nunique(), table[down].nunique()) < 2:
        return None
    target = measured.target(estimand) if measured.target else 0.0
    far = float((table["value"] - target).abs().max()) or 1.0
    show = _shown(measured, table["mcse"].tolist(), table["value"].tolist())
    panels = [
        _panel(
            method, table[table["method"] == method].to_dict("records"), results, target, far, show
        )
        for method in results.methods
        if (table["method"] == method).any()
    ]
    levels = results.filters.levels
    size = (max(3.4, 0.75 * len(levels[across]) + 0.9), max(1.9, 0.34 * len(levels[down]) + 1.0))
    caption = (
        f"The darker, the farther from {compact(target)}. Below rates of 0 and 1: the other end of "
        "their 95% interval (Wilson). Standard errors: see the tables."
        if measured.proportion
        else f"The darker, the farther from {compact(target)}. Standard errors: see the tables."
    )
    return Chart(
        f"heat_{measured.name}",
        f"{measured.title} by {readable(across)} and {readable(down)}, {estimand.parameter}",
        caption,
        measured.section,
        tuple(panels),
        readable(across),
        readable(down),
        (),
        size,
    )


def _shown(measured: Measured, mcse: Sequence[float], values: Sequence[float]) -> Any:
    decimals = decimals_for(mcse, values, 3)
    return (lambda v: rate(v, decimals)) if measured.proportion else lambda v: fixed(v, decimals)


def _panel(
    method: str,
    rows: Sequence[Mapping[Any, Any]],
    results: Results,
    target: float,
    far: float,
    show: Any,
) -> HeatPanel:
    across, down = results.factors
    columns, lines = (tuple(map(compact, results.filters.levels[f])) for f in (across, down))
    cells = tuple(
        Cell(
            columns.index(compact(row[across])),
            lines.index(compact(row[down])),
            _text(row, show),
            abs(row["value"] - target) / far,
            results.filters.scenario(row),
        )
        for row in rows
    )
    return HeatPanel(method, cells, columns, lines, (results.filters.method(method),))


def _text(row: Mapping[Any, Any], show: Any) -> str:
    """A value; a rate of 0 or 1 with the other end of its interval below it."""
    value = float(row["value"])
    if not math.isfinite(value):
        return MISSING
    if row["measure"] in RATES and value in (0, 1):
        end = f"≤ {show(row['upper'])}" if value == 0 else f"≥ {show(row['lower'])}"
        return f"{show(value)}\n{end}"
    return str(show(value))
