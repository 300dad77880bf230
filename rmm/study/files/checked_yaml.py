"""YAML text -> mapping -> checked against the schema -> with defaults, or without them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmm.errors import StudyError
from rmm.simulation.schema import Mistake, dereferenced, mistakes, schema
from rmm.study.files.messages import StudyFileErrors, shown
from rmm.study.files.yaml_files import Problem, load_yaml

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys with values",
    "array": "a list",
}


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Keys and values of a study file, and the line of each key.

    Raises
    ------
    StudyError
        See `rmm.study.files.yaml_files` for what is refused.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise StudyError(f"{path}: this file does not exist.\n  Studies in its folder: {known}.")
    file_errors = StudyFileErrors(path)
    try:
        value, lines = load_yaml(path)
    except Problem as problem:
        raise file_errors.about(problem.where, str(problem), problem.advice) from problem
    if not isinstance(value, dict):
        found = "is empty" if value is None else f"has no keys, but {shown(value)}"
        keys = f"A study file consists of these keys: {', '.join(schema()['properties'])}."
        raise file_errors.about("", f"The file {found}.", keys)
    return value, lines


def check(value: Any, file_errors: StudyFileErrors, part: str = "") -> None:
    """Check a value against the schema, or against its property `part`.

    Raises
    ------
    StudyError
        About all that is wrong, in the order of the file.
    """
    for mistake in mistakes(value, part):
        with file_errors.collecting():
            raise _error(mistake, file_errors)
    file_errors.raise_found()


def key_path(path: Sequence[Any]) -> str:
    """``methods[1].backend`` from its parts."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f"{'.' if out else ''}{part}"
    return out


def _error(mistake: Mistake, file_errors: StudyFileErrors) -> StudyError:
    key, value, allowed = key_path(mistake.path), mistake.value, mistake.allowed
    if mistake.rule == "additionalProperties":
        return file_errors.name(key, "a key that is allowed here", value, allowed)
    if mistake.rule == "required":
        return file_errors.about(key, f"`{mistake.path[-1]}` is missing.", mistake.meaning)
    if mistake.rule == "text_keys":
        return file_errors.about(key, f"The key {value!r} is not text.", "Put it in quotes.")
    if mistake.rule == "type":
        types = " or ".join(_TYPES[name] for name in allowed)
        advice = _number_hint(value, allowed) or mistake.meaning
        return file_errors.value(key, value, types, advice)
    if mistake.rule == "enum":
        return file_errors.name(key, "a value that is allowed here", value, allowed)
    return file_errors.value(key, value, allowed)


def _number_hint(value: Any, types: Sequence[str]) -> str:
    """YAML reads 1e-3 as text; it wants 1.0e-3."""
    if not isinstance(value, str) or not {"number", "integer"} & set(types):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f"This is text in YAML. Write {number!r} without quotes."


def _children(value: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of each key: of those in the schema, and of those in the value."""
    named = dict(part.get("properties", {}))
    other = part.get("additionalProperties")
    if isinstance(other, dict):
        named.update({k: other for k in value if k not in named})
    return named


def with_defaults(value: Any, part: Mapping[str, Any] | None = None) -> Any:
    """A copy of a checked value in which every key that has a default is said."""
    part = dereferenced(schema() if part is None else part)
    if isinstance(value, Mapping):
        out = dict(value)
        for key, inner in _children(value, part).items():
            if key in out:
                out[key] = with_defaults(out[key], inner)
            elif "default" in dereferenced(inner):
                out[key] = with_defaults(copy.deepcopy(dereferenced(inner)["default"]), inner)
        return out
    if isinstance(value, list) and "items" in part:
        return [with_defaults(item, part["items"]) for item in value]
    return copy.deepcopy(value)


def without_defaults(value: Any, part: Mapping[str, Any] | None = None) -> Any:
    """A copy in which keys at their default are left out.

    Addresses of random numbers are made from this, so that a key which a later version adds
    does not change the data of studies that do not use it.
    """
    part = dereferenced(schema() if part is None else part)
    if isinstance(value, Mapping):
        inner = _children(value, part)
        kept = {}
        for key, item in value.items():
            rule = dereferenced(inner.get(key, {}))
            item = without_defaults(item, rule)
            default = rule.get("default")
            if item is None or ("default" in rule and item == without_defaults(default, rule)):
                continue
            kept[key] = item
        return kept
    if isinstance(value, list) and "items" in part:
        return [without_defaults(item, part["items"]) for item in value]
    return value
