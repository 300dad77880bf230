"""Columns that are arrays already, such as simulated ones, as a `Table` without data frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import Array, read_table
from rmm.tables.table import Table

_PLAIN = (np.dtype(np.int64), np.dtype(np.float64))


def table_of_arrays(
    columns: Mapping[str, Array], used: Collection[str], ids: Collection[str]
) -> Table:
    """The same as a table of the data frame with these columns.

    Whole numbers and floats need no reading. Where one of the used columns holds anything else,
    such as ids that are texts, or ids that are floats, all are read as those of a user.

    Parameters
    ----------
    columns : mapping
        Name -> (rows,) array.
    used : collection of str
        Columns of the formula.
    ids : collection of str
        Those of them that are ids.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        As `rmm.tables.read.read_table` and `simplify_columns`.
    """
    if all(_is_plain(columns[name], name in ids) for name in used if name in columns):
        return Table(columns)
    return Table(simplify_columns(read_table(columns, ids=ids), used, ids))


def _is_plain(values: Array, is_id: bool) -> bool:
    """Whether a column stays as it is when it is read; ids that are floats are checked then."""
    return values.dtype in (_PLAIN[:1] if is_id else _PLAIN) and len(values) > 0
