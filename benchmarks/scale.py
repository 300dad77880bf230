"""What a plan of a million fits needs: files, time and memory of all that is not a fit.

Usage: `python benchmarks/scale.py [--full] [--out FOLDER]`

A plan has 5,000 replications by two methods on the fake backend, in batches of 100; its scenarios
make its size: 1 for 10,000 fits, 5, 10, and 100 for a million. Batches of the fake backend are
fitted once; every other file has their rows under its own address, with other estimates, as what
is measured does not depend on the numbers. Each step runs in a process of its own; the law
a + b n goes through the sizes by least squares and says what a million needs. `--full` also makes
and measures the million (2 GB on disk). Writes `benchmarks/scale.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

ROOT = Path(__file__).resolve().parents[1]
REPLICATIONS, BATCH, METHODS = 5000, 100, 2
SIZES, MILLION = (1, 5, 10), 100  # scenarios
PER_SCENARIO = REPLICATIONS * METHODS
STUDY = """\
aims: What a plan of a million fits needs.
seed: 1
replications: {replications}
batch: {batch}
membership: {{kind: synthetic, groups: 30, members: 15, size: 3, overlap: 1.0}}
covariates:
  x: {{level: member}}
  power: {{level: membership}}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n^exp(b1*power)), RE = TRUE)
  parameters: {{"b_l2[Intercept]": 0, "b_l1[x]": 0, "b_w[b1]": 0, sigma_l1: 1, sigma_l2: 1}}
vary:
  effect: {{path: "truth.parameters.b_l1[x]", values: {effects}}}
methods:
  - {{name: mm, kind: mm, backend: fake, sampler: {{chains: 2, warmup: 10, draws: 50}}}}
  - {{name: mmmm, kind: mmmm, backend: fake, sampler: {{chains: 2, warmup: 10, draws: 50}}}}
estimands:
  - {{parameter: "b_l1[x]"}}
"""
#: Step -> what it is; all but the first count as the time of graph and collection.
STEPS = {
    "graph": "`snakemake -n`, nothing there",
    "resume": "`snakemake -n`, all batches there",
    "status": "`rmm study status`",
    "collect": "collection",
    "performance": "measures",
    "report": "report",
}
AFTER = ("graph", "resume", "collect", "performance", "report")


@dataclass(frozen=True)
class Cost:
    """Of one step: wall and CPU seconds, and peak memory in MB of its largest process."""

    wall: float
    cpu: float
    memory: float


# -- a study of some size --------------------------------------------------------------------


def place(folder: Path, scenarios: int, replications: int = REPLICATIONS) -> Path:
    """A copy of the workflow with the study `scale`; its results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    effects = [round(i / 100, 2) for i in range(scenarios)]
    text = STUDY.format(replications=replications, batch=BATCH, effects=effects)
    (folder / "config" / "studies" / "scale.yaml").write_text(text)
    return folder / "results" / "scale"


def fill(folder: Path, once: Path) -> None:
    """All batches, from those that `fit_once` left in `once`, by method."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from rmm.study import load_study, plan
    from rmm.study.files.environment import running_on
    from rmm.study.files.parquet import ESTIMATES, write_parquet
    from rmm.study.run.batch_index import note_batch
    from rmm.study.run.metadata import metadata_of

    study = load_study(folder / "config" / "studies" / "scale.yaml")
    fitted = {
        m.name: pq.read_table(once / "fitted" / f"{m.name}.parquet", partitioning=None)
        for m in study.methods
    }
    rng, ran = np.random.default_rng(1), running_on()
    for job in plan(study):
        table = fitted[job.method]
        columns = {name: table[name] for name in table.schema.names}
        count = len(table)
        columns["scenario"] = pa.array([job.scenario] * count)
        columns["replication"] = pc.add(table["replication"], pa.scalar(job.first - 1, pa.int32()))
        for name in ("mean", "median", "sd", "lower", "upper", "lower90", "upper90"):
            columns[name] = pc.multiply(table[name], rng.uniform(0.9, 1.1, count))
        facts = {
            **metadata_of(study, job.scenario, study.method(job.method), job.first, job.last),
            **ran,
            "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:00:10Z",
        }
        schema = ESTIMATES.with_metadata({f"rmm.{k}": v for k, v in facts.items()})
        path = folder / "results" / "scale" / job.path
        written = pa.table(columns).cast(schema)
        write_parquet(written, path)  # with the digest of a real one, and its line of the index
        note_batch(path, written, facts)


def fit_once(folder: Path) -> None:
    """A batch by each method on the fake backend, and how many CPU seconds a fit took."""
    from rmm.study import load_study, run_batch

    place(folder, 1)
    study = load_study(folder / "config" / "studies" / "scale.yaml")
    scenario, out = study.scenarios[0].id, folder / "fitted"
    began = time.process_time()
    for method in study.methods:
        path = folder / "results" / "scale" / "estimates" / scenario / method.name / "1-1.parquet"
        run_batch(study, scenario, method.name, 1, BATCH, path)
        out.mkdir(exist_ok=True)
        path.rename(out / f"{method.name}.parquet")
    spent = (time.process_time() - began) / (BATCH * len(study.methods))
    (out / "seconds").write_text(str(spent))


def first_fit() -> None:
    """A batch of one fit in this folder's study, as a worker does it."""
    from rmm.study import load_study, run_batch

    study = load_study("config/studies/scale.yaml")
    path = Path("first/estimates/s/m/1-1.parquet")
    run_batch(study, study.scenarios[0].id, study.methods[1].name, 1, 1, path)


