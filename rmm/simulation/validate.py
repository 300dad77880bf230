"""Types and ranges of a recipe's keys: those of the schema of study files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.simulation.recipe_errors import RecipeError, close_to, listed
from rmm.simulation.schema import Mistake, mistakes

_LARGEST = 2**53
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
        raise RecipeError(key, f"{value!r:.60}", "A finite number; whole ones up to 2^53.")
    return int(value) if value == round(value) and abs(value) <= _LARGEST else value


def _error(mistake: Mistake) -> RecipeError:
    key, value, allowed = ".".join(map(str, mistake.path)), mistake.value, mistake.allowed
    if mistake.rule == "additionalProperties":
        hint = close_to(value, allowed)
        return RecipeError(key, "unknown key", f"Allowed: {listed(allowed)}.{hint}")
    if mistake.rule == "required":
        return RecipeError(key, "the key is missing", f"It is: {allowed}." if allowed else "")
    if mistake.rule == "text_keys":
        return RecipeError(key, f"the key {value!r}", "Keys are text.")
    if mistake.rule == "type":
        allowed = " or ".join(_TYPES[name] for name in allowed)
    if mistake.rule == "enum":
        allowed = f"one of {allowed}"
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return RecipeError(key, text, f"Allowed: {allowed}.")
