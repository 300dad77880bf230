"""From rows to units: which column is the group, who belongs to it, and in which order."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from rmm.design.rows.likelihood_weights import check_observation_weights
from rmm.design.rows.units import (
    Members,
    Units,
    check_roles,
    find_members,
    share_members,
)
from rmm.errors import DataError, FormulaError, SpecificationWarning, counted, first_row, quoted
from rmm.formula.parse_formula import check_columns, columns_of
from rmm.formula.terms import Formula, MemberBlock, NestingBlock
from rmm.formula.weights.weight_function import leaf_columns
from rmm.tables.read import Array, numeric
from rmm.tables.table import Table, TableColumn, check_complete


@dataclass(frozen=True)
class Grouped:
    """A checked table in canonical order: by group, within group by member.

    The order of the user's rows cannot matter after this step.

    Attributes
    ----------
    formula : Formula
        With `id(member, group)` the right way round.
    table : Table
        (M, ...) rows, sorted.
    groups : Units
        `code` (M,) is sorted.
    start : (J+1,) int array
        Row pointer of the groups.
    members : tuple of Members
        One per `mm()` block, with the block's own rows; then, in a model, one per smooth term
        `s(x)`, whose "members" are its functions.
    nestings : tuple of Units
        One per `hm()` block, `code` (J,).
    strata : Units or None
        Of `strata()`, `code` (J,).
    """

    formula: Formula
    table: Table
    groups: Units
    start: Array
    members: tuple[Members, ...]
    nestings: tuple[Units, ...]
    strata: Units | None = None

    @property
    def blocks(self) -> tuple[Members, ...]:
        """Those of the `mm()` blocks."""
        return self.members[: len(self.formula.members)]

    @property
    def first(self) -> Array:
        """(J,) first row of each group: group-level columns are read there."""
        return self.start[:-1]

    @cached_property
    def first_rows(self) -> Table:
        """(J, ...) one row per group."""
        return self.table.some(self.first)

    @property
    def frame(self) -> pd.DataFrame:
        """(M, ...) the rows as pandas has them; the index is the user's row number (0-based)."""
        return self.table.frame

    @property
    def group_frame(self) -> pd.DataFrame:
        """(J, ...) one row per group, as pandas has it."""
        return self.first_rows.frame


def group_table(formula: Formula, table: Table) -> Grouped:
    """Check a table against a formula and put it in canonical order.

    Raises
    ------
    FormulaError
        Unknown column.
    DataError
        Missing or infinite values (but a member id may be missing where there are several kinds
        of members), an outcome or level-2 column that varies within a group, a member twice in
        one group, one group only.

    Warns
    -----
    SpecificationWarning
        If `id()` was written group first, or groups seem to be split over rows.
    """
    check_columns(formula, table.names)
    _check_sides(formula)
    _check_units(formula)
    check_observation_weights(formula, table)
    used = columns_of(formula)
    check_rows(formula, table, used)
    grouped = arrange(oriented(formula, table), table, used)
    _warn_of_repeated_rows(formula, grouped.table, used)
    _check_outcomes(grouped)
    for block, units in zip(formula.nestings, grouped.nestings, strict=True):
        _check_nesting(block, units, grouped)
    if grouped.groups.count < 2:
        raise DataError(
            f"The table has only one group ({grouped.groups.labels[0]}). A model needs several "
            "groups."
        )
    for kind, members in zip(formula.kinds, grouped.members, strict=False):
        if members.count == 0:
            raise DataError(f"Column `{kind}` is missing in every row, so its mm() has no members.")
    check_roles(formula, grouped.members)
    grouped = replace(grouped, members=share_members(formula, grouped.members))
    for block, units in zip(formula.nestings, grouped.nestings, strict=True):
        if units.count < 2:
            raise DataError(
                f"Column `{block.unit}` has only one nesting unit ({units.labels[0]}). hm() needs "
                "several nesting units."
            )
    return grouped


