"""The categories of an outcome: which there are, and which of them is the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, quoted, unknown_name

Array = np.ndarray[Any, Any]
MOST = 20  # categories: each has its own coefficients
_SHOWN = 8  # categories that a message quotes
_UNWRITABLE = re.compile(
    r"[`\[\]\x00-\x1f\x7f-\x9f\u2028\u2029]"
)  # in names of parameters and formulas


@dataclass(frozen=True)
class Categories:
    """The categories of a column.

    Attributes
    ----------
    values : tuple
        As the table has them, the reference first.
    labels : tuple of str
        Their names in those of parameters.
    """

    values: tuple[Any, ...]
    labels: tuple[str, ...]

    def codes(self, column: pd.Series) -> Array:
        """(rows,) places of the values of a column; NaN where they are missing."""
        place = {value: float(k) for k, value in enumerate(self.values)}
        found = [np.nan if pd.isna(v) else place[_plain(v)] for v in column.astype(object)]
        return np.array(found, dtype=float)


def find_categories(column: pd.Series, reference: Any = None) -> Categories:
    """The categories of an outcome.

    As for predictors, the reference is the first level: that of a categorical column, else the
    first text of the alphabet or the least number.

    Parameters
    ----------
    column : pandas.Series
        Text, categories, truth values or whole numbers; missing values do not count.
    reference : object, optional
        Another category to be the reference, by its value or its text.

    Returns
    -------
    Categories

    Raises
    ------
    DataError
        For one category, too many, or categories that no row has; for numbers that are not whole,
        labels that cannot be parts of names, and a reference that is no category.
    """
    name = str(column.name)
    values = _levels(name, column)
    labels = [str(value) for value in values]
    if len(values) < 2:
        there = f"is {quoted(values[0])} in every row" if values else "has no value"
        raise DataError(
            f"The outcome `{name}` {there}, so there is nothing to explain. Check the name of the "
            "column."
        )
    if len(values) > MOST:
        raise DataError(
            f"The outcome `{name}` has {len(values)} categories: {_listed(values)}. At most {MOST} "
            "are allowed, since each has its own coefficients. Combine rare categories. For counts "
            'use family "poisson"; for a measured outcome "gaussian".'
        )
    _check_labels(name, labels)
    first = 0 if reference is None else _place(name, reference, values, labels)
    order = [first, *(k for k in range(len(values)) if k != first)]
    return Categories(tuple(values[k] for k in order), tuple(labels[k] for k in order))


def _plain(value: Any) -> Any:
    """A value without NumPy's type, whole numbers as integers."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _levels(name: str, column: pd.Series) -> list[Any]:
    """Levels in the order in which a predictor would have them."""
    present = list(dict.fromkeys(_plain(v) for v in column.dropna().astype(object)))
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [_plain(v) for v in column.cat.categories]
        absent = [v for v in levels if v not in set(present)]
        if absent:
            raise DataError(
                f"No row has the {'category' if len(absent) == 1 else 'categories'} "
                f"{_listed(absent)} of the outcome `{name}`. The data say nothing of its "
                f"coefficients. Remove it: data[{name!r}].cat.remove_unused_categories()."
            )
        return levels
    if all(isinstance(v, str) for v in present):
        return sorted(present)
    odd = [v for v in present if not isinstance(v, int)]
    if not odd:
        return sorted(present)
    if any(isinstance(v, str) for v in odd):
        raise DataError(
            f"The outcome `{name}` contains both numbers and text. Use one kind of labels."
        )
    raise DataError(
        f"The outcome `{name}` has the value {odd[0]}. Categories are text, a categorical column "
        'or whole numbers. For a measured outcome use family "gaussian".'
    )


def _check_labels(name: str, labels: list[str]) -> None:
    bad = [label for label in labels if not label.strip() or _UNWRITABLE.search(label)]
    if bad:
        raise DataError(
            f"The outcome `{name}` has the category {bad[0]!r}. Labels become parts of the names "
            "of parameters. They cannot be empty or contain brackets, backquotes or line breaks. "
            "Rename the category."
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"Two categories of the outcome `{name}` are written {twice!r}.")


def _place(name: str, reference: Any, values: list[Any], labels: list[str]) -> int:
    """The place of the reference that a user states."""
    wanted = str(_plain(reference))
    if isinstance(reference, bool | int | float | str | np.generic) and wanted in labels:
        return labels.index(wanted)
    raise DataError(
        f"`reference`: {unknown_name(reference, f'a category of the outcome `{name}`', values)}"
    )


def _listed(values: list[Any]) -> str:
    return ", ".join(quoted(v) for v in values[:_SHOWN]) + ", ..." * (len(values) > _SHOWN)
