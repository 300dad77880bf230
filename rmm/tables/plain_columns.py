"""Columns in plain types: what `fit` computes with, and what a saved fit can hold."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from rmm.errors import DataError, counted

#: R's missing whole number, which becomes a value where a table comes from R without NumPy.
_MISSING_IN_R = -(2**31)
_EXACT = 2.0**53  # from here on floats skip whole numbers
_ID_TYPES = "text, bytes, whole numbers, numbers, true and false, dates, periods or intervals"
#: Types of which one alone may be in an id column that pandas holds as Python objects.
_KINDS: tuple[tuple[type, ...], ...] = (
    (str,),
    (bytes,),
    (bool, np.bool_),
    (numbers.Real, Decimal),
    (datetime.date,),
    (datetime.timedelta,),
    (pd.Period,),
    (pd.Interval,),
)


def simplify_columns(
    frame: pd.DataFrame, used: Iterable[str], ids: Collection[str]
) -> pd.DataFrame:
    """A frame with its used columns in plain types.

    Python objects become numbers, dates or intervals where all are; columns of pyarrow, sparse,
    big-endian and half-precision ones become NumPy's; categories that are intervals or dates
    become text. Whole numbers stay whole where some are missing, and beyond 64 bits.

    Parameters
    ----------
    frame : pandas.DataFrame
    used : iterable of str
        Those that the frame lacks are left out.
    ids : collection of str
        Columns of ids.

    Returns
    -------
    pandas.DataFrame
        A new frame.

    Raises
    ------
    DataError
        For ids of other types, of several types in one column, or that numbers cannot hold, and
        for R's missing whole number.
    """
    out = frame.copy(deep=False)
    for name in used:
        if name in frame.columns:
            given = frame[name]
            column = _simplify(given)
            _refuse_missing_of_r(name, column)
            column = _as_ids(column) if name in ids else _as_numbers(column)
            if column is not given:
                out[name] = column
    return out


def _refuse_missing_of_r(name: str, column: pd.Series) -> None:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "i":
        count = int((column == _MISSING_IN_R).sum())
        if count:
            raise DataError(
                f"Column `{name}` contains {_MISSING_IN_R} ({counted(count, 'row')}), which is how "
                "R stores a missing whole number. Replace it by a missing value. In R, convert the "
                'column with as.numeric(), or pass a file of write.csv(..., na = "").'
            )


def _simplify(column: pd.Series) -> pd.Series:
    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return _simplify(_from_arrow(column))
    if isinstance(dtype, pd.SparseDtype):
        return _with(column, np.asarray(column))
    if isinstance(dtype, pd.CategoricalDtype):
        return _with_text_categories(column)
    if isinstance(dtype, np.dtype) and dtype.kind in "iufcmM":
        values = column.to_numpy()
        if not dtype.isnative:
            values = values.astype(dtype.newbyteorder("="))
        if dtype.kind == "f" and dtype.itemsize not in (4, 8):
            values = values.astype(float)
        return column if values.dtype == dtype and dtype.isnative else _with(column, values)
    return _from_objects(column) if pd.api.types.is_object_dtype(dtype) else column


def _with(column: pd.Series, values: Any) -> pd.Series:
    return pd.Series(values, index=column.index, name=column.name)


def _from_arrow(column: pd.Series) -> pd.Series:
    values = pyarrow.array(column).to_pandas(integer_object_nulls=True)
    return _with(
        column,
        np.asarray(values, dtype=values.dtype)
        if isinstance(values.dtype, np.dtype)
        else values.array,
    )


def _with_text_categories(column: pd.Series) -> pd.Series:
    """A category whose levels are numbers of one type or text; others, such as dates, as text."""
    levels = list(column.cat.categories)
    plain = all(isinstance(v, str | numbers.Real) for v in levels)
    texts = [str(value) for value in levels]
    if plain or len(set(texts)) < len(texts):
        return column
    return column.cat.rename_categories(texts)


def _from_objects(column: pd.Series) -> pd.Series:
    """Python objects of one kind in the type that pandas has for them."""
    there = column[column.notna()]
    if len(there) == 0:
        return column
    if all(isinstance(v, numbers.Real | Decimal) for v in there):
        return _numbers(column, there)
    try:
        return column.infer_objects()
    except (TypeError, ValueError, OverflowError):
        return column


def _numbers(column: pd.Series, there: pd.Series) -> pd.Series:
    flags = [isinstance(v, bool | np.bool_) for v in there]
    if all(flags):
        return column.astype("bool" if len(there) == len(column) else "boolean")
    if any(flags):
        return column
    if all(isinstance(v, numbers.Integral) for v in there):
        low, high = int(min(there)), int(max(there))
        kind = "int64" if low >= -(2**63) and high < 2**63 else "uint64"
        if kind == "uint64" and (low < 0 or high >= 2**64):
            return column
        given = len(there) == len(column)
        values = [None if pd.isna(v) else int(v) for v in column]
        kind = kind if given else {"int64": "Int64", "uint64": "UInt64"}[kind]
        return pd.Series(values, index=column.index, name=column.name, dtype=kind)
    try:
        floats = there.map(float)
    except OverflowError:
        return column
    if floats.nunique() < there.nunique():  # more digits than a float has
        return column
    return floats.reindex(column.index)


def _as_numbers(column: pd.Series) -> pd.Series:
    """True and false beside other numbers as 1 and 0; other columns unchanged."""
    if not pd.api.types.is_object_dtype(column.dtype):
        return column
    there = column[column.notna()]
    if not len(there):
        return column
    flags = [isinstance(v, bool | np.bool_) for v in there]
    if not any(flags) or not all(isinstance(v, numbers.Real) for v in there):
        return column
    try:
        return there.map(float).reindex(column.index)
    except OverflowError:
        return column


def _as_ids(column: pd.Series) -> pd.Series:
    """A column of ids, or `DataError`."""
    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "iub"):
        return column
    there = column[column.notna()]
    if isinstance(column.dtype, pd.CategoricalDtype):
        there = there.astype(object)
    _check_exact(there)
    if there.dtype == object:
        types = {type(v) for v in there}
        if not any(all(issubclass(t, kind) for t in types) for kind in _kinds_of(types)):
            raise _wrong_ids(there, types)
    elif pd.api.types.is_complex_dtype(there.dtype):
        raise _wrong_ids(there, {complex})
    return column


def _kinds_of(types: set[type]) -> Iterable[tuple[type, ...]]:
    for kind in _KINDS:
        if kind == (numbers.Real, Decimal) and types & {bool, np.bool_}:
            continue  # True is 1 to Python, but not to a person
        yield kind


def _wrong_ids(there: pd.Series, types: set[type]) -> DataError:
    first = there.iloc[0]
    others = [v for v in there if type(v) is not type(first)]
    if len(types) > 1 and others:
        return DataError(
            f"Column `{there.name}` contains ids of types {type(first).__name__} and "
            f"{type(others[0]).__name__}, such as {first!r} and {others[0]!r}. All ids must be of "
            "one type: convert the column to text or to numbers."
        )
    return DataError(
        f"Column `{there.name}` contains ids of type {type(first).__name__}, such as {first!r} in "
        f"row {int(there.index[0]) + 1}. Ids must be {_ID_TYPES}. Convert them, for example with "
        ".astype(str)."
    )


def _check_exact(there: pd.Series) -> None:
    """Floats that are ids are told apart only up to 2^53."""
    if not pd.api.types.is_float_dtype(there.dtype):
        return
    values = there.to_numpy(dtype=float)
    large = np.isfinite(values) & (np.abs(values) >= _EXACT)
    if large.any():
        row = int(there.index[int(np.argmax(large))]) + 1
        raise DataError(
            f"The ids in column `{there.name}` are floating-point numbers. "
            f"{counted(int(large.sum()), 'id is', 'ids are')} so large (row {row}: "
            f"{values[large][0]:.17g}) that different ids may have become the same number. Read "
            "the column as whole numbers or as text."
        )
