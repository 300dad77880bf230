"""Features of a group's members beyond their weighted sum, one row each.

A feature stands among the variables of an `mm()` block, ``vars(x, variance(x), softmax(x))``, and
has a coefficient like them, ``b_l1[variance(x)]``. Let p_r be the *share* of membership r: its
weight over the sum of its group's weights, p_r = w_r / sum_{r' in j} w_r'. Under constraint 1 the
shares are the weights; under constraint 2 and FALSE they are not, since a feature is one of the
members' composition and not of how much a group weighs. Then, for group j:

================= ============================================================================
`variance(x)`     sum_r p_r (x_r - m)^2 with m = sum_r p_r x_r: the second central moment, without
                  Bessel's correction.
`herfindahl()`    sum_r p_r^2, concentration of the weights; 1 over it is the effective number of
                  members (Laakso & Taagepera 1979, Comparative Political Studies 12, eq. 1).
`herfindahl(x)`   sum_r s_r^2 with s_r = x_r / sum_r' x_r', concentration of x >= 0 (Hirschman 1964,
                  American Economic Review 54, 761). Weights have no part in it.
`entropy()`       -sum_r p_r log p_r, in nats (Shannon 1948, Bell System Technical Journal 27,
                  sec. 6); 0 log 0 is 0.
`entropy(x)`      the same of s_r.
`threshold(x, c)` sum_r p_r 1(x_r > c): the share above c.
`threshold(x)`    sum_r p_r inv_logit(5 (x_r - c) / sd(x)) with the cut c estimated: a share too,
                  smooth in c. The slope is fixed at 5 per standard deviation: slope and cut
                  together are hardly identified.
`softmax(x, k)`   sum_r x_r p_r exp(k x_r) / sum_r p_r exp(k x_r), the Boltzmann operator (Asadi &
                  Littman 2017, ICML, sec. 2): the mean at k = 0, the maximum as k grows, the
                  minimum as k falls. `softmax(x)` estimates k.
`genmean(x, q)`   (sum_r p_r x_r^q)^(1/q) of x > 0, the power mean (Hardy, Littlewood & Polya 1934,
                  Inequalities, sec. 2.2): harmonic at -1, geometric at 0, arithmetic at 1.
                  `genmean(x)` estimates q.
================= ============================================================================

They are bml 0.10's `fn("var")`, `fn("hhi")`, `fn("entropy")`, `fn("threshold")`, `fn("smax")` and
`fn("gmean")`; bml's soft maximum is log(sum_r p_r exp(k x_r)) / k, which has no value at k = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SHARPNESS = 5.0  # slope of a smooth threshold per standard deviation of x
NEAR_ZERO = 1e-6  # an exponent of `genmean` this close to 0 is taken as this: no 0/0

type Values = Callable[[Array, Array, Array | float, Array], Array]
type Location = Callable[[Array], tuple[float, float]]


@dataclass(frozen=True)
class Feature:
    """One row of `FEATURES`.

    Attributes
    ----------
    name : str
    variable : str
        ``"needed"`` or ``"optional"``: whether it is of a variable.
    parameter : str or None
        Name of its number, which is estimated where it is not given.
    domain : str
        ``"real"``, ``"nonnegative"`` or ``"positive"``: values that the variable may have.
    values : callable
        ``(share, x, parameter, start) -> (..., G)``: shares (..., M), variable (M,), number or
        (..., 1) draws of it, row pointer (G+1,) of groups that are not empty.
    prior : callable or None
        ``x -> (location, scale)`` of the normal prior of the estimated number.
    """

    name: str
    variable: str
    values: Values
    parameter: str | None = None
    domain: str = "real"
    prior: Location | None = None


def _sum(values: Array, start: Array) -> Array:
    return np.asarray(np.add.reduceat(values, start[:-1], axis=-1))


def _spread(values: Array, start: Array) -> Array:
    """Group values repeated for the memberships."""
    return np.repeat(values, np.diff(start), axis=-1)


def _shares(x: Array, start: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(x / _spread(_sum(x, start), start))


def _variance(share: Array, x: Array, _: Array | float, start: Array) -> Array:
    mean = _spread(_sum(share * x, start), start)
    return _sum(share * (x - mean) ** 2, start)


def _herfindahl(share: Array, x: Array, _: Array | float, start: Array) -> Array:
    return _sum((_shares(x, start) if len(x) else share) ** 2, start)


def _entropy(share: Array, x: Array, _: Array | float, start: Array) -> Array:
    p = _shares(x, start) if len(x) else share
    return -_sum(p * np.log(np.where(p > 0, p, 1.0)), start)


def _threshold(share: Array, x: Array, cut: Array | float, start: Array) -> Array:
    return _sum(share * (x > cut), start)


def smooth_threshold(
    share: Array, x: Array, cut: Array | float, start: Array, slope: float
) -> Array:
    """`threshold(x)` with an estimated cut; `slope` is `threshold_slope` of the fit's x."""
    return _sum(share / (1.0 + np.exp(-np.clip(slope * (x - cut), -700, 700))), start)


