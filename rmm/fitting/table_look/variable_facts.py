"""What a column of a table describes: members, groups or memberships; and how it varies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, counted, printable
from rmm.fitting.table_look.membership_facts import MembershipFacts
from rmm.tables.read import Array, describe_disguise, is_dated, numeric
from rmm.tables.table import Table, TableColumn

#: Levels, in the order in which they are listed.
GROUP, MEMBER, MEMBERSHIP, BOTH, CONSTANT, UNUSABLE = (
    "group",
    "member",
    "membership",
    "member and group",
    "constant",
    "unusable",
)
LEVELS = (GROUP, BOTH, MEMBER, MEMBERSHIP, CONSTANT, UNUSABLE)
_WHOLE = re.compile(r"whole numbers, (\d+) to (\d+)")
_MOST_CODES = 10
_FLAT = 1e-9  # of the variance: means of groups that are equal but for rounding


@dataclass(frozen=True)
class Variable:
    """One column that holds no ids.

    Attributes
    ----------
    name : str
    level : str
        ``"group"``: the same in all rows of a group. ``"member"``: the same in all rows of a
        member. ``"member and group"``: both, such as the country of parties and their governments.
        ``"membership"``: neither. ``"constant"``: one value. ``"unusable"``: values of no use.
    holds : str
        What its values are, in words.
    kind : str
        What a model can take it as: ``"number"``, ``"category"``, or ``""``: as neither.
    different : int
        Number of different values.
    missing : int
        Memberships without a value.
    incomplete : int
        Groups that such memberships are in.
    varies : int or None
        Groups within which it varies; None for levels at which it cannot.
    within : float or None
        Share of the variance over memberships that is within groups, for numbers.
    means_differ : bool
        Whether the means of groups differ; True if it is not a number.
    """

    name: str
    level: str
    holds: str
    kind: str
    different: int
    missing: int
    incomplete: int
    varies: int | None = None
    within: float | None = None
    means_differ: bool = True

    @property
    def codes(self) -> bool:
        """Whether the values may be codes of categories: whole numbers from 0 or 1 on, a few."""
        found = _WHOLE.fullmatch(self.holds)
        if found is None or not 3 <= self.different <= _MOST_CODES:
            return False
        low, high = int(found[1]), int(found[2])
        return low in (0, 1) and high - low + 1 == self.different


def describe_variables(frame: pd.DataFrame, seen: MembershipFacts) -> tuple[Variable, ...]:
    """Facts of all columns but those of ids, by level.

    Parameters
    ----------
    frame : pandas.DataFrame
        With columns in plain types.
    seen : MembershipFacts
    """
    table = Table(frame).some(seen.place)
    ids = (seen.member_column, seen.group_column)
    found = [_describe(table[name], seen) for name in table.names if name not in ids]
    return tuple(sorted(found, key=lambda variable: LEVELS.index(variable.level)))


def _describe(column: TableColumn, seen: MembershipFacts) -> Variable:
    series = column.series
    given = series.notna().to_numpy()
    there, group = series[given], seen.group[given]
    lacking = (int((~given).sum()), len(np.unique(seen.group[~given])))
    try:
        code, different = pd.factorize(there)
        numbers = numeric(there)
        holds, kind = _holds(there, numbers, different) if len(there) else ("no values", "")
    except TypeError:  # lists and other values that cannot be compared
        holds = f"values of type {type(there.iloc[0]).__name__}"
        return Variable(column.name, UNUSABLE, holds, "", len(there), *lacking)
    except DataError as error:
        return Variable(column.name, UNUSABLE, _reason(error), "", len(there), *lacking)
    level = _level(column, given, seen, len(different))
    facts = (column.name, level, holds, kind, len(different), *lacking)
    if level not in (MEMBER, MEMBERSHIP):
        return Variable(*facts)
    varies = len(different_within(code, group))
    if numbers is None or not np.isfinite(numbers).all():
        return Variable(*facts, varies)
    within = within_share(numbers, group)
    return Variable(*facts, varies, within, within < 1 - _FLAT)


def _level(column: TableColumn, given: Array, seen: MembershipFacts, different: int) -> str:
    if different < 2:
        return CONSTANT if different else UNUSABLE
    rows = np.flatnonzero(given) if column.rows is None else column.rows[given]
    own = TableColumn(column.source, rows)
    in_groups = own.varying(_ranks(seen.group[given])) is None
    in_members = own.varying(_ranks(seen.member[given])) is None
    if in_groups and in_members and seen.shared.any():
        return BOTH
    return GROUP if in_groups else MEMBER if in_members else MEMBERSHIP


def _ranks(code: Array) -> Array:
    """Codes 0, 1, ... of the units that are there."""
    return np.unique(code, return_inverse=True)[1].reshape(-1)


def different_within(code: Array, group: Array) -> Array:
    """Groups in which several codes are."""
    pairs = np.unique(np.stack([group, code]), axis=1)[0]
    return np.flatnonzero(np.bincount(pairs) > 1)


def within_share(values: Array, group: Array) -> float:
    """Share of the variance of values that is within groups: 1 - (between) / (total) squares."""
    scaled = values - values.mean()
    largest = float(np.abs(scaled).max())
    scaled = scaled / (largest or 1.0)  # squares of large numbers overflow
    count = np.bincount(group)
    means = np.bincount(group, scaled) / np.maximum(count, 1)
    total = float(np.sum(scaled**2))
    return float(np.sum((scaled - means[group]) ** 2) / total) if total > 0 else 0.0


def _holds(there: pd.Series, numbers: Array | None, different: Any) -> tuple[str, str]:
    """What the values are, in words, and what a model can take them as."""
    if len(different) == 1:
        return f"only {_shown(different[0])}", ""
    if isinstance(there.dtype, pd.CategoricalDtype):
        return f"{counted(len(different), 'category', 'categories')}", "category"
    if is_dated(there):
        return f"dates, {_shown(there.min())} to {_shown(there.max())}", ""
    if numbers is None:
        disguise = printable(describe_disguise(there))
        return (
            disguise or f"text, {counted(len(different), 'value')}",
            "" if disguise else "category",
        )
    if not np.isfinite(numbers).all():
        return "numbers, some infinite", ""
    if pd.api.types.is_bool_dtype(there.dtype):
        return "true or false", "number"
    whole = bool(np.all(numbers == np.round(numbers)))
    return f"{'whole ' * whole}numbers, {numbers.min():.4g} to {numbers.max():.4g}", "number"


def _shown(value: Any) -> str:
    text = str(value)
    text = text.removesuffix(" 00:00:00")
    return printable(text if len(text) <= 30 else f"{text[:27]}...")


def _reason(error: DataError) -> str:
    """What is wrong with a column, without its name."""
    return str(error).partition(". ")[0].partition("` contains ")[2] or "values of no use"
