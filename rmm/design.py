"""ModelSpec + table -> arrays, membership index and coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.encoding import Columns, atom_values, encode
from rmm.errors import DataError, FormulaError
from rmm.grouping import Grouped, Units
from rmm.identification import (
    check_rank,
    check_weight_variables,
    warn_of_idle_coefficients,
    warn_of_order,
    warn_of_weights_of_constants,
)
from rmm.spec import MemberPart, ModelSpec, NestingPart
from rmm.tables import Array, first_varying, numeric
from rmm.weights import evaluate, log_size_less_one


@dataclass(frozen=True)
class Membership:
    """Arrays of one `mm()` block; M memberships, J groups.

    Attributes
    ----------
    member, group : (M,) int arrays, 0-based; `group` is sorted.
    start : (J+1,) int array, row pointer of the groups.
    n_members : int
    weight : (M,) array or None
        Normalised weights if they are known, None if they are estimated.
    X : array
        Member covariates, centred by `center`: (J, K) weighted sums where weights are known,
        (M, K) where they are estimated.
    center : (K,) array
        Zeros where centring would change the model (weights that do not sum to one).
    scale : (K,) array
        Standard deviations of the covariates over memberships, for priors.
    spread : float
        mean over groups of sqrt(sum w^2) at equal weights, for the prior of sigma_l1.
    inputs : mapping
        Weight variables by program identifier, each (M,); empty for known weights.
    n, log_n1 : (M,) arrays
        Group size and log(n - 1).
    offset : (M,) array or None
        Known part of the member effects (`fix()` inside a block with estimated weights).
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


@dataclass(frozen=True)
class Nesting:
    """Arrays of one `hm()` block; `unit` (J,) 0-based, `X` (J, K) centred by `center` (K,)."""

    unit: Array
    n_units: int
    X: Array
    center: Array
    scale: Array


@dataclass(frozen=True)
class Design:
    """Everything an engine needs to know of the data.

    Attributes
    ----------
    J : int
        Number of groups.
    outcome : mapping
        The family's data, e.g. ``{"y": (J,) array}``.
    X_l2 : (J, K) array
        Level-2 slopes' columns without intercept, centred by `center_l2` (K,).
    offset : (J,) array or None
    members, nestings : tuples
    coords : mapping
        Dimension name -> labels.
    rows : (M,) int array
        The user's row number (0-based) of each membership.
    """

    J: int
    outcome: Mapping[str, Any]
    X_l2: Array
    center_l2: Array
    scale_l2: Array
    offset: Array | None
    members: tuple[Membership, ...]
    nestings: tuple[Nesting, ...]
    coords: Mapping[str, Array]
    rows: Array


def build_design(
    spec: ModelSpec, grouped: Grouped, *, centre: bool = True, transform: str | None = None
) -> Design:
    """The arrays of a model on a table.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    centre : bool
        Whether the intercept is sampled at the predictors' centres (its prior says so).
    transform : str, optional
        ``"center"``, ``"std"`` or ``"std2"``: of the continuous predictors.

    Raises
    ------
    DataError
        For outcomes, weights or weight variables that the model cannot use.
    """
    centre = centre and spec.spanned
    groups, frame = grouped.groups, grouped.group_frame
    parts = tuple(atom_values(a, frame) for a in spec.formula.outcome.parts)
    level3 = tuple(t for p in spec.nestings for t in p.terms)
    columns = encode(spec.terms, frame, intercept=spec.spanned, margins=level3, transform=transform)
    # Without an intercept the first category, wherever it stands, has a column for every level.
    spanned = spec.spanned or columns.full
    nestings: list[tuple[Nesting, Columns]] = []
    for nest, units in zip(spec.nestings, grouped.nestings, strict=True):
        nestings.append(_nesting(nest, grouped, units, spanned, centre, transform))
        spanned = spanned or nestings[-1][1].full
    members: list[tuple[Membership, Columns]] = []
    for part, units in zip(spec.members, grouped.members, strict=True):
        members.append(_membership(part, grouped, units, spanned, centre, transform))
        spanned = spanned or (members[-1][1].full and part.weight.constraint == "group")
    _check_rank(spec, grouped, columns, members, nestings)
    X, center = _centred(columns.values, centre)
    strata = None if grouped.strata is None else grouped.strata.code
    return Design(
        J=groups.count,
        outcome=spec.family.read_outcome(spec.formula.outcome.label, parts, strata),
        X_l2=X,
        center_l2=center,
        scale_l2=_sd(columns.values),
        offset=_offset(spec, grouped, members) if spec.offset else None,
        members=tuple(m for m, _ in members),
        nestings=tuple(n for n, _ in nestings),
        coords=_coords(spec, grouped, columns, [c for _, c in members], [c for _, c in nestings]),
        rows=grouped.frame.index.to_numpy().astype(np.int64),
    )


