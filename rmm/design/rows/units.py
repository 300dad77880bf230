"""Units of one kind (groups, members, nesting units), and the rows in which members stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmm.errors import DataError, quoted, such_cases
from rmm.formula.terms import Formula, MemberBlock
from rmm.tables.read import Array
from rmm.tables.table import Table


@dataclass(frozen=True)
class Units:
    """Units of one kind (groups, members, nesting units): a code per row or group, and labels."""

    code: Array
    labels: Array

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.labels)

    @cached_property
    def first(self) -> Array:
        """Place of the first row or group of each unit that has one, in order of the codes."""
        return np.unique(self.code, return_index=True)[1]


@dataclass(frozen=True)
class Members(Units):
    """The members of one `mm()` block and its R memberships, sorted by group, then member.

    With one kind of members every row of the table is a membership of every block. With several
    kinds (parties and ministers) a row belongs to the blocks whose member id it has: kinds are
    stacked, the ids and covariates of the other kinds missing. `n`, the aggregates of the weight
    function and the weights are those of the block's own rows. A group may have no member of a
    kind: the block's sum is then 0, so that "no minister" is the same as "ministers whose
    covariates are 0"; centre the covariates (``transform="center"``) where it should mean average
    ones. Under constraint 2 the weights sum to the number of groups that have a member of the
    kind: groups without one do not change the weights of the others.

    Attributes
    ----------
    code : (R,) int array
        Member of each membership. Blocks of the same roles (`cor =`) have the same labels: those
        of the members of all of them.
    rows : (R,) int array
        Position of each membership in `Grouped.table`.
    group : (R,) int array
        Group of each membership; sorted.
    start : (J+1,) int array
        Row pointer of the groups; a group without a member of this kind has an empty segment.
    table : Table
        The block's rows; its row pointer is `segments`.
    """

    rows: Array
    group: Array
    start: Array
    table: Table

    @cached_property
    def present(self) -> Array:
        """(J,) whether each group has a member of this kind."""
        return np.diff(self.start) > 0

    @property
    def everywhere(self) -> bool:
        """Whether every group has one."""
        return bool(self.present.all())

    @cached_property
    def segments(self) -> Array:
        """(G+1,) row pointer of the G groups that have a member of this kind."""
        return without_empty(self.start)

    @cached_property
    def size(self) -> Array:
        """(R,) `n`: number of members of this kind in the group of each membership."""
        return np.diff(self.start)[self.group].astype(float)


def without_empty(start: Array) -> Array:
    """A row pointer without the segments that are empty."""
    return start[np.append(True, np.diff(start) > 0)]


def find_members(block: MemberBlock, table: Table, groups: Units, kinds: int) -> Members:
    """The members of a block: its rows are those where its member id is not missing.

    Parameters
    ----------
    block : MemberBlock
    table : Table
        In canonical order.
    groups : Units
    kinds : int
        Number of kinds of members in the formula, for the error message.

    Raises
    ------
    DataError
        If a member is twice in one group.
    """
    every, labels = table[block.member].codes
    rows = np.flatnonzero(every >= 0)
    code, group = every[rows], groups.code[rows]
    order = np.lexsort((code, group))
    rows, start = rows[order], np.searchsorted(group, np.arange(groups.count + 1)).astype(np.int64)
    members = Members(
        code=code[order],
        labels=labels,
        rows=rows,
        group=group[order],
        start=start,
        table=table.some(rows, without_empty(start)),
    )
    _check_once(block, members, groups, kinds)
    return members


def share_members(formula: Formula, members: tuple[Members, ...]) -> tuple[Members, ...]:
    """The members of each block; blocks of the same roles (`cor =`) have the same members.

    These are the members of all of them, by their ids: a member who has one of the roles only has
    an effect in the others, too.
    """
    out = list(members)
    for places in role_blocks(formula):
        every = union([members[i].labels for i in places])
        place = {label: code for code, label in enumerate(every)}
        for i in places:
            code = np.array([place[label] for label in members[i].labels], dtype=np.int64)
            out[i] = replace(members[i], code=code[members[i].code], labels=every)
    return tuple(out)


def role_blocks(formula: Formula) -> Iterator[tuple[int, ...]]:
    """Places of the blocks of each name in `cor =`."""
    names = [block.roles for block in formula.members]
    for name in dict.fromkeys(n for n in names if n is not None):
        yield tuple(i for i, n in enumerate(names) if n == name)


def union(labels: list[Array]) -> Array:
    """All ids of several lists, sorted; ids of different types by type."""
    found = dict.fromkeys(label for own in labels for label in own)
    try:
        ordered = sorted(found)
    except TypeError:
        ordered = sorted(found, key=lambda label: (type(label).__name__, str(label)))
    out = np.empty(len(ordered), dtype=object)
    out[:] = ordered
    return out


def check_roles(formula: Formula, members: tuple[Members, ...]) -> None:
    """Raise `DataError` for roles (`cor =`) that no member has together with another role.

    Parameters
    ----------
    formula : Formula
    members : tuple of Members
        Of each block, before `share_members`.
    """
    for places in role_blocks(formula):
        for i in places:
            others = [j for j in places if j != i]
            known = {label for j in others for label in members[j].labels}
            if known.isdisjoint(members[i].labels):
                raise _no_common_members(formula, members, i, others)


def _no_common_members(
    formula: Formula, members: tuple[Members, ...], place: int, others: list[int]
) -> DataError:
    block, other = formula.members[place], formula.members[others[0]]
    own = members[place].labels
    columns = ", ".join(dict.fromkeys(f"`{formula.members[j].member}`" for j in others))
    texts = {str(label) for j in others for label in members[j].labels}
    if any(str(label) in texts for label in own):
        hint = "Some ids are the same but for their type, numbers or text: use one type."
    else:
        hint = (
            f"`cor = {block.roles}` is for members who have several roles, with the same id in "
            "each. Check the ids, or leave `cor =` out."
        )
    return DataError(
        f"No member of column `{block.member}` is also in {columns}, so effects in the roles of "
        f"`cor = {block.roles}` cannot be matched. For example, {quoted(own[0])} is in "
        f"`{block.member}` and {quoted(members[others[0]].labels[0])} in `{other.member}`. {hint}"
    )


def _check_once(block: MemberBlock, members: Members, groups: Units, kinds: int) -> None:
    pairs = members.group * members.count + members.code  # sorted
    if (np.diff(pairs) > 0).all():
        return
    values, counts = np.unique(pairs, return_counts=True)
    twice = values[counts > 1]
    group, member = divmod(int(twice[0]), members.count)
    stack = (
        " With several mm() blocks, each row must be one membership of one block; the member ids "
        "of the other blocks are missing in this row."
    )
    raise DataError(
        f"Group {quoted(groups.labels[group])} (column `{block.group}`) has several rows for "
        f"member {quoted(members.labels[member])} (column `{block.member}`). "
        f"{such_cases(len(twice))} If a row was repeated by mistake, drop the copy. If the member "
        "belongs to the group several times, keep one row and put the number of times in a column, "
        "for example `times`. Then use this column in the weights: fn(w ~ times), or multiply your "
        "weight function by `times`." + stack * (kinds > 1)
    )
