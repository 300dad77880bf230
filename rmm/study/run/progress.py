"""How far a running study is, and how long it will still take, counted in fits.

A run notes when it started (`logs/progress.json`). What is done is read from the batches: the
metadata of a finished file say how its fits ended and how long they took, and a batch under way
keeps a note below `logs/running`, renewed every few seconds and gone when it is finished. So no
count is kept that could differ from the files, whatever was killed and wherever jobs run. The
time left is what the remaining fits of each method take at its own pace in this run, shared among
as many processes as were busy at the same time.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from rmm.study.files.disks import writing
from rmm.study.files.environment import now
from rmm.study.run.metadata import stored_metadata

#: Environment variable of a run whose lines another program reads.
ALL_LINES = "RMM_PROGRESS_LINES"
_EVERY = 5.0  # seconds from one line to the next
_FAILED = ("failed", "timeout")
_STARTED = ("logs", "progress.json")
_RUNNING = ("logs", "running")
#: Names of notes, and of those that a kill has left half written.
_NOTE = re.compile(r"\.?s[0-9a-f]+_.+_\d+-\d+\.json(\.\d+)?")


class Batch(Protocol):
    """A job of the plan: replications `first` to `last` of a method, kept in `path`."""

    method: str
    first: int
    last: int
    path: Any


# -- a batch under way -----------------------------------------------------------------------


@dataclass
class UnderWay:
    """Fits of a batch, as they end.

    Parameters
    ----------
    path : Path
        The batch's file, ``RESULTS/estimates/SCENARIO/METHOD/FIRST-LAST.parquet``.
    total : int
        Fits of the batch.
    say : callable, optional
        Gets a line every few seconds.
    """

    path: Path
    total: int
    say: Callable[[str], None] | None = None
    status: Counter[str] = field(default_factory=Counter)
    started: str = field(default_factory=now)
    _first: float = 0.0
    _spent: float = 0.0
    _spoke: float = field(default_factory=time.monotonic)
    _before: tuple[int, float] = (0, 0.0)

    def take_up(self, status: Iterable[str], seconds: float) -> None:
        """Fits of the batch, and their seconds, that an earlier run has left."""
        self.status.update(status)
        self._before = (sum(self.status.values()), seconds)

    def count(self, status: str, took: float) -> None:
        """One more fit has ended, after some seconds; says so every few seconds."""
        self.status[status] += 1
        self._first = self._first or took
        self._spent += took
        moment = time.monotonic()
        if self.say is None or moment - self._spoke < _EVERY:
            return
        self._spoke = moment
        done, before = sum(self.status.values()), self._before[0]
        left = self._spent / (done - before) * (self.total - done)
        self.say(_line(done, self.total, self.status, f", about {words(left)} left" * (left > 0)))
        self._note(self._before[1] + self._spent)

    def facts(self) -> dict[str, str]:
        """What the metadata of the file say of its fits, start and end."""
        failed, unconverged = _bad(self.status)
        return {
            "started": self.started,
            "ended": now(),
            "seconds": f"{self._before[1] + self._spent:.3f}",
            "failed": str(failed),
            "not_converged": str(unconverged),
        }

    def end(self) -> None:
        """The batch is finished, or given up: its note goes, where it can."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return _note_of(self.path)

    def _facts(self, seconds: float) -> dict[str, Any]:
        return {"status": self.status, "seconds": seconds, "first": self._first}

    def _note(self, seconds: float) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._file, json.dumps(self._facts(seconds)))
        except OSError:  # a full disk: a note is not worth a batch
            return


def _note_of(path: Path) -> Path:
    scenario, method = path.parts[-3:-1]
    return path.parents[3].joinpath(*_RUNNING, f"{scenario}_{method}_{path.stem}.json")


