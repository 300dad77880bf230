"""Labels of scenarios, methods, parameters and replications: typed, complete, in natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import StudyError, counted, first_row
from rmm.tables.read import plain_labels
from rmm.tables.text_values import look_alike

Array = np.ndarray[Any, Any]
#: Texts that R and others write for a missing value.
_MISSING = ("NA", "NaN", "<NA>", "N/A")


@dataclass(frozen=True, eq=False)
class Labels:
    """Codes of the rows, and the labels that they stand for.

    Attributes
    ----------
    codes : (rows,) int array
    labels : tuple
        In natural order: numbers by size, texts with the numbers in them by size, categories in
        their own order.
    """

    codes: Array
    labels: tuple[Any, ...]


def read_labels(
    column: pd.Series, argument: str, *, from_text: bool = False, blank: Array | None = None
) -> Labels:
    """Labels of a column.

    Parameters
    ----------
    column : pandas.Series
        Its index is the user's row, from 0.
    argument : str
        What it is in the call: by, method, parameter, replication.
    from_text : bool
        Whether it is from a text file without codes for missing values.
    blank : (rows,) bool array, optional
        Rows in which an empty text is a label.

    Raises
    ------
    StudyError
        If labels are missing, or differ in blanks only.
    """
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    values = np.array(column.astype(object))
    if blank is not None and blank.any():
        values[blank] = ""
        column, categorical = pd.Series(values, index=column.index, name=column.name), False
    _check_complete(column, values, argument, from_text, blank)
    codes, different = pd.factorize(values)
    texts = [v for v in different if isinstance(v, str)]
    alike = look_alike(texts)
    if alike:
        raise StudyError(
            f"Column `{column.name}` (`{argument}`) has the labels {alike[0]!r} and {alike[1]!r}, "
            "which differ in blanks or invisible characters only. Write them alike."
        )
    if categorical:
        place = {v: i for i, v in enumerate(column.cat.categories)}
        order = sorted(range(len(different)), key=lambda i: place[different[i]])
    else:
        order = sorted(range(len(different)), key=lambda i: natural(different[i]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    plain = plain_labels(str(column.name), np.array([*different, None], dtype=object)[:-1][order])
    return Labels(rank[codes], tuple(_python(v) for v in plain))


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def natural(value: Any) -> tuple[Any, ...]:
    """Sort key: numbers by size, texts by their words and the numbers in them."""
    if isinstance(value, str):
        parts = re.split(r"(\d+)", value)
        return (1, [int(p) if i % 2 else p.casefold() for i, p in enumerate(parts)], value)
    return (0, value)


def blank_parts(columns: Sequence[pd.Series], text_file: bool) -> list[Array]:
    """Rows in which a part of a label of several columns is empty, and another is not.

    A method may have no second part: the columns `m1`, `m2` of MIsim2 in rsimsum are MI and T, or
    CC and an empty text, which is an empty cell in a text file.
    """
    empty = []
    for column in columns:
        values = np.asarray(column.astype(object))
        texts = np.array([isinstance(v, str) and not v.strip() for v in values], dtype=bool)
        empty.append(texts | pd.isna(values) if text_file else texts)
    every = np.logical_and.reduce(empty)
    return [one & ~every for one in empty]


def _check_complete(
    column: pd.Series, values: Array, argument: str, from_text: bool, allowed: Array | None
) -> None:
    blank = np.array([isinstance(v, str) and not v.strip() for v in values])
    missing = pd.isna(values) | blank
    if allowed is not None:
        missing &= ~allowed
    if missing.any():
        raise StudyError(
            f"Column `{column.name}` (`{argument}`) has "
            f"{counted(int(missing.sum()), 'missing label')}{_place(column, missing)}. Every row "
            "needs one. Fill in the label, or remove the row."
        )
    if from_text:
        suspect = np.isin(values, np.array(_MISSING, dtype=object))
        if suspect.any():
            found = str(values[int(np.argmax(suspect))])
            raise StudyError(
                f"Column `{column.name}` (`{argument}`) has the label {found!r}"
                f"{_place(column, suspect)}, which usually means a missing value. If it does, fill "
                f"in the label. If it is a label, give na=[] (--na with no text after it)."
            )


def _place(column: pd.Series, flags: Array) -> str:
    return first_row(int(flags.sum()), int(column.index[int(np.argmax(flags))]) + 1)


def combine(parts: Sequence[Labels]) -> Labels:
    """Labels of several columns as tuples, in natural order; those that occur."""
    sizes = [len(part.labels) for part in parts]
    code = np.ravel_multi_index([part.codes for part in parts], sizes)
    different, codes = np.unique(code, return_inverse=True)
    places = np.unravel_index(different, sizes)
    labels = tuple(
        tuple(part.labels[k] for part, k in zip(parts, row, strict=True))
        for row in zip(*places, strict=True)
    )
    return Labels(codes.reshape(-1).astype(np.int64), labels)


def find(label: Any, labels: Sequence[Any]) -> Any | None:
    """The label that is meant: itself, or the one that is written so (`"1"` for 1)."""
    for one in labels:
        if one == label and isinstance(one, bool) == isinstance(label, bool):
            return one
    return next((one for one in labels if str(one) == str(label)), None)
