"""Counts of events."""

from __future__ import annotations

from collections.abc import Callable
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


# ---- zeros of their own ----------------------------------------------------------------------


def _law(eta: Array, truth: Truth) -> Any:
    """SciPy's distribution of the counts: negative binomial if the truth has a shape."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    shape, mean = truth.parameters.get("shape"), np.exp(eta)
    if shape is None:
        return stats.poisson(mean)
    return stats.nbinom(shape, 1 / (1 + mean / shape))


def _with_extra_zeros(
    draw: Callable[[Array, Setting, np.random.Generator], tuple[Array, ...]],
) -> Callable[[Array, Setting, np.random.Generator], tuple[Array, ...]]:
    """Counts, of which a share `zi` is replaced by zeros."""

    def drawn(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
        (counts,) = draw(eta, setting, rng)
        extra = rng.random(len(eta)) < setting.truth.parameters["zi"]
        return (np.where(extra, 0, counts),)

    return drawn


def _hurdle(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    """0 with probability `hu`; other counts by the inverse of their upper tail, given that they are
    above 0; infinite where a mean is too large to draw.
    """
    law = _law(eta, setting.truth)
    counts = law.isf(rng.random(len(eta)) * law.sf(0))
    counts = np.where(counts < _MOST, np.maximum(counts, 1.0), np.inf)  # 1: means next to 0
    none = rng.random(len(eta)) < setting.truth.parameters["hu"]
    return (_whole(np.where(none, 0.0, counts)),)


def _inflated_mean(eta: Array, truth: Truth, time: float | None) -> Array:
    return np.asarray((1 - truth.parameters["zi"]) * np.exp(eta))


def _hurdle_mean(eta: Array, truth: Truth, time: float | None) -> Array:
    """(1 - hu) E(count | count > 0)."""
    return np.asarray((1 - truth.parameters["hu"]) * np.exp(eta) / _law(eta, truth).sf(0))


def _inflated_noise(truth: Truth, mean: float) -> float:
    """As `_poisson_noise`, of an outcome with this mean, from its first two moments."""
    zi, counted = truth.parameters["zi"], mean / (1 - truth.parameters["zi"])
    law = _law(np.log(counted), truth)
    square = (1 - zi) * (law.var() + counted**2)
    return float(np.log(square / mean**2))


def _hurdle_noise(truth: Truth, mean: float) -> float:
    """The same; of the counts above 0 with the mean that leaves `mean` at `hu`."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import optimize

    positive = max(mean / (1 - truth.parameters["hu"]), 1 + 1e-9)

    def mean_given(eta: float) -> float:
        return float(np.exp(eta) / _law(np.asarray(eta), truth).sf(0)) - positive

    eta = np.asarray(optimize.brentq(mean_given, -21.0, np.log(positive) + 1e-9))
    law = _law(eta, truth)
    square = (law.var() + law.mean() ** 2) / law.sf(0)
    return float(np.log(square / positive / mean))


def _inflated_density(drawn: Replication) -> Array:
    zi, y = drawn.truth.parameters["zi"], drawn.outcome
    with np.errstate(divide="ignore"):
        counted = np.log1p(-zi) + _law(drawn.eta, drawn.truth).logpmf(y)
        return np.where(y == 0, np.logaddexp(np.log(zi), counted), counted)


def _hurdle_density(drawn: Replication) -> Array:
    hu, y, law = drawn.truth.parameters["hu"], drawn.outcome, _law(drawn.eta, drawn.truth)
    with np.errstate(divide="ignore"):
        some = np.log1p(-hu) + law.logpmf(y) - law.logsf(0)
        return np.where(y == 0, np.log(hu), some)


_INFLATED_SCALES = {"mean": _inflated_mean, "linear": linear}
_HURDLE = OutcomeModel(
    ("plain",), _hurdle, {"mean": _hurdle_mean, "linear": linear}, _hurdle_noise, _hurdle_density
)
ZERO_INFLATED_POISSON, ZERO_INFLATED_NEGBINOMIAL = (
    OutcomeModel(
        ("plain",), _with_extra_zeros(draw), _INFLATED_SCALES, _inflated_noise, _inflated_density
    )
    for draw in (_poisson, _negative_binomial)
)
HURDLE_POISSON = HURDLE_NEGBINOMIAL = _HURDLE
