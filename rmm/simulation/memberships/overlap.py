"""How far groups share members, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmm.errors import counted
from rmm.simulation.memberships.arrays import Memberships


def overlap_facts(memberships: Memberships) -> dict[str, float]:
    """Numbers about who belongs to whom.

    Parameters
    ----------
    memberships : Memberships

    Returns
    -------
    dict
        ``groups``; ``members`` that are in any group; ``memberships``; ``nesting_units``, 0
        without; ``size_mean``, ``size_min``, ``size_max`` (members of a group);
        ``groups_per_member_mean``, ``_min``, ``_max``; ``shared``, the share of members who are in
        more than one group.
    """
    size = memberships.size
    groups = np.bincount(memberships.member, minlength=memberships.counts["member"])
    groups = groups[groups > 0]
    units = memberships.nesting
    return {
        "groups": len(size),
        "members": len(groups),
        "memberships": len(memberships.member),
        "nesting_units": 0 if units is None else len(np.unique(units)),
        "size_mean": float(size.mean()),
        "size_min": int(size.min()),
        "size_max": int(size.max()),
        "groups_per_member_mean": float(groups.mean()),
        "groups_per_member_min": int(groups.min()),
        "groups_per_member_max": int(groups.max()),
        "shared": float(np.mean(groups > 1)),
    }


def overlap_text(facts: Mapping[str, float]) -> str:
    """The facts as a few lines."""
    units = facts["nesting_units"]
    nested = f" in {counted(int(units), 'nesting unit')}" if units else ""
    return "\n".join(
        (
            f"{counted(int(facts['groups']), 'group')}{nested}, "
            f"{counted(int(facts['members']), 'member')}, "
            f"{counted(int(facts['memberships']), 'membership')}",
            f"members of a group: {_range(facts, 'size')}",
            f"groups of a member: {_range(facts, 'groups_per_member')}",
            f"members in more than one group: {100 * facts['shared']:.1f}%",
        )
    )


def _range(facts: Mapping[str, float], what: str) -> str:
    mean, low, high = (facts[f"{what}_{name}"] for name in ("mean", "min", "max"))
    return f"{mean:.2f} on average, {low:,} to {high:,}"
