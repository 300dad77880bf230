"""How many replications a job has, where the study file does not give `batch`.

A job costs about a second of CPU besides its fits. It should have many seconds of fits, and a study
enough jobs for the cores of a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmm.study.design.scenarios import Scenario
    from rmm.study.methods.method import Method

#: Replications of a job by an engine that samples: some seconds each.
SAMPLING_BATCH = 10
#: Fits of a job by regressions and laplace: some milliseconds each.
LEAST_FITS, MOST_FITS = 250, 1000
#: Jobs of a study, if they are neither too short nor too long then.
JOBS = 16


def automatic_batch(scenarios: Sequence[Scenario], methods: Sequence[Method]) -> int:
    """Replications of a job that fits all methods that share jobs.

    Parameters
    ----------
    scenarios : sequence of Scenario
    methods : sequence of Method

    Returns
    -------
    int
    """
    sharing = max(1, sum(method.shares_jobs for method in methods))
    fits = sharing * sum(scenario.replications for scenario in scenarios)
    return -(-min(MOST_FITS, max(LEAST_FITS, -(-fits // JOBS))) // sharing)
