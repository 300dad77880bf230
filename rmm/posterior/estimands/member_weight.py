"""The weight of a named member."""

from __future__ import annotations

from typing import Any

from rmm.posterior.estimands.quantity import Quantity, Source, averaged


def draw(
    source: Source, *, member: Any, block: int = 1, average: bool = True, share: bool = False
) -> Quantity:
    """W of one member, in the groups that it is in.

    Parameters
    ----------
    source : Source
    member : object
        Id of the member.
    block : int
    average : bool
        Over its groups; otherwise one value per group.
    share : bool
        Whether to divide by the sum of the group's weights.

    Raises
    ------
    DataError
        If the member is in no group of the block.
    """
    chosen = source.block(block)
    rows = chosen.memberships(member)
    found = chosen.weights(share=share)[:, rows]
    groups = chosen.groups[chosen.member.group[rows]]
    return averaged(chosen.repeated(found), groups, average)
