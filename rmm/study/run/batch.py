"""Jobs of a study: planning, running one, replaying one replication."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rmm.study.design.study import Study
from rmm.study.methods.fit_task import fit_task
from rmm.study.run.checkpoint import Checkpoint
from rmm.study.run.metadata import metadata_of
from rmm.study.run.pilot import make_piloted_task
from rmm.study.run.progress import UnderWay
from rmm.study.run.replicate import outcome_rows

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
            say(
                f"{method_name}, {scenario_id}: {len(checkpoint.kept)} of replications "
                f"{first}-{last} were fitted before a kill, and are kept"
            )
        for replication in range(first, last + 1):
            if replication not in checkpoint.kept:
                task = make_piloted_task(study, scenario, method, replication, Path(path).parent)
                outcome = fit_task(task)
                checkpoint.add(outcome_rows(study, scenario, task, replication, outcome))
                under_way.count(outcome.status)
        checkpoint.finish(until_collected=until_collected)
    under_way.end()
