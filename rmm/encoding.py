"""Terms -> columns: treatment contrasts, interactions, `I()`, centring and scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError
from rmm.tables import check_category, codes, describe_column, numeric
from rmm.terms import Atom, Term
from rmm.weights import Column, evaluate

Array = np.ndarray[Any, Any]

TRANSFORMS: Mapping[str, tuple[bool, float]] = {  # name: (centre, multiple of the sd)
    "center": (True, 0.0),
    "std": (True, 1.0),
    "std2": (True, 2.0),
}


@dataclass(frozen=True)
class Columns:
    """Encoded predictors.

    Attributes
    ----------
    labels : tuple of str
    values : (rows, len(labels)) array
    full : bool
        Whether they hold a column for every level of a category, whose sum is the intercept.
    """

    labels: tuple[str, ...]
    values: Array
    full: bool = False


def encode(
    terms: tuple[Term, ...],
    frame: pd.DataFrame,
    *,
    intercept: bool = True,
    margins: tuple[Term, ...] = (),
    start: Array | None = None,
    transform: str | None = None,
    once: Array | None = None,
) -> Columns:
    """The design columns of `terms`.

    A categorical atom gets treatment contrasts (first level is the base) where the term without
    it is in the model, and a column for every level elsewhere: R's rule. Without an intercept the
    first category has a column for every level.

    Parameters
    ----------
    frame : (rows, ...) frame
    intercept : bool
        Whether the model has an intercept (the empty term).
    margins : tuple of Term
        Further terms of the same predictor, for the rule above.
    transform : str, optional
        ``"center"``, ``"std"`` or ``"std2"``; continuous columns only.
    once : (units,) int array, optional
        Rows, one per unit of the predictor's level, from which means and sds are taken.
    """
    present = {frozenset(a.label for a in t.atoms) for t in (*terms, *margins)}
    if intercept:
        present.add(frozenset())
    rows = np.arange(len(frame)) if once is None else once
    labels: list[str] = []
    values: list[Array] = []
    full = False
    for term in terms:
        parts = []
        for atom in term.atoms:
            margin = frozenset(a.label for a in term.atoms if a is not atom)
            parts.append(_atom(atom, frame, start, margin in present, transform, rows))
        names, columns = parts[0].labels, parts[0].values
        for part in parts[1:]:
            names, columns = _product(names, columns, part)
        labels.extend(names)
        values.append(columns)
        if len(term.atoms) == 1 and parts[0].full:
            present.add(frozenset())  # the first full set of dummies stands in for the intercept
            full = True
    matrix = np.hstack(values) if values else np.zeros((len(frame), 0))
    return Columns(tuple(labels), matrix, full)


def _product(names: tuple[str, ...], values: Array, part: Columns) -> tuple[tuple[str, ...], Array]:
    labels = tuple(f"{a}:{b}" for a in names for b in part.labels)
    return labels, (values[:, :, None] * part.values[:, None, :]).reshape(len(values), -1)


def _atom(
    atom: Atom,
    frame: pd.DataFrame,
    start: Array | None,
    contrast: bool,
    transform: str | None,
    rows: Array,
) -> Columns:
    if isinstance(atom.expression, Column):
        column = numeric(frame[atom.expression.name])
        if column is None:
            return _dummies(atom.label, frame[atom.expression.name], contrast)
    else:
        column = atom_values(atom, frame, start)
    return Columns((atom.label,), _transformed(column, transform, rows)[:, None])


def atom_values(atom: Atom, frame: pd.DataFrame, start: Array | None = None) -> Array:
    """Numbers of a column or an `I()` expression; `DataError` if they are not finite numbers."""
    from rmm.weights import leaf_columns

    inputs = {}
    for name in leaf_columns(atom.expression):
        column = numeric(frame[name])
        if column is None:
            raise DataError(
                f"Column `{name}` in `{atom.label}` is not numeric: it holds "
                f"{describe_column(frame[name])}."
            )
        inputs[name] = column
    start = np.arange(len(frame) + 1) if start is None else start
    with np.errstate(all="ignore"):
        values = np.broadcast_to(evaluate(atom.expression, inputs, start), len(frame))
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(frame.index[int(np.argmax(bad))]) + 1
        raise DataError(
            f"`{atom.label}` is not a finite number in {bad.sum()} rows; the first is row {row}."
        )
    return np.array(values, dtype=float)


def _dummies(label: str, column: pd.Series, contrast: bool) -> Columns:
    check_category(label, column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        levels, code = np.asarray(column.cat.categories, dtype=object), column.cat.codes.to_numpy()
    else:
        code, levels = codes(column)
    if len(levels) < 2:
        raise DataError(f"The categorical predictor `{label}` has one level only: {levels[0]!r}.")
    first = 1 if contrast else 0
    values = (code[:, None] == np.arange(first, len(levels))[None, :]).astype(float)
    return Columns(tuple(f"{label}={level}" for level in levels[first:]), values, not contrast)


def _transformed(column: Array, transform: str | None, rows: Array) -> Array:
    if transform is None or len(np.unique(column[rows])) <= 2:
        return column
    centre, multiple = TRANSFORMS[transform]
    sd = float(np.std(column[rows], ddof=1)) if multiple else 1.0
    if sd == 0:
        return column
    return (column - np.mean(column[rows]) * centre) / ((multiple or 1.0) * sd)
