"""The column of observation weights: how often the likelihood of each group counts."""

from __future__ import annotations

import numpy as np

from rmm.errors import DataError, counted, quoted
from rmm.formula.terms import Formula
from rmm.tables.read import Array, describe_column
from rmm.tables.table import Table


def check_observation_weights(formula: Formula, table: Table) -> None:
    """Raise `DataError` for weights that are no numbers of at least 0, with the group's id.

    Parameters
    ----------
    formula : Formula
    table : (M, ...) Table
    """
    name = formula.observation_weights
    if not name:
        return
    column = table[name]
    if column.numbers is None:
        raise DataError(
            f"The observation weights `{name}` must be numbers, but the column contains "
            f"{describe_column(column.series)} ({_group(formula, table, 0)})."
        )
    values = np.asarray(column.numbers, dtype=float)
    for bad, what in (
        (np.isnan(values), "missing"),
        (np.isinf(values), "infinite"),
        (values < 0, "negative"),
    ):
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(
                f"The observation weight `{name}` is {what} in "
                f"{counted(int(bad.sum()), 'row')}, first of {_group(formula, table, first)}. "
                "Weights must be numbers of at least 0. A weight of 0 leaves out the outcome of a "
                "group."
            )
    if not (values > 0).any():
        raise DataError(
            f"All observation weights `{name}` are 0, so no outcome counts (first "
            f"{_group(formula, table, 0)})."
        )


def _group(formula: Formula, table: Table, row: int) -> str:
    """The group of a row by its id; without `mm()` the user's row."""
    if not formula.members:
        return f"row {int(table.index[row]) + 1}"
    column = formula.members[0].group
    return f"group {quoted(table[column].objects[row])} (column `{column}`)"


def observation_weights(formula: Formula, first_rows: Table) -> Array | None:
    """(J,) weights of the groups; None without a column of weights."""
    name = formula.observation_weights
    if not name:
        return None
    return np.asarray(first_rows[name].numbers, dtype=float)
