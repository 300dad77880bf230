"""Priors as distributions: quantiles and variances, one row per family of the prior language.

Closed forms from Johnson, Kotz and Balakrishnan (1994, 1995), Continuous Univariate Distributions;
the folded t of a half-t prior from Psarakis and Panaretos (1990), "The folded t distribution".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rmm.formula.prior_syntax import Prior

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
    """

    quantile: Callable[..., Array]
    variance: Callable[..., float]


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
    "normal": Law(lambda p, m, s: m + s * special.ndtri(p), lambda m, s: s**2),
    "student_t": Law(
        lambda p, df, m, s: m + s * special.stdtrit(df, p), lambda df, m, s: _t_variance(df, s)
    ),
    "half_normal": Law(
        lambda p, s: s * special.ndtri((1 + p) / 2), lambda s: s**2 * (1 - 2 / np.pi)
    ),
    "half_t": Law(lambda p, df, s: s * special.stdtrit(df, (1 + p) / 2), _half_t_variance),
    "half_cauchy": Law(lambda p, s: s * np.tan(np.pi * p / 2), lambda s: np.inf),
    "exponential": Law(lambda p, rate: -np.log1p(-p) / rate, lambda rate: rate**-2),
    "gamma": Law(
        lambda p, shape, rate: special.gammaincinv(shape, p) / rate,
        lambda shape, rate: shape / rate**2,
    ),
    "uniform": Law(lambda p, a, b: a + (b - a) * p, lambda a, b: (b - a) ** 2 / 12),
    "precision_gamma": Law(_root_quantile, _root_variance),
    "fixed": Law(lambda p, value: value + 0 * p, lambda value: 0.0),
}


def quantile(prior: Prior, p: Array | float) -> Array:
    """Quantiles of a prior at probabilities p."""
    return np.asarray(LAWS[prior.family].quantile(np.asarray(p, dtype=float), *prior.values))


def variance(prior: Prior) -> float:
    """The variance of a prior; infinite where it has none, 0 of a fixed value."""
    return float(LAWS[prior.family].variance(*prior.values))


def width(prior: Prior) -> float:
    """The interquartile range over that of the standard normal: its sd where it is normal."""
    low, high = quantile(prior, np.array([0.25, 0.75]))
    return float((high - low) / (2 * special.ndtri(0.75)))


def draw(prior: Prior, count: int, rng: np.random.Generator) -> Array:
    """(count,) random values of a prior, by its quantiles."""
    tiny = np.finfo(float).tiny
    return quantile(prior, np.clip(rng.random(count), tiny, 1 - np.finfo(float).epsneg))
