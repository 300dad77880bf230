"""Drawing of the report's figures: what is drawn is decided in `figures`, how is decided here."""

from __future__ import annotations

import hashlib
import html
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmm.style import SETTINGS, Look

#: Where names stand beside their lines, in units of the distance between two levels.
_ROOM_FOR_NAMES = 0.46
_HEIGHT, _WIDTH = 2.75, 4.1
_GREY = "#dcdcdc"
_DOTTED: dict[str, Any] = {"color": "#555555", "lw": 0.9, "ls": (0, (1, 2))}


@dataclass(frozen=True)
class Line:
    """One method in one panel: levels (positions on the x axis), values and their intervals.

    `reference` holds (position, value) of published or exact values of this method.
    """

    method: str
    at: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    reference: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Band:
    """A horizontal band to read values against: filled, or its edges as dotted lines."""

    low: float
    high: float
    name: str
    filled: bool = True
    n: int = 0


@dataclass(frozen=True)
class Panel:
    """One pair of axes; panels of the same `scale` have the same limits."""

    title: str
    lines: tuple[Line, ...]
    bands: tuple[Band, ...] = ()
    target: float | None = None
    scale: str = ""


@dataclass(frozen=True)
class Axis:
    """The x axis, the same in all panels of a figure; `nominal` levels are not joined by lines."""

    name: str
    at: tuple[float, ...]
    labels: tuple[str, ...]
    names_methods: bool = False
    nominal: bool = False

    @property
    def step(self) -> float:
        """The smallest distance between two levels (1 for a single level)."""
        gaps = [b - a for a, b in zip(self.at, self.at[1:], strict=False)]
        return min(gaps, default=1.0)


@dataclass(frozen=True)
class Chart:
    """A whole figure: `name` is its file name, `caption` may hold simple HTML."""

    name: str
    title: str
    caption: str
    y: str
    axis: Axis
    panels: tuple[Panel, ...]
    whole_unit: bool = False
    target_name: str = ""


def save(chart: Chart, looks: Mapping[str, Look], folder: Path) -> str:
    """Draw a chart, write `NAME.svg` and `NAME.pdf` into `folder`, return the SVG for inlining.

    The same chart gives the same bytes: no dates, and ids derived from the chart's name.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context

    salt = hashlib.sha256(chart.name.encode()).hexdigest()[:8]
    with rc_context({**SETTINGS, "svg.hashsalt": salt}):
        figure = draw(chart, looks)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(
            folder / f"{chart.name}.pdf", metadata={"CreationDate": None, "Producer": None}
        )
    text = buffer.getvalue()
    (folder / f"{chart.name}.svg").write_text(text, encoding="utf-8")
    return _inline(text, chart, salt)


def draw(chart: Chart, looks: Mapping[str, Look]) -> Any:
    """The chart as a matplotlib Figure."""
    from matplotlib.figure import Figure

    columns = min(2, len(chart.panels))
    rows = math.ceil(len(chart.panels) / columns)
    width = 6.4 if columns == 1 else columns * _WIDTH
    height = 3.4 if columns == 1 else _HEIGHT
    figure = Figure(figsize=(width, rows * height + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    cells = [cell for row in grid for cell in row]
    for cell in cells[len(chart.panels) :]:
        cell.set_visible(False)
    limits = {panel.scale: _limits(chart, panel.scale) for panel in chart.panels}
    for number, (cell, panel) in enumerate(zip(cells, chart.panels, strict=False)):
        cell.set_ylim(*limits[panel.scale])
        _draw_panel(cell, panel, chart, looks)
        below = number + columns
        cell.tick_params(labelbottom=below >= len(chart.panels))
    figure.supylabel(chart.y, fontsize=9)
    figure.supxlabel(chart.axis.name, fontsize=9)
    _explain(figure, chart)
    return figure


def _explain(figure: Any, chart: Chart) -> None:
    """A legend of bands, target and references; the methods carry their names themselves."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = []
    if chart.target_name and any(panel.target is not None for panel in chart.panels):
        keys.append(Line2D([], [], color="#555555", lw=0.8, label=chart.target_name))
    bands = [band for panel in chart.panels for band in panel.bands]
    for band in {band.name: band for band in bands}.values():
        sizes = sorted({b.n for b in bands if b.name == band.name and b.n})
        span = " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else ""
        label = f"{band.name} (n = {span})" if span else band.name
        patch = Patch(color=_GREY, label=label)
        keys.append(patch if band.filled else Line2D([], [], **_DOTTED, label=label))
    if any(line.reference for panel in chart.panels for line in panel.lines):
        keys.append(Line2D([], [], color="black", lw=2.0, label="known value"))
    if keys:
        figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), frameon=False,
                      fontsize=8, handlelength=1.8, columnspacing=1.5)  # fmt: skip


