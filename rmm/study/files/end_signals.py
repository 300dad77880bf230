"""Signals that end a job from outside: schedulers, `kill`, a closed terminal, Ctrl-C."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

#: Signal -> how it is called in a log. SIGXCPU is a limit of CPU time.
_ENDINGS = {"SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP", "SIGXCPU": "SIGXCPU", "SIGINT": "Ctrl-C"}
_KEPT = "What is finished is kept; start the study again and it goes on from there."

#: The signal that ends this process, once there was one.
_received: list[int] = []


def end_without_traceback() -> None:
    """Let Ctrl-C end this process at once, as it ends other programs; for the time of imports.

    Where it is ignored, as in the background of a script, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise SystemExit in the body when a signal ends the job, and say so on stderr.

    The exception comes out of whatever runs at that moment. A library may make another one of
    it: a compiled module that is being imported raises ImportError. Therefore the body's last
    word is not taken for the reason where there was a signal.

    Raises
    ------
    SystemExit
        With 128 and the signal's number, whatever the body made of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    numbers = {getattr(signal, n): said for n, said in _ENDINGS.items() if hasattr(signal, n)}
    before: dict[int, Any] = {}

    def leave(number: int, _: FrameType | None) -> None:
        for each in numbers:  # once: the second must not break off the writing
            signal.signal(each, signal.SIG_IGN)
        _received.append(number)
        _write(f"Ended by {numbers[number]}. {_KEPT}")
        leave_if_ended()

    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_unraisable, hook)
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays what it is
            before[number] = signal.signal(number, leave)
    try:
        yield
    except Exception as problem:
        if _received:
            _write(f"On the way out: {type(problem).__name__}: {problem}")
        leave_if_ended()
        raise
    finally:
        sys.unraisablehook = hook
        _received.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def _unraisable(hook: Callable[[Any], Any], problem: Any) -> None:
    """Pass on what Python cannot raise (in callbacks of weak references), but for our SystemExit.

    Python drops that one and goes on: `leave_if_ended` raises it again before the next fit.
    """
    if not (_received and isinstance(problem.exc_value, SystemExit)):
        hook(problem)


def leave_if_ended() -> None:
    """Raise SystemExit where a signal has ended this job.

    For whoever keeps an exception as a result: it may be what a library made of the signal; and
    between fits, as the exception may have been dropped.
    """
    if _received:
        raise SystemExit(128 + _received[0]) from None


def _write(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace"))
