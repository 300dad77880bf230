"""Options that say what a table of estimates holds and how it is scored."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from rmm.errors import StudyError

_COLUMN: dict[str, Any] = {"metavar": "COLUMN"}
_SEVERAL: dict[str, Any] = {"metavar": "COLUMN", "nargs": "+"}
_VALUE: dict[str, Any] = {"metavar": "VALUE", "nargs": "+"}
#: Option -> settings of argparse; the options about columns.
COLUMNS: dict[str, dict[str, Any]] = {
    "--by": _SEVERAL
    | {"help": "factors; each combination of values is a scenario; default: `scenario`, if there"},
    "--method": _SEVERAL
    | {
        "help": "method; with several columns, each combination is one; default: `method`, if there"
    },
    "--parameter": _COLUMN | {"help": "parameter (estimand); default: `parameter`, if there"},
    "--replication": _COLUMN
    | {
        "help": "number or name of the simulated data set; default: `replication`, if there; else "
        "methods are not compared on the same data"
    },
    "--estimate": _COLUMN | {"help": "estimate; default: `mean`"},
    "--se": _COLUMN | {"help": "standard error; default: none"},
    "--variance": _COLUMN | {"help": "squared standard error, instead of --se; default: none"},
    "--lower": _COLUMN
    | {"help": "lower bound of the interval; default: from estimate, --se and --df"},
    "--upper": _COLUMN
    | {"help": "upper bound of the interval; default: from estimate, --se and --df"},
    "--p-value": _COLUMN | {"help": "p value; default: none"},
    "--df": _VALUE
    | {"help": "degrees of freedom: a column or a number; default: none, normal intervals"},
    "--truth": _VALUE
    | {
        "help": "true value: a number, a column, or PARAMETER=NUMBER for each parameter; default: "
        "none"
    },
    "--null": _VALUE | {"help": "value that is tested, as --truth; default: 0"},
    "--status": _COLUMN
    | {
        "help": "how the fit ended: ok, not_converged, failed or timeout; default: `status`, if "
        "there"
    },
    "--statuses": {
        "nargs": "+",
        "metavar": "WORD=STATUS",
        "help": "what other words in the column of statuses mean, such as converged=ok "
        "error=failed; default: none",
    },
    "--na": {
        "nargs": "*",
        "metavar": "TEXT",
        "help": "texts in a text file that mean a missing value; default: the empty cell, and NA "
        "and the like in columns of numbers",
    },
}
#: The options about scores.
SCORING: dict[str, dict[str, Any]] = {
    "--alpha": {
        "nargs": "+",
        "type": float,
        "default": [0.05],
        "metavar": "LEVEL",
        "help": "level of tests, and one minus the level of intervals; default: 0.05",
    },
    "--baseline": {"metavar": "METHOD", "help": "method to compare with; default: the first"},
    "--methods": {"nargs": "+", "metavar": "NAME", "help": "methods to score; default: all"},
    "--parameters": {"nargs": "+", "metavar": "NAME", "help": "parameters to score; default: all"},
    "--usable": {
        "nargs": "+",
        "default": ["ok"],
        "metavar": "STATUS",
        "help": "statuses of fits that count, such as ok not_converged; default: ok",
    },
    "--test": {
        "default": "auto",
        "metavar": "HOW",
        "help": "test of the null value by p (value), interval, z or t; default: by the p value if "
        "there is one, else by the interval",
    },
    "--mcse": {
        "default": "normal",
        "metavar": "HOW",
        "help": "Monte Carlo errors of empirical standard errors: normal (estimates are normal) or "
        "robust (by their kurtosis); default: %(default)s",
    },
    "--missing-se": {
        "default": "keep",
        "metavar": "HOW",
        "help": "an estimate without standard error: keep (for measures that need none) or fail "
        "(failed fit); default: %(default)s",
    },
    "--dropbig": {
        "nargs": "?",
        "const": "robust",
        "metavar": "HOW",
        "help": "leave out outliers, found by medians and interquartile ranges (robust, the "
        "default) or by means and standard deviations (sd); default: they are only counted",
    },
    "--max-estimate": {
        "type": float,
        "default": 10.0,
        "metavar": "X",
        "help": "an estimate farther than X of these units from the others is an outlier; "
        "default: 10",
    },
    "--max-se": {
        "type": float,
        "default": 100.0,
        "metavar": "X",
        "help": "same for standard errors; default: 100",
    },
}
_CONSTANTS = ("df", "truth", "null")
#: The options as arguments of Python, which messages name.
ARGUMENTS = tuple(name[2:].replace("-", "_") for name in (*COLUMNS, *SCORING))


def add_table_options(parser: Any) -> None:
    """Options that say what the columns of a table hold, and how it is scored."""
    for heading, options in (("columns of the table", COLUMNS), ("how it is scored", SCORING)):
        group = parser.add_argument_group(heading)
        for name, settings in options.items():
            group.add_argument(name, **settings)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Option -> what it was given, without those at their default."""
    every = {**COLUMNS, **SCORING}
    values = {name: getattr(options, name[2:].replace("-", "_")) for name in every}
    return {n: v for n, v in values.items() if v not in (None, every[n].get("default"))}


def given_table_options(options: argparse.Namespace) -> list[str]:
    """Options of tables that were given, as they are written."""
    return [*_given(options), *["--figure"] * (options.figure is not None)]


def command_again(options: argparse.Namespace) -> str:
    """The command `rmm study report` with the options that were given."""
    parts = ["rmm", "study", "report", str(options.file)]
    for name, value in _given(options).items():
        values = value if isinstance(value, list) else [value]
        parts += [name, *(f"{v:g}" if isinstance(v, float) else v for v in values)]
    return shlex.join(parts)


def arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `performance` from the options."""
    options.arguments = ARGUMENTS  # messages from here on are about a table
    found = {}
    for option in (*COLUMNS, *SCORING):
        name = option[2:].replace("-", "_")
        found[name] = getattr(options, name)
    found |= {name: _value(found[name], name) for name in _CONSTANTS}
    return found | {"statuses": _pairs(found["statuses"], "statuses")}


def _value(given: Sequence[str] | None, name: str) -> Any:
    """A number, a column, or numbers of parameters."""
    if given is None:
        return None
    if len(given) == 1:
        number = _number(given[0])
        if number is not None:
            return number
        if "=" not in given[0] or _number(given[0].rpartition("=")[2]) is None:
            return given[0]
    values = {key: _number(text) for key, text in _pairs(given, name).items()}
    for key, value in values.items():
        if value is None:
            raise StudyError(f"--{name}: the value of {key} is not a number.")
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _pairs(given: Sequence[str] | None, name: str) -> dict[str, str]:
    pairs = [one.rpartition("=") for one in given or ()]
    wrong = [f"{a}{b}{c}" for a, b, c in pairs if not a]
    if wrong:
        raise StudyError(f"--{name}: {wrong[0]!r} must have the form NAME=VALUE.")
    return {a: c for a, _, c in pairs}
