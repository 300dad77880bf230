"""Autoregressive member effects: the order in which a member's memberships follow each other."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from rmm.design.rows.units import Members
from rmm.errors import DataError, SpecificationWarning, quoted, such_cases
from rmm.formula.terms import MemberBlock
from rmm.tables.read import Array, codes, first_varying, numeric
from rmm.tables.table import Table


@dataclass(frozen=True)
class Walk:
    """The random walks of the members of one block over their memberships.

    A member's effect in its first membership is one step from 0, in each later one a step from
    the membership before. With memberships sorted by member, then time, the effect of membership
    r is the sum of the steps ``begin[r]`` to ``place[r]``.

    Attributes
    ----------
    place : (M,) int array
        Place of each membership in the order by member, then time; 0-based.
    begin : (M,) int array
        Place of the first membership of its member.
    effect, previous : (M,) int arrays
        Number of each membership's effect, and of the effect before it (-1 for a first one).
    """

    place: Array
    begin: Array
    effect: Array
    previous: Array

    @property
    def order(self) -> Array:
        """(M,) number of each membership among those of its member, from 1."""
        return self.place - self.begin + 1

    def some(self, rows: Array) -> Walk:
        """The walks at some memberships; effects keep their numbers."""
        return Walk(self.place[rows], self.begin[rows], self.effect[rows], self.previous[rows])


@dataclass(frozen=True)
class LastEffects:
    """Where the random walks of a fit end, so that they can go on in new groups.

    Attributes
    ----------
    effects : int
        Number of effects of the fit, M.
    count : (members,) int array
        Number of memberships of each member.
    effect : (members,) int array
        Number of the member's last effect.
    group : (members,) array
        Label of the group of its last membership.
    time : (members,) pandas.Series or None
        Time of its last membership; None where the order is that of the groups.
    """

    effects: int
    count: Array
    effect: Array
    group: Array
    time: pd.Series | None

    def times(self, members: Array) -> pd.Series | None:
        """Last times of some members."""
        return None if self.time is None else self.time.iloc[members]


def find_last_effects(
    block: MemberBlock, table: Table, units: Members, groups: Array, walk: Walk
) -> LastEffects:
    """The last effect of each member of a fit; parameters are those of `find_walk`."""
    count = np.bincount(units.code, minlength=units.count)
    sequence = np.argsort(walk.place)
    last = sequence[np.cumsum(count) - 1]
    name, time = block.autoregressive, None
    if isinstance(name, str):
        time = table[name].series.iloc[last].reset_index(drop=True)
    return LastEffects(len(units.code), count, last, groups[units.group[last]], time)


def find_walk(block: MemberBlock, table: Table, units: Members, groups: Array) -> Walk | None:
    """The walks of a block with `ar =`; None for independent effects.

    Time is the column that `ar =` names, else the order of the group ids. Only the order counts:
    whatever lies between two memberships of a member, it is one step.

    Parameters
    ----------
    block : MemberBlock
    table : (M, ...) Table
        The rows of the block's memberships.
    units : Members
        The block's memberships.
    groups : (J,) array
        Labels of the groups.

    Raises
    ------
    DataError
        If the time column is no number or date, varies within a group, or is the same in two
        memberships of a member.

    Warns
    -----
    SpecificationWarning
        If the order is that of group ids which are text, and the text is no running number.
    """
    if block.autoregressive is False:
        return None
    if isinstance(block.autoregressive, str):
        time = _time(block.autoregressive, block, table, units, groups)
    else:
        time = units.group
        warn_of_text_order(block, groups, "ar = TRUE", "ar = time")
    sequence = np.lexsort((time, units.code))
    if len(sequence) == units.count:
        raise DataError(
            f"No member (column `{block.member}`) is in two groups, so `ar =` has no effect. Leave "
            "`ar =` out."
        )
    return _walk(sequence, units.code)


def continue_walk(
    block: MemberBlock, table: Table, units: Members, groups: Array, last: LastEffects
) -> Walk:
    """The walks of a fit's members, and of new ones, in new groups.

    Parameters are those of `find_walk`, and the end of the fit's walks. Members have the codes
    that they have in the fit, new ones those that follow. Effects are counted on from those of the
    fit.

    Raises
    ------
    DataError
        If a group is not after all groups of the fit that its members are in, or as `find_walk`.
    """
    count = len(last.count)
    if isinstance(block.autoregressive, str):
        time = _later_times(block, block.autoregressive, table, units, groups, last)
    else:
        time = units.group
    sequence = np.lexsort((time, units.code))
    own = _walk(sequence, units.code)
    before = np.zeros(units.count, dtype=np.int64)
    before[:count] = last.count
    total = before + np.bincount(units.code, minlength=units.count)
    begin = (np.cumsum(total) - total)[units.code]
    place = begin + before[units.code] + own.order - 1
    previous = np.where(own.previous >= 0, own.previous + last.effects, -1)
    goes_on = np.flatnonzero((own.previous < 0) & (units.code < count))
    previous[goes_on] = last.effect[units.code[goes_on]]
    return Walk(place, begin, own.effect + last.effects, previous)


def _later_times(
    block: MemberBlock,
    name: str,
    table: Table,
    units: Members,
    groups: Array,
    last: LastEffects,
) -> Array:
    """(M,) ranks of the new groups' times, which must be after those of the fit's members."""
    met = np.unique(units.code[units.code < len(last.count)])
    column = table[name].series
    if len(met):
        times = last.times(met)
        assert times is not None
        column = pd.concat([times, column]).rename(name)
    ranks = _ranks(name, column)
    before, time = ranks[: len(met)], ranks[len(met) :]
    _check_groups(name, time, block, units, groups)
    known = np.flatnonzero(np.isin(units.code, met))
    behind = time[known] - before[np.searchsorted(met, units.code[known])]
    early = known[behind <= 0]
    if len(early):
        row = early[0]
        member = units.code[row]
        where = "at the time of" if behind[behind <= 0][0] == 0 else "before"
        raise DataError(
            f"New group {quoted(groups[units.group[row]])} is {where} group "
            f"{quoted(last.group[member])} of the fit (column `{name}`). Both groups have member "
            f"{quoted(units.labels[member])} (column `{block.member}`). With "
            "`ar =`, a new group must be later than all groups of its members in the fit."
        )
    _check_ties(name, time, table[name].series, block, units, groups)
    return time


def _walk(sequence: Array, member: Array) -> Walk:
    """The walks of memberships that are in order by `sequence`."""
    place = np.empty(len(sequence), dtype=np.int64)
    place[sequence] = np.arange(len(sequence))
    first = np.append(True, np.diff(member[sequence]) != 0)
    begin = np.maximum.accumulate(np.where(first, np.arange(len(sequence)), 0))
    previous = np.where(first, -1, np.roll(sequence, 1))
    return Walk(place, begin[place], np.arange(len(sequence)), previous[place])


def _time(
    name: str,
    block: MemberBlock,
    table: Table,
    units: Members,
    groups: Array,
) -> Array:
    """(M,) ranks of the time column, checked."""
    time = _ranks(name, table[name].series)
    _check_groups(name, time, block, units, groups)
    _check_ties(name, time, table[name].series, block, units, groups)
    return time


def _ranks(name: str, column: pd.Series) -> Array:
    """Ranks of times: of numbers, dates or ordered categories."""
    dated = pd.api.types.is_datetime64_any_dtype(column.dtype) or all(
        isinstance(value, date) for value in column
    )
    if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered:
        return column.cat.codes.to_numpy().astype(np.int64)
    if dated or numeric(column) is not None:
        return codes(column)[0]
    raise DataError(
        f"The time column of `ar = {name}` must contain numbers, dates or ordered categories. In "
        f"the first row it is {column.iloc[0]!r}. Convert `{name}`, so that its values can be "
        "sorted by time."
    )


def _check_groups(
    name: str, time: Array, block: MemberBlock, units: Members, groups: Array
) -> None:
    varying = first_varying(time, units.group) if len(time) else None
    if varying is not None:
        raise DataError(
            f"The time column of `ar = {name}` varies within group {quoted(groups[varying])} "
            f"(column `{block.group}`). It must be the same in all rows of a group."
        )


def _check_ties(
    name: str,
    time: Array,
    column: pd.Series,
    block: MemberBlock,
    units: Members,
    groups: Array,
) -> None:
    sequence = np.lexsort((time, units.code))
    tied = (np.diff(units.code[sequence]) == 0) & (np.diff(time[sequence]) == 0)
    if not tied.any():
        return
    where, count = int(np.argmax(tied)), int(tied.sum())
    one, other = sequence[where], sequence[where + 1]
    raise DataError(
        f"Member {quoted(units.labels[units.code[one]])} (column `{block.member}`) is in groups "
        f"{quoted(groups[units.group[one]])} and {quoted(groups[units.group[other]])} (column "
        f"`{block.group}`) at the same time: `{name}` is {column.iloc[one]}. "
        f"{such_cases(count)} `ar =` needs an order of the groups of each member. Give a finer "
        "time column, or write ar = TRUE to use the order of the group ids."
    )


def warn_of_text_order(block: MemberBlock, labels: Array, written: str, instead: str) -> None:
    """Text has an alphabetical order, which is seldom that of time: g10 comes before g2.

    Parameters
    ----------
    block : MemberBlock
    labels : (J,) array
        Labels of the groups.
    written, instead : str
        What the formula has, and with a time column.
    """
    if not any(isinstance(label, str) for label in labels):
        return
    texts = [str(label) for label in labels]
    keys = [[int(part) for part in re.findall(r"\d+", text)] for text in texts]
    if all(keys) and keys == sorted(keys):
        return
    warnings.warn(
        f"`{written}` sorts groups by their ids (column `{block.group}`). These ids are text, so "
        f"the order is alphabetical: {texts[0]}, {texts[1]}, ... If this is not the order of time, "
        f"name a time column: {instead}.",
        SpecificationWarning,
        stacklevel=3,
    )
