"""A table whose columns are read once: numbers, codes and levels are computed for all rows.

Some rows of it, in any order, are again a `Table`; their numbers and codes are taken from those
of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError
from rmm.tables.read import (
    Array,
    check_category_column,
    check_complete_column,
    codes,
    describe_disguise,
    describe_values,
    first_varying,
    is_plain_number,
    numeric,
    plain_labels,
    refuse_disguise,
    without_order,
)

_CLOSE = 4  # times the number of rows: the range in which places are counted


@dataclass(frozen=True, eq=False)
class SourceColumn:
    """A column of all rows, and what is computed of it.

    Attributes
    ----------
    given : pandas.Series or array
        An array is of NumPy's numbers or truth values; `name` names it.
    name : str
    """

    given: pd.Series | Array
    name: str = ""

    @cached_property
    def series(self) -> pd.Series:
        """The column as pandas has it."""
        given = self.given
        return pd.Series(given, name=self.name) if isinstance(given, np.ndarray) else given

    @property
    def dtype(self) -> Any:
        """Its type: pandas' or NumPy's."""
        return self.given.dtype

    @cached_property
    def plain(self) -> bool:
        """Whether it is of NumPy's numbers or truth values."""
        return isinstance(self.given, np.ndarray) or is_plain_number(self.given)

    @cached_property
    def text(self) -> bool:
        """Whether it is of pandas' type of text."""
        return isinstance(self.dtype, pd.StringDtype)

    @cached_property
    def values(self) -> Array:
        """(rows,) NumPy's numbers, else Python objects."""
        if isinstance(self.given, np.ndarray):
            return self.given
        return self.given.to_numpy() if self.plain else np.asarray(self.given.astype(object))

    @cached_property
    def numbers(self) -> Array | None:
        """(rows,) numbers; None if it is not numeric."""
        if isinstance(self.given, np.ndarray):
            return self.given.astype(float, copy=False)
        return numeric(self.given)

    @cached_property
    def missing(self) -> Array:
        """(rows,) whether a value is missing."""
        if self.plain:
            return np.isnan(self.values)
        return self.series.isna().to_numpy()

    @cached_property
    def places(self) -> tuple[Array, Array]:
        """(rows,) places among the different values, and these, as they appear."""
        return pd.factorize(self.values, use_na_sentinel=False)

    @cached_property
    def codes(self) -> tuple[Array, Array]:
        """(rows,) codes, -1 where a value is missing, and labels, sorted."""
        if self.plain and self.values.dtype.kind != "f":
            labels, code = _distinct(self.values)
            return code.astype(np.int64), labels.astype(object)
        try:
            place, different = self.places
            given = np.flatnonzero(~pd.isna(different))
            labels, order = np.unique(different[given], return_inverse=True)
        except TypeError:
            raise without_order(self.name, self.values[~self.missing]) from None
        number = np.full(len(different), -1, dtype=np.int64)
        number[given] = order
        return number[place], labels.astype(object)


def _distinct(values: Array) -> tuple[Array, Array]:
    """`np.unique` with the inverse, three times as fast for whole numbers that lie close."""
    if values.dtype.kind == "i" and len(values):
        low, high = int(values.min()), int(values.max())
        if high - low < _CLOSE * len(values):
            place = values.astype(np.int64) - low
            there = np.zeros(high - low + 1, dtype=bool)
            there[place] = True
            labels = (np.flatnonzero(there) + low).astype(values.dtype)
            return labels, (np.cumsum(there) - 1)[place]
    labels, code = np.unique(values, return_inverse=True)
    return labels, code


