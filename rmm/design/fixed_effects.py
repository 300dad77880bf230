"""The columns that the coefficients of a model multiply, all blocks together, by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmm.design.design import Design
from rmm.design.members.memberships import Membership, group_sums, weight_columns
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members
from rmm.errors import DataError
from rmm.model.spec import INTERCEPT, MemberPart, ModelSpec
from rmm.tables.read import Array


@dataclass(frozen=True)
class FixedEffects:
    """Columns of the linear predictor, one per coefficient that is estimated.

    Attributes
    ----------
    labels : tuple of str
        Coefficients by their names in `summary()`.
    values : (J, K) array
        Not centred. Covariates whose weights are estimated are summed with typical weights.
    weights : tuple of (M,) arrays
        The known or typical weights of each `mm()` block.
    """

    labels: tuple[str, ...]
    values: Array
    weights: tuple[Array, ...]


def fixed_effects(spec: ModelSpec, grouped: Grouped, design: Design) -> FixedEffects:
    """The fixed part of a model on its own table.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    design : Design

    Returns
    -------
    FixedEffects
    """
    labels = [f"b_l2[{INTERCEPT}]"] * spec.intercept
    columns = [np.ones((design.J, int(spec.intercept))), design.X_l2 + design.center_l2]
    labels += [f"b_l2[{label}]" for label in design.coords["slope_l2"]]
    weights = []
    for part, units, member in zip(spec.members, grouped.members, design.members, strict=True):
        weight = _typical_weight(part, grouped, units, member)
        sums = member.X + member.center
        if member.weight is None:
            sums = group_sums(sums * weight[:, None], member.start)
        columns += [sums, *(f.reference[:, None] for f in member.features)]
        labels += [f"{part.b}[{v}]" for v in design.coords[f"covariate_l1{part.suffix}"]]
        weights.append(weight)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        columns.append(nesting.X + nesting.center)
        labels += [f"{nest.b}[{v}]" for v in design.coords[f"covariate_l3{nest.suffix}"]]
    return FixedEffects(tuple(labels), np.hstack(columns), tuple(weights))


def _typical_weight(
    part: MemberPart, grouped: Grouped, units: Members, member: Membership
) -> Array:
    """Known weights, or those with every coefficient half a standard deviation above 0."""
    if member.weight is not None:
        return member.weight
    columns = weight_columns(part, grouped, units)
    at = dict(zip(part.weight.parameters, map(float, 0.5 / member.multiplier_scale), strict=True))
    try:
        return part.weight.weights(columns, units.segments, at)
    except DataError:  # outside the function's domain: initial values will report it
        return np.asarray(1.0 / units.size)
