"""Jobs of a study: planning, running one, replaying one replication."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import rmm
from rmm.errors import StudyError
from rmm.simulation import Drawn, SimulatedData, draw, draw_fixed
from rmm.simulation.data_sets import FixedPart
from rmm.study.design.scenarios import Scenario
from rmm.study.design.stopping_rule import Standing, decision, standing
from rmm.study.design.study import Study
from rmm.study.files import seeds as addresses
from rmm.study.files.parquet import read_batches, write_text
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.method import Method
from rmm.study.methods.task import Outcome, Task
from rmm.study.run.checkpoint import Checkpoint
from rmm.study.run.metadata import check_metadata, metadata_of, stored_metadata
from rmm.study.run.progress import UnderWay

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
    return sorted(jobs, key=lambda j: (j.scenario, j.method, j.first))


def jobs_of(
    study: Study, scenario: Scenario, stage: int, folder: str | Path | None = None
) -> list[Job]:
    """Jobs of the first `stage` replications of a scenario, by all methods."""
    ends: tuple[int, ...] = ()
    if study.stopping is not None:
        ends = study.stopping.stages(scenario.replications)
    jobs: list[Job] = []
    for method in study.methods:
        wanted = min(stage, study.replications_of(scenario, method))
        jobs += method_jobs(study, scenario, method, wanted, folder, ends)
    return jobs


def method_jobs(
    study: Study,
    scenario: Scenario,
    method: Method,
    wanted: int,
    folder: str | Path | None = None,
    ends: Collection[int] = (),
) -> list[Job]:
    """Jobs of the first `wanted` replications of a scenario and method; none crosses `ends`."""
    existing = _existing(study, scenario, method, folder)
    covered = {r for j in existing for r in range(j.first, j.last + 1)}
    gaps = _gaps(covered, wanted, study.batch, frozenset(ends))
    jobs = [Job(scenario.id, method.name, first, last) for first, last in gaps]
    return sorted([j for j in existing if j.first <= wanted] + jobs, key=lambda j: j.first)


def _gaps(
    covered: set[int], wanted: int, batch: int, ends: frozenset[int]
) -> list[tuple[int, int]]:
    """Runs of replications that no file covers; one ends at each multiple of `batch`, and at
    each of `ends`: so a gap is cut alike however many replications are asked for now.
    """
    runs: list[tuple[int, int]] = []
    for r in range(1, wanted + 1):
        if r in covered:
            continue
        if runs and runs[-1][1] == r - 1 and (r - 1) % batch and r - 1 not in ends:
            runs[-1] = (runs[-1][0], r)
        else:
            runs.append((r, r))
    return runs


def _existing(
    study: Study, scenario: Scenario, method: Method, folder: str | Path | None
) -> list[Job]:
    if folder is None:
        return []
    found: list[Job] = []
    taken = 0
    for path in sorted((Path(folder) / "estimates" / scenario.id / method.name).glob("*.parquet")):
        match = BATCH_FILE.fullmatch(path.name)
        if match is None:
            continue
        job = Job(scenario.id, method.name, int(match[1]), int(match[2]))
        if job.first <= taken:  # two batch sizes met in one run; the first file has the rows
            continue
        check_metadata(study, path, stored_metadata(str(path), path.stat().st_mtime_ns))
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


def write_decision(
    study: Study, scenario_id: str, stage: int, paths: Iterable[str | Path], out: Path
) -> str:
    """Decide at one stage of a scenario, write it as JSON, say it in words."""
    scenario = study.scenario(scenario_id)
    table = read_batches([Path(path) for path in paths])
    found = decision(study, scenario, table.to_pandas(), stage)
    facts = {"scenario": scenario_id, "replications": stage, "decided": found.decided,
             "words": found.words()}  # fmt: skip
    write_text(json.dumps(facts, indent=2) + "\n", out)
    return f"{scenario.label}: {found.words()}"


# -- one job ---------------------------------------------------------------------------------


def _silent(line: str) -> None:
    """Tell nobody."""


def run_batch(
    study: Study,
    scenario_id: str,
    method_name: str,
    first: int,
    last: int,
    path: str | Path,
    say: Callable[[str], None] | None = None,
    *,
    until_collected: bool = False,
) -> None:
    """Simulate and fit some replications of one scenario by one method; write the estimates.

    Fits that a killed run of the batch has left (`rmm.study.run.checkpoint`) are not done again.

    Parameters
    ----------
    study : Study
    scenario_id : str
    method_name : str
    first, last : int
        Replications, from 1, both included.
    path : path
        The Parquet file to be written.
    say : callable, optional
        Is told how many those are, of what cannot be read, and every few seconds how far it is.
    until_collected : bool
        Whether a copy of what took long stays beside `path` until the study is collected, for
        whoever may delete `path` after the fact (Snakemake, of a job that it did not see end).

    Raises
    ------
    StudyError
        If a file cannot be written.
    """
    scenario, method = study.scenario(scenario_id), study.method(method_name)
    metadata = metadata_of(study, scenario_id, method_name, first, last)
    under_way = UnderWay(Path(path), last - first + 1, say)
    with Checkpoint(Path(path), metadata, say or _silent, under_way.facts) as checkpoint:
        under_way.take_up(checkpoint.statuses, checkpoint.seconds)
        if checkpoint.kept and say is not None:
            say(f"{method_name}, {scenario_id}: {len(checkpoint.kept)} of replications "
                f"{first}-{last} were fitted before a kill, and are kept")  # fmt: skip
        for replication in range(first, last + 1):
            if replication not in checkpoint.kept:
                task = make_task(study, scenario, method, replication)
                outcome = fit_task(task)
                checkpoint.add(outcome_rows(study, scenario, task, replication, outcome))
                under_way.count(outcome.status)
        checkpoint.finish(until_collected=until_collected)
    under_way.end()


def make_task(study: Study, scenario: Scenario, method: Method, replication: int) -> Task:
    """One fit with its data and seed: an address, nothing that ran before matters."""
    return Task(
        method=method,
        drawn=draw_replication(study.seed, scenario, replication),
        formula=method.formula(scenario.recipe),
        nulls={e.parameter: e.null for e in study.estimands},
        seed=addresses.chain_seed(study.seed, scenario.digest, replication, method.digest),
        candidates=method.candidates(scenario.recipe),
    )


def draw_replication(seed: int, scenario: Scenario, replication: int) -> Drawn:
    """The data of one replication of a scenario."""
    rng = addresses.generator(seed, scenario.digest, replication)
    return draw(scenario.recipe, fixed_part(seed, scenario), rng)


@lru_cache(maxsize=32)
def fixed_part(seed: int, scenario: Scenario) -> FixedPart:
    """What all replications of a scenario share: memberships and covariates drawn once."""
    digests = scenario.fixed_digests
    return draw_fixed(scenario.recipe, lambda part: addresses.generator(seed, digests[part], part))


def outcome_rows(
    study: Study, scenario: Scenario, task: Task, replication: int, outcome: Outcome
) -> list[dict[str, Any]]:
    """Rows of `results.ESTIMATES` for one fit; one per estimand where there are no estimates."""
    truth = study.truth_of(scenario, task.drawn.truth.parameters)
    common = {
        "scenario": scenario.id,
        "replication": replication,
        "method": task.method.name,
        "backend": task.method.backend,
        "divergences": outcome.divergences,
        "seconds": outcome.seconds,
        "status": outcome.status,
        "message": outcome.message or None,
        "seed": task.seed,
        "method_id": task.method.id,
        "rmm_version": rmm.__version__,
        "engine": outcome.engine or None,
    }
    estimates: Sequence[Mapping[str, Any]] = outcome.estimates or [
        {"parameter": e.parameter, "null": e.null} for e in study.estimands
    ]
    return [{**common, "truth": truth.get(e["parameter"]), **e} for e in estimates]


def replay(
    study: Study, scenario_id: str, replication: int, method_name: str
) -> tuple[SimulatedData, Outcome]:
    """One replication again, by its address, with its data and the whole fit.

    Parameters
    ----------
    study : Study
    scenario_id : str
    replication : int
        From 1.
    method_name : str

    Returns
    -------
    SimulatedData, Outcome
        ``outcome.fit`` is the `rmm.Fit` (or the statsmodels result); None if the fit failed.

    Raises
    ------
    StudyError
        For an unknown scenario or method, or a replication below 1.
    """
    scenario, method = study.scenario(scenario_id), study.method(method_name)
    if replication < 1:
        raise StudyError(f"Replications count from 1; {replication} was asked for.")
    task = make_task(study, scenario, method, replication)
    return task.drawn.simulated(), fit_task(task, keep=True)
