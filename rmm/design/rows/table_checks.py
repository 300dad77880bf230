"""Warnings of what a table may not mean: labels that look alike, wide tables, ids as decimals.

They are for fitting alone; a table to predict for is not checked again.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from rmm.design.rows.group_rows import Grouped
from rmm.errors import SpecificationWarning, counted
from rmm.formula.parse_formula import id_columns
from rmm.formula.terms import FixedTerm, Formula, MemberBlock, Term
from rmm.formula.weights.weight_function import Column
from rmm.tables.read import describe_disguise, is_dated, numeric
from rmm.tables.table import Table, TableColumn
from rmm.tables.text_values import MISSING_NUMBERS, look_alike
from rmm.tables.wide_to_long import to_long_text

_FEW_LEVELS = 10  # a category with no more levels is never said to have too many
_SHOWN = 5
#: What str() makes of missing values; "None", or R's "NA", may be a category, but hardly an id.
_WRITTEN_MISSING = ("nan", "<NA>", "NaT")


def check_table(
    grouped: Grouped, table: Table, *, from_text: bool, in_memory: bool = False
) -> bool:
    """Warn of what a table may not mean.

    Parameters
    ----------
    grouped : Grouped
    table : Table
        With the columns that the formula does not use.
    from_text : bool
        Whether it is from a text file for which `na=` was not given.
    in_memory : bool
        Whether it is from no text file at all.

    Returns
    -------
    bool
        Whether it looks like a wide table.

    Warns
    -----
    SpecificationWarning
        If labels differ in blanks or in their Unicode form only, ids are decimal numbers, texts
        such as NA are labels, categories have nearly as many levels as there are units, or a
        table is wide.
    """
    formula, categories = grouped.formula, _categories(grouped)
    ids = set(id_columns(formula))
    _check_labels({*ids, *(c for c, _ in categories)}, ids, table, from_text, in_memory)
    for name in sorted(ids):
        _warn_of_decimals(table[name])
    for name, units in categories:
        _warn_of_many_levels(name, _count_levels(table[name]), units)
    wide = False
    for block, members in zip(formula.members, grouped.blocks, strict=True):
        if len(members.code) > 1 and int(np.diff(members.start).max()) == 1:
            wide |= _warn_of_wide(block, table, formula)
    return wide


def check_ids(
    table: Table, ids: Collection[str], *, from_text: bool, in_memory: bool = False
) -> None:
    """Warn of ids that may not mean what they seem to mean; parameters as `check_table`.

    Warns
    -----
    SpecificationWarning
        If ids differ in blanks or in their Unicode form only, are decimal numbers, or are texts
        such as NA.
    """
    _check_labels(ids, ids, table, from_text, in_memory)
    for name in sorted(ids):
        _warn_of_decimals(table[name])


def _check_labels(
    names: Collection[str], ids: Collection[str], table: Table, from_text: bool, in_memory: bool
) -> None:
    for name in sorted(names):
        texts = _texts(table[name])
        _warn_of_labels(table[name], texts, from_text)
        if in_memory:
            _warn_of_written_missing(table[name], texts, {"None", "NA"} if name in ids else set())


def _texts(column: TableColumn) -> list[str]:
    if column.dtype.kind in "biuf":
        return []
    return [str(v) for v in column.different if isinstance(v, str)]


def _count_levels(column: TableColumn) -> int:
    return int((~pd.isna(column.different)).sum())


def _warn_of_labels(column: TableColumn, texts: list[str], from_text: bool) -> None:
    pair = look_alike(texts)
    if pair is not None:
        one, other = (_shown(text) for text in pair)
        warnings.warn(
            f"Column `{column.name}` contains {one} and {other}, which differ only in blanks or in "
            "the Unicode form of a character. They count as two different values. If they mean the "
            "same, clean the column, for example with .str.strip().str.normalize('NFC').",
            SpecificationWarning,
            stacklevel=3,
        )
    blank = [text for text in texts if not text.strip()]
    if blank:
        empty = int(column.series.isin(blank).sum())
        warnings.warn(
            f"Column `{column.name}` contains an empty text ({counted(empty, 'row')}), which "
            "counts as a value. If it means a missing value, replace it: .replace({'': None}).",
            SpecificationWarning,
            stacklevel=3,
        )
    missing = [text for text in texts if text.strip() in MISSING_NUMBERS] if from_text else []
    if missing:
        count = int(column.series.isin(missing).sum())
        warnings.warn(
            f"Column `{column.name}` contains {missing[0]!r} ({counted(count, 'row')}), which "
            f"counts as a value. If it means a missing value, set na=[{missing[0]!r}]; if it is a "
            "value, set na=[] to avoid this warning.",
            SpecificationWarning,
            stacklevel=3,
        )


def _warn_of_written_missing(column: TableColumn, texts: list[str], more: set[str]) -> None:
    """Texts that missing values become: empty slots would be one member of many groups."""
    found = [text for text in texts if text in {*_WRITTEN_MISSING, *more}]
    if found:
        count = int(column.series.isin(found).sum())
        warnings.warn(
            f"Column `{column.name}` contains the text {found[0]!r} ({counted(count, 'row')}), "
            f"which counts as a value. {_writer(found[0])} converts missing values to this text. "
            f"If it means a missing value, replace it: .replace({{{found[0]!r}: None}}).",
            SpecificationWarning,
            stacklevel=3,
        )


def _writer(text: str) -> str:
    return "R without NumPy" if text == "NA" else ".astype(str)"


def _shown(text: str) -> str:
    """A label with what cannot be seen spelled out."""
    return repr(text) if text.isascii() else ascii(text)


def _warn_of_decimals(column: TableColumn) -> None:
    if column.source.text or not pd.api.types.is_float_dtype(column.dtype):
        return
    values = column.series.dropna().to_numpy(dtype=float)
    decimal = values != np.round(values)
    if decimal.any():
        warnings.warn(
            f"The ids in column `{column.name}` are numbers with decimals, such as "
            f"{values[decimal][0]:g}. If they are codes, 1.1 and 1.10 have become the same id. "
            "Then read the column as text, for example with dtype={"
            + repr(str(column.name))
            + ": str}.",
            SpecificationWarning,
            stacklevel=3,
        )


def _categories(grouped: Grouped) -> list[tuple[str, int]]:
    """Columns that are categorical predictors, and the number of units that they describe."""
    formula = grouped.formula
    fixed: Iterable[FixedTerm] = formula.fixed
    found = [(c, grouped.groups.count) for c in _plain_columns(formula.terms, fixed)]
    for block, members in zip(formula.members, grouped.blocks, strict=True):
        names = _plain_columns((*block.terms, *block.slopes), block.fixed)
        found += [(c, members.count) for c in names]
    for nest, units in zip(formula.nestings, grouped.nestings, strict=True):
        found += [(c, units.count) for c in _plain_columns(nest.terms or (), nest.fixed)]
    return [(c, n) for c, n in dict.fromkeys(found) if _is_category(grouped.table[c])]


def _is_category(read: TableColumn) -> bool:
    """Whether it becomes dummies; numbers and dates in disguise are refused later."""
    if read.source.plain or read.source.text:
        return read.source.text and not read.disguise
    column = read.series.dropna()
    return numeric(column) is None and not is_dated(column) and not describe_disguise(column)


def _plain_columns(terms: Iterable[Term], fixed: Iterable[FixedTerm]) -> list[str]:
    every = [*terms, *(item.term for item in fixed)]
    atoms = [atom.expression for term in every for atom in term.atoms]
    return [node.name for node in atoms if isinstance(node, Column)]


def _warn_of_many_levels(name: str, levels: int, units: int) -> None:
    if levels > max(_FEW_LEVELS, units / 2):
        warnings.warn(
            f"The predictor `{name}` is a category with {levels} levels, but there are only "
            f"{units} units, so nearly every unit has its own coefficient. If the values are ids "
            f"of units, use random effects: hm(id = {name}). If they are numbers or dates, convert "
            "the column. Otherwise leave it out.",
            SpecificationWarning,
            stacklevel=3,
        )


def _warn_of_wide(block: MemberBlock, table: Table, formula: Formula) -> bool:
    """All groups of one member, and other columns that hold members too."""
    others = numbered_alike(block.member, table.names)
    others = others or _same_labels(block, table, formula)
    if not others:
        return False
    members = [block.member, *others]
    shown = ", ".join(f"`{name}`" for name in others[:_SHOWN])
    more = ", ..." if len(others) > _SHOWN else ""
    warnings.warn(
        f"Every group (column `{block.group}`) has only one member (column `{block.member}`), but "
        f"the table also has {shown}{more}. It seems to be a wide table, with one row per group "
        "and one column per member. rmm reads each row as one membership, so all weights are 1 and "
        "the other members are ignored. Make a long table: "
        f"{to_long_text(members, table.names, block.group, 'data')}.",
        SpecificationWarning,
        stacklevel=3,
    )
    return True


def numbered_alike(name: str, names: Iterable[str]) -> list[str]:
    """Columns that are named like one but for a number: party1, party2; id_1_x, id_2_x; id, id2."""
    patterns = [
        rf"{re.escape(name[: place.start()])}\d+{re.escape(name[place.end() :])}"
        for place in re.finditer(r"\d+", name)
    ] or [rf"{re.escape(name)}[_.]?\d+"]
    found = [o for pattern in patterns for o in names if o != name and re.fullmatch(pattern, o)]
    return list(dict.fromkeys(found))


def _same_labels(block: MemberBlock, table: Table, formula: Formula) -> list[str]:
    """Text columns most of whose values are members' ids."""
    members, found = set(_texts(table[block.member])), []
    used = id_columns(formula)
    for name in table.names:
        if name in used or table[name].dtype.kind in "biufcmM" or not members:
            continue
        texts = _texts(table[name])
        if texts and len(members.intersection(texts)) > max(1, len(texts) / 2):
            found.append(str(name))
    return found
