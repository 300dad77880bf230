"""The outcome's columns as numbers, two labels as 0 and 1; ordered levels as codes and labels."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from rmm.design.columns.encode import atom_values, input_columns
from rmm.design.rows.group_rows import Grouped
from rmm.errors import DataError, SpecificationWarning, counted, quoted
from rmm.families import Family
from rmm.families.weibull import CAUSES, ROUNDING
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
_MOST_CAUSES = 10


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
        Of an interval the lower times, 0 where they are open, and the upper times, infinity where
        they are open.

    Raises
    ------
    DataError
        If a part is not numeric and cannot be read so.

    Warns
    -----
    SpecificationWarning
        Which label was read as 1.
    """
    if outcome.kind == "interval":
        lower, upper = (_time_or_missing(atom, table) for atom in outcome.parts)
        lower = np.where(np.isnan(lower) | (lower == -np.inf), 0.0, lower)
        return lower, np.where(np.isnan(upper), np.inf, upper)
    return tuple(
        _part(
            atom,
            table,
            any_two=family.binary and outcome.kind == "plain",
            words=outcome.kind in ("surv", "spell") and place == 1,
        )
        for place, atom in enumerate(outcome.parts)
    )


def _time_or_missing(atom: Atom, table: Table) -> Array:
    """(J,) numbers of a column; missing and infinite values stay."""
    return np.array(input_columns(atom.label, atom.expression, table)[atom.label], dtype=float)


def with_third_column_read(grouped: Grouped) -> Grouped:
    """Decide by the values what `Surv(a, b, c)` is: an upper limit, or a start, an end, an event.

    It is Surv(time, event, upper) where b is an event (0 or 1) and c is never below a; it is
    Surv(start, stop, event) where c is an event and a is always below b.

    Parameters
    ----------
    grouped : Grouped

    Returns
    -------
    Grouped
        With the formula of the outcome that was found; the same where nothing was open.

    Raises
    ------
    DataError
        If the values fit both readings, or neither.
    """
    outcome = grouped.formula.outcome
    if outcome.reading != "open":
        return grouped
    first, second, third = outcome.parts
    table = grouped.first_rows
    is_event = {part.label: _is_event(part, table) for part in (second, third)}
    limit = is_event[second.label] and _never_above(first, third, table, equal=True)
    spell = is_event[third.label] and _never_above(first, second, table, equal=False)
    if limit == spell:
        causes = "" if any(is_event.values()) else _with_causes(outcome, table)
        raise DataError(causes or _undecided(outcome, is_event, table, both=limit))
    found = replace(outcome, reading="values")
    if spell:
        found = replace(found, kind="spell", parts=(second, third, first))
    return replace(grouped, formula=replace(grouped.formula, outcome=found))


def _undecided(outcome: Outcome, is_event: dict[str, bool], table: Table, *, both: bool) -> str:
    """Both spellings, and what speaks against each."""
    first, second, third = outcome.parts
    spellings = (
        f"Surv({first.label}, {second.label}, upper = {third.label}), or "
        f"Surv({second.label}, {third.label}, entry = {first.label})"
    )
    if both:
        return (
            f"The values of `{outcome.label}` fit two readings: time, event and upper limit, and "
            f"start, end and event. Write {spellings}."
        )
    problems = [
        f"`{second.label}` is not an event (0 or 1)"
        if not is_event[second.label]
        else f"the limit `{third.label}` is below the duration `{first.label}` in "
        + _how_often(_not_below(third, first, table, equal=True)),
        f"`{third.label}` is not an event (0 or 1)"
        if not is_event[third.label]
        else f"the start `{first.label}` is not below the end `{second.label}` in "
        + _how_often(_not_below(second, first, table, equal=False)),
    ]
    return (
        f"`{outcome.label}` can be read neither as time, event and upper limit ({problems[0]}) nor "
        f"as start, end and event ({problems[1]}). Correct the data, or write which is which: "
        f"{spellings}. If the columns are the end, the event and the start, in this order, write "
        f"Surv({first.label}, {second.label}, entry = {third.label})."
    )


def _with_causes(outcome: Outcome, table: Table) -> str:
    """Message on a column that has a few codes or labels where an event belongs; or nothing."""
    for part in outcome.parts[1:]:
        node = part.expression
        if isinstance(node, Column) and _may_be_causes(table[node.name].series):
            codes = sorted(map(str, table[node.name].series.dropna().unique()))
            return (
                f"An event is 1 or 0, but the values of `{part.label}` in `{outcome.label}` are "
                f"{', '.join(codes)}. {CAUSES}"
            )
    return ""


def _may_be_causes(values: pd.Series) -> bool:
    """Whether values are a few whole numbers or labels, most of which recur."""
    several = 2 < values.nunique() <= min(_MOST_CAUSES, len(values) / 2)
    whole = not pd.api.types.is_numeric_dtype(values) or bool((values.dropna() % 1 == 0).all())
    return several and whole


def _how_often(wrong: Array) -> str:
    return counted(int(wrong.sum()), "group")


def _is_event(atom: Atom, table: Table) -> bool:
    """Whether a part is 0 or 1, or a text with two values (see `_part`)."""
    node = atom.expression
    if isinstance(node, Column) and table[node.name].numbers is None:
        return table[node.name].series.nunique() <= 2
    return bool(np.isin(atom_values(atom, table), (0, 1)).all())


def _never_above(one: Atom, other: Atom, table: Table, *, equal: bool) -> bool:
    """Whether one part is below another in all groups, or equal to it."""
    if any(_is_text(part, table) for part in (one, other)):
        return False
    return not _not_below(other, one, table, equal=equal).any()


def _not_below(high: Atom, low: Atom, table: Table, *, equal: bool) -> Array:
    """(J,) whether `low` is above `high` (by more than rounding), or reaches it."""
    above, below = atom_values(high, table), atom_values(low, table)
    return above < below * (1 - ROUNDING) if equal else above <= below


def _is_text(atom: Atom, table: Table) -> bool:
    node = atom.expression
    return isinstance(node, Column) and table[node.name].numbers is None


def _part(atom: Atom, table: Table, *, any_two: bool, words: bool) -> Array:
    node = atom.expression
    if not (isinstance(node, Column) and (any_two or words)):
        return atom_values(atom, table)
    if table[node.name].numbers is not None:
        return atom_values(atom, table)
    column = table[node.name].series
    labels = _two_labels(node.name, column, event=words)
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


def _two_labels(name: str, column: pd.Series, *, event: bool) -> list[object]:
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
            f"0 elsewhere.{f' {CAUSES}' if event else ''}"
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
