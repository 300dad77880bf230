"""Counts of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.simulation.outcomes.outcome_model import (
    OutcomeModel,
    Replication,
    Setting,
    exponential,
    linear,
)

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

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


def _poisson(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    return draw_poisson(eta, rng)


def _negative_binomial(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    return draw_negative_binomial(eta, setting.truth.parameters["shape"], rng)


def _poisson_noise(truth: Truth, mean: float) -> float:
    """Variance of the log of a log-normal variable with the mean and variance of the count."""
    return float(np.log(1 + 1 / mean))


def _negative_binomial_noise(truth: Truth, mean: float) -> float:
    """As `_poisson_noise`."""
    return float(np.log(1 + 1 / mean + 1 / truth.parameters["shape"]))


def _poisson_density(drawn: Replication) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    return np.asarray(stats.poisson.logpmf(drawn.outcome, np.exp(drawn.eta)))


def _negative_binomial_density(drawn: Replication) -> Array:
    """Failures before `shape` successes."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    shape = drawn.truth.parameters["shape"]
    p = shape / (shape + np.exp(drawn.eta))
    return np.asarray(stats.nbinom.logpmf(drawn.outcome, shape, p))


_SCALES = {"mean": exponential, "linear": linear}
POISSON = OutcomeModel(("plain",), _poisson, _SCALES, _poisson_noise, _poisson_density)
NEGBINOMIAL = OutcomeModel(
    ("plain",), _negative_binomial, _SCALES, _negative_binomial_noise, _negative_binomial_density
)
