"""What all commands share: how they are declared, and values that JSON knows."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

Command = Callable[[argparse.Namespace], int]


def command(commands: Any, name: str, what: str, examples: str, run: Command) -> Any:
    """Add a subcommand with its help, its examples and the function that runs it."""
    parser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def plain(value: Any) -> Any:
    """Values that JSON knows: NumPy scalars become numbers, what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def table_lines(rows: Sequence[Sequence[str]], right: str = "", *, head: bool = True) -> list[str]:
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
    """
    from rich.console import Console  # 50 ms: not for `rmm --help`
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=head)
    for number, name in enumerate(rows[0]):
        is_number = right[number : number + 1] == "r"
        table.add_column(Text(name), justify="right" if is_number else "left")
    for row in rows[1:] if head else rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console.width = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]
