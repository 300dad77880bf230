"""One `mm()` block + table -> its memberships, weights and covariates as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rmm.design.columns.encode import Columns, encode
from rmm.design.identifiability import (
    check_weight_variables,
    warn_of_free_scale,
    warn_of_idle_coefficients,
    warn_of_joint_coefficients,
    warn_of_means,
    warn_of_order,
    warn_of_total_scales,
    warn_of_weights_of_constants,
)
from rmm.design.members.feature_values import FeatureArrays, build_feature
from rmm.design.members.random_walks import Walk, find_walk
from rmm.design.recipe import sums_to_one, take_out_held
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members
from rmm.design.weights.invalid_weights import Places, finite_weights
from rmm.design.weights.location import warn_of_location
from rmm.design.weights.scales import multiplier_scales
from rmm.errors import DataError, FormulaError
from rmm.formula.terms import FeatureTerm, FixedTerm
from rmm.formula.weights.weight_function import evaluate, log_size_less_one, normalise
from rmm.model.spec import MemberPart
from rmm.tables.read import Array, describe_column, numeric

#: A sum that is no more than this part of what is added up is rounding.
_CANCELLED = 1e-12


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
        mean over groups with members of sqrt(sum w^2) at equal weights, for the prior of sigma_l1.
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
    slopes : Columns or None
        Covariates with random slopes, (M, K), not centred.
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
    slopes: Columns | None = None
    features: tuple[FeatureArrays, ...] = ()
    typical_size: float = 1.0

    @property
    def effect(self) -> Array:
        """(M,) number of the effect `u_l1` of each membership: its member, or its own of a walk."""
        return self.member if self.walk is None else self.walk.effect

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
    def n_groups(self) -> int:
        """Number of groups that have a member of the block's kind."""
        return int((np.diff(self.start) > 0).sum())


def build_membership(
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    encoded: Columns,
    slopes: Columns | None,
    centre: bool,
    known: int | None = None,
) -> tuple[Membership, Columns]:
    """The arrays of a block, and its covariates by membership.

    Parameters
    ----------
    part : MemberPart
    grouped : Grouped
    units : Members
        The block's own memberships.
    encoded, slopes : Columns
        The block's covariates and those with random slopes, of `rmm.design.recipe.Encoded`.
    centre, known
        As for `rmm.design.design.build_design`.

    Raises
    ------
    DataError
        For weights or weight variables that the model cannot use.
    """
    frame, segments = units.of(grouped.frame), units.segments
    columns = take_out_held(encoded, part.held)
    scales = multiplier_scales(part.weight, weight_columns(part, grouped, units), units.segments)
    inputs = _weight_inputs(part, grouped, units)
    equal = 1.0 / units.size if part.estimated else _known_weights(part, grouped, units, known)
    offset = fixed_sum(part.block.fixed, frame, segments)
    offset = offset if columns.known is None else offset + columns.known
    if known is None:
        _check(part, grouped, units, inputs, columns)
        _check_sums(part, columns, equal, units)
    X, center, scale, columns = _columns(part, grouped, units, equal, columns, centre, known)
    live = _live(part, grouped, units, equal, centre, known)
    membership = Membership(
        member=units.code,
        group=units.group,
        start=units.start,
        n_members=units.count,
        weight=None if part.estimated else equal,
        X=X,
        center=center,
        scale=scale,
        spread=float(np.mean(np.sqrt(group_sums(equal**2, segments)))),
        inputs=inputs if part.estimated else {},
        multiplier_scale=scales,
        n=units.size,
        log_n1=log_size_less_one(units.size),
        offset=offset if part.estimated and part.offset else None,
        rows=frame.index.to_numpy().astype(np.int64),
        walk=find_walk(part.block, frame, units, grouped.groups.labels, known),
        slopes=slopes,
        features=live,
    )
    return membership, columns


def _check(
    part: MemberPart, grouped: Grouped, units: Members, inputs: Mapping[str, Array], found: Columns
) -> None:
    """What the weights can and cannot tell."""
    warn_of_order(part)
    warn_of_means(part)
    if part.estimated:
        columns = weight_columns(part, grouped, units)
        scales = multiplier_scales(part.weight, columns, units.segments)
        check_weight_variables(part, units.group, inputs)
        warn_of_total_scales(part, columns, units.segments)
        idle = warn_of_idle_coefficients(part, columns, units.segments, scales)
        idle += warn_of_joint_coefficients(part, columns, units.segments, scales, idle)
        warn_of_free_scale(part, columns, units.segments, scales)
        warn_of_location(part, columns, units.segments, scales, idle)
        warn_of_weights_of_constants(part, found.values, units.group)


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
            f"The weights `{part.weight.text}` cancel the predictor `{label}`: its weighted sum is "
            "0 in every group, as that of differences from the mean of a group is where all "
            "members weigh the same. It says nothing about the outcome: drop it."
        )


def _columns(
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    equal: Array,
    found: Columns,
    centre: bool,
    known: int | None,
) -> tuple[Array, Array, Array, Columns]:
    """`X`, its centres and scales, and the columns with the features that are columns too.

    With known weights the columns' known sum is that of the groups.
    """
    sums, scale = group_sums(found.values * equal[:, None], units.start), sd(found.values)
    if part.estimated:
        center = np.zeros(found.values.shape[1])
        if centre and sums_to_one(part, units):
            center = sums.mean(axis=0)
        return found.values - center, center, scale, found
    given = _features(part.precomputed_features, part, grouped, units, equal, known)
    values = np.column_stack([sums, *(f.reference for f in given)])
    labels = (*found.labels, *(f.term.label for f in given))
    total = None if found.known is None else group_sums(found.known * equal, units.start)
    free = take_out_held(replace(found, labels=labels, values=values, known=total), part.held)
    scale = np.append(scale, [f.scale for f in given if f.term.label in free.labels])
    X, center = centred(free.values, centre)
    return X, center, scale, free


