"""CPU seconds of fits inside a study: from the simulated task to its rows of estimates.

usage: python -m benchmarks.speed.study_fits PROBLEM fixed|estimated FIRST LAST

Prints one line of JSON. The process first fits other data sets, which loads all libraries.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.speed.problems import PROBLEMS
from rmm.study.methods.fit_task import fit_task
from rmm.study.run.replicate import make_task

#: Data sets of the warm-up batch; no measured replication has such a number.
WARM_UP = range(9001, 9006)


def measure(problem: str, weights: str, first: int, last: int) -> dict[str, object]:
    """Return mean CPU seconds of simulating and of fitting, and how the fits ended."""
    with tempfile.TemporaryDirectory() as folder:
        study = PROBLEMS[problem].study(Path(folder), WARM_UP.stop)
    scenario, method = study.scenarios[0], study.method(weights)
    for replication in WARM_UP:
        fit_task(make_task(study, scenario, method, replication))
    simulating = fitting = 0.0
    endings: Counter[str] = Counter()
    for replication in range(first, last + 1):
        started = time.process_time()
        task = make_task(study, scenario, method, replication)
        drawn = time.process_time()
        endings[fit_task(task).status] += 1
        fitting += time.process_time() - drawn
        simulating += drawn - started
    fits = last - first + 1
    return {
        "fits": fits,
        "cpu_seconds": fitting / fits,
        "simulating": simulating / fits,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "note": ", ".join(f"{count} {status}" for status, count in sorted(endings.items())),
    }


if __name__ == "__main__":
    name, kind, *numbers = sys.argv[1:]
    print(json.dumps(measure(name, kind, *map(int, numbers))))
