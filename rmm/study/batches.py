"""Jobs of a study: planning, running one, collecting, replaying one replication."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import rmm
from rmm.errors import StudyError
from rmm.simulation import Drawn, SimulatedData, draw, draw_fixed
from rmm.simulation.data import FixedPart
from rmm.study import addresses
from rmm.study.config import Study
from rmm.study.fitting import fit_task
from rmm.study.host import running_on, together
from rmm.study.methods import Method
from rmm.study.results import (
    ESTIMATES,
    ESTIMATES_ORDER,
    estimates_table,
    read_estimates,
    write_parquet,
    write_text,
)
from rmm.study.scenarios import Scenario
from rmm.study.tasks import Outcome, Task

_FILE = re.compile(r"(\d+)-(\d+)\.parquet")


@dataclass(frozen=True)
class Job:
    """Replications `first` to `last` (from 1, both included) of one scenario and method.

    Attributes
    ----------
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


def plan(study: Study, folder: str | Path | None = None) -> list[Job]:
    """Jobs that make up a study.

    Files that exist below `folder` are kept as jobs of their own range, whatever the batch
    size was; what they leave open is cut at multiples of the batch size.

    Raises
    ------
    StudyError
        If a file there was made by another seed or by other settings of the method.
    """
    jobs: list[Job] = []
    for scenario in study.scenarios:
        for method in study.methods:
            wanted = study.replications_of(scenario, method)
            existing = _existing(study, scenario, method, folder)
            jobs += [j for j in existing if j.first <= wanted]
            covered = {r for j in existing for r in range(j.first, j.last + 1)}
            for first, last in _gaps(covered, wanted, study.batch):
                jobs.append(Job(scenario.id, method.name, first, last))
    return sorted(jobs, key=lambda j: (j.scenario, j.method, j.first))


def _gaps(covered: set[int], wanted: int, batch: int) -> list[tuple[int, int]]:
    """Runs of replications that no file covers; a run ends at each multiple of `batch`."""
    runs: list[tuple[int, int]] = []
    for r in range(1, wanted + 1):
        if r in covered:
            continue
        if runs and runs[-1][1] == r - 1 and (r - 1) % batch:
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
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        job = Job(scenario.id, method.name, int(match[1]), int(match[2]))
        if job.first <= taken:  # two batch sizes met in one run; the first file has the rows
            continue
        _check_metadata(study, path, _stored_metadata(str(path), path.stat().st_mtime_ns))
        found.append(job)
        taken = job.last
    return found


@lru_cache(maxsize=65536)
def _stored_metadata(path: str, changed: int) -> tuple[tuple[str, str], ...]:
    """Metadata of a file of estimates; none for a file that is not whole."""
    try:
        found = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return ()
    return tuple((k.decode()[4:], v.decode()) for k, v in found.items() if k[:4] == b"rmm.")


def _metadata(study: Study, job: Job) -> dict[str, str]:
    nulls = {e.parameter: e.null for e in study.estimands if e.null}
    return {
        "seed": str(study.seed),
        "scenario": job.scenario,
        "method": job.method,
        "method_id": study.method(job.method).id,
        "nulls": addresses.canonical(nulls),
        "first": str(job.first),
        "last": str(job.last),
    }


_SAID = {"seed": "study seed", "method_id": "settings of the method", "nulls": "null values"}


def _check_metadata(study: Study, path: Path, stored: Iterable[tuple[str, str]]) -> None:
    """Refuse results that another version of the study file made."""
    found = dict(stored)
    if not found:
        raise StudyError(
            f"{path} is no whole file of estimates.\n"
            "  Delete it and run the study again; only this batch is recomputed."
        )
    job = Job(found["scenario"], found["method"], int(found["first"]), int(found["last"]))
    wanted = _metadata(study, job)
    for key, words in _SAID.items():
        if found.get(key) != wanted[key]:
            raise StudyError(
                f"{path} was made with another {words}: {found.get(key)} there, {wanted[key]} in "
                f"{study.file}.\n  allowed: the same, or a new name of the method or study; or "
                f"delete {path.parent} to fit it again."
            )


# -- one job ---------------------------------------------------------------------------------


def run_batch(
    study: Study,
    scenario_id: str,
    method_name: str,
    first: int,
    last: int,
    path: str | Path,
) -> None:
    """Simulate and fit some replications of one scenario by one method; write the estimates."""
    scenario, method = study.scenario(scenario_id), study.method(method_name)
    rows: list[Mapping[str, Any]] = []
    for replication in range(first, last + 1):
        task = make_task(study, scenario, method, replication)
        rows += outcome_rows(study, scenario, task, replication, fit_task(task))
    metadata = {**_metadata(study, Job(scenario_id, method_name, first, last)), **running_on()}
    write_parquet(estimates_table(rows, metadata), Path(path))


