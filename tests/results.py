"""A results folder as a run of the workflow leaves it, made without Snakemake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rmm.study import Study, collect, load_study, plan, write_design, write_performance
from rmm.study.files import seeds
from rmm.study.manage.steps import Outdated, end_step, outdated_steps, record_path
from rmm.study.run.batch import run_batch
from tests.projects import STUDY

STEPS = ("design", "collect", "performance")


@dataclass(frozen=True)
class Results:
    """A study and its results."""

    study: Study
    folder: Path

    @property
    def content(self) -> str:
        return seeds.digest(self.study.config)

    @property
    def batches(self) -> list[Path]:
        """Those that the study asks for."""
        return [self.folder / job.path for job in plan(self.study, self.folder)]

    def outdated(self) -> list[Outdated]:
        """Steps that a run would repeat."""
        return outdated_steps(STEPS, self.folder, self.content, self.batches)

    def end(self, step: str, batches: list[Path] | None = None) -> None:
        end_step(step, self.folder, self.folder / record_path(step, self.content), batches or [])


def load(folder: Path, **changes: Any) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return load_study(file)


def finished(folder: Path, **changes: Any) -> Results:
    """Batches, collected estimates, measures and their records."""
    results = Results(load(folder, **changes), folder / "results" / "tiny")
    for job in plan(results.study):
        path = results.folder / job.path
        run_batch(results.study, job.scenario, job.method, job.first, job.last, path)
    write_design(results.study, results.folder)
    results.end("design")
    collect(results.study, results.batches, results.folder / "estimates.parquet")
    results.end("collect", results.batches)
    write_performance(
        results.study,
        results.folder / "estimates.parquet",
        results.folder / "performance.parquet",
    )
    results.end("performance")
    return results


def both_pages(index: Path) -> str:
    """The text of a report's first page, and of the page with all numbers beside it."""
    numbers = index.with_name("numbers.html")
    return index.read_text(encoding="utf-8") + numbers.read_text(encoding="utf-8")
