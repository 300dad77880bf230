"""Help of every command, as `--help` prints it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator


def commands() -> str:
    """A section per command."""
    os.environ.update(COLUMNS="90", NO_COLOR="1")
    from rmm.cli import parser

    parts = []
    for command in leaves(parser()):
        parts += [f"## `{command.prog}`", f"```text\n{_plain(command.format_help())}```"]
    return "\n\n".join(parts)


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Commands that have none below them."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in dict.fromkeys(action.choices.values()):
            yield from leaves(command)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
