"""Every warning of the package, found in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rmm
from site_parts.tables import table

PACKAGE = Path(rmm.__file__).parent
CLASSES = ("ConvergenceWarning", "SpecificationWarning")


@dataclass(frozen=True)
class Letter:
    """A warning: its class, its text with `...` for what differs, and where it is given."""

    category: str
    text: str
    place: str


def warnings_table() -> str:
    """A section per class, a row per warning."""
    found = sorted(letters(), key=lambda letter: (letter.place, letter.text))
    parts = []
    for category in CLASSES:
        rows = [(_shown(letter.text), f"`{letter.place}`")
                for letter in found if letter.category == category]  # fmt: skip
        parts += [f"## All of class `{category}`", table(("text", "from"), rows)]
    return "\n\n".join(parts)


def letters() -> Iterator[Letter]:
    """All calls of `warnings.warn`, in every file of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                        yield Letter(ast.unparse(node.args[1]), _text(node.args[0], function),
                                     place)  # fmt: skip


def _text(node: ast.expr, function: ast.FunctionDef) -> str:
    """The words of a message; a name is looked up where the function assigns it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, function) for part in node.values)
    if isinstance(node, ast.Name):
        for assigned in ast.walk(function):
            if isinstance(assigned, ast.Assign) and ast.unparse(assigned.targets[0]) == node.id:
                return _text(assigned.value, function)
    if isinstance(node, ast.BinOp):
        return _text(node.left, function) + _text(node.right, function)
    return "..."


def _shown(text: str) -> str:
    return text.replace("`", "").replace("<", "&lt;").replace("*", "\\*")
