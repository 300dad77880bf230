"""Tables in files: one reader for each ending."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from rmm.errors import DataError, how_to_install
from rmm.tables.csv_files import PACKED_ENDINGS, TEXT_ENDINGS, read_text_table
from rmm.tables.memory_limits import bytes_text, memory_limit
from rmm.tables.parquet_limits import decoded_size, length_of_texts
from rmm.tables.rdata import read_frames
from rmm.tables.text_values import MISSING_NUMBERS
from rmm.tables.unpacked import check_sheets, check_size, too_large


def read_file(
    path: Path,
    ids: Collection[str] = (),
    text: Collection[str] = (),
    na: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The table in a file, by the ending of its name.

    Parameters
    ----------
    path : Path
    ids : collection of str
        Columns of ids: whole numbers or text (in text files; others have types).
    text : collection of str
        Columns whose cells in a text file stay as written.
    na : sequence of str, optional
        Texts that mean a missing value; for text files.

    Raises
    ------
    DataError
        For an unknown ending, a missing file or package, or a file that cannot be read.
    """
    ending = _ending(path)
    reader = READERS.get(ending)
    if reader is None and ending not in TEXT_ENDINGS:
        known = ", ".join([*TEXT_ENDINGS, *READERS])
        raise DataError(
            f"{path}: this type of file cannot be read. The name must end in one of {known}; text "
            f"files can also be compressed ({', '.join(PACKED_ENDINGS)})."
            f"{_OLD_EXCEL if ending == '.xls' else ''}"
        )
    if not os.path.isfile(path):  # False, too, for what cannot be a path
        raise DataError(f"{path}: this file does not exist. Paths are relative to {Path.cwd()}.")
    if na is not None and reader is not None:
        raise DataError(
            f"{path}: `na` can be used only with text files ({', '.join(TEXT_ENDINGS)}). Files "
            "of this type mark missing values themselves. If other values also mean missing, read "
            "the file with pandas, replace these values, and pass the data frame instead of the "
            "file."
        )
    try:
        if reader is None:
            return read_text_table(path, ids, text, na)
        return pd.DataFrame(reader(path))
    except DataError as error:
        named = str(error).startswith(str(path))
        raise error if named else DataError(f"{path}: {error}") from None
    except Exception as error:
        raise DataError(f"{path}: this file cannot be read. {_explain(error)}") from error


def is_text_file(data: Any) -> bool:
    """Whether data are the path of a text file."""
    return isinstance(data, str | os.PathLike) and _ending(Path(data)) in TEXT_ENDINGS


def _explain(error: Exception) -> str:
    """What a user can do about a file that another library cannot read."""
    if isinstance(error, OSError) and error.strerror:
        return f"The system says: {error.strerror}."
    return (
        "It may be incomplete or damaged, or its content may not match its extension. Copy or "
        "download it again, or save the table as .csv. Technical detail: "
        f"{type(error).__name__}: {' '.join(str(error).split())}"
    )


_OLD_EXCEL = " Save an .xls file as .xlsx."


def _ending(path: Path) -> str:
    """Ending of a path in small letters, that of its compression left out for text files."""
    ending = path.suffix.lower()
    if ending in PACKED_ENDINGS:
        inner = Path(path.stem).suffix.lower()
        if inner in TEXT_ENDINGS or (ending == ".zip" and not inner):
            return inner or TEXT_ENDINGS[0]
    return ending


def _read_parquet(path: Path) -> pd.DataFrame:
    most, texts = memory_limit(), list[str]()
    with path.open("rb") as file:
        try:
            size, texts = decoded_size(file, most, strict=False)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            size = 0  # damaged, or encrypted: Arrow says what is wrong
    if size > most:
        raise DataError(too_large(path, f"more than {bytes_text(most)} unpacked", most))
    # Texts are read as dictionaries, to count what they take in all rows.
    with parquet.ParquetFile(path, read_dictionary=texts) as parts:
        table = parts.read()
    size += sum(length_of_texts(table[name]) for name in set(texts) & set(table.column_names))
    if size > most:
        raise DataError(too_large(path, f"{bytes_text(size)} unpacked", most))
    return from_arrow(table.cast(parquet.read_schema(path)))


def from_arrow(table: Any) -> pd.DataFrame:
    """A frame from a `pyarrow.Table`; whole numbers stay so where some are missing."""
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    return frame


def _read_rda(path: Path) -> pd.DataFrame:
    frames = read_frames(path)
    if len(frames) != 1:
        raise DataError(
            f"{path}: the file must contain one data frame, but contains {len(frames)}: "
            f"{', '.join(frames) or 'none'}."
        )
    return next(iter(frames.values()))


