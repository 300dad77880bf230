"""Weights that are not finite numbers: where they are, in the user's ids, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmm.errors import DataError, quoted
from rmm.formula.weights.weight_function import WeightFunction
from rmm.tables.read import Array

_SHOWN = 4  # raw weights of a group in a message


@dataclass(frozen=True)
class Places:
    """How the user knows the memberships of a block.

    Attributes
    ----------
    rows : (M,) int array
        Row of the user's table, 0-based.
    group : (M,) int array
        Index of each membership's group in `labels`.
    labels : array
        Ids of the groups.
    column : str
        Name of the group id.
    """

    rows: Array
    group: Array
    labels: Array
    column: str

    def take(self, rows: slice) -> Places:
        """Of some of the memberships."""
        return replace(self, rows=self.rows[rows], group=self.group[rows])

    def name_group(self, membership: int) -> str:
        """Such as ``group 7 of `gid```."""
        return f"group {quoted(self.labels[self.group[membership]])} of `{self.column}`"

    def name_row(self, membership: int) -> str:
        """``row 12 (group 7 of `gid`)``, rows counted from 1."""
        return f"row {int(self.rows[membership]) + 1} ({self.name_group(membership)})"


def finite_weights(
    weight: WeightFunction,
    columns: Mapping[str, Array],
    start: Array,
    places: Places,
    parameters: Mapping[str, Array | float] | None = None,
) -> Array:
    """Weights after the constraint, (..., M).

    Parameters are those of `WeightFunction.weights`.

    Raises
    ------
    DataError
        If a weight is not a finite number: names the group or row, and the cause.
    """
    values = weight.weights(columns, start, parameters)
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    at = {name: _element(value, first) for name, value in (parameters or {}).items()}
    raw = weight.raw(columns, start, parameters)
    raise DataError(_message(weight, columns, start, places, at, raw[first[:-1]], first[-1]))


def _element(value: Any, place: tuple[int, ...]) -> float:
    """A parameter's value in one draw; parameters are numbers or (draws, 1)."""
    array = np.asarray(value, dtype=float)
    return float(array) if array.ndim == 0 else float(array[place[:-1]].item())


def _message(
    weight: WeightFunction,
    columns: Mapping[str, Array],
    start: Array,
    places: Places,
    at: Mapping[str, float],
    raw: Array,
    membership: int,
) -> str:
    where = "" if not at else " at " + ", ".join(f"{k} = {v:.4g}" for k, v in at.items())
    inside = np.flatnonzero(places.group == places.group[membership])
    rows = np.arange(len(raw)) if weight.constraint == "total" else inside
    zeros = not at or any(not columns[name][rows].any() for name in weight.variables)
    if weight.constraint != "none" and zeros and raw[rows].sum() == 0:
        return _zero_sum(weight, places, raw, rows, membership, where)
    odd = rows[~np.isfinite(raw[rows])]
    row = int(odd[0]) if len(odd) else membership
    given = ", ".join(f"{name} = {columns[name][row]:.6g}" for name in weight.variables)
    found = "not a number" if np.isnan(raw[row]) else f"{raw[row]:g}"
    start_of = (
        f"The weight function `{weight.text}` is {found} in {places.name_row(row)}"
        f"{', where ' + given if given else ''}{where}. "
    )
    zero = _zeros(weight, columns, start, at, row) if np.isinf(raw[row]) else []
    if at and zero:
        return start_of + (
            "The variable is 0 there, and a power, quotient or logarithm of 0 is not finite for "
            f"every value of {' and '.join(at)}. If rows with {' and '.join(zero)} = 0 are not "
            "memberships, drop them. Otherwise use a function that is finite at 0, such as "
            "exp(b*x)."
        )
    if at and not np.isnan(raw[row]):
        named = " and ".join(f"center({name})" for name in weight.variables) or "the variable"
        return start_of + (
            "Weights become too large if a variable is far from zero, such as a year. Centre the "
            f"variable: write {named}."
        )
    return start_of + (
        "Weights must be finite numbers. Check for zeros in denominators, and for logarithms and "
        "roots of negative values."
    )


def _zeros(
    weight: WeightFunction,
    columns: Mapping[str, Array],
    start: Array,
    at: Mapping[str, float],
    row: int,
) -> list[str]:
    """Variables that are 0 in a row whose weight is finite if they are 1."""
    zero = [name for name in weight.variables if columns[name][row] == 0]
    ones = {name: np.where(columns[name] == 0, 1.0, columns[name]) for name in zero}
    finite = np.isfinite(weight.raw({**columns, **ones}, start, at)[row])
    return [f"`{name}`" for name in zero] if finite else []


def _zero_sum(
    weight: WeightFunction,
    places: Places,
    raw: Array,
    rows: Array,
    membership: int,
    where: str,
) -> str:
    shown = ", ".join(f"{value:g}" for value in raw[rows][:_SHOWN])
    more = ", ..." if len(rows) > _SHOWN else ""
    whose = "all groups" if weight.constraint == "total" else places.name_group(membership)
    remedy = "" if weight.constraint == "total" else ", give a member of the group another weight"
    return (
        f"The weights `{weight.text}` of {whose} sum to 0{where} ({shown}{more}), so they cannot "
        f"be divided by their sum. Check the data{remedy}, or leave the group out. Weights that "
        "are not divided by their sum need c = FALSE, which is another model."
    )
