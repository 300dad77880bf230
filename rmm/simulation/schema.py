"""Mistakes in the keys of simulations and studies, found by their JSON schema: all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

#: The one description of all keys; it belongs to studies, which are built on the simulator.
SCHEMA_FILE = Path(__file__).parents[1] / "study" / "files" / "study.schema.json"
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minItems": "a list of at least {} entries",
    "maxItems": "a list of at most {} entries",
    "minProperties": "at least {} keys",
    "minLength": "text that is not empty",
    "maxLength": "at most {} characters",
    "pattern": "letters, digits, `_`, `.` and `-`",
}


@dataclass(frozen=True)
class Mistake:
    """A value that the schema does not allow.

    Attributes
    ----------
    path : tuple of str and int
        Keys and list indices that lead to it.
    rule : str
        Rule of JSON schema that it breaks, such as ``"type"``.
    value : object
        What was found; of a missing key None.
    allowed : object
        Names of types or values, or a bound in words; of a missing key None.
    meaning : str
        Of a missing key, or one with a value of another type: ``"It is: ..."``; may be empty.
    """

    path: tuple[str | int, ...]
    rule: str
    value: Any
    allowed: Any
    meaning: str = ""


@cache
def schema() -> dict[str, Any]:
    """The schema of study files."""
    found: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return found


def mistakes(value: Any, part: str = "") -> list[Mistake]:
    """All mistakes of a value against the schema, or its property `part`, in the value's order."""
    found = list(_text_keys(value, ()))
    if not found:
        found = [m for error in _validator(part).iter_errors(value) for m in _of_error(error)]
    prefix = (part,) if part else ()
    found.sort(key=lambda m: _position(value, m.path))
    return [replace(m, path=(*prefix, *m.path)) for m in found]


@cache
def _validator(part: str) -> Any:
    whole = schema()
    if not part:
        return jsonschema.Draft202012Validator(whole)
    return jsonschema.Draft202012Validator({**whole["properties"][part], "$defs": whole["$defs"]})


def _text_keys(value: Any, path: tuple[str | int, ...]) -> Iterator[Mistake]:
    """Keys that are no text, which JSON schema does not know."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _text_keys(inner, (*path, key))
            else:
                yield Mistake(path, "text_keys", key, "keys that are text")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _text_keys(inner, (*path, index))


def _of_error(error: Any) -> Iterator[Mistake]:
    path, rule, bound = tuple(error.absolute_path), error.validator, error.validator_value
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                yield Mistake((*path, key), rule, key, known)
    elif rule == "required":
        # One error for each missing key: each names its own in its message alone.
        key = next(k for k in bound if error.message.startswith(repr(k)))
        meaning = _meaning(error.schema.get("properties", {}).get(key, {}))
        yield Mistake((*path, key), rule, None, None, meaning)
    elif rule == "type":
        types = [bound] if isinstance(bound, str) else bound
        yield Mistake(path, rule, error.instance, types, _meaning(error.schema))
    elif rule == "enum":
        yield Mistake(path, rule, error.instance, [str(v) for v in bound])
    else:
        yield Mistake(path, rule, error.instance, _BOUNDS.get(rule, "{}").format(bound))


def _meaning(rule: Mapping[str, Any]) -> str:
    """The description of a key, in a sentence."""
    text = str(dereferenced(rule).get("description", ""))
    return f"It is: {text}" if text else ""


def dereferenced(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule of the schema, or the one that it refers to."""
    reference = rule.get("$ref")
    return schema()["$defs"][reference.rsplit("/", 1)[1]] if reference else rule


def _position(value: Any, path: Sequence[str | int]) -> tuple[int, ...]:
    """Place of a key in a value; one that is missing comes after those that are there."""
    places = []
    for step in path:
        if isinstance(value, Mapping):
            keys = list(value)
            places.append(keys.index(step) if step in value else len(keys))
            value = value.get(step)
        else:
            places.append(int(step))
            value = value[int(step)] if isinstance(value, list) else None
    return tuple(places)
