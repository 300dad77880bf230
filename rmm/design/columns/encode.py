"""Terms -> columns: treatment contrasts, interactions, `I()`, centring and scaling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, counted
from rmm.formula.column_bases import Categories, Smooth
from rmm.formula.expression import with_table_constants
from rmm.formula.terms import Atom, Term
from rmm.formula.weights.weight_function import (
    Column,
    Node,
    TableCall,
    evaluate,
    leaf_columns,
    value_columns,
)
from rmm.tables.read import describe_column
from rmm.tables.table import SourceColumn, Table, TableColumn, check_category

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


@dataclass(frozen=True)
class AtomCoding:
    """How one atom becomes columns, with what a fit's table decided.

    Attributes
    ----------
    atom : Atom
        Holds the levels of a category, the constants of a polynomial, the knots of a spline.
    labels : tuple of str
        Of its columns; those of all levels of a category, base first.
    category : bool
    moves : tuple
        (shift, divisor) of each column of numbers, or None where it stays as it is.
    """

    atom: Atom
    labels: tuple[str, ...]
    category: bool
    moves: tuple[tuple[float, float] | None, ...] = ()

    def values(self, table: Table) -> Array:
        """(rows, len(labels)) columns of a table."""
        if self.category:
            return _dummies(code_category(self.atom, table)[0], len(self.labels))
        return self.moved(_numbers(self.atom, table))

    def moved(self, values: Array) -> Array:
        """Columns of numbers less their shifts, over their divisors."""
        if not any(self.moves):
            return values
        moved = [
            v if move is None else (v - move[0]) / move[1]
            for v, move in zip(values.T, self.moves, strict=True)
        ]
        return np.column_stack(moved)


@dataclass(frozen=True)
class TermCoding:
    """Which products of its atoms' columns a term has.

    Attributes
    ----------
    atoms : tuple of AtomCoding
    columns : tuple of tuple of int
        For each column of the term, the number of the column of each atom.
    labels : tuple of str
    absent : mapping
        Combinations of levels that no row of the fit has (numbers of the levels of the categories
        among the atoms) -> label.
    full : bool
        Whether the columns sum to the intercept.
    """

    atoms: tuple[AtomCoding, ...]
    columns: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    absent: Mapping[tuple[int, ...], str]
    full: bool

    def values(self, parts: list[Array], count: int) -> Array:
        """(count, len(columns)) products of the atoms' columns."""
        if len(self.atoms) == 1 and not self.atoms[0].category:
            return parts[0][:, [place[0] for place in self.columns]]
        categories = [atom.category for atom in self.atoms]
        columns = [_product(parts, place, categories, count) for place in self.columns]
        return np.column_stack(columns) if columns else np.zeros((count, 0))

    def check_combinations(self, parts: list[Array]) -> None:
        """Raise `DataError` if a row has a combination of levels that no row of the fit has."""
        dummies = [v for v, atom in zip(parts, self.atoms, strict=True) if atom.category]
        for key, label in self.absent.items():
            if _combination(dummies, key).any():
                raise DataError(
                    f"A row of the new table has {label}. No row of the fit has this combination, "
                    "so it has no coefficient."
                )


