"""Jobs of a study: which there are, and which of them are done."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.evaluate.stopping_decision import Standing, standing
from rmm.study.files.parquet import read_batches
from rmm.study.methods.method import Method
from rmm.study.run.batch_index import BatchIndex
from rmm.study.run.metadata import SETTINGS, check_metadata

#: Names of the files of batches.
BATCH_FILE = re.compile(r"(\d+)-(\d+)\.parquet")


@dataclass(frozen=True)
class Job:
    """Replications `first` to `last` (from 1, both included) of one scenario and method.

    Attributes
    ----------
    scenario, method : str
        Id of the scenario, name of the method.
    path : str
        Where its estimates go, below the study's results folder.
    """

    scenario: str
    method: str
    first: int
    last: int

    @property
    def path(self) -> str:
        """Relative path: ``estimates/<scenario>/<method>/<first>-<last>.parquet``."""
        return f"estimates/{self.scenario}/{self.method}/{self.first:05d}-{self.last:05d}.parquet"


def plan(study: Study, folder: str | Path | None = None, *, to_maximum: bool = False) -> list[Job]:
    """Jobs that make up a study.

    Files that exist below `folder` are kept as jobs of their own range, whatever the batch
    size was; what they leave open is cut at multiples of the batch size. A study with
    `stopping` has those up to where each scenario ends, or up to its next decision.

    Parameters
    ----------
    study : Study
    folder : path, optional
        The study's results; without it nothing is taken as done.
    to_maximum : bool
        Whether to take `replications` for all scenarios, whatever `stopping` says.

    Returns
    -------
    list of Job
        Sorted by scenario, method and replication.

    Raises
    ------
    StudyError
        If a file there was made by another seed or by other settings of the method.
    """
    jobs: list[Job] = []
    for scenario in study.scenarios:
        stage = scenario.replications
        if study.stopping is not None and not to_maximum:
            stage = standing_of(study, scenario, folder).replications
        jobs += jobs_of(study, scenario, stage, folder)
    # Scenarios that differ in another method have a method's jobs in common.
    return sorted(set(jobs), key=lambda j: (j.scenario, j.method, j.first))


def replications_asked(
    study: Study, folder: str | Path | None = None
) -> dict[tuple[str, str], int]:
    """Replications that a study asks for now, by the scenario of the fits and method.

    With `stopping`, those up to where each scenario ends, or up to its next decision.

    Parameters
    ----------
    study : Study
    folder : path, optional
        The study's results.

    Returns
    -------
    dict
        (id of `Study.fitted_in`, method name) -> number.
    """
    asked: dict[tuple[str, str], int] = {}
    for scenario in study.scenarios:
        stage = scenario.replications
        if study.stopping is not None:
            stage = standing_of(study, scenario, folder).replications
        for method in study.methods:
            place = (study.fitted_in(scenario, method.name).id, method.name)
            count = min(stage, study.replications_of(scenario, method))
            asked[place] = max(count, asked.get(place, 0))
    return asked


def jobs_of(
    study: Study, scenario: Scenario, stage: int, folder: str | Path | None = None
) -> list[Job]:
    """Jobs of the first `stage` replications of a scenario, by all methods."""
    jobs: list[Job] = []
    for method in study.methods:
        wanted = min(stage, study.replications_of(scenario, method))
        fitted = study.fitted_in(scenario, method.name)
        settled = study.method_in(scenario, method.name)
        ends = _ends(study, fitted, method.name)
        jobs += method_jobs(study, fitted, settled, wanted, folder, ends)
    return jobs


def _ends(study: Study, fitted: Scenario, name: str) -> set[int]:
    """Where jobs of a method end, so that all scenarios that share them cut them alike."""
    sizes = {s.replications for s in study.sharers(fitted, name)}
    if study.stopping is not None:
        return {end for size in sizes for end in study.stopping.stages(size)}
    return sizes if len(sizes) > 1 else set()


def method_jobs(
    study: Study,
    scenario: Scenario,
    method: Method,
    wanted: int,
    folder: str | Path | None = None,
    ends: Collection[int] = (),
) -> list[Job]:
    """Jobs of the first `wanted` replications of a scenario and method; none crosses `ends`.

    `scenario` is the one in which the fits are (`Study.fitted_in`).
    """
    existing = [j for j in _existing(study, scenario, method, folder) if j.first <= wanted]
    found = gaps(existing, wanted, study.batch_of(method), ends)
    jobs = [Job(scenario.id, method.name, first, last) for first, last in found]
    return sorted(existing + jobs, key=lambda j: j.first)


def gaps(
    existing: Sequence[Job], wanted: int, batch: int, ends: Collection[int]
) -> Iterator[tuple[int, int]]:
    """Runs of replications that no file covers; one ends at each multiple of `batch`, and at
    each of `ends`: so a gap is cut alike however many replications are asked for now.
    """
    after = 1
    for job in [*existing, Job("", "", wanted + 1, wanted + 1)]:
        gap = range(after, job.first)
        if gap:
            cuts = {end for end in ends if end in gap} | set(
                range(-(-gap[0] // batch) * batch, gap[-1], batch)
            )
            for end in sorted(cuts | {gap[-1]}):
                yield after, end
                after = end + 1
        after = max(after, job.last + 1)


def _existing(
    study: Study, scenario: Scenario, method: Method, folder: str | Path | None
) -> list[Job]:
    if folder is None:
        return []
    inside = f"estimates/{scenario.id}/{method.name}"
    try:
        names = sorted(os.listdir(Path(folder) / inside))
    except OSError:
        return []
    index = BatchIndex(folder)
    found: list[Job] = []
    taken = 0
    checked: set[tuple[tuple[str, str], ...]] = set()
    for name in names:
        match = BATCH_FILE.fullmatch(name)
        if match is None:
            continue
        job = Job(scenario.id, method.name, int(match[1]), int(match[2]))
        if job.first <= taken:  # two batch sizes met in one run; the first file has the rows
            continue
        stored = index.metadata(f"{inside}/{name}")
        settings = tuple((key, stored[key]) for key in SETTINGS if key in stored)
        if not stored or settings not in checked:
            check_metadata(study, method, Path(folder) / inside / name, stored.items())
            checked.add(settings)
        found.append(job)
        taken = job.last
    return found


def standing_of(study: Study, scenario: Scenario, folder: str | Path | None) -> Standing:
    """Where a scenario of a study with `stopping` stands, by the files that exist."""
    assert study.stopping is not None
    first = study.stopping.stages(scenario.replications)[0]
    if folder is None or any(
        not (Path(folder) / job.path).is_file() for job in jobs_of(study, scenario, first, folder)
    ):
        return Standing(scenario.id, first, scenario.replications, False)
    whole = jobs_of(study, scenario, scenario.replications, folder)
    paths = [Path(folder) / job.path for job in whole]
    return standing(study, scenario, read_batches([p for p in paths if p.is_file()]).to_pandas())