def _draw_panel(cell: Any, panel: Panel, chart: Chart, looks: Mapping[str, Look]) -> None:
    axis = chart.axis
    for band in panel.bands:
        if band.filled:
            cell.axhspan(band.low, band.high, color=_GREY, lw=0, zorder=0)
        else:
            for edge in (band.low, band.high):
                cell.axhline(edge, **_DOTTED, zorder=1)
    if panel.target is not None:
        cell.axhline(panel.target, color="#555555", lw=0.8, zorder=1)
    most = 0.11 if axis.nominal else 0.035
    spread = 0.0 if axis.names_methods else min(most, 0.5 / max(1, len(panel.lines))) * axis.step
    for number, line in enumerate(panel.lines):
        shift = (number - (len(panel.lines) - 1) / 2) * spread
        _draw_line(cell, line, shift, looks[line.method], axis)
    cell.set_xticks(axis.at, _wrapped(axis.labels))
    first, last = axis.at[0], axis.at[-1]
    room = 0.5 if axis.names_methods else _ROOM_FOR_NAMES * max(axis.step, (last - first) or 1)
    cell.set_xlim(first - 0.15 * axis.step - (0.35 if axis.names_methods else 0), last + room)
    if not axis.names_methods:
        _name_lines(cell, panel, looks, last + 0.02 * (axis.at[-1] - axis.at[0]) + 0.1 * axis.step)
    cell.set_title(panel.title)
    cell.grid(axis="y", color="#e4e4e4", lw=0.6, zorder=0)
    cell.set_axisbelow(True)


def _wrapped(labels: Sequence[str]) -> list[str]:
    """Long labels on several lines, narrower the more there are."""
    width = max(9, 56 // len(labels))
    return [textwrap.fill(label, width, break_long_words=False) for label in labels]


def _draw_line(cell: Any, line: Line, shift: float, look: Look, axis: Axis) -> None:
    at = [x + shift for x in line.at]
    down = [v - low for v, low in zip(line.value, line.low, strict=True)]
    up = [high - v for v, high in zip(line.value, line.high, strict=True)]
    cell.errorbar(
        at, line.value, yerr=[down, up], color=look.colour, marker=look.marker, ms=4.5,
        ls="none" if axis.nominal else look.line, lw=1.4, elinewidth=1.0, capsize=2, zorder=3,
    )  # fmt: skip
    for x, value in line.reference:
        half = (0.05 if axis.nominal else 0.09) * axis.step
        cell.plot([x + shift - half, x + shift + half], [value, value], color="black", lw=2.0,
                  solid_capstyle="butt", zorder=4)  # fmt: skip


def _name_lines(cell: Any, panel: Panel, looks: Mapping[str, Look], x: float) -> None:
    """Write each method's name where its line ends, moved apart where they would touch."""
    low, high = cell.get_ylim()
    lines = [line for line in panel.lines if any(math.isfinite(v) for v in line.value)]
    ends = [next(v for v in reversed(line.value) if math.isfinite(v)) for line in lines]
    for line, y in zip(lines, spread_apart(ends, 0.075 * (high - low), low, high), strict=True):
        cell.text(x, y, line.method, color=looks[line.method].colour, va="center", fontsize=8,
                  fontweight="bold")  # fmt: skip


def spread_apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved as little as needed so that neighbours stand `gap` apart, in their order.

    Clusters that touch are centred on the mean of what they hold; then all are kept in
    [low, high] as far as there is room.
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    clusters: list[list[int]] = []
    for i in order:
        clusters.append([i])
        while len(clusters) > 1 and _touch(clusters[-2], clusters[-1], places, gap):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    moved = list(places)
    for cluster in clusters:
        for i, y in zip(cluster, _stack(cluster, places, gap), strict=True):
            moved[i] = y
    return _keep_inside(moved, order, gap, low + gap / 2, high - gap / 2)


def _stack(cluster: Sequence[int], places: Sequence[float], gap: float) -> list[float]:
    centre = sum(places[i] for i in cluster) / len(cluster)
    return [centre + (k - (len(cluster) - 1) / 2) * gap for k in range(len(cluster))]


def _touch(below: Sequence[int], above: Sequence[int], places: Sequence[float], gap: float) -> bool:
    return _stack(above, places, gap)[0] - _stack(below, places, gap)[-1] < gap


def _keep_inside(
    places: list[float], order: Sequence[int], gap: float, low: float, high: float
) -> list[float]:
    floor = low
    for i in order:
        places[i] = max(places[i], floor)
        floor = places[i] + gap
    ceiling = high
    for i in reversed(order):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def _limits(chart: Chart, scale: str) -> tuple[float, float]:
    """Limits of the y axes of a scale: whatever is drawn is in sight."""
    ys: list[float] = []
    for panel in (panel for panel in chart.panels if panel.scale == scale):
        for line in panel.lines:
            ys += [*line.value, *line.low, *line.high, *(v for _, v in line.reference)]
        ys += [edge for band in panel.bands for edge in (band.low, band.high)]
        ys += [] if panel.target is None else [panel.target]
    finite = [y for y in ys if math.isfinite(y)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = 0.06 * ((high - low) or 1.0)
    if not chart.whole_unit:
        return low - margin, high + margin
    return (0.0 if low < 0.3 else low - margin), min(1.02, high + margin)


def _inline(text: str, chart: Chart, salt: str) -> str:
    """The SVG without its XML prologue, scaling with the page, ids private to this figure."""
    body = text[text.index("<svg") :]
    end = body.index(">")
    head = "".join(
        f" {part}" for part in body[4:end].split() if not part.startswith(("width=", "height="))
    )
    body = body[end:]
    for quote in ('id="', 'href="#', "url(#"):
        body = body.replace(quote, f"{quote}{salt}-")
    return f'<svg role="img" aria-label="{html.escape(chart.title)}"{head}{body}'
