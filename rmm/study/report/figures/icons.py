"""Small pictures of lines and markers for the page: how each method and band is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rmm.posterior.plots.style import Look

_KINDS = {
    "band": '<rect x="1" y="2" width="26" height="10" fill="#dcdcdc"/>',
    "dotted": '<path d="M1 7h26" stroke="#555" stroke-width="1.4" stroke-dasharray="1.4 2.8"/>',
    "dashed": '<path d="M1 7h26" stroke="#555" stroke-width="1.4" stroke-dasharray="6 3.5"/>',
    "line": '<path d="M1 7h26" stroke="#555" stroke-width="1"/>',
    "bar": '<path d="M6 7h16" stroke="#000" stroke-width="2.6"/>',
    "pale": '<path d="M1 7h26" stroke="#b9b9b9" stroke-width="2"/>',
    "dark": '<path d="M1 7h26" stroke="#222" stroke-width="2"/>',
    "not_converged": '<path d="M3 2h22v10h-22zM6 12l6-10M12 12l6-10M18 12l6-10" fill="none" '
    'stroke="#333"/>',
    "failed": '<rect x="3" y="2" width="22" height="10" fill="#333"/>',
    "timeout": '<rect x="3" y="2" width="22" height="10" fill="#bbb" stroke="#333"/>',
    "fallback": '<path d="M3 2h22v10h-22z" fill="none" stroke="#333"/><path d="M6 5h17M6 9h17" '
    'stroke="#333" stroke-width="1.6" stroke-dasharray="1.6 3"/>',
}
_MARKERS = {
    "o": '<circle cx="16" cy="7" r="3.6"/>',
    "s": '<path d="M12.6 3.6h6.8v6.8h-6.8z"/>',
    "^": '<path d="M16 2.8l4.2 7.8h-8.4z"/>',
    "v": '<path d="M16 11.2l4.2-7.8h-8.4z"/>',
    "D": '<path d="M16 2.4l4.6 4.6l-4.6 4.6l-4.6-4.6z"/>',
    "P": '<path d="M14.6 3h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z"/>',
    "X": '<path d="M12.4 5l1.6-1.6l2 2l2-2l1.6 1.6l-2 2l2 2l-1.6 1.6l-2-2l-2 2l-1.6-1.6l2-2z"/>',
}


@dataclass(frozen=True)
class Icons:
    """SVG of methods and of rows of legends; what they say stands beside them in words."""

    looks: Mapping[str, Look]

    def key(self, kind: str, label: str) -> str:
        """A row of a legend: `charts.Key`."""
        return self.method(label) if kind == "method" else _svg(28, _KINDS[kind])

    def method(self, name: str) -> str:
        """Line and marker of a method."""
        look = self.looks[name]
        dashes = f' stroke-dasharray="{_dashes(look.line)}"' if look.line != "-" else ""
        line = f'<path d="M1 7h30" stroke="{look.colour}" stroke-width="1.8"{dashes}/>'
        return _svg(32, f'{line}<g fill="{look.colour}">{_MARKERS[look.marker]}</g>')


def _dashes(line: Any) -> str:
    return " ".join(f"{1.6 * part:g}" for part in line[1])


def _svg(width: int, inside: str) -> str:
    return f'<svg width="{width}" height="14" aria-hidden="true">{inside}</svg>'
