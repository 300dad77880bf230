"""One `mm()` block + table -> its memberships, weights and covariates as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rmm.design.columns.encode import Columns
from rmm.design.columns.predictors import BlockColumns, sums_to_one, take_out_held
from rmm.design.identifiability import check_weight_variables
from rmm.design.members.autoregressive import OccasionSeries, find_series
from rmm.design.members.feature_values import FeatureArrays, build_feature
from rmm.design.members.known_covariances import KnownCovariance, group_pairs, root_of
from rmm.design.members.random_walks import LastEffects, Walk, continue_walk, find_walk
from rmm.design.members.smooth_functions import function_values
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members
from rmm.design.weights.invalid_weights import Places, finite_weights
from rmm.design.weights.scales import multiplier_scales
from rmm.errors import DataError, counted
from rmm.formula.terms import FeatureTerm
from rmm.formula.weights.weight_function import describe, evaluate, log_size_less_one, normalise
from rmm.model.spec import MemberPart
from rmm.tables.read import Array, describe_column

#: A sum that is no more than this part of what is added up is rounding.
_CANCELLED = 1e-12


@dataclass(frozen=True)
class WeightTotal:
    """Sum of the raw weights of a fit's table, its logarithm, and the number of groups.

    Known weights of constraint 2 are J uw / sum, those of new groups too.
    """

    raw: float
    log: float
    groups: int


@dataclass(frozen=True)
class Membership:
    """Arrays of one `mm()` block; M memberships of its own, J groups.

    Attributes
    ----------
    member, group : (M,) int arrays, 0-based; `group` is sorted.
    start : (J+1,) int array, row pointer of the groups; a group without a member of the block's
        kind has an empty segment, and its sums are 0.
    rows : (M,) int array, the user's row number (0-based) of each membership.
    features : tuple of FeatureArrays
        Features that the program computes.
    n_members : int
    weight : (M,) array or None
        Normalised weights if they are known, None if they are estimated.
    X : array
        Member covariates, centred by `center`: (J, K) weighted sums where weights are known, and
        the features that are known; (M, K) where weights are estimated.
    center : (K,) array
        Zeros where centring would change the model (weights that do not sum to one in every
        group).
    scale : (K,) array
        Standard deviations of the covariates over memberships, for priors.
    spread : float
        mean over groups with members of sqrt(sum w^2) at equal weights, for the prior of sigma_l1;
        of sqrt(w'Aw) where the covariance A of the members' effects is known. 1 for the functions
        of a smooth term: their sum of squares has the mean 1 over groups.
    inputs : mapping
        Weight variables by program identifier, each (M,); empty for known weights.
    multiplier_scale : (K,) array
        Standard deviation of what each weight coefficient multiplies: see `scales`.
    n, log_n1 : (M,) arrays
        Group size over `typical_size`, and log(n - 1).
    typical_size : float
        Size of the groups at which coefficients are sampled: see `rmm.design.priors.group_sizes`.
    offset : (M,) array or None
        Known part of the member effects (`fix()` inside a block with estimated weights).
    walk : Walk or None
        The order of each member's memberships, where effects are random walks.
    series : OccasionSeries or None
        The occasions of each member, where effects are AR(1) processes.
    root : (members, members) array or None
        L, where the members' effects have the known covariance sigma_l1^2 LL'.
    slopes : Columns or None
        Covariates with random slopes, (M, K), not centred.
    total : WeightTotal or None
        Of known weights that sum to the number of groups.
    """

    member: Array
    group: Array
    start: Array
    n_members: int
    weight: Array | None
    X: Array
    center: Array
    scale: Array
    spread: float
    inputs: Mapping[str, Array]
    multiplier_scale: Array
    n: Array
    log_n1: Array
    offset: Array | None
    rows: Array
    walk: Walk | None = None
    series: OccasionSeries | None = None
    slopes: Columns | None = None
    features: tuple[FeatureArrays, ...] = ()
    typical_size: float = 1.0
    total: WeightTotal | None = None
    root: Array | None = None

    @property
    def effect(self) -> Array:
        """(M,) number of the effect `u_l1` of each membership: its member, its own of a walk, or
        the member's at its time of an AR(1) process.
        """
        if self.series is not None:
            return self.series.effect
        return self.member if self.walk is None else self.walk.effect

    @property
    def n_effects(self) -> int:
        """Number of effects `u_l1`."""
        if self.series is not None:
            return self.series.count
        return self.n_members if self.walk is None else len(self.member)

    @property
    def slope_scale(self) -> Array:
        """(K,) standard deviations of the covariates with random slopes, for priors."""
        return np.zeros(0) if self.slopes is None else sd(self.slopes.values)

    @property
    def b_scale(self) -> Array:
        """Standard deviations of all that `b_l1` multiplies: columns, then features."""
        return np.append(self.scale, [f.scale for f in self.features])

    @property
    def b_center(self) -> Array:
        """What is taken off each of them."""
        return np.append(self.center, [f.center for f in self.features])

    @property
    def n_present(self) -> int:
        """Number of members that have a membership; others only have other roles (`cor =`)."""
        return len(np.unique(self.member))

    @property
    def n_groups(self) -> int:
        """Number of groups that have a member of the block's kind."""
        return int((np.diff(self.start) > 0).sum())


@dataclass(frozen=True)
class FittedBlock:
    """What the memberships of new groups take from those of a fit.

    Attributes
    ----------
    membership : Membership
        Of the fit: scales, total weights, priors and slopes of features.
    last : LastEffects or None
        Where random walks end.
    """

    membership: Membership
    last: LastEffects | None


def build_membership(
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    encoded: BlockColumns,
    centre: bool,
    fitted: FittedBlock | None = None,
    covariances: Mapping[str, KnownCovariance] | None = None,
) -> tuple[Membership, Columns]:
    """The arrays of a block, and its covariates by membership.

    Parameters
    ----------
    part : MemberPart
    grouped : Grouped
    units : Members
        The block's own memberships.
    encoded : BlockColumns
        The block's covariates.
    centre : bool
        As for `rmm.design.design.build_design`.
    fitted : FittedBlock, optional
        For new groups: constants are those of the fit, and nothing is checked again.
    covariances : mapping, optional
        Matrices by the names that formulas have for them.

    Raises
    ------
    DataError
        For weights or weight variables that the model cannot use, and covariance matrices that are
        not there or lack members.
    """
    segments = units.segments
    known = None if fitted is None else fitted.membership
    variables = weight_columns(part, grouped, units)
    columns = take_out_held(encoded.terms, part.held)
    inputs = _weight_inputs(part, grouped, units, variables)
    if known is None:
        scales = multiplier_scales(part.weight, variables, segments)
    else:
        scales = known.multiplier_scale
    weight, total = 1.0 / units.size, None
    if part.smooth is not None:
        weight = function_values(part.smooth, grouped)
    elif not part.estimated:
        weight, total = _known_weights(part, grouped, units, variables, known)
    offset = encoded.fixed if columns.known is None else encoded.fixed + columns.known
    if known is None:
        if part.estimated:
            check_weight_variables(part, units.group, inputs)
        _check_sums(part, columns, weight, units)
    X, center, scale, columns = _columns(part, grouped, units, weight, columns, centre, known)
    typical = _typical_weights(part, units, variables, scales) if part.estimated else weight
    live = _features(part.features_in_program, part, grouped, units, typical, known)
    live = tuple(replace(f, center=float(f.reference.mean()) if centre else 0.0) for f in live)
    root = root_of(part.block, units.labels, covariances or {}) if known is None else None
    spread = _spread(weight, units, root) if known is None else 0.0
    spread = spread if part.smooth is None else 1.0  # of its functions: see `Smooth`
    labels = grouped.groups.labels
    if fitted is None or fitted.last is None:
        walk = find_walk(part.block, units.table, units, labels)
    else:
        walk = continue_walk(part.block, units.table, units, labels, fitted.last)
    earlier = None if known is None else known.series
    series = find_series(part.block, units.table, units, labels, earlier)
    membership = Membership(
        member=units.code,
        group=units.group,
        start=units.start,
        n_members=units.count,
        weight=None if part.estimated else weight,
        X=X,
        center=center,
        scale=scale,
        spread=spread if known is None else known.spread,
        inputs=inputs if part.estimated else {},
        multiplier_scale=scales,
        n=units.size,
        log_n1=log_size_less_one(units.size),
        offset=offset if part.estimated and part.offset else None,
        rows=units.table.index.astype(np.int64),
        walk=walk,
        series=series,
        slopes=encoded.slopes,
        features=live,
        total=total,
        root=root,
    )
    return membership, columns


def _spread(weight: Array, units: Members, root: Array | None) -> float:
    """Mean over groups of the sd of the weighted sum of effects, over sigma_l1."""
    if root is None:
        return float(np.mean(np.sqrt(group_sums(weight**2, units.segments))))
    pairs = group_pairs(root, units.code, units.segments)
    return float(np.mean(np.sqrt(group_sums(pairs.terms(weight), pairs.start))))


def _check_sums(part: MemberPart, found: Columns, equal: Array, units: Members) -> None:
    """Known weights must not cancel a covariate: nothing but rounding would have a coefficient."""
    if part.estimated:
        return
    weighed = found.values * equal[:, None]
    sums = np.abs(group_sums(weighed, units.start)).max(axis=0, initial=0.0)
    sizes = group_sums(np.abs(weighed), units.start).max(axis=0, initial=0.0)
    gone = np.flatnonzero((sums <= _CANCELLED * sizes) & (sizes > 0))
    if len(gone):
        label = found.labels[int(gone[0])]
        raise DataError(
            f"The weighted sum of the predictor `{label}` is 0 in every group, with the weights "
            f"`{part.weight.text}`. For example, differences from the group mean sum to 0 with "
            f"equal weights. `{label}` therefore cannot explain the outcome: drop it."
        )


def _columns(
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    weight: Array,
    found: Columns,
    centre: bool,
    fitted: Membership | None,
) -> tuple[Array, Array, Array, Columns]:
    """`X`, its centres and scales, and the columns with the features that are columns too.

    With known weights the columns' known sum is that of the groups.
    """
    sums = group_sums(found.values * weight[:, None], units.start)
    if part.estimated:
        center = np.zeros(found.values.shape[1])
        if centre and sums_to_one(part, units):
            center = sums.mean(axis=0)
        scale = sd(found.values) if fitted is None else fitted.scale
        return found.values - center, center, scale, found
    given = _features(part.precomputed_features, part, grouped, units, weight, fitted)
    values = np.column_stack([sums, *(f.reference for f in given)])
    labels = (*found.labels, *(f.term.label for f in given))
    total = None if found.known is None else group_sums(found.known * weight, units.start)
    free = take_out_held(replace(found, labels=labels, values=values, known=total), part.held)
    X, center = centred(free.values, centre)
    if fitted is not None:
        return X, center, fitted.scale, free
    scales = [f.scale for f in given if f.term.label in free.labels]
    return X, center, np.append(sd(found.values), scales), free


def _features(
    terms: tuple[FeatureTerm, ...],
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    weight: Array,
    fitted: Membership | None,
) -> tuple[FeatureArrays, ...]:
    """Features of a block at given weights; those of new groups have the fit's constants."""
    if not terms:
        return ()
    if any(t.weighted for t in terms) and (weight < 0).any():
        raise DataError(
            f"`{terms[0].label}` needs weights of 0 or more, but `{part.weight.text}` is negative "
            f"in {counted(int((weight < 0).sum()), 'membership')}."
        )
    share = normalise(weight, "group", units.segments) if len(weight) else weight
    before = {} if fitted is None else {f.term: f for f in fitted.features}
    return tuple(
        build_feature(term, units, grouped, share, before.get(term), check=fitted is None)
        for term in terms
    )


def _typical_weights(
    part: MemberPart, units: Members, variables: Mapping[str, Array], scales: Array
) -> Array:
    """Weights half a standard deviation away from equal ones; equal ones if that fails."""
    if not part.features_in_program or not len(units.rows):
        return np.asarray(1.0 / units.size)
    at = dict(zip(part.weight.parameters, map(float, 0.5 / scales), strict=True))
    found = part.weight.weights(variables, units.segments, at)
    return found if np.isfinite(found).all() else np.asarray(1.0 / units.size)


def places_of(part: MemberPart, grouped: Grouped, units: Members) -> Places:
    """How the user knows the memberships of a block."""
    return Places(units.table.index, units.group, grouped.groups.labels, part.block.group)


def weight_columns(part: MemberPart, grouped: Grouped, units: Members) -> dict[str, Array]:
    """Data columns of the weight function, numeric, by the user's name; each (M,).

    M are the memberships of the block, `units`.
    """
    out = dict[str, Array]()
    for name in part.weight.columns:
        column = units.table[name]
        if column.numbers is None and name in part.weight.variables:
            raise DataError(
                f"The weight variable `{name}` contains {describe_column(column.series)}. "
                "Convert it to numbers."
            )
        out[name] = column.objects if column.numbers is None else column.numbers
    return out


def _weight_inputs(
    part: MemberPart, grouped: Grouped, units: Members, variables: Mapping[str, Array]
) -> dict[str, Array]:
    out = dict[str, Array]()
    for identifier, node in part.weight.inputs:
        if not len(units.rows):
            out[identifier] = np.zeros(0)
            continue
        values = evaluate(node, variables, units.segments)
        if not np.isfinite(values).all():
            bad = ~np.isfinite(values)
            where = places_of(part, grouped, units).name_row(int(np.argmax(bad)))
            raise DataError(
                f"`{describe(node)}` in the weight function `{part.weight.text}` is not finite in "
                f"{counted(int(bad.sum()), 'membership')}; the first is in {where}."
            )
        out[identifier] = values
    return out


def _known_weights(
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    variables: Mapping[str, Array],
    fitted: Membership | None,
) -> tuple[Array, WeightTotal | None]:
    """Weights without parameters; `DataError` if they are negative, all 0 or not finite.

    Under constraint 2 those of new groups are over the total of the fit.
    """
    total = None if fitted is None else fitted.total
    if not len(units.rows):
        return np.zeros(0), total
    weight, places, segments = part.weight, places_of(part, grouped, units), units.segments
    raw = np.broadcast_to(weight.raw(variables, segments), len(units.rows))
    if weight.constraint != "none" and (raw < 0).any():
        row = int(np.argmax(raw < 0))
        raise DataError(
            f"The weight function `{weight.text}` is negative in "
            f"{counted(int((raw < 0).sum()), 'membership')}; the first is in "
            f"{places.name_row(row)}, with the weight {raw[row]:g}. Normalised weights must be 0 "
            "or more. Transform the variable, for example with exp(x)."
        )
    if total is not None:
        return _weights_by_total(part, units, variables, places, total), total
    values = finite_weights(weight, variables, segments, places)
    if fitted is None and not values.any():
        raise DataError(
            f"The weight function `{weight.text}` is 0 in every row, so no member counts. Use "
            "another function."
        )
    if fitted is None and weight.constraint == "total":
        with np.errstate(all="ignore"):
            logs = evaluate(weight.expression, variables, segments, log=True)
            log = float(np.logaddexp.reduce(logs))
        total = WeightTotal(float(raw.sum()), log, int(units.present.sum()))
    return values, total


def _weights_by_total(
    part: MemberPart,
    units: Members,
    variables: Mapping[str, Array],
    places: Places,
    total: WeightTotal,
) -> Array:
    """Weights of new groups under constraint 2, on the scale of the fit's.

    Where all raw weights of the fit underflow, logarithms take over.
    """
    raw = finite_weights(replace(part.weight, constraint="none"), variables, units.segments, places)
    with np.errstate(all="ignore"):
        values = np.asarray(total.groups * raw / total.raw)
        if not np.isfinite(values).all():
            logs = evaluate(part.weight.expression, variables, units.segments, log=True)
            values = np.asarray(total.groups * np.exp(logs - total.log))
    return values


def group_sums(values: Array, start: Array) -> Array:
    """(J, ...) sums of the rows of each group; 0 for a group without rows."""
    filled = np.flatnonzero(np.diff(start))
    sums = np.zeros((len(start) - 1, *values.shape[1:]))
    sums[filled] = np.add.reduceat(values, start[filled], axis=0)
    return sums


def centred(values: Array, centre: bool) -> tuple[Array, Array]:
    """Columns less their means (or as they are), and what was taken off."""
    center = values.mean(axis=0) if centre and len(values) else np.zeros(values.shape[1])
    return values - center, center


def sd(values: Array) -> Array:
    """(K,) standard deviations of columns."""
    if values.shape[1] == 0:
        return np.zeros(0)
    return np.asarray(values.std(axis=0, ddof=1))
