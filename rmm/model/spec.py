"""The model itself: what a formula and a family mean once levels are known.

A `ModelSpec` decides the text of a program; it holds no data. `ModelSpec.parameters` is the
spine of the package: programs declare from it, draws take their shape from it, truth is keyed by
it and performance joins on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rmm.errors import FormulaError
from rmm.families import Family, Parameter
from rmm.families.variants.observation_weights import with_observation_weights
from rmm.families.variants.sigma_formula import with_sigma
from rmm.families.variants.varying_sd import AT_CENTRES
from rmm.formula.expression import describe
from rmm.formula.terms import (
    Atom,
    FeatureTerm,
    FixedTerm,
    Formula,
    MemberBlock,
    NestingBlock,
    Term,
)
from rmm.formula.weights.weight_function import Number, WeightFunction
from rmm.model.correlated_effects import CorrelationNames, Roles, pair_labels
from rmm.model.imputation import ImputedColumn

INTERCEPT = "Intercept"  # its label in `b_l2`
CUT = "cut"  # what programs sample in place of thresholds `tau`
#: Roles of parameters in the order of summaries.
_ROLES = (
    "threshold",
    "coefficient",
    "weight",
    "feature",
    "shape",
    "log_sd",
    "sd",
    "correlation",
    "imputation",
    "effect",
    "imputed",
)

#: (label, value) of the coefficients of a vector that are held at a number.
Held = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class MemberPart(CorrelationNames):
    """One `mm()` block of a model, or the functions of a smooth term `s(x)` as such a block.

    Attributes
    ----------
    block : MemberBlock
    suffix : str
        Appended to every name: "" with one block, "_2" or "_name" with several; "_s_x" of `s(x)`.
    partial : bool
        Whether there are several kinds of members, so that a group may have none of this block's.
    held : Held
        Coefficients of `b_l1` that are held at a number; their columns are a known sum.
    all_held : bool
        Whether every column's coefficient is held, so that none is estimated.
    held_weights : Held
        Coefficients of the weight function that are held at a number.
    """

    block: MemberBlock
    suffix: str
    partial: bool = False
    held: Held = ()
    all_held: bool = False
    held_weights: Held = ()

    @property
    def covariates(self) -> bool:
        """Whether a coefficient of its covariates or features is estimated, hence `b_l1`."""
        return self.columns or bool(self.features_in_program)

    @property
    def features_in_program(self) -> tuple[FeatureTerm, ...]:
        """Features that the program computes: they depend on an estimated weight or number."""
        return tuple(f for f in self.block.features if self.estimated or f.parameter is not None)

    @property
    def precomputed_features(self) -> tuple[FeatureTerm, ...]:
        """Features that are columns of `X_l1`, computed once."""
        return tuple(f for f in self.block.features if f not in self.features_in_program)

    @property
    def columns(self) -> bool:
        """Whether the program is given columns `X_l1`, which come first in `b_l1`."""
        return bool(self.block.terms or self.precomputed_features) and not self.all_held

    @property
    def parametric_features(self) -> tuple[FeatureTerm, ...]:
        """Features with a number that is estimated, hence `b_f`."""
        return tuple(f for f in self.block.features if f.parameter is not None)

    @property
    def smooth(self) -> Atom | None:
        """`s(x)`, if it is the block of a smooth term."""
        return self.block.smooth

    @property
    def random(self) -> bool:
        """Whether it has member random effects, hence `u_l1` and `sigma_l1`."""
        return self.block.random

    @property
    def slopes(self) -> bool:
        """Whether slopes vary over members, hence `u_slope_l1` and `sigma_slope_l1`."""
        return bool(self.block.slopes)

    @property
    def correlated(self) -> bool:
        """Whether its effects of a member are correlated, hence `cor_l1`; `pcor_l1` is sampled."""
        return self.block.correlated

    @property
    def in_role(self) -> bool:
        """Whether its effects are correlated with those of other blocks (`cor =`): see `Roles`."""
        return self.block.roles is not None

    @property
    def effects(self) -> bool:
        """Whether it has member effects of any kind."""
        return self.random or self.slopes

    @property
    def walk(self) -> bool:
        """Whether the member effects are random walks over memberships (`ar =`)."""
        return self.block.autoregressive is not False

    @property
    def series(self) -> bool:
        """Whether a member's effects are an AR(1) process (`ar = ar1(time)`), hence `rho_l1`."""
        return self.block.series is not None

    @property
    def in_time(self) -> bool:
        """Whether a member has different effects in different groups (`ar =`)."""
        return self.walk or self.series

    @cached_property
    def weight(self) -> WeightFunction:
        """The weight function, with numbers in place of coefficients that are held."""
        weight = self.block.weight
        for name, value in self.held_weights:
            weight = weight.with_fixed(name, value)
        return weight

    @property
    def estimated(self) -> bool:
        """Whether its weights have parameters, hence `b_w`."""
        return self.weight.estimated

    @property
    def related(self) -> bool:
        """Whether the covariance of the member effects is known up to a factor (`cov =`)."""
        return self.block.covariance is not None

    @property
    def offset(self) -> bool:
        """Whether it has a known sum: of `fix()` terms, or of coefficients that are held."""
        return bool(self.block.fixed or self.held)

    @property
    def b(self) -> str:
        """Name of the coefficients of the member covariates."""
        return f"b_l1{self.suffix}"

    @property
    def u(self) -> str:
        """Name of the member effects; of `s(x)` ``u_s_x``."""
        return f"u{self.suffix}" if self.smooth else f"u_l1{self.suffix}"

    @property
    def sigma(self) -> str:
        """Name of the member effects' standard deviation; of `s(x)` ``sigma_s_x``."""
        return f"sigma{self.suffix}" if self.smooth else f"sigma_l1{self.suffix}"

    @property
    def u_slope(self) -> str:
        """Name of the members' own slopes, less the common ones."""
        return f"u_slope_l1{self.suffix}"

    @property
    def sigma_slope(self) -> str:
        """Name of the standard deviations of the members' slopes."""
        return f"sigma_slope_l1{self.suffix}"

    def pairs(self, slopes: Sequence[str]) -> tuple[str, ...]:
        """Labels of the correlations, "Intercept, x"; `slopes` are those of the slopes."""
        if not self.correlated:
            return ()
        return pair_labels((INTERCEPT,) * self.random + tuple(slopes))

    @property
    def memberships(self) -> str:
        """Name of the dimension of the block's memberships."""
        own = self.partial or self.smooth is not None
        return f"membership{self.suffix}" if own else "membership"

    @property
    def rho(self) -> str:
        """Name of the correlation of a member's effects one unit of time apart."""
        return f"rho_l1{self.suffix}"

    @property
    def occasions(self) -> str:
        """Name of the dimension of the occasions: a member at a time."""
        return f"occasion{self.suffix}"

    @property
    def effect_index(self) -> str:
        """Name of the data with the number of the effect of each membership, but for walks."""
        return f"{'occasion' if self.series else 'member'}{self.suffix}"

    @property
    def step(self) -> str:
        """Name of the independent steps whose sums are the effects of a random walk."""
        return f"step_l1{self.suffix}"

    @property
    def independent(self) -> str:
        """Name of the independent effects of which those with a known covariance, and those of an
        AR(1) process, are made.
        """
        return f"e_l1{self.suffix}"

    @property
    def path(self) -> str:
        """Name of the random walks with steps of sd 1, and of AR(1) processes with sd 1."""
        return f"path_l1{self.suffix}"

    @property
    def b_w(self) -> str:
        """Name of the weight coefficients."""
        return f"b_w{self.suffix}"

    @property
    def b_f(self) -> str:
        """Name of the features' estimated numbers: a cut, a kappa, an exponent."""
        return f"b_f{self.suffix}"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the block."""
        s, out = self.suffix, []
        if self.covariates:
            out.append(Parameter(self.b, (f"covariate_l1{s}",), "real", "coefficient"))
        if self.estimated:
            out.append(Parameter(self.b_w, (f"coefficient_w{s}",), "real", "weight"))
        if self.parametric_features:
            out.append(Parameter(self.b_f, (f"coefficient_f{s}",), "real", "feature"))
        if self.random:
            out.append(Parameter(self.sigma, (), "positive", "sd"))
            units = self.memberships if self.walk else f"member{s}"
            units = self.occasions if self.series else units
            out.append(Parameter(self.u, (units,), "real", "effect"))
        if self.series:
            words = "the correlation of a member's effects one unit of time apart"
            out.append(Parameter(self.rho, (), "probability", "shape", words=words))
        if self.slopes:
            slope = f"slope_l1{s}"
            out.append(Parameter(self.sigma_slope, (slope,), "positive", "sd"))
            out.append(Parameter(self.u_slope, (f"member{s}", slope), "real", "effect"))
        if self.correlated:
            out.append(self.correlations)
        return tuple(out)


@dataclass(frozen=True)
class NestingPart:
    """One `hm()` block of a model: random effects with level-3 covariates, or dummies.

    `held` and `all_held` are those of `MemberPart`, of `b_l3`.
    """

    block: NestingBlock
    suffix: str
    terms: tuple[Term, ...]
    held: Held = ()
    all_held: bool = False

    @property
    def random(self) -> bool:
        """Whether units have random effects (else fixed ones)."""
        return self.block.effect == "RE"

    @property
    def covariates(self) -> bool:
        """Whether it has `b_l3`: of level-3 covariates, or of the dummies of fixed effects."""
        return (not self.random or bool(self.terms)) and not self.all_held

    @property
    def offset(self) -> bool:
        """Whether it has a known sum: of `fix()` terms, or of coefficients that are held."""
        return bool(self.block.fixed or self.held)

    @property
    def b(self) -> str:
        """Name of the level-3 coefficients."""
        return f"b_l3{self.suffix}"

    @property
    def u(self) -> str:
        """Name of the nesting effects."""
        return f"u_l3{self.suffix}"

    @property
    def sigma(self) -> str:
        """Name of the nesting effects' standard deviation."""
        return f"sigma_l3{self.suffix}"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the block."""
        s, out = self.suffix, []
        if self.covariates:
            out.append(Parameter(self.b, (f"covariate_l3{s}",), "real", "coefficient"))
        if self.random:
            out.append(Parameter(self.sigma, (), "positive", "sd"))
            out.append(Parameter(self.u, (f"nesting{s}",), "real", "effect"))
        return tuple(out)


@dataclass(frozen=True)
class ModelSpec:
    """A model, frozen: everything that decides a program but the families of its priors.

    Attributes
    ----------
    formula : Formula
    family : Family
    written : tuple of Term
        Level-2 predictors (level-3 ones have gone to their nesting part), whether their
        coefficients are held or not: what is encoded.
    members, nestings : tuple
        `members` has the `mm()` blocks, then those of smooth terms `s(x)`.
    held : Held
        Coefficients of `b_l2` that are held at a number.
    all_held : bool
        Whether those of all predictors are held, so that none is estimated.
    imputed : tuple of ImputedColumn
        Covariates whose missing values are parameters.
    """

    formula: Formula
    family: Family
    written: tuple[Term, ...]
    fixed: tuple[FixedTerm, ...]
    members: tuple[MemberPart, ...]
    nestings: tuple[NestingPart, ...]
    held: Held = ()
    all_held: bool = False
    imputed: tuple[ImputedColumn, ...] = ()

    @property
    def intercept(self) -> bool:
        """Whether it has an intercept that is estimated."""
        written = self.formula.intercept and self.family.intercept
        return written and INTERCEPT not in dict(self.held)

    @property
    def blocks(self) -> tuple[MemberPart, ...]:
        """The `mm()` blocks, without those of smooth terms `s(x)`, which come last in `members`."""
        return tuple(part for part in self.members if part.smooth is None)

    @property
    def unit_effects(self) -> tuple[str, ...]:
        """Names of the effects of members and nesting units: all but those of smooth terms."""
        smooth = {part.u for part in self.members if part.smooth}
        effects = (p.name for p in self.parameters if p.role == "effect")
        return tuple(name for name in effects if name not in smooth)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Level-2 predictors; empty if every one of their coefficients is held."""
        return () if self.all_held else self.written

    @property
    def offset(self) -> bool:
        """Whether groups have a known offset: `fix()`, `offset()`, coefficients that are held."""
        return bool(
            self.fixed
            or self.formula.offset
            or self.held
            or any(part.offset and not part.estimated for part in self.members)
            or any(nest.offset for nest in self.nestings)
        )

    @property
    def spanned(self) -> bool:
        """Whether something free takes up a constant: an intercept, a baseline, strata."""
        return self.intercept or not self.family.intercept

    @property
    def thresholds(self) -> bool:
        """Whether the outcome has ordered levels, hence `tau`."""
        return any(p.role == "threshold" for p in self.family.parameters)

    @property
    def constant(self) -> bool:
        """Whether `alpha` or `cut` is sampled: what is reported is elsewhere than at centres."""
        return self.intercept or self.thresholds

    @property
    def contrasts(self) -> bool:
        """Whether a constant is in the model, free or held: categories then have a base level."""
        return self.spanned or INTERCEPT in dict(self.held)

    @cached_property
    def roles(self) -> tuple[Roles, ...]:
        """Blocks in which the same members have roles (`cor =`), by name."""
        names = dict.fromkeys(p.block.roles for p in self.members if p.block.roles is not None)
        return tuple(_roles(name, self.members) for name in names)

    @property
    def correlated(self) -> tuple[MemberPart | Roles, ...]:
        """What has correlations of a member's effects: within blocks, and over blocks."""
        return (*(part for part in self.members if part.correlated), *self.roles)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Every parameter, in the order in which summaries show them."""
        out: list[Parameter] = []
        if self.intercept or self.terms:
            out.append(Parameter("b_l2", ("covariate_l2",), "real", "coefficient"))
        out += [p for part in self.members for p in part.parameters]
        out += [roles.correlations for roles in self.roles]
        out += [p for part in self.nestings for p in part.parameters]
        out.extend(self.family.parameters)
        out += [p for one in self.imputed for p in one.parameters]
        rank = {role: place for place, role in enumerate(_ROLES)}
        return tuple(sorted(out, key=lambda p: (rank[p.role], p.name)))

    @cached_property
    def sampled(self) -> tuple[Parameter, ...]:
        """What the program samples: `alpha` and `beta_l2` stand for `b_l2`, steps for walks,
        independent effects for those with a known covariance or of an AR(1) process, partial
        correlations `pcor_l1` for `cor_l1`.

        `alpha` is the intercept at the predictors' centres, `beta_l2` the level-2 slopes;
        ``b_l2 = (alpha - centre' slopes, beta_l2)``. Thresholds ``tau`` of an ordinal outcome are
        ``cut`` at the centres: ``tau = cut + centre' slopes``; ``b_sigma`` is ``beta_sigma`` there.
        The steps ``step_l1`` are in the
        order by member, then time; ``u_l1`` are their sums. With a known covariance matrix A = LL'
        ``u_l1 = L e_l1``. In an AR(1) process ``e_l1`` are the innovations, all with the standard
        deviation ``sigma_l1``: ``u[k] = r u[k - 1] + sqrt(1 - r^2) e[k]``, ``r = rho_l1^gap``.
        """
        steps = {
            p.u: Parameter(p.step, (p.memberships,), "real", "effect")
            for p in self.members
            if p.walk
        }
        steps |= {
            p.u: Parameter(p.independent, (f"member{p.suffix}",), "real", "effect")
            for p in self.members
            if p.related
        }
        steps |= {
            p.u: Parameter(p.independent, (p.occasions,), "real", "effect")
            for p in self.members
            if p.series
        }
        out: list[Parameter] = []
        if self.intercept:
            out.append(Parameter("alpha", (), "real", "coefficient"))
        if self.terms:
            out.append(Parameter("beta_l2", ("slope_l2",), "real", "coefficient"))
        at_centres = {"threshold": CUT, "log_sd": AT_CENTRES}
        rest = [
            replace(p, name=at_centres.get(p.role, p.name))
            for p in self.parameters
            if p.name != "b_l2"
        ]
        partial = {found.cor: found.pcor for found in self.correlated}
        rest = [replace(p, name=partial.get(p.name, p.name)) for p in rest]
        return (*out, *(steps.get(p.name, p) for p in rest))


def with_family(formula: Formula, family: Family) -> Formula:
    """The formula with what the family adds to it: a formula of sigma, a column of weights."""
    own = with_sigma(formula, family.sigma)
    return replace(own, observation_weights=family.observation_weights)


def _roles(name: str, members: Sequence[MemberPart]) -> Roles:
    places = tuple(i for i, part in enumerate(members) if part.block.roles == name)
    own = [members[i] for i in places]
    return Roles(
        suffix=f"_{name}",
        blocks=places,
        labels=tuple(part.suffix.removeprefix("_") for part in own),
        effects=tuple(part.u for part in own),
        sds=tuple(part.sigma for part in own),
    )


def build_spec(
    formula: Formula, family: Family, levels: Mapping[str, int] | None = None
) -> ModelSpec:
    """The model of a formula and a family.

    Parameters
    ----------
    formula : Formula
    family : Family
    levels : mapping, optional
        Label of a term outside `mm()` -> index of the `hm()` block to which it belongs (its
        level-3 predictors). Terms not named are level 2. Found by `find_levels`.

    Raises
    ------
    FormulaError
        If the family cannot take the formula.
    """
    levels = levels or {}
    _check_family(formula, family)
    column = family.observation_weights
    if family.for_outcome is not None:
        family = family.for_outcome(formula.outcome.kind, bool(formula.strata))
    if column:
        family = with_observation_weights(family, column)
    members = tuple(
        MemberPart(block, suffix, partial=bool(formula.kinds))
        for block, suffix in zip(
            formula.members, _suffixes([b.name for b in formula.members]), strict=True
        )
    )
    members += _smooth_parts(formula.smooths, {part.suffix for part in members})
    suffixes = _suffixes([b.name for b in formula.nestings])
    nestings = tuple(
        NestingPart(block, suffix, _level3_terms(formula, block, index, levels))
        for index, (block, suffix) in enumerate(zip(formula.nestings, suffixes, strict=True))
    )
    terms = tuple(t for t in formula.terms if t.label not in levels)
    return ModelSpec(
        formula=formula,
        family=family,
        written=terms,
        fixed=formula.fixed,
        members=members,
        nestings=nestings,
    )


def _smooth_parts(smooths: Sequence[Atom], taken: set[str]) -> tuple[MemberPart, ...]:
    """The functions of smooth terms as blocks whose members are functions."""
    out = []
    for number, atom in enumerate(smooths, start=1):
        label = describe(atom.expression)
        plain = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9]", "_", label)).strip("_")
        suffix = f"_s_{plain or number}"
        while suffix in taken:
            suffix = f"{suffix}_{number}"
        taken.add(suffix)
        value = WeightFunction(f"functions of {label}", Number(1.0), "none")
        block = MemberBlock(atom.label, "", (), (), value, random=True, smooth=atom)
        out.append(MemberPart(block, suffix))
    return tuple(out)


def _level3_terms(
    formula: Formula, block: NestingBlock, index: int, levels: Mapping[str, int]
) -> tuple[Term, ...]:
    found = tuple(t for t in formula.terms if levels.get(t.label) == index)
    return (*(block.terms or ()), *found)


def _suffixes(names: list[str | None]) -> list[str]:
    """Nothing for a single block; else the block's name or its number."""
    if len(names) < 2:
        return [""] * len(names)
    suffixes = [f"_{name or number}" for number, name in enumerate(names, start=1)]
    if len(set(suffixes)) < len(suffixes):
        raise FormulaError(
            f"Two blocks have the same name: {', '.join(s[1:] for s in suffixes)}.",
            hint="Give each mm() its own `name=` and each hm() its own `block=`.",
        )
    return suffixes


def _check_family(formula: Formula, family: Family) -> None:
    if formula.outcome.reading == "open" and formula.outcome.kind in family.outcome_kinds:
        first, second, third = (part.label for part in formula.outcome.parts)
        raise FormulaError(
            f"Without data it is not known what the third column of `{formula.outcome.label}` is.",
            formula.text,
            0,
            len(formula.text.split("~")[0].rstrip()),
            hint=f"Write Surv({first}, {second}, upper = {third}) for an upper limit, and "
            f"Surv({second}, {third}, entry = {first}) for a start, an end and an event.",
        )
    if formula.outcome.kind not in family.outcome_kinds:
        raise FormulaError(
            f"The outcome `{formula.outcome.label}` cannot be used with family {family.name!r}.",
            formula.text,
            0,
            len(formula.text.split("~")[0].rstrip()),
            hint=f"Allowed: {', '.join(_KIND_WORDS[k] for k in family.outcome_kinds)}.",
        )
    if formula.strata and not family.takes_strata:
        raise FormulaError(
            f"`strata()` cannot be used with family {family.name!r}.",
            formula.text,
            formula.strata_at,
            len("strata"),
            hint="Allowed: families 'cox' (each stratum has its own baseline hazard) and "
            "'condlogit' (choice sets).",
        )
    if not formula.strata and family.needs_strata:
        raise FormulaError(
            f"Family {family.name!r} needs the column of the choice sets: add `+ strata(column)`.",
            formula.text,
            len(formula.text),
            1,
        )
    for block in formula.members if formula.kinds else ():
        _check_kinds(formula, block)


def _check_kinds(formula: Formula, block: MemberBlock) -> None:
    """Features that the program computes need a member of the kind in every group."""
    part = MemberPart(block, "")
    for feature in part.features_in_program:
        raise FormulaError(
            f"`{feature.label}` has a parameter to estimate, which is not available with several "
            "mm() blocks.",
            formula.text,
            feature.position,
            len(feature.function),
            hint="Use weights without parameters, and give the feature a number: softmax(x, 2).",
        )


_KIND_WORDS = {
    "plain": "one column, such as `y ~ ...`",
    "surv": "`Surv(time, event)`",
    "spell": "`Surv(stop, event, entry = start)`",
    "interval": '`Surv(lower, upper, type = "interval2")`',
    "cbind": "`cbind(successes, failures)`",
}
