"""The log of one job of a workflow: all that it and its engines print, and why it failed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rmm.errors import RmmError
from rmm.study.files.end_signals import ended_by_signals


@contextmanager
def logged(log: str | Path) -> Iterator[Callable[[str], None]]:
    """Send stdout and stderr, those of engines included, to `log` while the body runs.

    Signals that end the job raise SystemExit in the body, so that it can keep what it has. Pythons
    that the body starts, such as those of engines, import no module that lies in the present
    folder. Other jobs of a workflow are not concerned: they may be a user's, whose scripts do.

    Yields
    ------
    callable
        Prints a line on the terminal (the stderr of before), for progress.

    Raises
    ------
    SystemExit
        With code 1 where the body raised: an `RmmError` is in the log as its message, too little
        memory as one, anything else with its traceback. With 128 and the signal's number where
        one ended it.
    """
    kept = (os.dup(1), os.dup(2))

    def say(line: str) -> None:
        if line:
            with suppress(OSError):  # the terminal may be gone; that must not fail a job
                os.write(kept[1], _line(line))

    try:
        with _redirected(Path(log), kept, say), ended_by_signals(), _safe_path():
            yield say
    finally:
        for handle in kept:
            os.close(handle)


#: Whether Pythons that are started leave the present folder out of their path.
_SAFE_PATH = "PYTHONSAFEPATH"
_NO_MEMORY = (
    "The job ran out of memory. Give it more (`mem_mb` on a cluster, `ulimit -v`), or let fewer "
    "fits run at the same time, and run the study again; finished fits are kept."
)


@contextmanager
def _safe_path() -> Iterator[None]:
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SAFE_PATH, None)
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def _redirected(log: Path, kept: tuple[int, int], say: Callable[[str], None]) -> Iterator[None]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        _send_to(log)
    except OSError as problem:  # a full disk; what the body writes tells of it
        say(f"{log} cannot be written: {problem.strerror}.")
    try:
        yield
    except RmmError as error:
        _tell(str(error), say)
        raise SystemExit(1) from None
    except MemoryError:  # Arrow's, too
        _tell(_NO_MEMORY, say)
        raise SystemExit(1) from None
    except Exception:  # noqa: BLE001 - the log is where it is read; the exit code tells of it
        _tell(traceback.format_exc(), say)
        raise SystemExit(1) from None
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)


def _line(text: str) -> bytes:
    """Paths in a locale without UTF-8 hold bytes that are no text."""
    return f"{text}\n".encode(errors="surrogateescape")


def _tell(text: str, say: Callable[[str], None]) -> None:
    """Into the log, or onto the terminal where the log's disk is full."""
    try:
        os.write(2, _line(text))
    except OSError:
        say(text)


def _send_to(path: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if path.is_symlink():  # what it leads to, perhaps outside of the results, stays as it is
        path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
