"""One replication again, by its address."""

from __future__ import annotations

from rmm.errors import StudyError
from rmm.simulation import SimulatedData
from rmm.study.design.study import Study
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.task import Outcome
from rmm.study.run.pilot import make_piloted_task

# -- one job ---------------------------------------------------------------------------------


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
    scenario = study.scenario(scenario_id)
    method = study.method_in(scenario, method_name)
    scenario = study.fitted_in(scenario, method_name)
    if replication < 1:
        raise StudyError(
            f"`replication` must be a whole number of at least 1, but is {replication}."
        )
    task = make_piloted_task(study, scenario, method, replication, None)
    return task.drawn.simulated(), fit_task(task, keep=True)
