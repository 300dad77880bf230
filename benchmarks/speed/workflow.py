"""Studies run by Snakemake from nothing: CPU seconds per fit, all of the workflow included."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.machine import ROOT, cpu_of_children, environment, python_of
from benchmarks.speed.problems import Problem

BATCH = 500


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of a study, start to report."""

    cpu: float
    wall: float


@contextmanager
def project(checkout: Path = ROOT) -> Iterator[Path]:
    """Yield a temporary copy of a checkout, as far as a study needs it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("Snakefile", "pyproject.toml"):  # older checkouts have the first here
            if (checkout / file).is_file():
                shutil.copy(checkout / file, folder)
        for part in ("workflow", "config"):
            shutil.copytree(checkout / part, folder / part)
        if (folder / "Snakefile").is_file():  # Snakemake looks for profiles beside it
            (folder / "profiles").symlink_to("workflow/profiles")
        yield folder


def run_study(folder: Path, text: str, name: str, cores: int = 1, checkout: Path = ROOT) -> Cost:
    """Run a study in a copy of a checkout, from data to report."""
    (folder / "config" / "studies" / f"{name}.yaml").write_text(text)
    command = [python_of(checkout), "-m", "snakemake", "--cores", str(cores), "--config"]
    cpu, began = cpu_of_children(), time.perf_counter()
    done = subprocess.run(
        [*command, f"study={name}"],
        cwd=folder,
        env=environment(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The study {name} has failed:\n{done.stderr[-3000:]}")
    return Cost(cpu_of_children() - cpu, time.perf_counter() - began)


def measure(
    problem: Problem, weights: str, few: int, many: int, checkout: Path = ROOT
) -> dict[str, object]:
    """Return CPU seconds per fit of a study, and those of its start, measures and report.

    A study of `few` fits and one of `many` run; the difference belongs to the fits between them,
    with the start of one process for a batch of 500.
    """
    spent = []
    with project(checkout) as folder:
        for fits in (few, many):
            text = problem.study_text(fits, BATCH, (weights,))
            name = f"{problem.name}_{weights}_{fits}"
            spent.append(run_study(folder, text, name, checkout=checkout).cpu)
    per_fit = (spent[1] - spent[0]) / (many - few)
    return {
        "fits": many - few,
        "cpu_seconds": per_fit,
        "note": f"{spent[0] - few * per_fit:.1f} s for start, measures and report of a study",
    }
