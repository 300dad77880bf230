"""Attacks on files: ``python -m tests.attack`` (``make attack``) runs all and counts what broke.

An attack makes cases one after the other. A case is broken if the answer is neither right nor an
error that names the file. The short tests run a twentieth of each (`test_attack.py`).
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Of a random generator and an empty folder: what broke in each case, "" where nothing did.
Cases = Callable[[random.Random, Path], Iterator[str]]


@dataclass(frozen=True)
class Attack:
    """A kind of attack.

    Attributes
    ----------
    name : str
    number : int
        Cases of the complete arsenal.
    cases : callable
        Yields as many results as are asked for.
    """

    name: str
    number: int
    cases: Cases


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Content with one bit changed."""
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncated(content: bytes, draw: random.Random) -> bytes:
    """Content without its end."""
    return content[: draw.randrange(len(content))]


def unexpected(error: Exception) -> str:
    """An exception that is no message, and where it comes from."""
    places = traceback.extract_tb(error.__traceback__)[-3:]
    found = ", ".join(f"{Path(place.filename).name}:{place.lineno}" for place in places)
    return f"{type(error).__name__}: {error} ({found})"
