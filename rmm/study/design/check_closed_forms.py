"""Where a closed form holds: the reasons why it does not, found before anything runs.

Each rule is a sentence on a scenario and a method. What is refused was compared with simulation,
where the formula gives another number (`tests/study/test_closed_form_checks.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.formula.parse_formula import parse_formula
from rmm.simulation.true_model import Truth, term_columns
from rmm.study.methods.regressions import BY_FAMILY

if TYPE_CHECKING:
    from rmm.study.design.scenarios import Scenario
    from rmm.study.methods.method import Method


@dataclass(frozen=True)
class Case:
    """A closed form asked for: of which parameter, by which method, in which scenario.

    Attributes
    ----------
    null : float
        The value that a test of the parameter tests.
    compared : float or None
        The value that the study compares estimates of the parameter with.
    """

    scenario: Scenario
    method: Method
    parameter: str
    null: float
    compared: float | None

    @property
    def truth(self) -> Truth:
        """The data-generating model."""
        return self.scenario.recipe.truth

    @property
    def covariate(self) -> str:
        """``x`` of ``b_l1[x]``."""
        return inside(self.parameter)

    @property
    def covariates(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of the covariates."""
        found: Mapping[str, Mapping[str, Any]] = self.scenario.content["covariates"]
        return found


def inside(parameter: str) -> str:
    """``x`` of ``b_l1[x]``."""
    return parameter.partition("[")[2].removesuffix("]")


def disaggregation_reasons(case: Case) -> Iterator[str]:
    """Why the Type-I error of copied outcomes is not the closed form."""
    yield from _model_reasons(case, "disaggregation")
    yield from _test_reasons(case)
    x = case.covariates.get(case.covariate)
    if x is None or x.get("level") != "membership" or x.get("column") is not None:
        yield f"{case.covariate or case.parameter} is not a simulated covariate of level membership"
        return
    yield from _plain_reasons(case.covariate, x, case)
    if not x["redraw"]:
        yield f"{case.covariate} is drawn once for all replications (redraw: false)"
    others = [
        f"{part.b}[{t.label}]"
        for part in case.truth.spec.members
        for t in part.block.terms
        if f"{part.b}[{t.label}]" != case.parameter
    ]
    if any(case.truth.parameters.get(name) != 0 for name in others):
        yield "other member covariates have effects, so residuals differ within groups"
    if case.covariate in _weight_columns(case.truth):
        yield f"the weights of the truth depend on {case.covariate}"
    if not _equal_sizes(case.scenario):
        yield "groups are not all of one size"


def aggregation_reasons(case: Case) -> Iterator[str]:
    """Why the bias of group means is not the closed form."""
    yield from _model_reasons(case, "aggregation")
    truth, covariates = case.truth, case.covariates
    terms = [t.label for t in truth.spec.terms]
    measured = measures_of(case)
    if any(part.block.terms or part.block.features for part in truth.spec.members):
        yield "the truth has member covariates, not covariates of level group that members measure"
    if not set(terms) <= set(covariates):
        yield "the truth has terms that are not plain covariates"
        return
    if any(covariates[n].get("level") != "group" for n in terms):
        yield "not all covariates of the truth have level group"
    used = [*terms, *measured.values()]
    for name in used:
        yield from _plain_reasons(name, covariates[name], case, used=terms)
        if covariates[name].get("level") is not None and not covariates[name]["redraw"]:
            yield f"{name} is drawn once for all replications (redraw: false)"
    if any(covariates[n].get("icc") for n in measured.values()):
        yield "errors of measurement are correlated within groups (icc)"
    yield from _measured_reasons(case, terms, measured)
    if not _equal_sizes(case.scenario):
        yield "groups are not all of one size"


def _measured_reasons(
    case: Case, terms: Collection[str], measured: Mapping[str, str]
) -> Iterator[str]:
    """Whether the method has the truth's terms, measured by members or not."""
    formula = parse_formula(case.method.formula(case.scenario.recipe))
    wanted = {measured.get(n, n) for n in terms}
    if not set(measured) <= set(terms) or {t.label for t in formula.terms} != wanted:
        needed = ", ".join(sorted(wanted))
        yield f"the formula of the method needs these terms of the truth, as measured: {needed}"
        return
    slopes = {measured.get(n, n): case.truth.parameters.get(f"b_l2[{n}]") for n in terms}
    slope = slopes.get(case.covariate)
    if not slope:
        yield f"{case.parameter} has the true value 0, so it has no relative bias"
    elif case.compared != slope:
        yield (
            f"estimates of {case.parameter} are not compared with the slope of the truth, {slope:g}"
        )


