"""Columns that are arrays already, such as simulated ones, as a `Table` without data frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import Array, read_table
from rmm.tables.table import SourceColumn, Table

_PLAIN = (np.dtype(np.int64), np.dtype(np.float64))


def table_of_arrays(
    columns: Mapping[str, Array],
    ids: Collection[str],
    known: Mapping[str, SourceColumn] | None = None,
) -> Table:
    """The same as a table of the data frame with these columns.

    Parameters
    ----------
    columns : mapping
        Name -> (rows,) array.
    ids : collection of str
        Columns of ids.
    known : mapping, optional
        Columns that are the same in several tables, of `source_column`; `columns` has them too.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        As `rmm.tables.read.read_table` and `simplify_columns`.
    """
    sources = dict(known or {})
    for name, values in columns.items():
        if name not in sources:
            sources[name] = source_column(name, values, is_id=name in ids)
    return Table({name: sources[name].given for name in columns}, sources)


def source_column(name: str, values: Array, *, is_id: bool) -> SourceColumn:
    """A column in plain types.

    Whole numbers and floats need no reading; anything else, such as texts, or ids that are
    floats, is read as a user's.
    """
    if values.dtype in (_PLAIN[:1] if is_id else _PLAIN) and len(values):
        return SourceColumn(values, name)
    ids = [name] if is_id else []
    frame = simplify_columns(read_table({name: values}, ids=ids), [name], ids)
    return SourceColumn(frame[name], name)
