"""A new table laid out as the fit's was: levels, means, sds and totals are those of the fit.

The new rows are put below the fit's own, and both are encoded together: what a term means is then
decided in one place, `rmm.design.design`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.design.columns.encode import atom_values
from rmm.design.design import Design, build_design
from rmm.design.prepare import Model
from rmm.design.rows.group_rows import Grouped, arrange, check_rows
from rmm.design.rows.units import Members, Units
from rmm.design.subset_groups import some_groups, some_rows
from rmm.errors import DataError
from rmm.formula.parse_formula import columns_of, id_columns
from rmm.formula.terms import Atom, Formula, Term
from rmm.formula.weights.weight_function import leaf_columns, value_columns
from rmm.model.spec import NestingPart
from rmm.posterior.prediction.linear_predictor import Layout
from rmm.tables.data_files import is_text_file
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import Array, numeric, read_table


@dataclass(frozen=True)
class NewGroups:
    """New groups of a model.

    Attributes
    ----------
    layout : Layout
        Members and nesting units of the fit keep their codes; new ones come after them.
    new_members, new_units : tuple of arrays
        Labels of the new members of each `mm()` block and the new units of each `hm()` block.
    """

    layout: Layout
    new_members: tuple[Array, ...]
    new_units: tuple[Array, ...]


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
    formula, fitted = model.spec.formula, model.grouped
    frame = _read(model, newdata)
    used = _used(formula, frame)
    check_rows(formula, frame, used)
    frame = _same_kinds(formula, fitted.frame, frame, used)
    new = arrange(formula, frame, used)
    stacked, new_members, new_units = _stacked(fitted, new)
    for nest, labels in zip(model.spec.nestings, new_units, strict=True):
        _refuse_new_fixed(nest, labels)
    design = build_design(
        model.spec, stacked, centre=False, transform=model.transform, known=fitted.groups.count
    )
    _check_labels(model, design.coords)
    _check_time(model, design, stacked)
    groups = np.arange(fitted.groups.count, stacked.groups.count)
    parts = _outcome_parts(formula, new, used)
    strata = None if new.strata is None else new.strata.code
    outcome = model.spec.family.outcome_of_new(model.design.outcome, parts, strata, len(groups))
    cut = replace(some_groups(design, stacked, groups), outcome=outcome)
    return NewGroups(Layout(cut, some_rows(stacked, groups)), new_members, new_units)


def _read(model: Model, newdata: Any) -> pd.DataFrame:
    """The new table; columns of a text file that were text in the fit are text."""
    formula, fitted = model.spec.formula, model.grouped.frame
    ids, used = id_columns(formula), columns_of(formula)
    text = {c for c in used if c in fitted.columns and _is_text(fitted[c])}
    na = model.na if is_text_file(newdata) else None
    return simplify_columns(read_table(newdata, ids=ids, text=text, na=na), used, ids)


def _is_text(column: pd.Series) -> bool:
    there = column.dropna()
    return len(there) > 0 and numeric(there) is None


def _outcome_columns(formula: Formula) -> set[str]:
    return {c for part in formula.outcome.parts for c in leaf_columns(part.expression)}


def _parts_for_new(formula: Formula) -> tuple[Atom | None, ...]:
    """Parts of the outcome that predictions use: upper limits and numbers of trials."""
    parts = formula.outcome.parts
    if formula.outcome.kind == "surv":
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
            f"The new table has no column `{absent[0]}`. It needs: {', '.join(rest)}; the outcome "
            "may be left out."
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
    return tuple(unknown if p is None else atom_values(p, new.group_frame) for p in parts)


# ---- columns of the same kind ----------------------------------------------------------------


def _same_kinds(
    formula: Formula, fitted: pd.DataFrame, frame: pd.DataFrame, used: tuple[str, ...]
) -> pd.DataFrame:
    """The new columns with the fit's types; errors where that cannot be."""
    ids, categories = id_columns(formula), _term_columns(formula)
    groups = {block.group for block in formula.members}  # new ones need not look like the fit's
    out = frame.copy(deep=False)
    for name in used:
        if name in groups - categories:
            continue
        old, new = fitted[name], frame[name]
        if name not in categories:  # an id is the same in a column of categories
            old, new = _values(old), _values(new)
        if not new.notna().any():  # a kind of members that the new groups do not have
            out[name] = new.astype(object)
            continue
        numbers, now = numeric(old[old.notna()]), numeric(new[new.notna()])
        if (numbers is None) != (now is None):
            words = {True: "text or categories", False: "numbers"}
            raise DataError(
                f"Column `{name}` of the new table holds {words[now is None]}, that of the fit "
                f"{words[numbers is None]}. Convert it: the same unit or level must look the same."
            )
        if numbers is None and name in categories:
            out[name] = _known_levels(name, old, new)
        elif numbers is None and name in ids:
            out[name] = new.astype(object)
    return out


def _values(column: pd.Series) -> pd.Series:
    """A column of categories as the values that it holds."""
    return column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column