def _centred(values: Array, centre: bool) -> tuple[Array, Array]:
    center = values.mean(axis=0) if centre and len(values) else np.zeros(values.shape[1])
    return values - center, center


def _sd(values: Array) -> Array:
    if values.shape[1] == 0:
        return np.zeros(0)
    return np.asarray(values.std(axis=0, ddof=1))


def group_sums(values: Array, start: Array) -> Array:
    """(J, ...) sums of the rows of each group; groups are never empty."""
    return np.add.reduceat(values, start[:-1], axis=0)


def _check_rank(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[tuple[Nesting, Columns]],
) -> None:
    """Predictors must differ; of estimated weights only constants within groups are known sums."""
    labels = ["Intercept"] * spec.spanned + list(columns.labels)
    values = [np.ones((grouped.groups.count, int(spec.spanned))), columns.values]
    for nesting, found in nestings:
        labels += found.labels
        values.append(nesting.X + nesting.center)
    for part, (member, found) in zip(spec.members, members, strict=True):
        keep = np.arange(len(found.labels))
        sums = member.X + member.center
        if part.estimated:
            code = grouped.groups.code
            normal = part.weight.constraint == "group"
            keep = np.array(
                [k for k in keep if normal and first_varying(found.values[:, k], code) is None],
                dtype=int,
            )
            sums = sums[grouped.first]
        labels += [found.labels[k] for k in keep]
        values.append(sums[:, keep])
    check_rank(labels, np.hstack(values))


def _membership(
    part: MemberPart,
    grouped: Grouped,
    units: Units,
    spanned: bool,
    centre: bool,
    transform: str | None,
) -> tuple[Membership, Columns]:
    start, weight = grouped.start, part.weight
    # Dummies of all levels sum to the intercept only where weights sum to one.
    contrast = spanned and weight.constraint == "group"
    columns = encode(
        part.block.terms, grouped.frame, intercept=contrast, start=start, transform=transform
    )
    scales = _multiplier_scales(part, grouped)
    n = np.diff(start)[grouped.groups.code].astype(float)
    inputs = _weight_inputs(part, grouped)
    equal = 1.0 / n if part.estimated else _known_weights(part, grouped)
    offset = _fixed_sum(part.block.fixed, grouped, start)
    warn_of_order(part)
    if part.estimated:
        check_weight_variables(part, grouped, inputs)
        warn_of_idle_coefficients(part, weight_columns(part, grouped), start, scales)
        warn_of_weights_of_constants(part, columns.values, grouped)
        center = np.zeros(columns.values.shape[1])
        if centre and weight.constraint == "group":
            center = group_sums(columns.values * equal[:, None], start).mean(axis=0)
        X = columns.values - center
    else:
        X, center = _centred(group_sums(columns.values * equal[:, None], start), centre)
    membership = Membership(
        member=units.code,
        group=grouped.groups.code,
        start=start,
        n_members=units.count,
        weight=None if part.estimated else equal,
        X=X,
        center=center,
        scale=_sd(columns.values),
        spread=float(np.mean(np.sqrt(group_sums(equal**2, start)))),
        inputs=inputs if part.estimated else {},
        multiplier_scale=scales,
        n=n,
        log_n1=log_size_less_one(n),
        offset=offset if part.estimated and part.offset else None,
    )
    return membership, columns


def weight_columns(part: MemberPart, grouped: Grouped) -> dict[str, Array]:
    """Data columns of the weight function, numeric, by the user's name; each (M,)."""
    out: dict[str, Array] = {}
    for name in part.weight.columns:
        column = numeric(grouped.frame[name])
        if column is None:
            raise DataError(f"The weight variable `{name}` is not numeric.")
        out[name] = column
    return out


def _weight_inputs(part: MemberPart, grouped: Grouped) -> dict[str, Array]:
    columns, out = weight_columns(part, grouped), {}
    for identifier, node in part.weight.inputs:
        values = np.broadcast_to(evaluate(node, columns, grouped.start), len(grouped.frame))
        if not np.isfinite(values).all():
            raise DataError(
                f"`{identifier}` of the weight function `{part.weight.text}` is not finite in "
                f"{(~np.isfinite(values)).sum()} memberships."
            )
        out[identifier] = np.array(values, dtype=float)
    return out


