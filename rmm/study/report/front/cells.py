"""Cells and columns of the table of methods."""

from __future__ import annotations

from dataclasses import dataclass

from rmm.study.report.data.format_numbers import MISSING
from rmm.study.report.front.verdicts import Verdict

MARKS = {
    Verdict.FINE: "✓",
    Verdict.CONSERVATIVE: "✓",
    Verdict.BORDERLINE: "○",
    Verdict.HIGH: "▲",
    Verdict.LOW: "▼",
}


@dataclass(frozen=True)
class Cell:
    """A number with its mark; `words` say the verdict to readers who hear the page."""

    text: str
    mark: str = ""
    words: str = ""
    fault: bool = False
    pale: bool = False

    @property
    def empty(self) -> bool:
        """Whether the method has no such number."""
        return self.text == MISSING


EMPTY = Cell(MISSING)


@dataclass(frozen=True)
class Column:
    """A column: `group` spans neighbours with the same; `target` stands under the heading."""

    group: str
    heading: str
    target: str
    cells: tuple[Cell, ...]
