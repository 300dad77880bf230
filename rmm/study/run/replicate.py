"""One replication and one method: its task, its data, its rows of estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from rmm._version import __version__
from rmm.simulation import Drawn, Recipe, draw, draw_fixed
from rmm.simulation.data_sets import FixedPart
from rmm.simulation.estimands import true_value
from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.files import seeds
from rmm.study.methods.method import Method
from rmm.study.methods.task import Outcome, Task, answering

# -- one job ---------------------------------------------------------------------------------


def make_task(
    study: Study,
    scenario: Scenario,
    method: Method,
    replication: int,
    drawn: Drawn | None = None,
) -> Task:
    """One fit with its data and seed: an address, nothing that ran before matters.

    `drawn` has the data of the replication where they have been simulated for another method.
    """
    drawn = drawn or draw_replication(study.seed, scenario, replication)
    return Task(
        method=method,
        drawn=drawn,
        formula=_formula(method, scenario.recipe),
        nulls={e.parameter: e.null for e in study.estimands},
        seed=seeds.chain_seed(study.seed, scenario.digest, replication, method.digest),
        candidates=_candidates(method, scenario.recipe),
        ready=study.ready,
        truths={n: true_value(drawn, *one) for n, one in study.ready.items()},
        fallback=_fallback(study, scenario, method, replication, drawn),
    )


def _fallback(
    study: Study, scenario: Scenario, method: Method, replication: int, drawn: Drawn
) -> Task | None:
    """The task of the method's other engine, with the seed of a method of its own."""
    if method.fallback is None:
        return None
    return make_task(study, scenario, method.fallback, replication, drawn)


@lru_cache(maxsize=256)
def _formula(method: Method, recipe: Recipe) -> str:
    """The method's formula, written once for all replications."""
    return method.formula(recipe)


@lru_cache(maxsize=256)
def _candidates(method: Method, recipe: Recipe) -> Mapping[str, str]:
    """The same for a method that chooses among several."""
    return method.candidates(recipe)


def draw_replication(seed: int, scenario: Scenario, replication: int) -> Drawn:
    """The data of one replication of a scenario."""
    rng = seeds.generator(seed, scenario.digest, replication)
    return draw(scenario.recipe, fixed_part(seed, scenario), rng)


@lru_cache(maxsize=32)
def fixed_part(seed: int, scenario: Scenario) -> FixedPart:
    """What all replications of a scenario share: memberships and covariates drawn once."""
    digests = scenario.fixed_digests
    return draw_fixed(scenario.recipe, lambda part: seeds.generator(seed, digests[part], part))


def outcome_rows(
    study: Study, scenario: Scenario, task: Task, replication: int, outcome: Outcome
) -> list[dict[str, Any]]:
    """Rows of `results.ESTIMATES` for one fit; one per estimand where there are no estimates."""
    known = study.truth_of(scenario, task.drawn.truth.parameters)
    truth = {**task.truths, **known}
    fitted = answering(task, outcome)
    common = {
        "scenario": scenario.id,
        "replication": replication,
        "method": task.method.name,
        "backend": fitted.method.backend,
        "divergences": outcome.divergences,
        "seconds": outcome.seconds,
        "status": outcome.status,
        "message": outcome.message or None,
        "seed": fitted.seed,
        "method_id": task.method.id,
        "rmm_version": __version__,
        "engine": outcome.engine or None,
    }
    estimates: Sequence[Mapping[str, Any]] = outcome.estimates or [
        {"parameter": e.parameter, "null": e.null} for e in study.estimands
    ]
    return [{**common, "truth": truth.get(e["parameter"]), **e} for e in estimates]
