"""Weight functions as lists of operations for the compiled kernels (`kernels/weights.hpp`)."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import c_int64, c_void_p
from typing import Any

import numpy as np

from rmm.backends.laplace.kernels.library import Arrays
from rmm.formula.expression import (
    Binary,
    Call,
    Column,
    GroupSize,
    LogisticSize,
    Node,
    Number,
    Parameter,
    Unary,
    has_parameters,
)
from rmm.formula.weights.evaluate import CONSTRAINTS, evaluate, log_size_less_one
from rmm.formula.weights.weight_function import WeightFunction
from rmm.tables.read import Array

_DATA, _PARAMETER, _NUMBER = 0, 1, 2
_BINARY = {"+": 3, "-": 4, "*": 5, "/": 6, "^": 7}
_POWER, _NEGATIVE, _EXP, _LOG, _ILOGIT = 7, 8, 9, 10, 12
_CALLS = {"pow": _POWER, "exp": _EXP, "log": _LOG, "sqrt": 11, "ilogit": _ILOGIT}


class WeightProgram(Arrays):
    """`WeightProgram` of weights.hpp."""

    _fields_ = (
        *((n, c_int64) for n in ("members", "groups", "parameters", "operations", "depth")),
        ("constraint", c_int64),
        *((n, c_void_p) for n in ("start", "code", "data", "numbers", "scalar")),
    )


class _NotCovered(Exception):
    """A function that the kernels do not have."""


class _Writer:
    """Collects operations; what has no coefficients is computed at once."""

    def __init__(self, function: WeightFunction, inputs: Mapping[str, Array], start: Array) -> None:
        self.names = function.parameters
        self.inputs, self.start = inputs, start
        self.code: list[tuple[int, int]] = []
        self.data: list[Array] = []
        self.numbers: list[float] = []
        self.height = self.depth = 0

    def put(self, what: int, which: int = 0, *, more: int = 0) -> None:
        """An operation that makes the stack so much higher."""
        self.code.append((what, which))
        self.height += more
        self.depth = max(self.depth, self.height)

    def known(self, values: Array) -> None:
        """A vector of data."""
        self.data.append(values)
        self.put(_DATA, len(self.data) - 1, more=1)

    def write(self, node: Node) -> None:
        """The operations of an expression."""
        match node:
            case Number():
                self.numbers.append(node.value)
                self.put(_NUMBER, len(self.numbers) - 1, more=1)
            case Parameter():
                self.put(_PARAMETER, self.names.index(node.name), more=1)
            case Column():
                self.known(np.asarray(self.inputs[node.name], dtype=float))
            case _ if not has_parameters(node):
                self.known(evaluate(node, self.inputs, self.start))
            case Unary():
                self.write(node.operand)
                self.put(_NEGATIVE)
            case LogisticSize():
                self.write(node.exponent)
                self.known(log_size_less_one(self._sizes()))
                self.put(_BINARY["-"], more=-1)
                self.put(_ILOGIT)
            case Call() if node.function in _CALLS:
                self._call(_CALLS[node.function], *node.arguments)
            case Binary() if node.op in _BINARY:
                self._call(_BINARY[node.op], node.left, node.right)
            case _:
                raise _NotCovered

    def _call(self, what: int, *arguments: Node) -> None:
        if what == _POWER and self._positive(arguments[0]):
            self.known(np.log(evaluate(arguments[0], self.inputs, self.start)))
            self.write(arguments[1])
            self.put(_BINARY["*"], more=-1)
            self.put(_EXP)
            return
        for argument in arguments:
            self.write(argument)
        self.put(what, more=1 - len(arguments))

    def _positive(self, node: Node) -> bool:
        """Whether an expression is a known positive number everywhere."""
        return not has_parameters(node) and bool(
            (evaluate(node, self.inputs, self.start) > 0).all()
        )

    def _sizes(self) -> Array:
        return np.asarray(evaluate(GroupSize(), self.inputs, self.start))


def weight_program(
    function: WeightFunction, inputs: Mapping[str, Array], start: Array, scalar: Array
) -> WeightProgram | None:
    """The program of a weight function over data vectors; None where the kernels lack a function.

    Parameters
    ----------
    function : WeightFunction
    inputs : mapping
        Name -> (M,) values; aggregates are among them.
    start : (J + 1,) int array
        First membership of each group.
    scalar : (parameters,) int array
        Place of each coefficient among the hyperparameters.
    """
    writer = _Writer(function, inputs, start)
    try:
        writer.write(function.expression)
    except _NotCovered:
        return None
    members = int(start[-1])
    values: dict[str, Any] = {
        "members": members,
        "groups": len(start) - 1,
        "parameters": len(function.parameters),
        "operations": len(writer.code),
        "depth": writer.depth,
        "constraint": CONSTRAINTS.index(function.constraint),
        "start": start,
        "code": np.array(writer.code),
        "data": np.array(writer.data).reshape(len(writer.data), members),
        "numbers": np.array(writer.numbers),
        "scalar": scalar,
    }
    return WeightProgram(values)
