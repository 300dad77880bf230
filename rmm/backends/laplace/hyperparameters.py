"""Hyperparameters in the form in which they are sampled, and their log prior there.

A standard deviation is unit * sinh(theta), theta >= 0: logarithmic where it is large, linear near
0, where its density is flat. (The logarithm alone has a long tail there, which importance sampling
misses.) Proposals are folded at 0. Other parameters are on the real line: weight coefficients as
multiples of their units, so that steps do not depend on the unit of a weight variable; partial
correlations as tanh(theta / 2), since any numbers between -1 and 1 are those of a correlation
matrix (`rmm.model.correlations`). The first threshold is on the real line, and of each other one
the log of how far it is above the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import special

from rmm.backends.laplace.latent_model import Hyperparameter
from rmm.formula.prior_distributions import LAWS, quantile, support
from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior
from rmm.tables.read import Array

_FAR_OUT = 1e-6  # probability beyond which no search starts
_LEAST_RISE = 1e-6  # from one threshold to the next, where a search starts


def _support(h: Hyperparameter) -> str:
    """``above`` the hyperparameter before it, or the support of its prior."""
    return "above" if h.rises else _support_of(h.prior, h.role)


@cache
def _support_of(prior: Prior, role: str) -> str:
    """``real``, ``positive``, ``folded`` (sds) or ``interval``."""
    found = PRIOR_FAMILIES[prior.family].support
    if found in ("interval", "correlation", "probability"):
        return "interval"
    if role == "coefficient" and found == "positive":
        return "folded"  # their densities may be flat at 0, as those of sds are
    return {"sd": "folded", "shape": "positive"}.get(role, found)


#: A hyperparameter as the compiled kernels read it: `Hyperparameter` of kernels/latent_model.hpp.
PRIOR_ROW = np.dtype(
    [
        ("support", np.int32),
        ("form", np.int32),
        *((name, np.float64) for name in ("unit", "lower", "constant", "location", "scale", "df")),
    ]
)
#: Form of the density in the kernels, location or shape, scale or rate, degrees of freedom.
_FORMS: dict[str, Callable[..., tuple[int, float, float, float]]] = {
    "normal": lambda location, scale: (0, location, scale, 0.0),
    "half_normal": lambda scale: (0, 0.0, scale, 0.0),
    "student_t": lambda df, location, scale: (1, location, scale, df),
    "half_t": lambda df, scale: (1, 0.0, scale, df),
    "half_cauchy": lambda scale: (1, 0.0, scale, 1.0),
    "gamma": lambda shape, rate: (2, shape, rate, 0.0),
    "exponential": lambda rate: (2, 1.0, rate, 0.0),
    "uniform": lambda lower, upper: (3, 0.0, 1.0, 0.0),
    "precision_gamma": lambda shape, rate: (4, shape, rate, 0.0),
    "lkj": lambda eta: (5, eta, 1.0, 0.0),
    "beta": lambda alpha, beta: (6, alpha, 1.0, beta),
}
_SUPPORTS = ("real", "folded", "positive", "interval", "above")


def prior_rows(hyper: Sequence[Hyperparameter]) -> Array:
    """(d,) rows of `PRIOR_ROW`."""
    return np.array([_prior_row(h) for h in hyper], dtype=PRIOR_ROW)


def _prior_row(h: Hyperparameter) -> tuple[float, ...]:
    """Support, form, unit, lower bound, constant, location or shape, scale or rate, df."""
    values = h.prior.values
    where = _support(h)
    lower, unit = 0.0, h.unit
    if where == "interval":
        lower, upper = support(h.prior)
        unit = upper - lower
    form, location, scale, df = _FORMS[h.prior.family](*values)
    # The constant: the density less what the kernel adds to it, at some point.
    x = lower + 0.5 * unit if where == "interval" else 1.0
    z = (x - location) / scale
    added = (
        -0.5 * z**2,
        -(df + 1) / 2 * np.log1p(z**2 / max(df, 1e-300)),
        -scale * x,
        0.0,
        -scale,
        0.0,
        (location + df - 2) * np.log(0.5),
    )
    constant = float(LAWS[h.prior.family].log_density(np.array([x]), *values)[0]) - float(
        added[form]
    )
    constant += _log_orders(h)
    return _SUPPORTS.index(where), form, unit, lower, constant, location, scale, df


def _log_orders(h: Hyperparameter) -> float:
    """Log of the factor of a threshold in the density of sorted draws: k of the k-th, k! in all."""
    return float(np.log(h.index + 1)) if h.rises else 0.0


def folded(hyper: Sequence[Hyperparameter]) -> Array:
    """(d,) bool: which are not negative, so that proposals are folded at 0."""
    return np.array([_support(h) == "folded" for h in hyper], dtype=bool)


def to_values(theta: Array, hyper: Sequence[Hyperparameter]) -> dict[str, Array]:
    """Hyperparameter (its `key`) -> (S, K) values of (S, d) points."""
    columns: dict[str, list[Array]] = {}
    for h, value in zip(hyper, _values(theta, hyper), strict=True):
        columns.setdefault(h.key, []).append(value)
    return {name: np.column_stack(found) for name, found in columns.items()}


def _values(theta: Array, hyper: Sequence[Hyperparameter]) -> list[Array]:
    """(S,) values of each hyperparameter."""
    found: list[Array] = []
    for k, h in enumerate(hyper):
        found.append(_value(theta[:, k], h) + (found[-1] if h.rises else 0.0))
    return found


def _value(t: Array, h: Hyperparameter) -> Array:
    """The value of one hyperparameter; of one that rises, how far."""
    where = _support(h)
    if where == "above":
        return np.exp(t)
    if where == "folded":
        return h.unit * np.sinh(t)
    if where == "positive":
        return np.exp(t)
    if where == "interval":
        lower, upper = support(h.prior)
        return lower + (upper - lower) * special.expit(t)
    return h.unit * t


def from_values(values: Mapping[str, Any], hyper: Sequence[Hyperparameter]) -> Array:
    """(d,) point from initial values by name."""
    point = []
    for h in hyper:
        value = float(np.atleast_1d(values[h.name])[h.index])
        where = _support(h)
        if where == "above":
            rise = value - float(values[h.name][h.index - 1])
            value = float(np.log(max(rise, _LEAST_RISE)))
        elif where == "folded":
            value = float(np.arcsinh(value / h.unit))
        elif where == "positive":
            value = float(np.log(value))
        elif where == "interval":
            lower, upper = support(h.prior)
            value = float(special.logit((value - lower) / (upper - lower)))
        else:
            value /= h.unit
        point.append(value)
    return np.array(point)


def starting_points(starts: Sequence[Mapping[str, Any]], hyper: Sequence[Hyperparameter]) -> Array:
    """(n, d) points of initial values, moved to where priors have mass.

    Thousands of prior standard deviations away a density has no digits left for its slope.
    """
    bounds = [quantile(h.prior, np.array([_FAR_OUT, 1 - _FAR_OUT])) for h in hyper]
    points = []
    for start in starts:
        moved = {h.name: np.atleast_1d(np.array(start[h.name], dtype=float)) for h in hyper}
        for h, (low, high) in zip(hyper, bounds, strict=True):
            moved[h.name][h.index] = np.clip(moved[h.name][h.index], low, high)
        points.append(from_values(moved, hyper))
    return np.array(points)


def log_prior(theta: Array, hyper: Sequence[Hyperparameter]) -> Array:
    """(S,) log prior density of points, with the Jacobian of the transformation."""
    total = np.zeros(len(theta))
    for k, (h, value) in enumerate(zip(hyper, _values(theta, hyper), strict=True)):
        t = theta[:, k]
        total += LAWS[h.prior.family].log_density(value, *h.prior.values) + _log_orders(h)
        where = _support(h)
        if where == "folded":
            total += np.log(h.unit * np.cosh(t))
        elif where in ("positive", "above"):
            total += t
        elif where == "interval":
            lower, upper = support(h.prior)
            total += np.log(upper - lower) + special.log_expit(t) + special.log_expit(-t)
        else:
            total += np.log(h.unit)
    return total
