"""All checks of a user's table, found in the source by their messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from site_parts.letters import PACKAGE, letters, parsed, shown, texts
from site_parts.tables import table

#: Topic -> modules, or packages, whose messages about data it holds, in the order of the page.
TOPICS = {
    "Files": ("tables.data_files", "tables.csv_files", "tables.rdata"),
    "Tables and columns": (
        "tables.read",
        "tables.plain_columns",
        "design.rows.table_checks",
        "design.recipe",
    ),
    "Wide tables": ("tables.wide_to_long",),
    "Members, groups and nesting units": (
        "design.rows.group_rows",
        "design.rows.units",
        "design.members.random_walks",
    ),
    "Missing values": ("design.rows.missing_values",),
    "Outcomes": ("design.columns.outcome", "families"),
    "Predictors": (
        "design.columns.encode",
        "design.columns.predictor_levels",
        "design.columns.random_slopes",
        "design.columns.table_constants",
        "design.design",
        "design.identifiability",
        "design.prepare",
        "formula.column_bases",
    ),
    "Weights": (
        "design.members.memberships",
        "design.members.feature_values",
        "design.priors.group_sizes",
        "design.weights",
    ),
    "New groups": ("posterior.prediction.new_groups",),
}
#: Modules whose messages are about arguments, saved fits and other files, not about a table.
OTHERS = (
    "datasets",
    "design.priors.places",
    "formula.mm_hm",
    "posterior",
    "simulation",
)


@dataclass(frozen=True)
class Check:
    """A message about data, with `...` for what differs: an error, or a warning."""

    text: str
    module: str
    warning: bool = False


def checks() -> list[Check]:
    """All errors and warnings about data, modules in alphabetical order."""
    warned = [Check(found.text, found.place.removeprefix("rmm."), warning=True)
              for found in letters() if found.category == "SpecificationWarning"]  # fmt: skip
    return [*errors(), *warned]


def errors() -> Iterator[Check]:
    """The message of every `DataError` of the package."""
    for call, function, place in error_calls():
        for text in texts(call.args[0], function, parsed(place)):
            yield Check(text, place.removeprefix("rmm."))


def error_calls() -> Iterator[tuple[ast.Call, ast.FunctionDef, str]]:
    """All calls of `DataError`: the call, the innermost function around it, its module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        place = ".".join(parts).removesuffix(".__init__")
        found: dict[ast.Call, ast.FunctionDef] = {}
        for function in ast.walk(parsed(place)):  # outer functions come first
            if isinstance(function, ast.FunctionDef):
                found |= {node: function for node in ast.walk(function)
                          if isinstance(node, ast.Call)
                          and ast.unparse(node.func) == "DataError"}  # fmt: skip
        yield from ((call, function, place) for call, function in found.items())


def topic_of(module: str) -> str | None:
    """The topic of a module, or None where its messages are not about a table."""
    return next((topic for topic, names in TOPICS.items() if is_in(module, names)), None)


def is_in(module: str, names: Iterable[str]) -> bool:
    """Whether a module is one of some modules and packages, or in one of them."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def has_words(text: str) -> bool:
    """Whether a message has words of its own, and does not only pass on those of a library."""
    return len(text.replace("...", "")) > 8


def data_checks() -> str:
    """A section per topic, a row per message."""
    parts, found = [], checks()
    for topic in TOPICS:
        rows = [(shown(re.sub(r"(\.{3})+", "...", check.text)),
                 "warning" if check.warning else "error")
                for check in found
                if topic_of(check.module) == topic and has_words(check.text)]  # fmt: skip
        parts += [f"### {topic}", table(("message", "is"), dict.fromkeys(rows))]
    return "\n\n".join(parts)
