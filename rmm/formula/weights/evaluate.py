"""Weight expressions as numbers: evaluation per membership row, and the constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

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
    with_table_constants,
)
from rmm.formula.functions import AGGREGATES, FUNCTIONS, OPERATIONS, TABLE_FUNCTIONS

Array = np.ndarray[Any, Any]

# Data `log_n1` = log(n - 1) of a group of one. Not -inf, which JAGS cannot take as data, but so
# small that inv_logit(E - log_n1) is exactly 1 in double precision for every |E| below 1e9.
LOG_N1_OF_ONE = -1e10

CONSTRAINTS = ("group", "total", "none")


def evaluate(
    node: Node,
    columns: Mapping[str, Array],
    start: Array,
    parameters: Mapping[str, Array | float] | None = None,
    *,
    log: bool = False,
    once: Array | None = None,
    known: Mapping[Any, Array] | None = None,
) -> Array:
    """Values of an expression for every membership row.

    Parameters
    ----------
    node : Node
    columns : mapping
        Name -> (M,) values, rows sorted by group; labels of any kind where a column is but
        named by `within =`.
    start : (J+1,) int array
        First row of each group, and M at the end; no group is empty.
    parameters : mapping, optional
        Name -> number, or array of shape (..., 1) (draws on the left).
    log : bool
        Whether to give the logarithm, worked out through products, quotients and powers: 1/n^700
        underflows to 0, its logarithm does not.
    once : (units,) int array, optional
        Rows, one per unit, from which `center()` and the like take constants that they do not
        hold yet; default: all rows.
    known : mapping, optional
        (M,) values of calls such as `center(x)` that are computed already, by
        `rmm.formula.expression.with_table_constants`.

    Returns
    -------
    (..., M) float array
        Not finite where the expression is not (no warnings).
    """
    sizes = np.diff(start)
    if len(start) < 2 or (sizes < 1).any():
        raise ValueError("`start` must be increasing: every group has at least one row")
    given = {name: np.asarray(value, dtype=float) for name, value in (parameters or {}).items()}
    size = np.repeat(sizes, sizes).astype(float)
    with np.errstate(all="ignore"):
        evaluation = _Evaluation(columns, start, size, given, once, known or {})
        values = evaluation.log_of(node) if log else evaluation.of(node)
    if values.shape != size.shape:
        values = np.broadcast_to(values, np.broadcast_shapes(values.shape, size.shape))
    return np.array(values, dtype=float)


def log_size_less_one(size: Array) -> Array:
    """`log_n1`: log(n - 1), and `LOG_N1_OF_ONE` where n is 1."""
    return np.where(size > 1, np.log(np.maximum(size - 1.0, 1.0)), LOG_N1_OF_ONE)


@dataclass(frozen=True)
class _Evaluation:
    columns: Mapping[str, Array]
    start: Array
    size: Array
    parameters: Mapping[str, Array]
    once: Array | None
    known: Mapping[Any, Array]

    def of(self, node: Node) -> Array:
        match node:
            case Number():
                return np.asarray(node.value)
            case Column():
                return np.asarray(self.columns[node.name], dtype=float)
            case GroupSize():
                return self.size
            case Parameter():
                return self.parameters[node.name]
            case Aggregate():
                return self.aggregate(node)
            case TableCall():
                return self.table_call(node)
            case Call():
                function = FUNCTIONS[node.function].numpy
                return np.asarray(function(*(self.of(part) for part in node.arguments)))
            case LogisticSize():
                return np.asarray(
                    special.expit(self.of(node.exponent) - log_size_less_one(self.size))
                )
            case Unary():
                return np.negative(self.of(node.operand))
        values = OPERATIONS[node.op](self.of(node.left), self.of(node.right))
        return np.asarray(values, dtype=float)

    def log_of(self, node: Node) -> Array:
        """Logarithm; NaN where the value is negative."""
        match node:
            case Binary(op="*"):
                return np.asarray(self.log_of(node.left) + self.log_of(node.right))
            case Binary(op="/"):
                return np.asarray(self.log_of(node.left) - self.log_of(node.right))
            case Binary(op="^"):
                return np.asarray(self.of(node.right) * self.log_of(node.left))
            case Call(function="exp"):
                return self.of(node.arguments[0])
            case LogisticSize():
                return np.asarray(
                    special.log_expit(self.of(node.exponent) - log_size_less_one(self.size))
                )
        return np.log(self.of(node))

    def aggregate(self, node: Aggregate) -> Array:
        values = np.broadcast_to(self.of(node.argument), self.size.shape)
        function = AGGREGATES[node.function].numpy
        groups = np.split(values, self.start[1:-1])
        return np.repeat([function(group, *node.extra) for group in groups], np.diff(self.start))

    def table_call(self, node: TableCall) -> Array:
        if self.known and (key := with_table_constants(node)) in self.known:
            return self.known[key]
        values = np.broadcast_to(self.of(node.argument), self.size.shape)
        level, labels = levels_of(node, self.columns, self.start)
        once = slice(None) if self.once is None else self.once
        constants = constants_of(node, values[once], level[once], labels)
        return moved_by_constants(values, level, constants)


def levels_of(
    node: TableCall, columns: Mapping[str, Array], start: Array
) -> tuple[Array, list[Any]]:
    """(M,) codes and labels of what `within =` names: groups, a column's values, or all rows."""
    sizes = np.diff(start)
    if node.own_group:
        return np.repeat(np.arange(len(sizes)), sizes), list(range(len(sizes)))
    if node.within is None:
        return np.zeros(start[-1], dtype=np.int64), [None]
    import pandas as pd  # reading a study file does not need it, and it takes a third of a second

    level, labels = pd.factorize(np.asarray(columns[node.within]))
    return level.astype(np.int64), labels.tolist()


