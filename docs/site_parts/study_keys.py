"""Keys of study files, measures and closed forms, from the schema and the registries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rmm
from site_parts.tables import table

SCHEMA = Path(rmm.__file__).parent / "study" / "files" / "study.schema.json"
Schema = Mapping[str, Any]


def tables() -> str:
    """Return a section per object of the schema, with a row per key."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = []
    for path, rule in objects(schema, schema, ""):
        parts += [f"## {f'`{path}`' if path else 'Top level'}", _keys(rule, schema)]
    return "\n\n".join(parts)


def objects(rule: Schema, schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield (key path, rule) of each object with keys: itself first, then the objects in it."""
    rule = _resolved(rule, schema)
    if "properties" in rule:
        yield path, rule
        for key, below in rule["properties"].items():
            yield from objects(below, schema, f"{path}.{key}" if path else key)
    named = rule.get("additionalProperties")
    if isinstance(named, Mapping):
        yield from objects(named, schema, f"{path}.NAME")
    if isinstance(rule.get("items"), Mapping):
        yield from objects(rule["items"], schema, f"{path}[]")


def _resolved(rule: Schema, schema: Schema) -> Schema:
    """Return the rule with its `$ref` resolved; keys of the rule itself take precedence."""
    if "$ref" not in rule:
        return rule
    name = rule["$ref"].rsplit("/", 1)[1]
    return {**schema["$defs"][name], **{k: v for k, v in rule.items() if k != "$ref"}}


def _keys(rule: Schema, schema: Schema) -> str:
    rows = []
    for key, below in rule["properties"].items():
        below = _resolved(below, schema)
        needed = key in rule.get("required", ())
        default = "required" if needed else _default(below.get("default"))
        rows.append((f"`{key}`", _type(below), _meaning(below), default))
    return table(("key", "type", "meaning", "default"), rows)


def _type(rule: Schema) -> str:
    kinds = rule.get("type", "any")
    text = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    low = rule.get("minimum", rule.get("exclusiveMinimum"))
    high = rule.get("maximum", rule.get("exclusiveMaximum"))
    above = "above" if "exclusiveMinimum" in rule else "from"
    below = "below" if "exclusiveMaximum" in rule else "to"
    return (
        text
        + (f", {above} {low}" if low is not None else "")
        + (f", {below} {high}" if high is not None else "")
    )


def _meaning(rule: Schema) -> str:
    description = str(rule.get("description", ""))
    choices = rule.get("enum")
    if not choices:
        return description
    return f"{description} Allowed: {', '.join(f'`{choice}`' for choice in choices)}."


def _default(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def measures() -> str:
    """Return a table of measures: meaning, estimate and Monte Carlo error."""
    from rmm.study.measures.measures import MEASURES

    rows = [(f"`{row.name}`", *row.formula) for row in MEASURES.values()]
    return table(("measure", "meaning", "estimate", "Monte Carlo standard error"), rows)


def closed_forms() -> str:
    """Return a table of the closed forms that a study can name under `reference`."""
    from rmm.study.design.closed_forms import CLOSED_FORMS

    rows = [(f"`{row.name}`", f"`{row.measure}`", row.source) for row in CLOSED_FORMS.values()]
    return table(("closed form", "measure", "formula or source"), rows)
