"""AR(1) processes of members in time, `ar = ar1(time)`: occasions, and the times between them.

An occasion is a member at a time. The effects of a member i at its times t_1 < t_2 < ... have the
standard deviation sigma_l1 and the correlations rho_l1^|t - s|, so that

    u[i, t_k] | u[i, t_(k-1)] ~ normal(r u[i, t_(k-1)], sigma_l1 sqrt(1 - r^2)),
    r = rho_l1^(t_k - t_(k-1)),

the continuous-time AR(1) process (Jones 1981, in Applied Time Series Analysis II, 651-682). Groups
of a member at the same time have one occasion, and so the same effect of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmm.design.members.random_walks import warn_of_text_order
from rmm.design.rows.units import Members
from rmm.errors import DataError, SpecificationWarning, quoted
from rmm.formula.terms import MemberBlock
from rmm.tables.read import Array, first_varying
from rmm.tables.table import Table

#: Median time between occasions outside of which a unit of time is not one that a uniform prior of
#: `rho_l1` suits: beyond ten units most of the prior has correlations below 1e-3, and below a tenth
#: of a unit above .8.
_UNITS = (0.1, 10.0)


@dataclass(frozen=True, eq=False)
class OccasionSeries:
    """The occasions of one block, sorted by member, then time.

    Attributes
    ----------
    effect : (M,) int array
        Occasion of each membership.
    member : (N,) int array
        Member of each occasion.
    time : (N,) array
        Its time; without a time column its number among those of its member, from 1.
    """

    effect: Array
    member: Array
    time: Array

    @cached_property
    def count(self) -> int:
        """Number of occasions, N."""
        return len(self.time)

    @cached_property
    def first(self) -> Array:
        """(N,) bool: whether it is the first of its member."""
        return np.append(True, np.diff(self.member) != 0)[: self.count]

    @cached_property
    def gap(self) -> Array:
        """(N,) time since the occasion before it; infinite for a first one, so that rho^gap = 0."""
        return np.where(self.first, np.inf, np.diff(self.time, prepend=np.nan))

    @cached_property
    def place(self) -> Array:
        """(N,) number among the occasions of its member, from 0."""
        number = np.arange(self.count)
        return number - np.maximum.accumulate(np.where(self.first, number, 0))

    def some(self, rows: Array) -> OccasionSeries:
        """All occasions, of some memberships."""
        return replace(self, effect=self.effect[rows])

    def effects(self, innovations: Array, rho: Array) -> Array:
        """(S, N) effects of independent innovations (S, N), all with the effects' sd; rho (S,)."""
        out = np.array(innovations)
        for place in range(1, int(self.place.max(initial=0)) + 1):
            here = np.flatnonzero(self.place == place)
            r, rest = correlation(rho[:, None], self.gap[here])
            out[:, here] = r * out[:, here - 1] + rest * innovations[:, here]
        return out

    def labels(self, members: Array) -> list[str]:
        """Labels of the occasions: member, time."""
        pairs = zip(self.member, self.time, strict=True)
        return [f"{members[member]}, {time:.15g}" for member, time in pairs]


