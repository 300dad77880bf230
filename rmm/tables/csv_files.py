"""Tables in text files: separator, decimal mark and what is missing are found and can be named."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError
from rmm.tables.memory_limits import memory_limit
from rmm.tables.text_values import (
    MISSING_NUMBERS,
    is_comma_number,
    is_grouped,
    is_number,
    is_whole,
)
from rmm.tables.unpacked import OPENERS, check_size, unpack

#: Endings of text files, and of the compressed ones among them.
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".dat")
_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE = 200  # records in which separators are counted
_EXACT = 2.0**53  # whole numbers up to here are exact as floats
_SHORT = 19  # whole numbers of fewer characters have 64 bits
_EXCEL_SEPARATOR = re.compile(r"\Asep=.[ \t]*\r?\n")  # a first line that Excel writes
_SCIENTIFIC = re.compile("[dD]")  # Fortran's exponent
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")


@dataclass(frozen=True)
class _Layout:
    """How a text file is laid out.

    Attributes
    ----------
    separator : str
    names : tuple of str
        Of the columns.
    lines : int
        Lines up to the end of the header.
    row_names : bool
        Whether rows begin with a name that has no column, as R writes them.
    trailing : bool
        Whether rows end with an empty cell that has no column.
    """

    separator: str
    names: tuple[str, ...]
    lines: int
    row_names: bool
    trailing: bool


def read_text_table(
    path: Path, ids: Collection[str], text: Collection[str], na: Sequence[str] | None
) -> pd.DataFrame:
    """The table of a text file, which may be compressed.

    Columns of `ids` are whole numbers if all their cells are, without leading zeros; text
    otherwise. Other columns are numbers if all cells are, true and false if all are, else text.

    Parameters
    ----------
    path : Path
        .csv, .tsv, .tab, .txt or .dat; with .gz, .bz2, .xz, .zip or .zst after it.
    ids : collection of str
        Columns of ids.
    text : collection of str
        Columns whose cells stay as written.
    na : sequence of str, optional
        Texts that mean a missing value, in every column, besides the empty cell. By default the
        empty cell, and in columns of numbers those of `rmm.tables.text_values.MISSING_NUMBERS`.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    DataError
        If no table can be read.
    """
    content = _EXCEL_SEPARATOR.sub("", _decode(path, _unpack(path)))
    layout = _find_layout(path, content)
    frame = _read_cells(path, content, layout)
    if na is not None:
        frame = frame.mask(frame.isin(list(na)))
    tokens = MISSING_NUMBERS if na is None else ()
    comma = layout.separator != "," and _has_decimal_commas(frame, tokens)
    for name in frame.columns:
        if name in text:
            continue
        if name in ids:
            frame[name] = _read_ids(frame[name], tokens)
        else:
            frame[name] = _read_values(frame[name], tokens, comma)
    return frame


# ---- bytes and characters ------------------------------------------------------------------------


PACKED_ENDINGS = tuple(OPENERS)
#: Bytes of memory that a byte of text takes while it is read: itself, as characters, as cells.
_FACTOR = 8


def _unpack(path: Path) -> bytes:
    most = memory_limit() // _FACTOR
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        check_size(path, most)
        return path.read_bytes()
    return unpack(path, lambda: opener(path), most)


def _decode(path: Path, data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 text. Save the file as UTF-8. Or read it with "
            'pandas.read_csv(..., dtype=str, encoding="cp1252"): all columns are then read '
            "as text. Convert those that should be numeric, for example with pandas.to_numeric()."
        ) from None


# ---- layout --------------------------------------------------------------------------------------


def _find_layout(path: Path, text: str) -> _Layout:
    """The separator that gives all records the same number of cells, the most of them."""
    if not text.strip():
        raise DataError(f"{path}: the file is empty.")
    found = []
    for separator in _SEPARATORS:
        records, _ = _records(text, separator)
        counts = {len(record) for record in records[1:] or records}
        head = len(records[0])
        even = len(counts) == 1 and counts <= {head, head + 1}
        if head > 1:
            found.append((even, head, separator))
    if found:
        return _layout_of(path, text, max(found, key=lambda one: one[:2])[2])
    several = len(text.strip().splitlines()[0].split()) > 1
    return _layout_of(path, text, " " if several and _may_have_blanks(path) else ",")


def _may_have_blanks(path: Path) -> bool:
    """Whether a path names a file in which blanks may separate cells."""
    return any(ending in (".txt", ".dat") for ending in map(str.lower, path.suffixes))


def _records(text: str, separator: str) -> tuple[list[list[str]], int]:
    """The first records of a text that are not blank, and the lines up to the end of the first."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator == " "
    )
    found: list[list[str]] = []
    lines = 0
    for record in reader:
        if any(cell.strip() for cell in record):
            found.append(record)
            lines = lines or reader.line_num
        if len(found) > _SAMPLE:
            break
    return found or [[]], lines


def _layout_of(path: Path, text: str, separator: str) -> _Layout:
    records, lines = _records(text, separator)
    names, rows = list(records[0]), records[1:]
    width = max((len(row) for row in rows), default=len(names))
    trailing = row_names = False
    if rows and width == len(names) + 1:
        trailing = all(row[-1].strip() == "" for row in rows if len(row) == width)
        row_names = not trailing and all(len(row) == width for row in rows)
    stripped = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(names)]
    repeated = [name for name in stripped if stripped.count(name) > 1]
    if repeated:
        raise DataError(
            f"{path}: the table has two columns named `{repeated[0]}`. Rename one of them."
        )
    return _Layout(separator, tuple(stripped), lines, row_names, trailing)


