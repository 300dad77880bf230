"""What the fast engine needs: the model as a normal latent vector under a few hyperparameters.

Given the hyperparameters (standard deviations, weight coefficients, numbers of features, the shape
of a duration) the linear predictor is affine in a vector of coefficients and effects with
independent normal priors. `LatentModel` says so in arrays; `run` integrates the
vector out. There is no program text: `describe` says what is integrated and what is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rmm.backends.base import Forms
from rmm.backends.laplace.latent_vector import Collected, coefficient_units
from rmm.design.design import Design
from rmm.design.members.autoregressive import Steps, find_steps
from rmm.design.members.feature_values import FeatureArrays
from rmm.design.members.known_covariances import entries
from rmm.design.members.memberships import Membership
from rmm.design.priors.group_sizes import SIZE, relative
from rmm.design.priors.priors import Resolved
from rmm.design.priors.weight_priors import scale_name
from rmm.errors import BackendError, printable
from rmm.families import Family
from rmm.families.variants.varying_sd import AT_CENTRES
from rmm.formula.expression import Aggregate, Column, Node, TableCall, children
from rmm.formula.prior_distributions import width
from rmm.formula.prior_syntax import Prior
from rmm.formula.weights.render import input_key
from rmm.formula.weights.rewrite import rebuilt
from rmm.formula.weights.weight_function import WeightFunction
from rmm.model.correlated_effects import Roles
from rmm.model.correlations import cholesky_factor
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array

_WIDTHS = 10.0  # of its prior's, to which the unit of a parameter is limited


@dataclass(frozen=True)
class Hyperparameter:
    """One number that is sampled: element `index` of a parameter (0 for a scalar).

    `unit`: half of the outcome's share in a standard deviation; 1 / sd of what `b_w` multiplies;
    less where a prior is much narrower, so that steps of one hundredth of it find its curvature.
    """

    name: str
    index: int
    role: str
    prior: Prior
    unit: float = 1.0

    @property
    def rises(self) -> bool:
        """Whether it is a threshold above the one before it, which is the hyperparameter before."""
        return self.role == "threshold" and self.index > 0

    @property
    def key(self) -> str:
        """Under which name values of it are kept: single elements of coefficients have their own,
        as the others are in the latent vector.
        """
        return f"{self.name}[{self.index}]" if self.role == "coefficient" else self.name

    @property
    def column(self) -> int:
        """Its column in the values of that name."""
        return 0 if self.role == "coefficient" else self.index


@dataclass(frozen=True, eq=False)
class Weights:
    """Estimated weights of one block, from its coefficients.

    Attributes
    ----------
    name : str
        Of the coefficients, ``b_w``.
    function : WeightFunction
        Over data vectors `inputs`: aggregates are columns here.
    start : int array
        Row pointer of the groups that have members.
    offset : (M,) array or None
        Known part of the members' effects.
    """

    name: str
    function: WeightFunction
    inputs: Mapping[str, Array]
    start: Array
    group: Array
    offset: Array | None

    def of(self, b_w: Array) -> Array:
        """(S, M) weights of (S, K) coefficients."""
        names = self.function.parameters
        given = {name: b_w[:, [k]] for k, name in enumerate(names)}
        return self.function.weights(self.inputs, self.start, given)


@dataclass(frozen=True, eq=False)
class Feature:
    """A feature whose column depends on estimated weights or on a number of its own."""

    arrays: FeatureArrays
    column: int
    weights: int | None
    known: Array | None
    start: Array
    number: tuple[str, int] | None


@dataclass(frozen=True)
class LoadedBlock:
    """Correlated effects of members that one `mm()` block has.

    Attributes
    ----------
    effects : tuple of int
        Which of a member's correlated effects: all of them, or one of a role.
    weights : int or None
        Place of the block's estimated weights in `LatentModel.weights`.
    """

    effects: tuple[int, ...]
    weights: int | None

    @cached_property
    def cells(self) -> tuple[Array, Array]:
        """Rows and columns of the lower triangle in the rows of its effects."""
        pairs = [(k, column) for k in self.effects for column in range(k + 1)]
        rows, columns = np.array(pairs).T
        return rows, columns

    def count(self, memberships: int) -> int:
        """Number of its sources: cells, times memberships where weights are estimated."""
        return len(self.cells[0]) * (1 if self.weights is None else memberships)


@dataclass(frozen=True, eq=False)
class Loadings:
    """What multiplies the standard normals z of correlated effects of members.

    Effects of a member are u = D L z: D the standard deviations, L the Cholesky factor of their
    correlation matrix.

    Attributes
    ----------
    sds : tuple of (str, int)
        Name and element of the standard deviation of each effect.
    fixed : mapping
        Standard deviations that are held at a number.
    partial : str
        Name of the partial correlations.
    blocks : tuple of LoadedBlock
        One of intercepts and slopes; one for each role.
    """

    sds: tuple[tuple[str, int], ...]
    fixed: Mapping[str, Array]
    partial: str
    blocks: tuple[LoadedBlock, ...]

    def factor(self, values: Mapping[str, Array]) -> Array:
        """(S, K, K) D L of hyperparameter values."""
        partial = values[self.partial]
        sds = np.empty((len(partial), len(self.sds)))
        for k, (name, index) in enumerate(self.sds):
            known = self.fixed.get(name)
            sds[:, k] = values[name][:, index] if known is None else known[index]
        return sds[:, :, None] * cholesky_factor(partial)

    def sources(self, values: Mapping[str, Array], weights: Sequence[Array]) -> Array:
        """(S, cells) of each block, by row; (S, M * cells) times weights (S, M) where these are
        estimated.
        """
        factor, out = self.factor(values), []
        for block in self.blocks:
            found = factor[:, *block.cells]
            if block.weights is not None:
                weight = weights[block.weights]
                found = (weight[:, :, None] * found[:, None, :]).reshape(len(weight), -1)
            out.append(found)
        return np.concatenate(out, axis=1)


@dataclass(frozen=True, eq=False)
class SeriesLoadings:
    """What multiplies the independent innovations of AR(1) processes: see `Steps`.

    Attributes
    ----------
    rho : str
        Name of the correlation one unit of time apart.
    fixed : mapping
        Correlations that are held at a number.
    steps : Steps
    weights : int or None
        Place of the block's estimated weights in `LatentModel.weights`.
    """

    rho: str
    fixed: Mapping[str, Array]
    steps: Steps
    weights: int | None

    @property
    def count(self) -> int:
        """Number of its sources: different values, or entries where weights are estimated."""
        return len(self.steps.lag) if self.weights is None else len(self.steps.column)

    @property
    def source(self) -> Array:
        """(E,) source of each entry, from 0."""
        return self.steps.value if self.weights is None else np.arange(self.count)

    def correlations(self, values: Mapping[str, Array], count: int) -> Array:
        """(S,) correlations of hyperparameter values."""
        known = self.fixed.get(self.rho)
        return values[self.rho][:, 0] if known is None else np.full(count, known[0])

    def sources(self, values: Mapping[str, Array], weights: Sequence[Array], count: int) -> Array:
        """(S, sources), times weights where these are estimated."""
        found = self.steps.values(self.correlations(values, count))
        if self.weights is None:
            return found
        steps = self.steps
        return np.asarray(weights[self.weights][:, steps.membership] * found[:, steps.value])


@dataclass(frozen=True, eq=False)
class LatentModel:
    """eta = offset + A(theta) x, x ~ normal(location, scale(theta)), a priori independent.

    Attributes
    ----------
    groups, size : int
        J groups, P elements of x.
    entry_row, entry_column : (E,) int arrays
    entry_value : (E,) array
        Times the weight that `entry_source` names gives an entry of A; entries add up.
    entry_source : (E,) int array
        Place in (1, weights of the first block of `weights`, of the second, ..., `Loadings.sources`
        of the first of `loadings`, ..., `SeriesLoadings.sources` of the first of `series`, ...).
    location : (P,) array
    scale : (P,) array
        Prior sds; of effects they are multiplied by the standard deviation of their block.
    scale_of : (P,) int array
        Place of that sd in `hyper`; -1 for a coefficient or an effect of fixed sd.
    location_of : (P,) int array
        Place in `hyper` of what takes the place of `location`; -1 where it is a number. A
        coefficient whose prior is not normal is sampled, and stands here with a scale of 0.
    latent : mapping
        Name of a sampled quantity (``alpha``, ``u_l1``, ``step_l1``) -> (slice of x, dims).
    """

    groups: int
    size: int
    entry_row: Array
    entry_column: Array
    entry_value: Array
    entry_source: Array
    offset: Array
    location: Array
    scale: Array
    scale_of: Array
    location_of: Array
    latent: Mapping[str, tuple[slice, tuple[int, ...]]]
    hyper: tuple[Hyperparameter, ...]
    fixed: Mapping[str, Array]
    weights: tuple[Weights, ...]
    features: tuple[Feature, ...]
    loadings: tuple[Loadings, ...]
    series: tuple[SeriesLoadings, ...]
    family: Family
    outcome: Mapping[str, Any]
    spec: ModelSpec
    design: Design

    @property
    def fixed_design(self) -> bool:
        """Whether A does not depend on hyperparameters."""
        return not (self.weights or self.features or self.loadings or self.series)

    def correlated_sources(
        self, values: Mapping[str, Array], weights: Sequence[Array], count: int
    ) -> list[Array]:
        """(S, sources) of `loadings`, then of `series`."""
        found = [one.sources(values, weights) for one in self.loadings]
        return found + [one.sources(values, weights, count) for one in self.series]

    @property
    def is_effect(self) -> Array:
        """(P,) bool: effects whose standard deviation is sampled, not coefficients."""
        found = self.scale_of >= 0
        for correlated in self.spec.correlated:
            found[self.latent[correlated.standard][0]] = True
        return found


def describe(spec: ModelSpec, forms: Forms) -> str:
    """A description of the model as this engine sees it."""
    latent: list[str] = []
    hyper: list[str] = []
    for parameter in spec.sampled:
        families = set(forms.get(parameter.name, ()))
        inside = parameter.role == "effect" or (
            parameter.role == "coefficient" and families == {"normal"}
        )
        (latent if inside else hyper).append(f"{parameter.name} ({parameter.role})")
    lines = [
        "# Nested Laplace approximation, importance sampling: a description, not a program.",
        f"# family {spec.family.name}: {printable(spec.formula.text)}",
        f"integrated out, normal given the rest: {', '.join(latent) or 'nothing'}",
        f"sampled by importance: {', '.join(hyper) or 'nothing'}",
    ]
    return "\n".join(lines) + "\n"


# ---- the model in arrays -----------------------------------------------------------------------


def latent_model(spec: ModelSpec, design: Design, priors: Resolved) -> LatentModel:
    """The arrays of a model.

    Raises
    ------
    BackendError
        For what this engine does not cover.
    """
    _check_covered(spec)
    collected = Collected()
    hyper, fixed = _hyperparameters(spec, design, priors)
    place = {(h.name, h.index): i for i, h in enumerate(hyper)}
    weights: list[Weights] = []
    features: list[Feature] = []
    loadings: list[Loadings] = []
    if spec.intercept:
        first = collected.add("alpha", (), *_coefficients("alpha", 1, priors, place))
        collected.enter(np.arange(design.J), np.full(design.J, first), 1.0)
    if spec.terms:
        count = design.X_l2.shape[1]
        first = collected.add("beta_l2", (count,), *_coefficients("beta_l2", count, priors, place))
        collected.enter_matrix(first, design.X_l2)
    shift = 1
    loaded = 1 + sum(
        len(m.member) for p, m in zip(spec.members, design.members, strict=True) if p.estimated
    )
    places: list[int | None] = []
    for part, member in zip(spec.members, design.members, strict=True):
        where = None
        if part.estimated:
            where, source = len(weights), shift + np.arange(len(member.member))
            weights.append(_weights(part, member))
            shift += len(member.member)
        else:
            source = np.zeros(len(member.member), dtype=int)
        _member_coefficients(part, member, collected, source, priors, place)
        features += _features(part, member, collected, where)
        places.append(where)
        if part.correlated:
            loadings.append(_correlated_effects(part, member, collected, loaded, where, fixed))
            loaded += loadings[-1].blocks[0].count(len(member.member))
        elif not part.in_role and not part.series:
            _member_effects(part, member, collected, source, place, fixed)
    for roles in spec.roles:
        loadings.append(_role_effects(roles, design, collected, loaded, places, fixed))
        for i, block in zip(roles.blocks, loadings[-1].blocks, strict=True):
            loaded += block.count(len(design.members[i].member))
    series = _all_series(spec, design, collected, loaded, places, place, fixed)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        if nest.covariates:
            count = nesting.X.shape[1]
            first = collected.add(nest.b, (count,), *_coefficients(nest.b, count, priors, place))
            collected.enter_matrix(first, nesting.X)
        if nest.random:
            first = _effects(collected, nest.u, (nesting.n_units,), nest.sigma, 0, place, fixed)
            collected.enter(np.arange(design.J), first + nesting.unit, 1.0)
    return LatentModel(
        groups=design.J,
        size=collected.size,
        entry_row=np.concatenate([*collected.rows, np.zeros(0, int)]).astype(int),
        entry_column=np.concatenate([*collected.columns, np.zeros(0, int)]).astype(int),
        entry_value=np.concatenate([*collected.values, np.zeros(0)]).astype(float),
        entry_source=np.concatenate([*collected.sources, np.zeros(0, int)]).astype(int),
        offset=np.zeros(design.J) if design.offset is None else design.offset,
        location=np.concatenate([*collected.location, np.zeros(0)]).astype(float),
        scale=np.concatenate([*collected.scale, np.zeros(0)]).astype(float),
        scale_of=np.concatenate([*collected.scale_of, np.zeros(0, int)]).astype(int),
        location_of=np.concatenate([*collected.location_of, np.zeros(0, int)]).astype(int),
        latent=collected.latent,
        hyper=hyper,
        fixed=fixed,
        weights=tuple(weights),
        features=tuple(features),
        loadings=tuple(loadings),
        series=tuple(series),
        family=spec.family,
        outcome=design.outcome,
        spec=spec,
        design=design,
    )


def _check_covered(spec: ModelSpec) -> None:
    if spec.family.curvature is None:
        raise BackendError(
            f"Backend 'laplace' does not support family {spec.family.name!r}. Use 'stan' or 'jags'."
        )
    if spec.imputed:
        raise BackendError(
            "Backend 'laplace' does not support missing=\"impute\": a missing value times its "
            "coefficient is a product of two unknowns, and the integral over both is not that of a "
            "normal distribution. Use 'stan' or 'jags'."
        )


def _hyperparameters(
    spec: ModelSpec, design: Design, priors: Resolved
) -> tuple[tuple[Hyperparameter, ...], dict[str, Array]]:
    """What is sampled, and sds and shapes that are held fixed."""
    hyper: list[Hyperparameter] = []
    fixed: dict[str, Array] = {}
    units = _units(spec, design) | {
        p.b_w: np.atleast_1d(priors.data[scale_name(p.b_w)]) for p in spec.members if p.estimated
    }
    for parameter in spec.sampled:
        if not parameter.structural:
            continue
        count = len(design.coords[parameter.dims[0]]) if parameter.dims else 1
        if parameter.name in priors.data:
            fixed[parameter.name] = np.atleast_1d(np.asarray(priors.data[parameter.name], float))
            continue
        for index in range(count):
            prior = prior_of(parameter.name, index, priors)
            if parameter.role == "coefficient" and prior.family == "normal":
                continue  # in the latent vector
            unit = float(units[parameter.name][index]) if parameter.name in units else 1.0
            unit = min(unit, _WIDTHS * width(prior))
            hyper.append(Hyperparameter(parameter.name, index, parameter.role, prior, unit))
    return tuple(hyper), fixed


def _units(spec: ModelSpec, design: Design) -> dict[str, Array]:
    """Standard deviation -> what each of its elements may well be."""
    sd = spec.family.scale(design.outcome)[1]
    half = 0.5 * sd
    out = {p.name: np.array([half]) for p in spec.family.parameters if p.role == "sd"}
    for part, member in zip(spec.members, design.members, strict=True):
        out[part.sigma] = np.array([half / member.spread])
        sd_x = np.where(member.slope_scale > 0, member.slope_scale, 1.0)
        out[part.sigma_slope] = half / member.spread / sd_x
    out |= {nest.sigma: np.array([half]) for nest in spec.nestings}
    if spec.family.sigma is not None:
        spread = design.outcome["X_sigma"].std(axis=0)
        out[AT_CENTRES] = 1 / np.where(spread > 0, spread, 1.0)
    return out | coefficient_units(spec, design, sd)


def prior_of(name: str, index: int, priors: Resolved) -> Prior:
    """The prior of one element of a parameter."""
    elements = priors.elements[name]
    return elements[index if len(elements) > 1 else 0]


def _coefficients(
    name: str, count: int, priors: Resolved, place: Mapping[tuple[str, int], int]
) -> tuple[Array, Array, Array, Array]:
    """Location, scale and their places in `hyper` of a coefficient's elements: normal priors are
    integrated out; an element with any other is sampled and adds a known number to the predictor.
    """
    own = [prior_of(name, i, priors) for i in range(count)]
    normal = np.array([p.family == "normal" for p in own], dtype=bool)
    values = np.array([p.values if p.family == "normal" else (0.0, 0.0) for p in own])
    location_of = [-1 if normal[i] else place[name, i] for i in range(count)]
    values = values.reshape(count, 2)
    return values[:, 0], values[:, 1], np.full(count, -1), np.array(location_of, dtype=int)


def _weights(part: MemberPart, member: Membership) -> Weights:
    names = {input_key(leaf): identifier for identifier, leaf in part.weight.inputs}
    expression, inputs = _with_inputs(part.weight.expression, names), member.inputs
    if member.typical_size != 1:
        expression, inputs = relative(expression), {**inputs, SIZE: member.n}
    function = replace(part.weight, expression=expression)
    start = np.unique(member.start)
    return Weights(part.b_w, function, inputs, start, member.group, member.offset)


def _with_inputs(node: Node, names: Mapping[str, str]) -> Node:
    """The expression over data vectors: what was computed beforehand becomes a column."""
    if isinstance(node, Column | Aggregate | TableCall):
        return Column(names[input_key(node)])
    return rebuilt(node, [_with_inputs(child, names) for child in children(node)])


def _member_coefficients(
    part: MemberPart,
    member: Membership,
    collected: Collected,
    source: Array,
    priors: Resolved,
    place: Mapping[tuple[str, int], int],
) -> None:
    if not part.covariates:
        return
    count = len(member.b_center)
    first = collected.add(part.b, (count,), *_coefficients(part.b, count, priors, place))
    if not part.columns:
        return
    if not part.estimated:  # sums over members, one row per group
        collected.enter_matrix(first, member.X)
        return
    rows, columns = np.nonzero(member.X)
    collected.enter(member.group[rows], first + columns, member.X[rows, columns], source[rows])


def _features(
    part: MemberPart, member: Membership, collected: Collected, weights: int | None
) -> list[Feature]:
    if not member.features:
        return []
    first = collected.latent[part.b][0].start + len(member.center)
    found = []
    for place, arrays in enumerate(member.features):
        number = None
        if arrays.term in part.parametric_features:
            number = (part.b_f, part.parametric_features.index(arrays.term))
        known = None if weights is not None else member.weight
        found.append(Feature(arrays, first + place, weights, known, member.start, number))
    return found


def _member_effects(
    part: MemberPart,
    member: Membership,
    collected: Collected,
    source: Array,
    place: Mapping[tuple[str, int], int],
    fixed: Mapping[str, Array],
) -> None:
    known = np.ones(len(member.member)) if member.weight is None else member.weight
    if member.root is not None:
        count = member.n_members
        first = _effects(collected, part.independent, (count,), part.sigma, 0, place, fixed)
        row, column, value = entries(member.root, member.member)
        collected.enter(member.group[row], first + column, known[row] * value, source[row])
    elif part.random and member.walk is None:
        first = _effects(collected, part.u, (member.n_members,), part.sigma, 0, place, fixed)
        collected.enter(member.group, first + member.member, known, source)
    elif part.random:
        assert member.walk is not None
        count = len(member.member)
        first = _effects(collected, part.step, (count,), part.sigma, 0, place, fixed)
        walk = member.walk
        length = walk.place - walk.begin + 1
        row = np.repeat(np.arange(count), length)
        step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        columns = first + walk.begin[row] + step
        collected.enter(member.group[row], columns, known[row], source[row])
    if member.slopes is not None and part.slopes:
        count = len(member.slopes.labels)
        first = collected.size
        collected.add(part.u_slope, (member.n_members, count), 0.0, 1.0)
        scale, scale_of = _sds(part.sigma_slope, count, place, fixed)
        collected.scale[-1] = np.tile(scale, member.n_members)
        collected.scale_of[-1] = np.tile(scale_of, member.n_members)
        for k in range(count):
            columns = first + member.member * count + k
            collected.enter(member.group, columns, known * member.slopes.values[:, k], source)


def _correlated_effects(
    part: MemberPart,
    member: Membership,
    collected: Collected,
    first_source: int,
    weights: int | None,
    fixed: Mapping[str, Array],
) -> Loadings:
    """Standard normals (members, K), of which `Loadings` make the effects."""
    assert member.slopes is not None
    x, count = member.slopes.values, len(member.slopes.labels)
    if part.random:
        x = np.column_stack([np.ones(len(x)), x])
    sds = [(part.sigma, 0)] * part.random + [(part.sigma_slope, k) for k in range(count)]
    block = LoadedBlock(tuple(range(len(sds))), weights)
    first = collected.add(part.standard, (member.n_members, len(sds)), 0.0, 1.0)
    _enter_loaded(block, member, x, collected, first_source, first, len(sds))
    return Loadings(tuple(sds), fixed, part.pcor, (block,))


def _role_effects(
    roles: Roles,
    design: Design,
    collected: Collected,
    first_source: int,
    weights: Sequence[int | None],
    fixed: Mapping[str, Array],
) -> Loadings:
    """Standard normals (members, roles), of which `Loadings` make the effects in each role.

    Blocks have the same members; `weights` are the places of the estimated weights of all blocks.
    """
    count, blocks = len(roles.blocks), []
    size = design.members[roles.blocks[0]].n_members
    first = collected.add(roles.standard, (size, count), 0.0, 1.0)
    for k, i in enumerate(roles.blocks):
        member, block = design.members[i], LoadedBlock((k,), weights[i])
        x = np.broadcast_to(1.0, (len(member.member), count))
        _enter_loaded(block, member, x, collected, first_source, first, count)
        first_source += block.count(len(member.member))
        blocks.append(block)
    return Loadings(tuple((sd, 0) for sd in roles.sds), fixed, roles.pcor, tuple(blocks))


def _all_series(
    spec: ModelSpec,
    design: Design,
    collected: Collected,
    first_source: int,
    weights: Sequence[int | None],
    place: Mapping[tuple[str, int], int],
    fixed: Mapping[str, Array],
) -> list[SeriesLoadings]:
    """The AR(1) processes of all blocks."""
    found: list[SeriesLoadings] = []
    for part, member, where in zip(spec.members, design.members, weights, strict=True):
        if part.series:
            one = _series_effects(part, member, collected, first_source, where, place, fixed)
            found.append(one)
            first_source += one.count
    return found


def _series_effects(
    part: MemberPart,
    member: Membership,
    collected: Collected,
    first_source: int,
    weights: int | None,
    place: Mapping[tuple[str, int], int],
    fixed: Mapping[str, Array],
) -> SeriesLoadings:
    """Innovations by occasion, all with the effects' standard deviation."""
    assert member.series is not None
    steps = find_steps(member.series)
    found = SeriesLoadings(part.rho, fixed, steps, weights)
    first = _effects(
        collected, part.independent, (member.series.count,), part.sigma, 0, place, fixed
    )
    known = np.ones(len(member.member)) if member.weight is None else member.weight
    rows = member.group[steps.membership]
    value, source = known[steps.membership], first_source + found.source
    collected.enter(rows, first + steps.column, value, source)
    return found


