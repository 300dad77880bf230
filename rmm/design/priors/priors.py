"""Priors of a model: the named sets, the user's statements on top, hyperparameters as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.design.priors.prior_scales import MemberScales, PriorScales
from rmm.design.priors.weight_priors import weight_priors, weight_units
from rmm.errors import PriorError
from rmm.families import Parameter, Widths
from rmm.families.variants.varying_sd import (
    AT_CENTRES,
    B_SIGMA,
    classic_log_sd_priors,
    log_sd_priors,
)
from rmm.formula.prior_distributions import support as prior_support
from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior, PriorChoice, PriorStatement, read_priors
from rmm.model.correlated_effects import CorrelationNames
from rmm.model.correlations import lkj_shapes
from rmm.model.spec import CUT, INTERCEPT, MemberPart, ModelSpec

Array = np.ndarray[Any, Any]
_UNIFORM = Prior("uniform", (0.0, 1.0))  # of the correlation of an AR(1) process, in both sets
_WIDE = 2.5  # standard deviations of a column with missing values
_ETA = 2.0  # of the LKJ prior of correlations, in both named sets


@dataclass(frozen=True)
class Resolved:
    """Priors of every sampled parameter.

    Attributes
    ----------
    forms : mapping
        Parameter -> prior families: one for all elements, or one per element.
    data : mapping
        ``prior_<parameter>_<hyper>`` -> scalar or (K,) array, and ``<parameter>`` -> value for
        fixed scalars;
        ``unit_<b_w>`` -> (K,) array, the unit in which engines sample each weight coefficient.
    elements : mapping
        Parameter -> one `Prior` per element, for reading.
    """

    forms: Mapping[str, tuple[str, ...]]
    data: Mapping[str, Any]
    elements: Mapping[str, tuple[Prior, ...]]


def centred_intercept(choice: PriorChoice) -> bool:
    """Whether the prior of the intercept, or thresholds, is stated at the predictors' centres.

    True for the weakly informative set unless the user gave a prior of these themselves.
    """
    own = any(
        (s.target == "b_l2" and s.element in (None, INTERCEPT)) or s.target == "tau"
        for s in choice.statements
    )
    return choice.base == "weakly_informative" and not own


def centred_sigma(choice: PriorChoice) -> bool:
    """The same of the intercept of the log of the residual standard deviation."""
    own = any(s.target == B_SIGMA and s.element in (None, INTERCEPT) for s in choice.statements)
    return choice.base == "weakly_informative" and not own


def resolve(choice: PriorChoice, spec: ModelSpec, scales: PriorScales) -> Resolved:
    """The priors of a model.

    Parameters
    ----------
    choice : PriorChoice
        Of `rmm.design.priors.places.place_priors`: elements are named by label.
    spec : ModelSpec
    scales : PriorScales
        Of a table; forms of priors do not depend on them.

    Returns
    -------
    Resolved

    Raises
    ------
    PriorError
        If a parameter cannot have the prior that a statement gives it.
    """
    base = {"weakly_informative": weakly_informative, "rmm": classic}[choice.base](spec, scales)
    base |= _imputation_priors(spec, scales)
    elements = {name: list(priors) for name, priors in base.items()}
    supports = {p.name: p.support for p in spec.sampled}
    for statement in choice.statements:
        _check_series(statement, spec)
        correlated = next((c for c in spec.correlated if c.cor == statement.target), None)
        if correlated is not None:
            eta = statement.prior.values[0]
            elements[correlated.pcor] = list(_correlations(correlated, scales, eta))
            continue
        for parameter, index in _places(statement, spec, scales.labels):
            elements[parameter][index] = _supported(statement, supports[parameter], parameter)
    return Resolved(
        forms={name: form(tuple(priors)) for name, priors in elements.items()},
        data=_as_data(spec, elements) | weight_units(spec, scales.members),
        elements={name: tuple(priors) for name, priors in elements.items()},
    )


def with_elements(
    known: Resolved, spec: ModelSpec, elements: Mapping[str, Sequence[Prior]]
) -> Resolved:
    """The priors of a model with other elements; the units of weight coefficients stay."""
    own = {name: list(priors) for name, priors in elements.items()}
    of_priors = _as_data(spec, {name: list(priors) for name, priors in known.elements.items()})
    rest = {name: value for name, value in known.data.items() if name not in of_priors}
    return Resolved(
        forms={name: form(tuple(priors)) for name, priors in own.items()},
        data=_as_data(spec, own) | rest,
        elements={name: tuple(priors) for name, priors in own.items()},
    )


def form(priors: tuple[Prior, ...]) -> tuple[str, ...]:
    """Families of the elements: one entry if they are all the same."""
    families = tuple(p.family for p in priors)
    return families[:1] if len(set(families)) == 1 else families


def weakly_informative(spec: ModelSpec, scales: PriorScales) -> dict[str, tuple[Prior, ...]]:
    """The default set: scales of the data, and those that the family finds plausible."""
    wide = spec.family.widths(scales.outcome)
    location = spec.family.scale(scales.outcome)[0] - scales.offset
    out: dict[str, tuple[Prior, ...]] = {}
    if spec.intercept:
        out["alpha"] = (Prior("normal", (location, wide.intercept)),)
    if spec.terms:
        out["beta_l2"] = _slopes(wide, scales.level2)
    for part, member in zip(spec.members, scales.members, strict=True):
        if part.covariates:
            out[part.b] = _slopes(wide, member.b)
        if part.estimated:
            out[part.b_w] = weight_priors(part, member.weight)
        if part.parametric_features:
            out[part.b_f] = _feature_priors(part, member)
        out |= _effect_priors(part, member, wide.sd / member.spread)
    out |= {found.pcor: _correlations(found, scales) for found in spec.correlated}
    for nest, sds in zip(spec.nestings, scales.nestings, strict=True):
        if nest.covariates:
            out[nest.b] = _slopes(wide, sds)
        if nest.random:
            out[nest.sigma] = (Prior("half_normal", (wide.sd,)),)
    own = spec.family.priors(scales.outcome)
    for parameter in spec.family.parameters:
        prior = own.get(parameter.name, Prior("half_normal", (wide.sd,)))
        if parameter.role == "threshold":
            *shape, location, scale = prior.values
            moved = Prior(prior.family, (*shape, location + scales.offset, scale))
            out[CUT] = (moved,) * _size(parameter, scales.labels)
        elif parameter.role == "log_sd":
            out[AT_CENTRES] = log_sd_priors(wide.sd, scales.outcome["X_sigma"])
        else:
            out[parameter.name] = (prior,)
    return out


def _effect_priors(
    part: MemberPart, member: MemberScales, sd: float
) -> dict[str, tuple[Prior, ...]]:
    """Of the standard deviations of members' effects."""
    out: dict[str, tuple[Prior, ...]] = {}
    if part.random:
        # Of a random walk it is the sd of the first effect; later ones are wider a priori.
        out[part.sigma] = (Prior("half_normal", (sd,)),)
    if part.series:
        out[part.rho] = (_UNIFORM,)
    if part.slopes:
        out[part.sigma_slope] = tuple(
            Prior("half_normal", (sd / float(scale),)) for scale in member.slopes
        )
    return out