def correlation(rho: Array, gap: Array) -> tuple[Array, Array]:
    """rho^gap, and sqrt(1 - rho^(2 gap)) to full precision; rho in [0, 1), gap >= 0 or infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(rho) * gap
    log = np.where(gap == 0, 0.0, np.where(np.isinf(gap), -np.inf, log))
    return np.exp(log), np.sqrt(-np.expm1(2 * log))


def between(rho: Array, before: float, after: float) -> tuple[Array, Array, Array]:
    """The distribution of an effect with sd 1 given the member's next ones in time.

    Parameters
    ----------
    rho : (S,) array
    before, after : float
        Time since the effect before, and to the one after; infinite if there is none.

    Returns
    -------
    (S,) coefficients of both effects, and the standard deviation.
    """
    (left, own_left), (right, own_right) = (
        correlation(rho, np.array(gap)) for gap in (before, after)
    )
    _, both = correlation(rho, np.array(before + after))
    return (
        left * (own_right / both) ** 2,
        right * (own_left / both) ** 2,
        own_left * own_right / both,
    )


@dataclass(frozen=True, eq=False)
class Steps:
    """Entries of the matrix L with effects u = L e of independent innovations e.

    Entry (i, j) is rho^lag sqrt(1 - rho^(2 gap)): `lag` is the time from occasion j to i of the
    same member, `gap` that of j. Equal entries are computed once.

    Attributes
    ----------
    membership, column : (E,) int arrays
        A membership, and an occasion that its effect depends on.
    value : (E,) int array
        Place in `lag` and `gap`.
    lag : (V,) array
    gap : (V,) int array
        Place in `gaps`.
    gaps : (G,) array
    """

    membership: Array
    column: Array
    value: Array
    lag: Array
    gap: Array
    gaps: Array

    def values(self, rho: Array) -> Array:
        """(S, V) different values of rho (S,)."""
        _, rest = correlation(rho[:, None], self.gaps)
        return np.asarray(rho[:, None] ** self.lag * rest[:, self.gap])


def find_steps(series: OccasionSeries) -> Steps:
    """The entries of L in the rows of the occasions of all memberships."""
    length = series.place[series.effect] + 1
    membership = np.repeat(np.arange(len(series.effect)), length)
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    occasion = series.effect[membership]
    column = occasion - series.place[occasion] + step
    pairs = np.column_stack([series.time[occasion] - series.time[column], series.gap[column]])
    different, value = np.unique(pairs, axis=0, return_inverse=True)
    gaps, gap = np.unique(different[:, 1], return_inverse=True)
    return Steps(membership, column, value.reshape(-1), different[:, 0], gap.reshape(-1), gaps)


def find_series(
    block: MemberBlock,
    table: Table,
    units: Members,
    groups: Array,
    fitted: OccasionSeries | None = None,
) -> OccasionSeries | None:
    """The occasions of a block with `ar = ar1()`; None for another one.

    Parameters
    ----------
    block : MemberBlock
    table : (M, ...) Table
        The rows of the block's memberships.
    units : Members
        The block's memberships.
    groups : (J,) array
        Labels of the groups.
    fitted : OccasionSeries, optional
        For new groups: that of the fit. Without a time column they come after its last ones.

    Raises
    ------
    DataError
        If the time column is no number or varies within a group, or no member has two occasions.

    Warns
    -----
    SpecificationWarning
        If the order is that of group ids which are text, and the text is no running number; if the
        unit of time is far from the time between occasions.
    """
    if block.series is None:
        return None
    name = block.series.time
    time = _order(units, fitted) if name is None else _times(name, block, table, units, groups)
    pairs = np.column_stack([units.code, time])
    different, effect = np.unique(pairs, axis=0, return_inverse=True)
    found = OccasionSeries(effect.reshape(-1), different[:, 0].astype(np.int64), different[:, 1])
    if fitted is None:
        if name is None:
            warn_of_text_order(block, groups, "ar = ar1()", "ar = ar1(time)")
        _check(found, block, name)
    return found


def _order(units: Members, fitted: OccasionSeries | None) -> Array:
    """(M,) number of each membership among those of its member, in the order of the groups."""
    sequence = np.lexsort((units.group, units.code))
    count = np.bincount(units.code, minlength=units.count)
    order = np.empty(len(sequence))
    order[sequence] = np.arange(len(sequence)) - np.repeat(np.cumsum(count) - count, count) + 1.0
    if fitted is not None:
        order += np.bincount(fitted.member, minlength=units.count)[units.code]
    return order


def _times(name: str, block: MemberBlock, table: Table, units: Members, groups: Array) -> Array:
    column = table[name]
    time = column.numbers
    if time is None:
        raise DataError(
            f"The time column of `ar = ar1({name})` must contain numbers, because correlations "
            f"depend on the time between groups. In the first row it is {column.series.iloc[0]!r}. "
            f"Convert `{name}` to a number, such as the year, or use the order of the groups: "
            "ar = ar1()."
        )
    varying = first_varying(time, units.group) if len(time) else None
    if varying is not None:
        raise DataError(
            f"The time column of `ar = ar1({name})` varies within group "
            f"{quoted(groups[varying])} (column `{block.group}`). It must be the same in all rows "
            "of a group."
        )
    return time


def _check(found: OccasionSeries, block: MemberBlock, name: str | None) -> None:
    written = f"ar = ar1({name or ''})"
    gaps = found.gap[~found.first]
    if not len(gaps):
        when = f" at two times (column `{name}`)" if name else ""
        raise DataError(
            f"No member (column `{block.member}`) is in two groups{when}, so `{written}` has no "
            "effect. Leave `ar =` out."
        )
    median = float(np.median(gaps))
    if not _UNITS[0] <= median <= _UNITS[1]:
        favoured = "independent" if median > 1 else "constant"
        warnings.warn(
            f"`{written}`: the median time between two occasions of a member is {median:.3g} units "
            f"of `{name}`, and `rho_l1` is the correlation at one unit. Its default prior, "
            f"uniform(0, 1), then favours effects that are nearly {favoured}. Divide `{name}` by "
            f"about {median:.1g}, so that the unit is close to the usual time between occasions, "
            "or give `rho_l1` a beta prior.",
            SpecificationWarning,
            stacklevel=2,
        )
