"""Survival curve of events that are known to lie between two times, without a model."""

from __future__ import annotations

import numpy as np

from rmm.tables.read import Array

_STEPS, _CHANGE = 20_000, 1e-7  # the last is relative to a mean probability
_AT, _END, _AFTER = 0, 1, 2  # at equal times: an exact event, the end of an interval, a beginning


def turnbull(lower: Array, upper: Array, grid: Array) -> Array:
    """S(t) that maximises the likelihood of intervals (lower, upper] (Turnbull 1976).

    Turnbull, "The empirical distribution function with arbitrarily grouped, censored and truncated
    data", Journal of the Royal Statistical Society B 38, 290-295. The likelihood fixes only how
    much probability lies in each innermost interval; the curve is linear within them. It stays
    where it is in an innermost interval without an end. Without intervals it is the Kaplan-Meier
    curve.

    Parameters
    ----------
    lower, upper : (J,) arrays
        Equal where the time is known; `upper` is infinite where no event was seen.
    grid : (T,) array
        Times, in the unit of `lower`.

    Returns
    -------
    (T,) array
    """
    known = lower == upper
    begin = _places(lower, np.where(known, _AT, _AFTER))
    end = _places(upper, np.full(len(upper), _END))
    places = np.unique(np.concatenate([begin, end]))
    kind = places["kind"]
    inner = np.flatnonzero((kind[:-1] != _END) & (kind[1:] == _END))
    left, right = places[inner], places[inner + 1]
    first = np.searchsorted(left, begin, side="left")
    last = np.searchsorted(right, end, side="right")
    mass = _probabilities(first, last, len(inner))
    return _curve(left["time"], right["time"], mass, grid)


def _places(time: Array, kind: Array) -> Array:
    """Times that sort by their kind where they are equal."""
    out = np.empty(len(time), dtype=[("time", float), ("kind", int)])
    out["time"], out["kind"] = time, kind
    return out


def _probabilities(first: Array, last: Array, count: int) -> Array:
    """Probability of each innermost interval by the EM algorithm.

    Group j may be in those from `first` to before `last`.
    """
    mass = np.full(count, 1.0 / count)
    for _ in range(_STEPS):
        total = np.r_[0.0, np.cumsum(mass)]
        each = 1.0 / np.maximum(total[last] - total[first], 1e-300)
        share = np.cumsum(np.bincount(first, each, count + 1) - np.bincount(last, each, count + 1))
        found = np.maximum(mass * share[:-1], 0.0)
        found /= found.sum()
        change = float(np.abs(found - mass).max())
        mass = found
        if change < _CHANGE / count:
            break
    return mass


def _curve(left: Array, right: Array, mass: Array, grid: Array) -> Array:
    width = np.where(np.isfinite(right), right - left, np.inf)
    inside = np.clip(grid[:, None] - left, 0.0, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        gone = np.where(width > 0, np.minimum(inside / width, 1.0), grid[:, None] >= left)
    return np.asarray(np.clip(1.0 - gone @ mass, 0.0, 1.0))
