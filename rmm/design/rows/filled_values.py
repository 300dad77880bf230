"""Missing values that are parameters, `missing="impute"`: which columns and units have them.

The table is filled with the mean of what was observed, so that all that follows is the same as with
a complete table; the programs add the difference of a parameter and this mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rmm.design.rows.group_rows import oriented
from rmm.errors import DataError, SpecificationWarning, counted, quoted
from rmm.formula.expression import Column, leaf_columns
from rmm.formula.parse_formula import check_columns, columns_of, id_columns
from rmm.formula.terms import Formula, Term
from rmm.tables.read import Array, numeric
from rmm.tables.table import Table

_LEAST = 3  # different values that a normal distribution is for
_PLAIN = "a covariate"
_POOL = (
    "Impute it beforehand, several times, and pool the fits with rmm.pool (docs, Missing values), "
    'or leave out groups with missing="drop".'
)


@dataclass(frozen=True)
class FilledColumn:
    """A covariate with missing values, filled in the table.

    Attributes
    ----------
    column : str
    block : int or None
        Place of its `mm()` block in the formula; None for a covariate of groups.
    unit : str
        What has a value each: ``"group"`` (``"row"`` without `mm()`), ``"member"`` or
        ``"membership"``.
    key : str or None
        Column of the units' ids; None of memberships.
    missing : frozenset
        Ids of the units without a value; of memberships row numbers (0-based).
    total : int
        Number of units.
    fill : float
        What stands for a missing value in the table: the mean of the units' values.
    """

    column: str
    block: int | None
    unit: str
    key: str | None
    missing: frozenset[object]
    total: int
    fill: float

    def __str__(self) -> str:
        return f"{self.column}: {len(self.missing)} of {counted(self.total, self.unit)}"


def fill_missing(
    formula: Formula, frame: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[FilledColumn, ...]]:
    """The table with missing values of covariates filled, and which these were.

    A value of a group, or of a member whose values are the same in all its rows, that one row has
    and another lacks, is not missing: it is copied.

    Parameters
    ----------
    formula : Formula
        As written.
    frame : pandas.DataFrame

    Raises
    ------
    DataError
        For missing values of columns that are not numeric covariates in a sum alone.
    """
    check_columns(formula, list(frame.columns))
    lacking = [c for c in columns_of(formula) if frame[c].isna().any()]
    lacking = [c for c in lacking if c not in formula.outcome.open_columns]
    ids = id_columns(formula)
    if any(c in ids and c not in formula.kinds for c in lacking):
        return frame, ()  # the table is refused, with what is wrong
    with warnings.catch_warnings():  # said when the rest is read
        warnings.simplefilter("ignore", SpecificationWarning)
        known = oriented(formula, Table(frame)) if formula.members else formula
    found, out = [], frame.copy()
    for column in lacking:
        if column in known.kinds:
            continue
        block = _block_of(column, known, out)
        needed = np.ones(len(out), dtype=bool)
        if block is not None and known.kinds:
            needed = out[known.members[block].member].notna().to_numpy()
        values = _numbers(column, out[column], needed)
        if not (np.isnan(values) & needed).any():
            continue  # rows of other kinds of members
        one, values = _filled(column, known, block, out, values, needed)
        out[column] = values
        if one is not None:
            found.append(one)
    if found and formula.observation_weights:
        raise DataError(
            f"Column `{found[0].column}` has missing values, and observation weights "
            f"(`{formula.observation_weights}`) count outcomes, not the values that missing ones "
            f"are like. The two cannot be combined. {_POOL}"
        )
    return out, tuple(found)


def _uses(formula: Formula) -> Iterator[tuple[str, int | None, tuple[str, ...]]]:
    """What each part of a formula is, the place of its `mm()` block, and its columns."""
    for part in formula.outcome.parts:
        yield "the outcome, or a part of it", None, leaf_columns(part.expression)
    yield from _of_terms(formula.terms, None)
    yield "in fix()", None, _columns([item.term for item in formula.fixed])
    for atom in formula.offset:
        yield "in offset()", None, leaf_columns(atom.expression)
    yield "in strata()", None, formula.strata
    if formula.sigma is not None:
        yield "in `sigma`", None, formula.sigma.columns
    yield "the observation weights", None, (formula.observation_weights,)
    for nest in formula.nestings:
        terms = [*(nest.terms or ()), *(item.term for item in nest.fixed)]
        yield "in hm()", None, _columns(terms)
    for number, block in enumerate(formula.members):
        yield from _of_terms(block.terms, number)
        yield "in re()", number, _columns(block.slopes)
        yield "in fix()", number, _columns([item.term for item in block.fixed])
        yield f"in the weights `{block.weight.text}`", number, block.weight.columns
        yield "the time of `ar =`", number, (block.time_column or "",)
        for feature in block.features:
            if feature.atom is not None:
                yield f"in `{feature.label}`", number, leaf_columns(feature.atom.expression)


def _of_terms(
    terms: Sequence[Term], block: int | None
) -> Iterator[tuple[str, int | None, tuple[str, ...]]]:
    for term in terms:
        atom = term.atoms[0]
        plain = len(term.atoms) == 1 and isinstance(atom.expression, Column) and not atom.basis
        yield _PLAIN if plain else f"in `{term.label}`", block, _columns([term])


def _columns(terms: Sequence[Term]) -> tuple[str, ...]:
    return tuple(c for term in terms for atom in term.atoms for c in leaf_columns(atom.expression))


def _block_of(column: str, formula: Formula, frame: pd.DataFrame) -> int | None:
    """The block in which a column is a plain covariate, and nothing else."""
    uses = [(what, block) for what, block, columns in _uses(formula) if column in columns]
    if [what for what, _ in uses] == [_PLAIN]:
        return uses[0][1]
    count = int(frame[column].isna().sum())
    where = " and ".join(dict.fromkeys(what for what, _ in uses))
    raise DataError(
        f"Column `{column}` has {counted(count, 'missing value')}, and it is {where}"
        f"{' in several places' * (len(uses) > 1)}. "
        'missing="impute" is for numeric covariates that are summands of the formula or of '
        f"vars(), once and without a function of them. {_POOL}"
    )


def _numbers(column: str, given: pd.Series, needed: Array) -> Array:
    values = numeric(given)
    if values is None or isinstance(given.dtype, pd.CategoricalDtype):
        count = int((given.isna().to_numpy() & needed).sum())
        raise DataError(
            f"Column `{column}` has {counted(count, 'missing value')} and is not numeric. "
            f'missing="impute" is for numbers, whose missing values are normal. {_POOL}'
        )
    different = np.unique(values[np.isfinite(values) & needed])
    if len(different) < _LEAST:
        shown = ", ".join(f"{v:g}" for v in different)
        raise DataError(
            f"Column `{column}` has missing values, and its other values are {shown or 'none'}. "
            'missing="impute" is for numbers that are about normal, which needs at least '
            f"{_LEAST} different values. {_POOL}"
        )
    return np.array(values, dtype=float)


def _filled(
    column: str,
    formula: Formula,
    block: int | None,
    frame: pd.DataFrame,
    values: Array,
    needed: Array,
) -> tuple[FilledColumn | None, Array]:
    """The missing values of a column, and the column with known values copied and others filled."""
    unit, key = "membership", None
    if block is None:
        unit, key = ("group", formula.members[0].group) if formula.members else ("row", None)
    elif _same_within(values[needed], frame[formula.members[block].member][needed]):
        unit, key = "member", formula.members[block].member
    if key is None:
        observed = values[needed]
        bad = np.isnan(values) & needed
        fill = float(np.nanmean(observed))
        missing = frozenset(int(row) for row in frame.index[bad])
        total = int(needed.sum())
    else:
        ids = frame[key]
        by_unit = pd.Series(values)[needed].groupby(ids.to_numpy()[needed])
        if unit == "group":
            _check_groups(column, key, by_unit)
        first = by_unit.first()  # the first value that is there
        missing = frozenset(first.index[first.isna()])
        fill, total = float(first.mean()), len(first)
        values = np.where(needed, ids.map(first).to_numpy(dtype=float), values)
        bad = np.isnan(values) & needed
    values = np.where(bad, fill, values)
    one = FilledColumn(column, block, unit, key, missing, total, fill) if missing else None
    return one, values


def _same_within(values: Array, members: pd.Series) -> bool:
    """Whether the values that are there are the same in all rows of each member, of which some
    have several.
    """
    here = ~np.isnan(values)
    by_member = pd.Series(values[here]).groupby(members.to_numpy()[here])
    return bool((by_member.nunique() <= 1).all() and (by_member.size() > 1).any())


def _check_groups(column: str, key: str, by_group: object) -> None:
    varying = by_group.nunique() > 1  # type: ignore[attr-defined]
    if varying.any():
        raise DataError(
            f"Column `{column}` varies within group {quoted(varying.index[varying][0])} (column "
            f"`{key}`), but it is used outside mm(). Use it in vars() of mm(), or correct it."
        )
