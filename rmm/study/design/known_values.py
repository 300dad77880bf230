"""Known values that a study file names, checked: closed forms and published values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmm.study.design.check_closed_forms import REASONS, Case
from rmm.study.design.closed_forms import CLOSED_FORMS
from rmm.study.design.scenarios import Scenario
from rmm.study.files.messages import StudyFileErrors
from rmm.study.measures.measures import MEASURES

if TYPE_CHECKING:
    from rmm.study.design.estimand import Estimand
    from rmm.study.methods.method import Method

_SHOWN = 3  # scenarios that a message names


def holds(one: Mapping[str, Any], scenario: Scenario) -> bool:
    """Whether a closed form is asked for in a scenario: in those of its `where`."""
    where: Mapping[str, Any] = one.get("where", {})
    return all(scenario.factors[factor] == level for factor, level in where.items())


def check_references(
    config: Mapping[str, Any],
    scenarios: Sequence[Scenario],
    methods: Sequence[Method],
    estimands: Sequence[Estimand],
    file_errors: StudyFileErrors,
) -> None:
    """Check the key `reference` of a study file; errors are collected.

    Parameters
    ----------
    config : mapping
        The study file with its defaults.
    """
    for index, one in enumerate(config["reference"]):
        with file_errors.collecting():
            key = f"reference[{index}]"
            _check_reference(key, one, config["vary"], scenarios, methods, estimands, file_errors)


def _check_reference(
    key: str,
    one: Mapping[str, Any],
    factors: Collection[str],
    scenarios: Sequence[Scenario],
    methods: Sequence[Method],
    estimands: Sequence[Estimand],
    file_errors: StudyFileErrors,
) -> None:
    by_name = {method.name: method for method in methods}
    if one["method"] not in by_name:
        raise file_errors.name(f"{key}.method", "a method of this study", one["method"], by_name)
    form = one.get("closed_form")
    if (form is None) == (one.get("values") is None):
        raise file_errors.about(
            key,
            f"The keys are {', '.join(one)}.",
            "Give either `closed_form`, or `measure` and `values`.",
        )
    if form is None:
        _check_published(key, one, factors, scenarios, file_errors)
        return
    if form not in CLOSED_FORMS:
        raise file_errors.name(f"{key}.closed_form", "a closed form", form, list(CLOSED_FORMS))
    known = {e.parameter: e for e in estimands}
    if one["parameter"] not in known:
        raise file_errors.name(
            f"{key}.parameter", "an estimand of this study", one["parameter"], list(known)
        )
    _check_where(f"{key}.where", one.get("where", {}), factors, scenarios, file_errors)
    method = by_name[one["method"]]
    _check_form(key, one, scenarios, method, known[one["parameter"]], file_errors)


def _check_published(
    key: str,
    one: Mapping[str, Any],
    factors: Collection[str],
    scenarios: Sequence[Scenario],
    file_errors: StudyFileErrors,
) -> None:
    if one.get("measure") not in MEASURES:
        raise file_errors.name(f"{key}.measure", "a measure", one.get("measure"), list(MEASURES))
    if one.get("where"):
        raise file_errors.about(
            f"{key}.where",
            "`where` cannot be used here with published values.",
            "Give each entry of `values` its own `where`.",
        )
    for number, value in enumerate(one["values"]):
        _check_where(
            f"{key}.values[{number}].where", value["where"], factors, scenarios, file_errors
        )


def _check_where(
    key: str,
    where: Mapping[str, Any],
    factors: Collection[str],
    scenarios: Sequence[Scenario],
    file_errors: StudyFileErrors,
) -> None:
    levels = {f: list(dict.fromkeys(s.factors[f] for s in scenarios)) for f in factors}
    for factor, level in where.items():
        if factor not in levels:
            raise file_errors.name(f"{key}.{factor}", "a factor of `vary`", factor, list(levels))
        if level not in levels[factor]:
            raise file_errors.name(f"{key}.{factor}", f"a level of {factor}", level, levels[factor])


def _check_form(
    key: str,
    one: Mapping[str, Any],
    scenarios: Sequence[Scenario],
    method: Method,
    estimand: Estimand,
    file_errors: StudyFileErrors,
) -> None:
    """All reasons why a closed form is not valid, each with the scenarios that it concerns."""
    found: dict[str, list[str]] = {}
    asked = [s for s in scenarios if holds(one, s)]
    for scenario in asked:
        compared = estimand.true_value(scenario.recipe.truth.parameters)
        case = Case(scenario, method, one["parameter"], estimand.null, compared)
        for reason in dict.fromkeys(REASONS[one["closed_form"]](case)):
            found.setdefault(reason, []).append(scenario.label)
    if not found:
        return
    reasons = [
        reason + ("" if len(where) == len(asked) else f" (in {_some(where)})")
        for reason, where in found.items()
    ]
    raise file_errors.about(
        f"{key}.closed_form",
        f"The closed form {one['closed_form']} is not valid for {one['parameter']} estimated by "
        f"method {method.name}:\n" + "\n".join(f"- {reason}" for reason in reasons),
        "Remove `closed_form`, or add `where: {FACTOR: LEVEL}` to limit it to the scenarios in "
        "which it is valid.",
    )


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - _SHOWN
    return "; ".join(labels[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
