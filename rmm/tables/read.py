"""The user's table: reading it, and the errors about what is wrong with it."""

from __future__ import annotations

import datetime
import numbers
import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, counted, first_row
from rmm.tables.csv_files import TEXT_ENDINGS
from rmm.tables.data_files import READERS, from_arrow, read_file
from rmm.tables.text_values import describe_texts

Array = np.ndarray[Any, Any]

#: Differences that are rounding: in parts of the range of all values, and of a value itself.
_RANGE, _ROUNDING = 1e-12, 16 * float(np.finfo(float).eps)


def read_table(
    data: Any,
    *,
    ids: Collection[str] = (),
    text: Collection[str] = (),
    na: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A pandas frame from whatever the user has.

    Parameters
    ----------
    data : pandas or polars frame, pyarrow.Table, mapping of columns, or path
        `rmm.tables.data_files` lists the files that are read.
    ids : collection of str
        Columns of ids, whose cells in a text file are kept as written unless all are whole
        numbers without leading zeros.
    text : collection of str
        Columns whose cells in a text file are kept as written.
    na : sequence of str, optional
        Texts that mean a missing value in a text file, besides the empty cell.

    Returns
    -------
    pandas.DataFrame
        A new frame with a plain 0..M-1 index; the input is not changed.

    Raises
    ------
    DataError
        If it cannot be read, or has no rows.
    """
    frame = _frame(data, ids, text, _check_na(na))
    if frame.columns.nlevels > 1:
        raise DataError(
            f"The column names of the table have {frame.columns.nlevels} levels, such as "
            f"{frame.columns[0]!r}. Give each column one name: frame.columns = [...]."
        )
    try:
        frame.columns = frame.columns.map(str)
    except UnicodeEncodeError:  # half a surrogate pair: text that no file can hold
        raise DataError(
            "The name of a column contains characters that are not valid text. Rename the column."
        ) from None
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"The table has two columns named `{repeated[0]}`. Rename one of them.")
    if len(frame) == 0:
        raise DataError("The table has no rows.")
    return _native(frame).reset_index(drop=True)


def _native(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame in the machine's byte order, without which pandas takes no rows."""
    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, np.dtype) and not dtype.isnative:
            values = frame[name].to_numpy().astype(dtype.newbyteorder("="))
            frame[name] = pd.Series(values, index=frame.index)
    return frame


def _check_na(na: Any) -> tuple[str, ...] | None:
    if na is None:
        return None
    listed = isinstance(na, list | tuple | set | frozenset)
    if not listed or not all(isinstance(text, str) for text in na):
        raise DataError(
            f'`na` must be a list of texts that mean a missing value, such as ["NA"], not {na!r}.'
        )
    return tuple(na)


def _frame(
    data: Any, ids: Collection[str], text: Collection[str], na: tuple[str, ...] | None
) -> pd.DataFrame:
    if isinstance(data, str | os.PathLike):
        return read_file(Path(data), ids, text, na)
    if na is not None:
        raise DataError(
            "`na` can be used only if `data` is the path of a text file. In a data frame, replace "
            "the codes of missing values before the fit: frame.replace({...: None})."
        )
    if isinstance(data, pd.DataFrame):
        return data.copy(deep=False)
    if hasattr(data, "to_arrow"):  # polars frame
        return from_arrow(data.to_arrow())
    if hasattr(data, "to_pandas"):  # PyArrow table, and others
        arrow = type(data).__module__.startswith("pyarrow")
        return from_arrow(data) if arrow else pd.DataFrame(data.to_pandas())
    if isinstance(data, Mapping):
        try:
            return pd.DataFrame(dict(data))
        except ValueError as error:
            raise DataError(
                f"The columns of `data` cannot be combined into a table: {error}."
            ) from None
    lazy = " It is lazy: call collect() first." if hasattr(data, "collect") else ""
    raise DataError(
        f"`data` cannot be of type `{type(data).__name__}`.{lazy} Give a pandas or polars data "
        "frame, a PyArrow table, a dict of columns, or the path of a file "
        f"({', '.join((*TEXT_ENDINGS, *READERS))})."
    )


