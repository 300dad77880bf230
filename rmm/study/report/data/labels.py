"""Labels of factors: how they are called in a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def readable(factor: str) -> str:
    """`membership.overlap` -> `overlap`: the last part of a dotted path, in words."""
    return factor.rsplit(".", 1)[-1].replace("_", " ")


def source_label(source: str) -> str:
    """`overlap x groups`, an interaction of factors, in the words of a report."""
    return " × ".join(readable(part) for part in source.split(" x "))


def is_numeric(levels: Sequence[Any]) -> bool:
    """Whether the levels of a factor are numbers, so that lines between them mean something."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)
