"""How far a study is: what its finished batches hold, and what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from rmm.study.design.study import Study
from rmm.study.files.parquet import OK, read_batches
from rmm.study.manage.jobs import Job, plan, standing_of
from rmm.study.run.metadata import stored_metadata
from rmm.study.run.progress import run_started

_FIT = ["scenario", "method", "replication"]
_COUNTED = [*_FIT, "status", "seconds", "message"]
# Numbers of a message, such as "ESS 87 of b_l1[x], 100 wanted": without them it is a reason.
_NUMBER = re.compile(r"(?<![\w\[])\d+(?:,\d{3})*(?:\.\d+)?(?![\w\]])")
_AT_ONCE = 200  # files whose fits are in memory at a time


@dataclass(frozen=True)
class Reason:
    """Why fits of a method failed or did not converge, how many, and the first one to replay."""

    method: str
    status: str
    message: str
    fits: int
    scenario: str
    replication: int


@dataclass
class _Tally:
    fits: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    timed: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)

    def add(self, table: pa.Table) -> None:
        """Count the fits of some files; a fit has a row per parameter."""
        one = table.group_by(_FIT, use_threads=False)
        one = one.aggregate([(name, "first") for name in ("status", "seconds", "message")])
        names = (*_FIT, "status_first", "seconds_first", "message_first")
        for row in zip(*(one[name].to_pylist() for name in names), strict=True):
            scenario, method, replication, status, seconds, message = row
            self.fits[status] += 1
            if seconds is not None:
                self.seconds[method] += seconds
                self.timed[method] += 1
            if status != OK:
                reason = (method, status, without_numbers(message or "no message"))
                self.reasons[reason] += 1
                self.first.setdefault(reason, (scenario, replication))


def without_numbers(message: str) -> str:
    """A message with `…` for its numbers: what those of several fits have in common."""
    return _NUMBER.sub("…", message)


def status(study: Study, folder: str | Path) -> dict[str, Any]:
    """How far a study is.

    Parameters
    ----------
    study : Study
    folder : path
        Its results.

    Returns
    -------
    dict
        jobs, done, missing (list of Job), fits (status -> number of fits in finished files),
        reasons (list of Reason, the most frequent first), seconds (of these fits), seconds_left
        (missing replications at the mean of each method, on one core; None for a method without
        a finished fit), rate (fits per second of the running, or last, run; None where nothing
        is known of one), time_left (seconds until all are done at this rate, or None) and, with
        `stopping`, standings (where each scenario stands; jobs are then those up to its next
        decision).
    """
    folder = Path(folder)
    jobs = plan(study, folder)
    missing = [job for job in jobs if not (folder / job.path).is_file()]
    away = set(missing)
    tally = _Tally()
    for paths in _portions([folder / job.path for job in jobs if job not in away]):
        tally.add(read_batches(paths, _COUNTED))
    found: dict[str, Any] = {
        "jobs": len(jobs),
        "done": len(jobs) - len(missing),
        "missing": missing,
        "fits": dict(tally.fits),
        "reasons": [
            Reason(*key, number, *tally.first[key]) for key, number in tally.reasons.most_common()
        ],
        "seconds": float(sum(tally.seconds.values())),
        "seconds_left": _left(study, missing, tally),
    }
    found["rate"] = _rate(folder, [job for job in jobs if job not in away])
    todo = sum(job.last - job.first + 1 for job in missing)
    found["time_left"] = 0.0 if not todo else todo / found["rate"] if found["rate"] else None
    if study.stopping is not None:
        found["standings"] = [standing_of(study, s, folder) for s in study.scenarios]
    return found


def _portions(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), _AT_ONCE):
        yield paths[start : start + _AT_ONCE]


def _left(study: Study, missing: Sequence[Job], tally: _Tally) -> dict[str, float | None]:
    todo: Counter[str] = Counter()
    for job in missing:
        todo[job.method] += job.last - job.first + 1
    return {
        name: 0.0
        if not todo[name]
        else todo[name] * tally.seconds[name] / tally.timed[name]
        if tally.timed[name]
        else None
        for name in (m.name for m in study.methods)
    }


def _rate(folder: Path, done: Sequence[Job]) -> float | None:
    """Fits per second, from the start of a run to the end of the last batch of it."""
    started = run_started(folder)
    if started is None:
        return None
    fits, last = 0, started
    for job in done:
        path = folder / job.path
        ended = dict(stored_metadata(str(path), path.stat().st_mtime_ns)).get("ended", "")
        if ended >= started:  # as text: all times are UTC to the second
            fits += job.last - job.first + 1
            last = max(last, ended)
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(started)).total_seconds()
    return fits / max(seconds, 1.0) if fits else None