def arrange(formula: Formula, table: Table, used: tuple[str, ...]) -> Grouped:
    """A table in canonical order, checked within groups and units.

    Parameters
    ----------
    formula : Formula
        With `id(member, group)` the right way round.
    table : Table
        Complete in the columns `used`; see `check_rows`.
    used : tuple of str
        The formula's columns; new data may lack the outcome's.
    """
    table = table.some(_order(formula, table, used))
    groups = _groups(formula, table)
    start = np.searchsorted(groups.code, np.arange(groups.count + 1)).astype(np.int64)
    _check_constant(formula, table, groups)
    kinds = len(set(formula.kinds))
    members = tuple(find_members(block, table, groups, kinds) for block in formula.members)
    _check_sizes(formula, table, groups, members)
    nestings = tuple(_by_group(table, block.unit, start) for block in formula.nestings)
    strata = _strata(table, formula.strata, start) if formula.strata else None
    return Grouped(formula, table, groups, start, members, nestings, strata)


def _by_group(table: Table, name: str, start: Array) -> Units:
    """Units of a column that is constant within groups."""
    code, labels = table[name].codes
    return Units(code[start[:-1]], labels)


def _strata(table: Table, names: tuple[str, ...], start: Array) -> Units:
    """Strata of one column, or the combinations of several that the groups have."""
    units = [_by_group(table, name, start) for name in names]
    if len(units) == 1:
        return units[0]
    found, code = np.unique([u.code for u in units], axis=1, return_inverse=True)
    labels = np.empty(found.shape[1], dtype=object)
    labels[:] = [
        ", ".join(f"{n}={u.labels[c]}" for n, u, c in zip(names, units, codes, strict=True))
        for codes in found.T
    ]
    return Units(code.reshape(-1), labels)


def check_rows(formula: Formula, table: Table, used: tuple[str, ...]) -> None:
    """No missing values, but that with several kinds of members a row need not be of each.

    The covariates and weight variables of a block must be there in its own rows.
    """
    if all(name in used for name in formula.outcome.open_columns):
        _check_interval_given(formula, table)
    _check_no_interval(formula, table, used)
    used = tuple(name for name in used if name not in formula.outcome.open_columns)
    if not formula.kinds:
        _check_members_given(formula, table)
        check_complete(table, used)
        return
    given = {kind: ~table[kind].missing for kind in formula.kinds}
    nobody = ~np.any(list(given.values()), axis=0)
    if nobody.any():
        named = ", ".join(f"`{c}`" for c in given)
        raise DataError(
            f"{counted(int(nobody.sum()), 'row has', 'rows have')} no member ({named} are all "
            f"missing); the first is row {int(table.index[int(np.argmax(nobody))]) + 1}. Every row "
            "must be a membership. Give the row a member, or drop the row if its group has other "
            "members."
        )
    outside = columns_of(replace(formula, members=()))
    check_complete(table, [c for c in outside if c in used])
    for block, kind in zip(formula.members, formula.kinds, strict=True):
        columns = columns_of(replace(formula, members=(block,)))
        check_complete(table.some(given[kind]), [c for c in columns if c in used])


def _check_interval_given(formula: Formula, table: Table) -> None:
    """A missing value in one of the two times means that the interval is open there."""
    columns = formula.outcome.open_columns
    if not columns:
        return
    neither = np.all([table[name].missing for name in columns], axis=0)
    if neither.any():
        count, row = int(neither.sum()), int(table.index[int(np.argmax(neither))]) + 1
        raise DataError(
            f"Both times of `{formula.outcome.label}` are missing in {counted(count, 'row')}"
            f"{first_row(count, row)}. One missing time means that the interval is open; without "
            "both nothing is known of the event. Leave out the groups that have such rows; "
            'rmm.fit(..., missing="drop") does so.'
        )


