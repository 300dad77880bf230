"""A data-generating model as a mapping -> a checked `Truth`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rmm.errors import unknown_name
from rmm.families import FAMILIES, Family, find_family
from rmm.formula.parse_formula import parse_formula
from rmm.formula.prior_syntax import Prior
from rmm.formula.terms import Formula, Term
from rmm.formula.weights.weight_function import (
    Column,
    Node,
    TableCall,
    walk,
)
from rmm.model.spec import ModelSpec, build_spec
from rmm.simulation.covariates.distributions import DISTRIBUTIONS
from rmm.simulation.covariates.endogenous import dependences, effect_shapes
from rmm.simulation.memberships.structures import IdNames
from rmm.simulation.outcomes.ordered_levels import count_thresholds
from rmm.simulation.outcomes.outcomes import OUTCOMES
from rmm.simulation.recipe_errors import RecipeError, check_name, listed
from rmm.simulation.related_effects import read_effect_covariances
from rmm.simulation.true_model import Truth, level3, parameter_names, term_columns
from rmm.simulation.truth_priors import correlation_matrix, read_truth_prior

_FINE = ("member", "membership")
_COMMON = ("formula", "family", "parameters", "effects")
#: Kind of outcome -> how it is written, and its number of columns.
_PATTERNS = {
    "plain": ("y", 1),
    "surv": ("Surv(time, event)", 2),
    "spell": ("Surv(time, event, entry = start)", 3),
    "interval": ('Surv(lower, upper, type = "interval2")', 2),
    "cbind": ("cbind(successes, failures)", 2),
}


def prepare_truth(
    config: Mapping[str, Any],
    levels: Mapping[str, str],
    names: IdNames,
    covariates: Mapping[str, Mapping[str, Any]],
    cov: Mapping[str, Any] | None = None,
) -> Truth:
    """Check a data-generating model against the covariates that there are.

    Parameters
    ----------
    config : mapping
        formula, family, parameters, effects, and the family's own keys.
    levels : mapping
        Covariate -> level.
    names : IdNames
    covariates : mapping
        Name -> settings: which of them are endogenous.
    cov : mapping of str to pandas.DataFrame, optional
        Known covariance matrices of member effects.

    Raises
    ------
    FormulaError
        If the formula does not parse.
    RecipeError
        For everything else.
    """
    family = config.get("family", "gaussian")
    check_name("truth.family", "a family that can be simulated", family, OUTCOMES)
    options = _options(config, family)
    formula = parse_formula(config["formula"])
    covariances = read_effect_covariances(cov, formula)
    outcomes = outcome_columns(formula, family)
    _check_entry(formula, options)
    _check_formula(formula, family, levels, names)
    _check_spread(formula, family, options)
    known = _configured(FAMILIES[family], options, config["parameters"])
    spec = build_spec(formula, known, level3(formula, levels))
    parameters, priors = _check_parameters(config["parameters"], spec)
    effects = config.get("effects") or {}
    for name, one in effects.items():
        check_name(
            f"truth.effects.{name}", "a random effect of the formula", name, effect_shapes(spec)
        )
        check_name(
            f"truth.effects.{name}.distribution",
            "a distribution of effects",
            one.get("distribution", "normal"),
            [d for d in DISTRIBUTIONS if d in ("normal", "t", "skew")],
        )
    endogenous = dependences(covariates, spec)
    return Truth(
        formula, spec, outcomes, parameters, effects, priors, options, endogenous, covariances
    )


def _options(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The family's own keys of a truth, checked."""
    keys = OUTCOMES[family].keys
    given = {k: v for k, v in config.items() if k not in _COMMON and v is not None}
    for name in given:
        if name not in keys:
            kind = f"a key of a truth of family {family!r}"
            raise RecipeError(f"truth.{name}", unknown_name(name, kind, [*_COMMON, *keys]))
    OUTCOMES[family].check(given)
    return given


def _check_entry(formula: Formula, options: Mapping[str, Any]) -> None:
    """The formula names the column of the entries if there are any."""
    named = formula.outcome.kind == "spell"
    if named == ("entry" in options):
        return
    raise RecipeError(
        "truth.entry",
        f"The outcome is {formula.outcome.label!r}, but "
        + ("there is no `entry`." if named else "`entry` is given."),
        "Groups that enter late need both: `entry`, such as {time: 2}, and the outcome "
        "Surv(time, event, entry = start).",
    )