def shared_members_reasons(case: Case) -> Iterator[str]:
    """Why the Type-I error of least squares on shared members is not the closed form."""
    yield from _model_reasons(case, "aggregation")
    yield from _test_reasons(case)
    truth = case.truth
    if not _is_fixed(case.scenario):
        yield (
            "memberships and covariates must be the same in all replications: set `redraw: false` "
            "for both"
        )
    if len(truth.spec.members) != 1 or not truth.spec.members[0].random:
        yield "the truth does not have one mm() with random effects"
        return
    block = truth.spec.members[0].block
    if block.weight.constraint == "none":
        yield "the weights of the truth do not sum to 1 in each group (c = FALSE)"
    shapes = [e.get("distribution", "normal") for e in truth.effects.values()]
    if any(shape != "normal" for shape in shapes):
        yield "random effects of the truth are not normal"
    used = [t.label for t in (*truth.spec.terms, *block.terms)]
    if not set(used) <= set(case.covariates):
        yield "the truth has terms that are not plain covariates"
    elif case.covariate not in used:
        yield f"the truth has no covariate {case.covariate or case.parameter}"
    others = [f"{truth.spec.members[0].b}[{t.label}]" for t in block.terms]
    if block.weight.text.replace(" ", "") != "1/n" and any(
        truth.parameters.get(name) != 0 for name in others
    ):
        yield "member covariates have effects, with weights other than 1/n"


def _model_reasons(case: Case, kind: str) -> Iterator[str]:
    """Method and truth as all closed forms need them."""
    method, truth = case.method, case.truth
    if method.kind.name != kind:
        yield f"{method.name} is of kind {method.kind.name}, not {kind}"
        return
    family = truth.spec.family.name
    if family != "gaussian":
        yield f"the truth is of family {family}, not gaussian"
    elif method.backend not in ("ols", BY_FAMILY):
        yield f"{method.name} has backend {method.backend}, not ols"
    if kind == "aggregation" and method.config["summary"] != "mean":
        yield f"{method.name} has summary: {method.config['summary']}, not mean"
    if truth.priors:
        yield "true values are drawn from priors"
    if truth.endogenous:
        yield "covariates are correlated with random effects (endogenous)"
    if truth.spec.nestings:
        yield "the truth has hm()"
    if not truth.spec.intercept:
        yield "the truth has no intercept"
    if truth.spec.fixed or any(part.block.fixed for part in truth.spec.members):
        yield "the truth has terms with fixed coefficients"
    for part in truth.spec.members:
        if part.in_time or part.slopes:
            yield "the truth has effects in time (ar =) or random slopes"
        if part.block.features:
            yield "the truth has features of members, such as variance(x)"


def _test_reasons(case: Case) -> Iterator[str]:
    """What a Type-I error of classical tests needs."""
    method = case.method
    if method.config["errors"] != "classical":
        yield f"{method.name} has {method.config['errors']} standard errors, not classical ones"
    if method.config.get("formula"):
        yield f"{method.name} has its own formula"
    value = case.truth.parameters.get(case.parameter)
    if value != 0 or case.null != 0:
        found = "none" if value is None else f"{value:g}"
        yield (
            f"the null hypothesis is not true: the true value of {case.parameter} is {found}, the "
            f"null value {case.null:g}; both must be 0"
        )
    parts = [*case.truth.spec.terms, *(t for p in case.truth.spec.members for t in p.block.terms)]
    mixed = [t.label for t in parts if case.covariate in term_columns(t)]
    if [label for label in mixed if label != case.covariate]:
        yield f"{case.covariate} is in other terms of the truth, too"


def _plain_reasons(
    name: str, one: Mapping[str, Any], case: Case, used: Collection[str] = ()
) -> Iterator[str]:
    """A normal covariate, uncorrelated with all but `used`, which adds to no other one."""
    if one.get("column") is not None:
        yield f"{name} is a column of a table"
        return
    if one["distribution"] != "normal":
        yield f"{name} is not normal"
    others = {
        n
        for n, c in case.covariates.items()
        if c.get("correlation", {}).get(name) or one["correlation"].get(n)
    }
    if others - set(used):
        yield f"{name} is correlated with {', '.join(sorted(others - set(used)))}"
    if not used and one.get("around"):
        yield f"{name} is a measure of {one['around']}"


def measures_of(case: Case) -> dict[str, str]:
    """Group-level covariate -> the membership-level one that measures it."""
    return {c["around"]: n for n, c in case.covariates.items() if c.get("around")}


def _weight_columns(truth: Truth) -> set[str]:
    return {c for part in truth.spec.members for c in part.block.weight.columns}


def _equal_sizes(scenario: Scenario) -> bool:
    """One draw tells: sizes that vary are all alike in next to no draw."""
    drawn = scenario.recipe.membership(np.random.default_rng(0))
    return len(np.unique(drawn.size)) == 1


def _is_fixed(scenario: Scenario) -> bool:
    covariates = scenario.content["covariates"].values()
    return scenario.recipe.fixed and all(
        c.get("column") is not None or not c["redraw"] for c in covariates
    )


#: Closed form -> the reasons why it does not hold in a case; none where it does.
REASONS: dict[str, Callable[[Case], Iterator[str]]] = {
    "disaggregation_type1": disaggregation_reasons,
    "aggregation_bias": aggregation_reasons,
    "shared_members_size": shared_members_reasons,
}