@dataclass(frozen=True, eq=False)
class TableColumn:
    """A column of some rows; None means all rows.

    Attributes
    ----------
    source : SourceColumn
    rows : int array or None
    """

    source: SourceColumn
    rows: Array | None

    def _own(self, values: Array) -> Array:
        return values if self.rows is None else values[self.rows]

    @property
    def name(self) -> str:
        """The column's name."""
        return self.source.name

    @cached_property
    def series(self) -> pd.Series:
        """The column as pandas has it, with the user's row numbers."""
        series = self.source.series
        return series if self.rows is None else series.iloc[self.rows]

    @property
    def dtype(self) -> Any:
        """Its type: pandas' or NumPy's."""
        return self.source.dtype

    @cached_property
    def numbers(self) -> Array | None:
        """(rows,) numbers; None if it is not numeric (text, categories, dates)."""
        found = self.source.numbers
        if found is None and self.rows is not None and self.dtype == object:
            return numeric(self.series)  # objects that are no numbers may be in other rows
        return None if found is None else self._own(found)

    @cached_property
    def missing(self) -> Array:
        """(rows,) whether a value is missing."""
        return self._own(self.source.missing)

    @cached_property
    def objects(self) -> Array:
        """(rows,) values as Python objects."""
        return self._own(self.source.values).astype(object)

    @cached_property
    def comparable(self) -> Array:
        """(rows,) values that are equal where those of the column are."""
        source = self.source
        return self._own(source.values if source.plain else source.places[0])

    @cached_property
    def codes(self) -> tuple[Array, Array]:
        """(rows,) codes, -1 where a value is missing, and sorted labels of those in the rows."""
        try:
            every, labels = self.source.codes
        except DataError:
            if self.rows is None:
                raise
            return self._own_codes()  # values of other types may be in other rows
        code = self._own(every)
        there = np.zeros(len(labels), dtype=bool)
        there[code[code >= 0]] = True
        if not there.all():
            code, labels = np.where(code < 0, -1, (np.cumsum(there) - 1)[code]), labels[there]
        return code, plain_labels(self.name, labels)

    def _own_codes(self) -> tuple[Array, Array]:
        code = np.full(len(self.series), -1, dtype=np.int64)
        code[~self.missing], labels = codes(self.series[~self.missing])
        return code, labels

    @cached_property
    def different(self) -> Array:
        """Different values, as they appear."""
        place, different = self.source.places
        if self.rows is None:
            return different
        own = place[self.rows]
        return different[own[np.sort(np.unique(own, return_index=True)[1])]]

    @cached_property
    def disguise(self) -> str:
        """What the values are but categories, for a message; empty if they are none."""
        if self.source.text:
            return describe_values(list(self.different))
        return describe_disguise(self.series)

    def varying(self, unit: Array) -> int | None:
        """The first unit within which values differ, as `rmm.tables.read.first_varying`."""
        return first_varying(self.comparable, unit)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a user's table.

    Attributes
    ----------
    given : pandas.DataFrame or mapping
        All rows; the frame's index is the user's row number (0-based). Or column -> array of
        NumPy's numbers, of 64 bits each, or Series of anything else, with rows 0, 1, ...
    sources : dict
        Column -> what was computed of it, filled as columns are asked for.
    rows : int array or None
        Which rows, in which order; None for all.
    start : int array or None
        Row pointer of the groups; None where each row is one.
    computed : dict
        Values that were computed of these rows, by what they were computed from.
    """

    given: pd.DataFrame | Mapping[str, pd.Series | Array]
    sources: dict[str, SourceColumn] = field(default_factory=dict)
    rows: Array | None = None
    start: Array | None = None
    computed: dict[Any, Any] = field(default_factory=dict)
    _columns: dict[str, TableColumn] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._every_index) if self.rows is None else len(self.rows)

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def __getitem__(self, name: str) -> TableColumn:
        if name not in self._columns:
            if name not in self.sources:
                self.sources[name] = SourceColumn(self.given[name], name)
            self._columns[name] = TableColumn(self.sources[name], self.rows)
        return self._columns[name]

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return [str(name) for name in self.given]

    @cached_property
    def _every_index(self) -> Array:
        """The user's number of all rows."""
        if isinstance(self.given, pd.DataFrame):
            return self.given.index.to_numpy()
        return np.arange(len(next(iter(self.given.values()))))

    @cached_property
    def index(self) -> Array:
        """(rows,) the user's row numbers, 0-based."""
        return self._every_index if self.rows is None else self._every_index[self.rows]

    @cached_property
    def pointer(self) -> Array:
        """Row pointer of the groups, or of the rows where each is one."""
        return np.arange(len(self) + 1) if self.start is None else self.start

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as pandas has them."""
        every = self.given if isinstance(self.given, pd.DataFrame) else pd.DataFrame(self.given)
        return every if self.rows is None else every.iloc[self.rows]

    def some(self, rows: Array, start: Array | None = None) -> Table:
        """Some of these rows: their numbers (int) or whether each is one (bool)."""
        own = np.flatnonzero(rows) if rows.dtype == bool else rows
        own = own if self.rows is None else self.rows[own]
        return Table(self.given, self.sources, own, start)


def check_complete(table: Table, columns: Iterable[str]) -> None:
    """Raise `DataError` for missing or infinite values in the used columns."""
    for name in columns:
        column = table[name]
        if column.source.plain:
            numbers = column.comparable
            complete = numbers.dtype.kind != "f" or bool(np.isfinite(numbers).all())
        else:
            complete = column.source.text and not column.missing.any() and _is_clean(column)
        if not complete:
            check_complete_column(column.series)


def _is_clean(column: TableColumn) -> bool:
    """Whether texts are without NUL and are Unicode, as far as is seen at once."""
    return all(text.isascii() and "\0" not in text for text in column.different)


def check_category(label: str, column: TableColumn) -> None:
    """Raise `DataError` for dates and numbers in disguise, which are no categories."""
    if column.source.text:
        refuse_disguise(label, column.disguise)
    else:
        check_category_column(label, column.series)
