"""ModelSpec + table -> arrays, membership index and coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.design.columns.encode import Columns, atom_values
from rmm.design.columns.outcome import outcome_parts
from rmm.design.identifiability import check_magnitude, check_rank
from rmm.design.members.memberships import (
    Membership,
    build_membership,
    centred,
    fixed_sum,
    group_sums,
    sd,
)
from rmm.design.recipe import Encoded, encode_predictors, take_out_held, unit_labels
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Units
from rmm.errors import SpecificationWarning
from rmm.model.spec import INTERCEPT, ModelSpec, NestingPart
from rmm.tables.read import Array, first_varying


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
        The user's row number (0-based) of each row in canonical order.
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

    @property
    def centred(self) -> bool:
        """Whether the intercept that is sampled differs from `b_l2[Intercept]`."""
        parts = [self.center_l2, *(m.b_center for m in self.members)]
        return any(np.any(c) for c in (*parts, *(n.center for n in self.nestings)))


def build_design(
    spec: ModelSpec,
    grouped: Grouped,
    *,
    centre: bool = True,
    transform: str | None = None,
    known: int | None = None,
    encoded: Encoded | None = None,
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
    known : int, optional
        The first `known` groups are those of a fit, the others are new (`new_groups`): the
        fit's groups alone give means, sds and totals, and nothing is checked again. The outcome
        is left out.
    encoded : Encoded, optional
        The columns of the predictors, where they are known already.

    Raises
    ------
    DataError
        For outcomes, weights or weight variables that the model cannot use.
    """
    centre = centre and spec.spanned
    if encoded is None:
        encoded = encode_predictors(spec, grouped, transform=transform, known=known)
    columns = take_out_held(encoded.level2, spec.held)
    nestings: list[tuple[Nesting, Columns]] = []
    for nest, units, found in zip(spec.nestings, grouped.nestings, encoded.nestings, strict=True):
        free = take_out_held(found, nest.held)
        nestings.append((_nesting(nest, units, free, centre, known), free))
    members: list[tuple[Membership, Columns]] = []
    blocks = zip(spec.members, grouped.members, encoded.members, encoded.slopes, strict=True)
    for part, kind, found, slopes in blocks:
        members.append(build_membership(part, grouped, kind, found, slopes, centre, known))
    if known is None:
        _check_rank(spec, grouped, columns, members, nestings)
    X, center = centred(columns.values, centre)
    return Design(
        J=grouped.groups.count,
        outcome=_outcome(spec, grouped) if known is None else {},
        X_l2=X,
        center_l2=center,
        scale_l2=sd(columns.values),
        offset=_offset(spec, grouped, columns, members, nestings) if spec.offset else None,
        members=tuple(m for m, _ in members),
        nestings=tuple(n for n, _ in nestings),
        coords=_coords(spec, grouped, columns, members, [c for _, c in nestings]),
        rows=grouped.frame.index.to_numpy().astype(np.int64),
    )


def _outcome(spec: ModelSpec, grouped: Grouped) -> dict[str, Any]:
    outcome = spec.formula.outcome
    parts = outcome_parts(outcome, spec.family, grouped.group_frame)
    for atom, values in zip(outcome.parts, parts, strict=True):
        check_magnitude(atom.label, values)
    strata = None if grouped.strata is None else grouped.strata.labels[grouped.strata.code]
    return spec.family.read_outcome(outcome.label, parts, strata)