def _check_no_interval(formula: Formula, table: Table, used: tuple[str, ...]) -> None:
    """An event that is missing, and otherwise not 0 or 1, may be an upper time that is open."""
    outcome = formula.outcome
    if outcome.kind != "surv" or len(outcome.parts) != 2:
        return
    time, event = (part.label for part in outcome.parts)
    if event not in used or event not in table.names:
        return
    column = table[event].series
    values = numeric(column)
    if values is None or np.isin(values[np.isfinite(values)], (0, 1)).all():
        return
    missing = ~np.isfinite(values)
    if missing.any():
        count, row = int(missing.sum()), int(table.index[int(np.argmax(missing))]) + 1
        raise DataError(
            f"Column `{event}`, the event of `{outcome.label}`, is missing or infinite in "
            f"{counted(count, 'row')}{first_row(count, row)}, and otherwise not always 0 or 1. If "
            f"`{time}` and `{event}` are the two times between which the event lies, write "
            f'Surv({time}, {event}, type = "interval2") (family weibull): a missing time means '
            f"that the interval is open. If `{event}` says whether there was an event, impute its "
            "missing values, or leave out the groups that have them; "
            'rmm.fit(..., missing="drop") does so.'
        )


def _check_members_given(formula: Formula, table: Table) -> None:
    """A missing member id is no missing value like others: the row may be no membership."""
    for block in formula.members:
        missing = table[block.member].missing
        if not missing.any():
            continue
        count, row = int(missing.sum()), int(table.index[int(np.argmax(missing))]) + 1
        raise DataError(
            f"Column `{block.member}`, the member id, has {counted(count, 'missing value')}"
            f"{first_row(count, row)}. If these rows come from empty cells of a wide table, they "
            f'are not memberships: drop them with data.dropna(subset=["{block.member}"]). '
            "If a group "
            "has a member that is not known, give this member a new id, or leave out the group "
            "with "
            'rmm.fit(..., missing="drop").'
        )


def _outcome_columns(formula: Formula) -> list[str]:
    return [c for part in formula.outcome.parts for c in leaf_columns(part.expression)]


def oriented(formula: Formula, table: Table) -> Formula:
    """The formula with `id(group, member)` swapped: the outcome is constant within the group."""
    blocks = tuple(_oriented_block(block, formula, table) for block in formula.members)
    if len({block.group for block in blocks}) > 1:
        named = ", ".join(f"`{g}`" for g in dict.fromkeys(b.group for b in blocks))
        raise FormulaError(
            f"The mm() blocks have different group ids: {named}.",
            formula.text,
            formula.members[-1].position,
            2,
            hint="All mm() blocks need the same group id: the outcome is measured on these groups.",
        )
    if all(one is other for one, other in zip(blocks, formula.members, strict=True)):
        return formula
    return replace(formula, members=blocks)


def _oriented_block(block: MemberBlock, formula: Formula, table: Table) -> MemberBlock:
    if block.member == block.group:
        raise FormulaError(
            f"The member id and the group id are the same column, `{block.member}`.",
            formula.text,
            block.position,
            2,
            hint="Write id(member, group).",
        )
    (group, labels), (member, _) = table[block.group].codes, table[block.member].codes
    if formula.kinds:
        given = (group >= 0) & (member >= 0)
        if not given.any():
            return block
        group, member, table = group[given], member[given], table.some(given)
    outcomes = [table[name] for name in _outcome_columns(formula)]
    bad = {column.name: column.varying(group) for column in outcomes}
    if all(first is None for first in bad.values()):
        _warn_of_single_memberships(block, group, member, outcomes)
        return block
    if all(column.varying(member) is None for column in outcomes):
        warnings.warn(
            f"The outcome is constant within `{block.member}`, not within `{block.group}`: "
            f"id({block.member}, {block.group}) was read as id({block.group}, {block.member}). "
            "Write the member first and the group second.",
            SpecificationWarning,
            stacklevel=2,
        )
        return replace(block, member=block.group, group=block.member)
    column, first = next((c, f) for c, f in bad.items() if f is not None)
    raise _outcome_varies(column, labels[first], block, spells=len(formula.outcome.parts) > 2)


