"""Weight expressions as text of JAGS and Stan programs.

JAGS gets one scalar expression for a row index; Stan one expression for the whole row vector, in
which scalars (numbers, parameters) and vectors (data) need different operators.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from rmm.formula.expression import (
    PRECEDENCE,
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
    describe,
    walk,
)
from rmm.formula.functions import COMPARISONS, FUNCTIONS

# Stan compares scalars only and rounds halves away from zero; these bring it in line.
STAN_DEFINITIONS: Mapping[str, str] = {
    "rmm_round": """\
  vector rmm_round(vector x) {
    vector[rows(x)] r = round(x);
    for (i in 1:rows(x)) {
      if (abs(x[i] - trunc(x[i])) == 0.5) {
        r[i] = 2 * round(x[i] / 2);  // halves to even
      }
    }
    return r;
  }
  real rmm_round(real x) {
    return rmm_round([x]')[1];
  }""",
    "rmm_compare": """\
  vector rmm_compare(int op, vector x, vector y) {
    vector[rows(x)] r;
    for (i in 1:rows(x)) {
      if (op == 1) {
        r[i] = x[i] == y[i];
      } else if (op == 2) {
        r[i] = x[i] != y[i];
      } else if (op == 3) {
        r[i] = x[i] < y[i];
      } else if (op == 4) {
        r[i] = x[i] <= y[i];
      } else if (op == 5) {
        r[i] = x[i] > y[i];
      } else {
        r[i] = x[i] >= y[i];
      }
    }
    return r;
  }
  vector rmm_compare(int op, vector x, real y) {
    return rmm_compare(op, x, rep_vector(y, rows(x)));
  }
  vector rmm_compare(int op, real x, vector y) {
    return rmm_compare(op, rep_vector(x, rows(y)), y);
  }
  real rmm_compare(int op, real x, real y) {
    return rmm_compare(op, [x]', [y]')[1];
  }""",
}


def program_inputs(expression: Node) -> tuple[tuple[str, Node], ...]:
    """(identifier, leaf) of every data vector that a program of `expression` needs.

    Leaves are columns and, computed beforehand, group aggregates and functions such as
    ``center(x)``. An identifier is ``x_`` and the text of the leaf, with one ``_`` for each run of
    characters other than ASCII letters and digits: ``pseat.sq`` -> ``x_pseat_sq``, ``max(pseat)``
    -> ``x_max_pseat``. Equal ones are numbered: ``x_pseat_sq``, ``x_pseat_sq_2``. No name of a
    program's own begins with ``x_``, so that no column can have one.
    """
    found = {input_key(leaf): leaf for leaf in _leaves(expression)}
    taken: dict[str, Node] = {}
    for leaf in found.values():
        name = base = _identifier(describe(leaf))
        number = 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken[name] = leaf
    return tuple(taken.items())


def _leaves(node: Node) -> list[Node]:
    """Columns and what is computed beforehand, from left to right; not the columns inside."""
    match node:
        case Column() | Aggregate() | TableCall():
            return [node]
        case Call():
            return [leaf for argument in node.arguments for leaf in _leaves(argument)]
        case Unary():
            return _leaves(node.operand)
        case Binary():
            return _leaves(node.left) + _leaves(node.right)
        case LogisticSize():
            return _leaves(node.exponent)
    return []


def input_key(leaf: Node) -> str:
    """Key of a leaf in the `names` of `to_jags` and `to_stan`, without ``input:``."""
    return leaf.name if isinstance(leaf, Column) else describe(leaf)


def _identifier(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "x_" + (re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_") or "variable")


def uses_size(node: Node) -> bool:
    """Whether a program of the expression needs `n`, outside canonical logistic weights."""
    return any(isinstance(n, GroupSize) for n in walk(node))


def uses_log_size(node: Node) -> bool:
    """Whether a program of the expression needs `log_n1`."""
    return any(isinstance(n, LogisticSize) for n in walk(node))


def to_jags(node: Node, names: Mapping[str, str], index: str) -> str:
    """JAGS text of the expression for row `index`.

    Parameters
    ----------
    node : Node
    names : mapping
        ``"param:b1"`` -> as written in the program (``"b_w[1]"``); ``"input:<key>"``, ``"n"`` and
        ``"log_n1"`` -> names of data vectors, to which ``[index]`` is appended.
    index : str
        Such as ``"r"``.
    """
    match node:
        case Number():
            return _number(node.value)
        case Parameter():
            return names[f"param:{node.name}"]
        case GroupSize():
            return f"{names['n']}[{index}]"
        case Column() | Aggregate() | TableCall():
            return f"{names[f'input:{input_key(node)}']}[{index}]"
        case Call():
            texts = [to_jags(argument, names, index) for argument in node.arguments]
            return FUNCTIONS[node.function].jags.format(*texts)
        case LogisticSize():
            exponent = _grouped(node.exponent, to_jags(node.exponent, names, index), 2)
            return f"ilogit({exponent} - {names['log_n1']}[{index}])"
        case Unary():
            return "-" + _grouped(node.operand, to_jags(node.operand, names, index), 9)
    left = to_jags(node.left, names, index)
    right = to_jags(node.right, names, index)
    return _infix(node, left, right, node.op)


def to_stan(node: Node, names: Mapping[str, str]) -> str:
    """Stan text of the expression for all rows at once.

    The value is a vector, or a scalar where no data enter: see `is_vector`. The program's
    functions block must hold `stan_definitions(node)`, usually nothing.

    Parameters
    ----------
    node : Node
    names : mapping
        As for `to_jags`; data are vectors (``n`` too, not an integer array).
    """
    match node:
        case Number():
            return _number(node.value)
        case Parameter():
            return names[f"param:{node.name}"]
        case GroupSize():
            return names["n"]
        case Column() | Aggregate() | TableCall():
            return names[f"input:{input_key(node)}"]
        case Call():
            texts = [to_stan(argument, names) for argument in node.arguments]
            return FUNCTIONS[node.function].stan.format(*texts)
        case LogisticSize():
            exponent = _grouped(node.exponent, to_stan(node.exponent, names), 2)
            return f"inv_logit({exponent} - {names['log_n1']})"
        case Unary():
            return "-" + _grouped(node.operand, to_stan(node.operand, names), 9)
    if node.op in COMPARISONS:
        number = COMPARISONS.index(node.op) + 1
        return f"rmm_compare({number}, {to_stan(node.left, names)}, {to_stan(node.right, names)})"
    operator = _stan_operator(node)
    left = _stan_operand(node.left, to_stan(node.left, names), operator)
    right = _stan_operand(node.right, to_stan(node.right, names), operator)
    return _infix(node, left, right, operator)


def _stan_operand(node: Node, text: str, operator: str) -> str:
    """In parentheses where `a * b .* c` would read as `a * (b .* c)`: Stan's dots bind tighter."""
    plain = isinstance(node, Binary) and node.op in "*/" and _stan_operator(node) == node.op
    return f"({text})" if operator in (".*", "./") and plain else text


def _stan_operator(node: Binary) -> str:
    left, right = is_vector(node.left), is_vector(node.right)
    elementwise = {
        "*": left and right,
        "/": right,  # vector / scalar is plain division
        "^": left or right,
    }
    return f".{node.op}" if elementwise.get(node.op, False) else node.op


def is_vector(node: Node) -> bool:
    """Whether the Stan text of a node is a vector (else a scalar: numbers and parameters)."""
    vectors = (Column, GroupSize, Aggregate, TableCall, LogisticSize)
    return any(isinstance(part, vectors) for part in walk(node))


def stan_definitions(node: Node) -> str:
    """Text for Stan's functions block that the expression needs; "" for nearly all."""
    needed = set()
    for part in walk(node):
        if isinstance(part, Call) and part.function == "round":
            needed.add("rmm_round")
        if isinstance(part, Binary) and part.op in COMPARISONS:
            needed.add("rmm_compare")
    return "\n".join(text for name, text in STAN_DEFINITIONS.items() if name in needed)


def _number(value: float) -> str:
    text = repr(float(value))  # "2.0": Stan divides integers as integers
    return f"({text})" if value < 0 else text


def _infix(node: Binary, left: str, right: str, operator: str) -> str:
    own = PRECEDENCE[node.op]
    power = node.op == "^"
    return (
        f"{_grouped(node.left, left, 9 if power else own + (own == 1))} {operator} "
        f"{_grouped(node.right, right, 9 if power else own + 1)}"
    )


def _grouped(node: Node, text: str, least: int) -> str:
    """In parentheses unless it binds as tightly as `least`; signs always, engines differ there."""
    if text.startswith("(") and text.endswith(")") and _is_enclosed(text):
        return text
    if isinstance(node, Unary):
        return f"({text})"
    if not isinstance(node, Binary) or (node.op in COMPARISONS and text.startswith("rmm_")):
        return text
    return text if PRECEDENCE[node.op] >= least else f"({text})"


def _is_enclosed(text: str) -> bool:
    """Whether the first parenthesis closes at the end."""
    level = 0
    for at, character in enumerate(text):
        level += (character == "(") - (character == ")")
        if level == 0:
            return at == len(text) - 1
    return False
