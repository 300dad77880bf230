"""How a test of the null value is made: one row of TESTS each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from rmm.study.measures.measure_values import NAN, Array


@dataclass(frozen=True, eq=False)
class Evidence:
    """What fits say about a null value.

    Attributes
    ----------
    difference, se, df, low, high, p_value : (n,) arrays
        Estimate minus null value, its standard error and degrees of freedom, bounds of its
        interval, p value; nan where not known.
    alpha : float
        Level of the test.
    """

    difference: Array
    se: Array
    df: Array
    low: Array
    high: Array
    p_value: Array
    alpha: float


def _by_interval(fits: Evidence) -> Array:
    outside = (fits.low > 0) | (fits.high < 0)
    return np.where(np.isnan(fits.low) | np.isnan(fits.high), NAN, outside)


def _by_p_value(fits: Evidence) -> Array:
    return np.where(np.isnan(fits.p_value), NAN, fits.p_value < fits.alpha)


def _by_z(fits: Evidence) -> Array:
    return _farther_than(fits, special.ndtri(1 - fits.alpha / 2) * np.ones_like(fits.se))


def _by_t(fits: Evidence) -> Array:
    return _farther_than(fits, special.stdtrit(fits.df, 1 - fits.alpha / 2))


def _farther_than(fits: Evidence, quantile: Array) -> Array:
    limit = quantile * fits.se
    return np.where(np.isnan(fits.difference + limit), NAN, np.abs(fits.difference) > limit)


def _by_what_is_known(fits: Evidence) -> Array:
    return np.where(np.isnan(fits.p_value), _by_interval(fits), _by_p_value(fits))


#: Name -> 1 where the test rejects, 0 where not, nan where that is not known.
TESTS: dict[str, Callable[[Evidence], Array]] = {
    "auto": _by_what_is_known,
    "p": _by_p_value,
    "interval": _by_interval,
    "z": _by_z,
    "t": _by_t,
}
