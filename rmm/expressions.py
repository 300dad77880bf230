"""Expressions of data and parameters: node types, and syntax tree -> expression.

The weight language (`rmm.weights`) and the `I(...)` terms of formulas share it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from rmm import syntax
from rmm.errors import FormulaError, close_names
from rmm.weight_functions import AGGREGATES, COMPARISONS, FUNCTIONS, TABLE_FUNCTIONS

MAX_NODES = 600  # names, numbers and operations of a weight function: more are a mistake
_MAX_REPETITIONS = 2
MAX_DEPTH = 200  # height of an expression; evaluation and rendering recurse into it


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
        known: they are then those of the values at hand. See `rmm.table_constants`.
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


def value_columns(node: Node) -> tuple[str, ...]:
    """Columns whose values are used as numbers, once each, in order of appearance."""
    return tuple(dict.fromkeys(n.name for n in walk(node) if isinstance(n, Column)))


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


# -- syntax tree -> expression ---------------------------------------------------------------


def suggestion(name: str, allowed: Collection[str]) -> str:
    """``" Did you mean `x`?"``, or nothing."""
    close = close_names(name, sorted(allowed))
    if not close:
        folded = [a for a in sorted(allowed) if a.lower() == name.lower()]
        close = folded[:1]
    return f" Did you mean `{close[0]}`?" if close else ""


#: What people write -> what it is called here; or why it is not available.
_OTHER_NAMES: dict[str, str] = dict.fromkeys(("centre", "centered", "demean"), "center") | {
    "standardize": "scale",
    "standardise": "scale",
    "zscore": "scale",
    "ln": "log",
    "plogis": "ilogit",
    "expit": "ilogit",
    "inv_logit": "ilogit",
    "qlogis": "logit",
    "pnorm": "iprobit",
    "qnorm": "probit",
    "ceil": "ceiling",
}
_INSTEAD: dict[str, str] = {
    "log1p": "Write log(1 + x).",
    "expm1": "Write exp(x) - 1.",
    "log2": "Write log(x)/log(2).",
    "ifelse": "Write a comparison, which is 1 where it is true and 0 elsewhere: (x > 0)*x.",
} | dict.fromkeys(
    ("s", "te", "ti", "t2", "ns", "bs", "cs", "lo", "gp"), "Splines and smooths are not available."
)


def advice_on_function(name: str, allowed: Collection[str]) -> str:
    """What to write instead of an unknown function; begins with a blank if there is anything."""
    if name in _INSTEAD:
        return f" {_INSTEAD[name]}"
    other = _OTHER_NAMES.get(name.lower())
    if other in allowed:
        return f" Did you mean `{other}`?"
    return suggestion(name, allowed)


def _repetitions(node: Node) -> int:
    """How deep calls are nested whose JAGS text repeats its argument: it grows by the power."""
    below = max(map(_repetitions, children(node)), default=0)
    return below + (isinstance(node, Call) and FUNCTIONS[node.function].jags.count("{0}") > 1)


@dataclass(frozen=True)
class Reader:
    """How names are read.

    Attributes
    ----------
    text : str
        The whole text, for carets.
    parameters : bool
        Whether `b`, `b0`, `b1`, ... are parameters (the explicit dialect of weights).
    weights : bool
        Whether `n`, `offset()` and group aggregates have the meaning of the weight language.
        Otherwise every name is a column.
    """

    text: str
    parameters: bool = False
    weights: bool = False

    def fail(self, problem: str, node: syntax.Syntax, hint: str | None = None) -> NoReturn:
        """Raise a `FormulaError` with carets under a node."""
        span = node.span
        length = span.end - span.start if span.position == span.start else 1
        if isinstance(node, syntax.Call):
            length = len(node.function)
        raise FormulaError(problem, self.text, span.position, length, hint)

    def read(self, tree: syntax.Syntax) -> Node:
        """The expression of a syntax tree; `FormulaError` with a caret if it has none."""
        if tree.span.depth > MAX_DEPTH:
            self.fail(
                f"This expression chains or nests more than {MAX_DEPTH} operations.",
                tree,
                "Compute a part of it as a data column.",
            )
        if self.weights and sum(1 for _ in syntax.walk(tree)) > MAX_NODES:
            self.fail(
                f"This weight function has more than {MAX_NODES} parts.",
                tree,
                "Compute a part of it as a data column.",
            )
        node = self._node(tree)
        if self.weights and _repetitions(node) > _MAX_REPETITIONS:
            self.fail(
                f"Rounding is nested more than {_MAX_REPETITIONS} levels deep.",
                tree,
                "Compute a part of it as a data column.",
            )
        return node

    def _node(self, tree: syntax.Syntax) -> Node:
        match tree:
            case syntax.Literal():
                return self._number(tree)
            case syntax.Name():
                return self._name(tree)
            case syntax.Call():
                return self._call(tree)
            case syntax.Prefix(operator="-"):
                return Unary("-", self._node(tree.operand), tree.span.position)
            case syntax.Prefix(operator="+"):
                return self._node(tree.operand)
            case syntax.Infix() if tree.operator in PRECEDENCE:
                left, right = self._node(tree.left), self._node(tree.right)
                return Binary(tree.operator, left, right, tree.span.position)
            case syntax.Infix() | syntax.Prefix():
                allowed = "+ - * / ^ == != < <= > >="
                self.fail(
                    f"`{tree.operator}` has no meaning in an arithmetic expression.",
                    tree,
                    f"Operators allowed here: {allowed}.",
                )

    def _number(self, tree: syntax.Literal) -> Node:
        if isinstance(tree.value, bool) or not isinstance(tree.value, float):
            found = syntax.source(self.text, tree)
            self.fail(f"A number or a column was expected, not {found}.", tree)
        return Number(tree.value, tree.span.position)

    def _name(self, tree: syntax.Name) -> Node:
        at = tree.span.position
        if self.weights and not tree.quoted:
            if tree.name == "n":
                return GroupSize(at)
            if self.parameters and is_parameter(tree.name):
                return Parameter(tree.name, at)
        return Column(tree.name, at)

    def _call(self, tree: syntax.Call) -> Node:
        name, at = tree.function, tree.span.position
        if name in TABLE_FUNCTIONS:
            return self._table_call(tree)
        for argument in tree.arguments:
            if argument.keyword is not None and not (name == "quantile" and self.weights):
                self.fail(f"`{name}()` takes no keyword `{argument.keyword} =`.", tree)
        if self.weights and name in AGGREGATES:
            return self._aggregate(tree)
        if self.weights and name == "offset":
            self._count(tree, 1)
            return self._node(tree.arguments[0].value)
        if name not in FUNCTIONS:
            self._unknown(tree)
        self._count(tree, FUNCTIONS[name].arity)
        return Call(name, tuple(self._node(a.value) for a in tree.arguments), at)

    def _unknown(self, tree: syntax.Call) -> NoReturn:
        name = tree.function
        if name in AGGREGATES:
            self.fail(
                f"`{name}()` is a group aggregate; those belong to weight functions only.",
                tree,
                "Compute the aggregate as a data column.",
            )
        allowed = [*FUNCTIONS, *TABLE_FUNCTIONS, *(AGGREGATES if self.weights else ())]
        self.fail(
            f"Unknown function `{name}()`.{advice_on_function(name, allowed)}",
            tree,
            f"Functions: {' '.join((*FUNCTIONS, *TABLE_FUNCTIONS))}."
            + (f" Group aggregates: {' '.join(AGGREGATES)}." if self.weights else ""),
        )

    def _count(self, tree: syntax.Call, wanted: int) -> None:
        found = len(tree.arguments)
        if found != wanted:
            plural = "s" * (wanted != 1)
            self.fail(f"`{tree.function}()` takes {wanted} argument{plural}, not {found}.", tree)

    def _aggregate(self, tree: syntax.Call) -> Node:
        name, extra = tree.function, AGGREGATES[tree.function].extra
        self._count(tree, 1 + len(extra))
        argument = self._data(name, tree.arguments[0].value)
        for node in walk(argument):
            if isinstance(node, Aggregate):
                raise FormulaError(
                    f"`{node.function}()` stands inside `{name}()`: group aggregates cannot be "
                    "nested.",
                    self.text,
                    node.position,
                    len(node.function),
                    "Compute the inner one as a data column.",
                )
        values = tuple(
            self._extra(tree, item, rule)
            for item, rule in zip(tree.arguments[1:], extra, strict=True)
        )
        return Aggregate(name, argument, values, tree.span.position)

    def _data(self, name: str, tree: syntax.Syntax) -> Node:
        """The argument of `name()`, which is computed from data, beforehand."""
        argument = self._node(tree)
        for node in walk(argument):
            if isinstance(node, Parameter):
                kind = "group aggregates are" if name in AGGREGATES else f"`{name}()` is"
                raise FormulaError(
                    f"The parameter `{node.name}` stands inside `{name}()`: {kind} computed from "
                    "data, beforehand.",
                    self.text,
                    node.position,
                    len(node.name),
                    f"Take it out: b1*{name}(x) instead of {name}(b1*x).",
                )
        return argument

    def _table_call(self, tree: syntax.Call) -> Node:
        name, row = tree.function, TABLE_FUNCTIONS[tree.function]
        usage = f"Write {name}(x)"
        usage += f", or {name}(x, within = a column) for means within its values." * row.within
        keywords = [a.keyword for a in tree.arguments]
        if keywords not in ([None], [None, "within"][: 1 + row.within]):
            found = ", ".join(syntax.source(self.text, a.value) for a in tree.arguments[1:])
            self.fail(
                f"`{name}()` takes one expression of columns, not {len(keywords)} arguments"
                + (f" ({found})." if found else "."),
                tree,
                usage,
            )
        argument = self._data(name, tree.arguments[0].value)
        if not value_columns(argument) and not any(
            isinstance(n, GroupSize) for n in walk(argument)
        ):
            self.fail(f"`{name}()` holds no column.", tree, usage)
        if len(keywords) == 1:
            return TableCall(name, argument, position=tree.span.position)
        within = tree.arguments[1].value
        if not isinstance(within, syntax.Name):
            self.fail(
                "`within =` names a column.",
                within,
                f"{name}(x, within = group) is about the means of the groups of mm(), "
                f"{name}(x, within = a column) about those of any other units.",
            )
        own = within.name == OWN_GROUP and not within.quoted
        return TableCall(name, argument, within.name, own, position=tree.span.position)

    def _extra(
        self, tree: syntax.Call, item: syntax.Argument, rule: tuple[str, float, float]
    ) -> float:
        name, low, high = rule
        value = item.value.value if isinstance(item.value, syntax.Literal) else None
        known = item.keyword in (None, name, "probs") and tree.arguments[0].keyword is None
        if not known or not isinstance(value, float) or not low <= value <= high:
            self.fail(
                f"`{tree.function}(x, {name})` needs a number from {low:g} to {high:g} as {name}.",
                item.value,
            )
        return value


def is_parameter(name: str) -> bool:
    """Whether a name is a parameter of the explicit dialect: `b`, `b0`, `b1`, `b2`, ..."""
    return re.fullmatch(r"b(0|[1-9][0-9]{0,3})?", name, re.ASCII) is not None