def _known_levels(name: str, old: pd.Series, new: pd.Series) -> pd.Series:
    known = set(old[old.notna()].astype(object))
    unknown = [v for v in pd.unique(new[new.notna()].astype(object)) if v not in known]
    if unknown:
        row = int(np.argmax((new.astype(object) == unknown[0]).to_numpy())) + 1
        shown = ", ".join(sorted(map(str, known))[:12]) + (", ..." if len(known) > 12 else "")
        raise DataError(
            f"`{name}` is {unknown[0]!r} in row {row} of the new table; the fit has no coefficient "
            f"for it. Its levels: {shown}."
        )
    if isinstance(old.dtype, pd.CategoricalDtype):
        return new.astype(object).astype(old.dtype)
    return new.astype(object)


def _term_columns(formula: Formula) -> set[str]:
    terms: list[Term] = [*formula.terms, *(f.term for f in formula.fixed)]
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    return {c for t in terms for a in t.atoms for c in value_columns(a.expression)}


# ---- stacking --------------------------------------------------------------------------------


def _stacked(fitted: Grouped, new: Grouped) -> tuple[Grouped, tuple[Array, ...], tuple[Array, ...]]:
    """The fit's rows and the new ones below them; new labels of members and units."""
    columns = [c for c in fitted.frame.columns if c in new.frame.columns]
    frame = pd.concat([fitted.frame[columns], new.frame[columns]])
    members = [_joined_members(a, b, len(fitted.frame), fitted.groups.count)
               for a, b in zip(fitted.members, new.members, strict=True)]  # fmt: skip
    nestings = [_joined(a, b) for a, b in zip(fitted.nestings, new.nestings, strict=True)]
    groups = Units(
        np.concatenate([fitted.groups.code, new.groups.code + fitted.groups.count]),
        np.concatenate([fitted.groups.labels, new.groups.labels]),
    )
    start = np.concatenate([fitted.start, new.start[1:] + fitted.start[-1]])
    strata = None
    if fitted.strata is not None and new.strata is not None:
        strata = _joined(fitted.strata, new.strata)[0]
    stacked = replace(
        fitted,
        frame=frame,
        groups=groups,
        start=start,
        members=tuple(units for units, _ in members),
        nestings=tuple(units for units, _ in nestings),
        strata=strata,
    )
    return stacked, tuple(x for _, x in members), tuple(x for _, x in nestings)


def _joined(known: Units, new: Units) -> tuple[Units, Array]:
    """Codes over both, known labels first; and the labels that are new."""
    place = {label: code for code, label in enumerate(known.labels)}
    fresh = [label for label in new.labels if label not in place]
    place |= {label: code for code, label in enumerate(fresh, start=len(place))}
    code = np.array([place[label] for label in new.labels], dtype=np.int64)[new.code]
    added = np.empty(len(fresh), dtype=object)
    added[:] = fresh
    units = Units(np.concatenate([known.code, code]), np.concatenate([known.labels, added]))
    return units, added


def _joined_members(known: Members, new: Members, rows: int, groups: int) -> tuple[Members, Array]:
    """`_joined` for members: their rows and groups come after the fit's."""
    units, added = _joined(known, new)
    both = Members(
        code=units.code,
        labels=units.labels,
        rows=np.concatenate([known.rows, new.rows + rows]),
        group=np.concatenate([known.group, new.group + groups]),
        start=np.concatenate([known.start, new.start[1:] + known.start[-1]]),
    )
    return both, added


def _refuse_new_fixed(nest: NestingPart, labels: Array) -> None:
    if not nest.random and len(labels):
        raise DataError(
            f"The nesting unit {labels[0]} of `{nest.block.unit}` was not in the fit. Its units "
            'have fixed effects, which say nothing of other units: fit with type="RE" to predict '
            "new ones."
        )


def _check_time(model: Model, design: Design, stacked: Grouped) -> None:
    """Random walks go on: new memberships of a member come after those of the fit."""
    for part, fitted, both, units in zip(
        model.spec.members, model.design.members, design.members, stacked.members, strict=True
    ):
        if fitted.walk is None or both.walk is None:
            continue
        count = len(fitted.member)
        before = np.flatnonzero(both.walk.previous[:count] >= count)
        if len(before):
            row = both.walk.previous[before[0]]
            raise DataError(
                f"Member {units.labels[units.code[row]]} of `{part.block.member}` is in new group "
                f"{stacked.groups.labels[units.group[row]]} before a group of the fit "
                f"(`{part.block.autoregressive}`). Effects of ar = are predicted onwards only: "
                "give groups that come after the member's groups in the fit."
            )


def _check_labels(model: Model, coords: Any) -> None:
    """The coefficients of the new table are those of the fit."""
    for name, labels in model.design.coords.items():
        if name.startswith(("covariate", "slope_l1")) and list(labels) != list(coords[name]):
            raise DataError(
                f"The new table gives the predictors {', '.join(map(str, coords[name]))}, the fit "
                f"has {', '.join(map(str, labels))}: their categories differ."
            )
