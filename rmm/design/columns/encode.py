"""Terms -> columns: treatment contrasts, interactions, `I()`, centring and scaling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError
from rmm.formula.column_bases import Categories, Polynomial
from rmm.formula.terms import Atom, Term
from rmm.formula.weights.weight_function import Column, Node, evaluate, leaf_columns, value_columns
from rmm.tables.read import check_category, codes, describe_column, numeric

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
    absent : tuple of str
        Combinations of levels that no row has, and that have no column therefore.
    known : (rows,) array or None
        Sum of the columns that were taken out because their coefficients are held at a number,
        times these numbers.
    """

    labels: tuple[str, ...]
    values: Array
    full: bool = False
    absent: tuple[str, ...] = ()
    known: Array | None = None


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
    first category has a column for every level. Where R's rule is not of full rank, as for `a:b`
    without `a` and `b`, the first combination of levels is the base of the others.

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
    rows = np.arange(len(frame)) if once is None else once
    spanned = _Spanned()
    if intercept:
        spanned.add((), ())
    for term in margins:
        categories = [a.label for a in term.atoms if _is_category(a, frame)]
        spanned.add(categories, [a.label for a in term.atoms if a.label not in categories])
    labels: list[str] = []
    values: list[Array] = []
    full, absent = False, list[str]()
    for term in terms:
        parts = [_atom(atom, frame, start, transform, rows) for atom in term.atoms]
        columns = _term(term, parts, spanned, rows)
        full, absent = full or columns.full, [*absent, *columns.absent]
        labels += columns.labels
        values.append(columns.values)
    matrix = np.hstack(values) if values else np.zeros((len(frame), 0))
    return Columns(tuple(labels), matrix, full, tuple(absent))


class _Spanned:
    """What earlier terms span: sets of categories, by what they are multiplied with."""

    def __init__(self) -> None:
        self.sets: dict[frozenset[str], set[frozenset[str]]] = {}

    def add(self, categories: Iterable[str], numbers: Iterable[str]) -> None:
        """A term: with a set of categories all of its subsets are spanned."""
        names = tuple(categories)
        found = self.sets.setdefault(frozenset(numbers), set())
        for size in range(len(names) + 1):
            found |= {frozenset(some) for some in combinations(names, size)}

    def by(self, numbers: Iterable[str]) -> set[frozenset[str]]:
        """Sets that are spanned already, of terms with the same numbers."""
        return set(self.sets.get(frozenset(numbers), ()))


def _term(term: Term, parts: list[Columns], spanned: _Spanned, rows: Array) -> Columns:
    """Columns of a term; `full` where they sum to the intercept.

    A combination of levels has a column unless the set of its categories that are not at their
    base is spanned by an earlier term. That is R's rule where R's rule is of full rank; where a
    constant alone is spanned already, as of `a:b` beside an intercept, it is the first
    combination that is left out. So are combinations that no row has.
    """
    names = [a.label for a, p in zip(term.atoms, parts, strict=True) if p.full]
    numbers = [a.label for a in term.atoms if a.label not in names]
    before = spanned.by(numbers) if names else set()
    spanned.add(names, numbers)
    count = len(parts[0].values)
    left, absent = _combinations([p for p in parts if p.full], names, before, rows, count)
    labels, values = list[str](), list[Array]()
    for place in product(*(range(len(p.labels)) for p in parts)):
        key = tuple(k for p, k in zip(parts, place, strict=True) if p.full)
        if key not in left:
            continue
        plain = [p.values[:, k] for p, k in zip(parts, place, strict=True) if not p.full]
        labels.append(":".join(p.labels[k] for p, k in zip(parts, place, strict=True)))
        values.append(np.prod([left[key], *plain], axis=0) if plain else left[key])
    matrix = np.column_stack(values) if values else np.zeros((count, 0))
    full = bool(names) and not numbers and frozenset() not in before
    return Columns(tuple(labels), matrix, full, tuple(absent))


