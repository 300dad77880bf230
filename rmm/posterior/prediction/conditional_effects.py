"""Conditional effects: the expected outcome over one covariate, all else at a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rmm.arguments import shortened
from rmm.design.prepare import Model
from rmm.errors import DataError, unknown_name
from rmm.formula.column_bases import Categories
from rmm.formula.parse_formula import columns_of
from rmm.formula.terms import Formula, Term
from rmm.formula.weights.weight_function import Column, leaf_columns, value_columns
from rmm.tables.read import Array, numeric

_MOST_POINTS = 100_000


def reference_groups(
    model: Model,
    variable: str,
    values: Any = None,
    at: Mapping[str, Any] | None = None,
    points: int = 25,
    *,
    one_member: bool = False,
) -> tuple[Array, pd.DataFrame]:
    """One group per value of a covariate; everything else at its reference.

    Numbers are at their mean (over groups; those of members over memberships), categories at
    their base level, nesting units with fixed effects at the first. A group has the median number
    of members, all alike: a member covariate is moved in all of them.

    Parameters
    ----------
    model : Model
    variable : str
        A column that is a predictor.
    values : array-like, optional
        Default: `points` from the least to the greatest value of the data, or all levels.
    at : mapping, optional
        Other columns held elsewhere than at their reference.
    points : int
    one_member : bool
        Move the covariate in the first member of each group alone, the first row of its group.

    Returns
    -------
    values : array
    table : pandas.DataFrame
        For `Fit.predict`, in the order of the values.

    Raises
    ------
    DataError
        If the column is no predictor.
    """
    if at is not None and not isinstance(at, Mapping):
        raise DataError(f"`at` must map columns to values, not {shortened(at)}.")
    if values is not None and np.ndim(values) != 1:
        raise DataError(f"`values` must be a list of values, not {shortened(values)}.")
    if not 1 <= points <= _MOST_POINTS:
        raise DataError(
            f"`points` must be a whole number between 1 and {_MOST_POINTS:,}, but is {points}."
        )
    formula, frame = model.spec.formula, model.grouped.frame
    predictors = [*columns_outside(formula), *_members(formula)]
    for name in (variable, *(at or {})):
        if name not in predictors:
            raise DataError(
                unknown_name(name, "a predictor of this model", predictors)
                + " For weight variables use plot_weights()."
            )
    bases = base_levels(model)
    grid = _grid(frame[variable].dropna(), values, points, variable in bases)
    if numeric(frame[variable].dropna()) is not None and grid.dtype.kind not in "biuf":
        raise DataError(f"`values` of `{variable}` must be numbers, not {shortened(grid[0])}.")
    size = max(1, int(np.median(np.diff(model.grouped.start))))
    rows = pd.DataFrame({"row": np.repeat(np.arange(len(grid)), size)})
    table = pd.DataFrame(index=rows.index)
    outcome = {c for part in formula.outcome.parts for c in leaf_columns(part.expression)}
    ids = _ids(model, rows["row"].to_numpy(), size)
    for column in columns_of(formula):
        if column in outcome:
            continue
        if column in ids:
            table[column] = ids[column]
        elif column == variable:
            moved = np.repeat(grid, size)
            if one_member:
                rest = bases.get(column, _reference(frame[column].dropna()))
                moved = np.where(np.arange(len(moved)) % size == 0, moved, rest)
            table[column] = pd.Series(moved).astype(
                frame[column].dtype if numeric(frame[column].dropna()) is None else float
            )
        else:
            place = model.grouped.group_frame if column not in _members(formula) else frame
            value = (at or {}).get(column, bases.get(column, _reference(place[column].dropna())))
            table[column] = pd.Series([value] * len(table), dtype=_dtype(frame[column]))
    return grid, table


def base_levels(model: Model) -> dict[str, Any]:
    """Columns that `factor()` or `C()` takes as categories, and their base levels."""
    spec = model.spec
    terms = [*spec.written, *(t for nest in spec.nestings for t in nest.terms)]
    for part in spec.members:
        terms += [*part.block.terms, *part.block.slopes]
    terms += spec.formula.sigma.terms if spec.formula.sigma is not None else ()
    return {
        atom.expression.name: atom.basis.levels[0]
        for atom in (a for term in terms for a in term.atoms)
        if isinstance(atom.basis, Categories)
        and isinstance(atom.expression, Column)
        and atom.basis.levels
    }


def _dtype(column: pd.Series) -> Any:
    if numeric(column.dropna()) is not None:
        return float
    return column.dtype if isinstance(column.dtype, pd.CategoricalDtype) else object


def _reference(column: pd.Series) -> Any:
    numbers = numeric(column)
    if numbers is not None:
        return float(np.mean(numbers))
    return levels_of(column)[0]


def levels_of(column: pd.Series) -> list[Any]:
    """Levels of a column of text or categories, the base level of treatment contrasts first."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.remove_unused_categories().cat.categories)
    return sorted(column.unique())


