"""Families whose likelihoods can be compared: their measures, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.families import FAMILIES
from rmm.posterior.prediction.cross_validation import check_comparable

#: Own parameters, and a linear predictor, of every family whose likelihood has a measure.
VALUES = {
    "gaussian": ({"sigma_l2": 0.7}, 0.4),
    "student": ({"sigma_l2": 0.7, "nu": 5.0}, 0.4),
    "lognormal": ({"sigma_l2": 0.5}, 0.4),
    "gamma": ({"shape": 2.5}, 0.4),
    "beta": ({"phi": 6.0}, 0.4),
    "poisson": ({}, 1.1),
    "negbinomial": ({"shape": 1.7}, 1.1),
    "zero_inflated_poisson": ({"zi": 0.3}, 1.1),
    "zero_inflated_negbinomial": ({"zi": 0.3, "shape": 1.7}, 1.1),
    "hurdle_poisson": ({"hu": 0.3}, 1.1),
    "hurdle_negbinomial": ({"hu": 0.3, "shape": 1.7}, 1.1),
    "binomial": ({}, 0.4),
    "probit": ({}, 0.4),
    "cloglog": ({}, 0.4),
}


def _outcomes(name: str) -> tuple[np.ndarray, float]:
    """All outcomes, or a fine grid of them, and the distance of two neighbours."""
    if FAMILIES[name].measure == "counts":
        return np.arange(400.0), 1.0
    if FAMILIES[name].measure == "trials":
        return np.array([0.0, 1.0]), 1.0
    lower, upper = {"beta": (0.0, 1.0)}.get(name, (0.0, 60.0))
    if name in ("gaussian", "student"):
        lower = -60.0
    step = (upper - lower) / 400_000
    return np.arange(lower + step / 2, upper, step), step


def test_every_measure_is_tested() -> None:
    measured = {f.name for f in FAMILIES.values() if f.measure}
    assert set(VALUES) == measured, "VALUES above has an entry for each family with a measure"


@pytest.mark.parametrize("name", VALUES)
def test_likelihoods_are_of_their_measure(name: str) -> None:
    """Densities integrate to 1 over the user's outcome, probabilities sum to 1."""
    family = FAMILIES[name]
    own, eta = VALUES[name]
    y, step = _outcomes(name)
    outcome = family.read_outcome("y", (y,), None)
    values = {key: np.array([value]) for key, value in own.items()}
    logs = family.log_likelihood(np.full((1, len(y)), eta), values, outcome)
    # The largest part left out is the t distribution's tail beyond 60: 4e-9.
    assert np.sum(np.exp(logs)) * step == pytest.approx(1.0, abs=1e-6)


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    y = rng.poisson(rng.gamma(1.0, 3.0, 60))
    rows = [(j, i, y[j]) for j in range(60) for i in rng.choice(20, 2, replace=False)]
    return pd.DataFrame(rows, columns=["gid", "pid", "y"])


def _fits(*families: str, outcome: str = "y") -> dict[str, rmm.Fit]:
    formula = f"{outcome} ~ 1 + mm(id(pid, gid), RE = TRUE)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"backend": "laplace", "seed": 1, "progress": False}
        return {f: rmm.fit(formula, _table(), f, **options) for f in families}


def test_poisson_and_negative_binomial_models_are_compared() -> None:
    """Counts of twice the variance of a Poisson distribution: the negative binomial is first."""
    fits = _fits("poisson", "negbinomial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = rmm.compare(fits)
    assert list(table.index) == ["negbinomial", "poisson"]


def test_a_density_and_a_probability_are_not_compared() -> None:
    fits = _fits("gaussian", "poisson")
    densities = ", ".join(sorted(f.name for f in FAMILIES.values() if f.measure == "density"))
    message = (
        "'gaussian' has family 'gaussian', but 'poisson' has family 'poisson'. .* Models "
        f"comparable with 'gaussian' .* these: {densities}\\."
    )
    with pytest.raises(rmm.DataError, match=message):
        rmm.compare(fits)
    with pytest.raises(rmm.DataError, match=message):
        rmm.bayes_factor(fits)


def test_outcomes_on_different_scales_are_not_compared() -> None:
    plain = _fits("gaussian")["gaussian"]
    logs = _fits("gaussian", outcome="log(y + 1)")["gaussian"]
    with pytest.raises(rmm.DataError, match="different outcomes"):
        rmm.compare({"plain": plain, "logs": logs})


def _durations() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    low = np.round(rng.exponential(2.0, 30), 1)
    table = pd.DataFrame({"gid": np.repeat(np.arange(30), 2), "pid": np.arange(60) % 15})
    table["lo"], table["hi"] = np.repeat(low, 2), np.repeat(low + 1, 2)
    table["later"] = table["hi"] + 1
    return table.assign(mid=table["lo"] + 0.5, ev=1)


@pytest.mark.parametrize("compared", [rmm.compare, rmm.bayes_factor, rmm.average])
def test_durations_and_intervals_are_not_compared(compared: Any) -> None:
    """One has densities, the other probabilities of intervals: in either order a message."""
    outcomes = ["Surv(mid, ev)", 'Surv(lo, hi, type = "interval2")']
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = {
            text: rmm.fit(f"{text} ~ 1", _durations(), "weibull", backend="laplace", seed=1)
            for text in outcomes
        }
    for one, two in (outcomes, outcomes[::-1]):
        with pytest.raises(rmm.DataError, match="different kinds of outcomes") as raised:
            compared({"a": fits[one], "b": fits[two]})
        assert f"'a' has the outcome `{one}`, but 'b' has the outcome `{two}`" in str(raised.value)


def test_other_intervals_are_named_as_they_are_written() -> None:
    table = _durations()
    models = {
        upper: prepare(f'Surv(lo, {upper}, type = "interval2") ~ 1', table, "weibull")
        for upper in ("hi", "later")
    }
    with pytest.raises(rmm.DataError, match=r"`Surv\(lo, hi, type.* as `Surv\(lo, later") as found:
        check_comparable(models)
    assert "upper_end" not in str(found.value)


def test_weights_of_an_average_are_those_of_the_comparison() -> None:
    """Stacking of the same draws, as many as there are."""
    fits = _fits("poisson", "negbinomial", "zero_inflated_poisson")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights, table = rmm.average(fits).weights, rmm.compare(fits)
    np.testing.assert_array_equal(weights, table.loc[weights.index, "weight"])
