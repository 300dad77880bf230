"""The numbers of a table that default priors rest on; without a table they are those of a unit.

Which families of distributions priors have follows from the model and the names of coefficients
alone; a program's text needs no more. Their numbers follow from these scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rmm.design.columns.imputed_columns import ImputedValues
from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.families.variants.varying_sd import B_SIGMA
from rmm.formula.terms import FeatureTerm
from rmm.model.spec import INTERCEPT, MemberPart, ModelSpec
from rmm.tables.read import Array


@dataclass(frozen=True)
class MemberScales:
    """Scales of one `mm()` block.

    Attributes
    ----------
    b : (K,) array
        Standard deviations of what `b_l1` multiplies.
    weight : (K,) array
        Standard deviation of what each weight coefficient multiplies.
    slopes : (K,) array
        Standard deviations of the covariates with random slopes.
    spread : float
        Standard deviation of a weighted sum of members whose effects have one of 1.
    features : mapping
        Feature -> (location, scale) of the prior of its number.
    """

    b: Array
    weight: Array
    slopes: Array
    spread: float = 1.0
    features: Mapping[FeatureTerm, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class PriorScales:
    """Scales of a model's coefficients and of its outcome.

    Attributes
    ----------
    outcome : mapping
        The family's data.
    offset : float
        Mean of the known part of the predictor.
    groups : int
        Number of groups.
    level2 : (K,) array
        Standard deviations of the predictors outside `mm()`.
    members : tuple of MemberScales
    nestings : tuple of (K,) arrays
    labels : mapping
        Dimension -> names of its coefficients, of those that are estimated.
    imputed : tuple of ImputedValues
        Columns whose missing values are parameters.
    """

    outcome: Mapping[str, Any]
    offset: float
    groups: int
    level2: Array
    members: tuple[MemberScales, ...]
    nestings: tuple[Array, ...]
    labels: Mapping[str, Sequence[Any] | Array]
    imputed: tuple[ImputedValues, ...] = ()


def scales_of(design: Design) -> PriorScales:
    """The scales of a table."""
    return PriorScales(
        outcome=design.outcome,
        offset=0.0 if design.offset is None else float(np.mean(design.offset)),
        groups=design.J,
        level2=design.scale_l2,
        members=tuple(_member_scales(member) for member in design.members),
        nestings=tuple(nesting.scale for nesting in design.nestings),
        labels=design.coords,
        imputed=design.imputed,
    )


def _member_scales(member: Membership) -> MemberScales:
    features = {f.term: f.prior for f in member.features}
    return MemberScales(
        member.b_scale, member.multiplier_scale, member.slope_scale, member.spread, features
    )


def unit_scales(spec: ModelSpec, labels: Mapping[str, tuple[str, ...]]) -> PriorScales:
    """Scales of 1, for the families of priors where there is no table.

    Parameters
    ----------
    spec : ModelSpec
    labels : mapping
        Coefficient vector -> the names of its elements, those that are held among them.
    """
    level2 = _estimated(labels["b_l2"], dict(spec.held))
    slopes = tuple(label for label in level2 if label != INTERCEPT)
    names: dict[str, tuple[str, ...]] = {"covariate_l2": level2, "slope_l2": slopes}
    members, nestings = [], []
    for part in spec.members:
        own = _labels_of_members(part, labels)
        names |= own
        members.append(
            MemberScales(
                np.ones(len(own[f"covariate_l1{part.suffix}"])),
                np.ones(len(own[f"coefficient_w{part.suffix}"])),
                np.ones(len(own[f"slope_l1{part.suffix}"])),
            )
        )
    names |= {roles.pair: roles.pairs for roles in spec.roles}
    names["covariate_sigma"] = labels.get(B_SIGMA, ())
    for nest in spec.nestings:
        left = _estimated(labels[nest.b], dict(nest.held))
        names[f"covariate_l3{nest.suffix}"] = left
        nestings.append(np.ones(len(left)))
    return PriorScales(
        outcome=spec.family.example,
        offset=0.0,
        groups=2,
        level2=np.ones(len(slopes)),
        members=tuple(members),
        nestings=tuple(nestings),
        labels={**names, **spec.family.coords(spec.family.example)},
    )


def _labels_of_members(
    part: MemberPart, labels: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    return {
        f"covariate_l1{part.suffix}": _estimated(labels[part.b], dict(part.held)),
        f"coefficient_w{part.suffix}": part.weight.parameters,
        f"coefficient_f{part.suffix}": labels[part.b_f],
        f"slope_l1{part.suffix}": labels[part.sigma_slope],
        part.pair: labels.get(part.cor, ()),
    }


def _estimated(labels: tuple[str, ...], held: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(label for label in labels if label not in held)
