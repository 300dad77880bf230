"""Dot-and-interval panels: methods by the levels of a factor, against bands of what is right."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmm.posterior.plots.style import Look
from rmm.study.report.figures.chart import DARK, DASHED, DOTTED, GREY, Key, Pen

#: Where names stand beside their lines, in units of the distance between two levels.
_ROOM_FOR_NAMES = 0.46
#: A line with more values is drawn in one piece, and its axis names some of its levels only.
MOST_DOTS = 60
_MOST_TICKS = 9
_EDGES = {"dotted": DOTTED, "dashed": DASHED}


@dataclass(frozen=True)
class Dot:
    """A value and its interval; `reference` is its published or exact value, nan for none."""

    at: float
    value: float
    low: float
    high: float
    reference: float = math.nan
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One method in one panel; `where` is the class of the method."""

    method: str
    dots: tuple[Dot, ...]
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Band:
    """A horizontal band to read values against: `kind` is band (filled), dotted or dashed."""

    low: float
    high: float
    name: str
    kind: str = "band"
    n: int = 0


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
class DotPanel:
    """One pair of axes; `limits` of the y axis are common to panels that are to be compared."""

    title: str
    lines: tuple[Line, ...]
    axis: Axis
    bands: tuple[Band, ...] = ()
    target: float | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    log: bool = False
    where: tuple[str, ...] = ()

    @property
    def distance(self) -> float:
        """The largest distance of a value from the target; 0 without a target."""
        if self.target is None:
            return 0.0
        values = (dot.value for line in self.lines for dot in line.dots)
        return max((abs(v - self.target) for v in values if math.isfinite(v)), default=0.0)

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        if self.log:
            cell.set_yscale("log")
            cell.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
            cell.yaxis.set_minor_formatter(lambda v, _: f"{v:g}" if _said(v) else "")
        cell.set_ylim(*self.limits)
        axis = self.axis
        most = 0.11 if axis.nominal else 0.035
        spread = 0.0 if axis.names_methods else min(most, 0.5 / max(1, len(self.lines))) * axis.step
        for number, line in enumerate(self.lines):
            shift = (number - (len(self.lines) - 1) / 2) * spread
            _draw_line(cell, line, shift, pen, axis)
        ticks = _ticks(axis)
        cell.set_xticks([axis.at[i] for i in ticks], _wrapped([axis.labels[i] for i in ticks]))
        first, last = axis.at[0], axis.at[-1]
        room = 0.5 if axis.names_methods else _ROOM_FOR_NAMES * max(axis.step, (last - first) or 1)
        # Lines of many methods are wider apart than the usual margin.
        widest = (len(self.lines) - 1) / 2 * spread + 0.04 * axis.step
        left = first - max(0.15 * axis.step, widest) - (0.35 if axis.names_methods else 0)
        cell.set_xlim(left, last + room)
        # Bands end where the names begin.
        self._background(cell, (last + 0.08 * axis.step - left) / (last + room - left))
        if not axis.names_methods:
            _name_lines(cell, self, pen, last + 0.02 * (last - first) + 0.1 * axis.step)

    def _background(self, cell: Any, end: float) -> None:
        end = 1.0 if self.axis.names_methods else end
        for band in self.bands:
            if band.kind == "band":
                cell.axhspan(band.low, band.high, 0, end, color=GREY, lw=0, zorder=0)
            else:
                for edge in (band.low, band.high):
                    cell.axhline(edge, 0, end, **_EDGES[band.kind], zorder=1)
        if self.target is not None:
            cell.axhline(self.target, 0, end, color=DARK, lw=0.8, zorder=1)
        cell.grid(axis="y", color="#e4e4e4", lw=0.6, zorder=0)
        cell.set_axisbelow(True)