def _check_spread(formula: Formula, family: str, options: Mapping[str, Any]) -> None:
    """The strata of family cox have baselines that differ; otherwise there is only one."""
    if family != "cox" or bool(formula.strata) == ("spread" in options.get("baseline", {})):
        return
    raise RecipeError(
        "truth.baseline.spread",
        "The formula has strata(), but `spread` is missing."
        if formula.strata
        else "`spread` is given, but the formula has no strata().",
        "Strata need both: strata(column) in the formula, and `spread`, the sd over strata of the "
        "logs of the baseline's shape and rate.",
    )


def _configured(family: Family, options: Mapping[str, Any], given: Mapping[str, Any]) -> Family:
    """The family with what a fit must know of it: links, and how many levels there are."""
    own = {name: value for name, value in options.items() if name in family.option_names}
    if family.ordered:
        own["levels"] = list(range(1, count_thresholds(given) + 2))
    return find_family(family, own)


def outcome_columns(formula: Formula, family: str) -> tuple[str, ...]:
    """Names of the outcome columns.

    Raises
    ------
    RecipeError
        About ``truth.formula``, if they are not plain names of the family's kind of outcome.
    """
    kinds, outcome = OUTCOMES[family].kinds, formula.outcome
    expressions = [part.expression for part in outcome.parts]
    names = tuple(e.name for e in expressions if isinstance(e, Column))
    plain = len(names) == len(expressions) == _PATTERNS[outcome.kind][1]
    if outcome.kind not in kinds or not plain:
        raise RecipeError(
            "truth.formula",
            f"The outcome {outcome.label!r} cannot be simulated with family {family!r}.",
            f"Write it with plain names: {' or '.join(_PATTERNS[kind][0] for kind in kinds)}.",
        )
    if len(set(names)) < len(names):
        raise RecipeError("truth.formula", f"{outcome.label!r} names one column twice.")
    return names


def _check_formula(
    formula: Formula, family: str, levels: Mapping[str, str], names: IdNames
) -> None:
    key = "truth.formula"
    if formula.offset:
        raise RecipeError(key, "A truth cannot contain offset().")
    if formula.strata:
        if not FAMILIES[family].takes_strata:
            raise RecipeError(key, f"Family {family!r} has no strata().")
        if len(formula.strata) > 1:
            raise RecipeError(key, "A truth has one column in strata().")
        if formula.strata[0] != names.nesting:
            _check_column(formula.strata[0], levels)
    for block in formula.members:
        if {block.member, block.group} != {names.member, names.group}:
            raise RecipeError(
                key,
                f"mm() contains id({block.member}, {block.group}).",
                f"The ids of the memberships are id({names.member}, {names.group}).",
            )
        if block.time_column is not None:
            _check_time(block.time_column, levels)
        aggregates = [Term((f.atom,)) for f in block.features if f.atom is not None]
        for term in (*block.terms, *block.slopes, *(f.term for f in block.fixed), *aggregates):
            _check_term(term, levels, names, fine=True)
        for column in block.weight.variables:
            _check_column(column, levels)
        _check_within((block.weight.expression,), levels, names, fine=True)
    _check_nestings(formula, levels, names)
    for term in (*formula.terms, *(f.term for f in formula.fixed)):
        _check_term(term, levels, names, fine=False)


def _check_nestings(formula: Formula, levels: Mapping[str, str], names: IdNames) -> None:
    key = "truth.formula"
    for nesting in formula.nestings:
        if nesting.effect != "RE":
            raise RecipeError(key, "Fixed effects of nesting units cannot be simulated.")
        if nesting.unit != names.nesting:
            raise RecipeError(
                key,
                f"hm() names {nesting.unit!r}, which is not the id of the nesting units.",
                f"That id is {names.nesting!r}."
                if names.nesting
                else "These memberships have no nesting units.",
            )
        for term in nesting.terms or ():
            _check_term(term, levels, names, fine=False)


def _check_time(column: str, levels: Mapping[str, str]) -> None:
    """The time of `ar =` belongs to groups."""
    _check_column(column, levels)
    if levels[column] != "group":
        raise RecipeError(
            "truth.formula",
            f"`ar = {column}` names a covariate of level {levels[column]}.",
            "The time of a group must be a covariate of level group. Or write ar = TRUE.",
        )


def _check_term(term: Term, levels: Mapping[str, str], names: IdNames, *, fine: bool) -> None:
    _check_within([atom.expression for atom in term.atoms], levels, names, fine=fine)
    for atom in term.atoms:
        if atom.basis is not None:
            raise RecipeError(
                "truth.formula",
                f"{atom.label} cannot be used in a truth: it has several coefficients.",
                "Write a term for each coefficient, such as I(x == 2) or I(x^2).",
            )
    for column in term_columns(term):
        _check_column(column, levels)
        if not fine and levels[column] in _FINE:
            raise RecipeError(
                "truth.formula",
                f"{column!r} is a covariate of level {levels[column]}, but is used outside mm().",
                f"Write it inside mm(): mm(..., vars({column}), ...).",
            )


