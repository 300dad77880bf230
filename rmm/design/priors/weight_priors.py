"""Default priors of weight coefficients, and the units in which engines sample them."""

from __future__ import annotations

import numpy as np

from rmm.design.priors.group_sizes import size_power
from rmm.design.priors.prior_scales import MemberScales
from rmm.formula.prior_syntax import Prior
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array


def weight_priors(part: MemberPart, scales: Array) -> tuple[Prior, ...]:
    """normal(0, 1/s), `scales` s the standard deviations of what coefficients multiply.

    At 0 all members of a group count the same. A power of the group size is centred half-way
    between the sum of the members and their mean: see `rmm.design.priors.group_sizes`.
    """
    centres = np.zeros(len(part.weight.parameters))
    power = size_power(part.weight)
    if power is not None:
        centres[power.index] = power.middle
    places = zip(centres.tolist(), (1.0 / scales).tolist(), strict=True)
    return tuple(Prior("normal", place) for place in places)


def scale_name(b_w: str) -> str:
    """Name, in the data of programs, of the scales in which weight coefficients are sampled."""
    return f"scale_{b_w}"


def weight_units(spec: ModelSpec, members: tuple[MemberScales, ...]) -> dict[str, Array]:
    """(K,) 1 / sd of what each weight coefficient multiplies, by `scale_name`.

    Engines sample b_w divided by it, which does not depend on the unit of a weight variable.
    """
    return {
        scale_name(part.b_w): 1.0 / member.weight
        for part, member in zip(spec.members, members, strict=True)
        if part.estimated
    }
