"""Priors of a model: the named sets, the user's statements on top, hyperparameters as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import PriorError
from rmm.families import Parameter, Widths
from rmm.prior_language import PRIOR_FAMILIES, Prior, PriorChoice, PriorStatement, read_priors
from rmm.spec import MemberPart, ModelSpec
from rmm.terms import FixedTerm, Formula, MemberBlock, Term

if TYPE_CHECKING:
    from rmm.design import Design
    from rmm.memberships import Membership

Array = np.ndarray[Any, Any]

# Families of sds that Stan samples by free numbers.
FREED = ("half_normal", "half_cauchy", "half_t")


@dataclass(frozen=True)
class Resolved:
    """Priors of every sampled parameter.

    Attributes
    ----------
    forms : mapping
        Parameter -> prior families: one for all elements, or one per element.
    data : mapping
        ``prior_<parameter>_<hyper>`` -> scalar or (K,) array, and ``<parameter>`` -> value for
        fixed scalars; ``base_<parameter>`` and ``base_soft`` for Stan's free numbers;
        ``unit_<b_w>`` -> (K,) array, the unit in which engines sample each weight coefficient.
    elements : mapping
        Parameter -> one `Prior` per element, for reading.
    """

    forms: Mapping[str, tuple[str, ...]]
    data: Mapping[str, Any]
    elements: Mapping[str, tuple[Prior, ...]]


def centred_intercept(choice: PriorChoice) -> bool:
    """Whether the intercept's prior is stated at the predictors' centres.

    True for the weakly informative set unless the user gave a prior of the intercept itself.
    """
    own = any(
        s.target == "b_l2" and s.element in (None, "Intercept", "1") for s in choice.statements
    )
    return choice.base == "weakly_informative" and not own


def resolve(choice: PriorChoice, spec: ModelSpec, design: Design) -> Resolved:
    """The priors of a model on a data set.

    Raises
    ------
    PriorError
        If a statement names a parameter or coefficient that the model does not have.
    """
    base = {"weakly_informative": weakly_informative, "rmm": classic}[choice.base](spec, design)
    elements = {name: list(priors) for name, priors in base.items()}
    for statement in choice.statements:
        for parameter, index in _places(statement, spec, design.coords):
            elements[parameter][index] = _supported(statement, parameter)
    return Resolved(
        forms={name: form(tuple(priors)) for name, priors in elements.items()},
        data=_as_data(spec, elements) | _bases(spec, design, elements) | _units(spec, design),
        elements={name: tuple(priors) for name, priors in elements.items()},
    )


def form(priors: tuple[Prior, ...]) -> tuple[str, ...]:
    """Families of the elements: one entry if they are all the same."""
    families = tuple(p.family for p in priors)
    return families[:1] if len(set(families)) == 1 else families


def weakly_informative(spec: ModelSpec, design: Design) -> dict[str, tuple[Prior, ...]]:
    """The default set: scales of the data, and those that the family finds plausible."""
    location, wide = spec.family.scale(design.outcome)[0], spec.family.widths(design.outcome)
    if design.offset is not None:
        location -= float(np.mean(design.offset))
    out: dict[str, tuple[Prior, ...]] = {}
    if spec.intercept:
        out["alpha"] = (Prior("normal", (location, wide.intercept)),)
    if spec.terms:
        out["beta_l2"] = _slopes(wide, design.scale_l2)
    for part, member in zip(spec.members, design.members, strict=True):
        if part.covariates:
            out[part.b] = _slopes(wide, member.b_scale)
        if part.estimated:
            out[part.b_w] = tuple(
                Prior("normal", (0.0, 1.0 / float(scale))) for scale in member.multiplier_scale
            )
        if part.shaped:
            out[part.b_f] = _feature_priors(part, member)
        if part.random:
            # Of a random walk it is the sd of the first effect; later ones are wider a priori.
            out[part.sigma] = (Prior("half_normal", (wide.sd / member.spread,)),)
        if part.slopes:
            out[part.sigma_slope] = tuple(
                Prior("half_normal", (wide.sd / member.spread / float(scale),))
                for scale in member.slope_scale
            )
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        if nest.covariates:
            out[nest.b] = _slopes(wide, nesting.scale)
        if nest.random:
            out[nest.sigma] = (Prior("half_normal", (wide.sd,)),)
    own = spec.family.priors(design.outcome)
    for parameter in spec.family.parameters:
        out[parameter.name] = (own.get(parameter.name, Prior("half_normal", (wide.sd,))),)
    return out


def _feature_priors(part: MemberPart, member: Membership) -> tuple[Prior, ...]:
    """Of cuts, kappas and exponents, in both named sets; see `rmm.features`."""
    known = {f.term: f.prior for f in member.features}
    return tuple(Prior("normal", known.get(term, (0.0, 1.0))) for term in part.shaped)


def _slopes(wide: Widths, scales: Array) -> tuple[Prior, ...]:
    return tuple(Prior("normal", (0.0, wide.slope / (float(sd) or 1.0))) for sd in scales)


def classic(spec: ModelSpec, design: Design) -> dict[str, tuple[Prior, ...]]:
    """R rmm's set: dnorm(0, 0.0001) on coefficients, dscaled.gamma(25, 1) on precisions."""
    own = spec.family.classic_priors(design.outcome)
    out: dict[str, tuple[Prior, ...]] = {}
    for parameter in spec.sampled:
        if parameter.structural:
            prior = (
                Prior("half_cauchy", (25.0,))
                if parameter.support == "positive"
                else Prior("normal", (0.0, 100.0))
            )
            prior = own.get(parameter.name, prior)
            out[parameter.name] = (prior,) * _size(parameter, design.coords)
    for part, member in zip(spec.members, design.members, strict=True):
        if part.shaped:
            out[part.b_f] = _feature_priors(part, member)
    return out


