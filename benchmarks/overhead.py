"""What the workflow costs around the engine, and how fast things start.

Usage: `python -m benchmarks.overhead [--of RESULTS]`

Without `--of`: CPU seconds of imports, of the command line, of a worker until its first fit is
done, and of the workflow per fit with batches of 100 on the fake backend. The last is the
difference of two studies that Snakemake runs, of 2 and of 6 batches, less what the fits themselves
take in one process: starting processes, imports, files, collection and all else that grows with
the number of fits. CPU seconds, as they are the same on a busy machine.

With `--of results/NAME`, after a run from nothing in this folder: the share of the jobs' time, by
Snakemake's own records, that is in neither fits nor simulating data nor the report; compiling is
not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scale import BATCH, ROOT, STUDY, place
from benchmarks.speed.machine import cpu_of_children, environment

FEW, MANY = 2, 6
FITS = 200


def main() -> None:
    """Print the lines."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--of", type=Path, help="a results folder, after a run from nothing")
    chosen = options.parse_args()
    if chosen.of:
        share(chosen.of)
        return
    started("import rmm", "0.3", "-c", "import rmm")
    started("rmm --help", "0.5", "-m", "rmm", "--help")
    with tempfile.TemporaryDirectory() as folder:
        place(Path(folder), 1)
        first = "from benchmarks.scale import first_fit; first_fit()"
        started("a worker's first fit", "2", "-c", first, folder=Path(folder))
        per_fit(Path(folder))


def started(what: str, aim: str, *words: str, folder: Path = ROOT) -> None:
    """CPU and wall seconds of a process, the least of five: bytecode and disk are warm then."""
    times = []
    for _ in range(5):
        before, began = cpu_of_children(), time.perf_counter()
        subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        times.append((cpu_of_children() - before, time.perf_counter() - began))
    cpu, wall = (min(column) for column in zip(*times, strict=True))
    print(f"{what}: {cpu:.2f} s of CPU, {wall:.2f} s wall (aim: below {aim} s)", flush=True)


def per_fit(folder: Path) -> None:
    """Milliseconds of CPU per fit that are not in the fit."""
    file = folder / "config" / "studies" / "scale.yaml"
    spent = {}
    for batches in (FEW, MANY):
        replications = batches * BATCH // 2  # two methods
        file.write_text(STUDY.format(replications=replications, batch=BATCH, effects=[0]))
        before = cpu_of_children()
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config"]
        subprocess.run(
            [*command, "study=scale", f"results=of-{batches}"],
            cwd=folder,
            env=environment(),
            check=True,
            capture_output=True,
        )
        spent[batches] = cpu_of_children() - before
    slope = (spent[MANY] - spent[FEW]) / (MANY - FEW) / BATCH
    fit = seconds_of_a_fit(file)
    print(f"a fit on the fake backend: {1000 * fit:.1f} ms of CPU")
    print(f"with the workflow, batches of {BATCH}: {1000 * slope:.1f} ms")
    print(f"overhead: {1000 * (slope - fit):.1f} ms a fit (aim: 10 ms)")
    own = spent[FEW] - FEW * BATCH * slope
    print(f"a study's own start, design, measures and report: {own:.1f} s of CPU", flush=True)


def seconds_of_a_fit(file: Path) -> float:
    """CPU seconds of simulating and fitting, in a process that has done it before."""
    from rmm.study import load_study
    from rmm.study.methods.fit_task import fit_task
    from rmm.study.run.replicate import make_task, outcome_rows

    study = load_study(file)
    scenario = study.scenarios[0]

    def fit(method: object, replication: int) -> None:
        task = make_task(study, scenario, method, replication)  # type: ignore[arg-type]
        outcome_rows(study, scenario, task, replication, fit_task(task))

    for method in study.methods:
        fit(method, 1)
    began = time.process_time()
    for replication in range(2, 2 + FITS // 2):
        for method in study.methods:
            fit(method, replication)
    return (time.process_time() - began) / FITS


def share(results: Path) -> None:
    """Of the seconds of all jobs of a study, those outside of fits and of simulating data."""
    import pyarrow.parquet as pq

    jobs: dict[tuple[str, str], float] = {}  # a job of several outputs has a record for each
    for path in (Path(".snakemake") / "metadata").rglob("*"):
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            if record.get("endtime") and results.name in str(record.get("log")):
                key = (record["rule"], str(record["log"]))
                jobs[key] = record["endtime"] - record["starttime"]
    rules: dict[str, float] = {}
    for (rule, _), seconds in jobs.items():
        rules[rule] = rules.get(rule, 0.0) + seconds
    everything = sum(rules.values()) - rules.get("compile", 0.0)
    address = ["scenario", "method", "replication"]
    table = pq.read_table(results / "estimates.parquet", columns=[*address, "seconds"]).to_pandas()
    fits = table.drop_duplicates(address)
    simulated = len(fits) * seconds_of_data(results)
    outside = everything - simulated - fits["seconds"].sum()
    per_fit = outside - rules.get("report", 0.0)
    print(
        f"{len(jobs)} jobs, {everything:.1f} s without compiling: "
        f"{fits['seconds'].sum():.1f} s in {len(fits):,} fits, "
        f"about {simulated:.1f} s simulating their data, "
        f"{100 * per_fit / everything:.1f}% in starting processes, imports, files, collection "
        f"(aim: 5%), {100 * rules.get('report', 0.0) / everything:.1f}% in the report"
    )
    for rule, seconds in sorted(rules.items(), key=lambda pair: -pair[1]):
        print(f"    {rule:12} {seconds:8.1f} s")


def seconds_of_data(results: Path) -> float:
    """Of simulating one replication, the mean of 100 in each scenario."""
    from rmm.study import load_study
    from rmm.study.run.replicate import draw_replication

    study = load_study(ROOT / "config" / "studies" / f"{results.name}.yaml")
    for scenario in study.scenarios:  # what all replications share, and imports
        draw_replication(study.seed, scenario, 1)
    began = time.process_time()
    for scenario in study.scenarios:
        for replication in range(1, 101):
            draw_replication(study.seed, scenario, replication)
    return (time.process_time() - began) / 100 / len(study.scenarios)


if __name__ == "__main__":
    main()