def _grid(column: pd.Series, values: Any, points: int, category: bool) -> Array:
    """Where to look; of numbers that `factor()` takes as categories, all of them."""
    if values is not None:
        return np.asarray(values)
    numbers = numeric(column)
    if numbers is None:
        return np.asarray(levels_of(column), dtype=object)
    different = np.unique(numbers)
    if len(different) <= 2 or category:
        return different
    return np.linspace(numbers.min(), numbers.max(), points)


def few_values(model: Model, column: str) -> Array:
    """Values of a second covariate: all levels, or the mean and one sd below and above it."""
    values = model.grouped.frame[column].dropna()
    grid = _grid(values, None, 3, column in base_levels(model))
    numbers = numeric(values)
    if numbers is None or len(grid) != 3 or column in base_levels(model):
        return grid
    if column not in _members(model.spec.formula):
        numbers = numeric(model.grouped.group_frame[column].dropna())
        assert numbers is not None
    mean, sd = float(np.mean(numbers)), float(np.std(numbers, ddof=1))
    return np.array([mean - sd, mean, mean + sd])


def _ids(model: Model, group: Array, size: int) -> dict[str, Any]:
    """Ids of groups, of members and units that no effect of the fit belongs to."""
    formula, out = model.spec.formula, {}
    for block in formula.members:
        out[block.member] = _unlike(model.grouped.frame[block.member], np.arange(len(group)))
        out[block.group] = group
    for nest, units in zip(model.spec.nestings, model.grouped.nestings, strict=True):
        unit = nest.block.unit
        fresh = _unlike(model.grouped.frame[unit], group)
        out[unit] = fresh if nest.random else np.repeat(units.labels[:1], len(group))
        if nest.block.label_column is not None:
            out[nest.block.label_column] = "reference"
    for name in formula.strata:
        column = model.grouped.frame[name]
        if model.spec.family.needs_strata:
            out[name] = _unlike(column, np.zeros_like(group))
        else:  # the first of the fit's; relative hazards are the same in all
            out[name] = np.repeat(column.to_numpy()[:1], len(group))
    return out


def _unlike(column: pd.Series, code: Array) -> Any:
    """Ids of the column's kind that are not in it."""
    numbers = numeric(column.dropna())
    if numbers is not None:
        return code + np.ceil(numbers.max()) + 1
    longest = max(map(len, column.dropna().astype(str)))
    return np.array([f"{'new'.ljust(longest, '_')}{c}" for c in code], dtype=object)


def _columns(terms: list[Term]) -> list[str]:
    return [c for t in terms for a in t.atoms for c in value_columns(a.expression)]


def columns_outside(formula: Formula) -> list[str]:
    """Columns of the predictors outside `mm()`, of the residual standard deviation too."""
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    return [*_columns(terms), *(() if formula.sigma is None else formula.sigma.columns)]


def _members(formula: Formula) -> list[str]:
    terms: list[Term] = []
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
    return [*_columns(terms), *(c for b in formula.members for c in b.weight.variables)]
