"""Method x replication -> estimates, whatever happens: a fit that fails is a row."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace

from rmm.errors import BackendTimeout, RmmError
from rmm.study.files.end_signals import leave_if_ended
from rmm.study.files.parquet import FAILED, TIMEOUT
from rmm.study.methods.fit_regression import fit_regression
from rmm.study.methods.method import CLASSICAL, ENGINES, FAKE
from rmm.study.methods.model_choice import fit_choice
from rmm.study.methods.own_methods import fit_external, fit_python, fit_rscript
from rmm.study.methods.task import Outcome, Task

_MESSAGE = 500  # characters of an error that are kept


def fit_task(task: Task, *, keep: bool = False) -> Outcome:
    """Run one fit; no error of it gets out, but a signal that ends the job does.

    Parameters
    ----------
    keep : bool
        Whether the fitted object stays in the outcome (for a replay).
    """
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            # Convergence is a status here, and 10,000 warnings are no information.
            warnings.simplefilter("ignore")
            outcome = _fit_of(task)(task)
    except BackendTimeout as error:
        leave_if_ended()
        outcome = Outcome(TIMEOUT, message=short(error))
    except Exception as error:  # noqa: BLE001  one method's error must not stop the others
        leave_if_ended()
        outcome = Outcome(FAILED, message=short(error))
    outcome = replace(outcome, seconds=time.perf_counter() - started)
    return outcome if keep else replace(outcome, fit=None)


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
    **dict.fromkeys((*ENGINES, FAKE), _fit_engine),
    "python": fit_python,
    "rscript": fit_rscript,
    "external": fit_external,
}
#: Kinds that fit more than one model.
_KINDS: dict[str, Callable[[Task], Outcome]] = {"choice": fit_choice}
