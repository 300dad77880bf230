"""All checks of a user's table, read from the messages in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from site_parts.tables import table
from site_parts.warning_texts import PACKAGE, parsed, shown, texts, warning_texts

#: Topic -> modules and packages with its messages, in the order of the page. The longest name wins.
TOPICS = {
    "Files": ("tables.data_files", "tables.csv_files", "tables.rdata"),
    "Tables and columns": ("tables", "design.rows.table_checks", "design.recipe"),
    "Wide tables": ("tables.wide_to_long",),
    "Members, groups and nesting units": ("design.rows", "design.members.random_walks"),
    "Missing values": ("design.rows.missing_values",),
    "Outcomes": ("design.columns.outcome", "families"),
    "Predictors": ("design", "formula"),
    "Weights": ("design.members", "design.weights", "design.priors"),
    "New groups": ("posterior.prediction.new_groups",),
}
#: Modules and packages whose messages are about arguments, saved fits and other files.
OTHERS = ("cli", "datasets", "fitting", "posterior", "simulation", "study")


@dataclass(frozen=True)
class Check:
    """A message about data, with `...` for variable parts: an error, or a warning."""

    text: str
    module: str
    warning: bool = False


def checks() -> list[Check]:
    """Return all errors and warnings about data."""
    warned = [
        Check(found.text, found.place.removeprefix("rmm."), warning=True)
        for found in warning_texts()
        if found.category == "SpecificationWarning"
    ]
    return [*errors(), *warned]


def errors() -> Iterator[Check]:
    """Yield the message of every `DataError` of the package."""
    for call, function, place in error_calls():
        for text in texts(call.args[0], function, parsed(place)):
            yield Check(text, place.removeprefix("rmm."))


def error_calls() -> Iterator[tuple[ast.Call, ast.FunctionDef, str]]:
    """Yield each call of `DataError`, with the innermost function around it and the module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        place = ".".join(parts).removesuffix(".__init__")
        found: dict[ast.Call, ast.FunctionDef] = {}
        for function in ast.walk(parsed(place)):  # outer functions come first
            if isinstance(function, ast.FunctionDef):
                found |= {
                    node: function
                    for node in ast.walk(function)
                    if isinstance(node, ast.Call) and ast.unparse(node.func) == "DataError"
                }
        yield from ((call, function, place) for call, function in found.items())


def topic_of(module: str) -> str | None:
    """Return the topic of a module, or None if its messages are not about a table.

    Raises
    ------
    KeyError
        If neither `TOPICS` nor `OTHERS` has the module or a package around it.
    """
    topics = {name: topic for topic, names in TOPICS.items() for name in names}
    known: dict[str, str | None] = {**topics, **dict.fromkeys(OTHERS)}
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in known:
            return known[name]
    raise KeyError(module)


def has_words(text: str) -> bool:
    """Return whether a message has words of its own, not only those of a library."""
    return len(text.replace("...", "")) > 8


def data_checks() -> str:
    """Return a section per topic, with a row per message."""
    parts, found = [], checks()
    for topic in TOPICS:
        rows = [
            (shown(re.sub(r"(\.{3})+", "...", check.text)), "warning" if check.warning else "error")
            for check in found
            if topic_of(check.module) == topic and has_words(check.text)
        ]
        parts += [f"### {topic}", table(("message", "type"), dict.fromkeys(rows))]
    return "\n\n".join(parts)