def _correlations(
    found: CorrelationNames, scales: PriorScales, eta: float = _ETA
) -> tuple[Prior, ...]:
    """Of partial correlations, in both named sets: together they are LKJ(eta)."""
    shapes = lkj_shapes(eta, len(scales.labels[found.pair]))
    return tuple(Prior("lkj", (float(shape),)) for shape in shapes)


def _imputation_priors(spec: ModelSpec, scales: PriorScales) -> dict[str, tuple[Prior, ...]]:
    """Of the model of covariates with missing values, in both named sets: on the columns' scales,
    as those of a gaussian outcome.
    """
    out: dict[str, tuple[Prior, ...]] = {}
    for one, found in zip(spec.imputed, scales.imputed, strict=True):
        wide = _WIDE * found.scale
        slopes = (Prior("normal", (0.0, wide / float(sd))) for sd in found.predictor_scale)
        out[one.b] = (Prior("normal", (found.fill, wide)), *slopes)
        out[one.sigma] = (Prior("half_normal", (wide,)),)
    return out


def _feature_priors(part: MemberPart, member: MemberScales) -> tuple[Prior, ...]:
    """Of cuts, kappas and exponents, in both named sets; see `rmm.formula.features`."""
    return tuple(
        Prior("normal", member.features.get(term, (0.0, 1.0))) for term in part.parametric_features
    )


def _slopes(wide: Widths, scales: Array) -> tuple[Prior, ...]:
    return tuple(Prior("normal", (0.0, wide.slope / (float(sd) or 1.0))) for sd in scales)


def classic(spec: ModelSpec, scales: PriorScales) -> dict[str, tuple[Prior, ...]]:
    """R rmm's set: dnorm(0, 0.0001) on coefficients, dscaled.gamma(25, 1) on precisions."""
    own = spec.family.classic_priors(scales.outcome)
    out: dict[str, tuple[Prior, ...]] = {}
    for parameter in spec.sampled:
        if parameter.structural:
            prior = (
                Prior("half_cauchy", (25.0,))
                if parameter.support == "positive"
                else Prior("normal", (0.0, 100.0))
            )
            prior = _UNIFORM if parameter.support == "probability" else prior
            prior = own.get(parameter.name, prior)
            out[parameter.name] = (prior,) * _size(parameter, scales.labels)
    if AT_CENTRES in out:
        out[AT_CENTRES] = classic_log_sd_priors(len(out[AT_CENTRES]))
    for part, member in zip(spec.members, scales.members, strict=True):
        if part.parametric_features:
            out[part.b_f] = _feature_priors(part, member)
    return out | {found.pcor: _correlations(found, scales) for found in spec.correlated}


