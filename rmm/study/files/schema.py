"""YAML text -> mapping -> checked against the schema -> with defaults, or without them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rmm.errors import StudyError
from rmm.study.files.messages import Letters, shown
from rmm.study.files.yaml_files import Problem, load_yaml

SCHEMA_FILE = Path(__file__).with_name("study.schema.json")
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys with values",
    "array": "a list",
}


@cache
def schema() -> dict[str, Any]:
    """The schema of study files."""
    found: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a study file.

    Raises
    ------
    StudyError
        See `rmm.study.files.yaml_files` for what is refused.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise StudyError(f"{path}: there is no such study file.\n  studies there: {known}")
    try:
        value = load_yaml(path)
    except Problem as problem:
        raise Letters(path).about(problem.where, problem.found, problem.allowed) from problem
    if not isinstance(value, dict):
        raise Letters(path).about("", shown(value), f"keys: {', '.join(schema()['properties'])}")
    return value


def check(value: Any, letters: Letters, part: str = "") -> None:
    """Check a value against the schema, or against its property `part`.

    Raises
    ------
    StudyError
        About the first problem in the order of the file.
    """
    _check_keys(value, letters, part)
    errors = sorted(_validator(part).iter_errors(value), key=lambda e: [str(p) for p in e.path])
    if errors:
        error = errors[0]
        path = [*([part] if part else []), *error.absolute_path]
        raise _letter(error, path, letters)


@cache
def _validator(part: str) -> Any:
    import jsonschema

    whole = schema()
    if not part:
        return jsonschema.Draft202012Validator(whole)
    return jsonschema.Draft202012Validator({**whole["properties"][part], "$defs": whole["$defs"]})


def _check_keys(value: Any, letters: Letters, path: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise letters.about(
                    path, f"the key {key!r}", "keys that are text: put it in quotes"
                )
            _check_keys(inner, letters, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_keys(inner, letters, f"{path}[{index}]")


def key_path(path: Sequence[Any]) -> str:
    """``methods[1].backend`` from its parts."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f"{'.' if out else ''}{part}"
    return out


def _letter(error: Any, path: list[Any], letters: Letters) -> StudyError:
    key, rule, value = key_path(path), error.validator, error.instance
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(k for k in value if k not in known)
        return letters.name(key_path([*path, unknown]), "known key", unknown, known)
    if rule == "required":
        missing = next(k for k in error.validator_value if k not in value)
        return letters.about(
            key_path([*path, missing]), "the key is missing", _meaning(error, missing)
        )
    if rule == "type":
        types = error.validator_value
        types = [types] if isinstance(types, str) else types
        return letters.about(key, shown(value) + _number_hint(value, types), _one_of(types))
    if rule == "enum":
        return letters.name(key, "known value", value, [str(v) for v in error.validator_value])
    bounds = {
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
    return letters.about(key, shown(value), bounds.get(rule, "{}").format(error.validator_value))


def _meaning(error: Any, key: str) -> str:
    meaning = error.schema.get("properties", {}).get(key, {})
    meaning = _deref(meaning)
    return str(meaning.get("description", "")).rstrip(".")


def _one_of(types: Sequence[str]) -> str:
    return " or ".join(_TYPES[t] for t in types)


def _number_hint(value: Any, types: Sequence[str]) -> str:
    """YAML reads 1e-3 as text; it wants 1.0e-3."""
    if not isinstance(value, str) or not {"number", "integer"} & set(types):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f"; write {number!r} without quotes"


def _deref(part: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref")
    return schema()["$defs"][reference.rsplit("/", 1)[1]] if reference else part


def _children(value: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of each key: of those in the schema, and of those in the value."""
    named = dict(part.get("properties", {}))
    other = part.get("additionalProperties")
    if isinstance(other, dict):
        named.update({k: other for k in value if k not in named})
    return named


def with_defaults(value: Any, part: Mapping[str, Any] | None = None) -> Any:
    """A copy of a checked value in which every key that has a default is said."""
    part = _deref(schema() if part is None else part)
    if isinstance(value, Mapping):
        out = dict(value)
        for key, inner in _children(value, part).items():
            if key in out:
                out[key] = with_defaults(out[key], inner)
            elif "default" in _deref(inner):
                out[key] = with_defaults(copy.deepcopy(_deref(inner)["default"]), inner)
        return out
    if isinstance(value, list) and "items" in part:
        return [with_defaults(item, part["items"]) for item in value]
    return copy.deepcopy(value)


def without_defaults(value: Any, part: Mapping[str, Any] | None = None) -> Any:
    """A copy in which keys at their default are left out.

    Addresses of random numbers are made from this, so that a key which a later version adds
    does not change the data of studies that do not use it.
    """
    part = _deref(schema() if part is None else part)
    if isinstance(value, Mapping):
        inner = _children(value, part)
        kept = {}
        for key, item in value.items():
            rule = _deref(inner.get(key, {}))
            item = without_defaults(item, rule)
            default = rule.get("default")
            if item is None or ("default" in rule and item == without_defaults(default, rule)):
                continue
            kept[key] = item
        return kept
    if isinstance(value, list) and "items" in part:
        return [without_defaults(item, part["items"]) for item in value]
    return value
