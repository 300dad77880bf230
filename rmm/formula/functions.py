"""The functions of the weight language: ONE table, a row per function, for every engine.

To add a function, add a row; the parser, NumPy, JAGS and Stan all read it from here, and
`tests/formula/test_weights.py` and `tests/stan_function_table.py` check every row by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Function:
    """An elementwise function.

    Attributes
    ----------
    arity : int
    numpy : callable
        On arrays that broadcast.
    jags, stan : str
        Text with ``{0}``, ``{1}`` for the arguments' texts. Stan's must be vectorised.
    domain : tuple of float
        Arguments on which engines are compared by tests (first argument).
    smooth : bool
        False where the derivative is zero or undefined almost everywhere: no HMC on it.
    """

    arity: int
    numpy: Callable[..., Array]
    jags: str
    stan: str
    domain: tuple[float, ...] = (-1.7, -0.5, 0.3, 2.5)
    smooth: bool = True


def _ilogit(x: Array) -> Array:
    return np.asarray(special.expit(x))


def _icloglog(x: Array) -> Array:
    return np.asarray(-np.expm1(-np.exp(x)))


def _cloglog(p: Array) -> Array:
    return np.asarray(np.log(-np.log1p(-np.asarray(p))))


_POSITIVE = (0.1, 0.5, 1.0, 7.5)
_UNIT = (0.05, 0.3, 0.5, 0.95)
_OPEN = (-0.9, -0.2, 0.4, 0.8)
_HALVES = (-2.5, -1.7, -1.5, -0.5, 0.5, 1.2, 1.5, 2.5, 3.0)

# JAGS has no floor, ceiling or log10. R and NumPy round halves to even; JAGS rounds them up, Stan
# away from zero (`rmm_round` is defined by `weight_programs.STAN_DEFINITIONS`).
_JAGS_ROUND = "ifelse(abs(({0}) - trunc({0})) == 0.5, 2 * round(({0}) / 2), round({0}))"

FUNCTIONS: Mapping[str, Function] = {
    "exp": Function(1, np.exp, "exp({0})", "exp({0})"),
    "log": Function(1, np.log, "log({0})", "log({0})", _POSITIVE),
    "log10": Function(1, np.log10, "(log({0}) / log(10))", "log10({0})", _POSITIVE),
    "sqrt": Function(1, np.sqrt, "sqrt({0})", "sqrt({0})", _POSITIVE),
    "abs": Function(1, np.abs, "abs({0})", "abs({0})"),
    "pow": Function(2, np.power, "pow({0}, {1})", "pow({0}, {1})", _POSITIVE),
    "ilogit": Function(1, _ilogit, "ilogit({0})", "inv_logit({0})"),
    "logit": Function(1, special.logit, "logit({0})", "logit({0})", _UNIT),
    "iprobit": Function(1, special.ndtr, "phi({0})", "Phi({0})"),
    "probit": Function(1, special.ndtri, "probit({0})", "inv_Phi({0})", _UNIT),
    "icloglog": Function(1, _icloglog, "icloglog({0})", "inv_cloglog({0})"),
    "cloglog": Function(1, _cloglog, "cloglog({0})", "log(-log1m({0}))", _UNIT),
    "sin": Function(1, np.sin, "sin({0})", "sin({0})"),
    "cos": Function(1, np.cos, "cos({0})", "cos({0})"),
    "tan": Function(1, np.tan, "tan({0})", "tan({0})"),
    "asin": Function(1, np.arcsin, "arcsin({0})", "asin({0})", _OPEN),
    "acos": Function(1, np.arccos, "arccos({0})", "acos({0})", _OPEN),
    "atan": Function(1, np.arctan, "arctan({0})", "atan({0})"),
    "sinh": Function(1, np.sinh, "sinh({0})", "sinh({0})"),
    "cosh": Function(1, np.cosh, "cosh({0})", "cosh({0})"),
    "tanh": Function(1, np.tanh, "tanh({0})", "tanh({0})"),
    "asinh": Function(1, np.arcsinh, "arcsinh({0})", "asinh({0})"),
    "acosh": Function(1, np.arccosh, "arccosh({0})", "acosh({0})", (1.0, 1.5, 7.5)),
    "atanh": Function(1, np.arctanh, "arctanh({0})", "atanh({0})", _OPEN),
    "round": Function(1, np.rint, _JAGS_ROUND, "rmm_round({0})", _HALVES, smooth=False),
    "floor": Function(
        1, np.floor, "(trunc({0}) - (({0}) < trunc({0})))", "floor({0})", _HALVES, smooth=False
    ),
    "ceiling": Function(
        1, np.ceil, "(trunc({0}) + (({0}) > trunc({0})))", "ceil({0})", _HALVES, smooth=False
    ),
    "trunc": Function(1, np.trunc, "trunc({0})", "trunc({0})", _HALVES, smooth=False),
}


@dataclass(frozen=True)
class GroupFunction:
    """A group aggregate: the values of one group -> one number.

    Attributes
    ----------
    numpy : callable
        ``(values (n_j,), *extra) -> float``.
    extra : tuple of (name, low, high)
        Further numeric arguments and their allowed range.
    """

    numpy: Callable[..., float]
    extra: tuple[tuple[str, float, float], ...] = ()


def _spread(function: Callable[..., Any]) -> Callable[[Array], float]:
    """With the divisor n - 1, as in R; 0 (not NaN) in a group of one: it has no spread."""
    return lambda x: float(function(x, ddof=1)) if len(x) > 1 else 0.0


def _mode(x: Array) -> float:
    """Most frequent value; the smallest of several, so that row order does not matter."""
    values, counts = np.unique(x, return_counts=True)
    return float(values[np.argmax(counts)])


AGGREGATES: Mapping[str, GroupFunction] = {
    "min": GroupFunction(lambda x: float(np.min(x))),
    "max": GroupFunction(lambda x: float(np.max(x))),
    "mean": GroupFunction(lambda x: float(np.mean(x))),
    "sum": GroupFunction(lambda x: float(np.sum(x))),
    "sd": GroupFunction(_spread(np.std)),
    "var": GroupFunction(_spread(np.var)),
    "first": GroupFunction(lambda x: float(x[0])),
    "last": GroupFunction(lambda x: float(x[-1])),
    "median": GroupFunction(lambda x: float(np.median(x))),
    "mode": GroupFunction(_mode),
    "range": GroupFunction(lambda x: float(np.max(x) - np.min(x))),
    "quantile": GroupFunction(lambda x, p: float(np.quantile(x, p)), (("p", 0.0, 1.0),)),
}


@dataclass(frozen=True)
class TableFunction:
    """A function whose constants come from all values of the table: the values less a location,
    over a divisor.

    Attributes
    ----------
    constants : callable
        ``(values (N,)) -> (location, divisor)``.
    meaning : str
        For documentation.
    within : bool
        Whether `within =` may name groups that have constants of their own.
    """

    constants: Callable[[Array], tuple[float, float]]
    meaning: str
    within: bool = False


def _mean(x: Array) -> tuple[float, float]:
    return float(np.mean(x)), 1.0


def _mean_and_sd(x: Array) -> tuple[float, float]:
    """The sd has the divisor n - 1, as in R; 0 where nothing varies."""
    mean = float(np.mean(x))
    most = float(np.max(np.abs(x - mean)))  # squares of 1e200 are more than numbers hold
    if len(x) < 2 or most == 0:
        return mean, 0.0
    return mean, most * float(np.std((x - mean) / most, ddof=1))


TABLE_FUNCTIONS: Mapping[str, TableFunction] = {
    "center": TableFunction(_mean, "`x` less its mean", within=True),
    "scale": TableFunction(_mean_and_sd, "`x` less its mean, divided by its standard deviation"),
}

OPERATIONS: Mapping[str, Callable[[Array, Array], Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
