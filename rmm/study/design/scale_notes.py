"""On which scale methods estimate, and where it is not that of the truth.

Bias, mean squared error, coverage, width and relative precision are compared only on a common
scale: see `rmm.study.measures.measures.ON_TRUE_SCALE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rmm.model.spec import MemberPart, build_spec
from rmm.simulation.true_model import level3
from rmm.study.methods.coefficient_scales import MEMBER, RESCALED, of_weights
from rmm.study.methods.layouts import LAYOUTS
from rmm.study.methods.regressions import REGRESSIONS
from rmm.study.methods.task import parsed

if TYPE_CHECKING:
    from rmm.study.design.estimand import Estimand
    from rmm.study.design.scenarios import Scenario
    from rmm.study.design.study import Study
    from rmm.study.methods.method import Method


def other_scales(study: Study) -> dict[tuple[str, str, str], str]:
    """(scenario, method, parameter) -> the scale of the estimates, where it is not the truth's."""
    found = {}
    for scenario in study.scenarios:
        for method in study.methods:
            for estimand in study.estimands:
                scale = other_scale(scenario, study.method_in(scenario, method.name), estimand)
                if scale:
                    found[scenario.id, method.name, estimand.parameter] = scale
    return found


def other_scale(scenario: Scenario, method: Method, estimand: Estimand) -> str:
    """The scale of a method's estimates in words; empty if it is that of the true value.

    An estimand whose `truth` is a number in the file is the user's to choose.
    """
    if estimand.ready or isinstance(estimand.truth, (int, float)):
        return ""
    truth = scenario.recipe.truth
    regression = REGRESSIONS.get(method.backend)
    if regression is not None and not regression.estimates(truth.spec.family.name):
        return f"backend {method.backend}"
    name = (estimand.truth or estimand.parameter).removesuffix("^2").partition("[")[0]
    for part in truth.spec.members:
        if name in (part.b, part.sigma, part.sigma_slope):
            own = set(_scales_of(scenario, method, part))
            return ", ".join(sorted(own - {of_weights(part.block.weight, {})}))
        if name == part.b_w:
            coefficient = (estimand.truth or estimand.parameter).partition("[")[2].rstrip("]")
            return ", ".join(_other_weights(scenario, method, part, coefficient))
    return ""


def _scales_of(scenario: Scenario, method: Method, part: MemberPart) -> Iterator[str]:
    """Scales of the coefficients of a block: of the method's kind, or of its own weights."""
    if method.kind.layout in LAYOUTS:
        yield method.kind.scale(part.block.weight, method.config)
        return
    for own in _own_parts(scenario, method, part):
        yield method.kind.scale(own.block.weight, method.config)


def _other_weights(
    scenario: Scenario, method: Method, part: MemberPart, coefficient: str
) -> Iterator[str]:
    """Weight functions other than that of the truth: a coefficient of theirs is another one."""
    for own in _own_parts(scenario, method, part):
        weight = own.block.weight
        if coefficient in weight.parameters and weight.expression != part.block.weight.expression:
            yield f"weights {weight.text}"


def _own_parts(scenario: Scenario, method: Method, part: MemberPart) -> Iterator[MemberPart]:
    """The block of the same name in each model that a method fits; none of other kinds."""
    if method.kind.layout != "members":
        return
    recipe = scenario.recipe
    for text in method.formulas(recipe).values():
        formula = parsed(text)
        spec = build_spec(formula, recipe.truth.spec.family, level3(formula, recipe.levels))
        yield from (own for own in spec.members if own.suffix == part.suffix)


def scale_notes(study: Study) -> list[str]:
    """Methods whose estimates are on another scale than the truth, and what to do about it."""
    found: dict[tuple[str, str], list[str]] = {}
    families: dict[str, dict[str, None]] = {}
    for scenario in study.scenarios:
        for method in study.methods:
            for estimand in study.estimands:
                scale = other_scale(scenario, study.method_in(scenario, method.name), estimand)
                if scale:
                    names = found.setdefault((method.name, scale), [])
                    names += [] if estimand.parameter in names else [estimand.parameter]
                    family = scenario.recipe.truth.spec.family.name
                    families.setdefault(method.name, {})[family] = None
    return [
        _note(study.method(name), scale, parameters, list(families[name]))
        for (name, scale), parameters in found.items()
    ]


def _note(method: Method, scale: str, parameters: list[str], families: list[str]) -> str:
    if scale.startswith("backend "):
        return _family_note(method, families)
    advice = "They can be compared in estimands such as marginal_effect and variance_share."
    if scale == MEMBER and "rescale" in method.kind.keys:
        advice = (
            f"`rescale: {RESCALED}` multiplies estimates by the mean number of members of a group."
        )
    return (
        f"Method {method.name}: the scale of {', '.join(parameters)} is not that of the truth, but "
        f"{scale}. So bias, mean squared error, coverage and width are not computed. {advice}"
    )


def _family_note(method: Method, families: list[str]) -> str:
    own = [n for f in families for n, r in REGRESSIONS.items() if r.estimates(f)]
    better = [n for n in own if n in method.kind.backends]
    return (
        f"Method {method.name}: the estimates of backend {method.backend} are not on the "
        f"scale of the parameters of family {', '.join(families)}. So its bias, mean squared "
        "error, coverage and width are not computed; only a slope of 0 means the same on both "
        "scales. These backends estimate on the scale of the truth: "
        f"{', '.join(dict.fromkeys(better)) or 'none of this kind'}. Or give each "
        f"estimand a `truth` that is a number on the scale of {method.backend}."
    )
