"""Types and ranges of a recipe's keys: those of the schema of study files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.errors import unknown_name
from rmm.simulation.recipe_errors import RecipeError
from rmm.simulation.schema import Mistake, mistakes

_LARGEST = 2**53
_NUMBERS = "Numbers must be finite; the largest whole number is 2^53."
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "True or False",
    "object": "a mapping",
    "array": "a list",
}


def plain(value: Any) -> Any:
    """A copy in the types of a YAML file: NumPy's numbers and arrays, tuples and paths go."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, complex):  # for jsonschema a number, of which none is the smallest
        return repr(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def check_shape(content: Mapping[str, Any]) -> None:
    """Check keys, types and ranges.

    Parameters
    ----------
    content : mapping
        membership, covariates, truth, in the types of a YAML file.

    Raises
    ------
    RecipeError
        About everything that is wrong, in the order of `content`.
    """
    found = [_error(m) for part, value in content.items() for m in mistakes(value, part)]
    if found:
        raise RecipeError.several(found)


def usable_numbers(value: Any, key: str) -> Any:
    """A copy in which whole numbers are integers (200.0 groups are 200).

    Raises
    ------
    RecipeError
        For a number that is not finite, or has no exact double.
    """
    if isinstance(value, Mapping):
        return {k: usable_numbers(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [usable_numbers(v, f"{key}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not math.isfinite(value) if isinstance(value, float) else abs(value) > _LARGEST:
        raise RecipeError(key, f"{value!r:.60} is not a number that can be used.", _NUMBERS)
    return int(value) if value == round(value) and abs(value) <= _LARGEST else value


def _error(mistake: Mistake) -> RecipeError:
    key, value, allowed = ".".join(map(str, mistake.path)), mistake.value, mistake.allowed
    if mistake.rule == "additionalProperties":
        return RecipeError(key, unknown_name(value, "a key that is allowed here", allowed))
    if mistake.rule == "required":
        return RecipeError(key, f"`{mistake.path[-1]}` is missing.", mistake.meaning)
    if mistake.rule == "text_keys":
        return RecipeError(key, f"The key {value!r} is not text.", "Put it in quotes.")
    if mistake.rule == "enum":
        return RecipeError(key, unknown_name(value, "a value that is allowed here", allowed))
    if mistake.rule == "type":
        allowed = " or ".join(_TYPES[name] for name in allowed)
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return RecipeError(key, f"The value is {text}.", f"Allowed: {allowed}.")
