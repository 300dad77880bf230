"""Rank-normalised split R-hat, effective sample sizes, and the error of a mean, for many variables.

The definitions are those of Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), "Rank-
normalization, folding, and localization", doi:10.1214/20-BA1221, in the version of `arviz_stats`,
with which the tests compare every number. That library takes variables one by one, and half of the
second that a process needs before its first fit goes into importing it: too much for studies, where
the fits of a whole batch may take less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

Array = np.ndarray[Any, Any]

TAIL = (0.05, 0.95)
PARETO_K_LIMIT = 0.7  # of weighted draws, however many points carry them
_AT_ONCE = 2_000_000  # draws that are transformed at a time: some 100 MB
_LEAST = 4  # draws of a chain


def convergence(draws: Array) -> dict[str, Array]:
    """Diagnostics of each variable.

    Parameters
    ----------
    draws : array, shape (chains, draws, variables)

    Returns
    -------
    dict of array, shape (variables,)
        ``rhat`` (the larger of bulk and folded; Vehtari et al. 2021, section 4), ``ess_bulk``,
        ``ess_tail`` (the smaller of the 5% and 95% quantiles) and ``mcse_mean``, the standard
        deviation over the root of the effective sample size of the mean. NaN where a variable has
        draws that are no numbers, where chains have fewer than 4 draws, and, for R-hat, where
        there is one chain only or nothing varies.
    """
    chains, length, count = draws.shape
    names = ("rhat", "ess_bulk", "ess_tail", "mcse_mean")
    if length < _LEAST:
        return {name: np.full(count, np.nan) for name in names}
    step = max(1, _AT_ONCE // (chains * length))
    parts = [_some(draws[:, :, i : i + step]) for i in range(0, count, step)]
    return {n: np.concatenate([np.empty(0), *(p[n] for p in parts)]) for n in names}


def pareto_k_limit(points: int) -> float:
    """The largest Pareto k at which weights of so many points can be smoothed.

    min(1 - 1 / log10(S), 0.7): Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed
    importance sampling", JMLR 25(72), section 3.2.4.

    Parameters
    ----------
    points : int
        S, the points that have weights.
    """
    return float(min(1 - 1 / np.log10(max(points, 11)), PARETO_K_LIMIT))


def effective_size(draws: Array) -> float:
    """Effective sample size of the mean of (chains, draws) of one variable."""
    return float(_ess(split(np.asarray(draws, dtype=float)[None]))[0])


def _some(draws: Array) -> dict[str, Array]:
    """As `convergence`, of as many variables as fit into memory at once."""
    values = np.ascontiguousarray(np.moveaxis(draws, 2, 0), dtype=float)
    halves = split(values)
    ranked = _normal_scores(halves)
    middle = np.median(halves, axis=(1, 2), keepdims=True)
    folded = _normal_scores(np.abs(halves - middle))
    with np.errstate(all="ignore"):
        rhat = np.fmax(_rhat(ranked), _rhat(folded))
        tails = [_ess(split((values <= limit).astype(float))) for limit in _tails(values)]
        found = {
            "rhat": rhat if draws.shape[0] > 1 else np.full(len(rhat), np.nan),
            "ess_bulk": _ess(ranked),
            "ess_tail": np.minimum(*tails),
            "mcse_mean": values.std(axis=(1, 2), ddof=1) / np.sqrt(_ess(halves)),
        }
    bad = np.isnan(values).any(axis=(1, 2))
    return {name: np.where(bad, np.nan, column) for name, column in found.items()}


def split(values: Array) -> Array:
    """(variables, chains, draws) -> (variables, 2 chains, half the draws); a middle draw goes."""
    half = values.shape[2] // 2
    return np.concatenate([values[:, :, :half], values[:, :, -half:]], axis=1)


def _tails(values: Array) -> Array:
    return np.quantile(values, TAIL, axis=(1, 2), keepdims=True)


def _normal_scores(values: Array) -> Array:
    """Normal quantiles of fractional ranks, with Blom's offset 3/8 (equation 14)."""
    flat = values.reshape(len(values), -1)
    ranks = np.empty(flat.shape)
    for row, out in zip(flat, ranks, strict=True):
        out[:] = _average_ranks(row)
    return np.asarray(ndtri((ranks - 3 / 8) / (flat.shape[1] + 1 / 4))).reshape(values.shape)


def _average_ranks(row: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    order = np.argsort(row, kind="stable")
    in_order = row[order]
    new = np.r_[True, in_order[1:] != in_order[:-1]]
    starts = np.flatnonzero(new)
    ends = np.r_[starts[1:], len(row)]
    out = np.empty(len(row))
    out[order] = ((starts + 1 + ends) / 2)[np.cumsum(new) - 1]
    return out


def _rhat(values: Array) -> Array:
    """Potential scale reduction of split chains (equations 1 to 4)."""
    length = values.shape[2]
    between = length * values.mean(axis=2).var(axis=1, ddof=1)
    within = values.var(axis=2, ddof=1).mean(axis=1)
    return np.asarray(np.sqrt((between / within + length - 1) / length))


def _ess(values: Array) -> Array:
    """Effective sample size of split chains: Geyer's sequences (equations 10 to 13)."""
    count, chains, length = values.shape
    correlation = _autocorrelation(values)
    pairs = correlation[:, : length // 2 * 2].reshape(count, -1, 2)
    sums = pairs.sum(axis=2)
    # The pair at which the sum of autocorrelations ends: the first that is not positive, else the
    # last whose lags the chains still tell.
    last = max(0, (length - 3) // 2)
    ends = np.argmax(np.column_stack([sums[:, :last] <= 0, np.ones(count, bool)]), axis=1)
    # Of it the even lag still counts, once. (Of a first pair that is negative, the 1 at lag 0.)
    even, whole = (x[np.arange(count), ends] for x in (pairs[:, :, 0], sums))
    rest = np.where((even > 0) | (whole >= 0), even, 0.0)
    falling = np.minimum.accumulate(sums, axis=1)
    before = np.arange(sums.shape[1]) < ends[:, None]
    time = -1 + 2 * np.where(before, falling, 0.0).sum(axis=1) + rest
    size = chains * length
    effective = size / np.maximum(time, 1 / np.log10(size))
    constant = np.ptp(values, axis=(1, 2)) < np.finfo(float).resolution
    return np.where(constant, float(size), effective)


def _autocorrelation(values: Array) -> Array:
    """Of each variable at each lag, over all chains (equation 10); 1 at lag 0."""
    length = values.shape[2]
    means = values.mean(axis=2, keepdims=True)
    size = 1 << (2 * length - 1).bit_length()
    transformed = np.fft.rfft(values - means, n=size, axis=2)
    power = transformed.real**2 + transformed.imag**2
    covariance = np.fft.irfft(power.mean(axis=1), n=size, axis=1)[:, :length] / length
    within = covariance[:, :1] * length / (length - 1)
    total = covariance[:, :1].copy()
    if values.shape[1] > 1:
        total += means[:, :, 0].var(axis=1, ddof=1)[:, None]
    out = 1 - (within - covariance) / total
    out[:, 0] = 1.0
    return np.asarray(out)