def check_complete_column(column: pd.Series) -> None:
    """Raise `DataError` for missing or infinite values, and for cells that hold several values."""
    _check_single(column)
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"Column `{column.name}` has {_counted(missing, 'missing')}"
            f"{_place(column, missing)}. Impute missing values. Or leave out the groups that have "
            'them; rmm.fit(..., missing="drop") does so. Do not drop single rows: this would '
            "change the groups."
        )
    values = numeric(column)
    if values is not None:
        infinite = np.isinf(values)
        if infinite.any():
            raise DataError(
                f"Column `{column.name}` has {_counted(infinite, 'infinite')}"
                f"{_place(column, infinite)}."
            )


def is_plain_number(column: pd.Series) -> bool:
    """Whether a column is of NumPy's whole numbers, floats or truth values."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf"


def _check_single(column: pd.Series) -> None:
    """Raise `DataError` for cells that hold several values, or text that no file can hold."""
    if column.dtype == object:
        found = {type(v).__name__ for v in column if not isinstance(v, Hashable)}
        if found:
            raise DataError(
                f"Column `{column.name}` contains values of type {', '.join(sorted(found))}. Each "
                "cell must be one number or one text."
            )
    values: Any = column
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = column.cat.categories
    elif not (column.dtype == object or pd.api.types.is_string_dtype(column.dtype)):
        return
    for value in pd.unique(values):
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            what = "the character NUL" if "\0" in value else "text that is not Unicode"
            row = int(column.index[int(np.argmax((column == value).to_numpy()))]) + 1
            raise DataError(
                f"Column `{column.name}` contains {what} in row {row}: {ascii(value)[:80]}. Read "
                "the file with its own encoding, or replace the character."
            )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a surrogate by itself
        return False
    return True


def _counted(flags: Array, what: str) -> str:
    """`2 missing values`."""
    return counted(int(flags.sum()), f"{what} value")


def _place(column: pd.Series, flags: Array) -> str:
    return first_row(int(flags.sum()), _row(column, flags))


def _row(column: pd.Series, flags: Array) -> int:
    """1-based number of the first flagged row, as a person counts the rows of the whole table."""
    return int(column.index[int(np.argmax(flags))]) + 1


def codes(column: pd.Series) -> tuple[Array, Array]:
    """Sorted integer codes and labels of an id column.

    Returns
    -------
    codes : (M,) int array
    labels : (units,) object array
    """
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biu":
        labels, indices = np.unique(column.to_numpy(), return_inverse=True)
        return indices.reshape(-1).astype(np.int64), labels.astype(object)
    values = np.asarray(column.astype(object))
    try:  # few labels are faster to sort than all values
        place, different = pd.factorize(values, use_na_sentinel=False)
        labels, number = np.unique(different, return_inverse=True)
    except TypeError:
        raise without_order(str(column.name), values) from None
    return number.reshape(-1)[place].astype(np.int64), plain_labels(str(column.name), labels)


def without_order(name: str, values: Array) -> DataError:
    """The error about a column whose values cannot be sorted."""
    kinds = sorted({type(v).__name__ for v in values})
    return DataError(
        f"Column `{name}` contains values of types {', '.join(kinds)}, which cannot be sorted "
        "together. Convert the column to text or to numbers."
    )


def plain_labels(name: str, labels: Array) -> Array:
    """Labels of a column as people write them: whole floats without their `.0`."""
    if any(isinstance(v, tuple | list) for v in labels[:1]):
        raise DataError(
            f"Column `{name}` contains lists, but ids and categories must be single values."
        )
    if all(isinstance(v, float) and v.is_integer() for v in labels):
        return np.array([int(v) for v in labels], dtype=object)
    return np.asarray(labels, dtype=object)


def first_varying(values: Array, unit: Array) -> int | None:
    """Index of the first unit within which `values` are not constant, or None.

    Numbers that differ by the rounding of their computation only are the same: by 1e-12 of the
    range of all values, or 16 units in the last place.

    Parameters
    ----------
    values : (M,) array of any type
    unit : (M,) int array of unit codes 0..U-1
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        array = pd.factorize(array, use_na_sentinel=False)[0]
    units = int(unit.max()) + 1
    first = np.empty(units, dtype=np.int64)
    first[unit[::-1]] = np.arange(len(unit))[::-1]
    different = array != array[first[unit]]
    if not different.any():
        return None
    if array.dtype.kind != "f":
        return int(unit[different].min())
    lowest, highest = np.full(units, np.inf), np.full(units, -np.inf)
    np.minimum.at(lowest, unit, array)
    np.maximum.at(highest, unit, array)
    with np.errstate(over="ignore"):
        whole = _RANGE * (float(array.max()) - float(array.min()))
        last = _ROUNDING * np.maximum(np.abs(lowest), np.abs(highest))
        varying = np.flatnonzero(highest - lowest > np.maximum(whole, last))
    return int(varying[0]) if len(varying) else None


