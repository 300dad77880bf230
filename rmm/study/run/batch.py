"""Jobs of a study: simulating some replications and fitting them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rmm.errors import BackendError, BackendTimeout
from rmm.simulation import Drawn
from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.files.end_signals import leave_if_ended
from rmm.study.files.parquet import FAILED, TIMEOUT, metadata_in
from rmm.study.methods.fit_task import fit_task, short
from rmm.study.methods.method import Method
from rmm.study.methods.task import Outcome
from rmm.study.own.process_pool import end_all
from rmm.study.run.batch_index import note_batch
from rmm.study.run.checkpoint import Checkpoint
from rmm.study.run.metadata import metadata_of
from rmm.study.run.pilot import make_piloted_task
from rmm.study.run.progress import UnderWay
from rmm.study.run.replicate import draw_replication, outcome_rows, rows_without_data


def _silent(line: str) -> None:
    """Tell nobody."""


def _named(method: str, say: Callable[[str], None]) -> Callable[[str], None]:
    """Say each line with the method that it is about."""
    return lambda line: say(f"{method}: {line}")


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
    paths = {method_name: path}
    run_batches(study, scenario_id, paths, first, last, say, until_collected=until_collected)


def run_batches(
    study: Study,
    scenario_id: str,
    paths: Mapping[str, str | Path],
    first: int,
    last: int,
    say: Callable[[str], None] | None = None,
    *,
    until_collected: bool = False,
) -> None:
    """Simulate some replications of one scenario once, and fit several methods to them.

    Each method has its own file and its own checkpoint, whose content is that of `run_batch`.

    Parameters
    ----------
    study : Study
    scenario_id : str
    paths : mapping
        Name of a method -> the Parquet file to be written.
    first, last, say, until_collected
        As for `run_batch`.

    Raises
    ------
    StudyError
        If a file cannot be written.
    """
    scenario = study.scenario(scenario_id)
    with ExitStack() as stack:
        stack.callback(end_all)  # processes of users' functions do not outlive the batch
        batches = [
            _begin(
                stack,
                study,
                scenario_id,
                study.method_in(scenario, name),
                (first, last),
                Path(path),
                say if say is None or len(paths) == 1 else _named(name, say),
            )
            for name, path in paths.items()
        ]
        for replication in range(first, last + 1):
            leave_if_ended()
            drawn = None
            for batch in batches:
                if replication in batch.checkpoint.kept:
                    continue
                began = time.monotonic()
                drawn = drawn or _drawn(study, scenario, replication)
                _fit(study, scenario, batch, replication, drawn, began)
        for batch in batches:
            table = batch.checkpoint.finish(until_collected=until_collected)
            note_batch(batch.checkpoint.path, table, metadata_in(table))
            batch.under_way.end()


@dataclass(frozen=True)
class _Batch:
    """The replications of one method."""

    method: Method
    checkpoint: Checkpoint
    under_way: UnderWay


def _begin(
    stack: ExitStack,
    study: Study,
    scenario_id: str,
    method: Method,
    ends: tuple[int, int],
    path: Path,
    say: Callable[[str], None] | None,
) -> _Batch:
    """Take up what earlier runs have left of a batch; an exception later writes what there is."""
    first, last = ends
    metadata = metadata_of(study, scenario_id, method, first, last)
    under_way = UnderWay(path, last - first + 1, say)
    checkpoint = stack.enter_context(Checkpoint(path, metadata, say or _silent, under_way.facts))
    under_way.take_up(checkpoint.statuses, checkpoint.seconds)
    if checkpoint.kept and say is not None:
        say(
            f"{method.name}, {scenario_id}: {len(checkpoint.kept)} of replications "
            f"{first}-{last} were fitted before a kill, and are kept"
        )
    return _Batch(method, checkpoint, under_way)


def _drawn(study: Study, scenario: Scenario, replication: int) -> Drawn | Outcome:
    """The data of a replication; where a user's function fails, the outcome of all its fits."""
    began = time.perf_counter()
    try:
        return draw_replication(study.seed, scenario, replication)
    except BackendError as error:
        leave_if_ended()
        status = TIMEOUT if isinstance(error, BackendTimeout) else FAILED
        return Outcome(status, message=short(error), seconds=time.perf_counter() - began)


def _fit(
    study: Study,
    scenario: Scenario,
    batch: _Batch,
    replication: int,
    drawn: Drawn | Outcome,
    began: float,
) -> None:
    """Fit one replication by one method."""
    folder = batch.checkpoint.path.parent
    if isinstance(drawn, Outcome):
        outcome = drawn
        rows = rows_without_data(study, scenario, batch.method, replication, outcome)
    else:
        task = make_piloted_task(study, scenario, batch.method, replication, folder, drawn)
        outcome = fit_task(task)
        rows = outcome_rows(study, scenario, task, replication, outcome)
    took = time.monotonic() - began
    batch.checkpoint.add(rows, took)
    batch.under_way.count(outcome.status, took)