@dataclass(frozen=True)
class Coding:
    """How the terms of one block become columns: levels, contrasts, centres and scales of a fit."""

    terms: tuple[TermCoding, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(label for term in self.terms for label in term.labels)

    @property
    def full(self) -> bool:
        """Whether a category has a column for every level."""
        return any(term.full for term in self.terms)

    def columns(self, table: Table) -> Columns:
        """The columns of other rows than those from which the coding was made.

        Parameters
        ----------
        table : (rows, ...) Table

        Raises
        ------
        DataError
            For a level, or a combination of levels, that has no coefficient.
        """
        values = [np.zeros((len(table), 0))]
        for term in self.terms if len(table) else ():
            parts = [atom.values(table) for atom in term.atoms]
            term.check_combinations(parts)
            values.append(term.values(parts, len(table)))
        matrix = np.hstack(values) if len(table) else np.zeros((0, len(self.labels)))
        return Columns(self.labels, matrix, self.full)


def encode(
    terms: tuple[Term, ...],
    table: Table,
    *,
    intercept: bool = True,
    margins: tuple[Term, ...] = (),
    transform: str | None = None,
    once: Array | None = None,
) -> tuple[Coding, Columns]:
    """How `terms` become columns on the table of a fit, and these columns.

    A categorical atom gets treatment contrasts (first level is the base) where the term without
    it is in the model, and a column for every level elsewhere: R's rule. Without an intercept the
    first category has a column for every level. Where R's rule is not of full rank, as for `a:b`
    without `a` and `b`, the first combination of levels is the base of the others.

    Parameters
    ----------
    terms : tuple of Term
    table : (rows, ...) Table
    intercept : bool
        Whether the model has an intercept (the empty term).
    margins : tuple of Term
        Further terms of the same predictor, for the rule above.
    transform : str, optional
        ``"center"``, ``"std"`` or ``"std2"``; continuous columns only.
    once : (units,) int array, optional
        Rows, one per unit of the predictor's level, from which means and sds are taken.

    Returns
    -------
    coding : Coding
    columns : Columns
    """
    rows = slice(None) if once is None else once
    spanned = _Spanned()
    if intercept:
        spanned.add((), ())
    for term in margins:
        categories = [a.label for a in term.atoms if _is_category(a, table)]
        spanned.add(categories, [a.label for a in term.atoms if a.label not in categories])
    known = dict[Atom, tuple[AtomCoding, Array]]()
    codings, values = list[TermCoding](), [np.zeros((len(table), 0))]
    for term in terms:
        for atom in term.atoms:
            if atom not in known:
                known[atom] = _code_atom(atom, table, transform, rows)
        atoms = tuple(known[atom][0] for atom in term.atoms)
        parts = [known[atom][1] for atom in term.atoms]
        codings.append(_code_term(atoms, parts, spanned))
        values.append(codings[-1].values(parts, len(table)))
    coding = Coding(tuple(codings))
    absent = tuple(label for term in codings for label in term.absent.values())
    return coding, Columns(coding.labels, np.hstack(values), coding.full, absent)


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


def _code_term(atoms: tuple[AtomCoding, ...], parts: list[Array], spanned: _Spanned) -> TermCoding:
    """Which columns a term has; `full` where they sum to the intercept.

    A combination of levels has a column unless the set of its categories that are not at their
    base is spanned by an earlier term. That is R's rule where R's rule is of full rank; where a
    constant alone is spanned already, as of `a:b` beside an intercept, it is the first
    combination that is left out. So are combinations that no row has.
    """
    names = [a.atom.label for a in atoms if a.category]
    numbers = [a.atom.label for a in atoms if a.atom.label not in names]
    before = spanned.by(numbers) if names else set()
    spanned.add(names, numbers)
    left, absent = _combinations(atoms, parts, before)
    columns, labels = list[tuple[int, ...]](), list[str]()
    for place in product(*(range(len(a.labels)) for a in atoms)):
        key = tuple(k for a, k in zip(atoms, place, strict=True) if a.category)
        if key in left:
            columns.append(place)
            labels.append(_join(a.labels[k] for a, k in zip(atoms, place, strict=True)))
    full = bool(names) and not numbers and frozenset() not in before
    return TermCoding(atoms, tuple(columns), tuple(labels), absent, full)


def _combinations(
    atoms: tuple[AtomCoding, ...], parts: list[Array], before: set[frozenset[str]]
) -> tuple[set[tuple[int, ...]], dict[tuple[int, ...], str]]:
    """Combinations of levels that have a column of their own, and labels of those no row has."""
    categories = [a for a in atoms if a.category]
    dummies = [v for v, a in zip(parts, atoms, strict=True) if a.category]
    names = [a.atom.label for a in categories]
    alone = before == {frozenset()} and len(names) > 1
    skipped = set[frozenset[str]]() if alone else before
    left, absent = dict[tuple[int, ...], None](), dict[tuple[int, ...], str]()
    for key in product(*(range(len(a.labels)) for a in categories)):
        if frozenset(name for name, k in zip(names, key, strict=True) if k > 0) in skipped:
            continue
        if len(names) < 2 or _combination(dummies, key).any():
            left[key] = None
        else:
            absent[key] = _join(a.labels[k] for a, k in zip(categories, key, strict=True))
    if alone:
        del left[next(iter(left))]
    return set(left), absent


def _join(labels: Iterable[str]) -> str:
    return ":".join(labels)


def _combination(dummies: list[Array], key: tuple[int, ...]) -> Array:
    """(rows,) whether a row has a combination of levels, 0 or 1."""
    return np.prod([values[:, k] for values, k in zip(dummies, key, strict=True)], axis=0)


def _product(
    parts: list[Array], place: tuple[int, ...], categories: list[bool], count: int
) -> Array:
    """(count,) product of a column of each part."""
    columns = [values[:, k] for values, k in zip(parts, place, strict=True)]
    here = np.ones(count)
    for column, category in zip(columns, categories, strict=True):
        here = here * column if category else here
    plain = [column for column, category in zip(columns, categories, strict=True) if not category]
    return np.asarray(np.prod([here, *plain], axis=0)) if plain else here


def _is_category(atom: Atom, table: Table) -> bool:
    if isinstance(atom.basis, Categories):
        return True
    plain = atom.basis is None and isinstance(atom.expression, Column)
    return plain and table[leaf_columns(atom.expression)[0]].numbers is None


def _code_atom(
    atom: Atom, table: Table, transform: str | None, rows: Array | slice
) -> tuple[AtomCoding, Array]:
    """The coding of one atom on the table of a fit, and its columns."""
    if _is_category(atom, table):
        code, basis = code_category(atom, table)
        levels = basis.levels or ()
        if len(levels) < 2:
            raise DataError(
                f"The categorical predictor `{atom.label}` has only one level: {levels[0]!r}."
            )
        labels = tuple(f"{atom.label}={level}" for level in levels)
        coding = AtomCoding(replace(atom, basis=basis), labels, category=True)
        return coding, _dummies(code, len(levels))
    values = _numbers(atom, table)
    labels = (atom.label,)
    if atom.basis is not None and not isinstance(atom.basis, Smooth):
        labels = tuple(f"{atom.label}{k + 1}" for k in range(values.shape[1]))
    moves = tuple(_move(column[rows], transform) for column in values.T)
    coding = AtomCoding(atom, labels, category=False, moves=moves)
    return coding, coding.moved(values)


def code_category(atom: Atom, table: Table) -> tuple[Array, Categories]:
    """(N,) codes and levels of a category: a text column, or what `factor()` takes.

    They are kept with the table, so that they are computed once.
    """
    key = _key(atom)
    if key not in table.computed:
        code, basis = _code_category(atom, table)
        table.computed[key] = code, basis
        table.computed[_key(replace(atom, basis=basis))] = code, basis
    found: tuple[Array, Categories] = table.computed[key]
    return found


def _key(atom: Atom) -> tuple[Any, ...]:
    return atom, with_table_constants(atom.expression)


def _code_category(atom: Atom, table: Table) -> tuple[Array, Categories]:
    basis = atom.basis if isinstance(atom.basis, Categories) else Categories()
    column = _category_column(atom, table)
    if atom.basis is None:
        check_category(atom.label, column)
    if basis.levels is None and not isinstance(column.dtype, pd.CategoricalDtype):
        code, found = column.codes
        basis = basis.settled(atom.label, list(found))
        place = {level: number for number, level in enumerate(basis.levels or ())}
        return np.array([place[level] for level in found], dtype=np.int64)[code], basis
    given: Iterable[Any] = ()
    if not basis.levels:
        given = column.series.cat.remove_unused_categories().cat.categories
    basis = basis.settled(atom.label, list(given))
    return basis.codes(atom.label, column.objects.tolist(), table.index), basis


def _category_column(atom: Atom, table: Table) -> TableColumn:
    """The values that are categories."""
    if isinstance(atom.expression, Column):
        return table[atom.expression.name]
    values = pd.Series(atom_values(atom, table), index=table.index, name=atom.label)
    return TableColumn(SourceColumn(values, atom.label), None)


def _dummies(code: Array, levels: int) -> Array:
    return (code[:, None] == np.arange(levels)[None, :]).astype(float)


def _numbers(atom: Atom, table: Table) -> Array:
    """(N, K) columns of numbers, before they are moved."""
    values = atom_values(atom, table)
    if atom.basis is None or isinstance(atom.basis, Categories):
        return values[:, None]
    return atom.basis.columns(atom.label, values)


def input_columns(label: str, expression: Node, table: Table) -> dict[str, Array]:
    """The columns of an expression as `rmm.formula.weights.weight_function.evaluate` takes them.

    Raises
    ------
    DataError
        If one is not numeric that should be.
    """
    numbers, inputs = value_columns(expression), dict[str, Array]()
    for name in leaf_columns(expression):
        column = table[name]
        if column.numbers is None and name in numbers:
            place = "" if name == label else f" in `{label}`"
            raise DataError(
                f"Column `{name}`{place} contains {describe_column(column.series)}. Convert it to "
                "numbers."
            )
        inputs[name] = column.objects if column.numbers is None else column.numbers
    return inputs


def atom_values(atom: Atom, table: Table) -> Array:
    """Numbers of a column or an `I()` expression; `DataError` if they are not finite numbers.

    They are kept with the table, so that they are computed once.
    """
    key = with_table_constants(atom.expression)
    if key not in table.computed:
        inputs = input_columns(atom.label, atom.expression, table)
        known = table.computed.get(TableCall, {})
        with np.errstate(all="ignore"):
            table.computed[key] = evaluate(atom.expression, inputs, table.pointer, known=known)
    values = table.computed[key]
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(table.index[int(np.argmax(bad))]) + 1
        raise DataError(
            f"`{atom.label}` is not a finite number in {counted(int(bad.sum()), 'row')}; the first "
            f"is row {row}."
        )
    return np.array(values)


def _move(column: Array, transform: str | None) -> tuple[float, float] | None:
    """What a column is shifted by and divided by; None where it stays as it is."""
    if transform is None or len(np.unique(column)) <= 2:
        return None
    centre, multiple = TRANSFORMS[transform]
    sd = float(np.std(column, ddof=1)) if multiple else 1.0
    if sd == 0:
        return None
    return float(np.mean(column)) * centre, (multiple or 1.0) * sd
