"""Wall seconds of 10,000 replications of one model, and of the quick start, start to report."""

from __future__ import annotations

import json

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.speed.machine import ROOT
from benchmarks.speed.problems import Problem
from benchmarks.speed.workflow import BATCH, project, run_study

#: 100 groups of three from 40 members, all shared, weights estimated.
PROBLEM = Problem("many", "gaussian", "gaussian", 100, 40)
REPLICATIONS, CORES = 10_000, 2


def many_fits(replications: int = REPLICATIONS, cores: int = CORES) -> str:
    """Run a study of many replications on some cores; return a line of its cost."""
    with project() as folder:
        text = PROBLEM.study_text(replications, BATCH)
        cost = run_study(folder, text, "many", cores)
        table = pq.read_table(folder / "results" / "many" / "estimates.parquet")
    once = table.filter(pc.equal(table["parameter"], "b_l1[x]"))
    endings = {str(c["values"]): c["counts"] for c in once["status"].value_counts().to_pylist()}
    seconds = pc.sum(once["seconds"]).as_py()
    return (
        f"{replications:,} replications on {cores} cores: {cost.wall:.0f} s wall, "
        f"{cost.cpu:.0f} s of CPU; {seconds / cost.wall / cores:.0%} of the cores' time in fits; "
        f"{json.dumps(endings)}"
    )


def quick_start(cores: int = CORES) -> str:
    """Run the quick start, as `make study` does after set-up; return a line of its cost."""
    text = (ROOT / "config" / "studies" / "quickstart.yaml").read_text()
    with project() as folder:
        cost = run_study(folder, text, "quickstart", cores)
    return f"make study on {cores} cores: {cost.wall:.0f} s wall, {cost.cpu:.0f} s of CPU"
