"""The error that names the key of a simulation which is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rmm.errors import DataError, close_names


class RecipeError(DataError):
    """A description of what to simulate is wrong.

    Attributes
    ----------
    key : str
        Dotted path of the key, such as ``membership.size.low``.
    problem, allowed : str
        What was found there, and what is allowed or what to do.
    """

    def __init__(self, key: str, problem: str, allowed: str = "") -> None:
        self.key, self.problem, self.allowed = key, problem, allowed
        super().__init__("\n  ".join(part for part in (f"{key}: {problem}", allowed) if part))

    @classmethod
    def several(cls, errors: Sequence[RecipeError]) -> RecipeError:
        """One error about all of several, with the key of the first."""
        first = errors[0]
        if len(errors) == 1:
            return first
        whole = cls(first.key, first.problem, first.allowed)
        whole.args = (f"{len(errors)} mistakes:\n" + "\n".join(map(str, errors)),)
        return whole


def listed(names: Collection[str]) -> str:
    """Names for a message; ``none`` if there are none."""
    return ", ".join(names) or "none"


def close_to(name: str, known: Collection[str]) -> str:
    """``" Did you mean `x`?"`` where something known is close, else nothing."""
    found = close_names(name, known)
    return f" Did you mean `{found[0]}`?" if found else ""


def check_name(key: str, what: str, name: str, known: Collection[str]) -> None:
    """Raise `RecipeError` unless `name` is one of the known names."""
    if name not in known:
        raise RecipeError(
            key, f"unknown {what} {name!r}", f"Allowed: {listed(known)}.{close_to(name, known)}"
        )


def check_keys(
    key: str, config: Mapping[str, Any], required: Collection[str], optional: Collection[str]
) -> None:
    """Raise `RecipeError` for a key that is missing or does not belong to this kind."""
    for name in config:
        if name not in required and name not in optional:
            known = [*required, *optional]
            raise RecipeError(
                f"{key}.{name}",
                "the key does not belong here",
                f"Allowed: {listed(known)}.{close_to(name, known)}",
            )
    for name in required:
        if config.get(name) is None:
            raise RecipeError(f"{key}.{name}", "the key is missing", f"Needed: {listed(required)}.")