def numeric(column: pd.Series) -> Array | None:
    """The column as float64, or None if it is not numeric (text, categories, dates)."""
    if isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype):
        return None
    if is_plain_number(column):
        return column.to_numpy(dtype=float)
    if pd.api.types.is_complex_dtype(column.dtype):
        raise DataError(f"Column `{column.name}` contains complex numbers, which cannot be used.")
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=np.nan)
    if column.dtype == object and all(isinstance(v, numbers.Real | Decimal) for v in column):
        try:
            return np.array([float(v) for v in column])
        except OverflowError:
            raise DataError(
                f"Column `{column.name}` contains whole numbers that are too large. Divide the "
                "column by a constant."
            ) from None
    return None


_DATES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64, pd.Period)


def is_dated(column: pd.Series) -> bool:
    """Whether a column holds dates, times, periods or durations."""
    dtype = column.dtype
    if isinstance(dtype, pd.PeriodDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "mM"):
        return True
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return True
    return pd.api.types.is_object_dtype(dtype) and any(isinstance(v, _DATES) for v in column)


def describe_column(column: pd.Series) -> str:
    """What a column that is not numeric holds, for a message: ``"dates"``, ``"text, ..."``."""
    if is_dated(column):
        return f"dates or durations, such as {column.iloc[0]}"
    texts = [v for v in column.unique() if isinstance(v, str)]
    if not texts:
        return f"values such as {column.iloc[0]!r}"
    return describe_texts(texts) or f"text, such as {texts[0]!r}"


def describe_disguise(column: pd.Series) -> str:
    """What the texts of a column are but categories, for a message; empty if they are none."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return ""
    return describe_values(list(column.unique()))


def describe_values(values: list[Any]) -> str:
    """What different texts are but categories, for a message; empty if they are none."""
    found = describe_texts(v for v in values if isinstance(v, str))
    if not found and all(map(_looks_numeric, values)):
        found = f"numbers written as text, such as {values[0]!r}"
    return found


def check_category_column(label: str, column: pd.Series) -> None:
    """Raise `DataError` for dates and numbers in disguise, which are no categories."""
    if is_dated(column):
        raise DataError(
            f"The predictor `{label}` contains dates or durations, such as {column.iloc[0]}. "
            f"Convert it to numbers, such as days or years. If each value is a category, write "
            f"factor({label})."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = set(column.unique())
        _check_labels(label, [v for v in column.cat.categories if v in present])
        return
    refuse_disguise(label, describe_disguise(column))


def refuse_disguise(label: str, found: str) -> None:
    """Raise `DataError` for a predictor whose texts are no categories: see `describe_values`."""
    if found:
        raise DataError(
            f"The predictor `{label}` contains {found}. Convert it to numbers"
            f"{', such as days or years' * ('dates' in found)}. If the values are categories, "
            f"write factor({label})."
        )


def _check_labels(label: str, levels: list[Any]) -> None:
    """A column with labels for some of its values is neither a number nor a category."""
    texts = [v for v in levels if isinstance(v, str)]
    rest = [v for v in levels if isinstance(v, numbers.Real)]
    if texts and rest:
        raise DataError(
            f"The predictor `{label}` contains both numbers, such as {rest[0]:g}, and texts, such "
            f"as {texts[0]!r}. In files of SPSS and Stata, this happens if only some of the values "
            "have labels. If the variable is numeric, replace the texts by missing values or "
            "numbers. If its values are categories, convert all of them to text."
        )


def _looks_numeric(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
