"""The error that names the key of a simulation which is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rmm.errors import DataError, unknown_name


class RecipeError(DataError):
    """A description of what to simulate is wrong.

    Attributes
    ----------
    key : str
        Dotted path of the key, such as ``membership.size.low``.
    problem, advice : str
        Sentences: what was found there; what is allowed or what to do.
    """

    def __init__(self, key: str, problem: str, advice: str = "") -> None:
        self.key, self.problem, self.advice = key, problem, advice
        super().__init__("\n  ".join(part for part in (f"{key}: {problem}", advice) if part))

    @classmethod
    def several(cls, errors: Sequence[RecipeError]) -> RecipeError:
        """One error about all of several, with the key of the first."""
        first = errors[0]
        if len(errors) == 1:
            return first
        whole = cls(first.key, first.problem, first.advice)
        whole.args = (f"{len(errors)} mistakes:\n" + "\n".join(map(str, errors)),)
        return whole


def listed(names: Collection[str]) -> str:
    """Names for a message; ``none`` if there are none."""
    return ", ".join(names) or "none"


def check_name(key: str, kind: str, name: str, allowed: Collection[str]) -> None:
    """Raise `RecipeError` unless `name` is an allowed one; `kind` has its article."""
    if name not in allowed:
        raise RecipeError(key, unknown_name(name, kind, allowed))


def check_keys(
    key: str, config: Mapping[str, Any], required: Collection[str], optional: Collection[str]
) -> None:
    """Raise `RecipeError` for a key that is missing or does not belong to this kind."""
    for name in config:
        if name not in required and name not in optional:
            raise RecipeError(
                f"{key}.{name}", unknown_name(name, "a key of this kind", [*required, *optional])
            )
    for name in required:
        if config.get(name) is None:
            needs = f"`{key}` of this kind needs: {listed(required)}."
            raise RecipeError(f"{key}.{name}", f"`{name}` is missing.", needs)
