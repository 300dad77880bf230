"""How far a running study is, and how long it will still take: two small files in its logs.

`progress.json` is written when a run starts (what there is to do); every finished batch appends
one line to `batches.jsonl`. The time left is what the remaining fits of each method take at its
own pace so far, shared among as many processes as were busy at the same time so far.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol


class Batch(Protocol):
    """A job of the plan: replications `first` to `last` of a method, kept in `path`."""

    method: str
    first: int
    last: int
    path: Any


def begin(jobs: Iterable[Batch], folder: Path, *, at_most: bool = False) -> None:
    """Note what a run that starts now has to do in `folder`; times of an older run are dropped.

    `at_most`: the study may end before all of them are done.
    """
    todo: Counter[str] = Counter()
    done = 0
    for job in jobs:
        fits = job.last - job.first + 1
        if (folder / job.path).exists():
            done += fits
        else:
            todo[job.method] += fits
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    start = {"started": time.time(), "done": done, "todo": dict(todo), "at_most": at_most}
    (logs / "batches.jsonl").unlink(missing_ok=True)
    _replace(logs / "progress.json", json.dumps(start))


def note(folder: Path, method: str, fits: int, seconds: float) -> str:
    """Record a finished batch and say how far the study is.

    Returns
    -------
    str
        Such as ``fits 350 of 1,200 (29%), about 3 min left``; empty if no run has begun here.
    """
    line = json.dumps({"method": method, "fits": fits, "seconds": round(seconds, 3)}) + "\n"
    target = folder / "logs" / "batches.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line.encode())  # one write: lines of parallel jobs do not mix
    finally:
        os.close(handle)
    return say(folder)


def say(folder: Path, now: float | None = None) -> str:
    """How far the running (or last) run of a study is; empty if there was none."""
    try:
        start = json.loads((folder / "logs" / "progress.json").read_text(encoding="utf-8"))
        batches = (folder / "logs" / "batches.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    finished = [json.loads(line) for line in batches if line.endswith("}")]
    done: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for batch in finished:
        done[batch["method"]] += batch["fits"]
        spent[batch["method"]] += batch["seconds"]
    everything = start["done"] + sum(start["todo"].values())
    so_far = min(everything, start["done"] + sum(done.values()))
    share = 100 * so_far // everything if everything else 100
    elapsed = (time.time() if now is None else now) - start["started"]
    left = _left(start["todo"], done, spent, elapsed)
    if not start.get("at_most"):
        return f"fits {so_far:,} of {everything:,} ({share}%){left}"
    return f"fits {so_far:,} of at most {everything:,}{left.replace('about', 'at most about')}"


def _left(todo: dict[str, int], done: Counter[str], spent: Counter[str], elapsed: float) -> str:
    remaining = {m: n - done[m] for m, n in todo.items() if n > done[m]}
    if not remaining:
        return ""
    busy = max(1.0, sum(spent.values()) / max(elapsed, 1e-9))
    known = sum(n * spent[m] / done[m] for m, n in remaining.items() if done[m])
    unknown = [m for m in remaining if not done[m]]
    left = f", about {words(known / busy)} left" if known else ""
    if unknown:
        left += f"{' and' if known else ','} {', '.join(sorted(unknown))} yet to be timed"
    return left


def words(seconds: float) -> str:
    """A time span as people say it: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