def _size(parameter: Parameter, coords: Mapping[str, Array]) -> int:
    return len(coords[parameter.dims[0]]) if parameter.dims else 1


def _places(
    statement: PriorStatement, spec: ModelSpec, coords: Mapping[str, Array]
) -> list[tuple[str, int]]:
    """Sampled parameters and elements that a statement is about."""
    known = {p.name: p for p in spec.parameters if p.structural}
    parameter = known.get(statement.target)
    if parameter is None:
        raise PriorError(
            f"`{statement.text}`: the model has no parameter `{statement.target}`. "
            f"It has: {', '.join(known)}.{_meant(statement.target, known, coords)}"
        )
    labels = [str(v) for v in coords[parameter.dims[0]]] if parameter.dims else None
    indices = _indices(statement, labels)
    if parameter.name != "b_l2":
        return [(parameter.name, i) for i in indices]
    shift = 1 if spec.intercept else 0
    return [("alpha", 0) if i < shift else ("beta_l2", i - shift) for i in indices]


#: Names of programs for what a summary calls otherwise.
_IN_PROGRAMS = {"alpha": "b_l2[Intercept]", "beta_l2": "b_l2"}


def _meant(target: str, known: Mapping[str, Parameter], coords: Mapping[str, Array]) -> str:
    """A sentence with what was meant: an element (`x`, `b1`), or a part of a name (`sigma`)."""
    names = [
        f"{name}[{target}]"
        for name, parameter in known.items()
        if parameter.dims and target in map(str, coords[parameter.dims[0]])
    ] or [name for name in known if name.startswith(f"{target}_")]
    if target in _IN_PROGRAMS:
        names = [_IN_PROGRAMS[target]]
    return f" Did you mean {' or '.join(f'`{n}`' for n in names)}?" if names else ""


def _indices(statement: PriorStatement, labels: list[str] | None) -> list[int]:
    """Elements that a statement is about; `labels` is None for a scalar parameter."""
    element = statement.element
    if element is None and (labels is None or labels):
        return [0] if labels is None else list(range(len(labels)))
    labels = labels or []
    if element is None:
        raise PriorError(f"`{statement.text}`: the model has no parameter `{statement.target}`.")
    if element in labels:
        return [labels.index(element)]
    if re.fullmatch("[0-9]{1,9}", element) and 1 <= int(element) <= len(labels):
        return [int(element) - 1]
    allowed = ", ".join(f"{statement.target}[{label}]" for label in labels)
    raise PriorError(
        f"`{statement.text}`: `{statement.target}` has no element `{element}`. "
        f"It has: {allowed or f'none, write `{statement.target}`'}."
    )