def threshold_slope(x: Array) -> float:
    """Slope of a smooth threshold on the scale of x."""
    sd = float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return SHARPNESS / (sd or 1.0)


def group_range(x: Array, start: Array) -> tuple[Array, Array]:
    """(G,) middle and half of the range of x in each group.

    With d = x - middle, k d - |k| half is 0 at the largest of k x in the group and below it
    elsewhere: its exponential neither overflows nor vanishes everywhere, whatever k.
    """
    high, low = np.maximum.reduceat(x, start[:-1]), np.minimum.reduceat(x, start[:-1])
    return (high + low) / 2, (high - low) / 2


def _tilted(
    share: Array, x: Array, k: Array | float, start: Array
) -> tuple[Array, Array, Array, Array]:
    """P exp(k x) over its group's largest exp(k x), and d, middle and half of the range."""
    middle, half = group_range(x, start)
    d = x - _spread(middle, start)
    return share * np.exp(k * d - np.abs(k) * _spread(half, start)), d, middle, half


def _softmax(share: Array, x: Array, k: Array | float, start: Array) -> Array:
    tilted, d, middle, _ = _tilted(share, x, k, start)
    return middle + _sum(tilted * d, start) / _sum(tilted, start)


def _genmean(share: Array, x: Array, q: Array | float, start: Array) -> Array:
    q = np.where(np.abs(q) < NEAR_ZERO, NEAR_ZERO, q)
    q = float(q) if q.ndim == 0 else q
    tilted, _, middle, half = _tilted(share, np.log(x), q, start)
    return np.asarray(np.exp(middle + (np.abs(q) * half + np.log(_sum(tilted, start))) / q))


def _cut_prior(x: Array) -> tuple[float, float]:
    """About the middle of x, within its range."""
    return float(np.mean(x)), float(np.std(x, ddof=1)) or 1.0


def _kappa_prior(x: Array) -> tuple[float, float]:
    """About the mean, from the minimum to the maximum: 2 per standard deviation."""
    return 0.0, 2.0 / (float(np.std(x, ddof=1)) or 1.0)


def _exponent_prior(x: Array) -> tuple[float, float]:
    """About the arithmetic mean, the geometric and harmonic ones within a standard deviation."""
    return 1.0, 2.0


FEATURES: Mapping[str, Feature] = {
    row.name: row
    for row in (
        Feature("variance", "needed", _variance),
        Feature("herfindahl", "optional", _herfindahl, domain="nonnegative"),
        Feature("entropy", "optional", _entropy, domain="nonnegative"),
        Feature("threshold", "needed", _threshold, "cut", prior=_cut_prior),
        Feature("softmax", "needed", _softmax, "kappa", prior=_kappa_prior),
        Feature("genmean", "needed", _genmean, "exponent", "positive", _exponent_prior),
    )
}
