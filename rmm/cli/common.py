"""What all commands share: how they are declared, and values that JSON knows."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
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
