"""The user's table: reading it, and the letters about what is wrong with it."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Hashable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError
from rmm.r_files import read_frames

Array = np.ndarray[Any, Any]


def read_table(data: Any) -> pd.DataFrame:
    """A pandas frame from whatever the user has.

    Parameters
    ----------
    data : pandas or polars frame, pyarrow.Table, mapping of columns, or path
        A path ends in .csv, .parquet, .rda or .RData.

    Returns
    -------
    pandas.DataFrame
        A new frame with a plain 0..M-1 index; the input is not changed.

    Raises
    ------
    DataError
        If it cannot be read, or has no rows.
    """
    frame = _frame(data)
    try:
        frame.columns = frame.columns.map(str)
    except UnicodeEncodeError:  # half a surrogate pair: text that no file can hold
        raise DataError("A column's name holds characters that are no text. Rename it.") from None
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"The table has two columns named `{repeated[0]}`. Rename one of them.")
    if len(frame) == 0:
        raise DataError("The table has no rows.")
    return frame.reset_index(drop=True)


def _frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data.copy(deep=False)
    if isinstance(data, (str, Path)):
        return _from_file(Path(data))
    if hasattr(data, "to_pandas"):  # polars frame, PyArrow table
        return pd.DataFrame(data.to_pandas())
    if isinstance(data, dict):
        try:
            return pd.DataFrame(data)
        except ValueError as error:
            raise DataError(f"The columns do not make a table: {error}.") from None
    raise DataError(
        f"Data of type `{type(data).__name__}` cannot be read. Give a pandas or polars frame, "
        "a PyArrow table, a dict of columns, or the path of a .csv, .parquet or .rda file."
    )


def _from_file(path: Path) -> pd.DataFrame:
    readers: dict[str, Callable[[Path], Any]] = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".rda": _from_rda,
        ".rdata": _from_rda,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a file ending in {', '.join(readers)} was expected.")
    if not os.path.isfile(path):  # False, too, for what cannot be a path
        raise DataError(f"{path}: there is no such file (looked from {Path.cwd()}).")
    try:
        return pd.DataFrame(reader(path))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: the file cannot be read: {error}") from error


def _from_rda(path: Path) -> pd.DataFrame:
    frames = read_frames(path)
    if len(frames) != 1:
        raise DataError(
            f"{path}: one data frame was expected, {len(frames)} were found: "
            f"{', '.join(frames) or 'none'}."
        )
    return next(iter(frames.values()))


def check_complete(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise `DataError` for missing or infinite values in the used columns."""
    for name in columns:
        column = frame[name]
        _check_single(column)
        missing = column.isna().to_numpy()
        if missing.any():
            raise DataError(
                f"Column `{name}` has {_counted(missing, 'missing')}; the first is in row "
                f"{_row(column, missing)}. Impute them, or leave their groups out whole, "
                'as rmm.fit(missing="drop") does (a row less would change its group).'
            )
        values = numeric(column)
        if values is not None:
            infinite = np.isinf(values)
            if infinite.any():
                raise DataError(
                    f"Column `{name}` has {_counted(infinite, 'infinite')}; the first is in row "
                    f"{_row(column, infinite)}."
                )


def _check_single(column: pd.Series) -> None:
    """Raise `DataError` for cells that hold several values, or text that no file can hold."""
    if column.dtype == object:
        found = {type(v).__name__ for v in column if not isinstance(v, Hashable)}
        if found:
            raise DataError(
                f"Column `{column.name}` holds values of type {', '.join(sorted(found))}: each "
                "cell is one number or one text."
            )
        for row, value in zip(column.index, column, strict=True):
            if isinstance(value, str) and not value.isascii() and not _is_unicode(value):
                raise DataError(
                    f"Column `{column.name}` holds text that is not Unicode, in row {row + 1}: "
                    f"{ascii(value)[:80]}. Read the file with the encoding that it has."
                )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a surrogate by itself
        return False
    return True


def _counted(flags: Array, what: str) -> str:
    """`2 missing values`."""
    count = int(flags.sum())
    return f"{count} {what} value{'s' if count > 1 else ''}"


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
    values = column.astype(object).to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = np.asarray(column.astype(object))
    try:
        labels, indices = np.unique(values, return_inverse=True)
    except TypeError:
        kinds = sorted({type(v).__name__ for v in values})
        raise DataError(
            f"Column `{column.name}` mixes values of types {', '.join(kinds)}, which have no "
            "order: convert it to text or to numbers."
        ) from None
    if any(isinstance(v, tuple | list) for v in labels[:1]):
        raise DataError(
            f"Column `{column.name}` holds lists: ids and categories are single values."
        )
    return indices.reshape(-1).astype(np.int64), _plain(labels)


def _plain(labels: Array) -> Array:
    """Labels as people write them: whole floats without their `.0`."""
    if all(isinstance(v, float) and v.is_integer() for v in labels):
        return np.array([int(v) for v in labels], dtype=object)
    return np.asarray(labels, dtype=object)


def first_varying(values: Array, unit: Array) -> int | None:
    """Index of the first unit within which `values` are not constant, or None.

    Parameters
    ----------
    values : (M,) array of any type
    unit : (M,) int array of unit codes 0..U-1
    """
    value_codes = pd.factorize(pd.Series(values), use_na_sentinel=False)[0]
    low = np.full(unit.max() + 1, np.iinfo(np.int64).max)
    high = np.full(unit.max() + 1, -1)
    np.minimum.at(low, unit, value_codes)
    np.maximum.at(high, unit, value_codes)
    varying = np.flatnonzero(low < high)
    return int(varying[0]) if len(varying) else None


def numeric(column: pd.Series) -> Array | None:
    """The column as float64, or None if it is not numeric (text, categories, dates)."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return None
    if pd.api.types.is_complex_dtype(column.dtype):
        raise DataError(f"Column `{column.name}` holds complex numbers.")
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=np.nan)
    if column.dtype == object and all(isinstance(v, numbers.Real | Decimal) for v in column):
        try:
            return np.array([float(v) for v in column])
        except OverflowError:
            raise DataError(
                f"Column `{column.name}` holds whole numbers that are too large: divide them by a "
                "constant."
            ) from None
    return None


def check_category(label: str, column: pd.Series) -> None:
    """Raise `DataError` for dates and numbers in disguise, which are no categories."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise DataError(
            f"The predictor `{label}` is a date, which is no number and no category: make it a "
            "number (days, years) or a text."
        )
    values = list(column.unique())
    if isinstance(column.dtype, pd.CategoricalDtype) or not all(map(_looks_numeric, values)):
        return
    raise DataError(
        f"The predictor `{label}` holds numbers written as text, such as {values[0]!r}: convert it "
        "to numbers, or to a pandas category if it names categories."
    )


def _looks_numeric(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
