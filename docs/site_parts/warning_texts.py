"""The text of every warning of the package, read from its source."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rmm
from site_parts.tables import table

PACKAGE = Path(rmm.__file__).parent
#: Module that issues a warning -> file and function that returns its text.
WRITTEN_BY = {"rmm.posterior.fit_tables": ("posterior/diagnostics/advice.py", "flat_weights")}
CLASSES = ("ConvergenceWarning", "SpecificationWarning")


@dataclass(frozen=True)
class WarningText:
    """A warning: its class, its text with `...` for variable parts, and its module."""

    category: str
    text: str
    place: str


def warnings_table() -> str:
    """Return a section per class, with a row per warning."""
    found = sorted(warning_texts(), key=lambda one: (one.place, one.text))
    parts = []
    for category in CLASSES:
        rows = [(shown(one.text), f"`{one.place}`") for one in found if one.category == category]
        parts += [f"## All of class `{category}`", table(("message", "module"), rows)]
    return "\n\n".join(parts)


def warning_texts() -> Iterator[WarningText]:
    """Yield every text of every warning."""
    for call, function, place in calls():
        if isinstance(call.args[1], ast.Attribute):
            continue  # a warning of another place is given again
        module = parsed(place)
        for message in _messages(call.args[0], function):
            for text in texts(message, function, module):
                if text == "..." and place in WRITTEN_BY:
                    text = _returned(*WRITTEN_BY[place])
                yield WarningText(ast.unparse(call.args[1]), text, place)


def _returned(module: str, name: str) -> str:
    """Return the text that a function of the package returns at its end."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    function = next(f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name == name)
    last = function.body[-1]
    assert isinstance(last, ast.Return) and last.value is not None, name
    return text_of(last.value, function)


def calls() -> Iterator[tuple[ast.Call, ast.FunctionDef, str]]:
    """Yield each call of `warnings.warn`, with its function and module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for function in ast.walk(parsed(place.removesuffix(".__init__"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                        yield node, function, place


@functools.cache
def parsed(place: str) -> ast.Module:
    """Return the syntax tree of a module, such as ``rmm.tables.read``."""
    file = PACKAGE.joinpath(*place.split(".")[1:])
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def texts(node: ast.expr, function: ast.FunctionDef, module: ast.Module) -> Iterator[str]:
    """Yield the possible texts of a message.

    If the message is an argument of the function, these are the values in the module's calls; if it
    is a call of another function of the module, the values which that function returns.
    """
    arguments = [a.arg for a in function.args.args]
    functions = [f for f in ast.walk(module) if isinstance(f, ast.FunctionDef)]
    if isinstance(node, ast.Name) and node.id in arguments:
        for caller in functions:
            for call in _calls_of(function.name, caller):
                yield from texts(call.args[arguments.index(node.id)], caller, module)
        return
    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    for other in functions:
        if other.name == called:
            for found in ast.walk(other):
                if isinstance(found, ast.Return) and found.value is not None:
                    yield from texts(found.value, other, module)
            return
    yield text_of(node, function)


def _calls_of(name: str, function: ast.FunctionDef) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            yield node


def _messages(node: ast.expr, function: ast.FunctionDef) -> list[ast.expr]:
    """Return the message, or all items of the list that the loop around the call goes through."""
    for loop in ast.walk(function):
        if isinstance(loop, ast.For) and ast.unparse(loop.target) == ast.unparse(node):
            adds = f"{ast.unparse(loop.iter)}.append"
            return [
                call.args[0]
                for call in ast.walk(function)
                if isinstance(call, ast.Call)
                and ast.unparse(call.func) == adds
                and call.lineno < loop.lineno
            ]
    return [node]


def text_of(node: ast.expr, function: ast.FunctionDef) -> str:
    """Return the words of a message; names are replaced by what the function assigns to them."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, function) for part in node.values)
    if isinstance(node, ast.Name):
        for assigned in ast.walk(function):
            if isinstance(assigned, ast.Assign) and ast.unparse(assigned.targets[0]) == node.id:
                return text_of(assigned.value, function)
    if isinstance(node, ast.BinOp):
        return text_of(node.left, function) + text_of(node.right, function)
    return "..."


def shown(text: str) -> str:
    """Escape a text for Markdown and remove code marks."""
    return text.replace("`", "").replace("<", "&lt;").replace("*", "\\*")
