"""The linear predictor of posterior draws, for any groups laid out by the model's design.

One function per part of the model, each (S, J) for S draws: a new term is a function here and a
line in `linear_predictor`. The formula is that of the model's page: eta = X b + sum w (x b + u)
+ z b + v + known terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from rmm.backends.base import Run
from rmm.design.design import Design, Nesting
from rmm.design.members.memberships import Membership, places_of, weight_columns
from rmm.design.prepare import Model
from rmm.design.rows.group_rows import Grouped
from rmm.design.weights.invalid_weights import Places, finite_weights
from rmm.errors import BackendError
from rmm.formula.weights.weight_function import evaluate
from rmm.model.spec import MemberPart, NestingPart
from rmm.tables.read import Array

Draws = Mapping[str, Array]

_NUMBERS_AT_ONCE = 200_000  # draws x memberships: arrays that stay near the processor are faster
_MEMBERSHIPS_AT_ONCE = 500  # keeps weight draws small in memory


@dataclass(frozen=True)
class Layout:
    """Groups whose predictor is wanted.

    Attributes
    ----------
    design : Design
        Unit codes beyond those of the fit are new units.
    grouped : Grouped
        The same groups as a table, for weight variables.
    """

    design: Design
    grouped: Grouped


def layout_of(model: Model) -> Layout:
    """The groups of the fit."""
    return Layout(model.design, model.grouped)


def flat_draws(run: Run, model: Model) -> dict[str, Array]:
    """Draws by parameter, (S, *dims), chains one after the other; fixed values are repeated.

    Scalars are (S,).
    """
    out: dict[str, Array] = {}
    for parameter in model.spec.parameters:
        if parameter.name in run.draws:
            values = run.draws[parameter.name]
            shape = tuple(len(model.design.coords[d]) for d in parameter.dims)
            out[parameter.name] = values.reshape(values.shape[0] * values.shape[1], *shape)
    count = len(next(iter(out.values())))
    for parameter in model.spec.parameters:
        if parameter.name not in out and parameter.name in model.priors.data:
            held = np.asarray(model.priors.data[parameter.name], dtype=float)
            out[parameter.name] = np.broadcast_to(held, (count, *held.shape))
    return out


def count_draws(draws: Draws) -> int:
    """Number of draws, S."""
    return len(next(iter(draws.values())))


def some_draws(draws: Draws, rows: slice) -> dict[str, Array]:
    """A slice of the draws."""
    return {name: values[rows] for name, values in draws.items()}


def need(draws: Draws, name: str, why: str) -> Array:
    """Draws of a parameter; an error where the fit did not keep it."""
    if name in draws:
        return draws[name]
    again = 'Fit again with monitor="summary" (the default).'
    if name.startswith("u_s_"):
        raise BackendError(
            f"The fit kept no draws of `{name}`, because it was run with "
            f'monitor="structural". But {why} needs them. {again}'
        )
    if name.startswith("u_"):  # of all parameters, monitor="structural" leaves out only these
        raise BackendError(
            f"The fit kept no draws of the random effects `{name}`, because it was run with "
            f'monitor="structural". But {why} needs them. {again} Or predict without random '
            'effects: predict(..., effects="none").'
        )
    raise BackendError(f"The fit has no draws of `{name}`, but {why} needs them. {again}")


def chunks(model: Model, layout: Layout, draws: Draws) -> Iterator[slice]:
    """Slices of draws, small enough that draws x memberships fit into memory."""
    count, rows = count_draws(draws), max(len(layout.grouped.table), 1)
    size = max(1, _NUMBERS_AT_ONCE // rows)
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def linear_predictor(model: Model, layout: Layout, draws: Draws, totals: Totals) -> Array:
    """The linear predictor.

    Parameters
    ----------
    model : Model
    layout : Layout
    draws : mapping
        Of `flat_draws`, or a slice of them; effects (S, units) long enough for the layout's unit
        codes, or absent where they are left out.
    totals : mapping
        Of `weight_totals`, for the same draws.

    Returns
    -------
    (S, J) array
    """
    spec, design = model.spec, layout.design
    eta = _level2(model, design, draws) + _offset(design)
    eta += _missing_values(model, design, None, np.ones((1, 1)), draws)
    for index, (part, member) in enumerate(zip(spec.members, design.members, strict=True)):
        weight = weights_of(layout, index, part, draws, totals)
        eta += _member_covariates(part, member, weight, draws)
        eta += _member_features(part, member, weight, draws)
        eta += _member_effects(part, member, weight, draws)
        eta += _missing_values(model, design, index, weight, draws)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        eta += _nesting_covariates(nest, nesting, draws)
        eta += _nesting_effects(nest, nesting, draws)
    return eta


def _level2(model: Model, design: Design, draws: Draws) -> Array:
    """Intercept and level-2 slopes; `b_l2` has its intercept at zero of all predictors."""
    spec = model.spec
    if not (spec.intercept or spec.terms):
        return np.zeros((count_draws(draws), design.J))
    b = need(draws, "b_l2", "the linear predictor")
    slopes = b[:, int(spec.intercept) :] @ (design.X_l2 + design.center_l2).T
    return np.asarray(slopes + b[:, :1] if spec.intercept else slopes)


def _offset(design: Design) -> Array | float:
    """(J,) known terms."""
    return 0.0 if design.offset is None else design.offset


def _member_covariates(part: MemberPart, member: Membership, weight: Array, draws: Draws) -> Array:
    """Covariates and known terms of the members, weighted; those of known weights are sums."""
    total: Array | float = 0.0
    if part.columns:
        columns = member.X + member.center
        each = need(draws, part.b, "the linear predictor")[:, : columns.shape[1]] @ columns.T
        total = group_totals(weight * each, member.start) if part.estimated else each
    if member.offset is not None:
        total = total + group_totals(weight * member.offset, member.start)
    return np.asarray(total)


def _missing_values(
    model: Model, design: Design, block: int | None, weight: Array, draws: Draws
) -> Array:
    """What the missing values of the covariates of groups, or of a block, add to their means."""
    total, spec = np.zeros((1, 1)), model.spec
    for one, found in zip(spec.imputed, design.imputed, strict=False):  # new groups have none
        if one.block != block:
            continue
        why = "the linear predictor"
        x = need(draws, one.x, why)
        if block is None:
            b = need(draws, "b_l2", why)[:, [int(spec.intercept) + found.column]]
            total = total + b * found.differences(x, design.J)
            continue
        member = design.members[block]
        b = need(draws, spec.members[block].b, why)[:, [found.column]]
        each = b * found.differences(x, len(member.member))
        total = total + group_totals(weight * each, member.start)
    return total


def _member_features(part: MemberPart, member: Membership, weight: Array, draws: Draws) -> Array:
    """Features that rest on estimated weights or numbers; the others are columns."""
    total: Array = np.zeros(1)
    if not member.features:
        return total
    b = need(draws, part.b, "the linear predictor")
    sums = group_totals(weight, member.start)
    with np.errstate(all="ignore"):
        share = weight / np.repeat(sums, np.diff(member.start), axis=1)
    for place, feature in enumerate(member.features, start=len(member.center)):
        number = None
        if feature.term in part.parametric_features:
            which = part.parametric_features.index(feature.term)
            number = need(draws, part.b_f, "the linear predictor")[:, [which]]
        values = feature.values(share, number) if feature.term.weighted else feature.reference
        total = total + b[:, [place]] * values
    return total


def _member_effects(part: MemberPart, member: Membership, weight: Array, draws: Draws) -> Array:
    """Weighted sums of the members' effects: intercepts, also those in time, and slopes."""
    total = np.zeros(1)
    if part.smooth is not None:
        need(draws, part.u, f"the curve {part.smooth.label}")
    if part.random and part.u in draws:
        total = group_totals(weight * draws[part.u][:, member.effect], member.start)
    if member.slopes is not None and part.u_slope in draws:
        slopes = draws[part.u_slope]
        for k, x in enumerate(member.slopes.values.T):
            own = weight * x * slopes[:, member.member, k]
            total = total + group_totals(own, member.start)
    return total


