"""The outcome's columns as numbers; two labels are read as 0 and 1, with a word on which is 1."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rmm.design.columns.encode import atom_values
from rmm.errors import DataError, SpecificationWarning
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
