"""Proper scores: an estimate with its standard error is a forecast of the truth.

Gneiting & Raftery (2007), Journal of the American Statistical Association 102, 359-378. The
smaller a score, the better; both are in the unit of the parameter.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from rmm.study.measures.measure_values import Array, Sample, Value, mean_of


def interval_score(s: Sample) -> Value:
    """Mean of width + 2/alpha times the distance of the truth from the interval (eq. 43)."""
    below = np.maximum(s.lower - s.truth, 0.0)
    above = np.maximum(s.truth - s.upper, 0.0)
    return mean_of(s.upper - s.lower + 2 / s.alpha * (below + above))


def crps(s: Sample) -> Value:
    """Mean continuous ranked probability score of T +- SE as a normal or t distribution."""
    return mean_of(crps_of(s.truth - s.estimate, np.sqrt(s.variance), s.df))


def crps_of(error: Array, scale: Array, df: Array) -> Array:
    """CRPS of a value at `error` from the centre of a normal or t distribution.

    Normal: Gneiting & Raftery (2007), eq. 21. t, for more than one degree of freedom: Jordan,
    Krueger & Lerch (2019), Journal of Statistical Software 90 (12), appendix A.

    Parameters
    ----------
    error, scale, df : (n,) arrays
        Value minus centre; scale, 0 for all probability at the centre; degrees of freedom, nan or
        infinite for a normal distribution.
    """
    safe = np.where(scale > 0, scale, 1.0)
    z = error / safe
    score = np.where(np.isfinite(df), _crps_t(z, df), _crps_normal(z)) * safe
    return np.where(scale == 0, np.abs(error), score)


def _crps_normal(z: Array) -> Array:
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)


def _crps_t(z: Array, df: Array) -> Array:
    nu = np.where((df > 1) & np.isfinite(df), df, np.nan)
    density = np.exp(
        special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - (nu + 1) / 2 * np.log1p(z**2 / nu)
    ) / np.sqrt(nu * np.pi)
    ratio = np.exp(special.betaln(0.5, nu - 0.5) - 2 * special.betaln(0.5, nu / 2))
    return (
        z * (2 * special.stdtr(nu, z) - 1)
        + 2 * density * (nu + z**2) / (nu - 1)
        - 2 * np.sqrt(nu) / (nu - 1) * ratio
    )