def _nesting_covariates(nest: NestingPart, nesting: Nesting, draws: Draws) -> Array:
    """Level-3 covariates, or the means of units with fixed effects."""
    if not nest.covariates:
        return np.zeros(1)
    b = need(draws, nest.b, "the linear predictor")
    return np.asarray(b @ (nesting.X + nesting.center).T)


def _nesting_effects(nest: NestingPart, nesting: Nesting, draws: Draws) -> Array:
    """Effects of the nesting units."""
    if not nest.random or nest.u not in draws:
        return np.zeros(1)
    return np.asarray(draws[nest.u][:, nesting.unit])


def group_totals(values: Array, start: Array) -> Array:
    """(S, J) sums over the memberships of each group of (S, M) values; 0 where it has none."""
    shape = (len(start) - 1, values.shape[1])
    # A sparse product is four times as fast as `reduceat` on short groups.
    sums = csr_matrix((np.ones(shape[1]), np.arange(shape[1]), start), shape=shape)
    return np.asarray((sums @ values.T).T)


# ---- weights ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Total:
    """Sum of all raw weights of the fit's table, (S,), its logarithm, and the number of groups."""

    raw: Array
    log: Array
    groups: int


Totals = Mapping[str, Total]


def weights_of(layout: Layout, index: int, part: MemberPart, draws: Draws, totals: Totals) -> Array:
    """Weights of a block: (S, M), or (1, M) where they are known."""
    member, units = layout.design.members[index], layout.grouped.members[index]
    if member.weight is not None:
        return member.weight[None, :]
    if len(member.member) == 0:
        return np.zeros((1, 0))
    columns = weight_columns(part, layout.grouped, units)
    places = places_of(part, layout.grouped, units)
    return weight_draws(part, columns, units.segments, draws, totals.get(part.suffix), places)


