"""The outcome's columns as numbers, two labels as 0 and 1; ordered levels as codes and labels."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rmm.design.columns.encode import atom_values
from rmm.errors import DataError, SpecificationWarning, counted, quoted
from rmm.families import Family
from rmm.formula.terms import Atom, Outcome
from rmm.formula.weights.weight_function import Column
from rmm.tables.read import Array, describe_column
from rmm.tables.table import Table

#: Words that mean 1, each with the one that means 0.
_WORDS = {
    "yes": "no",
    "y": "n",
    "true": "false",
    "t": "f",
    "success": "failure",
    "event": "censored",
    "dead": "alive",
    "died": "survived",
    "pass": "fail",
    "positive": "negative",
}
_SHOWN = 5


def outcome_parts(outcome: Outcome, family: Family, table: Table) -> tuple[Array, ...]:
    """The parts of an outcome as (J,) numbers.

    A text or a category with two values is read as 0 and 1 where the family's outcome is 0 or 1:
    words such as yes and no by their meaning, other categories in their order, other texts in the
    alphabet's. The event of `Surv()` may be such words.

    Parameters
    ----------
    outcome : Outcome
    family : Family
    table : (J, ...) Table
        One row per group.

    Returns
    -------
    tuple of (J,) arrays

    Raises
    ------
    DataError
        If a part is not numeric and cannot be read so.

    Warns
    -----
    SpecificationWarning
        Which label was read as 1.
    """
    return tuple(
        _part(
            atom,
            table,
            any_two=family.binary and outcome.kind == "plain",
            words=outcome.kind == "surv" and place == 1,
        )
        for place, atom in enumerate(outcome.parts)
    )


def _part(atom: Atom, table: Table, *, any_two: bool, words: bool) -> Array:
    node = atom.expression
    if not (isinstance(node, Column) and (any_two or words)):
        return atom_values(atom, table)
    if table[node.name].numbers is not None:
        return atom_values(atom, table)
    column = table[node.name].series
    labels = _two_labels(node.name, column)
    known = {zero: one for one, zero in _WORDS.items()}
    low, high = (str(label).strip().lower() for label in labels)
    if known.get(high) == low:
        labels = labels[::-1]
    elif known.get(low) != high and words:
        raise DataError(
            f"The event `{node.name}` is {labels[0]!r} or {labels[1]!r}, and it is not clear which "
            "of the two means that the event happened. Set `" + str(node.name) + "` to 1 where the "
            "event happened and to 0 where the duration is censored."
        )
    warnings.warn(
        f"The outcome `{node.name}` is {labels[0]!r} or {labels[1]!r}: {labels[1]!r} is used as 1 "
        f"and {labels[0]!r} as 0.",
        SpecificationWarning,
        stacklevel=2,
    )
    return np.asarray(column.astype(object) == labels[1], dtype=float)


def _two_labels(name: str, column: pd.Series) -> list[object]:
    """The two values of a column, in the order of its categories or of the alphabet."""
    found = list(column.astype(object).unique())
    if isinstance(column.dtype, pd.CategoricalDtype):
        ordered = [v for v in column.cat.categories if v in set(found)]
    elif all(isinstance(v, str) for v in found):
        ordered = sorted(found)
    else:
        raise DataError(
            f"The outcome `{name}` contains {describe_column(column)}. Convert it to numbers."
        )
    if len(ordered) == 1:
        raise DataError(
            f"The outcome `{name}` is {ordered[0]!r} in every group, so there is nothing to "
            "explain. Check the name of the column."
        )
    if len(ordered) > 2:
        shown = ", ".join(map(repr, ordered[:_SHOWN])) + ", ..." * (len(ordered) > _SHOWN)
        raise DataError(
            f"The outcome `{name}` has more than two values: {shown}. It must contain 0 and 1, "
            "true and false, or two different texts. Set it to 1 where the event happened and to "
            "0 elsewhere."
        )
    return ordered


# ---- ordered levels ----------------------------------------------------------------------------


def ordered_parts(outcome: Outcome, family: Family, table: Table) -> tuple[Array, ...]:
    """The parts of an outcome of ordered levels, as `Family.read_outcome` takes them.

    Parameters
    ----------
    outcome : Outcome
        One column.
    family : Family
        Its option `levels` states an order.
    table : (J, ...) Table
        One row per group.

    Returns
    -------
    tuple of arrays
        (J,) numbers; or (J,) codes from 0, and (K,) levels, the lowest first: those of the option,
        or all categories of an ordered category.

    Raises
    ------
    DataError
        For texts or categories without an order, and values that are not among the stated levels.

    Warns
    -----
    SpecificationWarning
        If nobody has some of the levels that the option states.
    """
    atom = outcome.parts[0]
    stated = family.options.get("levels")
    column = table[atom.expression.name] if isinstance(atom.expression, Column) else None
    if column is None or (column.numbers is not None and stated is None):
        if stated is not None:
            raise DataError(
                f"`levels` states an order of the values of a column, but the outcome is "
                f"`{atom.label}`. Use a column of the table as the outcome."
            )
        return (atom_values(atom, table),)
    series = column.series
    if stated is None:
        if not (isinstance(series.dtype, pd.CategoricalDtype) and series.cat.ordered):
            raise _without_order(atom.label, series)
        stated = series.cat.categories.tolist()
    place = {level: k for k, level in enumerate(stated)}
    values = series.astype(object).tolist()
    unknown = list(dict.fromkeys(v for v in values if v not in place))
    if unknown:
        raise DataError(
            f"The outcome `{atom.label}` has {counted(len(unknown), 'value')} that "
            f"{'is' if len(unknown) == 1 else 'are'} not among the stated levels: "
            f"{_listed(unknown)}. The levels are: {_listed(stated)}."
        )
    absent = [level for level in stated if level not in set(values)]
    if absent and "levels" in family.options:
        warnings.warn(
            f"No group has the {'level' if len(absent) == 1 else 'levels'} {_listed(absent)} of "
            f"the outcome `{atom.label}`. The thresholds beside it rest on their prior.",
            SpecificationWarning,
            stacklevel=2,
        )
    levels = np.empty(len(stated), dtype=object)
    levels[:] = stated
    return np.array([place[v] for v in values], dtype=np.int64), levels


def _listed(values: list[object]) -> str:
    shown = ", ".join(quoted(v) for v in values[:_SHOWN])
    return shown + f" and {len(values) - _SHOWN} more" * (len(values) > _SHOWN)


def _without_order(label: str, series: pd.Series) -> DataError:
    """Which of low, high and medium comes first the alphabet does not know."""
    found = list(dict.fromkeys(series.astype(object).tolist()))
    kind = "categories" if isinstance(series.dtype, pd.CategoricalDtype) else "texts"
    return DataError(
        f"The outcome `{label}` has {kind} without an order: {_listed(found)}. State the order of "
        'its levels, the lowest first: with levels=[...] beside family="ordinal", or in the table '
        f"as an ordered category, pd.Categorical(data[{label!r}], [...], ordered=True)."
    )
