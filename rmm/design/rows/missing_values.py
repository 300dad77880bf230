"""Missing values, on request: groups that have any are dropped whole, counted and reported."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.design.rows.group_rows import oriented
from rmm.errors import DataError, SpecificationWarning, counted
from rmm.formula.parse_formula import check_columns, columns_of
from rmm.formula.terms import DURATIONS, Formula
from rmm.tables.read import Array
from rmm.tables.table import Table

WAYS = ("error", "drop", "impute")
_SHOWN = 5  # labels in a sentence


@dataclass(frozen=True)
class Dropped:
    """What was left out.

    Attributes
    ----------
    unit : str
        What a dropped unit is: ``"group"``, ``"stratum"`` or, without `mm()`, ``"row"``.
    units : tuple
        Labels of the dropped units; numbers of rows (from 1).
    total : int
        How many units there were.
    rows : int
        Rows of the table that they had.
    columns : mapping
        Column -> number of missing values in it.
    """

    unit: str
    units: tuple[Any, ...]
    total: int
    rows: int
    columns: Mapping[str, int]

    def __str__(self) -> str:
        plural = {"stratum": "strata"}.get(self.unit, f"{self.unit}s")
        what = ", ".join(f"{name}: {count}" for name, count in self.columns.items())
        return (
            f"{len(self.units)} of {self.total} {plural} dropped "
            f"({self.rows} {'row' if self.rows == 1 else 'rows'}; missing {what})"
        )


def drop_incomplete(formula: Formula, frame: pd.DataFrame) -> tuple[pd.DataFrame, Dropped | None]:
    """The table without the groups that miss a value in a used column.

    Dropping a row alone would change its group: its size, its weights, its members' effects. The
    memberships of all other groups stay as they are. Of choices whole strata go, since an
    alternative less is another choice.

    Parameters
    ----------
    formula : Formula
        As written: `id()` may be the wrong way round.
    frame : pandas.DataFrame

    Returns
    -------
    frame : pandas.DataFrame
        With the row numbers of the user's table as its index.
    dropped : Dropped or None
        None where nothing is missing.

    Raises
    ------
    DataError
        If a group's id is missing (nobody can say which group to drop), or nothing is left.

    Warns
    -----
    SpecificationWarning
        How many groups are dropped, and for which columns.
    """
    check_columns(formula, list(frame.columns))
    incomplete, counts = _incomplete(formula, frame)
    if not incomplete.any():
        return frame, None
    if incomplete.all():
        raise DataError(
            "Every row has a missing value, so nothing is left to fit. Missing values by column: "
            f"{_counted(counts)}."
        )
    unit, ids = _units(formula, frame, incomplete)
    bad = pd.unique(ids[incomplete])
    gone = ids.isin(bad).to_numpy()
    total = int(ids.nunique())
    if total - len(bad) < 2:
        raise DataError(
            f'missing="drop" would leave only {total - len(bad)} of {total} '
            f"{'strata' if unit == 'stratum' else unit + 's'}. Missing values by column: "
            f"{_counted(counts)}. Impute them, or leave the column out of the model."
        )
    dropped = Dropped(unit, tuple(bad.tolist()), total, int(gone.sum()), counts)
    some = ", ".join(str(v) for v in dropped.units[:_SHOWN])
    more = ", ..." if len(bad) > _SHOWN else ""
    warnings.warn(
        f"{dropped}: {unit} {some}{more}.{_slots(formula, counts)} The results are valid "
        "for all units only if values are missing at random.",
        SpecificationWarning,
        stacklevel=5,
    )
    return frame[~gone], dropped


def _slots(formula: Formula, counts: Mapping[str, int]) -> str:
    """A word on member ids that are missing: a row may be no membership at all."""
    empty = [b.member for b in formula.members if b.member in counts and not formula.kinds]
    if not empty:
        return ""
    return (
        f" If the rows without `{empty[0]}` come from empty cells of a wide table, they are not "
        "memberships. Then drop only these rows with "
        f'data.dropna(subset=["{empty[0]}"]); no group is lost.'
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"`{name}`: {count}" for name, count in counts.items())


def _incomplete(formula: Formula, frame: pd.DataFrame) -> tuple[Array, dict[str, int]]:
    """Rows that miss something they need, and how often each column is missing there.

    With several kinds of members a row needs one of them, and what belongs to those it has.
    """
    missing = frame[list(columns_of(formula))].isna()
    if formula.outcome.open_columns:  # one of the two times is enough
        neither = missing[[*formula.outcome.open_columns]].all(axis=1)
        for name in formula.outcome.open_columns:
            missing[name] = neither
    if formula.kinds:
        given = frame[list(dict.fromkeys(formula.kinds))].notna()
        needed = pd.DataFrame(False, index=missing.index, columns=missing.columns)
        needed[list(columns_of(replace(formula, members=())))] = True
        for block, kind in zip(formula.members, formula.kinds, strict=True):
            own = [c for c in columns_of(replace(formula, members=(block,))) if c != kind]
            for column in own:
                needed[column] |= given[kind]
        nobody = ~given.any(axis=1)
        for kind in given.columns:
            needed[kind] |= nobody
        missing = missing & needed
    counts = {str(name): int(n) for name, n in missing.sum().items() if n}
    return missing.any(axis=1).to_numpy(), counts


def _units(formula: Formula, frame: pd.DataFrame, incomplete: Array) -> tuple[str, pd.Series]:
    """What is dropped, and the unit of each row."""
    if not formula.members:
        unit, ids = "row", pd.Series(np.arange(1, len(frame) + 1), index=frame.index)
    else:
        with warnings.catch_warnings():  # said when the rest is read
            warnings.simplefilter("ignore", SpecificationWarning)
            group = oriented(formula, Table(frame[~incomplete])).members[0].group
        unknown = int(frame[group].isna().sum())
        if unknown:
            raise DataError(
                f"Column `{group}`, the group id, has {counted(unknown, 'missing value')}. "
                'missing="drop" cannot help here: it drops whole groups, and without the id it is '
                "not known which group a row belongs to. Fill in the id. If a row is not "
                "part of any group, for example an empty line, drop it."
            )
        unit, ids = "group", frame[group]
    if not formula.strata or formula.outcome.kind in DURATIONS:
        return unit, ids
    strata = frame[list(formula.strata)].apply(tuple, axis=1)
    if len(formula.strata) == 1:
        strata = frame[formula.strata[0]]
    for name in formula.strata:
        if not frame[name].isna().any():
            continue
        missing = counted(int(frame[name].isna().sum()), "missing value")
        raise DataError(
            f"Column `{name}`, the id of the choice sets, has {missing}. "
            'missing="drop" cannot help here: it drops whole choice sets, and without the id it is '
            "not known which choice set a row belongs to. Fill in the id. If a row is not part of "
            "any choice set, for example an empty line, drop it."
        )
    return "stratum", strata
