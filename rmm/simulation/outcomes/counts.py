"""Counts of events."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_MOST = 9e18  # counts are numbers of 64 bits


def draw_poisson(eta: Array, rng: np.random.Generator) -> tuple[Array]:
    """(J,) counts with mean exp(eta); infinite where a mean is too large to draw."""
    return (_drawn(np.exp(eta), rng),)


def draw_negative_binomial(eta: Array, shape: float, rng: np.random.Generator) -> tuple[Array]:
    """(J,) counts with mean mu = exp(eta) and variance mu + mu^2 / shape.

    Failures before `shape` successes of probability shape / (shape + mu).
    """
    mean = np.exp(eta)
    there = np.isfinite(mean) & (mean < _MOST / 100)
    safe = np.where(there, mean, 1.0)
    drawn = rng.negative_binomial(shape, shape / (shape + safe)).astype(float)
    return (_whole(np.where(there, drawn, np.inf)),)


def _drawn(mean: Array, rng: np.random.Generator) -> Array:
    there = np.isfinite(mean) & (mean < _MOST)
    drawn = rng.poisson(np.where(there, mean, 1.0)).astype(float)
    return _whole(np.where(there, drawn, np.inf))


def _whole(values: Array) -> Array:
    """As whole numbers, where all are finite."""
    return values.astype(np.int64) if np.isfinite(values).all() else values
