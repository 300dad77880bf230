"""How far a study is: what its finished batches hold, and what is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rmm.study.design.study import Study
from rmm.study.manage.jobs import Job, plan, replications_asked, standing_of
from rmm.study.run.batch_index import BatchIndex, BatchSummary
from rmm.study.run.progress import run_started


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
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    timed: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)

    def add(self, job: Job, batch: BatchSummary) -> None:
        """Count the fits of a batch."""
        self.fits.update(batch.fits)
        self.seconds[job.method] += batch.seconds
        self.timed[job.method] += batch.timed
        for one in batch.reasons:
            reason = (job.method, one.status, one.message)
            self.reasons[reason] += one.fits
            self.first.setdefault(reason, (job.scenario, one.replication))


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
        jobs, done, missing (list of Job), fits (status -> number of finished fits that the study
        asks for now: files may hold more), reasons (list of Reason, the most frequent first),
        seconds (of these fits), seconds_left (missing replications at the mean of each method, on
        one core; None for a method without a finished fit), rate (fits per second of the running,
        or last, run; None where nothing is known of one), time_left (seconds until all are done
        at this rate, or None) and, with `stopping`, standings (where each scenario stands; jobs are
        then those up to its next decision).
    """
    folder = Path(folder)
    jobs = plan(study, folder)
    asked = replications_asked(study, folder)
    index = BatchIndex(folder)
    missing: list[Job] = []
    done: list[tuple[Job, str]] = []
    tally = _Tally()
    for job in jobs:
        batch = index.batch(job.path, asked[job.scenario, job.method])
        if batch is None:
            missing.append(job)
            continue
        metadata, summary = batch
        tally.add(job, summary)
        done.append((job, metadata.get("ended", "")))
    index.save()
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
    found["rate"] = _rate(folder, done)
    todo = sum(job.last - job.first + 1 for job in missing)
    found["time_left"] = 0.0 if not todo else todo / found["rate"] if found["rate"] else None
    if study.stopping is not None:
        found["standings"] = [standing_of(study, s, folder) for s in study.scenarios]
    return found


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


def _rate(folder: Path, done: Iterable[tuple[Job, str]]) -> float | None:
    """Fits per second, from the start of a run to the end of the last batch of it.

    `done` has the finished batches, and when each ended.
    """
    started = run_started(folder)
    if started is None:
        return None
    fits, last = 0, started
    for job, ended in done:
        if ended >= started:  # as text: all times are UTC to the second
            fits += job.last - job.first + 1
            last = max(last, ended)
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(started)).total_seconds()
    return fits / max(seconds, 1.0) if fits else None


def other_batches(study: Study, folder: str | Path) -> int:
    """Number of finished batches of scenarios and methods that a study does not have.

    Parameters
    ----------
    study : Study
    folder : path
        Its results.
    """
    scenarios, methods = {s.id for s in study.scenarios}, {m.name for m in study.methods}
    return sum(
        path.parts[-3] not in scenarios or path.parts[-2] not in methods
        for path in Path(folder, "estimates").glob("*/*/*.parquet")
    )
