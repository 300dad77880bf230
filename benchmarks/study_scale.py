"""Seconds and memory of collecting, scoring and reporting a large study.

Usage: `python benchmarks/study_scale.py [--scenarios 100] [--replications 500] [--out FOLDER]`

Writes the batches of a study with 100 scenarios, 4 methods and 500 replications (200,000 rows of
estimates in batches of 50) through the package's own writer, with random estimates, and runs
what the workflow runs afterwards, each step in a process of its own. Aim: all of them in 60 s and
2 GB on 2 cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmm.study import Study, collect, load_study, plan, status, write_design, write_performance
from rmm.study.files.parquet import estimates_table, write_parquet
from rmm.study.run.metadata import metadata_of

STUDY = """\
aims: How long a large study takes after its fits.
seed: 1
replications: {replications}
batch: 50
membership: {{kind: synthetic, groups: 40, members: 20, size: 3, overlap: 1.0}}
covariates:
  x: {{level: member}}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)
  parameters: {{"b_l2[Intercept]": 0, "b_l1[x]": 0, sigma_l1: 1, sigma_l2: 1}}
vary:
  effect: {{path: "truth.parameters.b_l1[x]", values: [0, 0.1, 0.2, 0.3]}}
  groups: {{path: membership.groups, values: {groups}}}
methods:
  - {{name: aggregation, kind: aggregation}}
  - {{name: robust, kind: aggregation, errors: robust}}
  - {{name: disaggregation, kind: disaggregation}}
  - {{name: clustered, kind: disaggregation, errors: cluster, cluster: [group]}}
estimands:
  - {{parameter: "b_l1[x]"}}
"""


def main() -> None:
    """Make the study, then measure each step."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--scenarios", type=int, default=100, help="a multiple of 4")
    options.add_argument("--replications", type=int, default=500)
    options.add_argument("--out", help="folder to keep; a temporary one by default")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(chosen.out or temporary)
        root.mkdir(parents=True, exist_ok=True)
        groups = [10 * (i + 1) for i in range(chosen.scenarios // 4)]
        file = root / "scale.yaml"
        file.write_text(STUDY.format(replications=chosen.replications, groups=groups))
        measure("batches", make, file, root / "scale")
        steps: list[tuple[str, Callable[[Study, Path], object]]] = [
            ("plan", plan),
            ("status", status),
            ("design", write_design),
            ("collect", collected),
            ("performance", scored),
            ("report", reported),
        ]
        rows = [measure(name, step, file, root / "scale") for name, step in steps]
        show(
            "all after the fits",
            *(sum(row[i] for row in rows) for i in (0, 1)),
            max(row[2] for row in rows),
        )


def measure(
    name: str, step: Callable[[Study, Path], object], file: Path, folder: Path
) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak megabytes of one step in a process of its own.

    Imports are in both; on a machine that does other work, CPU seconds are what can be compared.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    started = time.perf_counter()
    process = context.Process(target=one_step, args=(step, file, folder, queue))
    process.start()
    busy, memory = queue.get()
    process.join()
    seconds = time.perf_counter() - started
    show(name, seconds, busy, memory)
    return seconds, busy, memory


def show(name: str, seconds: float, busy: float, memory: float) -> None:
    """One line of the table."""
    print(f"{name:20} {seconds:6.1f} s, {busy:6.1f} s of CPU, {memory:6.0f} MB", flush=True)


def one_step(
    step: Callable[[Study, Path], object],
    file: Path,
    folder: Path,
    queue: multiprocessing.Queue[tuple[float, float]],
) -> None:
    """Run a step and tell CPU seconds and peak memory, in MB, of this process."""
    try:
        step(load_study(file), folder)
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        queue.put((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))


def make(study: Study, folder: Path) -> None:
    """All batches, with random estimates that a regression could have given."""
    rng = np.random.default_rng(1)
    for job in plan(study):
        truth = study.scenario(job.scenario).factors["effect"]
        rows = []
        for replication in range(job.first, job.last + 1):
            sd = float(rng.uniform(0.08, 0.12))
            mean = float(truth + sd * rng.normal())
            rows.append({
                "scenario": job.scenario, "replication": replication, "method": job.method,
                "backend": "ols", "parameter": "b_l1[x]", "truth": truth, "mean": mean,
                "median": mean, "sd": sd, "lower": mean - 1.96 * sd, "upper": mean + 1.96 * sd,
                "lower90": mean - 1.64 * sd, "upper90": mean + 1.64 * sd,
                "lower99": mean - 2.58 * sd, "upper99": mean + 2.58 * sd, "df": 38.0, "null": 0.0,
                "p_value": float(2 * min(1, abs(np.exp(-abs(mean / sd) * 1.5)))) / 2,
                "seconds": 0.01, "status": "ok" if rng.uniform() > 0.01 else "not_converged",
                "seed": replication, "rmm_version": "0",
            })  # fmt: skip
        address = (job.scenario, study.method(job.method), job.first, job.last)
        write_parquet(estimates_table(rows, metadata_of(study, *address)), folder / job.path)


def collected(study: Study, folder: Path) -> None:
    """What the rule `collect` does."""
    collect(study, [folder / job.path for job in plan(study, folder)], folder / "estimates.parquet")


def scored(study: Study, folder: Path) -> None:
    """What the rule `performance` does."""
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")


def reported(study: Study, folder: Path) -> None:
    """What the rule `report` does."""
    from rmm.study.report import write_report

    write_report(study, folder)


if __name__ == "__main__":
    main()