def _combinations(
    parts: list[Columns],
    names: list[str],
    before: set[frozenset[str]],
    rows: Array,
    count: int,
) -> tuple[dict[tuple[int, ...], Array], list[str]]:
    """Combinations of levels that have a column of their own, and those that no row has.

    Raises
    ------
    DataError
        If a row of a new table has a combination that none of the fit's has.
    """
    alone = before == {frozenset()} and len(names) > 1
    skipped = set[frozenset[str]]() if alone else before
    left, absent = dict[tuple[int, ...], Array](), list[str]()
    for place in product(*(range(len(p.labels)) for p in parts)):
        if frozenset(name for name, k in zip(names, place, strict=True) if k > 0) in skipped:
            continue
        here = np.ones(count)
        for part, k in zip(parts, place, strict=True):
            here = here * part.values[:, k]
        if len(names) < 2 or here[rows].any():
            left[place] = here
            continue
        label = ":".join(p.labels[k] for p, k in zip(parts, place, strict=True))
        if here.any():
            raise DataError(
                f"A row of the new table has {label}, which no row of the fit has: it has no "
                "coefficient."
            )
        absent.append(label)
    if alone:
        del left[next(iter(left))]
    return left, absent


def _is_category(atom: Atom, frame: pd.DataFrame) -> bool:
    if isinstance(atom.basis, Categories):
        return True
    plain = atom.basis is None and isinstance(atom.expression, Column)
    return plain and numeric(frame[leaf_columns(atom.expression)[0]]) is None


def _atom(
    atom: Atom, frame: pd.DataFrame, start: Array | None, transform: str | None, rows: Array
) -> Columns:
    """Columns of one atom: those of all levels of a category, base first."""
    if _is_category(atom, frame):
        return _dummies(*coded(atom, frame, start))
    values = atom_values(atom, frame, start)
    if isinstance(atom.basis, Polynomial):
        several = atom.basis.columns(atom.label, values)
        several = np.column_stack([_transformed(v, transform, rows) for v in several.T])
        return Columns(tuple(f"{atom.label}{k + 1}" for k in range(several.shape[1])), several)
    return Columns((atom.label,), _transformed(values, transform, rows)[:, None])


def coded(
    atom: Atom, frame: pd.DataFrame, start: Array | None = None
) -> tuple[str, Array, Categories]:
    """Label, (N,) codes and levels of a category: a text column, or what `factor()` takes."""
    if isinstance(atom.expression, Column):
        column = frame[atom.expression.name]
    else:
        numbers = atom_values(atom, frame, start)
        column = pd.Series(numbers, index=frame.index, name=atom.label)
    basis = atom.basis if isinstance(atom.basis, Categories) else Categories()
    if atom.basis is None:
        check_category(atom.label, column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        found = list(column.cat.remove_unused_categories().cat.categories)
    else:
        found = list(codes(column)[1])
    basis = basis.settled(atom.label, found)
    values = column.astype(object).tolist()
    return atom.label, basis.codes(atom.label, values, frame.index.to_numpy()), basis


def _dummies(label: str, code: Array, basis: Categories) -> Columns:
    levels = basis.levels or ()
    if len(levels) < 2:
        raise DataError(f"The categorical predictor `{label}` has one level only: {levels[0]!r}.")
    values = (code[:, None] == np.arange(len(levels))[None, :]).astype(float)
    return Columns(tuple(f"{label}={level}" for level in levels), values, True)


def input_columns(label: str, expression: Node, frame: pd.DataFrame) -> dict[str, Array]:
    """The columns of an expression as `rmm.formula.weights.weight_function.evaluate` takes them.

    Raises
    ------
    DataError
        If one is not numeric that should be.
    """
    numbers, inputs = value_columns(expression), dict[str, Array]()
    for name in leaf_columns(expression):
        column = numeric(frame[name])
        if column is None and name in numbers:
            raise DataError(
                f"Column `{name}` in `{label}` is not numeric: it holds "
                f"{describe_column(frame[name])}."
            )
        inputs[name] = frame[name].to_numpy(dtype=object) if column is None else column
    return inputs


def atom_values(atom: Atom, frame: pd.DataFrame, start: Array | None = None) -> Array:
    """Numbers of a column or an `I()` expression; `DataError` if they are not finite numbers."""
    inputs = input_columns(atom.label, atom.expression, frame)
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


def _transformed(column: Array, transform: str | None, rows: Array) -> Array:
    if transform is None or len(np.unique(column[rows])) <= 2:
        return column
    centre, multiple = TRANSFORMS[transform]
    sd = float(np.std(column[rows], ddof=1)) if multiple else 1.0
    if sd == 0:
        return column
    return (column - np.mean(column[rows]) * centre) / ((multiple or 1.0) * sd)
