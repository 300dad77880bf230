"""Shapes of covariates and random effects: standard normal in, mean 0 and sd 1 out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import special

Array = np.ndarray[Any, Any]
_EDGE = 1e-15  # keeps quantiles finite


def _normal(z: Array, config: Mapping[str, Any]) -> Array:
    return z


def _uniform(z: Array, config: Mapping[str, Any]) -> Array:
    return np.sqrt(12.0) * (special.ndtr(z) - 0.5)


def _binary(z: Array, config: Mapping[str, Any]) -> Array:
    """0/1, not standardised."""
    return (special.ndtr(z) > 1.0 - config.get("probability", 0.5)).astype(float)


def _categories(z: Array, config: Mapping[str, Any]) -> Array:
    """0, 1, ..., count - 1, equally likely, not standardised: ids of a second kind of unit."""
    count = int(config.get("count", 4))
    return np.minimum(np.floor(count * special.ndtr(z)), count - 1)


def _t(z: Array, config: Mapping[str, Any]) -> Array:
    df = float(config.get("df", 5))
    p = np.clip(special.ndtr(z), _EDGE, 1 - _EDGE)
    return special.stdtrit(df, p) * np.sqrt((df - 2) / df)


def _skew(z: Array, config: Mapping[str, Any]) -> Array:
    """Centred and scaled lognormal: skewness (exp(s^2) + 2) sqrt(exp(s^2) - 1)."""
    s = float(config.get("shape", 0.5))
    # Where s is so large that a value overflows, it is found by those who draw.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.exp(s**2 / 2)
        return (np.exp(s * z) - mean) / (mean * np.sqrt(np.expm1(s**2)))


#: Shapes that keep their own values: `mean` and `sd` do not apply.
UNSCALED = ("binary", "categories")

#: Name -> (latent standard normals, settings) -> values.
DISTRIBUTIONS: dict[str, Callable[[Array, Mapping[str, Any]], Array]] = {
    "normal": _normal,
    "uniform": _uniform,
    "binary": _binary,
    "categories": _categories,
    "t": _t,
    "skew": _skew,
}


def shaped(z: Array, config: Mapping[str, Any]) -> Array:
    """Values of a distribution from latent standard normals."""
    return DISTRIBUTIONS[config.get("distribution", "normal")](z, config)
