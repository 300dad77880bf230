"""Every model of a study built before the first fit: priors, options and gates against it.

`load_study` reads a file in milliseconds, in every job. Here one data set is simulated per model,
and the model is laid out for its engine as a fit would do it; nothing is sampled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.backends import find_backend
from rmm.backends.base import Backend, Settings
from rmm.errors import BackendError, DataError, PriorError, RmmError, StudyError
from rmm.families import family_options
from rmm.simulation.estimands import true_value
from rmm.study.design.check_methods import words_of
from rmm.study.files import seeds
from rmm.study.files.messages import StudyFileErrors
from rmm.study.manage.check_own import own_errors
from rmm.study.methods.bayesian import lay_out_model
from rmm.study.methods.method import FAKE, TRUTH, WITHOUT_ENGINE, said
from rmm.study.methods.pilot_fits import LEAST_WARMUP
from rmm.study.own.process_pool import end_all
from rmm.study.run.replicate import draw_replication, make_task

if TYPE_CHECKING:
    from rmm.simulation import Drawn
    from rmm.study.design.scenarios import Scenario
    from rmm.study.design.study import Study
    from rmm.study.methods.method import Method

#: Data sets of which one must be usable: a single one may have a constant outcome by chance.
_DATA_SETS = 3
_NAMED = 20  # ids in a message


def check_models(study: Study, *, tables: bool = True) -> None:
    """Check priors, sampler options and gates of every method against its models.

    Own methods and data are tried on the first data sets, if their code is allowed to run; models
    that need data which a function draws are checked only then.

    Parameters
    ----------
    study : Study
    tables : bool
        Whether tables of other programs' estimates must be there.

    Raises
    ------
    StudyError
        All mistakes, one after the other, each with its key path.
    """
    found = list(dict.fromkeys(str(error) for error in own_errors(study, tables=tables)))
    if not found and (study.code_allowed or not any(s.own for s in study.scenarios)):
        found = [str(error) for error in (*estimand_errors(study), *model_errors(study))]
        found = list(dict.fromkeys(found))
    end_all()
    if found:
        raise StudyError("\n".join(found))


def estimand_errors(study: Study) -> Iterator[StudyError]:
    """Ready estimands of members or groups that the simulated data do not have, one error each."""
    for index, estimand in enumerate(study.estimands):
        if not {"member", "group"} & set(estimand.options):
            continue
        for scenario in _with_own_memberships(study):
            draws = (draw_replication(study.seed, scenario, k + 1) for k in range(_DATA_SETS))
            drawn = list(draws)
            if all(math.isnan(true_value(d, estimand.ready, estimand.options)) for d in drawn):
                file_errors = StudyFileErrors(study.file)
                yield file_errors.about(
                    f"estimands[{index}]",
                    f"{estimand.parameter} has no value in the first {_DATA_SETS} data sets.",
                    _members_in(drawn[0], estimand.options),
                )


def _with_own_memberships(study: Study) -> list[Scenario]:
    """One scenario for each design of memberships."""
    found: dict[str, Scenario] = {}
    for scenario in study.scenarios:
        if scenario.own is None:
            found.setdefault(seeds.canonical(scenario.content["membership"]), scenario)
    return list(found.values())


def _members_in(drawn: Drawn, options: Mapping[str, Any]) -> str:
    """Which members, or which groups, an estimand could be about."""
    m = drawn.memberships
    if "group" not in options:
        return (
            f"In the first of them, members are: {_some(m.member_labels[sorted(set(m.member))])}."
        )
    groups = [str(label) for label in m.group_labels]
    if str(options["group"]) not in groups:
        return f"In the first of them, groups are: {_some(m.group_labels)}."
    inside = m.member_labels[m.member[m.group == groups.index(str(options["group"]))]]
    return f"In the first of them, group {options['group']} has members: {_some(inside)}."


def _some(labels: Any) -> str:
    """The first of some ids, as text."""
    known = [str(label) for label in labels]
    return ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")


def model_errors(study: Study) -> Iterator[StudyError]:
    """What `check_models` reports, one error each."""
    for index, method in enumerate(study.methods):
        for version, scenarios in study.versions_of(method.name).items():
            words = f"method {method.name}"
            if version is not method:
                words += f", scenario {words_of(scenarios[0])}"
            file_errors = StudyFileErrors(study.file, words)
            for one, end in zip(version.attempts, ("", ".fallback"), strict=False):
                if one.backend not in WITHOUT_ENGINE:
                    key = f"methods[{index}]{end}"
                    yield from _attempt_errors(key, one, study, scenarios, file_errors)


def _attempt_errors(
    key: str,
    method: Method,
    study: Study,
    scenarios: Sequence[Scenario],
    file_errors: StudyFileErrors,
) -> Iterator[StudyError]:
    """Mistakes of a method, or of its fallback, in the scenarios where it has these settings."""
    yield from _option_errors(key, method, file_errors)
    yield from _gate_errors(key, method, file_errors)
    for place in _places(method, scenarios):
        error = _built(study, method, place)
        if error is not None:
            yield _located(key, place, error, study, file_errors)


@dataclass(frozen=True, eq=False)
class _Place:
    """A model of a method: the formula of a candidate, or ``""``, in a scenario."""

    candidate: str
    formula: str
    scenario: Scenario


def _places(method: Method, scenarios: Sequence[Scenario]) -> list[_Place]:
    """One scenario for each model that differs in what priors and engine depend on."""
    found: dict[Any, _Place] = {}
    for scenario in scenarios:
        recipe = scenario.recipe
        for name, text in method.formulas(recipe).items():
            priors = recipe.truth.priors if method.config["priors"] == TRUTH else {}
            levels = seeds.canonical(dict(recipe.levels))
            same = (name, text, recipe.truth.spec.family.name, levels, str(dict(priors)))
            found.setdefault(same, _Place(name, text, scenario))
    return list(found.values())


def _built(study: Study, method: Method, place: _Place) -> RmmError | None:
    """Why a model cannot be laid out for its engine; None where it can."""
    error: RmmError | None = None
    for replication in range(1, _DATA_SETS + 1):
        try:
            _build(make_task(study, place.scenario, method, replication), place.formula)
        except DataError as found:
            error = found
        except RmmError as found:
            return found
        else:
            return None
    return error


def _build(task: Any, formula: str) -> None:
    """Lay out one model as a fit does before it starts an engine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one data set
        model = lay_out_model(task, formula)
        find_backend(task.method.backend).prepare(model).data(model.design)


