"""Expressions of data and parameters: node types, walks over them, and their text.

The weight language (`weight_function`) and the `I(...)` terms of formulas share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rmm.formula.functions import COMPARISONS


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Column:
    """A data column, by the user's name (it may hold dots and blanks)."""

    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class GroupSize:
    """`n`, the counted number of members of the row's group."""

    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Parameter:
    """A weight coefficient: ``"b"``, ``"b0"``, ``"b1"``, ..."""

    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Aggregate:
    """A group aggregate of a data expression, such as ``max(x)`` or ``quantile(x, 0.9)``."""

    function: str
    argument: Node
    extra: tuple[float, ...] = ()
    position: int = field(default=0, compare=False)

    @property
    def key(self) -> str:
        """Canonical text: ``"max(x)"``."""
        return describe(self)


OWN_GROUP = "group"  # `within = group`: the group of mm(), whatever its id column is called


@dataclass(frozen=True)
class TableCall:
    """A function of `weight_functions.TABLE_FUNCTIONS`, such as ``center(x)``.

    Attributes
    ----------
    function : str
    argument : Node
        Without parameters: values are computed from data, beforehand.
    within : str or None
        A column, within whose values the constants are taken; `OWN_GROUP` with `own_group`.
    own_group : bool
        Whether constants are taken within the groups of `mm()`.
    constants : tuple of (level, numbers), or None
        Those of a fit, by level of `within` (one level, None, without it). None before a table is
        known: they are then those of the values at hand. See `rmm.design.columns.table_constants`.
    """

    function: str
    argument: Node
    within: str | None = None
    own_group: bool = False
    constants: tuple[tuple[Any, tuple[float, ...]], ...] | None = field(default=None, compare=False)
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Call:
    """An elementwise function of `weight_functions.FUNCTIONS`."""

    function: str
    arguments: tuple[Node, ...]
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Unary:
    """Negation; `op` is ``"-"``."""

    op: str
    operand: Node
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Binary:
    """``+ - * / ^`` or a comparison (1 where true, else 0)."""

    op: str
    left: Node
    right: Node
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class LogisticSize:
    """``1 / (1 + (n - 1) * exp(-E))``, kept whole so that it can be evaluated without overflow.

    It is computed as ``inv_logit(E - log(n - 1))``, and is 1 at n = 1.
    """

    exponent: Node
    position: int = field(default=0, compare=False)


type Node = (
    Number
    | Column
    | GroupSize
    | Parameter
    | Aggregate
    | TableCall
    | Call
    | Unary
    | Binary
    | LogisticSize
)


def with_table_constants(node: Node) -> tuple[Node, tuple[Any, ...]]:
    """A key of an expression that differs where constants of `center()` and the like do.

    Expressions themselves are equal whatever constants they hold.
    """
    return node, tuple(n.constants for n in walk(node) if isinstance(n, TableCall))


def children(node: Node) -> tuple[Node, ...]:
    """Direct parts of a node, from left to right."""
    match node:
        case Aggregate() | TableCall():
            return (node.argument,)
        case Call():
            return node.arguments
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case LogisticSize():
            return (node.exponent,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """Every node, from left to right, parents first; without recursion, whose cost is its depth."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


@lru_cache(maxsize=4096)
def value_columns(node: Node) -> tuple[str, ...]:
    """Columns whose values are used as numbers, once each, in order of appearance."""
    return tuple(dict.fromkeys(n.name for n in walk(node) if isinstance(n, Column)))


@lru_cache(maxsize=4096)
def leaf_columns(node: Node) -> tuple[str, ...]:
    """Data columns used, once each, inside aggregates and as `within =` too."""
    within = [
        n.within
        for n in walk(node)
        if isinstance(n, TableCall) and n.within is not None and not n.own_group
    ]
    return tuple(dict.fromkeys((*value_columns(node), *within)))


def has_parameters(node: Node) -> bool:
    """Whether the expression holds a parameter."""
    return any(isinstance(n, Parameter) for n in walk(node))


# -- text ------------------------------------------------------------------------------------

PRECEDENCE = {"+": 2, "-": 2, "*": 3, "/": 3, "^": 5} | dict.fromkeys(COMPARISONS, 1)
_ATOMIC = 9


def precedence(node: Node) -> int:
    """How tightly the outermost operation of a node binds; 9 for names, numbers and calls."""
    match node:
        case Binary():
            return PRECEDENCE[node.op]
        case Unary():
            return 4
        case Number() if node.value < 0:  # in place of a parameter
            return 4
    return _ATOMIC


def describe(node: Node) -> str:
    """Canonical text, spaced like R's deparse: ``"I(x^2)"``, ``"max(x + y)"``."""
    match node:
        case Number():
            return format(node.value, ".15g")
        case Column():
            return _name(node.name)
        case GroupSize():
            return "n"
        case Parameter():
            return node.name
        case Aggregate():
            extra = [format(value, ".15g") for value in node.extra]
            return f"{node.function}({', '.join([describe(node.argument), *extra])})"
        case TableCall():
            within = _name(node.within or "")
            if within == OWN_GROUP and not node.own_group:
                within = f"`{within}`"
            within = f", within = {within}" if node.within is not None else ""
            return f"{node.function}({describe(node.argument)}{within})"
        case Call():
            return f"{node.function}({', '.join(map(describe, node.arguments))})"
        case LogisticSize():
            return f"1/(1 + (n - 1) * exp(-({describe(node.exponent)})))"
        case Unary():
            return "-" + _inside(node.operand, 4)
    own = PRECEDENCE[node.op]
    left = _inside(node.left, own + (node.op == "^" or own == 1))
    right = _inside(node.right, own + 1)
    tight = node.op in "/^"
    return f"{left}{node.op}{right}" if tight else f"{left} {node.op} {right}"


def _name(column: str) -> str:
    plain = re.fullmatch(r"(?:[^\W\d_]|\.(?![0-9]))[\w.]*", column)
    return column if plain else f"`{column}`"


def _inside(node: Node, least: int) -> str:
    text = describe(node)
    return text if precedence(node) >= least else f"({text})"
