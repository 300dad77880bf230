"""Rewriting weight expressions: the offset dialect, the canonical logistic form, slopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rmm.formula import parser as syntax
from rmm.formula.expression import (
    Aggregate,
    Binary,
    Call,
    Column,
    GroupSize,
    LogisticSize,
    Node,
    Number,
    Parameter,
    TableCall,
    Unary,
    children,
    describe,
    has_parameters,
)
from rmm.formula.expression_reader import Reader, is_parameter


def rebuilt(node: Node, parts: list[Node]) -> Node:
    """A node with other children."""
    match node:
        case Aggregate() | TableCall():
            return replace(node, argument=parts[0])
        case Call():
            return Call(node.function, tuple(parts), node.position)
        case Unary():
            return Unary(node.op, parts[0], node.position)
        case Binary():
            return Binary(node.op, parts[0], parts[1], node.position)
        case LogisticSize():
            return LogisticSize(parts[0], node.position)
    return node


def substituted(node: Node, values: Mapping[str, float]) -> Node:
    """The expression with numbers in place of the named parameters."""
    if isinstance(node, Parameter) and node.name in values:
        return Number(float(values[node.name]), node.position)
    if isinstance(node, Aggregate | TableCall):
        return node
    return rebuilt(node, [substituted(child, values) for child in children(node)])


# -- the offset dialect ----------------------------------------------------------------------


def is_offset_dialect(tree: syntax.Syntax) -> bool:
    """Whether `offset()` is called anywhere."""
    return any(isinstance(n, syntax.Call) and n.function == "offset" for n in syntax.walk(tree))


def refuse_parameters(tree: syntax.Syntax, reader: Reader) -> None:
    """Raise `FormulaError` where `b0`, `b1`, ... stand in the offset dialect."""
    for node in syntax.walk(tree):
        if isinstance(node, syntax.Name) and not node.quoted and is_parameter(node.name):
            reader.fail(
                f"The parameter `{node.name}` and `offset()` cannot be used together.",
                node,
                "Either write all parameters, as in 1/n^exp(-(b1*x)), or use offset() and no "
                "parameters, as in 1/offset(n)^exp(-x): both mean the same. If "
                f"`{node.name}` is a column of the data, write it in backquotes.",
            )


class _Coefficients:
    """Gives each distinct variable outside `offset()` its number, in order of appearance."""

    def __init__(self, bare: frozenset[int]) -> None:
        self.bare = bare
        self.names: dict[str, str] = {}

    def place(self, node: Node) -> Node:
        if isinstance(node, (Column, GroupSize, Aggregate, TableCall)):
            if node.position in self.bare:
                return node
            name = self.names.setdefault(describe(node), f"b{len(self.names) + 1}")
            return Binary("*", Parameter(name, node.position), node, node.position)
        return rebuilt(node, [self.place(child) for child in children(node)])


def with_coefficients(tree: syntax.Syntax, reader: Reader) -> Node:
    """The expression in which each variable outside `offset()` has its coefficient."""
    bare: set[int] = set()
    for node in syntax.walk(tree):
        if isinstance(node, syntax.Call) and node.function == "offset":
            bare |= {inner.span.position for inner in syntax.walk(node)}
    return _Coefficients(frozenset(bare)).place(reader.read(tree))


# -- the canonical logistic form -------------------------------------------------------------


def recognise(node: Node) -> Node:
    """The tree with every spelling of 1/(1 + (n-1)*exp(-E)) as a `LogisticSize`."""
    if not isinstance(node, (Call, Unary, Binary)):
        return node
    node = rebuilt(node, [recognise(child) for child in children(node)])
    exponent = _logistic_exponent(node)
    return node if exponent is None else LogisticSize(exponent, node.position)


def _logistic_exponent(node: Node) -> Node | None:
    """E if `node` is 1/(1 + (n-1)*exp(-E)), (...)^-1 or ilogit(E - log(n-1)); else None."""
    match node:
        case Binary(op="/", left=Number(value=1.0), right=bottom):
            return _from_denominator(bottom)
        case Binary(op="^", left=bottom, right=Unary(operand=Number(value=1.0))):
            return _from_denominator(bottom)
        case Call(
            function="ilogit",
            arguments=(Binary(op="-", left=e, right=Call(function="log", arguments=(size,))),),
        ) if _is_size_less_one(size):
            return e
    return None


def _from_denominator(node: Node) -> Node | None:
    match node:
        case Binary(op="+", left=Number(value=1.0), right=product):
            return _from_product(product)
        case Binary(op="+", left=product, right=Number(value=1.0)):
            return _from_product(product)
    return None


def _from_product(node: Node) -> Node | None:
    match node:
        case Binary(op="*", left=size, right=Call(function="exp", arguments=(power,))) if (
            _is_size_less_one(size)
        ):
            return _negated(power)
        case Binary(op="*", left=Call(function="exp", arguments=(power,)), right=size) if (
            _is_size_less_one(size)
        ):
            return _negated(power)
        case Binary(op="/", left=size, right=Call(function="exp", arguments=(power,))) if (
            _is_size_less_one(size)
        ):
            return power
    return None


def _is_size_less_one(node: Node) -> bool:
    less = Unary("-", Number(1.0))
    return node in (
        Binary("-", GroupSize(), Number(1.0)),
        Binary("+", less, GroupSize()),
        Binary("+", GroupSize(), less),
    )


def _negated(node: Node) -> Node:
    """``-node``, without a sign where one can be taken away: -(-b0 - b1*x) is b0 + b1*x."""
    match node:
        case Unary():
            return node.operand
        case Binary(op="*" | "/") if _leads_with_sign(node):
            return Binary(node.op, _negated(node.left), node.right, node.position)
        case Binary(op="+" | "-") if _leads_with_sign(node):
            flipped = "-" if node.op == "+" else "+"
            return Binary(flipped, _negated(node.left), node.right, node.position)
    return Unary("-", node, node.position)


def _leads_with_sign(node: Node) -> bool:
    while isinstance(node, Binary) and node.op in "+-*/":
        node = node.left
    return isinstance(node, Unary)


# -- slopes ----------------------------------------------------------------------------------


def log_of_size_power(node: Node) -> Node | None:
    """The logarithm of 1/n^X as an expression, -(X * log(n)); None for any other form.

    1/n^exp(-E) underflows to 0 for every member of a group once E is below about -7. Programs
    therefore normalise exp(log w - largest log w), which is the same weight.
    """
    match node:
        case Binary(op="/", left=Number(value=1.0), right=Binary(op="^", left=GroupSize())):
            assert isinstance(node.right, Binary)
            return Unary("-", Binary("*", node.right.right, Call("log", (GroupSize(),))))
    return None


def multipliers(node: Node, parameter: str) -> list[Node | None]:
    """What each occurrence of a parameter multiplies; `Number(1.0)` of an intercept.

    The slope of the largest product around it. In a power with a base without parameters, such as
    ``share^b1``, it is the logarithm of the base, since share^b1 is exp(b1*log(share)). None where
    it is no factor of a product.
    """
    if node == Parameter(parameter):
        return [Number(1.0)]
    slope = _slope(node, parameter)
    if slope is None:
        slope = _slope_in_power(node, parameter)
    if slope is not None:
        return [slope]
    return [found for child in children(node) for found in multipliers(child, parameter)]


def shifted(node: Node, parameter: str, amount: Node) -> Node:
    """The expression with S - amount in place of S wherever a parameter multiplies S.

    b*S becomes b*S - b*amount, and share^b becomes share^b * exp(-b*amount); intercepts stay.
    """
    slope = _slope(node, parameter)
    if slope is not None:
        if slope == Number(1.0):
            return node
        return Binary("-", node, _signed(node, parameter, amount))
    if _slope_in_power(node, parameter) is not None:
        exponent = node.right if isinstance(node, Binary) else children(node)[1]
        less = Unary("-", _signed(exponent, parameter, amount))
        return Binary("*", node, Call("exp", (less,)))
    return rebuilt(node, [shifted(child, parameter, amount) for child in children(node)])


def _signed(node: Node, parameter: str, amount: Node) -> Node:
    """The product of parameter and amount, with the sign that the parameter has in `node`."""
    signs = sum(isinstance(part, Unary) for part in _around(node, parameter))
    product = Binary("*", Parameter(parameter), amount)
    return Unary("-", product) if signs % 2 else product


def _around(node: Node, parameter: str) -> list[Node]:
    """The nodes that hold the first occurrence of `parameter`, from the whole to itself."""
    if node == Parameter(parameter):
        return [node]
    for child in children(node):
        below = _around(child, parameter)
        if below:
            return [node, *below]
    return []


def _slope_in_power(node: Node, parameter: str) -> Node | None:
    match node:
        case Binary(op="^", left=base, right=exponent):
            pass
        case Call(function="pow", arguments=(base, exponent)):
            pass
        case _:
            return None
    slope = None if has_parameters(base) else _slope(exponent, parameter)
    if slope is None:
        return None
    log = Call("log", (base,))
    return log if slope == Number(1.0) else Binary("*", slope, log)


def _slope(node: Node, parameter: str) -> Node | None:
    """S where `node` is parameter * S or its negative; None where it is anything else."""
    if isinstance(node, Unary):
        return _slope(node.operand, parameter)
    if node == Parameter(parameter):
        return Number(1.0)
    if not isinstance(node, Binary) or node.op not in ("*", "/"):
        return None
    for mine, other in ((node.left, node.right), (node.right, node.left)):
        if has_parameters(other) or (node.op == "/" and mine is node.right):
            continue
        slope = _slope(mine, parameter)
        if slope is not None:
            if slope == Number(1.0) and node.op == "*":
                return other
            return Binary(node.op, slope, other, node.position)
    return None
