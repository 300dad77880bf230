"""Chains of a compiled Stan program: one process each, watched from one loop.

The processes write draws to files; their pipes carry progress and messages, and close when they
end, so the loop needs no threads and no polling. Whatever ends the loop (an error in a chain, the
time limit, Ctrl-C) ends every process first. If this process is killed outright, our runner
notices at its next iteration (``RMM_PARENT``); for CmdStan's own, Linux is asked to.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rmm.backends.base import ProgressListener
from rmm.backends.child_processes import end_group, ending, start_group
from rmm.errors import BackendError, BackendTimeout

_ITERATION = re.compile(r"Iteration:\s*(\d+) / (\d+)")
_CHATTER = re.compile(
    r"Iteration:|Gradient evaluation took|1000 transitions using|Adjust your expectations|"
    r"Elapsed Time|seconds \((Warm-up|Sampling|Total)\)|^\s*\w+ = |^\s*\w+$"
)
_REPORT_SECONDS = 0.25


class Chain:
    """One running process: what it has said and how far it is."""

    def __init__(
        self, index: int, command: Sequence[str], cwd: Path, convert: Callable[[str], str]
    ) -> None:
        parent = {"RMM_PARENT": str(os.getpid()), "STAN_NUM_THREADS": "1"}
        self.index = index
        self._convert = convert
        self.done = 0
        self.lines: deque[str] = deque(maxlen=400)
        self._rest = b""
        try:
            self.process: subprocess.Popen[bytes] = start_group(
                command, cwd, env={**os.environ, **parent}
            )
        except OSError as problem:
            raise BackendError(f"Stan's executable cannot be started: {problem}") from None

    @property
    def pipe(self) -> int:
        """File descriptor of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> bool:
        """Take in what there is; False at the end of the output."""
        chunk = os.read(self.pipe, 65536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = self._convert(line.decode(errors="replace").rstrip())
            self.lines.append(text)
            found = _ITERATION.search(text)
            if found:
                self.done = int(found[1])
        return bool(chunk)

    def finish(self) -> None:
        """After the end of the output: check how it ended."""
        self.lines.append(self._convert(self._rest.decode(errors="replace")))
        status = self.process.wait()
        end_group(self.process)
        if status != 0:
            raise BackendError(failure(self.index, ending(status), self.lines))


def failure(index: int, how: str, lines: Sequence[str]) -> str:
    """A letter about a chain that failed, with Stan's own sentences."""
    said = sentences(lines)
    message = f"Stan failed in chain {index + 1} ({how})"
    message += (
        ":\n" + "\n".join("    " + line for line in said) if said else " and printed no message."
    )
    if any("bad_alloc" in line for line in lines):
        message += "\nStan ran out of memory. Keep fewer draws, or use fewer cores."
    if "SIGKILL" in how:
        message += (
            "\nThe process was killed. Most often the reason is that the machine or the job has "
            "too little memory."
        )
    if "SIGILL" in how:
        message += (
            "\nThe executable of Stan was compiled for another type of processor. Set RMM_CACHE to "
            "a different folder on each type of processor, or compile without -march=native."
        )
    if any("initial" in line.lower() for line in said):
        message += (
            "\nThe sampler could not start. Give other `inits`, and check that the priors and the "
            "data allow them."
        )
    return message


def sentences(lines: Sequence[str], most: int = 8) -> list[str]:
    """What Stan said beyond progress and timing: each sentence once, the last `most`."""
    unique = dict.fromkeys(line.strip() for line in lines if line.strip())
    return [line[:400] for line in unique if not _CHATTER.search(line)][-most:]


def watched(command: Sequence[str], own_runner: bool) -> list[str]:
    """The command so that it ends with this process even if that is killed outright."""
    if own_runner or sys.platform != "linux" or shutil.which("setpriv") is None:
        return list(command)
    return ["setpriv", "--pdeathsig", "KILL", *command]


class Watch:
    """Clock and progress of all chains of a fit."""

    def __init__(
        self, total: int, timeout: float | None, progress: ProgressListener | None
    ) -> None:
        self.started = time.monotonic()
        self._timeout, self._total, self._progress = timeout, total, progress
        self._reported = self.started

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def pause(self) -> float | None:
        """Seconds that the loop may sleep at most."""
        if self._timeout is None:
            return None
        return max(0.0, self.started + self._timeout - time.monotonic())

    def check(self) -> None:
        """Raise `BackendTimeout` past the limit."""
        if self._timeout is not None and self.elapsed() > self._timeout:
            raise BackendTimeout(
                f"Stan did not finish within the time limit of {self._timeout:g} s, so it was "
                "stopped. Raise `timeout`, or ask for fewer draws."
            )

    def report(self, done: int, last: bool = False) -> None:
        """Tell the listener, a few times a second at most."""
        now = time.monotonic()
        if self._progress is not None and (last or now - self._reported >= _REPORT_SECONDS):
            self._reported = now
            self._progress(min(done, self._total), self._total)


def run_chains(
    commands: Sequence[Sequence[str]],
    cwd: Path,
    cores: int,
    watch: Watch,
    convert: Callable[[str], str] = str,
) -> list[list[str]]:
    """Run the commands, at most `cores` at a time; `convert` is applied to each line they print.

    Returns
    -------
    list of list of str
        Lines that each chain said.

    Raises
    ------
    BackendError
        If a chain fails; the others are ended.
    BackendTimeout
        If the time limit of `watch` passes.
    """
    waiting, running = deque(enumerate(commands)), dict[int, Chain]()
    chains: list[Chain] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < max(1, cores):
                    chains.append(Chain(*waiting.popleft(), cwd, convert))
                    running[chains[-1].pipe] = chains[-1]
                    selector.register(chains[-1].pipe, selectors.EVENT_READ)
                for key, _ in selector.select(watch.pause()):
                    if not running[key.fd].read():
                        selector.unregister(key.fd)
                        running.pop(key.fd).finish()
                watch.check()
                watch.report(sum(chain.done for chain in chains))
        finally:
            for chain in chains:
                if chain.process.returncode is None:
                    end_group(chain.process)
    watch.report(sum(chain.done for chain in chains), last=True)
    return [list(chain.lines) for chain in chains]
