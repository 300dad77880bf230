"""What matters in the text of a Stan program: its tokens, not its comments and blank space.

Programs with the same tokens share an executable. The positions that Stan names in its messages
are those of the text that was compiled; `moved_positions` converts them to those of another text
with the same tokens.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

# As Stan's lexer splits a program. A line with `#include` is one token: its end matters.
_TOKEN = re.compile(
    r"""
      (?P<skipped> \s+ | //[^\n]* | /\*.*?\*/ )
    | "[^"\n]*"
    | \#[^\n]*
    | (?: \d[\d_]*\.?[\d_]* | \.\d[\d_]* ) (?: [eE][+-]?\d[\d_]* )? i?
    | \w+
    | \.\*= | \./= | %/% | \.[*/^] | [-+*/=!<>]= | <- | && | \|\|
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
# "(in 'program.stan', line 5, column 2 to column 20)", or "... to line 6, column 3)".
_POSITION = re.compile(
    r"(?P<before>\(in '[^']*', )line (?P<line>\d+), column (?P<column>\d+)"
    r"(?P<range> to (?:line (?P<last_line>\d+), )?column (?P<last_column>\d+))?"
)

#: Line (from 1) and column (from 0), as Stan counts.
Place = tuple[int, int]


@dataclass(frozen=True)
class Token:
    """A token of a program and its first and last offset in the text."""

    text: str
    start: int
    end: int


def tokens(program: str) -> list[Token]:
    """The tokens of a Stan program in order, without comments and blank space."""
    return [
        Token(found[0], found.start(), found.end())
        for found in _TOKEN.finditer(program)
        if found["skipped"] is None
    ]


def token_hash(program: str, *more: str) -> str:
    """A hash (32 hexadecimal digits) of a program's tokens and of `more` texts."""
    words = [*more, *(token.text for token in tokens(program))]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def moved_positions(compiled: str, program: str) -> Callable[[str], str]:
    """A function that replaces positions in a message by those of another text.

    Parameters
    ----------
    compiled : str
        The text that was compiled: lines and columns in messages are those of this text.
    program : str
        A text with the same tokens, which the user knows.

    Returns
    -------
    callable
        ``convert(message) -> message``. A position that is not that of a token is kept.
    """
    if compiled == program:
        return str

    @functools.cache
    def places() -> tuple[dict[Place, Place], dict[Place, Place]]:
        pairs = list(zip(tokens(compiled), tokens(program), strict=True))
        old, new = _places(compiled), _places(program)
        return (
            {old(one.start): new(other.start) for one, other in pairs},
            {old(one.end): new(other.end) for one, other in pairs},
        )

    def convert(found: re.Match[str]) -> str:
        starts, ends = places()
        first = (int(found["line"]), int(found["column"]))
        last = (int(found["last_line"] or first[0]), int(found["last_column"] or 0))
        if first not in starts or (found["range"] and last not in ends):
            return found[0]
        line, column = starts[first]
        text = f"{found['before']}line {line}, column {column}"
        if found["range"]:
            last_line, last_column = ends[last]
            text += " to " + (f"line {last_line}, " if last_line != line else "")
            text += f"column {last_column}"
        return text

    return lambda message: _POSITION.sub(convert, message)


def _places(text: str) -> Callable[[int], Place]:
    """A function from an offset in a text to its place."""
    lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def place(offset: int) -> Place:
        line = bisect.bisect_right(lines, offset)
        return line, offset - lines[line - 1]

    return place
