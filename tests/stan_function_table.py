"""Cases for every row of the weight language's tables, and one Stan program of all of them.

`cases()` feeds the comparison of JAGS with NumPy in `test_weights.py`; `stan_program()` is for
whoever has a compiled Stan: run it for one draw, compare each output with `expected`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.formula.functions import COMPARISONS, FUNCTIONS
from rmm.formula.weights.render import is_vector
from rmm.formula.weights.weight_function import (
    Binary,
    Call,
    Column,
    Node,
    Number,
    Parameter,
    WeightFunction,
    evaluate,
    log_size_less_one,
    parse_weights,
    program_names,
    stan_definitions,
    to_jags,
    to_stan,
)

Array = np.ndarray[Any, Any]
VALUES = (0.7, -1.3, 2.0)  # of b1, b2, b3
START = np.array([0, 1, 3, 6])
X = np.array([0.4, -1.0, 2.5, 0.0, 1.5, 1.5])
Y = np.array([1.5, -1.0, 0.5, 3.0, 1.5, 2.0])

TEXTS = {
    "mean": "1/n",
    "rosche": "1/n^exp(-(b1*x + b2*y))",
    "logistic": "1/(1 + (n - 1)*exp(-(b1*x + b2)))",
    "logistic_far": "1/(1 + (n - 1)*exp(-(b1*x*1000)))",
    "aggregate": "b1*(x == max(x)) + mean(y) - quantile(x, 0.25)*sd(x)",
    "minus": "-x^2 - (-x - y) - (x - y - b1) - -b2",
    "divide": "1/2 + 7/(2*b3) + x/n/2 + (x/b1)/(b2/n)",
    "powers": "2^n^0.5 + n^-b1 + b3^b1 + (-x)^2 + (x^2)^2 + 2^-x",
    "compare": "b1*((x > y) + y) + 2*(x == y)*y",
    "chain": "x/2*y/n*b3/y",
    "mixed": "x*b1*y*2 + 3*(b1 + b2)*n",
    "scalar": "b1 + b2*b3",
}


@dataclass(frozen=True)
class Case:
    """A named expression, its columns (M,) and group pointer."""

    name: str
    node: Node
    columns: Mapping[str, Array]
    start: Array

    @property
    def function(self) -> WeightFunction:
        """As a weight function without constraint."""
        return WeightFunction(self.name, self.node, "none")

    @property
    def parameters(self) -> dict[str, float]:
        """Values of b1, b2, b3."""
        return dict(zip(("b1", "b2", "b3"), VALUES, strict=True))

    @property
    def expected(self) -> Array:
        """NumPy's values, (M,)."""
        return evaluate(self.node, self.columns, self.start, self.parameters)

    @property
    def data(self) -> dict[str, Array]:
        """Data vectors by the identifiers of the program, each prefixed by the case's name."""
        size = np.repeat(np.diff(self.start), np.diff(self.start)).astype(float)
        out = {f"{self.name}_n": size, f"{self.name}_log_n1": log_size_less_one(size)}
        for identifier, leaf in self.function.inputs:
            out[f"{self.name}_{identifier}"] = evaluate(leaf, self.columns, self.start)
        return out

    @property
    def names(self) -> dict[str, str]:
        """`names` for `to_jags` and `to_stan`; parameters keep their numbers."""
        names = program_names(self.function, prefix=f"{self.name}_")
        return names | {f"param:b{i}": f"b_w[{i}]" for i in (1, 2, 3)}

    @property
    def stan(self) -> str:
        """Stan text of the vector."""
        text = to_stan(self.node, self.names)
        return text if is_vector(self.node) else f"rep_vector({text}, {self.start[-1]})"

    @property
    def jags(self) -> str:
        """JAGS text of row r."""
        return to_jags(self.node, self.names, "r")


def cases() -> list[Case]:
    """Every function (of data and of scalars), comparison, operator and canonical form."""
    out = []
    for name, function in FUNCTIONS.items():
        x = np.array(function.domain)
        start = np.array([0, len(x)])
        second = (Number(1.7),) * (function.arity - 1)
        out.append(Case(f"f_{name}", Call(name, (Column("x"), *second)), {"x": x}, start))
        # Of an expression: the row's text must hold for arguments that are not names.
        shifted = Call(name, (Binary("-", Binary("+", Column("x"), Number(1.0)), Number(1.0)),))
        if function.arity == 1:
            out.append(Case(f"g_{name}", shifted, {"x": x}, start))
        scalar = Call(name, (Number(x[-1]), *second))
        out.append(Case(f"s_{name}", Binary("+", scalar, Parameter("b1")), {}, start))
    for number, op in enumerate(COMPARISONS):
        pairs = {
            "vv": (Column("x"), Column("y")),
            "vs": (Column("x"), Number(1.5)),
            "sv": (Number(1.5), Column("x")),
            "ss": (Parameter("b1"), Number(0.7)),
        }
        for kind, (left, right) in pairs.items():
            node = Binary(op, left, right)
            out.append(Case(f"c_{kind}_{number}", node, {"x": X, "y": Y}, START))
    for name, text in TEXTS.items():
        node = parse_weights(text, constraint=False).expression
        out.append(Case(f"t_{name}", node, {"x": X, "y": Y}, START))
    return out


def stan_program() -> tuple[str, dict[str, Any], dict[str, Array]]:
    """One Stan program of all cases.

    Returns
    -------
    program : str
        Its generated quantities hold a vector `out_<case>` per case; one parameter `z`.
    data : dict
    expected : dict
        Name of the generated quantity -> NumPy's values.
    """
    table = cases()
    data: dict[str, Any] = {"b_w": np.array(VALUES)}
    for case in table:
        data |= case.data
    functions = _joined([case.node for case in table])
    declared = "\n".join(f"  vector[{len(v)}] {k};" for k, v in data.items())
    outputs = "\n".join(f"  vector[{c.start[-1]}] out_{c.name} = {c.stan};" for c in table)
    program = (
        f"functions {{\n{functions}\n}}\n"
        f"data {{\n{declared}\n}}\n"
        "parameters {\n  real z;\n}\n"
        "model {\n  z ~ std_normal();\n}\n"
        f"generated quantities {{\n{outputs}\n}}\n"
    )
    return program, data, {f"out_{c.name}": c.expected for c in table}


def _joined(nodes: list[Node]) -> str:
    """Definitions that any of the nodes needs, once."""
    return stan_definitions(Call("pow", tuple(nodes)))  # any node that holds them all
