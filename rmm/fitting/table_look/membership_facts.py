"""Who belongs to whom in a table: sizes, shared members, and sets of groups that share none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from rmm.errors import DataError, did_you_mean
from rmm.tables.read import Array
from rmm.tables.table import Table


@dataclass(frozen=True, eq=False)
class MembershipFacts:
    """The M memberships of a table: rows with both ids, a member once in a group.

    Attributes
    ----------
    member_column, group_column : str
    rows : int
        Rows of the table.
    place : (M,) int array
        Row of each membership in the table, from 0.
    member, group : (M,) int array
        Codes of its member and its group.
    members, groups : (n,), (J,) object array
        Their ids, sorted.
    without_member, without_group, repeated : int
        Rows that are no membership: an id is missing, or the member is in the group already.
    """

    member_column: str
    group_column: str
    rows: int
    place: Array
    member: Array
    group: Array
    members: Array
    groups: Array
    without_member: int
    without_group: int
    repeated: int

    @cached_property
    def sizes(self) -> Array:
        """(J,) members of each group."""
        return np.bincount(self.group, minlength=len(self.groups))

    @cached_property
    def spread(self) -> Array:
        """(n,) groups of each member."""
        return np.bincount(self.member, minlength=len(self.members))

    @cached_property
    def shared(self) -> Array:
        """(n,) whether a member is in several groups."""
        return self.spread > 1

    @property
    def shared_memberships(self) -> int:
        """Memberships of members who are in several groups."""
        return int(self.spread[self.shared].sum())

    @cached_property
    def sharing_groups(self) -> int:
        """Groups that have a member in common with another group."""
        return len(np.unique(self.group[self.shared[self.member]]))

    @cached_property
    def matrix(self) -> csr_array:
        """(J, n) 1 where a member is in a group."""
        entries = (np.ones(len(self.member)), (self.group, self.member))
        return coo_array(entries, shape=(len(self.groups), len(self.members))).tocsr()

    @cached_property
    def sets(self) -> Array:
        """(J + n,) number of the set that a group, then a member, is in.

        Sets are connected components: groups of different sets share no member, not even by a
        chain of groups. The largest in groups is 0.
        """
        count, total = len(self.groups), len(self.groups) + len(self.members)
        entries = (np.ones(len(self.member)), (self.group, self.member + count))
        links = coo_array(entries, shape=(total, total))
        found = connected_components(links, directed=False)[1]
        order = np.argsort(-np.bincount(found[:count]), kind="stable")
        return np.argsort(order)[found]

    @cached_property
    def set_sizes(self) -> Array:
        """Groups of each set, the largest first."""
        return np.bincount(self.sets[: len(self.groups)])

    @cached_property
    def inseparable(self) -> int:
        """Members who are in exactly the same groups as another member."""
        order = np.lexsort((self.group, self.member))
        ends = np.cumsum(self.spread)[:-1]
        together = Counter(part.tobytes() for part in np.split(self.group[order], ends))
        return sum(number for number in together.values() if number > 1)


def read_memberships(frame: pd.DataFrame, member: str, group: str) -> MembershipFacts:
    """The memberships of a table.

    Parameters
    ----------
    frame : pandas.DataFrame
        With a plain index.
    member, group : str
        Columns of ids.

    Raises
    ------
    DataError
        If a column is not there or cannot hold ids, both are the same, or no row has both ids.
    """
    names = [str(name) for name in frame.columns]
    for name in (member, group):
        if name not in names:
            hint = did_you_mean(name, names, most=3)
            raise DataError(f"The table has no column `{name}`.{hint} Its columns: {_all(names)}.")
    if member == group:
        raise DataError(
            f"The ids of members and of groups are the same column, `{member}`. Name two columns."
        )
    table = Table(frame)
    (members, member_labels), (groups, group_labels) = table[member].codes, table[group].codes
    given = np.flatnonzero((members >= 0) & (groups >= 0))
    if not len(given):
        raise DataError(
            f"No row has both ids: `{member}` is missing in {int((members < 0).sum()):,} and "
            f"`{group}` in {int((groups < 0).sum()):,} of {len(frame):,} rows."
        )
    pairs = groups[given] * max(len(member_labels), 1) + members[given]
    once = np.sort(np.unique(pairs, return_index=True)[1])
    place = given[once]
    # Labels of rows that are no membership, such as groups of nobody, are no units.
    member_codes, in_group = np.unique(members[place], return_inverse=True)
    group_codes, of_member = np.unique(groups[place], return_inverse=True)
    return MembershipFacts(
        member,
        group,
        len(frame),
        place,
        in_group.reshape(-1),
        of_member.reshape(-1),
        member_labels[member_codes],
        group_labels[group_codes],
        int((members < 0).sum()),
        int(((groups < 0) & (members >= 0)).sum()),
        len(given) - len(once),
    )


def _all(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:30])
    return shown + f" and {len(names) - 30} more" * (len(names) > 30)