def _outcome_varies(column: str, label: object, block: MemberBlock, *, spells: bool) -> DataError:
    group = block.group
    split = (
        f" If the rows of a group are several spells, each spell is a group of its own: give every "
        f"spell an id, such as data['spell'] = data['{group}'].astype(str) + ' from ' + "
        f"data['start'].astype(str), and write id({block.member}, spell)."
    )
    return DataError(
        f"The outcome `{column}` varies within group {quoted(label)} (column `{group}`). The "
        "outcome is measured on groups, so it must be the same in all rows of a group. "
        f"Check the outcome and the ids in id(member, group).{split if spells else ''}"
    )


def _warn_of_single_memberships(
    block: MemberBlock, group: Array, member: Array, outcomes: list[TableColumn]
) -> None:
    """Groups of one whose outcomes repeat within the other id: ids may be the wrong way round."""
    if group.max() + 1 < len(group) or len(np.unique(member)) == len(member):
        return
    if len(np.unique(group)) < len(group):
        return
    if all(column.varying(member) is None for column in outcomes):
        warnings.warn(
            f"Every group (column `{block.group}`) has only one member, and the outcome is "
            f"constant within `{block.member}`. If the outcome is measured on `{block.member}`, "
            f"write id({block.group}, {block.member}).",
            SpecificationWarning,
            stacklevel=2,
        )


def _check_sides(formula: Formula) -> None:
    """The outcome explains nothing of itself."""
    outcome = set(_outcome_columns(formula))
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    used = [c for t in terms for a in t.atoms for c in leaf_columns(a.expression)]
    used += formula.sigma.columns if formula.sigma is not None else ()
    used += [formula.observation_weights]
    used += [c for a in formula.offset for c in leaf_columns(a.expression)]
    used += [c for block in formula.members for c in block.weight.columns]
    features = [f for block in formula.members for f in block.features]
    used += [c for f in features if f.atom for c in leaf_columns(f.atom.expression)]
    both = [c for c in used if c in outcome]
    if both:
        raise FormulaError(
            f"`{both[0]}` is on both sides of the formula.",
            formula.text,
            formula.text.rfind(both[0]),
            len(both[0]),
            hint="The outcome cannot also be a predictor, a weight variable or a weight.",
        )


def _check_units(formula: Formula) -> None:
    units = [block.unit for block in formula.nestings]
    twice = [u for u in units if units.count(u) > 1]
    if twice:
        raise FormulaError(
            f"Two hm() blocks have the same unit, `{twice[0]}`.",
            formula.text,
            formula.nestings[-1].position,
            2,
            hint="Their effects cannot be separated. Keep one of them.",
        )


def _order(formula: Formula, table: Table, used: tuple[str, ...]) -> Array:
    """Canonical order: by group, then member; by all columns where these are the same."""
    named = list(dict.fromkeys(c for block in formula.members for c in (block.group, block.member)))
    keys = [_missing_last(table[name].codes[0]) for name in named]
    order = np.lexsort(keys[::-1]) if keys else np.arange(len(table))
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        same &= np.diff(key[order]) == 0
    if not same.any():
        return order
    rest = [c for c in dict.fromkeys(used) if c not in named]
    keys += [_ranks(table[c]) for c in rest]
    return np.lexsort(keys[::-1]) if keys else order


def _missing_last(code: Array) -> Array:
    return np.where(code < 0, len(code), code)


def _ranks(column: TableColumn) -> Array:
    """Numbers that sort a column; missing values come last."""
    if column.source.plain:
        return column.comparable
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) and "mixed" in dtype.categories.inferred_type:
        return _missing_last(column.series.cat.codes.to_numpy())  # refused where they are used
    return _missing_last(column.codes[0])


def _groups(formula: Formula, table: Table) -> Units:
    if formula.members:
        return Units(*table[formula.members[0].group].codes)
    return Units(np.arange(len(table)), table.index.astype(object))


def _warn_of_repeated_rows(formula: Formula, table: Table, used: tuple[str, ...]) -> None:
    """Rows are sorted by all used columns where there is no `mm()`."""
    if formula.members:
        return
    same = np.ones(len(table) - 1, dtype=bool)
    for name in used:
        values = table[name].comparable
        same &= values[1:] == values[:-1]
    repeated = int(same.sum())
    if len(table) > 10 and repeated > len(table) / 4:
        warnings.warn(
            f"Without mm() every row is one observation, but {repeated} of {len(table)} rows are "
            "equal to another row. If rows are memberships, keep one row per group; otherwise "
            "standard errors are too small.",
            SpecificationWarning,
            stacklevel=2,
        )


