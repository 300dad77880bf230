"""What each column of a fit's table holds: numbers, text or categories, and which levels.

A new table must hold the same, since an id or a level must look the same to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError
from rmm.formula.parse_formula import columns_of, id_columns
from rmm.formula.terms import Formula, Term
from rmm.formula.weights.weight_function import value_columns
from rmm.tables.read import numeric
from rmm.tables.table import Table, TableColumn


@dataclass(frozen=True)
class ColumnKind:
    """What one column holds.

    Attributes
    ----------
    numbers : bool
        Whether its values are numbers.
    text : bool
        Whether it is read as text or categories; a column of categories may hold numbers.
    levels : frozenset or None
        Values of a column of categories that is a predictor.
    dtype : pandas.CategoricalDtype or None
        Of such a column.
    """

    numbers: bool
    text: bool
    levels: frozenset[Any] | None = None
    dtype: pd.CategoricalDtype | None = None


def column_kinds(formula: Formula, table: Table) -> dict[str, ColumnKind]:
    """What the columns of a formula hold in the table of a fit.

    Parameters
    ----------
    formula : Formula
    table : Table
    """
    predictors = _term_columns(formula)
    return {
        name: _kind(table[name], name in predictors)
        for name in columns_of(formula)
        if name in table
    }


def _kind(read: TableColumn, predictor: bool) -> ColumnKind:
    if read.source.plain:
        return ColumnKind(numbers=True, text=False)
    if read.source.text and not read.missing.any():
        return ColumnKind(False, True, frozenset(read.different) if predictor else None)
    column = read.series
    there = column.dropna()
    text = len(there) > 0 and numeric(there) is None
    if not text:
        return ColumnKind(numbers=True, text=False)
    dtype = column.dtype if isinstance(column.dtype, pd.CategoricalDtype) else None
    if predictor:
        return ColumnKind(False, text, frozenset(there.unique()), dtype)
    # An id is the same in a column of categories.
    return ColumnKind(dtype is not None and numeric(_values(there)) is not None, text)


def as_in_fit(
    formula: Formula,
    kinds: Mapping[str, ColumnKind],
    frame: pd.DataFrame,
    used: tuple[str, ...],
) -> pd.DataFrame:
    """A new table whose columns have the types of the fit's.

    Parameters
    ----------
    formula : Formula
    kinds : mapping
        Of `column_kinds`.
    frame : pandas.DataFrame
    used : tuple of str
        The columns that count.

    Raises
    ------
    DataError
        If a column holds text where that of the fit holds numbers, or the reverse; or a level
        that the fit did not have.
    """
    ids, predictors = id_columns(formula), _term_columns(formula)
    groups = {block.group for block in formula.members}  # new ones need not look like the fit's
    out = frame.copy(deep=False)
    for name in used:
        if name in groups - predictors:
            continue
        new = frame[name] if name in predictors else _values(frame[name])
        there = new[new.notna()]
        if not len(there):  # a kind of members that the new groups do not have
            out[name] = new.astype(object)
            continue
        kind, numbers = kinds[name], numeric(there) is not None
        if kind.numbers != numbers:
            words = {False: "text or categories", True: "numbers"}
            raise DataError(
                f"Column `{name}` contains {words[numbers]} in the new table, but "
                f"{words[kind.numbers]} in the data of the fit. Convert it: the "
                "same id (or the same category) must be written in the same way, as text or as a "
                "number, in both tables."
            )
        if not numbers and name in predictors:
            out[name] = _known_levels(name, kind, new)
        elif not numbers and name in ids:
            out[name] = new.astype(object)
    return out


def _values(column: pd.Series) -> pd.Series:
    """A column of categories as the values that it holds."""
    return column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column


def _known_levels(name: str, kind: ColumnKind, new: pd.Series) -> pd.Series:
    known = kind.levels or frozenset()
    unknown = [v for v in pd.unique(new[new.notna()].astype(object)) if v not in known]
    if unknown:
        row = int(np.argmax((new.astype(object) == unknown[0]).to_numpy())) + 1
        shown = ", ".join(sorted(map(str, known))[:12]) + (", ..." if len(known) > 12 else "")
        raise DataError(
            f"`{name}` is {unknown[0]!r} in row {row} of the new table, but the fit has no "
            f"coefficient for this level. The levels in the fit are: {shown}."
        )
    return new.astype(object) if kind.dtype is None else new.astype(object).astype(kind.dtype)


def _term_columns(formula: Formula) -> set[str]:
    """Columns of predictors, whose levels have coefficients."""
    terms: list[Term] = [*formula.terms, *(f.term for f in formula.fixed)]
    terms += formula.sigma.terms if formula.sigma is not None else ()
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    return {c for t in terms for a in t.atoms for c in value_columns(a.expression)}
