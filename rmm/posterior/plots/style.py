"""How figures look: those of fits, and those of reports with one look per method.

Colours are those of Okabe and Ito, which readers with colour-blindness can tell apart; marker
and line style repeat the distinction, so that a figure survives a grey printer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of one method."""

    colour: str
    marker: str
    line: Any


LOOKS: tuple[Look, ...] = (
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", (0, (5, 2))),
    Look("#007A5A", "^", (0, (5, 2, 1, 2))),
    Look("#A8467F", "D", (0, (1, 1.5))),
    Look("#000000", "v", (0, (7, 2))),
    Look("#B07A00", "P", (0, (3, 1, 1, 1, 1, 1))),
    Look("#3D8FC4", "X", (0, (2, 2))),
)


def looks_of(methods: Sequence[str]) -> dict[str, Look]:
    """The look of each method, by its place in the study file: a method added last moves none.

    The first seven differ in all three; later ones repeat a colour with another marker and line.
    """
    return {method: _look(i) for i, method in enumerate(methods)}


def _look(place: int) -> Look:
    count = len(LOOKS)
    other = LOOKS[(place + place // count) % count]
    return Look(LOOKS[place % count].colour, other.marker, other.line)


#: Greys of everything that is no data: text, lines to read values against, fills.
INK, RULE, FILL = "#222222", "#8a8a8a", "#dcdcdc"

#: Settings of matplotlib for all figures; fonts become paths, so that a figure looks the same
#: everywhere, and the salt makes the ids in the SVG reproducible.
SETTINGS: Any = {
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