def limits(panels: Sequence[DotPanel], whole_unit: bool = False) -> tuple[float, float]:
    """Limits of the y axes of panels: whatever is drawn is in sight."""
    ys: list[float] = []
    for panel in panels:
        for line in panel.lines:
            ys += [y for d in line.dots for y in (d.value, d.low, d.high, d.reference)]
        ys += [edge for band in panel.bands for edge in (band.low, band.high)]
        ys += [] if panel.target is None else [panel.target]
    finite = [y for y in ys if math.isfinite(y)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = 0.06 * ((high - low) or 1.0)
    if not whole_unit:
        return low - margin, high + margin
    return (0.0 if low < 0.3 else low - margin), min(1.02, high + margin)


def keys(panels: Sequence[DotPanel], target_name: str = "") -> tuple[Key, ...]:
    """The legend of bands, target and known values; methods carry their names themselves."""
    made = []
    if target_name and any(panel.target is not None for panel in panels):
        made.append(Key("line", target_name))
    bands = [band for panel in panels for band in panel.bands]
    for band in {band.name: band for band in bands}.values():
        sizes = sorted({b.n for b in bands if b.name == band.name and b.n})
        span = " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else ""
        made.append(Key(band.kind, f"{band.name} (n = {span})" if span else band.name))
    dots = (dot for panel in panels for line in panel.lines for dot in line.dots)
    if any(math.isfinite(dot.reference) for dot in dots):
        made.append(Key("bar", "known value"))
    return tuple(made)


def _said(value: float) -> bool:
    """Whether a minor tick of a log scale has its number: those at 2 and 5 times a power of 10."""
    return f"{value:e}"[0] in "25"


def panel_size(methods: int, names_methods: bool) -> tuple[float, float]:
    """Inches of a figure with one panel; wide enough for the names of methods on its axis."""
    return (max(4.6, 1.1 * methods) if names_methods else 4.6, 2.9)


def _wrapped(labels: Sequence[str]) -> list[str]:
    """Long labels on several lines, narrower the more there are."""
    width = max(9, 56 // len(labels))
    return [
        textwrap.fill(textwrap.shorten(label, 3 * width, placeholder="…") or label[:width], width)
        for label in labels
    ]


def _ticks(axis: Axis) -> Sequence[int]:
    """Numbers of the levels that are named: all, or some at equal distances."""
    count = len(axis.labels)
    return range(count) if count <= MOST_DOTS else range(0, count, -(-count // _MOST_TICKS))


def _draw_line(cell: Any, line: Line, shift: float, pen: Pen, axis: Axis) -> None:
    look = pen.looks[line.method]
    if len(line.dots) > MOST_DOTS:
        pen.tag(_draw_whole(cell, line.dots, shift, look, axis), line.where)
        return
    if not axis.nominal and not axis.names_methods:
        for a, b in zip(line.dots, line.dots[1:], strict=False):
            made = cell.plot(
                [a.at + shift, b.at + shift],
                [a.value, b.value],
                color=look.colour,
                ls=look.line,
                lw=1.4,
                zorder=3,
            )
            pen.tag(made, (*line.where, *a.where, *b.where))
    for dot in line.dots:
        pen.tag(_draw_dot(cell, dot, dot.at + shift, look, axis), (*line.where, *dot.where))


def _draw_whole(cell: Any, dots: Sequence[Dot], shift: float, look: Look, axis: Axis) -> list[Any]:
    """All dots of a line as one path each for intervals, values and references."""
    xs = [dot.at + shift for dot in dots]
    gaps = [x for x in xs for _ in range(3)]
    bars = [y for dot in dots for y in (dot.low, dot.high, math.nan)]
    made = cell.plot(gaps, bars, color=look.colour, lw=0.6, alpha=0.5, zorder=3)
    style = "none" if axis.nominal else look.line
    values = [dot.value for dot in dots]
    made += cell.plot(
        xs, values, color=look.colour, marker=look.marker, ms=2.0, ls=style, lw=0.9, zorder=3
    )
    if any(math.isfinite(dot.reference) for dot in dots):
        references = [dot.reference for dot in dots]
        made += cell.plot(xs, references, color="black", lw=1.2, zorder=4)
    return list(made)


def _draw_dot(cell: Any, dot: Dot, x: float, look: Look, axis: Axis) -> list[Any]:
    made = cell.plot([x, x], [dot.low, dot.high], color=look.colour, lw=1.0, zorder=3)
    made += cell.plot(
        [x], [dot.value], color=look.colour, marker=look.marker, ms=4.5, ls="none", zorder=3
    )
    if math.isfinite(dot.reference):
        half = (0.05 if axis.nominal else 0.09) * axis.step
        made += cell.plot(
            [x - half, x + half],
            [dot.reference] * 2,
            color="black",
            lw=2.0,
            solid_capstyle="butt",
            zorder=4,
        )
    return list(made)


def _name_lines(cell: Any, panel: DotPanel, pen: Pen, x: float) -> None:
    """Write each method's name where its line ends, moved apart where they would touch."""
    low, high = cell.get_ylim()
    lines = [line for line in panel.lines if any(math.isfinite(d.value) for d in line.dots)]
    ends = [next(d.value for d in reversed(line.dots) if math.isfinite(d.value)) for line in lines]
    if panel.log:
        low, high, ends = math.log(low), math.log(high), [math.log(y) for y in ends]
    for line, y in zip(lines, spread_apart(ends, 0.075 * (high - low), low, high), strict=True):
        name = line.method if len(line.method) <= 20 else line.method[:19] + "…"
        text = cell.text(
            x,
            math.exp(y) if panel.log else y,
            name,
            va="center",
            fontsize=8,
            color=pen.looks[line.method].colour,
            fontweight="bold",
        )
        pen.tag(text, line.where)


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
