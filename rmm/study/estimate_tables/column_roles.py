"""Which column of a user's table holds what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas as pd

from rmm.errors import StudyError, did_you_mean
from rmm.study.files.parquet import ESTIMATES

#: Argument -> name of the column in the layout of studies, which it has by default.
DEFAULTS: dict[str, str] = {
    "by": "scenario",
    "method": "method",
    "parameter": "parameter",
    "replication": "replication",
    "status": "status",
    "estimate": "mean",
    "se": "sd",
    "lower": "lower",
    "upper": "upper",
    "df": "df",
    "p_value": "p_value",
    "truth": "truth",
    "null": "null",
}
#: Labels: their default column is used wherever a table has it. Those of numbers are used only in
#: tables in the layout of studies, whose estimates are in `mean`: elsewhere `df` may be anything.
LABELS = ("by", "method", "parameter", "replication", "status")
#: Arguments that may be a number for all rows, or one for each parameter.
CONSTANTS = ("df", "truth", "null")
#: Numbers of fits without an argument of their own: column of the layout of studies.
FURTHER = tuple(
    f.name
    for f in ESTIMATES
    if f.name not in DEFAULTS.values()
    and f.name in ("ess_bulk", "contraction", "seconds", "lower90", "upper90", "lower99", "upper99")
)


@dataclass(frozen=True)
class TableColumns:
    """What each argument of `performance` that names columns was given.

    Attributes
    ----------
    by, method : tuple of str
    parameter, replication, status, estimate, se, variance, lower, upper, p_value : str or None
        Names of columns, or of several with `{method}` or `{parameter}` in them; None: not given.
    df, truth, null : str, float, mapping of parameter to float, or None
    further : mapping
        Column of the layout of studies -> name in the table.
    """

    by: tuple[str, ...] | None = None
    method: tuple[str, ...] | None = None
    parameter: str | None = None
    replication: str | None = None
    status: str | None = None
    estimate: str | None = None
    se: str | None = None
    variance: str | None = None
    lower: str | None = None
    upper: str | None = None
    p_value: str | None = None
    df: Any = None
    truth: Any = None
    null: Any = None
    further: Mapping[str, str] = field(default_factory=dict)

    def named(self) -> dict[str, tuple[str, ...]]:
        """Argument -> names of columns that it was given."""
        found: dict[str, tuple[str, ...]] = {}
        for one in fields(self)[:-1]:
            given = getattr(self, one.name)
            if isinstance(given, str):
                found[one.name] = (given,)
            elif isinstance(given, tuple):
                found[one.name] = given
        return found | {name: (column,) for name, column in self.further.items()}

    @property
    def ids(self) -> list[str]:
        """Columns of methods, parameters and replications, by default names where none is given.

        In text files, their labels are whole numbers or texts: 1.1 and 1.10 differ. Levels of
        factors are numbers if they can be.
        """
        names = {a: (DEFAULTS[a],) for a in LABELS[1:-1]} | self.named()
        return [name for argument in LABELS[1:-1] for name in names[argument]]

    def with_defaults(self, there: Iterable[str]) -> TableColumns:
        """With the default columns that a table has and that are not used otherwise."""
        used = {name for names in self.named().values() for name in names}
        known, own = set(there) - used, self.estimate is None
        found: dict[str, Any] = {}
        for argument, name in DEFAULTS.items():
            usual = own or argument in LABELS
            if getattr(self, argument) is None and usual and name in known:
                several = argument in ("by", "method")
                found[argument] = (name,) if several else name
        if self.variance is not None:
            found.pop("se", None)
        further = {n: n for n in FURTHER if own and n in known} | dict(self.further)
        return replace(self, **{"estimate": "mean", **found} if own else found, further=further)


def check_columns(columns: TableColumns, frame: pd.DataFrame) -> None:
    """Raise `StudyError` for a column that a table lacks, or that is used twice."""
    used: dict[str, str] = {}
    for argument, names in columns.named().items():
        for name in names:
            if name not in frame.columns:
                raise StudyError(no_column(name, argument, list(frame.columns)))
            # A factor may be the true value, too.
            if name in used and {argument, used[name]} <= set(LABELS):
                raise StudyError(
                    f"Column `{name}` is used twice: as `{used[name]}` and as `{argument}`. "
                    "Give each a column of its own."
                )
            used[name] = argument
    for one, other in (("lower", "upper"), ("upper", "lower")):
        if getattr(columns, one) is not None and getattr(columns, other) is None:
            raise StudyError(f"`{one}` is given without `{other}`. An interval needs both bounds.")
    if columns.se is not None and columns.variance is not None:
        raise StudyError("Both `se` and `variance` are given. Give one of them.")


def no_column(name: str, argument: str, there: Sequence[str]) -> str:
    """Sentences about a column that a table does not have."""
    near = did_you_mean(name, there, most=3)
    if "{" in name:
        near = " In braces there can only be {method} or {parameter}."
    prefixed = [c for c in there if c.startswith(f"{name}_") or c.endswith(f"_{name}")]
    if len(prefixed) > 1:
        pattern = f"{name}_{{method}}" if prefixed[0].startswith(name) else f"{{method}}_{name}"
        near = (
            f" It has {', '.join(f'`{c}`' for c in prefixed[:4])}. If each method has a column of "
            f'its own, write {argument}="{pattern}".'
        )
    elif argument == "estimate" and name == DEFAULTS["estimate"]:
        near += (
            ' Name the column of estimates, such as estimate="b". If each method has a column of '
            'its own, such as b_ols and b_mm, write estimate="b_{method}".'
        )
    return (
        f"The table of estimates has no column {name!r} (`{argument}`).{near}\n"
        f"  Its columns are: {', '.join(there)}."
    )
