"""Groups and units that share nothing with the others: the components of who is in which group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.tables.read import Array


@dataclass(frozen=True)
class SharedMembers:
    """The members of a block who are in several groups, numbered again; see `Membership`.

    Attributes
    ----------
    at : int array
        Their memberships, among all.
    group, member : int arrays
        Of these.
    code : (n_members,) int
        Their numbers in the block.
    """

    at: Array
    group: Array
    member: Array
    code: Array

    @property
    def n_members(self) -> int:
        """How many they are."""
        return len(self.code)


def members_of_several_groups(m: Membership) -> SharedMembers:
    """Members of a block who are in more than one group."""
    alone = np.bincount(m.member, minlength=m.n_members) == 1
    at = np.flatnonzero(~alone[m.member])
    number = np.cumsum(~alone) - 1
    return SharedMembers(at, m.group[at], number[m.member[at]], np.flatnonzero(~alone))


def linked(
    design: Design, blocks: Sequence[Membership | SharedMembers], nestings: Sequence[Any]
) -> tuple[Array, Array]:
    """Component of each group, and of each unit: those of the blocks, then those of nestings."""
    J = design.J
    rows = [m.group for m in blocks] + [np.arange(J)] * len(nestings)
    codes, first = [], J
    for code, count in [(m.member, m.n_members) for m in blocks] + [
        (n.unit, n.n_units) for n in nestings
    ]:
        codes.append(first + code)
        first += count
    row, column = np.concatenate(rows), np.concatenate(codes)
    links = sparse.coo_matrix((np.ones(len(row)), (row, column)), shape=(first, first))
    label = connected_components(links, directed=False)[1]
    # Components with units come first: groups without any are alone.
    order = np.unique(np.concatenate([label[J:], label[:J]]), return_index=True)
    number = np.empty(len(order[0]), dtype=int)
    number[order[0][np.argsort(order[1])]] = np.arange(len(order[0]))
    return number[label[:J]], number[label[J:]]
