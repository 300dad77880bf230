"""Progress with time left, on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rmm.backends.base import ProgressListener


@contextmanager
def progress_bar(show: bool | None, label: str) -> Iterator[ProgressListener | None]:
    """A listener that draws a bar with the time left.

    Parameters
    ----------
    show : bool or None
        None: only if standard error is a terminal.
    """
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield None
        return
    # Late: a fit by itself does not need it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def listen(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield listen


def announce(show: bool | None, text: str) -> None:
    """Say what comes next, where a progress bar would be shown."""
    if show or (show is None and sys.stderr.isatty()):
        print(text, file=sys.stderr, flush=True)
