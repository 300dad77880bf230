"""Priors as distributions: quantiles, probabilities, variances and log densities, by family.

Closed forms from Johnson, Kotz and Balakrishnan (1994, 1995), Continuous Univariate Distributions;
the folded t of a half-t prior from Psarakis and Panaretos (1990), "The folded t distribution".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Law:
    """One row: functions of the hyperparameters, in the order of the prior language.

    Attributes
    ----------
    quantile : callable
        ``(p, *hyper) -> array``, p in (0, 1).
    variance : callable
        ``(*hyper) -> float``; infinite where there is none.
    log_density : callable
        ``(x, *hyper) -> array`` at points of the support. SciPy's distributions have the same and
        take ten times as long for a few values.
    cdf : callable
        ``(x, *hyper) -> array`` probabilities of values up to x, at points of the support.
    """

    quantile: Callable[..., Array]
    variance: Callable[..., float]
    log_density: Callable[..., Array]
    cdf: Callable[..., Array]


_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


def _normal(x: Array, location: float, scale: float) -> Array:
    return -0.5 * ((x - location) / scale) ** 2 - (np.log(scale) + _HALF_LOG_2PI)


def _student(x: Array, df: float, location: float, scale: float) -> Array:
    constant = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - np.log(scale)
    constant -= 0.5 * np.log(df * np.pi)
    return constant - (df + 1) / 2 * np.log1p(((x - location) / scale) ** 2 / df)


def _gamma(x: Array, shape: float, rate: float) -> Array:
    constant = shape * np.log(rate) - special.gammaln(shape)
    return constant + special.xlogy(shape - 1, x) - rate * x


def _root_density(x: Array, shape: float, rate: float) -> Array:
    """Of the sd x where the precision 1 / x^2 is gamma."""
    return _gamma(x**-2.0, shape, rate) + np.log(2) - 3 * np.log(x)


def _t_variance(df: float, scale: float) -> float:
    return scale**2 * df / (df - 2) if df > 2 else np.inf


def _half_t_variance(df: float, scale: float) -> float:
    """E T^2 - (E |T|)^2."""
    if df <= 2:
        return np.inf
    ratio = np.exp(special.gammaln((df + 1) / 2) - special.gammaln(df / 2))
    mean = 2 * scale * np.sqrt(df / np.pi) * ratio / (df - 1)
    return float(_t_variance(df, scale) - mean**2)


def _root_variance(shape: float, rate: float) -> float:
    """Of tau^(-1/2), tau gamma: E 1/tau - (E tau^(-1/2))^2."""
    if shape <= 1:
        return np.inf
    mean = np.sqrt(rate) * np.exp(special.gammaln(shape - 0.5) - special.gammaln(shape))
    return float(rate / (shape - 1) - mean**2)


def _root_quantile(p: Array, shape: float, rate: float) -> Array:
    with np.errstate(divide="ignore"):  # a precision next to 0
        return np.asarray((special.gammainccinv(shape, p) / rate) ** -0.5)


LAWS: Mapping[str, Law] = {
    "normal": Law(
        lambda p, m, s: m + s * special.ndtri(p),
        lambda m, s: s**2,
        _normal,
        lambda x, m, s: special.ndtr((x - m) / s),
    ),
    "student_t": Law(
        lambda p, df, m, s: m + s * special.stdtrit(df, p),
        lambda df, m, s: _t_variance(df, s),
        _student,
        lambda x, df, m, s: special.stdtr(df, (x - m) / s),
    ),
    "half_normal": Law(
        lambda p, s: s * special.ndtri((1 + p) / 2),
        lambda s: s**2 * (1 - 2 / np.pi),
        lambda x, s: np.log(2) + _normal(x, 0.0, s),
        lambda x, s: special.erf(x / s / 2**0.5),
    ),
    "half_t": Law(
        lambda p, df, s: s * special.stdtrit(df, (1 + p) / 2),
        _half_t_variance,
        lambda x, df, s: np.log(2) + _student(x, df, 0.0, s),
        lambda x, df, s: 2 * special.stdtr(df, x / s) - 1,
    ),
    "half_cauchy": Law(
        lambda p, s: s * np.tan(np.pi * p / 2),
        lambda s: np.inf,
        lambda x, s: np.log(2 / (np.pi * s)) - np.log1p((x / s) ** 2),
        lambda x, s: 2 / np.pi * np.arctan(x / s),
    ),
    "exponential": Law(
        lambda p, rate: -np.log1p(-p) / rate,
        lambda rate: rate**-2,
        lambda x, rate: np.log(rate) - rate * x,
        lambda x, rate: -np.expm1(-rate * x),
    ),
    "gamma": Law(
        lambda p, shape, rate: special.gammaincinv(shape, p) / rate,
        lambda shape, rate: shape / rate**2,
        _gamma,
        lambda x, shape, rate: special.gammainc(shape, rate * x),
    ),
    "uniform": Law(
        lambda p, a, b: a + (b - a) * p,
        lambda a, b: (b - a) ** 2 / 12,
        lambda x, a, b: np.full(np.shape(x), -np.log(b - a)),
        lambda x, a, b: (x - a) / (b - a),
    ),
    "beta": Law(
        lambda p, a, b: special.betaincinv(a, b, p),
        lambda a, b: a * b / ((a + b) ** 2 * (a + b + 1)),
        lambda x, a, b: special.xlogy(a - 1, x) + special.xlog1py(b - 1, -x) - special.betaln(a, b),
        lambda x, a, b: special.betainc(a, b, x),
    ),
    "precision_gamma": Law(
        _root_quantile,
        _root_variance,
        _root_density,
        lambda x, shape, rate: special.gammaincc(shape, rate / x**2),
    ),
    # Of one partial correlation, or that of two effects: see `rmm.model.correlations`.
    "lkj": Law(
        lambda p, eta: 2 * special.betaincinv(eta, eta, p) - 1,
        lambda eta: 1 / (2 * eta + 1),
        lambda x, eta: (
            special.xlog1py(eta - 1, -x * x) - (2 * eta - 1) * np.log(2) - special.betaln(eta, eta)
        ),
        lambda x, eta: special.betainc(eta, eta, (1 + x) / 2),
    ),
    "fixed": Law(
        lambda p, value: value + 0 * p,
        lambda value: 0.0,
        lambda x, value: np.where(x == value, np.inf, -np.inf),
        lambda x, value: np.where(x >= value, 1.0, 0.0),
    ),
}


def quantile(prior: Prior, p: Array | float) -> Array:
    """Quantiles of a prior at probabilities p."""
    return np.asarray(LAWS[prior.family].quantile(np.asarray(p, dtype=float), *prior.values))


def variance(prior: Prior) -> float:
    """The variance of a prior; infinite where it has none, 0 of a fixed value."""
    return float(LAWS[prior.family].variance(*prior.values))


def log_density(prior: Prior, x: Array) -> Array:
    """Log density of a prior at any points; -inf outside its support."""
    x = np.asarray(x, dtype=float)
    low, high = support(prior)
    with np.errstate(all="ignore"):
        values = LAWS[prior.family].log_density(x, *prior.values)
    return np.where((x >= low) & (x <= high), values, -np.inf)


def probability_up_to(prior: Prior, x: Array) -> Array:
    """Probabilities of values up to any points."""
    x = np.asarray(x, dtype=float)
    low, high = support(prior)
    with np.errstate(all="ignore"):
        values = LAWS[prior.family].cdf(x, *prior.values)
    return np.where(x < low, 0.0, np.where(x > high, 1.0, values))


def to_power(prior: Prior, power: float) -> Prior | None:
    """The prior whose density is proportional to a prior's density to a power.

    Families of the language are closed under powers, but a heavy tail to a power below 1 may have
    no finite integral: then None.
    """
    family, values = prior.family, prior.values
    match family:
        case "normal" | "half_normal":
            return Prior(family, (*values[:-1], values[-1] / power**0.5))
        case "student_t" | "half_t" | "half_cauchy":
            df, scale = (1.0 if family == "half_cauchy" else values[0]), values[-1]
            smaller = power * (df + 1) - 1
            name = "half_t" if family == "half_cauchy" else family
            new = Prior(name, (smaller, *values[1:-1], scale * (df / max(smaller, 1e-300)) ** 0.5))
            return new if smaller > 0 else None
        case "exponential":
            return Prior(family, (power * values[0],))
        case "gamma":
            shape = power * (values[0] - 1) + 1
            return Prior(family, (shape, power * values[1])) if shape > 0 else None
        case "beta":
            first, second = (power * (value - 1) + 1 for value in values)
            return Prior(family, (first, second)) if min(first, second) > 0 else None
        case "lkj":
            shape = power * (values[0] - 1) + 1
            return Prior(family, (shape,)) if shape > 0 else None
        case "precision_gamma":  # of the sd: x^(-2 shape - 1) exp(-rate / x^2)
            shape = (power * (2 * values[0] + 1) - 1) / 2
            return Prior(family, (shape, power * values[1])) if shape > 0 else None
    return prior


def support(prior: Prior) -> tuple[float, float]:
    """The least and the greatest value that a prior allows."""
    found = PRIOR_FAMILIES[prior.family].support
    if found == "interval":
        return prior.values[0], prior.values[1]
    if found == "fixed":
        return prior.values[0], prior.values[0]
    if found == "correlation":
        return -1.0, 1.0
    if found == "probability":
        return 0.0, 1.0
    return (0.0 if found == "positive" else -np.inf), np.inf


def width(prior: Prior) -> float:
    """The interquartile range over that of the standard normal: its sd where it is normal."""
    low, high = quantile(prior, np.array([0.25, 0.75]))
    return float((high - low) / (2 * special.ndtri(0.75)))


def draw(prior: Prior, count: int, rng: np.random.Generator) -> Array:
    """(count,) random values of a prior, by its quantiles."""
    tiny = np.finfo(float).tiny
    return quantile(prior, np.clip(rng.random(count), tiny, 1 - np.finfo(float).epsneg))