def _known_weights(part: MemberPart, grouped: Grouped) -> Array:
    """Weights without parameters; `DataError` if they are negative, all 0 or not finite."""
    weight, groups = part.weight, grouped.groups
    columns = weight_columns(part, grouped)
    values = weight.weights(columns, grouped.start)
    raw = np.broadcast_to(weight.raw(columns, grouped.start), values.shape)
    if weight.constraint != "none" and (raw < 0).any():
        row = int(np.argmax(raw < 0))
        raise DataError(
            f"The weight function `{weight.text}` is negative in {(raw < 0).sum()} memberships; "
            f"the first is in group {groups.labels[groups.code[row]]} ({raw[row]:g}). Weights that "
            "are normalised must not be negative: transform the variable, e.g. exp(x)."
        )
    if not values.any():
        raise DataError(f"The weight function `{weight.text}` is 0 in every membership.")
    return values


def _multiplier_scales(part: MemberPart, grouped: Grouped) -> Array:
    """Standard deviation of what each weight coefficient multiplies; 1 for intercepts."""
    columns, scales = weight_columns(part, grouped), []
    for name in part.weight.parameters:
        node = part.weight.multiplier(name)
        sd = 0.0
        if node is not None:
            values = np.broadcast_to(evaluate(node, columns, grouped.start), len(grouped.frame))
            sd = float(np.std(values, ddof=1))
        scales.append(sd if np.isfinite(sd) and sd > 0 else 1.0)
    return np.array(scales)


def _fixed_sum(fixed: tuple[Any, ...], grouped: Grouped, start: Array | None) -> Array:
    """(rows,) known sum of `fix()` terms."""
    frame = grouped.frame if start is not None else grouped.group_frame
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


def _offset(spec: ModelSpec, grouped: Grouped, members: list[tuple[Membership, Columns]]) -> Array:
    total = _fixed_sum(spec.fixed, grouped, None)
    for nest in spec.nestings:
        total += _fixed_sum(nest.block.fixed, grouped, None)
    for atom in spec.formula.offset:
        total += atom_values(atom, grouped.group_frame)
    for part, (membership, _) in zip(spec.members, members, strict=True):
        if part.offset and membership.weight is not None:
            rows = _fixed_sum(part.block.fixed, grouped, grouped.start)
            total += group_sums(rows * membership.weight, grouped.start)
    return total


def _nesting(
    part: NestingPart,
    grouped: Grouped,
    units: Units,
    spanned: bool,
    centre: bool,
    transform: str | None,
) -> tuple[Nesting, Columns]:
    if part.random:
        once = np.unique(units.code, return_index=True)[1]
        columns = encode(
            part.terms, grouped.group_frame, intercept=spanned, transform=transform, once=once
        )
        scale = _sd(columns.values[once]) if columns.labels else np.zeros(0)
    else:
        first = 1 if spanned else 0  # without an intercept every unit has its own mean
        dummies = (units.code[:, None] == np.arange(first, units.count)[None, :]).astype(float)
        names = tuple(str(v) for v in unit_labels(part, grouped, units)[first:])
        columns = Columns(names, dummies, full=not spanned)
        scale = _sd(dummies)
    X, center = _centred(columns.values, centre)
    return Nesting(units.code, units.count, X, center, scale), columns


def unit_labels(part: NestingPart, grouped: Grouped, units: Units) -> Array:
    """Readable names of the nesting units (`name=`), or their ids."""
    column = part.block.label_column
    if column is None:
        return units.labels
    first = np.unique(units.code, return_index=True)[1]
    labels = grouped.group_frame[column].iloc[first].astype(str).to_numpy(dtype=object)
    if len(set(labels)) < len(labels):
        return np.array(
            [f"{a} ({b})" for a, b in zip(labels, units.labels, strict=True)], dtype=object
        )
    return np.asarray(labels)


def _coords(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[Columns],
    nestings: list[Columns],
) -> dict[str, Array]:
    intercept = ("Intercept",) if spec.intercept else ()
    coords: dict[str, Any] = {
        "covariate_l2": (*intercept, *columns.labels),
        "slope_l2": columns.labels,
        "group": grouped.groups.labels,
        "membership": np.arange(1, len(grouped.frame) + 1),
    }
    for part, units, found in zip(spec.members, grouped.members, members, strict=True):
        coords[f"covariate_l1{part.suffix}"] = found.labels
        coords[f"coefficient_w{part.suffix}"] = part.weight.parameters
        coords[f"member{part.suffix}"] = units.labels
    for nest, units, found in zip(spec.nestings, grouped.nestings, nestings, strict=True):
        coords[f"covariate_l3{nest.suffix}"] = found.labels
        coords[f"nesting{nest.suffix}"] = unit_labels(nest, grouped, units)
    for dim, names in coords.items():
        labels = [str(name) for name in names] if dim.startswith("covariate") else []
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise DataError(f"Two predictors have the name `{twice}`: rename the column.")
    return {name: np.asarray(labels, dtype=object) for name, labels in coords.items()}
