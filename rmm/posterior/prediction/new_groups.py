"""A new table laid out as the fit's was: levels, means, sds and totals are those of the fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.design.columns.column_kinds import as_in_fit
from rmm.design.columns.encode import atom_values
from rmm.design.prepare import Model
from rmm.design.rows.group_rows import Grouped, arrange, check_rows
from rmm.errors import DataError
from rmm.families.variants.varying_sd import sigma_columns
from rmm.formula.parse_formula import columns_of, id_columns
from rmm.formula.terms import Atom, Formula
from rmm.formula.weights.weight_function import leaf_columns
from rmm.posterior.prediction.linear_predictor import Layout
from rmm.tables.data_files import is_text_file
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import Array, read_table
from rmm.tables.table import Table


@dataclass(frozen=True)
class NewGroups:
    """New groups of a model.

    Attributes
    ----------
    layout : Layout
        Members and nesting units of the fit keep their codes; new ones come after them.
    new_members, new_units : tuple of arrays
        Labels of the new members of each `mm()` block and the new units of each `hm()` block.
    table : pandas.DataFrame
        As it was read, with columns that the formula does not use.
    """

    layout: Layout
    new_members: tuple[Array, ...]
    new_units: tuple[Array, ...]
    table: pd.DataFrame


def lay_out(model: Model, newdata: Any) -> NewGroups:
    """Lay out a new table, one row per membership, for a fitted model.

    Parameters
    ----------
    model : Model
    newdata : frame, table, mapping or path
        The formula's columns but the outcome's (which are used where they are there and the
        family needs them, such as the numbers of trials).

    Raises
    ------
    DataError
        Missing columns or values, text where the fit had numbers, levels of a category that the
        fit did not have, new nesting units where units have fixed effects.
    """
    formula, recipe = model.spec.formula, model.recipe
    frame = _read(model, newdata)
    used = _used(formula, frame)
    check_rows(formula, Table(frame), used)
    new = arrange(formula, Table(as_in_fit(formula, recipe.columns, frame, used)), used)
    rows = recipe.arrays(model.spec, new)
    parts = _outcome_parts(formula, new, used)
    strata = None if new.strata is None else new.strata.labels[new.strata.code]
    outcome = model.spec.family.outcome_of_new(model.design.outcome, parts, strata, rows.design.J)
    outcome |= sigma_columns(rows.design.outcome)
    layout = Layout(replace(rows.design, outcome=outcome), rows.grouped)
    return NewGroups(layout, rows.new_members, rows.new_units, frame)


def _read(model: Model, newdata: Any) -> pd.DataFrame:
    """The new table; columns of a text file that were text in the fit are text."""
    formula, kinds = model.spec.formula, model.recipe.columns
    ids, used = id_columns(formula), columns_of(formula)
    text = {c for c in used if c in kinds and kinds[c].text}
    na = model.na if is_text_file(newdata) else None
    return simplify_columns(read_table(newdata, ids=ids, text=text, na=na), used, ids)


def _outcome_columns(formula: Formula) -> set[str]:
    columns = {c for part in formula.outcome.parts for c in leaf_columns(part.expression)}
    return columns | ({formula.observation_weights} - {""})


def _parts_for_new(formula: Formula) -> tuple[Atom | None, ...]:
    """Parts of the outcome that predictions use: entries, upper limits, numbers of trials."""
    parts = formula.outcome.parts
    if formula.outcome.kind in ("surv", "spell"):
        return (None, None, *parts[2:])
    return parts if formula.outcome.kind == "cbind" else (None,)


def _used(formula: Formula, frame: pd.DataFrame) -> tuple[str, ...]:
    """Columns of the formula; those of the outcome only if they are used, there and complete."""
    outcome = _outcome_columns(formula)
    known = [part for part in _parts_for_new(formula) if part is not None]
    known_columns = [c for part in known for c in leaf_columns(part.expression)]
    rest = tuple(c for c in columns_of(formula) if c not in outcome)
    absent = [c for c in rest if c not in frame.columns]
    if absent:
        raise DataError(
            f"The new table has no column `{absent[0]}`. It needs these columns: "
            f"{', '.join(rest)}. It does not need the outcome."
        )
    given = all(c in frame.columns and frame[c].notna().all() for c in known_columns)
    return tuple(dict.fromkeys((*known_columns, *rest))) if given else rest


def _outcome_parts(
    formula: Formula, new: Grouped, used: tuple[str, ...]
) -> tuple[Array, ...] | None:
    """(J,) parts of the new groups' outcome, NaN where predictions do not use them, or None."""
    parts = _parts_for_new(formula)
    columns = {c for part in parts if part is not None for c in leaf_columns(part.expression)}
    if not columns or not columns <= set(used):
        return None
    unknown = np.full(new.groups.count, np.nan)
    return tuple(unknown if p is None else atom_values(p, new.first_rows) for p in parts)
