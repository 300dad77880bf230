"""Shares of factors in the differences between scenarios: a row per source, a mark per method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rmm.errors import StudyError
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.variance_shares import CONFOUNDED, NOISE, TOTAL
from rmm.study.report.data.explained import SCENARIOS, explained
from rmm.study.report.data.labels import source_label
from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import DARK, Chart, Pen, method_keys

_Z = 1.959964
#: Ends of the axis, in per cent: intervals of shares of next to nothing may go on.
_ENDS = (-45.0, 145.0)
#: Sources that are drawn; the table has all.
MOST_SOURCES = 14


@dataclass(frozen=True)
class Mark:
    """The share of a source by one method, in per cent."""

    source: int
    method: str
    value: float
    error: float
    where: tuple[str, ...]


@dataclass(frozen=True)
class SharePanel:
    """One measure."""

    title: str
    sources: tuple[str, ...]
    methods: tuple[str, ...]
    marks: tuple[Mark, ...]
    where: tuple[str, ...] = ()

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        step = 0.7 / max(1, len(self.methods))
        for mark in self.marks:
            look = pen.looks[mark.method]
            place = self.methods.index(mark.method) - (len(self.methods) - 1) / 2
            y = mark.source + step * place
            low, high = (mark.value + sign * _Z * mark.error for sign in (-1, 1))
            line = cell.plot([low, high], [y, y], color=look.colour, lw=1.2, zorder=2)
            dot = cell.plot(
                [mark.value], [y], color=look.colour, marker=look.marker, ms=4.5, ls="", zorder=3
            )
            pen.tag([*line, *dot], mark.where)
        low, high = cell.get_xlim()
        cell.set_xlim(max(low, _ENDS[0]), min(high, _ENDS[1]))
        cell.axvline(0, color=DARK, lw=0.8, zorder=1)
        cell.set_yticks(range(len(self.sources)), self.sources)
        cell.set_ylim(len(self.sources) - 0.5, -0.5)
        cell.grid(axis="x", color="#e4e4e4", lw=0.6, zorder=0)
        cell.tick_params(axis="y", length=0)
        cell.set_axisbelow(True)


def factor_shares(results: Results) -> list[Chart]:
    """One chart, a panel for each measure and level of the main estimand."""
    if len(results.scenarios) not in SCENARIOS:
        return []
    try:
        found = explained(results)
    except StudyError:  # one factor, or measures without numbers
        return []
    found = found[(found["source"] != TOTAL) & found["share"].notna()]
    panels = []
    for _, rows in found.groupby(["measure", "alpha"], sort=False, dropna=False):
        measure, alpha = rows["measure"].iloc[0], float(rows["alpha"].iloc[0])
        label = MEASURES[measure].formula[0].partition(":")[0]
        title = label if math.isnan(alpha) else f"{label}, α = {alpha:g}"
        panels.append(_panel(results, title, rows))
    if not panels:
        return []
    most = max(len(panel.sources) for panel in panels)
    estimand = results.study.estimands[0].parameter
    return [
        Chart(
            "factor_shares",
            f"Which factors explain the differences between scenarios, {estimand}",
            "Shares of the variance of a measure over the scenarios; lines: 95% Monte Carlo "
            "intervals, which may go on beyond the axis. The Monte Carlo noise is subtracted from "
            "the others and has its own row.",
            "factors",
            tuple(panels),
            "share, %",
            "",
            method_keys(results.methods),
            (4.1, max(2.2, 0.34 * most + 0.9)),
        )
    ]


def _panel(results: Results, title: str, rows: Any) -> SharePanel:
    """The sources in their order; of many, those with the largest shares, and the noise."""
    names = list(dict.fromkeys(rows["source"]))
    if len(names) > MOST_SOURCES:
        largest = rows.groupby("source")["share"].max().sort_values(ascending=False).index
        kept = {*largest[: MOST_SOURCES - 1], NOISE}
        names = [name for name in names if name in kept]
    names = [name for name in names if name != CONFOUNDED] + [CONFOUNDED] * (CONFOUNDED in names)
    marks = tuple(
        Mark(
            names.index(row["source"]),
            str(row["method"]),
            100 * float(row["share"]),
            100 * float(row["share_mcse"]),
            (results.filters.method(row["method"]),),
        )
        for row in rows.to_dict("records")
        if row["source"] in names
    )
    labels = tuple(source_label(name) for name in names)
    return SharePanel(title, labels, tuple(results.methods), marks)