def constants_of(
    node: TableCall, values: Array, level: Array, labels: Sequence[Any]
) -> list[tuple[float, ...]]:
    """Constants of a function of the whole table, for each label.

    Those that the node holds; a label that its fit did not have, and every label where it holds
    none, has those of the values at hand.

    Parameters
    ----------
    node : TableCall
    values : (M,) float array
        Of its argument.
    level, labels
        Of `levels_of`.
    """
    known = dict(node.constants or ())
    compute = TABLE_FUNCTIONS[node.function].constants
    if len(labels) == 1:
        return [known[labels[0]] if labels[0] in known else compute(values)]
    order = np.argsort(level, kind="stable")
    rows = np.split(order, np.searchsorted(level[order], np.arange(1, len(labels))))
    return [
        known[label] if label in known else compute(values[own])
        for label, own in zip(labels, rows, strict=True)
    ]


def moved_by_constants(
    values: Array, level: Array, constants: Sequence[tuple[float, ...]]
) -> Array:
    """(M,) values of a function of the whole table: less a location, over a divisor."""
    location, divisor = np.array(constants).T
    return np.asarray((values - location[level]) / divisor[level])


def normalise(raw: Array, constraint: str, start: Array) -> Array:
    """Weights from raw weights.

    Parameters
    ----------
    raw : (..., M) array
    constraint : str
        ``"group"``: w = uw / (sum of uw in the group). ``"total"``: w = J uw / (sum of all uw).
        ``"none"``: w = uw.
    start : (J+1,) int array

    Returns
    -------
    (..., M) float array
        NaN where a sum is zero or not finite.
    """
    raw = np.asarray(raw, dtype=float)
    if constraint == "none":
        return raw
    # Each group is summed by itself: differences of one long cumulative sum lose digits.
    sums = np.add.reduceat(raw, np.asarray(start[:-1], dtype=np.intp), axis=-1)
    with np.errstate(all="ignore"):
        if constraint == "group":
            return np.asarray(raw / np.repeat(sums, np.diff(start), axis=-1))
        if constraint == "total":
            return np.asarray(raw * (len(start) - 1) / sums.sum(axis=-1, keepdims=True))
    raise ValueError(f"constraint must be one of {', '.join(CONSTRAINTS)}, not {constraint!r}")


def normalise_log(log_raw: Array, constraint: str, start: Array) -> Array:
    """`normalise` of raw weights given as logarithms, which may all be below the smallest float.

    Parameters and return value are those of `normalise`; for ``"group"`` and ``"total"``.
    """
    first, sizes = np.asarray(start[:-1], dtype=np.intp), np.diff(start)
    if constraint == "group":
        top = np.repeat(np.maximum.reduceat(log_raw, first, axis=-1), sizes, axis=-1)
    else:
        top = log_raw.max(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        return normalise(np.exp(log_raw - top), constraint, start)
