"""From a wide table, one row per group, to the long one that models read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmm.arguments import readable, shortened
from rmm.errors import (
    DataError,
    SpecificationWarning,
    counted,
    did_you_mean,
    quoted,
    such_cases,
)
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import read_table

_SHOWN = 5


@readable(DataError)
def to_long(
    table: Any,
    members: Sequence[str],
    covariates: Mapping[str, Sequence[str]] | None = None,
    group: str | None = None,
    *,
    member: str = "member",
    na: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row per membership, from a table with one row per group.

    Parameters
    ----------
    table : frame, table, mapping or path
        One row per group, its members side by side; what `rmm.fit` reads.
    members : sequence of str
        Columns of member ids, one per slot. A slot whose id is missing is empty.
    covariates : mapping of str to sequence of str, optional
        New column -> its columns in the wide table, one per slot, in the order of `members`.
    group : str, optional
        Column of group ids, which must differ between rows; by default groups are numbered from
        1 in a column ``group``.
    member : str
        Name of the new column of member ids.
    na : sequence of str, optional
        Texts that mean a missing value, where `table` is the path of a text file.

    Returns
    -------
    pandas.DataFrame
        Columns `group`, `member`, those of `covariates`, and all other columns of the table,
        repeated in the rows of a group. Rows are in the order of the table, then of the slots;
        empty slots have none.

    Raises
    ------
    DataError
        If a column is missing or used twice, a group id is missing or repeated, or an empty slot
        has a covariate.

    Warns
    -----
    SpecificationWarning
        If groups have no member at all, so that they are left out. If columns that are not in
        `covariates` are numbered as those of `members` are: every member of a group would have the
        values of all slots.

    Examples
    --------
    >>> import rmm
    >>> wide = {
    ...     "gov": ["A", "B"], "party1": ["x", "y"], "party2": ["z", None],
    ...     "seats1": [0.6, 1.0], "seats2": [0.4, None], "days": [300, 900],
    ... }
    >>> rmm.to_long(wide, members=["party1", "party2"],
    ...             covariates={"seats": ["seats1", "seats2"]}, group="gov", member="party")
      gov party  seats  days
    0   A     x    0.6   300
    1   A     z    0.4   300
    2   B     y    1.0   900
    """
    slots, sets = _check_columns(members, {} if covariates is None else covariates)
    for key, name in (("group", group), ("member", member)):
        if not isinstance(name, str) and not (key == "group" and name is None):
            raise DataError(f"`{key}` must be the name of a column, not {shortened(name)}.")
    ids = [*slots, *([group] if group is not None else [])]
    frame = read_table(table, ids=ids, na=na)
    used = [*ids, *(column for columns in sets.values() for column in columns)]
    _check_there(used, frame)
    frame = simplify_columns(frame, used, ids)
    names = _group_ids(frame, group)
    rest = [c for c in frame.columns if c not in used]
    _warn_of_numbered_columns(slots, sets, rest)
    label = group if group is not None else "group"
    new = [label, member, *sets]
    both = [name for name in new if new.count(name) > 1 or name in rest]
    if both:
        raise DataError(
            f"The long table would have two columns named `{both[0]}`. Rename one of them."
        )
    there = frame[slots].notna().to_numpy()  # (groups, slots)
    _check_empty(frame, slots, sets, there)
    rows, slot = np.nonzero(there)
    _warn_of_empty_groups(names, there)
    columns = {label: names.iloc[rows]}
    columns[member] = _stack(member, frame, slots, rows, slot)
    columns |= {name: _stack(name, frame, sets[name], rows, slot) for name in sets}
    columns |= {name: frame[name].iloc[rows] for name in rest}
    return pd.DataFrame({name: values.reset_index(drop=True) for name, values in columns.items()})


def _check_columns(
    members: Any, covariates: Mapping[str, Any]
) -> tuple[list[str], dict[str, list[str]]]:
    if not _is_list(members) or len(members) == 0:
        raise DataError(
            f"`members` must be a list of the columns of member ids, not {shortened(members)}."
        )
    if not isinstance(covariates, Mapping):
        raise DataError(
            "`covariates` must map each name to a list of columns, one for each column in "
            f"`members`, not {shortened(covariates)}."
        )
    slots = [str(name) for name in members]
    sets: dict[str, list[str]] = {}
    for name, columns in covariates.items():
        if not _is_list(columns) or len(columns) != len(slots):
            count = len(columns) if _is_list(columns) else 1
            raise DataError(
                f"The covariate `{name}` has {counted(count, 'column')}, but `members` has "
                f"{len(slots)}. Give one column for each column in `members`, in the same order."
            )
        sets[str(name)] = [str(column) for column in columns]
    twice = [name for name in slots if slots.count(name) > 1]
    if twice:
        raise DataError(
            f"The argument `members` contains the column `{twice[0]}` twice. List it once."
        )
    return slots, sets


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray | pd.Index) and not isinstance(
        value, str | bytes
    )


def _check_there(used: Sequence[str], frame: pd.DataFrame) -> None:
    for name in used:
        if name not in frame.columns:
            hint = did_you_mean(name, list(frame.columns), most=3)
            raise DataError(f"The table has no column `{name}`.{hint}")


def _group_ids(frame: pd.DataFrame, group: str | None) -> pd.Series:
    if group is None:
        return pd.Series(np.arange(1, len(frame) + 1), index=frame.index, name="group")
    names = frame[group]
    if names.isna().any():
        row = int(np.argmax(names.isna().to_numpy())) + 1
        raise DataError(f"The group id (column `{group}`) is missing in row {row}.")
    repeated = names.duplicated()
    if repeated.any():
        raise DataError(
            f"Group {quoted(names[repeated].iloc[0])} (column `{group}`) has several rows, but a "
            "wide table has one row per group. If each row is a membership, the table is already "
            "long: use it as it is, without to_long()."
        )
    return names


