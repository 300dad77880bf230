"""Member effects in Stan programs: intercepts, random walks over memberships, slopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.design.members.memberships import Membership
from rmm.families import Parameter
from rmm.model.spec import MemberPart

Lines = list[str]


def effect_data(part: MemberPart) -> Lines:
    """Declarations of which effects each membership has."""
    s = part.suffix
    if part.walk:
        return [
            "// order of the memberships by member, then time",
            f"array[M{s}] int<lower=1, upper=M{s}> place_l1{s};  // of each membership",
            f"array[M{s}] int<lower=1, upper=M{s}> begin_l1{s};  // of its member's first one",
        ]
    lines = []
    if part.effects:
        lines += [
            f"int<lower=1> N_l1{s};  // members",
            f"array[M{s}] int<lower=1, upper=N_l1{s}> member{s};",
        ]
    if part.slopes:
        what = "covariates with random slopes" + ("" if part.estimated else " times known weights")
        lines += [
            f"int<lower=1> K_slope_l1{s};  // {what}",
            f"array[K_slope_l1{s}] vector[M{s}] Z_l1{s};",
        ]
    return lines


def effect_values(part: MemberPart, m: Membership) -> Mapping[str, Any]:
    """Values of these data that JAGS does not name, by names without suffix."""
    if m.walk is not None:
        return {"begin_l1": m.walk.begin + 1}
    if m.slopes is None:
        return {}
    Z = m.slopes.values.T
    return {"Z_l1": Z if m.weight is None else Z * m.weight}


def walk_lines(part: MemberPart) -> Lines:
    """Effects of random walks, from independent steps (non-centred).

    One cumulative sum over all members, less what came before the member's first step.
    """
    if not part.walk:
        return []
    s = part.suffix
    return [
        f"vector[M{s}] {part.u};  // random walks over each member's memberships",
        "{",
        f"  vector[M{s}] path = cumulative_sum({part.step});",
        f"  {part.u} = path[place_l1{s}] - path[begin_l1{s}] + {part.step}[begin_l1{s}];",
        "}",
    ]


def by_membership(part: MemberPart) -> str:
    """The member effect of each membership, as a vector expression."""
    return part.u if part.walk else f"{part.u}[member{part.suffix}]"


def weighted_effects(part: MemberPart) -> str:
    """The sums of member effects under known weights, a sparse product."""
    s = part.suffix
    columns = f"M{s}, weight{s}, row{s}" if part.walk else f"N_l1{s}, weight{s}, member{s}"
    return f"csr_matrix_times_vector(J, {columns}, start{s}, {part.u})"


def sd_name(effect: str) -> str:
    """The standard deviation of an effect: of ``u_l1`` and ``step_l1`` it is ``sigma_l1``."""
    return "sigma" + effect.removeprefix("u").removeprefix("step")


def slope_declaration(parameter: Parameter) -> str:
    """Declaration of the members' slopes over their sds: (members, covariates)."""
    rows, columns = _sizes(parameter)
    return f"matrix[{rows}, {columns}] {_raw(parameter.name)};  // slopes over their sds"


def slope_lines(part: MemberPart) -> Lines:
    """The members' slopes, non-centred.

    `multiplier` is for one sd: a matrix of them does not compile under Stan's optimisations (2.39).
    """
    if not part.slopes:
        return []
    s, sd = part.suffix, part.sigma_slope
    scaled = f"diag_post_multiply({_raw(part.u_slope)}, {sd})"
    return [f"matrix[N_l1{s}, K_slope_l1{s}] {part.u_slope} = {scaled};"]


def slope_density(parameter: Parameter) -> str:
    """Density of the members' slopes, independent of each other and of the intercepts."""
    return f"to_vector({_raw(parameter.name)}) ~ std_normal();"


def _raw(u_slope: str) -> str:
    return "raw" + u_slope.removeprefix("u")


def _sizes(parameter: Parameter) -> tuple[str, str]:
    suffix = parameter.dims[0].removeprefix("member")
    return f"N_l1{suffix}", f"K_slope_l1{suffix}"


def weighted_slopes(part: MemberPart) -> Lines:
    """The sums of w x u_slope under known weights: a sparse product for each covariate."""
    s = part.suffix
    product = f"J, N_l1{s}, Z_l1{s}[k], member{s}, start{s}, {part.u_slope}[, k]"
    return [
        f"for (k in 1:K_slope_l1{s}) {{",
        f"  eta += csr_matrix_times_vector({product});",
        "}",
    ]


def slopes_by_membership(part: MemberPart) -> Lines:
    """Lines that add x u_slope to the effect of each membership."""
    if not part.slopes:
        return []
    s = part.suffix
    return [
        f"  for (k in 1:K_slope_l1{s}) {{",
        f"    effect{s} += Z_l1{s}[k] .* {part.u_slope}[member{s}, k];",
        "  }",
    ]
