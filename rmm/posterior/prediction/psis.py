"""Leave-one-out densities of all units at once, by Pareto smoothed importance sampling.

Vehtari, Gelman and Gabry (2017), Statistics and Computing 27, 1413-1432; smoothing and the fit of
the tail as in Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72). The numbers are those of
ArviZ, which takes some milliseconds for each unit: longer than the whole fit.
"""

from __future__ import annotations

import numpy as np

from rmm.backends.laplace.pareto import fitted_tails, smooth_tail
from rmm.tables.read import Array

_AT_ONCE = 100_000  # numbers: arrays that stay near the processor are faster
_FEW = 225  # effective draws up to which the tail is a fifth
_SAME = 1e-9  # spread of a log likelihood that is none: equal weights, no tail


def left_out(log_likelihood: Array, relative_size: float) -> tuple[Array, Array, Array]:
    """Log density of each unit given all others, and given all; and Pareto k of its weights.

    Parameters
    ----------
    log_likelihood : (S, J) array
        By draw and unit.
    relative_size : float
        Effective sample size of the draws over their number; it sets the length of the tail.

    Returns
    -------
    (J,) array, (J,) array, (J,) array
        k is 0 where the log likelihood of a unit is the same in all draws.
    """
    count, units = log_likelihood.shape
    step = max(1, _AT_ONCE // count)
    parts = [_some(log_likelihood[:, i : i + step], relative_size) for i in range(0, units, step)]
    elpd, lpd, k = (np.concatenate(found) for found in zip(*parts, strict=True))
    return elpd, lpd, k


def _some(log_likelihood: Array, relative_size: float) -> tuple[Array, Array, Array]:
    """As `left_out`, of as many units as fit into memory at once."""
    values = np.ascontiguousarray(log_likelihood.T)
    units, count = values.shape
    tail = 3 * np.sqrt(count / relative_size) if count * relative_size > _FEW else count / 5
    tail = min(int(tail), count - 1)
    least = values.min(axis=1, keepdims=True)
    order = np.argpartition(values, tail, axis=1)[:, : tail + 1]
    low = np.take_along_axis(values, order, axis=1)
    low[:, ::-1].sort(axis=1)  # the smallest densities, whose weights are the largest, come last
    top = least - low
    spread = np.ptp(values, axis=1) >= _SAME
    k, smooth = np.zeros(units), top[:, 1:].copy()
    if spread.any():
        cut, largest = np.exp(top[spread, :1]), np.exp(top[spread, 1:])
        k[spread], sigma = fitted_tails(largest - cut)
        smoothed = smooth_tail(k[spread], sigma, cut, tail)
        good = np.isfinite(k[spread]) & (sigma > 0)
        smooth[spread] = np.where(good[:, None], np.minimum(smoothed, 0.0), smooth[spread])
    # The weight of a draw is 1 / its density, unless smoothed: their product is 1 outside the tail.
    gain = smooth - top[:, 1:]
    most = gain.max(axis=1, keepdims=True, initial=0.0)
    inside = (count - tail) * np.exp(-most[:, 0]) + np.exp(gain - most).sum(axis=1)
    outside = np.exp(least - values)
    np.put_along_axis(outside, order[:, :tail], 0.0, axis=1)
    weight = outside.sum(axis=1) + np.exp(smooth).sum(axis=1)
    elpd = least[:, 0] + most[:, 0] + np.log(inside) - np.log(weight)
    greatest = values.max(axis=1, keepdims=True)
    lpd = greatest[:, 0] + np.log(np.exp(values - greatest).mean(axis=1))
    return elpd, lpd, k