def _check_outcomes(grouped: Grouped) -> None:
    """With several kinds of members the outcome must be the same in the rows of all of them."""
    formula, table = grouped.formula, grouped.table
    for column in _outcome_columns(formula) if formula.kinds else ():
        bad = table[column].varying(grouped.groups.code)
        if bad is not None:
            label, block = grouped.groups.labels[bad], formula.members[0]
            raise _outcome_varies(column, label, block, spells=len(formula.outcome.parts) > 2)


def _check_constant(formula: Formula, table: Table, groups: Units) -> None:
    """Every column outside `mm()` must be constant within a group."""
    if not formula.members:
        return
    group_id = formula.members[0].group
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for block in formula.nestings:
        terms += [*(block.terms or ()), *(f.term for f in block.fixed)]
    columns = [c for t in terms for a in t.atoms for c in leaf_columns(a.expression)]
    columns += [c for a in formula.offset for c in leaf_columns(a.expression)]
    columns += [block.unit for block in formula.nestings]
    columns += formula.strata
    columns += formula.sigma.columns if formula.sigma is not None else ()
    if formula.observation_weights in table:  # new groups need none
        columns.append(formula.observation_weights)
    for column in dict.fromkeys(columns):
        bad = table[column].varying(groups.code)
        if bad is not None:
            raise DataError(
                f"Column `{column}` is used outside mm(), but varies within group "
                f"{quoted(groups.labels[bad])} (column `{group_id}`). If it is a covariate of "
                f"members, write mm(..., vars = vars({column})). If it is a covariate of groups, "
                "it must be the same in all rows of a group."
            )


def _check_nesting(block: NestingBlock, units: Units, grouped: Grouped) -> None:
    table, code, labels = grouped.table, units.code[grouped.groups.code], units.labels
    terms = [*(block.terms or ()), *(f.term for f in block.fixed)]
    columns = [c for t in terms for a in t.atoms for c in leaf_columns(a.expression)]
    if block.label_column is not None:
        columns.append(block.label_column)
    for column in columns:
        bad = table[column].varying(code)
        if bad is not None:
            raise DataError(
                f"Column `{column}` is used in hm(), but varies within nesting unit "
                f"{quoted(labels[bad])} (column `{block.unit}`). It must be the same in all rows "
                "of a nesting unit."
            )


def _check_sizes(
    formula: Formula, table: Table, groups: Units, members: tuple[Members, ...]
) -> None:
    """`n` is the counted group size; a column `n` that says otherwise is an error."""
    if "n" not in table:
        return
    for block, units in zip(formula.members, members, strict=True):
        if not block.weight.uses_size and not _sigma_uses_size(formula):
            continue
        given = _numbers(units.table["n"])
        bad = np.flatnonzero(given != units.size)
        if len(bad):
            row = bad[0]
            there = counted(int(units.size[row]), "row")
            where = "weight functions" if block.weight.uses_size else "the formula of sigma"
            if formula.kinds:
                there = f"{counted(int(units.size[row]), 'member')} in column `{block.member}`"
            raise DataError(
                f"Column `n` is {given[row]:g} for group "
                f"{quoted(groups.labels[units.group[row]])}, but this group has {there}. In "
                f"{where}, `n` always means the number of members of the group in the "
                "table. If members are missing, add their rows. If column `n` means something "
                "else, rename it."
            )


def _sigma_uses_size(formula: Formula) -> bool:
    return formula.sigma is not None and formula.sigma.uses_size


def _numbers(column: TableColumn) -> Array:
    """Numbers of a column that may hold anything; NaN elsewhere."""
    if column.source.plain:
        return column.comparable.astype(float)
    try:
        return np.asarray(pd.to_numeric(column.series, errors="coerce").to_numpy(float))
    except OverflowError:
        raise DataError("Column `n` contains numbers that are larger than any group.") from None
