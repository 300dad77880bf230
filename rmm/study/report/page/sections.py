"""The parts of a report that hold measures, in their order: name -> heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmm.study.report.figures.chart import Drawn
from rmm.study.report.tables.measure_tables import Table

SECTIONS: dict[str, str] = {
    "calibration": "Calibration",
    "tests": "Tests and intervals",
    "estimates": "Estimates and standard errors",
    "scores": "Robust measures and proper scores",
    "differences": "Differences between methods",
    "factors": "Differences between scenarios",
    "confirmation": "Confirmed by another engine",
    "computation": "Convergence and time",
}

#: Tables with more rows than this are closed until a reader opens them.
LONG = 60


@dataclass(frozen=True)
class Section:
    """One part: its figures and tables with their numbers."""

    name: str
    heading: str
    figures: tuple[tuple[int, Drawn], ...]
    tables: tuple[tuple[int, Table], ...]


def sections(drawn: Sequence[Drawn], tables: Sequence[Table]) -> list[Section]:
    """Parts that hold something; figure 1, the headline, stands before them."""
    figures = [(i, d) for i, d in enumerate(drawn, start=1) if i > 1]
    order = list(SECTIONS)
    figures.sort(key=lambda pair: order.index(pair[1].chart.section))
    figures = [(i, d) for i, (_, d) in enumerate(figures, start=2)]
    placed = sorted(tables, key=lambda table: order.index(table.section))
    numbered = list(enumerate(placed, start=1))
    made = [
        Section(
            name,
            heading,
            tuple((i, d) for i, d in figures if d.chart.section == name),
            tuple((i, t) for i, t in numbered if t.section == name),
        )
        for name, heading in SECTIONS.items()
    ]
    return [section for section in made if section.figures or section.tables]
