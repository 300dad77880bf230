"""The headline of a report as text: what a run prints at its end."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rmm.tables.printed_table import table_lines

if TYPE_CHECKING:
    from rmm.study.report.front.cells import Column
    from rmm.study.report.front.front import Front
    from rmm.study.report.front.glance import Glance

#: Name of its file, beside the report.
FILE = "headline.txt"
_WIDTH = 88
#: Columns of one heading that are shown; the report has all.
_MOST = 4


def headline(front: Front) -> str:
    """The answer and the first columns of the table of methods."""
    answer = textwrap.fill(" ".join(front.answer), _WIDTH, break_on_hyphens=False)
    above = [answer, ""] if answer else []
    return "\n".join([*above, *_table(front.table), ""])


def _table(table: Glance) -> list[str]:
    first = table.columns[0].group
    columns = [column for column in table.columns if column.group == first][:_MOST]
    columns += [c for c in table.columns if c.group == "Coverage, %"][:1]
    columns += [table.columns[-1]]  # fits used
    columns = list(dict.fromkeys(columns))
    rows = [["", *_groups(columns)], ["", *(column.heading for column in columns)]]
    rows.append(["", *(column.target for column in columns)])
    for number, (label, _, _) in enumerate(table.methods):
        cells = (column.cells[number] for column in columns)
        rows.append([label, *(f"{cell.text} {cell.mark or ' '}" for cell in cells)])
    return table_lines(list(filter(any, rows)), " " + "r" * len(columns), head=False, for_file=True)


def _groups(columns: list[Column]) -> list[str]:
    """The heading of each group, over its first column."""
    names = [column.group for column in columns]
    return ["" if n and names[n - 1] == name else name for n, name in enumerate(names)]
