"""What all figures of a report share: panels beside each other, their files, their SVG in the page.

A figure is a `Chart` of panels; a panel draws itself into a pair of axes. The files hold whole
figures; the page holds each panel by itself, so that panels stand below each other where the
window is narrow and go where the reader has chosen them away.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from rmm.errors import printable
from rmm.posterior.plots.style import SETTINGS, Look

#: More panels than this are a wall, not a figure; the tables hold them all.
MOST_PANELS = 12
#: On a phone the first screen shows so many at once: below each other, or small ones in pairs.
MOST_ON_PHONES, MOST_SMALL_ON_PHONES = 3, 8
GREY, DARK = "#dcdcdc", "#555555"
#: What dotted and dashed edges of bands look like, in figures and in their legends.
DOTTED: dict[str, Any] = {"color": DARK, "lw": 0.9, "ls": (0, (1, 2))}
DASHED: dict[str, Any] = {"color": DARK, "lw": 0.9, "ls": (0, (5, 3))}
#: Labels are the user's: a dollar sign in one is no mathematics.
_SETTINGS = {**SETTINGS, "text.parse_math": False}
_PART = re.compile(r'<g id="part ([a-z0-9 -]*)">')
_FONT = re.compile(r"font-family: [^;\"]*;|(?<=px) 'DejaVu Sans'(?=[;\"])")


@dataclass(frozen=True)
class Pen:
    """What panels draw with: the look of each method, and tags of what readers can choose."""

    looks: Mapping[str, Look]

    def tag(self, artists: Any, tokens: Sequence[str]) -> None:
        """Give artists (one or many) the classes of `rmm.study.report.data.filters`."""
        for artist in artists if isinstance(artists, list | tuple) else [artists]:
            artist.set_gid(f"part {' '.join(tokens)}")


class Panel(Protocol):
    """One pair of axes. `where` holds the classes of what all of it belongs to."""

    @property
    def title(self) -> str:
        """What it shows, above it."""

    @property
    def where(self) -> tuple[str, ...]:
        """Classes of the filters."""

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""


@dataclass(frozen=True)
class Key:
    """A row of the legend; `kind`: method, band, or a name in `_LINES` or `HATCHES`."""

    kind: str
    label: str


@dataclass(frozen=True)
class Chart:
    """A whole figure.

    Attributes
    ----------
    name : str
        File name.
    section : str
        Part of the report that it belongs to: a name in `rmm.study.report.page.sections`.
    size : (float, float)
        Width and height of one panel in inches.
        What is wider than a telephone scrolls in the page.
    order : tuple of int
        Numbers of the panels, those first that are farthest from what is right; empty if all
        matter the same.
    """

    name: str
    title: str
    caption: str
    section: str
    panels: tuple[Panel, ...]
    x: str = ""
    y: str = ""
    keys: tuple[Key, ...] = ()
    size: tuple[float, float] = (4.1, 2.75)
    columns: int = 2
    order: tuple[int, ...] = ()

    @property
    def points(self) -> int:
        """Width of one panel in points."""
        return round(72 * self.size[0])

    @property
    def kind(self) -> str:
        """How the page lays it out: wide, one (large), small or other panels."""
        if self.size[0] > 5:
            return "wide"
        if len(self.panels) == 1:
            return "one"
        return "small" if self.size[0] < 3 else ""

    @property
    def folded(self) -> frozenset[int]:
        """Numbers of the panels that a phone shows on request only."""
        most = MOST_SMALL_ON_PHONES if self.kind == "small" else MOST_ON_PHONES
        return frozenset((self.order or tuple(range(len(self.panels))))[most:])


@dataclass(frozen=True)
class Drawn:
    """A chart as the page holds it: (classes, SVG) of each panel."""

    chart: Chart
    panels: tuple[tuple[str, str], ...]


def save(chart: Chart, looks: Mapping[str, Look], folder: Path) -> Drawn:
    """Write `NAME.svg` and `NAME.pdf` of a chart into `folder`; give its panels for the page.

    The same chart gives the same bytes: no dates, and ids derived from the chart's name.
    """
    save_whole(chart, looks, *(folder / f"{chart.name}{ending}" for ending in (".svg", ".pdf")))
    return draw_panels(chart, looks)


def save_whole(chart: Chart, looks: Mapping[str, Look], *paths: Path) -> None:
    """Write a chart with its legend into files, each in the format of its ending: `FORMATS`."""
    matplotlib.use("Agg")
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": _salt(chart)}):
        figure = draw(chart, Pen(looks))
        figure.draw_without_rendering()  # places everything, once for all files
        figure.set_layout_engine("none")
        for path in paths:
            FORMATS[path.suffix](figure, path)


def _salt(chart: Chart) -> str:
    return hashlib.sha256(chart.name.encode()).hexdigest()[:8]


def _write_svg(figure: Any, path: Path) -> None:
    path.write_text(_svg(figure), encoding="utf-8")


def _make_printable(figure: Any) -> None:
    """Replace what cannot be printed in texts and labels of ticks: SVG and PDF cannot have it."""
    for text in figure.findobj(Text):
        if text.get_text() != (shown := printable(text.get_text())):
            text.set_text(shown)
    for axis in (axis for cell in figure.axes for axis in (cell.xaxis, cell.yaxis)):
        written = axis.get_major_formatter()
        if isinstance(written, FixedFormatter | FuncFormatter):
            axis.set_major_formatter(
                FuncFormatter(lambda x, at, form=written: printable(form(x, at)))
            )


def _write_pdf(figure: Any, path: Path) -> None:
    _make_printable(figure)
    figure.savefig(path, metadata={"CreationDate": None, "Producer": None})


def _write_png(figure: Any, path: Path) -> None:
    _make_printable(figure)
    figure.savefig(path, dpi=200, metadata={"Software": None})


#: Ending -> how a figure is written.
FORMATS: dict[str, Callable[[Any, Path], None]] = {
    ".svg": _write_svg,
    ".pdf": _write_pdf,
    ".png": _write_png,
}


@contextmanager
def drawing(salt: str, *, text: bool = False) -> Iterator[None]:
    """Settings of all figures; with `text`, words in an SVG stay text, for pages."""
    matplotlib.use("Agg")
    fonts = "none" if text else SETTINGS["svg.fonttype"]
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt, "svg.fonttype": fonts}):
        yield


def inline(figure: Any, label: str, salt: str) -> str:
    """The SVG of a whole figure for the page."""
    with drawing(salt, text=True):
        return _inline(_svg(figure), label, salt)


def draw_panels(chart: Chart, looks: Mapping[str, Look]) -> Drawn:
    """The panels of a chart for the page."""
    matplotlib.use("Agg")
    salt = _salt(chart)
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt, "svg.fonttype": "none"}):
        panels = [
            (
                " ".join(panel.where),
                _inline(
                    _svg(_alone(panel, chart, Pen(looks))),
                    f"{chart.title}: {panel.title}",
                    f"{salt}-{number}",
                ),
            )
            for number, panel in enumerate(chart.panels)
        ]
    return Drawn(chart, tuple(panels))


def draw(chart: Chart, pen: Pen) -> Any:
    """The whole chart as a matplotlib Figure, with a legend of what the lines do not say."""
    columns = min(chart.columns, len(chart.panels))
    rows = math.ceil(len(chart.panels) / columns)
    width, height = chart.size
    figure = Figure(figsize=(columns * width, rows * height + 0.3), layout="constrained")
    cells = [c for row in figure.subplots(rows, columns, squeeze=False) for c in row]
    for cell, panel in zip(cells, chart.panels, strict=False):
        panel.draw(cell, pen)
        title = _short(panel.title)
        # Matplotlib wraps a text between dollars as a formula, whatever `text.parse_math` is.
        plain = title.count("$") < 2
        cell.set_title(title if plain else textwrap.fill(title, _LINE), wrap=plain)
    for cell in cells[len(chart.panels) :]:
        cell.set_visible(False)
    figure.supylabel(chart.y, fontsize=9)
    figure.supxlabel(chart.x, fontsize=9)
    if chart.keys:
        figure.legend(
            handles=[_handle(key, pen) for key in chart.keys],
            loc="outside upper left",
            ncols=min(3, len(chart.keys)),
            frameon=False,
            fontsize=8,
            handlelength=1.8,
            columnspacing=1.5,
        )
    return figure


def method_keys(methods: Sequence[str]) -> tuple[Key, ...]:
    """The legend of methods, for figures whose lines do not end beside their names."""
    return tuple(Key("method", method) for method in methods)


def _alone(panel: Panel, chart: Chart, pen: Pen) -> Any:
    """One panel as a figure of its own, its title left to the page."""
    figure = Figure(figsize=chart.size, layout="constrained")
    cell = figure.subplots()
    panel.draw(cell, pen)
    cell.set_ylabel(chart.y)
    cell.set_xlabel(chart.x)
    return figure


#: Characters of a line of a title that has dollars.
_LINE = 30


def _short(title: str) -> str:
    return textwrap.shorten(title, 60, placeholder=" …")


def _handle(key: Key, pen: Pen) -> Any:
    if key.kind == "method":
        look = pen.looks[key.label]
        return Line2D(
            [],
            [],
            color=look.colour,
            marker=look.marker,
            ms=4.5,
            ls=look.line,
            label=_short(key.label),
        )
    if key.kind in _LINES:
        return Line2D([], [], **_LINES[key.kind], label=key.label)
    if key.kind == "band":
        return Patch(color=GREY, label=key.label)
    return Patch(**HATCHES[key.kind], label=key.label)


_LINES: dict[str, dict[str, Any]] = {
    "dotted": DOTTED,
    "dashed": DASHED,
    "line": {"color": DARK, "lw": 0.8},
    "bar": {"color": "black", "lw": 2.0},
    "pale": {"color": "#b9b9b9", "lw": 1.4},
    "dark": {"color": "#222222", "lw": 1.4},
}
#: Fills that are told apart without colour.
HATCHES: dict[str, dict[str, Any]] = {
    "not_converged": {"facecolor": "#ffffff", "edgecolor": "#333333", "hatch": "////", "lw": 0.6},
    "failed": {"facecolor": "#333333", "edgecolor": "#333333", "lw": 0.6},
    "timeout": {"facecolor": "#bbbbbb", "edgecolor": "#333333", "lw": 0.6},
    "fallback": {"facecolor": "#ffffff", "edgecolor": "#333333", "hatch": "....", "lw": 0.6},
}


def _svg(figure: Any) -> str:
    """Text of a figure; tags of artists become classes, as an id may stand only once."""
    _make_printable(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _PART.sub(r'<g class="\1">', buffer.getvalue())


def _inline(text: str, label: str, salt: str) -> str:
    """SVG without its XML prologue, with ids of its own; size and font are the page's."""
    body = text[text.index("<svg") :]
    end = body.index(">")
    box = re.search(r'viewBox="[\d. ]+"', body[:end])
    body = _FONT.sub("", re.sub(r"<metadata>.*?</metadata>", "", body[end:], flags=re.DOTALL))
    for quote in ('id="', 'href="#', "url(#"):
        body = body.replace(quote, f"{quote}{salt}-")
    head = f'role="img" aria-label="{html.escape(label)}" {box[0] if box else ""}'
    return f"<svg {head}{re.sub(r'\n +', '\n', body)}"
