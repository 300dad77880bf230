"""Method x replication -> estimates, whatever happens: a fit that fails is a row."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rmm.errors import BackendTimeout, RmmError, StudyError
from rmm.study.files.disks import full_temporary_folder
from rmm.study.files.end_signals import leave_if_ended
from rmm.study.files.parquet import FAILED, OK, TIMEOUT
from rmm.study.methods.coefficient_scales import RESCALED
from rmm.study.methods.fit_regression import fit_regression
from rmm.study.methods.fit_reml import fit_reml
from rmm.study.methods.method import CLASSICAL, ENGINES, FAKE, REML
from rmm.study.methods.model_choice import fit_average, fit_choice
from rmm.study.methods.own_methods import fit_external, fit_python, fit_rscript
from rmm.study.methods.task import Outcome, Task

#: Columns of estimates in units of the estimate.
_UNITS = ("mean", "median", "sd", "lower", "upper", "lower90", "upper90", "lower99", "upper99",
          "mcse", "null")  # fmt: skip
_MESSAGE = 500  # characters of an error that are kept


def fit_task(task: Task, *, keep: bool = False) -> Outcome:
    """Run one fit; no error of it gets out, but a signal that ends the job does, and a full disk.

    Parameters
    ----------
    keep : bool
        Whether the fitted object stays in the outcome (for a replay).

    Raises
    ------
    StudyError
        If the fit has failed because the folder of temporary files is full: it can be repeated.
    """
    started = time.perf_counter()
    outcome = _attempt(task)
    if outcome.status != OK and task.fallback is not None:
        outcome = _answered(task, outcome, _attempt(task.fallback))
    outcome = replace(outcome, seconds=time.perf_counter() - started)
    return outcome if keep else replace(outcome, fit=None)


def _attempt(task: Task) -> Outcome:
    """One fit by one engine."""
    try:
        with warnings.catch_warnings():
            # Convergence is a status here, and 10,000 warnings are no information.
            warnings.simplefilter("ignore")
            return _rescaled(_fit_of(task), task)
    except BackendTimeout as error:
        leave_if_ended()
        return Outcome(TIMEOUT, message=short(error))
    except Exception as error:  # one method's error must not stop the others
        leave_if_ended()
        if message := full_temporary_folder(error):  # of the machine, not of the method
            raise StudyError(message) from error
        return Outcome(FAILED, message=short(error))


def _answered(task: Task, first: Outcome, second: Outcome) -> Outcome:
    """The outcome of the fallback if it is usable, else that of the first engine."""
    assert task.fallback is not None
    why = f"{task.method.backend}: {first.message}"
    if second.status == OK:
        return replace(second, message=why[:_MESSAGE], backend=task.fallback.method.backend)
    both = f"{why}; {task.fallback.method.backend}: {second.message}"
    return replace(first, message=both[:_MESSAGE])


def _rescaled(fit: Callable[[Task], Outcome], task: Task) -> Outcome:
    """Fit, and multiply coefficients of member covariates by M / G if the method says `rescale`.

    For G groups with M memberships; `rmm.study.methods.coefficient_scales` has the reason. The test
    is of the same null value, on the scale of the truth.
    """
    if task.method.config.get("rescale") != RESCALED:
        return fit(task)
    memberships = task.drawn.memberships
    factor = memberships.counts["membership"] / memberships.counts["group"]
    nulls = {n: v / factor if _of_members(n) else v for n, v in task.nulls.items()}
    outcome = fit(replace(task, nulls=nulls))
    return replace(outcome, estimates=tuple(_times(row, factor) for row in outcome.estimates))


def _of_members(parameter: str) -> bool:
    """Whether it is a coefficient of a member covariate."""
    return parameter.partition("[")[0].startswith("b_l1")


def _times(row: Mapping[str, Any], factor: float) -> Mapping[str, Any]:
    if not _of_members(row["parameter"]):
        return row
    known = {k: row[k] * factor for k in _UNITS if row.get(k) is not None}
    return {**row, **known}


def _fit_of(task: Task) -> Callable[[Task], Outcome]:
    return _KINDS.get(task.method.kind.name) or BACKENDS[task.method.backend]


def short(error: Exception) -> str:
    """An error as a message of a row."""
    text = " ".join(str(error).split()) or "no message"
    name = "" if isinstance(error, RmmError) else f"{type(error).__name__}: "
    return (name + text)[:_MESSAGE]


def _fit_engine(task: Task) -> Outcome:
    """A Bayesian fit; regressions do without what it imports."""
    # Late: reading a study file needs no libraries of fits.
    from rmm.study.methods.bayesian import fit_engine

    return fit_engine(task)


#: Backend -> how one task is fitted.
BACKENDS: dict[str, Callable[[Task], Outcome]] = {
    **dict.fromkeys(CLASSICAL, fit_regression),
    REML: fit_reml,
    **dict.fromkeys((*ENGINES, FAKE), _fit_engine),
    "python": fit_python,
    "rscript": fit_rscript,
    "external": fit_external,
}
#: Kinds that fit more than one model.
_KINDS: dict[str, Callable[[Task], Outcome]] = {"choice": fit_choice, "average": fit_average}
