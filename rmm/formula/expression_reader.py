"""Syntax tree -> expression of data and parameters, with messages that point at the place."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from rmm.errors import FormulaError, counted, did_you_mean
from rmm.formula import parser as syntax
from rmm.formula.column_bases import BASES
from rmm.formula.expression import (
    OWN_GROUP,
    PRECEDENCE,
    Aggregate,
    Binary,
    Call,
    Column,
    GroupSize,
    Node,
    Number,
    Parameter,
    TableCall,
    Unary,
    children,
    walk,
)
from rmm.formula.functions import AGGREGATES, FUNCTIONS, TABLE_FUNCTIONS

MAX_NODES = 600  # names, numbers and operations of a weight function: more are a mistake
_MAX_REPETITIONS = 2
MAX_DEPTH = 200  # height of an expression; evaluation and rendering recurse into it


_AS_COLUMN = "First compute a part of it as a new column of the data, then use this column."

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
    "as.factor": "factor",
    "as_factor": "factor",
    "ordered": "factor",
    "categorical": "factor",
}
_INSTEAD: dict[str, str] = {
    "log1p": "Write log(1 + x).",
    "expm1": "Write exp(x) - 1.",
    "log2": "Write log(x)/log(2).",
    "relevel": 'Write C(x, base = "b").',
    "cut": "Make a column of the intervals, or write comparisons such as I(x > 2).",
    "ifelse": "Write a comparison, which is 1 where it is true and 0 elsewhere: (x > 0)*x.",
} | dict.fromkeys(
    ("te", "ti", "t2", "bs", "cs", "lo", "gp"),
    "This smooth is not available. Smooth functions of one column are: s(x), or ns(x, 4).",
)


def advice_on_function(name: str, allowed: Collection[str]) -> str:
    """What to write instead of an unknown function; begins with a blank if there is anything."""
    if name in _INSTEAD:
        return f" {_INSTEAD[name]}"
    other = _OTHER_NAMES.get(name.lower())
    if other in allowed:
        return f" Did you mean `{other}`?"
    return did_you_mean(name, sorted(allowed))


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
                f"This expression has more than {MAX_DEPTH} operations.",
                tree,
                _AS_COLUMN,
            )
        if self.weights and sum(1 for _ in syntax.walk(tree)) > MAX_NODES:
            self.fail(
                f"This weight function has more than {MAX_NODES} parts.",
                tree,
                _AS_COLUMN,
            )
        node = self._node(tree)
        if self.weights and _repetitions(node) > _MAX_REPETITIONS:
            self.fail(
                f"Rounding functions are nested more than {_MAX_REPETITIONS} levels deep.",
                tree,
                _AS_COLUMN,
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
                    f"The operator `{tree.operator}` cannot be used in an arithmetic expression.",
                    tree,
                    f"Allowed operators: {allowed}.",
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
                self.fail(f"`{name}()` has no argument `{argument.keyword} =`.", tree)
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
                f"`{name}()` is a group aggregate, which can be used only in weight functions.",
                tree,
                "Compute the aggregate before, as a column of the data.",
            )
        if name in BASES:
            self.fail(
                f"`{name}()` makes several columns, so it cannot be used inside another function. "
                "It can be a predictor, or a part of a product of predictors.",
                tree,
                "Inside a function, write x == 2 for a category and x^2 for a power.",
            )
        allowed = [*FUNCTIONS, *TABLE_FUNCTIONS, *(AGGREGATES if self.weights else ())]
        self.fail(
            f"`{name}()` is not an available function.{advice_on_function(name, allowed)}",
            tree,
            f"Allowed: {', '.join((*FUNCTIONS, *TABLE_FUNCTIONS))}."
            + (f" Group aggregates: {', '.join(AGGREGATES)}." if self.weights else ""),
        )

    def _count(self, tree: syntax.Call, wanted: int) -> None:
        found = len(tree.arguments)
        if found != wanted:
            self.fail(
                f"`{tree.function}()` has {counted(found, 'argument')}, but needs {wanted}.", tree
            )

    def _aggregate(self, tree: syntax.Call) -> Node:
        name, extra = tree.function, AGGREGATES[tree.function].extra
        self._count(tree, 1 + len(extra))
        argument = self._data(name, tree.arguments[0].value)
        for node in walk(argument):
            if isinstance(node, Aggregate):
                raise FormulaError(
                    f"`{node.function}()` is inside `{name}()`, but group aggregates cannot be "
                    "nested.",
                    self.text,
                    node.position,
                    len(node.function),
                    "Compute the inner one before, as a column of the data.",
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
                    f"The parameter `{node.name}` cannot be inside `{name}()`: {kind} computed "
                    "from the data before the fit.",
                    self.text,
                    node.position,
                    len(node.name),
                    f"Write it outside: b1*{name}(x) instead of {name}(b1*x).",
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
                f"`{name}()` takes one expression of columns, but has "
                f"{counted(len(keywords), 'argument')}" + (f" ({found})." if found else "."),
                tree,
                usage,
            )
        argument = self._data(name, tree.arguments[0].value)
        if not any(isinstance(node, Column | GroupSize) for node in walk(argument)):
            self.fail(f"`{name}()` contains no column.", tree, usage)
        if len(keywords) == 1:
            return TableCall(name, argument, position=tree.span.position)
        within = tree.arguments[1].value
        if not isinstance(within, syntax.Name):
            self.fail(
                "`within =` must name a column.",
                within,
                f"{name}(x, within = group) uses the means of the groups of mm(). With another "
                "column as `within`, it uses the means of the units in that column.",
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
                f"`{name}` in {tree.function}(x, {name}) must be from {low:g} to {high:g}.",
                item.value,
            )
        return value


def is_parameter(name: str) -> bool:
    """Whether a name is a parameter of the explicit dialect: `b`, `b0`, `b1`, `b2`, ..."""
    return re.fullmatch(r"b(0|[1-9][0-9]{0,3})?", name, re.ASCII) is not None
