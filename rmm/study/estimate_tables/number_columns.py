"""Columns of numbers: estimates, standard errors, bounds, degrees of freedom, p values, truths."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import StudyError, counted, first_row, unknown_name
from rmm.tables.read import describe_column, numeric

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Range:
    """Values that a column must not have: where they are, and which are allowed."""

    wrong: Callable[[Array], Array]
    allowed: str


#: Argument -> its range. Infinite estimates and standard errors are failed fits, not errors.
RANGES: dict[str, Range] = {
    "se": Range(lambda v: v < 0, "A standard error is 0 or more"),
    "variance": Range(lambda v: v < 0, "A variance is 0 or more"),
    "df": Range(lambda v: v <= 0, "Degrees of freedom are above 0"),
    "p_value": Range(lambda v: (v < 0) | (v > 1), "A p value is between 0 and 1"),
    "truth": Range(np.isinf, "A true value is finite"),
    "null": Range(np.isinf, "A null value is finite"),
    "seconds": Range(lambda v: v < 0, "Seconds are 0 or more"),
}


def read_numbers(column: pd.Series, argument: str) -> Array:
    """(rows,) numbers, nan where missing; `StudyError` for text or values out of range."""
    values = numeric(column)
    if values is None and column.isna().all():
        values = np.full(len(column), np.nan)
    if values is None:
        several = [v for v in column if not isinstance(v, Hashable)]
        if several:
            found = f"values of type {type(several[0]).__name__}"
        else:
            found = describe_column(column.dropna())
        raise StudyError(
            f"Column `{column.name}` (`{argument}`) contains {found}, "
            "but must contain numbers. Convert the column, or name another one."
        )
    limits = RANGES.get(argument)
    if limits is not None:
        wrong = limits.wrong(values)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise StudyError(
                f"Column `{column.name}` (`{argument}`) contains {values[first]:g}"
                f"{_place(column, wrong)}. {limits.allowed}."
            )
    return values


def _place(column: pd.Series, flags: Array) -> str:
    return first_row(int(flags.sum()), int(column.index[int(np.argmax(flags))]) + 1)


def check_bounds(lower: pd.Series, upper: pd.Series, low: Array, high: Array) -> None:
    """Raise `StudyError` for an interval whose lower bound is above its upper one."""
    crossed = low > high
    if crossed.any():
        first = int(np.argmax(crossed))
        raise StudyError(
            f"`{lower.name}` is {low[first]:g} but `{upper.name}` is {high[first]:g}"
            f"{_place(lower, crossed)}. The lower bound must not be above the upper one."
        )


def constant_values(
    given: Any,
    argument: str,
    parameters: Array,
    labels: tuple[Any, ...],
    wanted: Sequence[Any] | None,
) -> Array:
    """(rows,) values of an argument that is a number, or maps each parameter to one.

    Parameters
    ----------
    given : number or mapping
    argument : str
    parameters : (rows,) int array
        Codes of the rows' parameters.
    labels : tuple
        Labels of the parameters.
    wanted : sequence or None
        Parameters that are scored and so need a value; None: all.
    """
    if not isinstance(given, Mapping):
        return np.full(len(parameters), _number(given, argument))
    written = {str(label): i for i, label in enumerate(labels)}
    found = np.full(len(labels), np.nan)
    for name, value in given.items():
        if str(name) not in written:
            raise StudyError(f"`{argument}`: " + unknown_name(name, "a parameter", labels))
        found[written[str(name)]] = _number(value, argument)
    needed = set(map(str, labels if wanted is None else wanted))
    pairs = zip(labels, found, strict=True)
    lacking = [label for label, value in pairs if np.isnan(value) and str(label) in needed]
    if lacking and argument != "null":
        raise StudyError(
            f"`{argument}` has no value for the parameter {lacking[0]!r}. Give one for each of: "
            f"{', '.join(map(str, labels))}."
        )
    if argument == "null":
        found[np.isnan(found)] = 0.0
    return found[parameters]


def _number(value: Any, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise StudyError(
            f"`{argument}` must be a number, the name of a column, or a mapping of parameters to "
            f"numbers, not {value!r}."
        )
    number = float(value)
    limits = RANGES[argument]
    if np.isnan(number) or bool(limits.wrong(np.array([number])).any()):
        raise StudyError(f"`{argument}` is {number:g}. {limits.allowed}.")
    return number


def check_truths(truth: Array, cell: Array, describe: Callable[[int], str]) -> None:
    """Raise `StudyError` where some rows of a scenario and parameter have a truth and some none.

    Parameters
    ----------
    truth : (rows,) array
    cell : (rows,) int array
        Number of the scenario and parameter.
    describe : callable
        Row -> its scenario and parameter in words.
    """
    missing = np.isnan(truth)
    if not missing.any() or missing.all():
        return
    known = np.zeros(int(cell.max()) + 1, dtype=bool)
    known[cell[~missing]] = True
    partly = missing & known[cell]
    if partly.any():
        first = int(np.argmax(partly))
        raise StudyError(
            f"`truth` is missing in {counted(int(partly.sum()), 'row')} of cells that have it in "
            f"other rows; the first is {describe(first)}. Fill it in."
        )
