"""One fit again by its address, with everything that it was made of kept in a folder.

``data.csv``, ``truth.json`` and ``replay.json`` (address, seed, versions, status, estimates); of a
Bayesian fit ``program.jags`` or ``program.stan``, ``program_data.json`` and ``fit.nc`` with all
draws. A choice has these once per candidate, such as ``fit-NAME.nc``.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rmm._version import __version__
from rmm.backends import find_backend
from rmm.errors import StudyError
from rmm.posterior.fit import Fit
from rmm.study.design.study import Study
from rmm.study.files.parquet import (
    ESTIMATES,
    RUN_COLUMNS,
    TIMEOUT,
    estimates_table,
    read_estimates,
    write_text,
)
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.task import Outcome, Task, answering
from rmm.study.run.batch_index import without_numbers
from rmm.study.run.pilot import make_piloted_task
from rmm.study.run.replicate import outcome_rows

_PACKAGES = ("numpy", "scipy", "statsmodels")
#: What is said of the study's own estimates.
SAME, NOT_THERE = "same", "not there"


def keep_replay(
    study: Study,
    scenario_id: str,
    replication: int,
    method_name: str,
    folder: str | Path,
    results: str | Path | None = None,
) -> tuple[Outcome, str]:
    """Run one fit again and keep its data, program and draws.

    Parameters
    ----------
    study : Study
    scenario_id : str
    replication : int
        From 1.
    method_name : str
    folder : path
        Where the files go.
    results : path, optional
        Results of the study, with whose estimates these are compared.

    Returns
    -------
    Outcome, str
        The second is ``"same"`` where all reproducible columns of the study's estimates are the
        same to the last bit, ``"not there"`` where the study has not fitted it yet, or names the
        columns that differ.

    Raises
    ------
    StudyError
        For an unknown scenario or method, or a replication below 1.
    """
    asked = study.scenario(scenario_id)
    scenario = study.fitted_in(asked, method_name)
    method = study.method_in(asked, method_name)
    if replication < 1:
        raise StudyError(
            f"`replication` must be a whole number of at least 1, but is {replication}."
        )
    batches = None
    if results is not None:
        batches = Path(results) / "estimates" / scenario.id / method.name
    task = make_piloted_task(
        study, scenario, method, replication, batches if batches and batches.is_dir() else None
    )
    outcome = fit_task(task, keep=True)
    table = estimates_table(outcome_rows(study, scenario, task, replication, outcome), {})
    address = {
        "study": study.name,
        "seed": study.seed,
        "scenario": asked.id,
        "factors": dict(asked.factors),
        "replication": replication,
        "method": method.name,
        "method_id": method.id,
    }
    stored = compared(table, results) if results is not None else NOT_THERE
    folder = Path(folder)
    _keep_data(task, folder)
    _keep_fits(outcome, folder)
    facts = {
        "address": address,
        **_facts(task, outcome),
        "estimates_of_the_study": stored,
        "estimates": table.to_pylist(),
    }
    write_text(_json(facts), folder / "replay.json")
    return outcome, stored


def _keep_data(task: Task, folder: Path) -> None:
    write_text(task.drawn.frame().to_csv(index=False), folder / "data.csv")
    write_text(_json(task.drawn.truth.parameters), folder / "truth.json")


def _keep_fits(outcome: Outcome, folder: Path) -> None:
    """Program, data and draws of each Bayesian fit."""
    fits = outcome.fit if isinstance(outcome.fit, Mapping) else {"": outcome.fit}
    for name, fit in fits.items():
        if not isinstance(fit, Fit):
            continue
        end = f"-{name}" if name else ""
        language = find_backend(fit.backend).language
        ending = language.name if language else fit.backend
        write_text(fit.program, folder / f"program{end}.{ending}")
        write_text(_json(fit.program_data), folder / f"program_data{end}.json")
        fit.save(folder / f"fit{end}.nc")


def _facts(task: Task, outcome: Outcome) -> dict[str, Any]:
    """How it was run, and what became of it."""
    fitted = answering(task, outcome)
    return {
        "formulas": dict(task.candidates) or task.formula,
        "backend": fitted.method.backend,
        "chain_seed": fitted.seed,
        "versions": {
            "rmm": __version__,
            "python": platform.python_version(),
            "engine": outcome.engine or None,
            **{name: version(name) for name in _PACKAGES},
        },
        "status": outcome.status,
        "message": outcome.message or None,
        "divergences": outcome.divergences,
        "seconds": outcome.seconds,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


# -- against the study's own estimates -------------------------------------------------------


def compared(table: pa.Table, results: str | Path) -> str:
    """Whether the estimates of one fit are those that a results folder holds.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of `rmm.study.files.parquet.ESTIMATES` of one fit.
    """
    stored = _stored(table, Path(results))
    if stored is None:
        return NOT_THERE
    names = [n for n in ESTIMATES.names if n not in RUN_COLUMNS and n in stored.schema.names]
    order = [("parameter", "ascending")]
    one, other = (_shared(t.select(names).sort_by(order)) for t in (table, stored))
    different = [n for n in names if one[n] != other[n]]
    return f"different in {', '.join(different)}" if different else SAME


def _shared(table: pa.Table) -> dict[str, list[Any]]:
    """Columns, without numbers in messages of a time limit: how far a fit came is the machine's."""
    columns: dict[str, list[Any]] = table.to_pydict()
    ended = [status == TIMEOUT for status in columns["status"]]
    columns["message"] = [
        without_numbers(text or "") if late else text
        for text, late in zip(columns["message"], ended, strict=True)
    ]
    return columns


def _stored(table: pa.Table, results: Path) -> pa.Table | None:
    """Rows of the same fit in the batch that holds it."""
    row = table.slice(0, 1).to_pylist()[0]
    here = results / "estimates" / row["scenario"] / row["method"]
    for path in sorted(here.glob("*.parquet")):
        batch, _ = read_estimates(path)
        batch = batch.filter(pc.equal(batch["replication"], row["replication"]))
        if len(batch):
            return batch
    return None
