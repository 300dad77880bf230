"""A table as lines of text: what commands print."""

from __future__ import annotations

from collections.abc import Sequence


def table_lines(
    rows: Sequence[Sequence[str]], right: str = "", *, head: bool = True, for_file: bool = False
) -> list[str]:
    """Lines of a table.

    On a terminal, long cells are wrapped in their column. In a pipe or file the table has the
    width that it needs and no colours.

    Parameters
    ----------
    rows : sequence of sequence of str
    right : str
        Has an ``r`` at the place of each column of numbers.
    head : bool
        Whether the first row holds the names of columns.
    for_file : bool
        Whether the lines are kept: they are those of a file, on a terminal too.
    """
    from rich.cells import cell_len  # 50 ms: not for `rmm --help`
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=head)
    for number, name in enumerate(rows[0]):
        is_number = right[number : number + 1] == "r"
        table.add_column(Text(name), justify="right" if is_number else "left")
    for row in rows[1:] if head else rows:
        table.add_row(*map(Text, row))
    console = Console(force_terminal=False if for_file else None)
    if not console.is_terminal:
        console.width = sum(max(map(cell_len, c)) + 2 for c in zip(*rows, strict=True))
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]
