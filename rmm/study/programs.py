"""Compiling the Stan programs of a study before its fits need them."""

from __future__ import annotations

import json
from pathlib import Path

from rmm.study.batches import make_task
from rmm.study.config import Study
from rmm.study.engines import engine_data
from rmm.study.results import write_text
from rmm.study.tasks import parsed


def compile_method(study: Study, method_name: str, marker: Path) -> None:
    """Compile what a Stan method will run, once for every program that its scenarios need.

    The executables go to the user's cache, where the fits look; `marker` gets their paths as
    JSON. The program depends on the levels of the covariates in the data, so it is written for
    the first replication of each scenario.

    Raises
    ------
    ProgramError, BackendError
        If Stan is missing or refuses a program.
    """
    from rmm.backends.stan import compile_program
    from rmm.fitting import program

    method = study.method(method_name)
    texts: dict[str, None] = {}
    for scenario in study.scenarios:
        task = make_task(study, scenario, method, 1)
        for formula in task.candidates.values() or [task.formula]:
            text = program(
                formula,
                task.drawn.truth.spec.family.name,
                method.backend,
                data=engine_data(method, task.drawn, parsed(formula)),
                priors=method.priors(task.drawn.truth),
            )
            texts[text] = None
    made = [str(compile_program(text)) for text in texts]
    write_text(json.dumps({"method": method.id, "programs": made}, indent=2) + "\n", marker)
