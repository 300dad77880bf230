"""What a study costs besides its fits, in two checkouts side by side.

    python benchmarks/workflow_cost.py PATH_BEFORE [PATH_AFTER] [--keep FOLDER] [--only PART ...]

CPU seconds, with those of all processes that a step starts, as other work on the machine changes
them less than wall seconds; both checkouts run in turns on the same files. Parts:

* ``job``: a job of a workflow until its first fit, without Python itself; the least of five.
* ``workflow``: Snakemake from nothing to the report, with fits by least squares, which take about
  a millisecond each (5 scenarios, 4 methods, 100 replications in batches of 100).
* ``status``: `rmm study status` of a million fits in 10,000 batches: the first time, when no index
  of the batches is there, and after it.
* ``report``: collection, measures and report of 400 scenarios by 4 methods; PATH_AFTER also does
  2,000 scenarios. Before, measures took time in proportion to the square of the scenarios.

Writes ``benchmarks/results/workflow_cost.txt`` if all parts run.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import study_scale
from scale import fill, fit_once, place

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS, MANY = 400, 2000
FITS = """\
methods:
  - {name: aggregation, kind: aggregation, backend: ols}
  - {name: robust, kind: aggregation, backend: ols, errors: robust}
  - {name: disaggregation, kind: disaggregation, backend: ols}
  - {name: clustered, kind: disaggregation, backend: ols, errors: cluster, cluster: [group]}
estimands:
"""
_JOB = """\
from rmm.study.design.study import load_checked
from rmm.study.run.batch import run_batch
run_batch
load_checked("config/studies/scale.yaml", "none", "none")
"""
_AFTER_FITS = """\
import sys
from pathlib import Path
from rmm.study import collect, plan, write_performance
from rmm.study.design.study import load_checked
from rmm.study.report import write_report
study, folder = load_checked("scale.yaml"), Path("scale")
if sys.argv[1] == "collect":
    collect(study, [folder / job.path for job in plan(study, folder)], folder / "estimates.parquet")
elif sys.argv[1] == "measures":
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
else:
    write_report(study, folder)
"""


def cpu(checkout: Path, folder: Path, *words: str) -> float:
    """CPU seconds of a Python process with the package of a checkout."""
    path = {"PYTHONPATH": str(checkout), "OPENBLAS_NUM_THREADS": "1"}
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**kept, **path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:80]} failed:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def job(roots: tuple[Path, Path], folder: Path) -> Iterator[str]:
    """Imports and the study file."""
    place(folder, 20)
    empty = min(cpu(roots[0], folder, "-c", "pass") for _ in range(5))
    spent = [min(cpu(root, folder, "-c", _JOB) for _ in range(5)) - empty for root in roots]
    yield line("start of a job", *spent)


def workflow(roots: tuple[Path, Path], folder: Path) -> Iterator[str]:
    """From nothing to the report."""
    rows = []
    for number, root in enumerate(roots):
        here = folder / str(number)
        results = place(here, 5, 100)
        shutil.rmtree(here / "workflow")
        shutil.copytree(root / "workflow", here / "workflow")
        if (root / "Snakefile").is_file():  # of an older checkout
            shutil.copy(root / "Snakefile", here)
        file = here / "config" / "studies" / "scale.yaml"
        text = file.read_text()
        file.write_text(text[: text.index("methods:")] + FITS + '  - {parameter: "b_l1[x]"}\n')
        words = ("-m", "snakemake", "--cores", "2", "--config", "study=scale")
        rows.append((cpu(root, here, *words), sum(1 for _ in results.glob("logs/fit/**/*.log"))))
    yield line("a workflow of 2,000 fits by least squares", rows[0][0], rows[1][0])
    yield f"{'    its jobs that fit':48} {rows[0][1]:9} {rows[1][1]:9}"


def counted(roots: tuple[Path, Path], folder: Path) -> Iterator[str]:
    """The state of a million fits."""
    results = folder / "results" / "scale"
    if not results.exists():
        place(folder, 100)
        fit_once(folder / "once")
        here = Path.cwd()
        os.chdir(folder)
        fill(Path(), folder / "once")
        os.chdir(here)
    words = ("-m", "rmm", "study", "status", "config/studies/scale.yaml")
    (results / "logs" / "batches.jsonl").unlink(missing_ok=True)
    before = cpu(roots[0], folder, *words)
    first = cpu(roots[1], folder, *words)
    again = min(cpu(roots[1], folder, *words) for _ in range(3))
    yield line("rmm study status of a million fits", before, again)
    yield line("    the first time, without an index", before, first)


def report(roots: tuple[Path, Path], folder: Path) -> Iterator[str]:
    """What follows after the fits."""
    for count, checkouts in ((SCENARIOS, roots), (MANY, roots[1:])):
        here = folder / str(count)
        if not (here / "scale").exists():
            here.mkdir(parents=True)
            groups = [10 * (i + 1) for i in range(count // 4)]
            text = study_scale.STUDY.format(replications=50, groups=groups)
            (here / "scale.yaml").write_text(text)
            study_scale.measure("batches", study_scale.make, here / "scale.yaml", here / "scale")
        for step in ("collect", "measures", "report"):
            spent = [cpu(root, here, "-c", _AFTER_FITS, step) for root in checkouts]
            yield line(f"{step}, {count:,} scenarios", *([None] if len(spent) == 1 else []), *spent)


def line(what: str, before: float | None, after: float) -> str:
    """A row: CPU seconds before and after, and their ratio."""
    if before is None:
        return f"{what:48} {'':9} {after:9.2f}"
    return f"{what:48} {before:9.2f} {after:9.2f} {after / before:6.2f}"


PARTS = {"job": job, "workflow": workflow, "status": counted, "report": report}


def main() -> None:
    """Measure, print and keep the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("before", type=Path)
    options.add_argument("after", type=Path, nargs="?", default=ROOT)
    options.add_argument("--keep", type=Path, help="folder for the made-up results; kept, and used")
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = options.parse_args()
    roots = given.before.resolve(), given.after.resolve()
    lines = [f"{'CPU seconds':48} {'before':>9} {'after':>9} {'ratio':>6}"]
    print(lines[0], flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        for name in given.only:
            for row in PARTS[name](roots, folder / name):
                lines.append(row)
                print(row, flush=True)
    if given.only == list(PARTS):
        (ROOT / "benchmarks" / "results" / "workflow_cost.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
