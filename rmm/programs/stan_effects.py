"""Member effects in Stan programs: one per member, or random walks over memberships."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.memberships import Membership
from rmm.spec import MemberPart

Lines = list[str]


def effect_data(part: MemberPart) -> Lines:
    """Declarations of which effect each membership has."""
    s = part.suffix
    if not part.random:
        return []
    if part.walk:
        return [
            "// order of the memberships by member, then time",
            f"array[M{s}] int<lower=1, upper=M{s}> place_l1{s};  // of each membership",
            f"array[M{s}] int<lower=1, upper=M{s}> begin_l1{s};  // of its member's first one",
        ]
    return [
        f"int<lower=1> N_l1{s};  // members",
        f"array[M{s}] int<lower=1, upper=N_l1{s}> member{s};",
    ]


def effect_values(part: MemberPart, m: Membership) -> Mapping[str, Any]:
    """Values of these data, by names without suffix."""
    if not part.random:
        return {}
    if m.walk is not None:
        return {"place_l1": m.walk.place + 1, "begin_l1": m.walk.begin + 1}
    return {"N_l1": m.n_members, "member": m.member + 1}


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