def _supported(statement: PriorStatement, parameter: str) -> Prior:
    positive = parameter.startswith("sigma") or parameter == "shape"
    family = statement.prior.family
    if positive and family in ("normal", "student_t"):
        raise PriorError(
            f"`{statement.text}`: `{parameter}` is positive. Use half_normal, half_t, half_cauchy, "
            "exponential, gamma or uniform (in JAGS's notation with T(0,))."
        )
    if positive and family in ("uniform", "fixed") and statement.prior.values[0] < 0:
        raise PriorError(f"`{statement.text}`: `{parameter}` cannot be negative.")
    if not positive and family == "precision_gamma":
        raise PriorError(f"`{statement.text}`: `{parameter}` has no precision.")
    return statement.prior


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


def _bases(
    spec: ModelSpec, design: Design, elements: Mapping[str, list[Prior]]
) -> dict[str, float]:
    """What the free numbers are in by which Stan samples sds: see `rmm.programs.stan_priors`.

    Scales are the outcome's, or a narrower prior's. Logarithms start at about the posterior's sd.
    """
    s = spec.family.scale(design.outcome)[1]
    scales = {
        f"base_{p.name}": min(s, elements[p.name][0].hyper["scale"])
        for p in spec.sampled
        if p.role == "sd" and not p.dims and elements[p.name][0].family in FREED
    }
    return {**scales, "base_soft": min(0.5, 2 / np.sqrt(design.J))} if scales else {}


def unit_name(b_w: str) -> str:
    """Name of the units of weight coefficients in the data of programs."""
    return f"unit_{b_w}"


def _units(spec: ModelSpec, design: Design) -> dict[str, Array]:
    """1 / sd of what each weight coefficient multiplies.

    Engines sample b_w over its unit, which does not depend on the unit of a weight variable.
    """
    return {
        unit_name(part.b_w): 1.0 / member.multiplier_scale
        for part, member in zip(spec.members, design.members, strict=True)
        if part.estimated
    }


def _held(name: str, priors: list[Prior]) -> Array:
    """Values of a vector of standard deviations that is held fixed."""
    if not all(p.family == "fixed" for p in priors):
        raise PriorError(f"`{name}`: hold all of its {len(priors)} elements fixed, or none.")
    return np.array([p.values[0] for p in priors])


def numbered(choice: PriorChoice, labels: Mapping[str, list[str]]) -> PriorChoice:
    """Statements with labels in place of numbers: numbers count the model as written.

    Parameters
    ----------
    labels : mapping
        Coefficient vector -> names of its elements, before any of them is held fixed.
    """
    out = []
    for s in choice.statements:
        known = labels.get(s.target)
        if s.element is not None and known is not None:
            s = replace(s, element=known[_indices(s, known)[0]])
        out.append(s)
    return replace(choice, statements=tuple(out))


def apply_fixed(formula: Formula, choice: PriorChoice) -> tuple[Formula, PriorChoice]:
    """Turn statements such as ``b.w[1] <- 1`` into parts of the formula.

    A fixed coefficient of a covariate becomes a `fix()` term, a fixed weight coefficient a
    number in the weight function; fixed standard deviations stay with the priors. Elements are
    named by label: see `numbered`.
    """
    rest: list[PriorStatement] = []
    fixed: dict[str, list[PriorStatement]] = {}
    for statement in choice.statements:
        if statement.prior.family != "fixed" or statement.target.startswith(("sigma", "shape")):
            rest.append(statement)
        else:
            fixed.setdefault(statement.target, []).append(statement)
    for target, statements in fixed.items():
        formula = _with_fixed(formula, target, statements)
    return formula, replace(choice, statements=tuple(rest))


def _with_fixed(formula: Formula, target: str, statements: list[PriorStatement]) -> Formula:
    for kind, fix in _FIXERS.items():
        if target == kind or target.startswith(kind + "_"):
            return fix(formula, statements, target.removeprefix(kind).lstrip("_"))
    raise PriorError(
        f"`{statements[0].text}`: the model has no parameter `{target}`. "
        f"Values may be fixed for: {', '.join(_FIXERS)} and standard deviations."
    )