def _enter_loaded(
    block: LoadedBlock,
    member: Membership,
    x: Array,
    collected: Collected,
    first_source: int,
    first: int,
    count: int,
) -> None:
    """Entries of a block with `count` correlated effects of each member; x (M, count) are what
    multiplies them.
    """
    M, cells = len(member.member), len(block.cells[0])
    known = np.ones(M) if member.weight is None else member.weight
    own = 0 if block.weights is None else np.arange(M) * cells
    for cell, (k, column) in enumerate(zip(*block.cells, strict=True)):
        columns = first + member.member * count + column
        source = np.broadcast_to(first_source + own + cell, M)
        collected.enter(member.group, columns, known * x[:, k], source)


def _effects(
    collected: Collected,
    name: str,
    dims: tuple[int, ...],
    sigma: str,
    index: int,
    place: Mapping[tuple[str, int], int],
    fixed: Mapping[str, Array],
) -> int:
    """A block of effects with one standard deviation."""
    scale, scale_of = _sds(sigma, 1, place, fixed)
    return collected.add(name, dims, 0.0, scale[index], scale_of[index])


def _sds(
    sigma: str, count: int, place: Mapping[tuple[str, int], int], fixed: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Scales and places of the standard deviations of `count` kinds of effects."""
    if sigma in fixed:
        return np.broadcast_to(fixed[sigma], (count,)), np.full(count, -1)
    return np.ones(count), np.array([place[sigma, k] for k in range(count)])
