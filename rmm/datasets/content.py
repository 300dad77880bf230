"""A table's content, in one form whatever file it came from, and its checksum."""

from __future__ import annotations

import hashlib

import pandas as pd


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with columns of four kinds: numbers, true or false, dates, text.

    Numbers in text and whole numbers in floats become numbers and integers, categories their
    labels: what a column is must not depend on the file format or on who read it.
    """
    columns = {str(name): _plain_column(column) for name, column in frame.items()}
    return pd.DataFrame(columns).reset_index(drop=True)


def _plain_column(column: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype(bool)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column.astype("datetime64[s]")
    text = column
    if not pd.api.types.is_numeric_dtype(column.dtype):
        text = column.astype(object).where(column.notna(), None)
    numbers = pd.to_numeric(text, errors="coerce").astype(float)
    if (numbers.isna() & column.notna()).any():
        return text.astype("str")
    whole = bool((numbers.notna() & (numbers % 1 == 0)).all())
    return numbers.astype("int64") if whole else numbers


def checksum(frame: pd.DataFrame) -> str:
    """SHA-256 of a table's content.

    Each row is a line: its cells, in the order of the sorted column names, with a tabulator
    between them. The names are the first line, the rows follow sorted. A number has 12 significant
    digits; true is 1 and false 0; a date is its day since 1970-01-01; a missing value is empty.
    Of text only ASCII counts: R marks encodings string by string, and readers differ in what they
    make of them.

    Parameters
    ----------
    frame : pandas.DataFrame
        Any table; it is made `plain` first.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    table = plain(frame)
    names = sorted(table.columns)
    cells = [[_cell(value) for value in _countable(table[name])] for name in names]
    rows = sorted("\t".join(row) for row in zip(*cells, strict=True))
    return hashlib.sha256("\n".join(["\t".join(names), *rows]).encode()).hexdigest()


def _countable(column: pd.Series) -> pd.Series:
    """Dates as days; anything else as it is."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return (column - pd.Timestamp(0)) / pd.Timedelta(days=1)
    return column


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, str):
        return value.encode("ascii", "ignore").decode().strip()
    return f"{float(value) + 0.0:.12g}"  # type: ignore[arg-type]  # + 0.0: -0 is 0