def _values(statements: list[PriorStatement], labels: list[str]) -> dict[int, float]:
    """Index of an element -> its fixed value; later statements win."""
    return {i: s.prior.values[0] for s in statements for i in _indices(s, labels)}


def _fix_weight(formula: Formula, statements: list[PriorStatement], suffix: str) -> Formula:
    number = _block_number(formula, statements[0], suffix)
    weight = formula.members[number].weight
    names = weight.parameters
    for index, value in _values(statements, list(names)).items():
        weight = weight.with_fixed(names[index], value)
    return _with_block(formula, number, replace(formula.members[number], weight=weight))


def _fix_member(formula: Formula, statements: list[PriorStatement], suffix: str) -> Formula:
    number = _block_number(formula, statements[0], suffix)
    block = formula.members[number]
    features = {f.label for f in block.features}
    for statement in statements:
        if statement.element in features:
            raise PriorError(
                f"`{statement.text}`: the coefficient of a feature of the members cannot be held "
                "fixed. Give it a narrow prior, or compute a column."
            )
    terms, fixed = _moved(block.terms, statements, 0)
    return _with_block(formula, number, replace(block, terms=terms, fixed=(*block.fixed, *fixed)))


def _with_block(formula: Formula, number: int, block: MemberBlock) -> Formula:
    members = [*formula.members[:number], block, *formula.members[number + 1 :]]
    return replace(formula, members=tuple(members))


def _fix_feature(formula: Formula, statements: list[PriorStatement], suffix: str) -> Formula:
    raise PriorError(
        f"`{statements[0].text}`: to hold the number of a feature fixed write it in the formula, "
        "as in softmax(x, 2)."
    )


def _fix_group(formula: Formula, statements: list[PriorStatement], suffix: str) -> Formula:
    terms, fixed = _moved(formula.terms, statements, 1 if formula.intercept else 0)
    return replace(formula, terms=terms, fixed=(*formula.fixed, *fixed))


def _fix_nesting(formula: Formula, statements: list[PriorStatement], suffix: str) -> Formula:
    """A level-3 predictor stands outside the blocks, or in the `vars` of one."""
    if any(s.element in {t.label for t in formula.terms} for s in statements):
        return _fix_group(formula, statements, suffix)
    for number, block in enumerate(formula.nestings):
        if any(s.element in {t.label for t in block.terms or ()} for s in statements):
            terms, fixed = _moved(block.terms or (), statements, 0)
            changed = replace(block, terms=terms, fixed=(*block.fixed, *fixed))
            nestings = [*formula.nestings[:number], changed, *formula.nestings[number + 1 :]]
            return replace(formula, nestings=tuple(nestings))
    raise PriorError(
        f"`{statements[0].text}`: name the level-3 predictor, as in `b_l3[x] <- 1`; effects of "
        "nesting units cannot be held fixed."
    )


_FIXERS: dict[str, Callable[[Formula, list[PriorStatement], str], Formula]] = {
    "b_w": _fix_weight,
    "b_f": _fix_feature,
    "b_l1": _fix_member,
    "b_l2": _fix_group,
    "b_l3": _fix_nesting,
}


def _block_number(formula: Formula, statement: PriorStatement, suffix: str) -> int:
    names = [block.name or str(i) for i, block in enumerate(formula.members, start=1)]
    if len(names) == 1 and not suffix:
        return 0
    if suffix in names and len(names) > 1:
        return names.index(suffix)
    raise PriorError(f"`{statement.text}`: there is no mm() block for `{statement.target}`.")


def _moved(
    terms: tuple[Term, ...], statements: list[PriorStatement], skip: int
) -> tuple[tuple[Term, ...], list[FixedTerm]]:
    labels = ["Intercept"] * skip + [t.label for t in terms]
    values = {i - skip: v for i, v in _values(statements, labels).items()}
    if any(i < 0 for i in values):
        raise PriorError(
            f"`{statements[0].text}`: to hold the intercept fixed at 0 write `0 +` in the formula."
        )
    fixed = [FixedTerm(terms[i], value) for i, value in values.items()]
    return tuple(t for i, t in enumerate(terms) if i not in values), fixed


__all__ = [
    "Resolved",
    "apply_fixed",
    "centred_intercept",
    "classic",
    "read_priors",
    "resolve",
    "weakly_informative",
]
