"""Arguments of `performance`, checked before a table is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from rmm.errors import StudyError, unknown_name
from rmm.study.estimate_tables.column_roles import DEFAULTS, FURTHER, TableColumns
from rmm.study.estimate_tables.outliers import SCALES
from rmm.study.files.parquet import OK, STATUSES
from rmm.study.measures.score_cells import measures_named
from rmm.study.measures.significance import TESTS

_SEVERAL = ("by", "method")
_NUMBERS = ("df", "truth", "null")


@dataclass(frozen=True)
class ScoreOptions:
    """How a table is scored; attributes as the arguments of `rmm.study.performance.performance`."""

    statuses: Mapping[Any, str] = field(default_factory=dict)
    na: Sequence[str] | None = None
    alpha: Any = 0.05
    measures: Sequence[str] | None = None
    methods: Sequence[Any] | None = None
    parameters: Sequence[Any] | None = None
    baseline: Any = None
    test: str = "auto"
    mcse: str = "normal"
    missing_se: str = "keep"
    dropbig: str | None = None
    max_estimate: float = 10.0
    max_se: float = 100.0
    usable: tuple[str, ...] = (OK,)
    untested: tuple[Any, ...] = ()
    null_scenarios: Mapping[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            given = getattr(self, name)
            if given not in allowed and not (name == "dropbig" and given is None):
                raise StudyError(f"`{name}`: " + unknown_name(given, "an option", allowed))
        for status in self.usable:
            if status not in STATUSES:
                raise StudyError("`usable`: " + unknown_name(status, "a status", STATUSES))
        for name in ("max_estimate", "max_se"):
            if not getattr(self, name) > 0:
                raise StudyError(f"`{name}` must be above 0, not {getattr(self, name)!r}.")
        for name in ("measures", "methods", "parameters"):
            if isinstance(getattr(self, name), str):
                raise StudyError(f"`{name}` must be a list, such as [{getattr(self, name)!r}].")
        measures_named(self.measures)
        self.levels()

    def levels(self) -> list[float]:
        """All levels of tests; `StudyError` for one that is not between 0 and 1."""
        given = list(self.alpha.values()) if isinstance(self.alpha, Mapping) else [self.alpha]
        levels = [a for one in given for a in np.atleast_1d(np.asarray(one, dtype=object))]
        for level in levels:
            number = isinstance(level, int | float | np.number) and not isinstance(level, bool)
            if not number or not 0 < level < 1:
                raise StudyError(f"`alpha` must be between 0 and 1, such as 0.05, not {level!r}.")
        if not levels:
            raise StudyError("`alpha` is empty. Give at least one level, such as 0.05.")
        return [float(level) for level in levels]


_CHOICES: dict[str, tuple[str, ...]] = {
    "test": tuple(TESTS),
    "mcse": ("normal", "robust"),
    "missing_se": ("keep", "fail"),
    "dropbig": tuple(SCALES),
}


#: Arguments of `performance` that are about what it scores and compares.
_OF_SCORES = ("measures", "methods", "baseline", "mcse", "null_scenarios")


def argument_names() -> list[str]:
    """Arguments of `performance` that say what a table holds and which fits count."""
    named = [f.name for f in fields(TableColumns) if f.name != "further"]
    return [*named, "columns", *(f.name for f in fields(ScoreOptions) if f.name not in _OF_SCORES)]


def split_arguments(arguments: Mapping[str, Any]) -> tuple[TableColumns, ScoreOptions]:
    """Columns and options from the arguments of `rmm.study.performance.performance`."""
    named = {f.name for f in fields(TableColumns)} - {"further"}
    columns = {name: arguments.get(name) for name in named}
    known = {f.name for f in fields(ScoreOptions)}
    options = {k: v for k, v in arguments.items() if k in known}
    for name in ("usable", "untested"):
        if name in options:
            options[name] = tuple(options[name])
    for name in ("statuses", "null_scenarios"):
        if name in options:
            options[name] = options[name] or {}
    given = columns_given(columns=arguments.get("columns") or {}, **columns)
    return given, ScoreOptions(**options)


def columns_given(*, columns: Mapping[str, str], **arguments: Any) -> TableColumns:
    """The columns that the arguments of `performance` name.

    Raises
    ------
    StudyError
        For a name that is no text, or what `columns` does not know.
    """
    known = {name: argument for argument, name in DEFAULTS.items()}
    found, further = dict(arguments), {}
    for ours, theirs in columns.items():
        if ours in FURTHER:
            further[ours] = _text(theirs, f"columns[{ours!r}]")
        elif ours not in known:
            raise StudyError("`columns`: " + unknown_name(ours, "a column", (*known, *FURTHER)))
        elif found[known[ours]] is not None:
            raise StudyError(
                f"`columns` has {ours!r}, and `{known[ours]}` is given, too. Give one."
            )
        else:
            found[known[ours]] = theirs
    for argument, given in found.items():
        if given is None:
            continue
        if argument in _SEVERAL:
            names = [given] if isinstance(given, str) else list(given)
            found[argument] = tuple(_text(name, argument) for name in names) or None
        elif argument not in _NUMBERS:
            found[argument] = _text(given, argument)
    return TableColumns(**found, further=further)


def _text(name: Any, argument: str) -> str:
    if isinstance(name, str):
        return name
    if isinstance(name, int | np.integer) and not isinstance(name, bool):
        return str(name)  # pandas has columns called 0, 1, ...
    raise StudyError(f"`{argument}` must be the name of a column, not {name!r}.")
