"""The Weibull family: densities, predictions, messages, programs, and agreement with others."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

import rmm
import tests
from rmm.backends import find_backend
from rmm.backends.stan.run import available
from rmm.design.prepare import prepare, prepare_without_data
from rmm.errors import DataError
from rmm.families import FAMILIES
from rmm.simulation import RecipeError, simulate
from rmm.simulation.outcomes.survival import censoring_rate

GOLDEN = tests.GOLDEN / "families"
WEIBULL = FAMILIES["weibull"]
MIXED = "mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")


def survival_data(groups: int = 300, seed: int = 5, **more: Any) -> pd.DataFrame:
    """One row per group: durations in whole units, so with ties, 30% censored."""
    found = simulate(
        "Surv(time, event) ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n))",
        {"b_l2[Intercept]": 3, "b_l2[z]": 0.5, "b_l1[x]": -0.4, "shape": 1.5},
        family="weibull",
        membership={"kind": "synthetic", "groups": groups, "size": 1, "overlap": 0},
        covariates={"x": {"level": "member"}, "z": {"level": "group"}},
        censoring={"share": 0.3},
        seed=seed,
        **more,
    )
    return found.data.assign(time=np.ceil(found.data["time"]))


def outcome_of(time: Any, event: Any, *upper: Any) -> dict[str, Any]:
    parts = (np.asarray(time, float), np.asarray(event, float), *map(np.asarray, upper))
    return WEIBULL.read_outcome("Surv(t, e)", parts, None)


# ---- likelihood and predictions --------------------------------------------------------------


def test_log_likelihood_is_scipys() -> None:
    rng = np.random.default_rng(1)
    outcome = outcome_of([0.5, 3.0, 3.0, 20.0], [1, 1, 0, 0])
    eta, shape = rng.normal(1, 1, (6, 4)), rng.uniform(0.3, 4, 6)
    law = stats.weibull_min(shape[:, None], scale=np.exp(eta))
    expected = np.where(
        outcome["event"] == 1, law.logpdf(outcome["time"]), law.logsf(outcome["time"])
    )
    found = WEIBULL.log_likelihood(eta, {"shape": shape}, outcome)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_mean_is_the_area_under_the_survival_curve() -> None:
    eta, values = np.array([[1.0, -0.5]]), {"shape": np.array([0.7])}
    free = outcome_of([1.0, 2.0], [1, 0])
    cut = outcome_of([1.0, 2.0], [1, 0], [4.0, 2.5])
    survival = stats.weibull_min(0.7, scale=np.exp(eta[0])).sf
    for outcome, limits in ((free, (np.inf, np.inf)), (cut, (4.0, 2.5))):
        expected = [
            integrate.quad(lambda t, j=j: survival(t)[j], 0, limit)[0]
            for j, limit in enumerate(limits)
        ]
        np.testing.assert_allclose(WEIBULL.mean(eta, values, outcome)[0], expected, rtol=1e-7)


def test_draws_follow_the_law_and_stop_at_the_upper_limit() -> None:
    rng, n = np.random.default_rng(2), 20_000
    eta, values = np.full((n, 2), 1.2), {"shape": np.full(n, 1.7)}
    draws = WEIBULL.draw(eta, values, outcome_of([1.0, 2.0], [1, 0], [np.inf, 2.5]), rng)
    law = stats.weibull_min(1.7, scale=np.exp(1.2))
    assert stats.kstest(draws[:, 0], law.cdf).pvalue > 1e-4
    assert draws[:, 1].max() == 2.5
    assert abs(np.mean(draws[:, 1] == 2.5) - law.sf(2.5)) < 4 * np.sqrt(0.25 / n)


def test_point_14_residual_variance_is_that_of_log_time() -> None:
    rng, n = np.random.default_rng(3), 200_000
    shape = np.full(n, 2.3)
    outcome = outcome_of([1.0, 2.0], [1, 1])
    log_t = np.log(WEIBULL.draw(np.zeros((n, 1)), {"shape": shape}, outcome, rng))
    variance = WEIBULL.residual_variance({"shape": np.array([2.3])}, {})
    np.testing.assert_allclose(variance, np.pi**2 / (6 * 2.3**2))
    np.testing.assert_allclose(log_t.var(), variance[0], rtol=0.02)  # 4 standard errors


def test_scale_accounts_for_censoring() -> None:
    location, s = WEIBULL.scale(outcome_of([1.0, 2.0, 3.0], [1, 0, 0]))
    assert location == pytest.approx(np.log(6.0))
    assert s == pytest.approx(np.std(np.log([1.0, 2.0, 3.0]), ddof=1))


def test_outcomes_of_some_and_of_new_groups() -> None:
    fit = outcome_of([1.0, 2.0, 3.0], [1, 0, 1], [4.0, 5.0, 6.0])
    some = WEIBULL.outcome_of_some(fit, np.array([1, 2]))
    assert some["n_events"] == 1
    np.testing.assert_array_equal(some["upper"], [5, 6])
    np.testing.assert_allclose(some["log_t"], np.log([2, 3]))
    parts = (np.array([1.0]), np.array([0.0]), np.array([9.0]))
    assert WEIBULL.outcome_of_new(fit, parts, None, 1)["upper"] == [9.0]
    assert WEIBULL.outcome_of_new(fit, None, None, 1) == {}


# ---- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "event", "upper", "message"),
    [
        ([0.0, 2.0], [1, 1], None, "must be positive, but 1 group has another value, such as 0"),
        ([-3.0, 2.0], [1, 1], None, "such as -3"),
        ([np.nan, 2.0], [1, 1], None, "must be positive"),
        (
            [1.0, 2.0],
            [1, 2],
            None,
            "must be 1 .it happened. or 0 .censored., but 1 group has another",
        ),
        ([1.0, 2.0], [1, np.nan], None, "must be 1"),
        ([1.0, 2.0], [0, 0], None, "No group has an event .*: every duration is censored"),
        ([2.0, 2.0], [1, 0], None, "All durations .* are the same"),
        (
            [1.0, 2.0],
            [1, 0],
            [0.5, 3.0],
            "below the duration in 1 group: for example, the limit is 0.5 and",
        ),
    ],
)
def test_point_17_wrong_outcomes_get_a_message(
    time: Any, event: Any, upper: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        outcome_of(time, event, *([] if upper is None else [upper]))


def test_a_plain_outcome_is_refused() -> None:
    with pytest.raises(
        rmm.FormulaError,
        match=r"(?s)`y` cannot be used with family 'weibull'.*Allowed: `Surv\(time, event\)`",
    ):
        prepare_without_data("y ~ 1", "weibull")


# ---- simulator -------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [np.inf, 40.0])
def test_censoring_share_is_reached(limit: float) -> None:
    """The rate's expected share, against 400,000 drawn times (4 standard errors)."""
    rng = np.random.default_rng(4)
    scale = np.exp(rng.normal(2, 0.5, 400_000))
    rate = censoring_rate(scale[:2000], 1.4, limit, 0.3)
    times = scale[rng.integers(0, 2000, 400_000)] * rng.weibull(1.4, 400_000)
    ends = np.minimum(rng.exponential(1 / rate, 400_000), limit)
    assert abs(np.mean(ends < times) - 0.3) < 4 * np.sqrt(0.21 / 400_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"censoring": {"share": 0.3, "rate": 1}}, "Both `rate` and `share`"),
        ({"censoring": {"share": 0.01, "time": 0.1}}, "censoring at time 0.1 alone"),
        ({"censoring": {"rate": -1}}, "truth.censoring.rate: The value is -1"),
        ({"censoring": {"tme": 1}}, "Did you mean 'time'"),
        ({"baseline": {"rate": 1}}, "'baseline' is not a key of a truth of family 'weibull'"),
        ({"formula": "time ~ 1"}, r"plain names: Surv\(time, event\)"),
        ({"formula": "Surv(time, time) ~ 1"}, "names one column twice"),
        ({"parameters": {"b_l2[Intercept]": 0, "shape": 0}}, "A shape must be above 0"),
    ],
)
def test_wrong_survival_recipes_are_named(changes: dict[str, Any], message: str) -> None:
    given = {
        "formula": "Surv(time, event) ~ 1",
        "parameters": {"b_l2[Intercept]": 0, "shape": 1},
        "family": "weibull",
        "membership": {"kind": "synthetic", "groups": 20, "size": 1, "overlap": 0},
        "seed": 1,
    } | changes
    formula, parameters = given.pop("formula"), given.pop("parameters")
    with pytest.raises(RecipeError, match=message):
        simulate(formula, parameters, **given)