def _require(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise DataError(
            f"{what} files need the package {package}, which is not installed. "
            + how_to_install(package, "files")
        )


def _read_stata(path: Path) -> pd.DataFrame:
    check_size(path, memory_limit())
    try:
        return pd.DataFrame(pd.read_stata(path))  # values with labels as categories
    except ValueError as error:
        if "not unique" not in str(error):
            raise
        raise DataError(f"{path}: {_same_labels(str(error))}") from None


def _same_labels(said: str) -> str:
    """A message for values with the same label, from what pandas said."""
    column = re.search(r"labels for column (\S+) are", said)
    label = re.search(r"-{20,}\s+(.+)", said)
    return (
        f"Two values of {f'column `{column[1]}`' if column else 'a column'} have the same label"
        f"{f', {label[1].strip()!r}' if label else ''}. Give them different labels in Stata. Or "
        "read the file with pandas.read_stata(path, convert_categoricals=False), which keeps the "
        "values without their labels, and use this table."
    )


def _read_spss(path: Path) -> pd.DataFrame:
    _require("pyreadstat", "SPSS")
    check_size(path, memory_limit())
    # Late: the extra `files` may be absent.
    import pyreadstat

    frame, about = pyreadstat.read_sav(os.fspath(path))
    return _label(frame, about.variable_value_labels)


def _read_sas(path: Path) -> pd.DataFrame:
    _require("pyreadstat", "SAS")
    check_size(path, memory_limit())
    # Late: the extra `files` may be absent.
    import pyreadstat

    read = pyreadstat.read_xport if path.suffix.lower() == ".xpt" else pyreadstat.read_sas7bdat
    return read(os.fspath(path))[0]


def _label(frame: pd.DataFrame, sets: Mapping[str, Mapping[Any, str]]) -> pd.DataFrame:
    """Columns with value labels as categories, in the order of their codes.

    A value without a label is a category by itself; `check_category` refuses columns that mix
    labels and numbers.
    """
    columns = {name: _labelled(frame[name], sets.get(name) or {}) for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index)


def _labelled(column: pd.Series, labels: Mapping[Any, str]) -> pd.Series:
    found = list(column.dropna().unique())
    if not labels or not any(value in labels for value in found):
        return column
    order = sorted(found, key=lambda value: (isinstance(value, str), value))
    names = [labels.get(value, value) for value in order]
    texts = [str(name) for name in names]
    names = [
        f"{name} ({value:g})" if isinstance(name, str) and texts.count(name) > 1 else name
        for name, value in zip(names, order, strict=True)
    ]
    kind = pd.CategoricalDtype(names, ordered=True)
    named = column.astype(object).map(dict(zip(order, names, strict=True)))
    return named.astype(kind)


def _read_excel(path: Path) -> pd.DataFrame:
    _require("openpyxl", "Excel")
    check_sheets(path, memory_limit() // _EXCEL_FACTOR)
    # As objects: cells that are text stay text, "01" beside "1".
    sheets = pd.read_excel(
        path, sheet_name=None, dtype=object, keep_default_na=False, na_values=[""]
    )
    filled = {name: sheet for name, sheet in sheets.items() if len(sheet)}
    if len(filled) > 1:
        raise DataError(
            f"{path}: the file has {len(filled)} sheets with data ({', '.join(filled)}). Choose "
            "one sheet: pandas.read_excel(path, sheet_name=...)."
        )
    sheet = next(iter((filled or sheets).values()))
    return sheet.apply(_without_missing_texts).infer_objects()


def _without_missing_texts(column: pd.Series) -> pd.Series:
    """A column of numbers and texts such as NA, with these missing."""
    texts = column.map(lambda value: isinstance(value, str)).astype(bool)
    missing = column.isin(MISSING_NUMBERS)
    numbers = not texts.all() and bool((texts == missing).all())
    return column.mask(missing) if numbers and texts.any() else column


#: Bytes of memory that a byte of an unpacked sheet takes while it is read.
_EXCEL_FACTOR = 8
#: Ending -> reader of a file that is no text.
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": _read_parquet,
    ".rda": _read_rda,
    ".rdata": _read_rda,
    ".dta": _read_stata,
    ".sav": _read_spss,
    ".zsav": _read_spss,
    ".sas7bdat": _read_sas,
    ".xpt": _read_sas,
    ".xlsx": _read_excel,
    ".xlsm": _read_excel,
}
