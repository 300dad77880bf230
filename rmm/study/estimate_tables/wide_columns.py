"""From a wide table, with columns such as `b_ols` and `b_mm`, to one row per estimate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import StudyError
from rmm.study.estimate_tables.column_roles import TableColumns, no_column

#: What may stand in the name of a column for the label that differs between columns.
PLACES = ("method", "parameter")
_PLACE = re.compile(r"\{(method|parameter)\}")


def is_wide(columns: TableColumns) -> bool:
    """Whether names of columns have a `{method}` or `{parameter}` in them."""
    return any(_PLACE.search(name) for names in columns.named().values() for name in names)


def stack(frame: pd.DataFrame, columns: TableColumns) -> tuple[pd.DataFrame, TableColumns]:
    """A long table, and its columns; the index holds the rows of the wide one.

    A column of the long table is called by the pattern of those that it holds.

    Raises
    ------
    StudyError
        If no column has a name of the form, one of them lacks its counterpart, or a name can be
        read in two ways.
    """
    for argument, names in columns.named().items():
        for name in names:
            if not _PLACE.search(name) and name not in frame.columns:
                raise StudyError(no_column(name, argument, list(frame.columns)))
    patterns = {
        argument: names[0]
        for argument, names in columns.named().items()
        if any(_PLACE.search(name) for name in names)
    }
    for argument, pattern in patterns.items():
        if not _PLACE.sub("", pattern).strip(" _.-"):
            raise StudyError(
                f"`{argument}` is {pattern!r}, which would be every column of the table. Rename "
                f"the columns so that their names share a part, such as b_ols and b_mm, and write "
                f'{argument}="b_{{method}}".'
            )
    labels = [place for place in PLACES if any(f"{{{place}}}" in p for p in patterns.values())]
    for place in labels:
        given = getattr(columns, place)
        if given is not None:
            shown = given if isinstance(given, str) else ", ".join(given)
            raise StudyError(
                f"`{place}` is `{shown}`, but it is also the {{{place}}} in the names of columns. "
                "A table has it in a column or in the names."
            )
    found = _columns_of(frame, patterns)
    combinations = _combinations(patterns, found)
    parts = []
    for combination in combinations:
        part = frame.drop(columns=[c for of in found.values() for c in of.values()])
        for place, label in zip(labels, combination, strict=True):
            part[f"{{{place}}}"] = label
        for argument, pattern in patterns.items():
            key = _key(pattern, labels, combination)
            part[pattern] = frame[found[argument][key]]
        parts.append(part)
    long = pd.concat(parts)
    for place in labels:
        long[f"{{{place}}}"] = _whole_numbers(long[f"{{{place}}}"])
    chosen: dict[str, Any] = {
        place: (f"{{{place}}}",) if place == "method" else f"{{{place}}}" for place in labels
    }
    return long, replace(columns, **chosen)


def _columns_of(
    frame: pd.DataFrame, patterns: Mapping[str, str]
) -> dict[str, dict[tuple[str, ...], str]]:
    """Argument -> labels in the name -> column; the longest pattern takes its columns first."""
    taken: set[str] = set()
    found: dict[str, dict[tuple[str, ...], str]] = {}
    order = sorted(patterns, key=lambda a: -len(_PLACE.sub("", patterns[a])))
    for argument in order:
        found[argument] = {}
        for column in frame.columns:
            labels = _labels(patterns[argument], column)
            if labels is not None and column not in taken:
                found[argument][labels] = column
        if not found[argument]:
            raise StudyError(
                f"The table has no columns with names of the form {patterns[argument]!r} "
                f"(`{argument}`).\n  Its columns are: {', '.join(frame.columns)}."
            )
        taken |= set(found[argument].values())
    return found


def _labels(pattern: str, column: str) -> tuple[str, ...] | None:
    """What stands in the places of a pattern; None for a column of another form."""
    text = "".join(
        "({})" if _PLACE.fullmatch(part) else re.escape(part)
        for part in re.split(r"(\{(?:method|parameter)\})", pattern)
    )
    long, short = (re.fullmatch(text.replace("({})", f"({p})"), column) for p in (".+", ".+?"))
    if long is None or short is None:
        return None
    if long.groups() != short.groups():
        raise StudyError(
            f"The name of column `{column}` can be read in two ways by {pattern!r}: "
            f"{' and '.join(long.groups())}, or {' and '.join(short.groups())}. Rename the columns "
            "so that a character that is in no label separates the labels, such as `b.ols.x`."
        )
    return tuple(long.groups())


def _places(pattern: str) -> list[str]:
    return _PLACE.findall(pattern)


def _combinations(
    patterns: Mapping[str, str], found: Mapping[str, Mapping[tuple[str, ...], str]]
) -> list[tuple[str, ...]]:
    """Labels of each part of the long table, in the order of the columns."""
    labels = [place for place in PLACES if any(f"{{{place}}}" in p for p in patterns.values())]
    fullest = max(patterns, key=lambda a: (len(set(_places(patterns[a]))), a == "estimate"))
    if set(_places(patterns[fullest])) != set(labels):
        raise StudyError(
            f"Some columns differ by {{{labels[0]}}} and others by {{{labels[1]}}}, but none by "
            "both. Stack the table by one of them before, for example with pandas.melt()."
        )
    order = _places(patterns[fullest])
    made = [tuple(key[order.index(place)] for place in labels) for key in found[fullest]]
    for argument, pattern in patterns.items():
        wanted = {_key(pattern, labels, combination): combination for combination in made}
        for key in [*wanted, *found[argument]]:
            if key not in found[argument] or key not in wanted:
                name = re.sub(_PLACE, "{}", pattern).format(*key)
                raise StudyError(
                    f"`{argument}` is {pattern!r} and `{fullest}` is {patterns[fullest]!r}: "
                    f"the table has a column for {' and '.join(map(repr, key))} of one of them "
                    f"only. Add the other (here `{name}`, if it is missing), or rename the columns."
                )
    return made


def _key(pattern: str, labels: list[str], combination: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(combination[labels.index(place)] for place in _places(pattern))


def _whole_numbers(column: pd.Series) -> pd.Series:
    """Labels in names of columns as whole numbers, if all are."""
    texts = column.unique()
    whole = all(re.fullmatch(r"0|[1-9]\d{0,17}", text) for text in texts)
    return column.astype(np.int64) if whole else column