def _read_cells(path: Path, text: str, layout: _Layout) -> pd.DataFrame:
    """All cells as text, empty ones missing."""
    width, first = len(layout.names), int(layout.row_names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            cells = pd.read_csv(
                io.StringIO(text),
                sep=layout.separator,
                skipinitialspace=layout.separator == " ",
                header=None,
                skiprows=layout.lines,
                names=range(first + width + int(layout.trailing)),
                index_col=False,
                dtype="str",
                na_filter=False,
            )
    except pd.errors.ParserWarning:  # cells would be lost
        raise DataError(_too_many(path, "the first row", layout)) from None
    except pd.errors.ParserError as error:
        found = re.search(r"in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise
        raise DataError(_too_many(path, f"line {found[1]}", layout)) from None
    blank = cells.apply(lambda column: column.str.strip() == "")
    extra = ~blank.iloc[:, first + width :].to_numpy().all(axis=1)
    if extra.any():
        raise DataError(_too_many(path, f"row {int(np.argmax(extra)) + 1}", layout))
    frame = cells.iloc[:, first : first + width].mask(blank.iloc[:, first : first + width])
    frame.columns = pd.Index(layout.names)
    alone = width == 1  # a blank line may be a missing value, but is none to pandas
    return frame if alone else frame[~blank.all(axis=1)].reset_index(drop=True)


def _too_many(path: Path, where: str, layout: _Layout) -> str:
    return (
        f"{path}: {where} has more cells than the header, which has {len(layout.names)} (separator "
        f"{layout.separator!r}). Put quotes around cells that contain the separator."
    )


# ---- kinds of columns ----------------------------------------------------------------------------


def _distinct(column: pd.Series, tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Distinct texts of a column that are there, and those of them that may mean missing."""
    found = [str(v) for v in column.dropna().unique()]
    missing = [text for text in found if text.strip() in tokens]
    return [text for text in found if text not in missing], missing


def _has_decimal_commas(frame: pd.DataFrame, tokens: Sequence[str]) -> bool:
    """Whether some column can only be read with decimal commas, and none with decimal points."""
    commas = points = False
    for name in frame.columns:
        texts, _ = _distinct(frame[name], tokens)
        if any("," in text for text in texts):
            numbers = all(map(is_comma_number, texts))
            commas |= numbers and not all(is_grouped(text) for text in texts if "," in text)
        elif any("." in text for text in texts):
            points |= all(map(is_number, texts))
    return commas and not points


def _read_ids(column: pd.Series, tokens: Sequence[str]) -> pd.Series:
    """Whole numbers if all ids are, written without leading zeros; else the text."""
    texts, missing = _distinct(column, tokens)
    if not texts or not all(map(is_whole, texts)):
        return column
    given = column.mask(column.isin(missing)) if missing else column
    if given.notna().all() and max(map(len, texts)) < _SHORT:
        return pd.to_numeric(given).astype("int64")
    whole = [None if pd.isna(text) else int(text) for text in given]
    return _whole_numbers(whole, column.index)


def _whole_numbers(values: list[Any], index: pd.Index) -> pd.Series:
    """Integers of 64 bits where they fit, else Python's."""
    there = [value for value in values if value is not None]
    if any(not -(2**63) <= value < 2**63 for value in there):
        return pd.Series(values, index=index, dtype=object)
    return pd.Series(values, index=index, dtype="int64" if len(there) == len(values) else "Int64")


def _fast_numbers(column: pd.Series) -> pd.Series | None:
    """The numbers of a column that pandas can read, or None; whole ones are integers."""
    try:
        found = pd.to_numeric(column)
    except (ValueError, TypeError):
        return None
    if found.isna().sum() > column.isna().sum() or found.dtype.kind not in "iuf":
        return None  # a text that pandas takes for a missing value
    numbers = found.astype(float)
    whole = found.dtype.kind in "iu" and bool(numbers.abs().max() < _EXACT)
    return found.astype("int64") if whole else numbers


def _read_values(column: pd.Series, tokens: Sequence[str], comma: bool) -> pd.Series:
    """Numbers or true and false if all cells are, else the text."""
    given = column.mask(column.str.strip().isin(tokens))
    if given.isna().all():
        return pd.Series(np.full(len(column), np.nan), index=column.index)
    numbers = _fast_numbers(given)
    if numbers is not None:
        return numbers
    texts = [str(v) for v in given.dropna().unique()]
    if all(text.strip() in (*_TRUE, *_FALSE) for text in texts):
        known = {text: text.strip() in _TRUE for text in texts}
        flags = given.astype(object).map(known)
        return flags.astype("boolean") if given.isna().any() else flags.astype(bool)
    if all(map(is_number, texts)):
        plain = {text: text.strip() for text in texts}
    elif comma and all(map(is_comma_number, texts)):
        plain = {text: text.strip().replace(",", ".") for text in texts}
    else:
        return column
    values = {text: float(_SCIENTIFIC.sub("e", value)) for text, value in plain.items()}
    return given.astype(object).map(values).astype(float)