def weight_draws(
    part: MemberPart,
    columns: Mapping[str, Array],
    segments: Array,
    draws: Draws,
    total: Total | None,
    places: Places,
) -> Array:
    """Draws of estimated weights, (S, M).

    Parameters
    ----------
    columns : mapping
        Of `weight_columns`, (M,) each.
    segments : int array
        Row pointer of the groups that have a member.
    total : Total, optional
        Of `weight_totals`: where the constraint is on the whole table, it is the fit's table.
    places : Places
        Names of the memberships for error messages.
    """
    parameters = coefficients(part, draws)
    if total is None:
        return finite_weights(part.weight, columns, segments, places, parameters)
    raw = part.weight.raw(columns, segments, parameters)
    with np.errstate(all="ignore"):
        values = np.asarray(total.groups * raw / total.raw[:, None])
        if not np.isfinite(values).all():  # all underflow: 1/n^exp(8) does
            logs = evaluate(part.weight.expression, columns, segments, parameters, log=True)
            values = np.asarray(total.groups * np.exp(logs - total.log[:, None]))
    return values


def weight_chunks(model: Model, part: MemberPart, index: int, draws: Draws) -> Iterator[Array]:
    """Draws of a block's weights, (S, some memberships) at a time; groups are never split.

    Parameters
    ----------
    index : int
        Of the block, 0-based.
    """
    membership = model.design.members[index]
    if membership.weight is not None:
        yield np.repeat(membership.weight[None, :], 2, axis=0)
        return
    units = model.grouped.members[index]
    columns, places = (
        weight_columns(part, model.grouped, units),
        places_of(part, model.grouped, units),
    )
    total = weight_totals(model, draws).get(part.suffix)
    for rows, segments in _whole_groups(units.segments):
        some = {name: values[rows] for name, values in columns.items()}
        yield weight_draws(part, some, segments, draws, total, places.take(rows))


def _whole_groups(start: Array) -> list[tuple[slice, Array]]:
    """Slices of whole groups of about `_MEMBERSHIPS_AT_ONCE` rows, with their row pointers."""
    out, first = [], 0
    for group in range(1, len(start)):
        last = group == len(start) - 1
        if last or start[group + 1] - start[first] > _MEMBERSHIPS_AT_ONCE:
            rows = slice(int(start[first]), int(start[group]))
            out.append((rows, start[first : group + 1] - start[first]))
            first = group
    return out


def coefficients(part: MemberPart, draws: Draws) -> dict[str, Array]:
    """Weight coefficients by name, (S, 1)."""
    b_w = need(draws, part.b_w, "weights")
    return {name: b_w[:, [i]] for i, name in enumerate(part.weight.parameters)}


def weight_totals(model: Model, draws: Draws) -> dict[str, Total]:
    """Sums of the raw weights over the fit's table.

    For estimated weights that sum to the number of groups (constraint 2), by the blocks' suffix.
    A new group's weights are w = J uw / (sum over the fit's rows), as those of the fit: the scale
    on which `b_l1` and `sigma_l1` were estimated does not change with the groups to predict.
    """
    out = {}
    for part, units in zip(model.spec.members, model.grouped.members, strict=True):
        if part.estimated and part.weight.constraint == "total":
            columns, raw, log = weight_columns(part, model.grouped, units), [], []
            for rows in chunks(model, layout_of(model), draws):
                parameters = coefficients(part, some_draws(draws, rows))
                arguments = (part.weight.expression, columns, units.segments, parameters)
                raw.append(evaluate(*arguments).sum(axis=1))
                with np.errstate(all="ignore"):
                    log.append(np.logaddexp.reduce(evaluate(*arguments, log=True), axis=1))
            total = Total(np.concatenate(raw), np.concatenate(log), len(units.segments) - 1)
            out[part.suffix] = total
    return out


def some_totals(totals: Totals, rows: slice) -> dict[str, Total]:
    """Totals of a slice of the draws."""
    return {s: Total(t.raw[rows], t.log[rows], t.groups) for s, t in totals.items()}


def predictor_chunks(
    model: Model, layout: Layout, draws: Draws, totals: Totals | None = None
) -> Iterator[tuple[slice, dict[str, Array], Array]]:
    """Slices of draws with the family's own parameters and the linear predictor.

    `totals` are those of `weight_totals` for the same draws, where they are known already.
    """
    totals = weight_totals(model, draws) if totals is None else totals
    for rows in chunks(model, layout, draws):
        some = some_draws(draws, rows)
        own = {
            p.name: need(some, p.name, f"family {model.spec.family.name}")
            for p in model.spec.family.parameters
        }
        yield rows, own, linear_predictor(model, layout, some, some_totals(totals, rows))


def eta_draws(model: Model, layout: Layout, draws: Draws, totals: Totals | None = None) -> Array:
    """The (S, J) linear predictor of all draws; `totals` as in `predictor_chunks`."""
    out = np.empty((count_draws(draws), layout.design.J))
    totals = weight_totals(model, draws) if totals is None else totals
    for rows in chunks(model, layout, draws):
        some = some_draws(draws, rows)
        out[rows] = linear_predictor(model, layout, some, some_totals(totals, rows))
    return out
