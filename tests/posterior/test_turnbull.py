"""Turnbull's estimate against Kaplan-Meier, direct maximisation, and a known law."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from rmm.posterior.prediction.predictive_checks import kaplan_meier
from rmm.posterior.prediction.turnbull import turnbull


def test_without_intervals_it_is_kaplan_meier() -> None:
    rng = np.random.default_rng(1)
    time = rng.integers(1, 30, 80).astype(float)  # ties, also of events and censored times
    event = rng.random(80) < 0.6
    event[np.argmax(time)] = True
    grid = np.linspace(0, 30, 61)
    found = turnbull(time, np.where(event, time, np.inf), grid)
    np.testing.assert_allclose(found, kaplan_meier(time, event.astype(float), grid), atol=1e-6)


def test_likelihood_is_the_largest_one() -> None:
    """Probabilities of the unit intervals by a general optimiser, from the likelihood itself."""
    rng = np.random.default_rng(2)
    lower = rng.integers(0, 5, 40).astype(float)
    upper = lower + rng.integers(1, 4, 40)
    upper[upper > 5] = np.inf
    ends = np.r_[np.arange(6.0), np.inf]
    inside = (lower[:, None] <= ends[:-1]) & (upper[:, None] >= ends[1:])

    def minus(raw: np.ndarray) -> float:
        p = np.exp(raw - raw.max())
        return -float(np.log(inside @ (p / p.sum())).sum())

    best = min(
        optimize.minimize(minus, rng.normal(size=6), options={"maxiter": 2000}).fun
        for _ in range(3)
    )
    curve = np.r_[turnbull(lower, upper, np.arange(6.0)), 0.0]
    assert -np.log(inside @ -np.diff(curve)).sum() < best + 1e-4


def test_it_is_the_law_of_the_times() -> None:
    """The mean of 4 tables of 500 groups that are inspected at random times.

    At the 20 times the standard deviation of one table's curve is .05 at most (40 tables), so the
    mean is within 4.5 * .05 / sqrt(4) = .11.
    """
    rng, grid, curves = np.random.default_rng(3), np.linspace(0.5, 10, 20), []
    for _ in range(4):
        time = 5 * rng.weibull(1.5, 500)
        visits = np.sort(rng.uniform(0, 12, (500, 4)), axis=1)
        ends = np.column_stack([np.zeros(500), visits, np.full(500, np.inf)])
        place, rows = (ends < time[:, None]).sum(axis=1), np.arange(500)
        curves.append(turnbull(ends[rows, place - 1], ends[rows, place], grid))
        assert (np.diff(curves[-1]) <= 1e-12).all()
    law = stats.weibull_min(1.5, scale=5)
    assert np.abs(np.mean(curves, axis=0) - law.sf(grid)).max() < 0.11