def _check_within(
    expressions: Iterable[Node], levels: Mapping[str, str], names: IdNames, *, fine: bool
) -> None:
    """`within =` names an id or a covariate, outside `mm()` of groups or nesting units."""
    ids = {names.member: "member", names.group: "group"}
    if names.nesting is not None:
        ids[names.nesting] = "nesting"
    allowed = {n: at for n, at in {**ids, **levels}.items() if fine or at not in _FINE}
    for node in (n for expression in expressions for n in walk(expression)):
        if isinstance(node, TableCall) and node.within is not None and not node.own_group:
            check_name(
                "truth.formula",
                "a column or id that `within =` can name here",
                node.within,
                allowed,
            )


def _check_column(column: str, levels: Mapping[str, str]) -> None:
    if column not in levels:
        raise RecipeError(
            "truth.formula",
            unknown_name(column, "a covariate of the simulation", levels),
        )


def _check_parameters(
    given: Mapping[str, Any], spec: ModelSpec
) -> tuple[dict[str, float], dict[str, Prior]]:
    """True values, and the priors of those that are drawn, both in the order of the model."""
    known = parameter_names(spec)
    for name in given:
        if name not in known:
            raise RecipeError(
                f"truth.parameters.{name}",
                unknown_name(name, "a parameter of the formula", known),
            )
    missing = [name for name in known if name not in given]
    if missing:
        raise RecipeError(
            "truth.parameters",
            f"The value of {listed(missing)} is missing.",
            "Every parameter of the formula needs a value.",
        )
    parameters = {p.name: p for p in spec.parameters}
    values: dict[str, float] = {}
    priors: dict[str, Prior] = {}
    for name in known:
        if isinstance(given[name], Mapping):
            parameter = parameters[name.partition("[")[0]]
            priors[name] = read_truth_prior(name, given[name], parameter)
            continue
        if name.startswith("sigma") and given[name] < 0:
            raise RecipeError(
                f"truth.parameters.{name}",
                f"The value {given[name]:g} is negative.",
                "A standard deviation must be 0 or more.",
            )
        if name in parameters and parameters[name].support == "probability":
            _check_probability(name, given[name])
        if name == "shape" and given[name] <= 0:
            raise RecipeError(
                f"truth.parameters.{name}",
                f"The value {given[name]:g} is not positive.",
                "A shape must be above 0.",
            )
        values[name] = float(given[name])
    _check_thresholds([name for name in known if name.startswith("tau[")], values, priors)
    for found in spec.correlated:
        own = [name for name in known if name.startswith(f"{found.cor}[")]
        _check_correlations(own, values, priors)
    return values, priors


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise RecipeError(
            f"truth.parameters.{name}",
            f"The value {value:g} is no probability.",
            "It must be between 0 and 1.",
        )


def _check_correlations(
    names: Sequence[str], values: Mapping[str, float], priors: Mapping[str, Prior]
) -> None:
    """Correlations are those of a positive definite matrix, or all have one prior."""
    numbers = [values[name] for name in names if name in values]
    laws = {priors[name] for name in names if name in priors}
    if laws and (numbers or len(laws) > 1):
        raise RecipeError(
            "truth.parameters",
            f"The correlations {listed(names)} do not all have the same prior.",
            "Give all of them one prior, lkj(eta), or numbers.",
        )
    outside = any(abs(v) >= 1 for v in numbers)
    if numbers and (outside or np.linalg.eigvalsh(correlation_matrix(numbers)).min() <= 0):
        raise RecipeError(
            "truth.parameters",
            f"The correlations {listed(names)} are {', '.join(f'{v:g}' for v in numbers)}.",
            "They must be between -1 and 1, and their matrix positive definite.",
        )


def _check_thresholds(
    names: Sequence[str], values: Mapping[str, float], priors: Mapping[str, Prior]
) -> None:
    """Thresholds rise, or all have one prior."""
    numbers = [values[name] for name in names if name in values]
    laws = {priors[name] for name in names if name in priors}
    if laws and (numbers or len(laws) > 1):
        raise RecipeError(
            "truth.parameters",
            f"The thresholds {listed(names)} do not all have the same prior.",
            "Give all of them one prior, whose draws are put in order; or numbers that increase.",
        )
    if any(above <= below for below, above in itertools.pairwise(numbers)):
        raise RecipeError(
            "truth.parameters",
            f"The thresholds {listed(names)} are {', '.join(f'{v:g}' for v in numbers)}.",
            "Thresholds must increase.",
        )