def _located(
    key: str, place: _Place, error: RmmError, study: Study, file_errors: StudyFileErrors
) -> StudyError:
    """An error of a model with the key that it is about."""
    names = {PriorError: "priors", BackendError: "backend"}
    fallback = f"candidates.{place.candidate}" if place.candidate else "formula"
    key = f"{key}.{names.get(type(error), fallback)}"
    if len(study.scenarios) > 1:
        words = ", ".join(f"{k} = {v}" for k, v in place.scenario.factors.items())
        context = f"{file_errors.context.partition(', scenario ')[0]}, scenario {words}"
        file_errors = file_errors.within(context)
    return file_errors.convert(key, error)


# -- samplers and gates ----------------------------------------------------------------------


def _option_errors(key: str, method: Method, file_errors: StudyFileErrors) -> Iterator[StudyError]:
    """Options that the engine does not have, and values that it does not accept."""
    engine, sampler = find_backend(method.backend), method.config["sampler"]
    known = (*engine.options, *family_options())
    unknown = [name for name in sampler["options"] if name not in known]
    for name in unknown:
        yield file_errors.name(
            f"{key}.sampler.options.{name}", f"an option of {engine.name}", name, engine.options
        )
    if unknown:
        return
    try:
        engine.check_values(_settings(engine, sampler))
    except BackendError as error:
        yield file_errors.convert(f"{key}.sampler.options", error)


def _settings(engine: Backend, sampler: Mapping[str, Any]) -> Settings:
    own = {k: v for k, v in sampler["options"].items() if k in engine.options}
    counts = {k: sampler[k] for k in ("chains", "warmup", "draws", "thin")}
    if "ess" in sampler:  # the warm-up of a fit is not known yet
        counts["warmup"] = LEAST_WARMUP
    return Settings(**counts, options=own)


def _gate_errors(key: str, method: Method, file_errors: StudyFileErrors) -> Iterator[StudyError]:
    """Gates that an engine does not have, or that no fit of it can pass."""
    if method.backend == FAKE:
        return
    engine, sampler = find_backend(method.backend), method.config["sampler"]
    given = _given_gate(method)
    for name, reason in _without(engine).items():
        if name in given:
            kept = ", ".join(n for n in method.config["gate"] if n not in _without(engine))
            yield file_errors.about(
                f"{key}.gate.{name}",
                f"`{name}` cannot be used with {engine.name}, {reason}.",
                f"Allowed: {kept}.",
            )
    if not engine.weighted_draws and sampler["chains"] < 2:
        yield file_errors.about(
            f"{key}.sampler.chains",
            "There is only 1 chain. R-hat needs two chains, so no fit can pass the gate.",
            "Set 2 or more chains.",
        )
    wanted = method.config["gate"]["ess_per_chain"]
    if "ess" in sampler:
        aimed = sampler["ess"] / sampler["chains"]
        if wanted > aimed:
            yield file_errors.about(
                f"{key}.sampler.ess",
                f"The pilot fit aims at an effective sample size of {aimed:g} per chain "
                f"({sampler['ess']:g} in {sampler['chains']} chains), but the gate requires "
                f"{wanted:g}.",
                f"Give more than {wanted * sampler['chains']:g}, such as twice as much, or lower "
                "gate.ess_per_chain.",
            )
        return
    most = _most_ess(engine, sampler)
    if wanted > most:
        yield file_errors.about(
            f"{key}.gate.ess_per_chain",
            f"An effective sample size of {wanted:g} per chain is required, but there are only "
            f"{sampler['draws']} draws per chain, so no fit can pass the gate.",
            f"Require at most {most:.0f}, or keep more draws.",
        )


def _most_ess(engine: Backend, sampler: Mapping[str, Any]) -> float:
    """The largest effective sample size per chain; Stan's draws may be better than independent."""
    draws: int = sampler["draws"]
    if not engine.hamiltonian:
        return draws
    return draws * max(1.0, math.log10(draws * sampler["chains"]))


def _given_gate(method: Method) -> Mapping[str, Any]:
    found: Mapping[str, Any] = said(method.config, method.kind).get("gate", {})
    return found


def _without(engine: Backend) -> dict[str, str]:
    """Keys of a gate that an engine has no use for, and why."""
    if engine.weighted_draws:
        reason = "whose draws are independent"
        return {"rhat": reason, "divergences": reason}
    return {} if engine.hamiltonian else {"divergences": "which has no divergent transitions"}