def _live(
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    equal: Array,
    centre: bool,
    known: int | None,
) -> tuple[FeatureArrays, ...]:
    """Features that the program computes."""
    estimated = part.estimated and part.features_in_program
    weight = _typical_weights(part, grouped, units) if estimated else equal
    live = _features(part.features_in_program, part, grouped, units, weight, known)
    return tuple(replace(f, center=float(f.reference.mean()) if centre else 0.0) for f in live)


def _features(
    terms: tuple[FeatureTerm, ...],
    part: MemberPart,
    grouped: Grouped,
    units: Members,
    weight: Array,
    known: int | None,
) -> tuple[FeatureArrays, ...]:
    """Features of a block at given weights; `known` is that of `rmm.design.design.build_design`."""
    if not terms:
        return ()
    if any(t.weighted for t in terms) and (weight < 0).any():
        raise DataError(
            f"`{terms[0].label}` needs weights that are not negative, and `{part.weight.text}` "
            f"is negative in {_counted(weight < 0)}."
        )
    share = normalise(weight, "group", units.segments)
    frame = units.of(grouped.frame)
    return tuple(build_feature(term, frame, units, grouped, share, known) for term in terms)


def _typical_weights(part: MemberPart, grouped: Grouped, units: Members) -> Array:
    """Weights half a standard deviation away from equal ones; equal ones if that fails."""
    columns = weight_columns(part, grouped, units)
    scales = multiplier_scales(part.weight, columns, units.segments)
    at = dict(zip(part.weight.parameters, map(float, 0.5 / scales), strict=True))
    found = part.weight.weights(columns, units.segments, at)
    return found if np.isfinite(found).all() else np.asarray(1.0 / units.size)


def places_of(part: MemberPart, grouped: Grouped, units: Members) -> Places:
    """How the user knows the memberships of a block."""
    rows = units.of(grouped.frame).index.to_numpy()
    return Places(rows, units.group, grouped.groups.labels, part.block.group)


def weight_columns(part: MemberPart, grouped: Grouped, units: Members) -> dict[str, Array]:
    """Data columns of the weight function, numeric, by the user's name; each (M,).

    M are the memberships of the block, `units`.
    """
    frame, out = units.of(grouped.frame), dict[str, Array]()
    for name in part.weight.columns:
        column = numeric(frame[name])
        if column is None and name in part.weight.variables:
            raise DataError(
                f"The weight variable `{name}` is not numeric: it holds "
                f"{describe_column(frame[name])}."
            )
        out[name] = frame[name].to_numpy(dtype=object) if column is None else column
    return out


def _weight_inputs(part: MemberPart, grouped: Grouped, units: Members) -> dict[str, Array]:
    columns, out = weight_columns(part, grouped, units), dict[str, Array]()
    for identifier, node in part.weight.inputs:
        values = np.broadcast_to(evaluate(node, columns, units.segments), len(units.rows))
        if not np.isfinite(values).all():
            bad = ~np.isfinite(values)
            where = places_of(part, grouped, units).name_row(int(np.argmax(bad)))
            raise DataError(
                f"`{identifier}` of the weight function `{part.weight.text}` is not finite in "
                f"{bad.sum()} memberships; the first is in {where}."
            )
        out[identifier] = np.array(values, dtype=float)
    return out


def _known_weights(part: MemberPart, grouped: Grouped, units: Members, known: int | None) -> Array:
    """Weights without parameters; `DataError` if they are negative, all 0 or not finite."""
    weight, places = part.weight, places_of(part, grouped, units)
    columns = weight_columns(part, grouped, units)
    raw = np.broadcast_to(weight.raw(columns, units.segments), len(units.rows))
    if weight.constraint != "none" and (raw < 0).any():
        row = int(np.argmax(raw < 0))
        raise DataError(
            f"The weight function `{weight.text}` is negative in {_counted(raw < 0)}; "
            f"the first is in {places.name_row(row)}: {raw[row]:g}. Weights that are normalised "
            "must not be negative: transform the variable, e.g. exp(x)."
        )
    values = finite_weights(weight, columns, units.segments, places)
    if not values.any():
        raise DataError(f"The weight function `{weight.text}` is 0 in every membership.")
    if known is not None and weight.constraint == "total":  # the fit's own total
        groups_of_fit = np.count_nonzero(units.present[:known])
        values = values * groups_of_fit / values[: units.start[known]].sum()
    return values


def _counted(flags: Array) -> str:
    count = int(flags.sum())
    return f"{count} membership{'s' * (count != 1)}"


def fixed_sum(
    fixed: tuple[FixedTerm, ...], frame: pd.DataFrame, start: Array | None = None
) -> Array:
    """(rows,) known sum of `fix()` terms; `start` is the row pointer of a block's groups."""
    total = np.zeros(len(frame))
    for item in fixed:
        columns = encode((item.term,), frame, start=start)
        if len(columns.labels) != 1:
            raise FormulaError(
                f"fix({item.term.label}, {item.value:g}): a categorical predictor has several "
                "coefficients. Make a 0/1 column for the level that is meant."
            )
        total += item.value * columns.values[:, 0]
    return total


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
