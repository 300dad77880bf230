"""Types and ranges of a recipe's keys: those of the schema of study files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rmm.simulation.recipe_errors import RecipeError, close_to, listed

#: The one description of all keys; it belongs to studies, which are built on the simulator.
SCHEMA_FILE = Path(__file__).parents[1] / "study" / "files" / "study.schema.json"
_LARGEST = 2**53
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "True or False",
    "object": "a mapping",
    "array": "a list",
}
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} entries",
    "minLength": "text that is not empty",
    "enum": "one of {}",
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
        About the first thing that is wrong.
    """
    for part, value in content.items():
        _check_text_keys(value, part)
        errors = sorted(_validator(part).iter_errors(value), key=lambda e: [str(p) for p in e.path])
        if errors:
            raise _letter(errors[0], part)


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


@cache
def _validator(part: str) -> Any:
    import jsonschema

    whole = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator({**whole["properties"][part], "$defs": whole["$defs"]})


def _check_text_keys(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise RecipeError(path, f"the key {key!r}", "Keys are text.")
            _check_text_keys(inner, f"{path}.{key}")


def _letter(error: Any, part: str) -> RecipeError:
    key = ".".join([part, *(str(step) for step in error.absolute_path)])
    rule, bound, value = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(k for k in value if k not in known)
        hint = close_to(unknown, known)
        return RecipeError(f"{key}.{unknown}", "unknown key", f"Allowed: {listed(known)}.{hint}")
    if rule == "required":
        missing = next(k for k in bound if k not in value)
        return RecipeError(f"{key}.{missing}", "the key is missing")
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    if rule == "type":
        types = [bound] if isinstance(bound, str) else bound
        return RecipeError(key, text, f"Allowed: {' or '.join(_TYPES[t] for t in types)}.")
    return RecipeError(key, text, f"Allowed: {_BOUNDS.get(rule, '{}').format(bound)}.")