def _size(parameter: Parameter, coords: Mapping[str, Sequence[Any] | Array]) -> int:
    return len(coords[parameter.dims[0]]) if parameter.dims else 1


def _places(
    statement: PriorStatement, spec: ModelSpec, coords: Mapping[str, Sequence[Any] | Array]
) -> list[tuple[str, int]]:
    """Sampled parameters and elements that a statement is about; see `rmm.design.priors.places`."""
    parameter = next(p for p in spec.parameters if p.name == statement.target)
    labels = [str(v) for v in coords[parameter.dims[0]]] if parameter.dims else [None]
    indices = [i for i, label in enumerate(labels) if statement.element in (None, label)]
    if parameter.role == "threshold":
        return [(CUT, i) for i in indices]
    if parameter.role == "log_sd":
        return [(AT_CENTRES, i) for i in indices]
    if parameter.name != "b_l2":
        return [(parameter.name, i) for i in indices]
    shift = 1 if spec.intercept else 0
    return [("alpha", 0) if i < shift else ("beta_l2", i - shift) for i in indices]


def _supported(statement: PriorStatement, support: str, parameter: str) -> Prior:
    """The prior of a statement; raises `PriorError` where it leaves the parameter's support."""
    positive, family = support == "positive", statement.prior.family
    if (support == "probability") != (family == "beta"):
        _check_probability(statement, support, parameter)
    if positive and family in ("normal", "student_t"):
        raise PriorError(
            f"`{statement.text}`: `{parameter}` must be positive. Use half_normal, half_t, "
            "half_cauchy, exponential, gamma or uniform; in the notation of JAGS, add T(0,)."
        )
    if positive and family in ("uniform", "fixed") and statement.prior.values[0] < 0:
        raise PriorError(f"`{statement.text}`: `{parameter}` cannot be negative.")
    if family == "lkj":
        raise PriorError(f"`{statement.text}`: lkj() is the prior of correlations, `cor_l1`.")
    if not positive and family == "precision_gamma":
        raise PriorError(f"`{statement.text}`: `{parameter}` has no precision.")
    return statement.prior


def _check_series(statement: PriorStatement, spec: ModelSpec) -> None:
    """Effects of a member whose correlation is 1 are one effect."""
    names = {part.rho for part in spec.members if part.series}
    prior = statement.prior
    if statement.target in names and prior.family == "fixed" and prior.values[0] == 1:
        raise PriorError(
            f"`{statement.text}`: with a correlation of 1 a member has the same effect at all "
            "times. Leave `ar =` out: RE = TRUE."
        )


def _check_probability(statement: PriorStatement, support: str, parameter: str) -> None:
    """Refuse other priors of a probability, and a beta prior of other parameters."""
    if support != "probability":
        raise PriorError(
            f"`{statement.text}`: beta() is the prior of a probability, and `{parameter}` is none."
        )
    low, high = prior_support(statement.prior)
    if statement.prior.family not in ("uniform", "fixed") or low < 0 or high > 1:
        raise PriorError(
            f"`{statement.text}`: `{parameter}` is a probability. Use beta(alpha, beta), uniform "
            "with limits from 0 to 1, or a fixed value from 0 to 1."
        )


def _as_data(spec: ModelSpec, elements: Mapping[str, list[Prior]]) -> dict[str, Any]:
    """Hyperparameters by their names in the programs."""
    scalar = {p.name for p in spec.sampled if not p.dims}
    out: dict[str, Any] = {}
    for name, priors in elements.items():
        if name in scalar and priors[0].family == "fixed":
            out[name] = priors[0].values[0]
            continue
        if any(p.family == "fixed" for p in priors):
            out[name] = _held(name, priors)
            continue
        needed = dict.fromkeys(h for p in priors for h in PRIOR_FAMILIES[p.family].hyper)
        for hyper in needed:
            values = np.array([p.hyper.get(hyper, 0.0) for p in priors])
            out[f"prior_{name}_{hyper}"] = float(values[0]) if name in scalar else values
    return out


def _held(name: str, priors: list[Prior]) -> Array:
    """Values of a vector of standard deviations that is held fixed."""
    if not all(p.family == "fixed" for p in priors):
        raise PriorError(
            f"`{name}`: only some of its {len(priors)} elements are fixed. Fix all of them or none."
        )
    return np.array([p.values[0] for p in priors])


__all__ = [
    "Resolved",
    "centred_intercept",
    "classic",
    "read_priors",
    "resolve",
    "weakly_informative",
    "with_elements",
]