# -- a run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Fits of one batch in this run, finished or under way.

    The first fit of a batch under way loads libraries: alone it would tell hours for minutes.
    """

    method: str
    status: Mapping[str, int]
    seconds: float
    first: float = 0.0

    @property
    def fits(self) -> int:
        return sum(self.status.values())


class Watch:
    """A run of a study, seen through its files.

    Parameters
    ----------
    jobs : iterable of Batch
        All that the study asks for.
    folder : Path
        Its results.
    at_most : bool
        Whether the study may end before all of them are done.
    """

    def __init__(self, jobs: Iterable[Batch], folder: Path, *, at_most: bool = False) -> None:
        self.folder, self.at_most = folder, at_most
        self.started = time.time()
        self.total = self.before = 0
        self._pending: dict[Path, dict[str, Batch]] = {}
        self._finished: list[_Part] = []
        there: dict[Path, set[str]] = {}
        for job in jobs:
            path = folder / job.path
            names = there.setdefault(path.parent, _names(path.parent))
            self.total += _fits(job)
            if path.name in names:
                self.before += _fits(job)
            else:
                self._pending.setdefault(path.parent, {})[path.name] = job

    def begin(self) -> None:
        """Note that a run starts now; notes of batches of an older run are dropped.

        Raises
        ------
        StudyError
            If the results folder cannot be written.
        """
        running = self.folder.joinpath(*_RUNNING)
        with writing(running):
            if running.is_symlink():  # what is there may be a user's
                running.unlink()
            for name in filter(_NOTE.fullmatch, _names(running)):
                (running / name).unlink(missing_ok=True)
        target = self.folder.joinpath(*_STARTED)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, json.dumps({"started": now()}))

    def line(self, moment: float | None = None) -> str:
        """Such as ``fits 350 of 1,200 (29%), 2 failed, about 3 min left``."""
        self._look()
        parts = [*self._finished, *self._under_way()]
        elapsed = (time.time() if moment is None else moment) - self.started
        status: Counter[str] = Counter()
        for part in parts:
            status.update(part.status)
        done = min(self.total, self.before + sum(status.values()))
        return _line(done, self.total, status, self._left(parts, elapsed), at_most=self.at_most)

    def _look(self) -> None:
        """Move the batches that are finished by now."""
        for folder, jobs in self._pending.items():
            for name in _names(folder) & set(jobs):
                job = jobs.pop(name)
                self._finished.append(_finished(folder / name, job))
        self._pending = {folder: jobs for folder, jobs in self._pending.items() if jobs}

    def _under_way(self) -> list[_Part]:
        notes = _names(self.folder.joinpath(*_RUNNING))
        if not notes:
            return []
        parts = []
        for folder, jobs in self._pending.items():
            for name, job in jobs.items():
                note = _note_of(folder / name)
                if note.name in notes and (found := _read(note)):
                    part = _Part(
                        job.method, found["status"], found["seconds"], found.get("first", 0.0)
                    )
                    parts.append(part)
        return parts

    def _left(self, parts: Sequence[_Part], elapsed: float) -> str:
        done, todo = Counter[str](), Counter[str]()
        spent: defaultdict[str, float] = defaultdict(float)
        for part in parts:
            done[part.method] += part.fits
            spent[part.method] += part.seconds
        pace = _paces(parts)
        for part in self._finished:
            todo[part.method] += part.fits
        for jobs in self._pending.values():
            for job in jobs.values():
                todo[job.method] += _fits(job)
        remaining = {m: n - done[m] for m, n in todo.items() if n > done[m]}
        if not remaining:
            return ""
        busy = max(1.0, sum(spent.values()) / max(elapsed, 1e-9))
        known = sum(n * pace[m] for m, n in remaining.items() if done[m])
        unknown = sorted(m for m in remaining if not done[m])
        if not known:
            return ", time left not known yet"
        left = f", {'at most ' * self.at_most}about {words(known / busy)} left"
        if not unknown:
            return left
        return f"{left}, and the fits of {_listed(unknown)}, which have not started"


def _paces(parts: Sequence[_Part]) -> dict[str, float]:
    """Seconds of a fit of each method, without the first fits of batches if there are others."""
    every, later = defaultdict[str, list[_Part]](list), dict[str, float]()
    for part in parts:
        every[part.method].append(part)
    for method, some in every.items():
        fits, first = sum(p.fits for p in some), sum(p.first > 0 for p in some)
        seconds = sum(p.seconds for p in some)
        if fits > first:
            fits, seconds = fits - first, seconds - sum(p.first for p in some)
        later[method] = seconds / max(fits, 1)
    return later


def follow(
    watch: Watch, stream: TextIO | None = None, every: float = _EVERY
) -> Callable[..., None]:
    """Print the line of a run every few seconds, where it has changed; nothing off a terminal.

    `rmm study run`, which sets the variable `ALL_LINES`, gets every line and shows what it wants.

    Returns
    -------
    callable
        Prints the last line and ends.
    """
    out = sys.stderr if stream is None else stream
    every_line = ALL_LINES in os.environ
    if not (out.isatty() or every_line):
        return lambda outcome=None: None
    over = threading.Event()
    last = ""

    def speak() -> None:
        nonlocal last
        line = watch.line()
        counted = line.partition(", about")[0]
        if counted != last or every_line:  # the time left alone is no news
            last = counted
            print(line, file=out, flush=True)

    def run() -> None:
        while not over.wait(every):
            try:
                speak()
            except OSError:  # a line of progress must not end a run
                continue

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()

    def stop(outcome: str | None = None) -> None:
        over.set()
        thread.join(timeout=every)
        speak()

    return stop


def run_started(folder: Path) -> str | None:
    """When the running, or last, run of a study started (UTC); None if none was noted."""
    found = _read(folder.joinpath(*_STARTED)) or {}
    started = found.get("started")
    return started if isinstance(started, str) else None


# -- words and files -------------------------------------------------------------------------


def _line(
    done: int, total: int, status: Mapping[str, int], left: str, *, at_most: bool = False
) -> str:
    failed, unconverged = _bad(status)
    bad = f", {failed:,} failed" * bool(failed) + f", {unconverged:,} not converged" * bool(
        unconverged
    )
    if at_most:
        return f"fits {done:,} of at most {total:,}{bad}{left}"
    return f"fits {done:,} of {total:,} ({100 * done // total if total else 100}%){bad}{left}"


def _listed(names: list[str]) -> str:
    """Such as ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def words(seconds: float) -> str:
    """A time span as people say it: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bad(status: Mapping[str, int]) -> tuple[int, int]:
    """Fits that failed or ran out of time, and fits that did not converge."""
    return sum(status.get(name, 0) for name in _FAILED), status.get("not_converged", 0)


def _fits(job: Batch) -> int:
    return job.last - job.first + 1


def _finished(path: Path, job: Batch) -> _Part:
    """What a finished file says; one of an earlier version says how many fits alone."""
    try:
        found = dict(stored_metadata(str(path), path.stat().st_mtime_ns))
    except OSError:
        found = {}
    failed, unconverged = int(found.get("failed", 0)), int(found.get("not_converged", 0))
    status = {
        "failed": failed,
        "not_converged": unconverged,
        "ok": _fits(job) - failed - unconverged,
    }
    return _Part(job.method, status, float(found.get("seconds", 0)))


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _read(path: Path) -> dict[str, Any] | None:
    """A note; None where there is none, or none that is whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
