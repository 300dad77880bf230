"""The contrast of two compositions of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.arguments import shortened
from rmm.errors import BackendError, DataError, quoted, unknown_name
from rmm.formula.parse_formula import columns_of, id_columns
from rmm.formula.weights.weight_function import leaf_columns
from rmm.posterior.estimands.changed_groups import Expected, table_of
from rmm.posterior.estimands.quantity import Block, Quantity, Source, found_code
from rmm.tables.read import read_table

_LABELS = np.array(["before", "after", "change"], dtype=object)
_WAYS = "Give `group` with `without`, `swap` or `joins`, or the two tables `before` and `after`."


def draw(
    source: Source,
    *,
    group: Any = None,
    without: Sequence[Any] | None = None,
    swap: Sequence[Any] | None = None,
    joins: Any = None,
    before: Any = None,
    after: Any = None,
    scale: str | None = None,
    time: float | None = None,
    level: Any = None,
    block: int = 1,
) -> Quantity:
    """Expected outcome before, after, and the change.

    Weights, group sizes and aggregates are those of each composition.

    Parameters
    ----------
    source : Source
    group : object, optional
        Id of a group of the fit, whose rows are changed by, in this order:
    without : sequence, optional
        Ids of members that leave.
    swap : (A, B), optional
        Members that exchange places: what varies within members over the table stays at the place,
        what is constant within members goes with them. B need not be in the group.
    joins : table, optional
        Rows of members that join: member ids and the members' columns; columns of the group are
        filled in. With several kinds of members they are of the kind of `block`.
    before, after : tables, optional
        Instead of `group`: rows of one group, or of several, over which the outcome is averaged.
    scale, time, level
        See `Expected`.
    block : int
        `mm()` block of the members.
    """
    if any(part.in_time and not part.block.times_known for part in source.model.spec.members):
        raise BackendError(
            "A contrast is not available with random walks or `ar = ar1()`: if a member leaves a "
            "group, its effects in later groups are not defined."
        )
    if group is None:
        old, new = _tables(before, after, (without, swap, joins))
    else:
        if before is not None or after is not None:
            raise DataError(f"`before` and `after` cannot be given together with `group`. {_WAYS}")
        old, new = _changed(source.block(block), group, without, swap, joins)
    expected = Expected.of(source, scale, time, level)
    (labels, one), (others, two) = expected.of_new(old), expected.of_new(new)
    if list(map(str, labels)) != list(map(str, others)):
        raise DataError("`before` and `after` must have the same groups.")
    means = one.mean(axis=1), two.mean(axis=1)
    return Quantity(np.column_stack([*means, means[1] - means[0]]), _LABELS, "composition", main=2)


def _tables(before: Any, after: Any, changes: tuple[Any, ...]) -> tuple[Any, Any]:
    if before is None or after is None or any(c is not None for c in changes):
        raise DataError(f"Two compositions are needed. {_WAYS}")
    return before, after


def _changed(
    chosen: Block, group: Any, without: Any, swap: Any, joins: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a group, and those of its new composition."""
    if without is None and swap is None and joins is None:
        raise DataError(f"Nothing changes in group {quoted(group)}. {_WAYS}")
    model = chosen.source.model
    code = found_code(chosen.groups, group, f"a group of column `{chosen.part.block.group}`")
    rows = table_of(model).iloc[model.grouped.groups.code == code].reset_index(drop=True)
    new = rows
    if without is not None:
        new = _left(chosen, new, without)
    if swap is not None:
        new = _swapped(chosen, new, swap)
    if joins is not None:
        new = _joined(chosen, new, joins)
    if not len(new):
        raise DataError(f"No member is left in group {quoted(group)}.")
    return rows, new


def _left(chosen: Block, rows: pd.DataFrame, leaving: Any) -> pd.DataFrame:
    name = chosen.part.block.member
    if isinstance(leaving, str) or np.ndim(leaving) != 1:
        raise DataError(f"`without` must be a list of members, not {shortened(leaving)}.")
    gone = [_member_of(chosen, rows, member) for member in leaving]
    return rows[~rows[name].isin(gone)].reset_index(drop=True)


