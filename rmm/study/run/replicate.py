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
from rmm.study.own.own_data import draw_own

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
    own = method.kind.own
    truths = _truths(study, drawn)
    # A data set without the member or group of an estimand has no value of it that could be
    # estimated; its other rows are not lost with it.
    asked = {name: one for name, one in study.ready.items() if truths[name] == truths[name]}
    return Task(
        method=method,
        drawn=drawn,
        formula=_formula(method, scenario.recipe),
        nulls={e.parameter: e.null for e in study.estimands},
        seed=seeds.chain_seed(study.seed, scenario.digest, replication, method.digest),
        candidates=_candidates(method, scenario.recipe),
        ready=asked,
        truths=truths,
        fallback=_fallback(study, scenario, method, replication, drawn),
        scenario=scenario.id,
        replication=replication,
        factors=_open_factors(study, scenario) if own else {},
    )


@lru_cache(maxsize=1)
def _truths(study: Study, drawn: Drawn) -> Mapping[str, float]:
    """True values of ready estimands, found once for all methods of a data set."""
    return {name: true_value(drawn, *one) for name, one in study.ready.items()}


def _fallback(
    study: Study, scenario: Scenario, method: Method, replication: int, drawn: Drawn
) -> Task | None:
    """The task of the method's other engine, with the seed of a method of its own."""
    if method.fallback is None:
        return None
    return make_task(study, scenario, method.fallback, replication, drawn)


def _open_factors(study: Study, scenario: Scenario) -> dict[str, Any]:
    """Levels of the factors that set neither the truth nor arguments of a data function."""
    found = {}
    for name, factor in study.config["vary"].items():
        levels = factor.get("levels", {"": {factor.get("path", ""): None}})
        paths = [path for sets in levels.values() for path in sets]
        if all(path.startswith(("membership", "covariates")) for path in paths):
            found[name] = scenario.factors[name]
    return found


@lru_cache(maxsize=256)
def _formula(method: Method, recipe: Recipe) -> str:
    """The method's formula, written once for all replications."""
    return method.formula(recipe)


@lru_cache(maxsize=256)
def _candidates(method: Method, recipe: Recipe) -> Mapping[str, str]:
    """The same for a method that chooses among several."""
    return method.candidates(recipe)


def draw_replication(seed: int, scenario: Scenario, replication: int) -> Drawn:
    """The data of one replication of a scenario.

    Raises
    ------
    StudyError
        If a user's function draws them, which may not run.
    BackendError
        If it has failed.
    """
    return draw_data(seed, scenario, replication)


def draw_data(seed: int, scenario: Scenario, *keys: int | str) -> Drawn:
    """The data of an address in a scenario: a replication, or a part of its own."""
    if scenario.own is not None:
        return draw_own(scenario.own, scenario.recipe, seeds.words(seed, scenario.digest, *keys))
    rng = seeds.generator(seed, scenario.digest, *keys)
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
    fit = fitted.method.backend, fitted.seed
    return _rows(study, scenario, task.method, replication, outcome, fit, truth)


def rows_without_data(
    study: Study, scenario: Scenario, method: Method, replication: int, outcome: Outcome
) -> list[dict[str, Any]]:
    """Rows of a fit whose data set could not be drawn."""
    seed = seeds.chain_seed(study.seed, scenario.digest, replication, method.digest)
    fit = method.backend, seed
    return _rows(study, scenario, method, replication, outcome, fit, study.truth_of(scenario))


def _rows(
    study: Study,
    scenario: Scenario,
    method: Method,
    replication: int,
    outcome: Outcome,
    fit: tuple[str, int],
    truth: Mapping[str, float],
) -> list[dict[str, Any]]:
    """`fit` has the backend that answered and its seed."""
    backend, seed = fit
    common = {
        "scenario": scenario.id,
        "replication": replication,
        "method": method.name,
        "backend": backend,
        "divergences": outcome.divergences,
        "seconds": outcome.seconds,
        "status": outcome.status,
        "message": outcome.message or None,
        "seed": seed,
        "method_id": method.id,
        "rmm_version": __version__,
        "engine": outcome.engine or None,
    }
    estimates: Sequence[Mapping[str, Any]] = outcome.estimates or [
        {"parameter": e.parameter, "null": e.null} for e in study.estimands
    ]
    return [{**common, "truth": truth.get(e["parameter"]), **e} for e in estimates]