def make_task(study: Study, scenario: Scenario, method: Method, replication: int) -> Task:
    """One fit with its data and seed: an address, nothing that ran before matters."""
    return Task(
        method=method,
        drawn=draw_replication(study.seed, scenario, replication),
        formula=method.formula(scenario.recipe),
        nulls={e.parameter: e.null for e in study.estimands},
        seed=addresses.chain_seed(study.seed, scenario.digest, replication, method.digest),
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

    Returns
    -------
    SimulatedData, Outcome
        ``outcome.fit`` is the `rmm.Fit` (or the statsmodels result); None if the fit failed.
    """
    scenario, method = study.scenario(scenario_id), study.method(method_name)
    if replication < 1:
        raise StudyError(f"Replications count from 1; {replication} was asked for.")
    task = make_task(study, scenario, method, replication)
    data = SimulatedData(task.drawn.frame(), dict(task.drawn.truth.parameters))
    return data, fit_task(task, keep=True)


# -- the whole study -------------------------------------------------------------------------


def write_design(study: Study, folder: str | Path) -> None:
    """Write ``config.yaml`` (resolved) and ``scenarios.parquet`` into the results folder."""
    import yaml

    folder = Path(folder)
    write_text(yaml.safe_dump(dict(study.config), sort_keys=False, allow_unicode=True),
               folder / "config.yaml")  # fmt: skip
    columns: dict[str, list[Any]] = {"scenario": [s.id for s in study.scenarios]}
    for factor in study.factors:
        columns[factor] = _cells([s.factors[factor] for s in study.scenarios])
    write_parquet(pa.table(columns), folder / "scenarios.parquet")


def _cells(values: list[Any]) -> list[Any]:
    """Levels of one factor as one type: numbers, else booleans, else text."""
    if all(isinstance(v, bool) for v in values):
        return values
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return [float(v) for v in values] if any(isinstance(v, float) for v in values) else values
    return [str(v) for v in values]


def collect(study: Study, paths: Iterable[str | Path], out: str | Path) -> None:
    """All batches in one file, sorted, so that batch sizes and the order of jobs do not show.

    Raises
    ------
    StudyError
        If a file was made by another version of the study, or a replication is missing.
    """
    tables, said = [], []
    for path in map(Path, paths):
        table, metadata = read_estimates(path)
        said.append(metadata)
        _check_metadata(study, path, tuple(metadata.items()))
        tables.append(table.replace_schema_metadata(None))
    whole = pa.concat_tables(tables) if tables else ESTIMATES.empty_table()
    whole = _wanted(study, whole)
    order = [(name, "ascending") for name in ESTIMATES_ORDER]
    ran_on = {f"rmm.{name}": value for name, value in together(said).items()}
    write_parquet(whole.sort_by(order).replace_schema_metadata(ran_on), Path(out))


def _wanted(study: Study, table: pa.Table) -> pa.Table:
    """Rows that the study asks for: files may hold more replications than it does now."""
    keep = None
    for scenario in study.scenarios:
        for method in study.methods:
            here = pc.and_(
                pc.equal(table["scenario"], scenario.id), pc.equal(table["method"], method.name)
            )
            count = study.replications_of(scenario, method)
            here = pc.and_(here, pc.less_equal(table["replication"], count))
            found = pc.count_distinct(table.filter(here)["replication"]).as_py()
            if found != count:
                raise StudyError(
                    f"{study.file}: scenario {scenario.id}, method {method.name}: {found} of "
                    f"{count} replications are there. Run the study again; what exists is kept."
                )
            keep = here if keep is None else pc.or_(keep, here)
    return table.filter(keep)


def status(study: Study, folder: str | Path) -> dict[str, Any]:
    """How far a study is.

    Returns
    -------
    dict
        jobs, done, missing (list of Job), fits (status -> number of fits in finished files),
        seconds (of these fits) and seconds_left (missing replications at the mean of each
        method; None for a method without a finished fit).
    """
    folder = Path(folder)
    jobs = plan(study, folder)
    missing = [j for j in jobs if not (folder / j.path).is_file()]
    fits: dict[str, int] = {}
    spent: dict[str, list[float]] = {m.name: [] for m in study.methods}
    for job in jobs:
        if job not in missing:
            table = pq.read_table(folder / job.path, columns=["replication", "status", "seconds"],
                                  partitioning=None)  # fmt: skip
            one = {r["replication"]: r for r in table.to_pylist()}
            for row in one.values():
                fits[row["status"]] = fits.get(row["status"], 0) + 1
                spent[job.method].append(row["seconds"])
    left: dict[str, float | None] = {}
    for name, seconds in spent.items():
        todo = sum(j.last - j.first + 1 for j in missing if j.method == name)
        mean = sum(seconds) / len(seconds) if seconds else None
        left[name] = 0.0 if not todo else None if mean is None else mean * todo
    return {
        "jobs": len(jobs),
        "done": len(jobs) - len(missing),
        "missing": missing,
        "fits": fits,
        "seconds": sum(sum(s) for s in spent.values()),
        "seconds_left": left,
    }
