"""Durations as they come: rounding, zeros, and upper limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.families import FAMILIES, Cox
from rmm.families.cox import log_marginal, tie_times

COX, WEIBULL = FAMILIES["cox"], FAMILIES["weibull"]


def read(family: Any, *parts: Any) -> dict[str, Any]:
    return family.read_outcome("Surv(a, b, c)", tuple(np.asarray(p, float) for p in parts), None)


# ---- ties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_times_that_differ_by_rounding_are_ties(unit: float) -> None:
    rng = np.random.default_rng(2)
    weeks, start = rng.integers(1, 40, 300), rng.integers(0, 9000, 300)
    stored = ((1900 + (start + 7 * weeks) / 365.25) - (1900 + start / 365.25)) * unit
    assert len(np.unique(stored)) > len(np.unique(weeks))
    tied = tie_times(stored)
    assert len(np.unique(tied)) == len(np.unique(weeks))
    assert tied == pytest.approx(weeks * 7 / 365.25 * unit, rel=1e-9)
    assert (np.argsort(tied, kind="stable") == np.argsort(weeks, kind="stable")).all()


def test_times_that_differ_are_no_ties() -> None:
    time = np.array([1e-6, 1.0, 1.0 + 1e-6, 2.0, 1e6, 1e6 + 1])
    assert tie_times(time).tolist() == time.tolist()
    continuous = np.random.default_rng(1).weibull(1.5, 2000)
    assert (tie_times(continuous) == continuous).all()
    assert tie_times(np.array([-2e-16, 0.0, 3e-16, 0.5, 1.0, 2.0])).tolist() == [0, 0, 0, 0.5, 1, 2]


def test_the_likelihood_is_that_of_the_ties() -> None:
    rng = np.random.default_rng(3)
    time, event = rng.integers(1, 9, 60) / 10, rng.uniform(size=60) < 0.8
    noisy = time + rng.choice([-1, 0, 1], 60) * 2.0**-52
    assert len(np.unique(noisy)) > len(np.unique(time))
    eta = rng.normal(size=(3, 60))
    for family in (COX, Cox(intervals=3)):
        meant, stored = read(family, time, event), read(family, noisy, event)
        assert stored["K_time"] == meant["K_time"]
        assert log_marginal(eta, stored) == pytest.approx(log_marginal(eta, meant), rel=1e-12)


# ---- zeros -------------------------------------------------------------------------------------


def test_time_zero_has_a_rank_like_any_other() -> None:
    """As if all times were a unit later, but for the guess of the baseline, which weighs 0.001."""
    time, event = np.array([0.0, 0, 1, 2, 2, 5]), np.array([1, 0, 1, 0, 1, 1])
    zero, later = read(COX, time, event), read(COX, time + 1, event)
    assert zero["ends"].tolist() == [0, 1, 2, 5] and (zero["prior_dH"] > 0).all()
    eta = np.random.default_rng(4).normal(size=(50, 6))
    difference = log_marginal(eta, zero) - log_marginal(eta, later)
    assert difference - difference.mean() == pytest.approx(np.zeros(50), abs=0.02)
    for family, message in (
        (WEIBULL, "must be positive, but 2 groups"),
        (Cox(2), "must be positive"),
    ):
        with pytest.raises(rmm.DataError, match=message):
            read(family, time, event)
    with pytest.raises(
        rmm.DataError, match="must be 0 or more, but 1 group has another value, such as -1"
    ):
        read(COX, time - np.eye(6)[0], event)


def test_a_model_with_events_at_zero_is_fitted() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(size=150)
    time = np.floor(rng.exponential(np.exp(-0.7 * z)) * 3)
    table = pd.DataFrame({"t": time, "e": 1, "z": z})
    assert (time == 0).sum() > 10
    fit, later = (
        rmm.fit("Surv(t, e) ~ z", t, "cox", backend="laplace", seed=1, chains=1, draws=400)
        for t in (table, table.assign(t=time + 1))
    )
    one, other = fit.summary().loc["b_l2[z]"], later.summary().loc["b_l2[z]"]
    assert one["mean"] == pytest.approx(other["mean"], abs=0.1 * one["sd"])


def test_an_upper_limit_equal_to_the_duration_but_for_rounding() -> None:
    time = np.array([0.3, 1.0, 2.0])
    out = read(WEIBULL, time, [1, 0, 1], [0.1 * 3 - 1e-16, 1.0 - 2.0**-53, 4.0])
    assert (out["upper"] >= time).all()


# ---- upper limits --------------------------------------------------------------------------------

STOP, EVENT = [4.0, 5.0, 2.5, 7.0], [1, 0, 1, 1]


def test_upper_limits_stay() -> None:
    table = pd.DataFrame({"t": STOP, "e": EVENT, "up": [9.0] * 4, "z": [1.0, 2, 3, 5]})
    assert (
        prepare("Surv(t, e, up) ~ z", table, "weibull").design.outcome["upper"].tolist() == [9] * 4
    )
    short = table.assign(t=[0.1, 0.2, 0.3, 0.5], e=[1, 2, 2, 1])
    with pytest.raises(
        rmm.DataError,
        match=r"event of .* must be 1 .*2 groups .* such as 2\. Recode it, .*I\(status == 2\)",
    ):
        prepare("Surv(t, e, upper = up) ~ z", short, "weibull")
    with pytest.raises(rmm.DataError, match=r"recode it, for example I\(status == 2\)"):
        prepare("Surv(t, e) ~ z", table.assign(e=[1, 2, 0, 1]), "weibull")