# -- measuring -------------------------------------------------------------------------------


def measured(step: str, folder: Path) -> Cost:
    """Run a step in its own process."""
    command = [sys.executable, str(Path(__file__)), "--step", step]
    if step in ("graph", "resume"):
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-n",
            "--cores",
            "1",
            "--quiet",
            "all",
            "--config",
            "study=scale",
        ]
    if step == "status":
        command = [sys.executable, "-m", "rmm", "study", "status", "config/studies/scale.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, code, used = os.wait4(process.pid, 0)
    if code:
        raise SystemExit(f"{step} failed:\n{said[-3000:]}")
    cost = Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
    name = step.partition(":")[0]
    print(
        f"    {name:12} {cost.wall:7.1f} s {cost.cpu:7.1f} s of CPU {cost.memory:6.0f} MB",
        flush=True,
    )
    return cost


def one_step(step: str) -> None:
    """What the workflow's script of that name does, here; or a step of this file's own.

    In processes of their own, as the peak memory of a process is at least that of the one that
    started it.
    """
    name, _, argument = step.partition(":")
    if name == "fit_once":
        fit_once(Path(argument))
        return
    if name == "fill":
        fill(Path(), Path(argument))
        return
    from rmm.study import collect, load_study, plan, write_design, write_performance
    from rmm.study.report import write_report

    study, out = load_study("config/studies/scale.yaml"), Path("results/scale")
    if step == "collect":
        write_design(study, out)
        collect(study, [out / job.path for job in plan(study, out)], out / "estimates.parquet")
    elif step == "performance":
        write_performance(study, out / "estimates.parquet", out / "performance.parquet")
    else:
        write_report(study, out)


def files_of_a_run(folder: Path) -> tuple[int, int]:
    """Files that a batch leaves, and all others, after a small study run by Snakemake."""
    results = place(folder, 1, 4)
    config = folder / "config" / "studies" / "scale.yaml"
    config.write_text(config.read_text().replace(f"batch: {BATCH}", "batch: 2"))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "study=scale"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    batches = len(list(results.glob("estimates/*/*/*.parquet")))
    of_batches = batches + len(list(results.glob("logs/fit/*/*/*.log")))
    kept = [p for p in (folder / ".snakemake" / "metadata").rglob("*") if p.is_file()]
    everything = [
        p for p in [*results.rglob("*"), *(folder / ".snakemake").rglob("*")] if p.is_file()
    ]
    others = len(everything) - of_batches - len(kept)
    outputs = len(kept) - batches  # of other rules
    return (of_batches + batches) // batches, others + outputs


def law(sizes: list[int], values: list[float]) -> tuple[float, float]:
    """Least squares of value = a + b n; neither is below 0."""
    if len(sizes) == 1:
        return 0.0, values[0] / sizes[0]
    b, a = linear_regression(sizes, values)
    if b < 0:
        return sum(values) / len(values), 0.0
    if a < 0:
        return linear_regression(sizes, values, proportional=True)[::-1]
    return a, b


# -- the table -------------------------------------------------------------------------------


def page(
    costs: dict[int, dict[str, Cost]], files: tuple[int, int], per_fit: float, law_sizes: list[int]
) -> str:
    """The Markdown page."""
    per_batch, fixed = files
    total = MILLION * PER_SCENARIO // BATCH * per_batch + fixed
    head = ["step", *(f"{n * PER_SCENARIO:,} fits" for n in costs), "law", "1,000,000 fits by it"]
    rows, memory, sums = [], [], {"wall": 0.0, "cpu": 0.0}
    for step, what in STEPS.items():
        cells, found = [what], {}
        for kind in ("wall", "cpu"):
            values = [getattr(costs[n][step], kind) for n in law_sizes]
            found[kind] = law([n * PER_SCENARIO // 1000 for n in law_sizes], values)
            if step in AFTER:
                by_law = found[kind][0] + 1000 * found[kind][1]
                sums[kind] += getattr(costs[MILLION][step], kind) if MILLION in costs else by_law
        for n in costs:
            cost = costs[n][step]
            cells.append(f"{cost.wall:.1f} ({cost.cpu:.1f}) s, {cost.memory:.0f} MB")
        (a, b), (_, wall) = found["cpu"], found["wall"]
        cells.append(f"{a:.1f} + {b:.4f} n")
        most = law(
            [n * PER_SCENARIO // 1000 for n in law_sizes],
            [costs[n][step].memory for n in law_sizes],
        )
        by_law = most[0] + 1000 * most[1]
        memory.append(costs[MILLION][step].memory if MILLION in costs else by_law)
        expected = found["wall"][0] + 1000 * wall
        cells.append(f"{expected:.0f} ({a + 1000 * b:.0f}) s, {by_law:.0f} MB")
        rows.append(cells)
    table = "\n".join(f"| {' | '.join(r)} |" for r in [head, ["---"] * len(head), *rows])
    lines = [
        "# A million fits",
        "",
        "Made by `python benchmarks/scale.py`, whose head says how; do not edit. Wall seconds (CPU "
        "seconds in parentheses) and peak memory of each step, in a process of its own, imports "
        "included. The law: CPU seconds, n in thousands of fits.",
        "",
        table,
        "",
        f"* Files: {per_batch} per batch of {BATCH} (estimates, log, Snakemake's record), and "
        f"{fixed} others in a small run: **{total:,}** for a million fits (aim: below 50,000).",
        f"* Graph, resumed graph, collection, measures and report of a million fits: "
        f"**{sums['wall'] / 60:.1f} min**, {sums['cpu'] / 60:.1f} min of CPU (aim: 10 min). A run "
        "from nothing builds the graph once and needs no resumed one.",
        f"* Most memory of any process{' that was measured' if MILLION in costs else ''}: "
        f"**{max(memory):.0f} MB** (aim: below 2 GB).",
        f"* A fit on the fake backend took {1000 * per_fit:.0f} ms of CPU here, so that the fits "
        f"themselves would take {per_fit * 1e6 / 3600:.1f} h on one core.",
        "",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores with other work on "
        f"them (load {os.getloadavg()[1]:.0f}), Python {platform.python_version()}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all sizes and write the page."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--full", action="store_true", help="measure a million, too")
    options.add_argument("--sizes", default=",".join(map(str, SIZES)), help="scenarios")
    options.add_argument("--out", help="folder to keep; a temporary one by default")
    options.add_argument("--page", default=str(ROOT / "benchmarks" / "scale.md"))
    options.add_argument("--step", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.step:
        one_step(chosen.step)
        return
    sizes = [int(n) for n in chosen.sizes.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(chosen.out or temporary).resolve()
        root.mkdir(parents=True, exist_ok=True)
        measured(f"fit_once:{root / 'once'}", root)
        per_fit = float((root / "once" / "fitted" / "seconds").read_text())
        print(f"a fit on the fake backend: {1000 * per_fit:.1f} ms of CPU", flush=True)
        files = files_of_a_run(root / "run")
        print(f"files: {files[0]} per batch and {files[1]}", flush=True)
        costs = {}
        for n in [*sizes, *([MILLION] if chosen.full else [])]:
            print(f"{n * PER_SCENARIO:,} fits", flush=True)
            folder = root / str(n)
            place(folder, n)
            costs[n] = {"graph": measured("graph", folder)}
            measured(f"fill:{root / 'once'}", folder)
            costs[n] |= {step: measured(step, folder) for step in list(STEPS)[1:]}
            if not chosen.out:
                shutil.rmtree(folder)
        Path(chosen.page).write_text(page(costs, files, per_fit, sizes))
        print(f"written to {chosen.page}")


if __name__ == "__main__":
    main()
