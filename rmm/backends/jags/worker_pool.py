"""Worker processes that run JAGS: started, reused across fits, watched and ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rmm.backends.jags import worker as wire
from rmm.errors import BackendError, BackendTimeout

Array = np.ndarray[Any, Any]
Message = tuple[dict[str, Any], dict[str, Array]]

_START_LIMIT = 120.0
_READ = 1 << 20
# A worker is replaced after so many chains, so that memory lost inside JAGS cannot pile up.
_CHAINS_PER_WORKER = 2000
LESS_MEMORY = "Monitor fewer variables, keep fewer draws, or use fewer cores."
#: How Python, NumPy, C++ and the parser of JAGS programs say that they ran out of memory.
NO_MEMORY_WORDS = (
    r"bad_alloc|MemoryError|[Uu]nable to allocate|out of dynamic memory|memory exhausted"
)
REMEDY = "Install pyjags, which brings JAGS along: pip install pyjags (Python 3.12 or newer)."


@dataclass
class Worker:
    """One process; `hello` is what it said of its engine, `chains` how many it has run."""

    process: subprocess.Popen[bytes]
    errors: BinaryIO
    hello: dict[str, Any] = field(default_factory=dict)
    chains: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def output(self) -> int:
        """File descriptor on which the worker answers."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Give it a job."""
        assert self.process.stdin is not None
        self.chains += 1
        try:
            self.process.stdin.write(wire.pack(header, arrays))
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.death() from None

    def receive(self) -> list[Message]:
        """Messages that are complete after one read; call it when `output` is readable."""
        data = os.read(self.output, _READ)
        if not data:
            raise self.death()
        self.buffer += data
        messages = []
        try:
            while (length := wire.frame_length(self.buffer)) and len(self.buffer) >= length:
                messages.append(wire.unpack(bytes(self.buffer[:length])))
                del self.buffer[:length]
        except ValueError as error:
            raise BackendError(f"The answer of the JAGS process cannot be read: {error}") from None
        return messages

    def death(self) -> BackendError:
        """The process is gone: what became of it, as an error."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        self.errors.seek(0)
        said = self.errors.read()[-600:].decode(errors="replace").strip()
        if code == wire.NO_MEMORY or re.search(NO_MEMORY_WORDS, said):
            return BackendError(f"JAGS ran out of memory. {LESS_MEMORY}")
        lines = [f"The JAGS process ended {_how(code)} during a fit."]
        lines += [f"Its last output was: {said}"] if said else []
        if code == -signal.SIGKILL:
            lines.append(f"Most often the reason is too little memory. {LESS_MEMORY}")
        else:
            lines.append(
                "The next fit starts a new JAGS process. If the same model and data fail again, "
                "try backend='stan'."
            )
        return BackendError("\n".join(lines))

    def kill(self) -> None:
        """End the process and what it may have started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.close()

    def close(self) -> None:
        """Close our ends of the pipes (in a fork of this process, that is all there is to do)."""
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit status {code}"
    try:
        return f"by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


_lock = threading.Lock()
_idle: list[Worker] = []
_all: list[Worker] = []


def _start() -> Worker:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
    # JAGS reads numbers by the locale; threads of linear algebra libraries would only compete.
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(wire.__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **single, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        errors.close()
        raise BackendError(f"The JAGS process cannot be started: {error}") from None
    worker = Worker(process, errors)
    with _lock:
        _all.append(worker)
    return worker


def _greet(worker: Worker, limit: float = _START_LIMIT) -> None:
    """Wait until a new worker has loaded JAGS."""
    if worker.hello:
        return
    deadline = time.monotonic() + limit
    with selectors.DefaultSelector() as selector:
        selector.register(worker.output, selectors.EVENT_READ)
        while not worker.hello:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise BackendError(f"The JAGS process did not start within {limit:g} s.")
            for header, _ in worker.receive():
                if header["kind"] == "unavailable":
                    raise BackendError(f"JAGS cannot be used: {header['message']}.\n{REMEDY}")
                worker.hello = {k: v for k, v in header.items() if k != "kind"}


def acquire(count: int) -> list[Worker]:
    """`count` workers that nobody else uses: idle ones first, then new ones.

    Raises
    ------
    BackendError
        If JAGS is not installed or does not start.
    """
    workers: list[Worker] = []
    try:
        while len(workers) < count:
            with _lock:
                worker = _idle.pop() if _idle else None
            if worker is None:
                workers.append(_start())
            elif worker.process.poll() is None and worker.chains < _CHAINS_PER_WORKER:
                workers.append(worker)
            else:
                discard([worker])
        for worker in workers:
            _greet(worker)
    except BaseException:
        discard(workers)
        raise
    return workers


def release(workers: Sequence[Worker]) -> None:
    """Keep workers for the next fit, as many as there are processors."""
    with _lock:
        room = max(2, os.cpu_count() or 1) - len(_idle)
        _idle.extend(workers[: max(0, room)])
    discard(workers[max(0, room) :])


def discard(workers: Sequence[Worker]) -> None:
    """End workers for good."""
    for worker in workers:
        worker.kill()
        with _lock:
            if worker in _all:
                _all.remove(worker)


def shutdown() -> None:
    """End all idle workers (also done when Python exits)."""
    with _lock:
        workers = list(_idle)
        _idle.clear()
    discard(workers)


def _forget() -> None:
    """In a fork: the workers belong to the parent, and its pipes must not stay open here."""
    global _lock
    _lock = threading.Lock()
    for worker in _all:
        worker.close()
    _idle.clear()
    _all.clear()


def _end_all() -> None:
    shutdown()
    discard(list(_all))


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget)