def _check_empty(
    frame: pd.DataFrame, slots: list[str], sets: Mapping[str, list[str]], there: Any
) -> None:
    """An empty slot has no covariates: or its id has been lost."""
    for columns in sets.values():
        lost = frame[columns].notna().to_numpy() & ~there
        if lost.any():
            row, slot = (int(i[0]) for i in np.nonzero(lost))
            count = int(lost.sum())
            raise DataError(
                f"In row {row + 1}, `{columns[slot]}` is {frame[columns[slot]].iloc[row]}, but "
                f"`{slots[slot]}` is empty. {such_cases(count)} If the id of the member is "
                "missing, give the member an id. If there is no member, empty the covariate."
            )


def _warn_of_empty_groups(names: pd.Series, there: Any) -> None:
    empty = names[~there.any(axis=1)]
    if len(empty):
        shown = ", ".join(str(v) for v in empty[:_SHOWN]) + ", ..." * (len(empty) > _SHOWN)
        warnings.warn(
            f"Groups without members are left out ({len(empty)} of {len(names)}): {shown}.",
            SpecificationWarning,
            stacklevel=3,
        )


def _warn_of_numbered_columns(
    slots: Sequence[str], sets: Mapping[str, Sequence[str]], rest: Sequence[str]
) -> None:
    found = numbered_sets(slots, rest)
    if not found:
        return
    listed = ", ".join(f"`{column}`" for columns in found.values() for column in columns)
    warnings.warn(
        f"{listed} are numbered like the columns of `members`, but they are not in `covariates`, "
        "so each row of a group has the values of all its members. If they describe the members, "
        f"write {covariates_text({**sets, **found})}.",
        SpecificationWarning,
        stacklevel=4,
    )


def numbered_sets(slots: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that are numbered as the slots are: `seats1`, `seats2` beside `party1`, `party2`.

    Parameters
    ----------
    slots : sequence of str
        Columns of member ids, in their order.
    names : sequence of str
        Other columns.

    Returns
    -------
    dict
        A name for each set -> its columns, in the order of the slots.
    """
    numbers = _numbers_of(slots)
    if numbers is None:
        return {}
    patterns: dict[str, dict[str, str]] = {}
    for name in map(str, names):
        for place in re.finditer(r"\d+", name):
            pattern = f"{name[: place.start()]}\0{name[place.end() :]}"
            patterns.setdefault(pattern, {})[place[0]] = name
    found = {}
    for pattern, columns in patterns.items():
        if set(columns) == set(numbers):
            short = re.sub(r"[ _.-]*\0", "", pattern).strip(" _.-") or pattern.replace("\0", "")
            found[short] = [columns[number] for number in numbers]
    return found


def _numbers_of(slots: Sequence[str]) -> list[str] | None:
    """The numbers in which names differ; None if they differ otherwise."""
    parts = [re.split(r"(\d+)", str(slot)) for slot in slots]
    if len(slots) < 2 or len({len(part) for part in parts}) > 1:
        return None
    differ = [i for i, texts in enumerate(zip(*parts, strict=True)) if len(set(texts)) > 1]
    if len(differ) != 1 or differ[0] % 2 == 0:
        return None
    numbers = [part[differ[0]] for part in parts]
    return numbers if len(set(numbers)) == len(numbers) else None


def covariates_text(sets: Mapping[str, Sequence[str]]) -> str:
    """The argument `covariates` of `to_long` as a user writes it."""
    parts = (f'"{name}": [{_quoted(columns)}]' for name, columns in sets.items())
    return f"covariates={{{', '.join(parts)}}}"


def to_long_text(members: Sequence[str], names: Sequence[str], group: str, table: str) -> str:
    """The call of `to_long` that makes a wide table long, as a user writes it."""
    rest = [name for name in map(str, names) if name not in (*members, group)]
    sets = numbered_sets(members, rest)
    more = f", {covariates_text(sets)}" if sets else ""
    return f'rmm.to_long({table}, members=[{_quoted(members)}], group="{group}"{more})'


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _stack(
    name: str, frame: pd.DataFrame, columns: Sequence[str], rows: Any, slot: Any
) -> pd.Series:
    """The values of one column per slot, one below the other, in one type."""
    texts = {
        c: pd.api.types.is_string_dtype(frame[c].dropna())
        for c in columns
        if frame[c].notna().any()
    }
    if len(set(texts.values())) > 1:
        one = next(c for c, text in texts.items() if text)
        other = next(c for c, text in texts.items() if not text)
        raise DataError(
            f"`{one}` contains text, but `{other}` does not. The values of both go into the new "
            f"column `{name}`. Convert one of the two columns to the type of the other."
        )
    values = np.empty(frame[list(columns)].shape, dtype=object)
    for i, column in enumerate(columns):
        values[:, i] = frame[column].astype(object)
    stacked = pd.Series(values[rows, slot], dtype=object, name=name)
    if all(isinstance(v, float) and v.is_integer() for v in stacked):
        return stacked.astype("int64")  # whole numbers are floats where some are missing
    mixed = simplify_columns(stacked.to_frame(), [name], [])[name]
    whole = pd.api.types.is_float_dtype(mixed.dtype) and bool((mixed.dropna() % 1 == 0).all())
    return mixed.astype("int64") if whole and mixed.notna().all() else mixed
