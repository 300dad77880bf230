"""Jobs that are killed, stopped or short of memory: numbers are those of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rmm.backends import find_backend
from rmm.study import Study
from rmm.study.run.checkpoint import discard
from tests.attack import Attack
from tests.kills import content, load, only, run_job, whole
from tests.projects import FAKED

_PAGE = resource.getpagesize()
#: Seconds that a job may take before it counts as hung.
_HUNG = 300.0
#: Kinds of methods; chains of JAGS run in processes of their own.
METHODS: dict[str, dict[str, Any]] = {
    "least squares": {"name": "one", "kind": "aggregation", "backend": "ols"},
    "laplace": {"name": "one", "kind": "mm", "backend": "laplace", "gate": FAKED["gate"]},
    "fake": {**FAKED, "name": "one"},
}
_SAMPLER = {"chains": 1, "warmup": 20, "draws": 50}
JAGS = {"name": "one", "kind": "mm", "backend": "jags", "gate": FAKED["gate"], "sampler": _SAMPLER}


@dataclass(frozen=True)
class Undisturbed:
    """A study of one batch, what it gives, and how long it takes."""

    study: Study
    content: tuple[Any, Any]
    seconds: float

    @property
    def rows(self) -> dict[tuple[int, str], dict[str, Any]]:
        return _rows(self.content)


def _rows(content: tuple[Any, Any]) -> dict[tuple[int, str], dict[str, Any]]:
    """(replication, parameter) -> row."""
    columns = content[0]
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return {(row["replication"], row["parameter"]): row for row in rows}


def _undisturbed(folder: Path, method: dict[str, Any], **changes: Any) -> Undisturbed:
    study = load(folder, methods=[method], **changes)
    began = time.monotonic()
    whole(study, folder / "undisturbed")
    seconds = time.monotonic() - began
    return Undisturbed(study, content(only(folder / "undisturbed")), seconds)


def _studies(folder: Path, methods: dict[str, dict[str, Any]]) -> list[Undisturbed]:
    return [_undisturbed(folder / name.replace(" ", "_"), one) for name, one in methods.items()]


def _limited(megabytes: float | None, file: str, out: str, long: float) -> None:
    """A job that may take so much more memory than it has when it starts."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if megabytes is not None:
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE
        most = taken + int(megabytes * 1e6)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    run_job(file, out, long)


def _start(one: Undisturbed, out: Path, long: float, megabytes: float | None = None) -> BaseProcess:
    """A job in a process that has imported all that jobs import: it starts at once."""
    (out / "log").parent.mkdir(parents=True, exist_ok=True)
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    os.environ.update(single)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.attack.processes", "rmm.backends.laplace.run"])
    job = context.Process(
        target=_limited, args=(megabytes, str(one.study.file), str(out), long), daemon=False
    )
    job.start()
    return job


def _ended(job: BaseProcess) -> str:
    """Wait for a job; "" or that it hangs."""
    job.join(_HUNG)
    if job.exitcode is None:
        _signal(job.pid, signal.SIGKILL)
        job.join()
        return f"it hangs for {_HUNG:.0f} s"
    return ""