def run_jobs(
    jobs: Sequence[Message],
    cores: int,
    timeout: float | None,
    progress: Callable[[int], None],
) -> tuple[list[Message], list[int], dict[str, Any]]:
    """Run jobs on up to `cores` workers at the same time.

    Parameters
    ----------
    jobs : sequence of (header, arrays)
    cores : int
    timeout : float or None
        Seconds for all jobs together, from the moment at which the workers are ready.
    progress : callable
        Called with the iterations done over all jobs.

    Returns
    -------
    results : list of (header, arrays)
        In the order of the jobs; the header's ``kind`` is ``"result"``, or ``"error"`` for one
        job, after which the others are given up and left out.
    worker_of : list of int
        Which worker (0, 1, ...) ran each job.
    hello : dict
        What the workers said of their engine.

    Raises
    ------
    BackendTimeout, BackendError
        The workers have then been ended, as upon any other exception (Ctrl-C included).
    """
    workers = acquire(min(max(1, cores), len(jobs)))
    try:
        board = _Board(jobs, workers)
        failed = board.play(timeout, progress)
    except BaseException:
        discard(workers)
        raise
    if failed is not None:
        discard(workers)
        return [failed], [0], workers[0].hello
    release(workers)
    results = [board.results[i] for i in range(len(jobs))]
    return results, [board.worker_of[i] for i in range(len(jobs))], workers[0].hello


class _Board:
    """Which worker runs which job, and what has come back."""

    def __init__(self, jobs: Sequence[Message], workers: Sequence[Worker]) -> None:
        self.jobs, self.workers = jobs, workers
        self.waiting = list(range(len(jobs)))
        self.current: dict[int, int] = {}
        self.done = [0] * len(jobs)
        self.results: dict[int, Message] = {}
        self.worker_of: dict[int, int] = {}

    def play(self, timeout: float | None, progress: Callable[[int], None]) -> Message | None:
        """Run everything; None, or the first message of failure."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for number, worker in enumerate(self.workers):
                selector.register(worker.output, selectors.EVENT_READ, number)
                self._next(number)
            while self.current:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise BackendTimeout(_late(timeout, sum(self.done)))
                for key, _ in selector.select(left):
                    failed = self._hear(key.data)
                    if failed is not None:
                        return failed
                progress(sum(self.done))
        return None

    def _next(self, number: int) -> None:
        self.current.pop(number, None)
        if self.waiting:
            job = self.current[number] = self.waiting.pop(0)
            self.worker_of[job] = number
            self.workers[number].send(*self.jobs[job])

    def _hear(self, number: int) -> Message | None:
        for header, arrays in self.workers[number].receive():
            job = self.current[number]
            if header["kind"] == "progress":
                self.done[job] = header["done"]
                continue
            header["job"] = job
            if header["kind"] == "error":
                return header, arrays
            self.results[job] = header, arrays
            self.done[job] = self.jobs[job][0]["iterations"]
            self._next(number)
        return None


def _late(timeout: float | None, done: int) -> str:
    return (
        f"JAGS did not finish within {timeout:g} s ({done:,} iterations over all chains were "
        "done); its processes have been ended.\n"
        "Raise `timeout`, ask for fewer draws, or use more `cores`."
    )