def _check_rank(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[tuple[Nesting, Columns]],
) -> None:
    """Predictors must differ; of estimated weights only constants within groups are known sums."""
    _warn_of_absent([columns, *(found for _, found in (*nestings, *members))])
    for found in (columns, *(f for _, f in nestings), *(f for _, f in members)):
        for label, column in zip(found.labels, found.values.T, strict=False):
            check_magnitude(label, column)
    strata = None if grouped.strata is None else grouped.strata.code
    constant = int(spec.spanned and strata is None)
    labels = [INTERCEPT] * constant + list(columns.labels)
    names = [f"b_l2[{label}]" for label in labels]
    values = [np.ones((grouped.groups.count, constant)), columns.values]
    for nest, (nesting, found) in zip(spec.nestings, nestings, strict=True):
        labels += found.labels
        names += [f"{nest.b}[{label}]" for label in found.labels]
        values.append(nesting.X + nesting.center)
    for part, units, (member, found) in zip(spec.members, grouped.members, members, strict=True):
        keep = np.arange(len(found.labels))
        sums = member.X + member.center
        if part.estimated:
            normal = part.weight.constraint == "group"
            keep = np.array(
                [
                    k
                    for k in keep
                    if normal and first_varying(found.values[:, k], units.group) is None
                ],
                dtype=int,
            )
            sums = np.zeros((grouped.groups.count, found.values.shape[1]))
            sums[units.present] = found.values[units.segments[:-1]]
        own = [found.labels[k] for k in keep] + [f.term.label for f in member.features]
        labels += own
        names += [f"{part.b}[{label}]" for label in own]
        values.append(sums[:, keep])
        values += [f.reference[:, None] for f in member.features]
    if labels:  # a predictor of two blocks by the names of its coefficients
        shown = [n if labels.count(k) > 1 else k for k, n in zip(labels, names, strict=True)]
        check_rank(shown, np.hstack(values), strata)


def _warn_of_absent(found: list[Columns]) -> None:
    absent = list(dict.fromkeys(label for columns in found for label in columns.absent))
    if absent:
        more = f" and {len(absent) - 8} more" * (len(absent) > 8)
        warnings.warn(
            f"No row of the table has {', '.join(absent[:8])}{more}: such combinations of "
            "categories have no coefficient, and cannot be predicted.",
            SpecificationWarning,
            stacklevel=2,
        )


def _offset(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[tuple[Nesting, Columns]],
) -> Array:
    """(J,) known sum: `fix()`, `offset()` and coefficients that are held."""
    frame = grouped.group_frame
    total = fixed_sum(spec.fixed, frame) + dict(spec.held).get(INTERCEPT, 0.0)
    for nest in spec.nestings:
        total += fixed_sum(nest.block.fixed, frame)
    for atom in spec.formula.offset:
        total += atom_values(atom, frame)
    sums = [columns.known, *(found.known for _, found in nestings)]
    for part, units, (membership, found) in zip(
        spec.members, grouped.members, members, strict=True
    ):
        if part.offset and membership.weight is not None:
            rows = fixed_sum(part.block.fixed, units.of(grouped.frame), units.segments)
            total += group_sums(rows * membership.weight, units.start)
            sums.append(found.known)
    for known in sums:
        total += 0.0 if known is None else known
    return total


def _nesting(
    part: NestingPart, units: Units, columns: Columns, centre: bool, known: int | None
) -> Nesting:
    once = np.unique(units.code[:known], return_index=True)[1]
    scale = np.zeros(0)
    if columns.labels:
        scale = sd(columns.values[once] if part.random else columns.values)
    X, center = centred(columns.values, centre)
    return Nesting(units.code, units.count, X, center, scale)


def _coords(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[Columns],
) -> dict[str, Array]:
    intercept = (INTERCEPT,) if spec.intercept else ()
    coords: dict[str, Any] = {
        "covariate_l2": (*intercept, *columns.labels),
        "slope_l2": columns.labels,
        "group": grouped.groups.labels,
        "membership": np.arange(1, len(grouped.frame) + 1),
    }
    for part, kind, (own, found) in zip(spec.members, grouped.members, members, strict=True):
        coords[f"covariate_l1{part.suffix}"] = (
            *found.labels,
            *(f.label for f in part.features_in_program),
        )
        coords[f"coefficient_w{part.suffix}"] = part.weight.parameters
        coords[f"coefficient_f{part.suffix}"] = [f.label for f in part.parametric_features]
        coords[f"member{part.suffix}"] = kind.labels
        coords[part.memberships] = np.arange(1, len(kind.rows) + 1)
        coords[f"slope_l1{part.suffix}"] = () if own.slopes is None else own.slopes.labels
    for nest, units, found in zip(spec.nestings, grouped.nestings, nestings, strict=True):
        coords[f"covariate_l3{nest.suffix}"] = found.labels
        coords[f"nesting{nest.suffix}"] = unit_labels(nest, grouped, units)
    return {name: np.asarray(labels, dtype=object) for name, labels in coords.items()}
