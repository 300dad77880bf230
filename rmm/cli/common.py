"""What all commands share: how they are declared, and values that JSON knows."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

Command = Callable[[argparse.Namespace], int]


def command(commands: Any, name: str, what: str, examples: str, run: Command) -> Any:
    """Add a subcommand with its help, its examples and the function that runs it."""
    parser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def plain(value: Any) -> Any:
    """Values that JSON knows: NumPy scalars become numbers, what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


#: What every command has in its namespace, and what is no option.
_NO_OPTIONS = ("data", "file", "formula", "run", "table")


def in_options(text: str, options: argparse.Namespace, arguments: Iterable[str] = ()) -> str:
    """A message about arguments of Python, in the options of a command.

    ``missing="drop"`` becomes ``--missing drop``. What the command does not have stays unchanged.

    Parameters
    ----------
    text : str
    options : argparse.Namespace
        Of the command.
    arguments : iterable of str
        Names that stand for an option in backquotes, too: `` `estimate` `` is ``--estimate``.
        Not where a column is named.
    """

    def option(found: re.Match[str]) -> str:
        name = found["name"]
        if name in _NO_OPTIONS or not hasattr(options, name):
            return found[0]
        value = found["value"]
        plain_text = re.fullmatch(r"[\w.%-]+", value)
        return f"--{name.replace('_', '-')} " + (value if plain_text else f'"{value}"')

    text = re.sub(r"rmm\.fit\(\.\.\., ([^()]*)\)", r"rmm fit ... \1", text)
    given = r"\b(?P<name>[a-z_]+)=(?P<quote>[\"'])(?P<value>[^\"'\n]+)(?P=quote)"
    text = re.sub(given, option, text)
    for name in arguments:
        text = re.sub(rf"(?<!olumn )`{name}`", f"--{name.replace('_', '-')}", text)
    return text
