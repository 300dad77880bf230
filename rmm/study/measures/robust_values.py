"""Measures that single fits cannot move far: medians, trimmed and winsorised means."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from rmm.study.measures.measure_values import (
    NAN,
    NONE,
    Array,
    Sample,
    Value,
    known_to,
    mean_of,
    sd_of,
)

#: Share of the fits that is cut, or pulled in, at each end.
CUT = 0.1


def median_of(values: Array) -> Value:
    """A median; its error is that of Maritz & Jarrett (1978), JASA 73, 194-196.

    The square of the error is the variance of the median of a bootstrap sample, which is the k-th
    of n values with the probability of an interval of the beta((n + 1) / 2, (n + 1) / 2)
    distribution: exactly for odd n.
    """
    n = len(values)
    if n == 0 or np.isnan(values).any():
        return NONE
    middle = float(np.median(values))
    if n < 2:
        return known_to(middle, NAN)
    ends = special.betainc((n + 1) / 2, (n + 1) / 2, np.arange(n + 1) / n)
    weights, ordered = np.diff(ends), np.sort(values)
    variance = weights @ ordered**2 - (weights @ ordered) ** 2
    return known_to(middle, math.sqrt(max(0.0, float(variance))))


def median(s: Sample) -> Value:
    """median(T)."""
    return median_of(s.estimate)


def median_bias(s: Sample) -> Value:
    """median(T - theta)."""
    return median_of(s.errors)


def mean_variance(s: Sample) -> Value:
    """mean(V); sd(V) / sqrt(n)."""
    return mean_of(s.variance)


def median_variance(s: Sample) -> Value:
    """median(V)."""
    return median_of(s.variance)


def mean_absolute_error(s: Sample) -> Value:
    """Mean |T - theta|; sd / sqrt(n)."""
    return mean_of(np.abs(s.errors))


def trimmed_bias(s: Sample) -> Value:
    """Mean of T - theta without the `CUT` smallest and largest shares.

    Its error is S_w / ((1 - 2 CUT) sqrt(n)), S_w the standard deviation of the winsorised errors
    (Tukey & McLaughlin 1963, Sankhya A 25, 331-352).
    """
    if s.n == 0 or np.isnan(s.errors).any():
        return NONE
    cut = int(CUT * s.n)
    value = float(np.sort(s.errors)[cut : s.n - cut].mean())
    spread = sd_of(_winsorised(s.errors)) / ((1 - 2 * cut / s.n) * math.sqrt(s.n))
    return known_to(value, spread)


def winsorised_bias(s: Sample) -> Value:
    """Mean of T - theta, the `CUT` smallest and largest shares replaced by the next value.

    Its error is S_w / sqrt(n) (n - 1) / (h - 1), h the number of values that are not replaced
    (Dixon & Tukey 1968, Technometrics 10, 83-98).
    """
    if s.n == 0 or np.isnan(s.errors).any():
        return NONE
    kept = s.n - 2 * int(CUT * s.n)
    values = _winsorised(s.errors)
    error = sd_of(values) / math.sqrt(s.n) * (s.n - 1) / (kept - 1) if kept > 1 else NAN
    return known_to(float(values.mean()), error)


def _winsorised(values: Array) -> Array:
    ordered = np.sort(values)
    cut = int(CUT * len(values))
    return np.clip(ordered, ordered[cut], ordered[len(values) - 1 - cut])