def _signal(pid: int | None, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(int(pid or 0), number)


def _log(out: Path) -> str:
    return (out / "log").read_text(encoding="utf-8") if (out / "log").is_file() else ""


_ENDINGS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def _kills(draw: random.Random, folder: Path) -> Iterator[str]:
    """A batch is ended one to three times, at random moments, and then goes on to its end."""
    studies, out = _studies(folder, METHODS), folder / "out"
    for number in count():
        one, long = draw.choice(studies), draw.choice((-1.0, 0.01, 30.0))
        shutil.rmtree(out, ignore_errors=True)
        broken = ""
        for _ in range(draw.randrange(1, 4)):
            job, ending = _start(one, out, long), draw.choice(_ENDINGS)
            time.sleep(draw.uniform(0, 1.5 * one.seconds))
            _signal(job.pid, ending)
            broken = broken or _ended(job)
            early = 1 if ending == signal.SIGINT else 0  # Python's own, before the job begins
            if job.exitcode not in (0, early, -ending, 128 + ending):
                broken = broken or f"exit code {job.exitcode} after {ending.name}"
            if "Traceback" in _log(out):
                broken = broken or f"a traceback: {_log(out)[-300:]}"
        broken = broken or _unequal(one, out)
        yield f"case {number}, {one.study.file}: {broken}" if broken else ""


def _unequal(one: Undisturbed, out: Path) -> str:
    """Run what is missing; what differs from the undisturbed run."""
    whole(one.study, out)
    discard(out)  # as collection does
    left = [path.name for path in (out / "estimates").rglob(".*")]
    if left:
        return f"left behind: {left}"
    return "" if content(only(out)) == one.content else "other estimates"


def _children(pid: int | None) -> list[int]:
    """Processes that a process has started."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(child) for child in found.split()]


def _wait_for_a_fit(job: BaseProcess, out: Path) -> None:
    """Until a job has noted its first fit, or ends."""
    while job.is_alive() and not any(out.rglob("*.jsonl")):
        time.sleep(0.002)


def _stops(draw: random.Random, folder: Path) -> Iterator[str]:
    """A job, or a process of its engine, stands still for a moment, or until its time limit."""
    studies = _studies(folder, METHODS)
    if find_backend("jags").available().available:
        method = {**JAGS, "sampler": {**_SAMPLER, "timeout": 2.0}}
        studies += 3 * [_undisturbed(folder / "jags", method, replications=12, batch=12)]
    out = folder / "out"
    for number in count():
        one = draw.choice(studies)
        shutil.rmtree(out, ignore_errors=True)
        job = _start(one, out, 30.0)
        if draw.random() < 0.7:
            _wait_for_a_fit(job, out)
            time.sleep(draw.uniform(0, 0.05))
        else:
            time.sleep(draw.uniform(0, one.seconds))
        workers = _children(job.pid)
        stopped = draw.choice([job.pid, *workers, *workers])
        _signal(stopped, signal.SIGSTOP)
        # One that has not begun yet would be waited for two minutes.
        begun = stopped != job.pid and any(out.rglob("*.jsonl"))
        if not begun or draw.random() < 0.3:
            time.sleep(draw.uniform(0, 0.5))
            _signal(stopped, signal.SIGCONT)
        broken = _ended(job)
        _signal(stopped, signal.SIGCONT)
        if job.exitcode != 0:
            broken = broken or f"exit code {job.exitcode}: {_log(out)[-300:]}"
        broken = broken or _other_rows(one, out, ("timeout",))
        yield f"case {number}, {one.study.file}: {broken}" if broken else ""


#: Libraries in C++ end the process where they get no memory, as Linux itself does.
_BY_THE_SYSTEM = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL, -signal.SIGBUS)


def _memory(draw: random.Random, folder: Path) -> Iterator[str]:
    """A job with little memory: rows that say so, or a message; later it goes on."""
    studies, out = _studies(folder, METHODS), folder / "out"
    if find_backend("jags").available().available:
        studies.append(_undisturbed(folder / "jags", JAGS, replications=4, batch=4))
    for number in count():
        one, megabytes = draw.choice(studies), 10 ** draw.uniform(-1, 2.7)
        shutil.rmtree(out, ignore_errors=True)
        job = _start(one, out, -1.0, megabytes)
        broken, log = _ended(job), _log(out)
        if job.exitcode not in (0, 1, *_BY_THE_SYSTEM):
            broken = broken or f"exit code {job.exitcode}"
        elif "Traceback" in log or (job.exitcode == 1 and "memory" not in log):
            broken = broken or f"no message: {log[-400:]}"
        whole(one.study, out)
        broken = broken or _other_rows(one, out, ("failed", "timeout"))
        yield f"case {number}, {one.study.file}, {megabytes:.1f} MB: {broken}" if broken else ""


def _other_rows(one: Undisturbed, out: Path, statuses: tuple[str, ...]) -> str:
    """Rows that are neither those of the undisturbed run nor say by their status what happened."""
    found = _rows(content(only(out)))
    if {fit for fit, _ in found} != {fit for fit, _ in one.rows}:
        return "other replications"
    for key, row in found.items():
        if row != one.rows.get(key) and not (row["status"] in statuses and row["message"]):
            return f"another row of {key}: {row['status']}, {row['message']}, {row['mean']}"
    return ""


ATTACKS = (
    Attack("kills of fits", 200, _kills),
    Attack("processes that are stopped", 100, _stops),
    Attack("memory limits", 200, _memory),
)
