"""The log of one job of a workflow: all that it and its engines print, and why it failed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rmm.errors import RmmError


@contextmanager
def logged(log: str | Path) -> Iterator[Callable[[str], None]]:
    """Send stdout and stderr, those of engines included, to `log` while the body runs.

    Yields
    ------
    callable
        Prints a line on the terminal (the stderr of before), for progress.

    Raises
    ------
    SystemExit
        With code 1 where the body raised: an `RmmError` is in the log as its message, anything
        else with its traceback.
    """
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    kept = (os.dup(1), terminal)

    def say(line: str) -> None:
        if line:
            os.write(terminal, f"{line}\n".encode())

    _send_to(path)
    try:
        yield say
    except RmmError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except Exception:  # noqa: BLE001 - the log is where it is read; the exit code tells of it
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        os.close(kept[0])
        os.close(kept[1])


def _send_to(path: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