# ---- programs --------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["stan", "jags"])
def test_text_is_the_golden_one(language: str) -> None:
    """``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_weibull.py`` rewrites them."""
    text = rmm.program(f"Surv(time, event) ~ 1 + z + {MIXED}", "weibull", language)
    path = GOLDEN / f"weibull.{language}.txt"
    if os.environ.get("RMM_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("language", ["stan", "jags"])
def test_priors_of_the_shape(language: str) -> None:
    table = survival_data(60)
    for priors, rate in (("rmm", 0.01), ("weakly_informative", 1.25)):
        model = prepare("Surv(time, event) ~ 1 + z", table, "weibull", priors=priors)
        found = find_backend(language).prepare(model).data(model.design)
        assert found["prior_shape_rate"] == rate


# ---- engines ---------------------------------------------------------------------------------


def maximum_likelihood(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    """(intercept, z, x, log shape) by SciPy's densities and optimiser."""
    X = np.column_stack([np.ones(len(table)), table[["z", "x"]]])
    time, event = table["time"].to_numpy(), table["event"].to_numpy()

    def minus(theta: np.ndarray[Any, Any]) -> float:
        law = stats.weibull_min(np.exp(theta[3]), scale=np.exp(X @ theta[:3]))
        return -float(np.sum(np.where(event == 1, law.logpdf(time), law.logsf(time))))

    return np.asarray(optimize.minimize(minus, [3, 0, 0, 0], method="BFGS").x)


def test_maximum_likelihood_is_that_of_lifelines() -> None:
    """WeibullAFTFitter of lifelines 0.30.3 on the same table gave these numbers.

    It cannot be installed here: it needs pandas below 3. They differ by less than 1e-4, less than
    a four hundredth of a standard error.
    """
    lifelines = [2.9937733, 0.4444249, -0.3364345, 0.5062141]
    np.testing.assert_allclose(maximum_likelihood(survival_data()), lifelines, atol=1e-4)


@pytest.mark.thorough
@needs_stan
@pytest.mark.stan
def test_stan_without_effects() -> None:
    """Log density against NumPy at draws; posterior means against maximum likelihood.

    With vague priors and 300 groups mean and maximum differ by less than a fifth of a posterior
    sd, Monte Carlo error (4 MCSE) included.
    """
    table = survival_data()
    fit = rmm.fit(
        "Surv(time, event) ~ 1 + z + x",
        table,
        "weibull",
        backend="stan",
        priors="rmm",
        seed=1,
        chains=2,
        cores=1,
        progress=False,
    )
    draws, design = fit.run.draws, fit.model.design
    X = np.column_stack([np.ones(design.J), design.X_l2 + design.center_l2])
    eta = draws["b_l2"] @ X.T
    shape = draws["shape"].reshape(2, -1)
    expected = np.array(
        [
            WEIBULL.log_likelihood(e, {"shape": k}, design.outcome).sum(axis=1)
            for e, k in zip(eta, shape, strict=True)
        ]
    )
    expected += stats.gamma.logpdf(shape, 0.01, scale=100) + np.log(shape)
    expected += stats.norm.logpdf(draws["b_l2"], 0, 100).sum(axis=-1)
    found = fit.run.sample_stats["lp"]
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], atol=1e-5)
    mle, summary = maximum_likelihood(table), fit.summary()
    mle[3] = np.exp(mle[3])
    limit = 0.2 * summary["sd"] + 4 * summary["mcse_mean"]
    assert ((summary["mean"] - mle).abs() < limit).all(), (summary, mle)


@needs_stan
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parity
def test_engines_agree_on_a_mixed_model() -> None:
    """Means within 4.5 combined MCSE: false alarms below 0.01% for five parameters."""
    table = simulate(
        f"Surv(time, event) ~ 1 + z + {MIXED}",
        {"b_l2[Intercept]": 2, "b_l2[z]": 0.5, "b_l1[x]": -0.4, "sigma_l1": 0.8, "shape": 1.5},
        family="weibull",
        membership={"kind": "synthetic", "groups": 150, "members": 25, "size": 3},
        covariates={"x": {"level": "member"}, "z": {"level": "group"}},
        censoring={"share": 0.3},
        seed=8,
    ).data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        jags, stan = (
            rmm.fit(
                f"Surv(time, event) ~ 1 + z + {MIXED}",
                table,
                "weibull",
                backend=backend,
                seed=3,
                cores=1,
                progress=False,
                draws=2000,
            ).summary()
            for backend in ("jags", "stan")
        )
    z = (jags["mean"] - stan["mean"]) / np.hypot(jags["mcse_mean"], stan["mcse_mean"])
    assert (z.abs() < 4.5).all(), pd.DataFrame({"jags": jags["mean"], "stan": stan["mean"], "z": z})
