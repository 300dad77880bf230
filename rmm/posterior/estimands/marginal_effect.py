"""The average marginal effect of a covariate on the outcome's own scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, unknown_name
from rmm.formula.parse_formula import columns_of, id_columns
from rmm.formula.weights.weight_function import leaf_columns
from rmm.posterior.estimands.changed_groups import Expected, table_of
from rmm.posterior.estimands.quantity import Quantity, Source
from rmm.posterior.prediction.conditional_effects import (
    base_levels,
    columns_outside,
    levels_of,
)
from rmm.tables.read import Array, numeric

_STEP = 1e-4  # of a standard deviation: central differences are exact to about 1e-8


def draw(
    source: Source,
    *,
    variable: str,
    member: Any = None,
    values: Sequence[Any] | None = None,
    scale: str | None = None,
    time: float | None = None,
    level: Any = None,
    block: int = 1,
) -> Quantity:
    """Mean over groups of what a covariate changes in their expected outcome.

    All other covariates, the members and their effects are as observed. Of numbers it is the
    derivative, by central differences; of categories the difference from the base level.

    Parameters
    ----------
    source : Source
    variable : str
        A column of the formula. A covariate of members is moved in all members of a group at the
        same time, and in its weights, if they depend on it.
    member : object, optional
        Move it in this member's rows alone, and average over the groups that the member is in.
    values : sequence of two, optional
        (from, to): the difference of expected outcomes instead of the derivative.
    scale, time, level
        See `Expected`.
    block : int
        `mm()` block of `member`.
    """
    table, formula = table_of(source.model), source.model.spec.formula
    _check_variable(source, variable)
    rows, groups = np.ones(len(table), dtype=bool), np.arange(source.model.design.J)
    if member is not None:
        if variable in columns_outside(formula):
            raise DataError(
                f"`{variable}` is used outside mm(), so it is a covariate of groups and cannot be "
                "moved for one member. Leave `member` out."
            )
        chosen = source.block(block)
        code = chosen.code(member)
        # The id as the table has it, which may be a number where a label is text.
        rows = (table[chosen.part.block.member] == chosen.labels[code]).to_numpy()
        groups = chosen.member.group[chosen.memberships(member)]
    expected = Expected.of(source, scale, time, level)
    if member is None and values is None and expected.linear:
        slope = _own_slope(source, variable)
        if slope is not None:
            return Quantity(slope[:, None])

    def mean(column: pd.Series) -> Array:
        return expected.of_fit(table.assign(**{variable: column}))[:, groups].mean(axis=1)

    column = table[variable]
    if values is not None:
        low, high = _two(values)
        change = mean(_set(column, rows, high)) - mean(_set(column, rows, low))
        return Quantity(change[:, None])
    bases = base_levels(source.model)
    there = column.dropna()
    numbers = numeric(there)
    if numbers is not None and variable not in bases and there.dtype != bool:
        step = _STEP * (float(np.std(numbers)) or 1.0)
        moved = pd.Series(step * rows, index=column.index)
        known = column.astype(float)
        change = (mean(known + moved) - mean(known - moved)) / (2 * step)
        return Quantity(change[:, None])
    levels = list(np.unique(numbers)) if numbers is not None else levels_of(there)
    if there.dtype == bool:
        levels = [False, True]
    base = bases.get(variable, levels[0])
    others = [level for level in levels if level != base]
    at_base = mean(_set(column, rows, base))
    changes = [mean(_set(column, rows, level)) - at_base for level in others]
    return Quantity(np.column_stack(changes), np.array(others, dtype=object), "level")


def _own_slope(source: Source, variable: str) -> Array | None:
    """Draws of the derivative of a linear predictor in a number that members have one slope of.

    It is the slope times the sum of the weights, averaged over groups. None where the formula
    uses the column elsewhere too, such as in interactions or weights.
    """
    spec, design = source.model.spec, source.model.design
    formula = spec.formula
    for place, (part, member) in enumerate(zip(spec.members, design.members, strict=True)):
        labels = design.coords[f"covariate_l1{part.suffix}"].tolist() if part.columns else []
        if variable not in labels:
            continue
        others = tuple(term for term in part.block.terms if term.label != variable)
        blocks = [replace(b, terms=others) if b is part.block else b for b in formula.members]
        if variable in columns_of(replace(formula, members=tuple(blocks))):
            return None
        slope = source.need(part.b, "this estimand")[:, labels.index(variable)]
        if part.block.weight.constraint == "group":
            return np.asarray(slope * np.mean(np.diff(member.start) > 0))
        return np.asarray(slope * source.weights(place).sum(axis=1) / design.J)
    return None


def _check_variable(source: Source, variable: str) -> None:
    formula = source.model.spec.formula
    outcome = {c for part in formula.outcome.parts for c in leaf_columns(part.expression)}
    taken = {*outcome, *id_columns(formula)}
    known = [c for c in columns_of(formula) if c not in taken]
    if variable not in known:
        raise DataError(unknown_name(variable, "a covariate of this model", known))


def _two(values: Any) -> tuple[Any, Any]:
    if isinstance(values, str) or np.ndim(values) != 1 or len(values) != 2:
        raise DataError("`values` must be two values, (from, to), such as (0, 1).")
    return values[0], values[1]


def _set(column: pd.Series, rows: Array, value: Any) -> pd.Series:
    """The column with a value in some rows; rows of other kinds of members stay empty."""
    here = rows & column.notna().to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).mask(here, value).astype(column.dtype)
    return column.mask(here, value)
