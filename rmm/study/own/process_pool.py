"""Processes that run users' functions: started, reused for a batch, watched and ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.errors import BackendError, BackendTimeout
from rmm.study.own.named_code import NamedCode, environment
from rmm.study.own.output_tail import Tail

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]

#: Seconds in which a file must be imported, besides the time limit of its calls.
_START_LIMIT = 600.0
_READ = 1 << 20
_SINGLE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class OwnProcess:
    """A process that has imported one function of a user's file.

    Raises
    ------
    StudyError
        If the code may not run.
    BackendError
        If the file cannot be imported; the message has the user's line.
    """

    def __init__(self, code: NamedCode) -> None:
        code.check_allowed()
        self.code = code
        self._buffer = bytearray()
        self._process = _start(code)
        self._said = Tail(self._process.stderr)
        try:
            header, _ = self._receive(time.monotonic() + _START_LIMIT, _START_LIMIT)
        except BaseException:
            self.end()
            raise
        if header["kind"] == "error":
            self.end()
            raise BackendError(f"{code.written} cannot be loaded: {header['message']}")

    def call(
        self, header: Mapping[str, Any], tables: Tables, timeout: float
    ) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
        """Send a call and wait for its answer, which may be what the function raised.

        Raises
        ------
        BackendTimeout
            After `timeout` seconds.
        BackendError
            If the process died.
        """
        # Late: reading a study file needs no pandas.
        from rmm.study.own import own_process as wire

        deadline = time.monotonic() + timeout
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(wire.pack(header, tables))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        return self._receive(deadline, timeout)

    def _receive(self, deadline: float, limit: float) -> tuple[dict[str, Any], Any]:
        # Late: reading a study file needs no pandas.
        from rmm.study.own import own_process as wire

        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                length = wire.message_length(self._buffer)
                if length and len(self._buffer) >= length:
                    message = bytes(self._buffer[:length])
                    del self._buffer[:length]
                    return wire.unpack(message)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise BackendTimeout(
                        f"{self.code.written} did not finish within {limit:g} s; its process has "
                        "been ended."
                    )
                data = os.read(output, _READ)
                if not data:
                    raise self._death()
                self._buffer += data

    def _death(self) -> BackendError:
        # Late: reading a study file needs no engines.
        from rmm.backends.child_processes import ending

        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        # Late: reading a study file needs no pandas.
        from rmm.study.own.own_process import NO_MEMORY

        if self._process.returncode == NO_MEMORY:
            return BackendError(f"The process of {self.code.written} ran out of memory.")
        how = ending(self._process.returncode or 0)
        said = self._said.text()
        last = f" Its last output was: {said}" if said else ""
        return BackendError(f"The process of {self.code.written} ended ({how}).{last}")

    def end(self) -> None:
        """End the process and all that it started."""
        # Late: reading a study file needs no engines.
        from rmm.backends.child_processes import end_group

        end_group(self._process)
        for stream in (self._process.stdin, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def forget(self) -> None:
        """Close our ends of its pipes: in a fork it belongs to the parent."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def _start(code: NamedCode) -> subprocess.Popen[bytes]:
    # Late: reading a study file needs no pandas.
    from rmm.study.own import own_process as wire

    # Hashes of text, and so the order of sets, are the same in every process.
    single = {**dict.fromkeys(_SINGLE, "1"), "PYTHONHASHSEED": "0"}
    program = Path(wire.__file__).resolve()
    python = os.path.abspath(sys.executable)  # the workflow's is relative to this folder
    return subprocess.Popen(
        [python, "-P", str(program), str(code.path), code.name, code.sha256],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=code.path.parent,
        env={**environment(), **single},
        start_new_session=True,
    )


_running: dict[tuple[str, str, str], OwnProcess] = {}
#: Files that could not be imported, and why.
_broken: dict[tuple[str, str, str], BackendError] = {}


def call(
    code: NamedCode,
    what: str,
    seed: Mapping[str, Any],
    tables: Tables | None = None,
    scenario: Mapping[str, Any] | None = None,
    timeout: float | None = None,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Call a user's function in its process, which is started if it does not run.

    Parameters
    ----------
    code : NamedCode
    what : str
        ``"data"`` or ``"method"``: what it is called with; ``"accepts data"`` and ``"accepts
        method"`` ask whether its arguments are such.
    seed : mapping
        ``entropy`` and ``spawn_key`` of a `numpy.random.SeedSequence`.
    timeout : float, optional
        Seconds; default: those of `code`.

    Returns
    -------
    header, tables
        Its answer.

    Raises
    ------
    StudyError
        If the code may not run.
    BackendTimeout, BackendError
    """
    code.check_allowed()
    key = (str(code.path), code.name, code.sha256)
    if key in _broken:
        raise type(_broken[key])(str(_broken[key]))
    process = _running.pop(key, None) or _started(code, key)
    header = {"what": what, "seed": seed, "arguments": dict(code.arguments)}
    if scenario is not None:
        header["scenario"] = scenario
    try:
        answer = process.call(header, tables or {}, code.timeout if timeout is None else timeout)
    except BaseException:  # the process died or is late, or this job has to end
        process.end()
        raise
    _running[key] = process
    if answer[0]["kind"] == "error":
        raise BackendError(answer[0]["message"])
    return answer


def _started(code: NamedCode, key: tuple[str, str, str]) -> OwnProcess:
    """A new process; a file that cannot be imported is not tried again by the next fit."""
    try:
        return OwnProcess(code)
    except BackendError as error:
        _broken[key] = error
        raise


def end_all() -> None:
    """End all processes of users' functions (also done when Python exits)."""
    _broken.clear()
    while _running:
        _, process = _running.popitem()
        process.end()


def _forget() -> None:
    for process in _running.values():
        process.forget()
    _running.clear()


atexit.register(end_all)
os.register_at_fork(after_in_child=_forget)