def _swapped(chosen: Block, rows: pd.DataFrame, swap: Any) -> pd.DataFrame:
    """Ids and columns that are constant within members change places."""
    if isinstance(swap, str) or np.ndim(swap) != 1 or len(swap) != 2:
        raise DataError(f"`swap` must be two members, (A, B), not {shortened(swap)}.")
    name, table = chosen.part.block.member, table_of(chosen.source.model)
    one = _member_of(chosen, rows, swap[0])
    two = chosen.labels[chosen.code(swap[1])]
    own = [name, *_columns_of_members(chosen, table)]
    known = {m: _own_values(table, own, m) for m in (one, two)}
    out = rows.copy()
    for place, other in ((one, two), (two, one)):
        for row in rows.index[rows[name] == place]:
            for column in own:
                out.loc[row, column] = known[other][column]
    return out


def _own_values(table: pd.DataFrame, own: list[str], member: Any) -> pd.Series:
    """The id of a member and what belongs to it, which the rows of the fit know."""
    rows = table.loc[table[own[0]] == member, own]
    if len(rows):
        return rows.iloc[0]
    if len(own) == 1:  # a member who has had other roles only (`cor =`)
        return pd.Series({own[0]: member})
    raise DataError(
        f"Member {quoted(member)} is in no row of column `{own[0]}`, so its value of `{own[1]}` is "
        "not known. Give the two tables `before` and `after` instead of `swap`."
    )


def _columns_of_members(chosen: Block, table: pd.DataFrame) -> list[str]:
    """Columns that are constant within members but not within all groups."""
    block = chosen.part.block
    by_member, by_group = table.groupby(block.member), table.groupby(block.group)
    ids = id_columns(chosen.source.model.spec.formula)
    return [
        c
        for c in table.columns
        if c not in ids and by_member[c].nunique().max() == 1 and by_group[c].nunique().max() > 1
    ]


def _joined(chosen: Block, rows: pd.DataFrame, joins: Any) -> pd.DataFrame:
    """New rows, filled with the columns that are constant within the groups of the fit."""
    model, name = chosen.source.model, chosen.part.block.member
    formula = model.spec.formula
    new = read_table(joins, ids=id_columns(formula), text=set(), na=model.na).reset_index(drop=True)
    outcome = {c for part in formula.outcome.parts for c in leaf_columns(part.expression)}
    if name not in new:
        raise DataError(f"`joins` has no column `{name}` with the ids of the members who join.")
    present = set(map(str, rows[name]))
    for member in new[name]:
        if str(member) in present:
            raise DataError(f"Member {quoted(member)} of `joins` is in the group already.")
    first = rows.iloc[0] if len(rows) else None
    by_group = table_of(model).groupby(chosen.part.block.group)
    others = _columns_of_other_kinds(chosen)
    for column in rows.columns:
        if column in new or column in others:  # those are missing in the new rows
            continue
        if first is not None and (column in outcome or by_group[column].nunique().max() <= 1):
            new[column] = first[column]
        else:
            raise DataError(
                f"`joins` has no column `{column}`, which differs between the members of a group."
            )
    new[chosen.part.block.group] = rows[chosen.part.block.group].iloc[0]
    return pd.concat([rows, new[[c for c in rows if c in new]]], ignore_index=True)


def _columns_of_other_kinds(chosen: Block) -> set[str]:
    """Columns that only `mm()` blocks of other kinds of members use."""
    formula = chosen.source.model.spec.formula
    if not formula.kinds:
        return set()
    own = formula.kinds[chosen.index]
    same = [b for b, kind in zip(formula.members, formula.kinds, strict=True) if kind == own]
    return {*columns_of(formula)} - {*columns_of(replace(formula, members=tuple(same)))}


def _member_of(chosen: Block, rows: pd.DataFrame, label: Any) -> Any:
    """The id of a member of the group, as the table has it."""
    members = list(rows[chosen.part.block.member].dropna())
    for member in members:
        if str(member) == str(label):
            return member
    raise DataError(unknown_name(label, "a member of this group", members))
