"""Medians, trimmed means, proper scores and kurtosis-robust errors against SciPy and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from scipy.stats import mstats

from rmm.study.measures.forecast_scores import crps_of
from rmm.study.measures.measure_values import sd_of
from rmm.study.measures.robust_values import median_of
from rmm.study.performance import performance


def score(estimates: Any, name: str, column: str = "value", **options: Any) -> float:
    """One number of the performance of estimates of 2 by one method."""
    table = {"replication": np.arange(len(estimates)), "mean": estimates, "truth": 2.0}
    given = {k: options.pop(k) for k in ("sd", "df", "p_value") if k in options}
    out = performance({**table, **given}, measures=[name], **options)
    return float(out.loc[out["policy"] == "per_method", column].iloc[0])


@pytest.fixture
def estimates() -> np.ndarray[Any, Any]:
    return 2 + np.random.default_rng(3).standard_t(3, 95)


def test_trimmed_and_winsorised_means_are_those_of_scipy(estimates: Any) -> None:
    errors = estimates - 2
    assert score(estimates, "trimmed_bias") == pytest.approx(stats.trim_mean(errors, 0.1))
    winsorised = np.asarray(mstats.winsorize(errors, (0.1, 0.1)))
    assert score(estimates, "winsorised_bias") == pytest.approx(winsorised.mean())
    cut = 9 / 95  # what is cut of 95 at each end
    wanted = mstats.trimmed_stde(errors, (cut, cut))
    assert score(estimates, "trimmed_bias", "mcse") == pytest.approx(wanted)


def test_trimmed_bias_is_not_moved_by_one_exploded_fit(estimates: Any) -> None:
    exploded = np.append(estimates[1:], 1e9)
    assert abs(score(exploded, "bias")) > 1e6
    for name in ("trimmed_bias", "winsorised_bias", "median_bias"):
        assert abs(score(exploded, name)) < 0.5, name


def test_means_and_medians_of_variances(estimates: Any) -> None:
    sd = np.random.default_rng(4).gamma(9, 0.1, 95)
    assert score(estimates, "mean_variance", sd=sd) == pytest.approx((sd**2).mean())
    assert score(estimates, "median_variance", sd=sd) == pytest.approx(np.median(sd**2))
    assert score(estimates, "median", sd=sd) == pytest.approx(np.median(estimates))
    assert score(estimates, "mean_absolute_error") == pytest.approx(np.abs(estimates - 2).mean())


@pytest.mark.parametrize("df", [np.nan, 1.5, 3.0, 40.0, np.inf])
@pytest.mark.parametrize("error", [-3.0, 0.0, 0.4])
def test_crps_is_the_integral_that_defines_it(df: float, error: float) -> None:
    law = stats.t(df, 0, 0.7) if np.isfinite(df) else stats.norm(0, 0.7)
    below = integrate.quad(lambda x: law.cdf(x) ** 2, -np.inf, error)[0]
    above = integrate.quad(lambda x: law.sf(x) ** 2, error, np.inf)[0]
    found = crps_of(np.array([error]), np.array([0.7]), np.array([df]))[0]
    assert found == pytest.approx(below + above, rel=1e-6)


def test_crps_of_a_point_is_its_distance_and_of_cauchy_is_none() -> None:
    error, one = np.array([-3.0, 1.0]), np.array([1.0, 1.0])
    assert crps_of(error, 0 * one, np.nan * one).tolist() == [3.0, 1.0]
    assert np.isnan(crps_of(error, one, one)).all()


def test_interval_score_is_that_of_its_formula() -> None:
    """Width 3.92; the truth 2 is held by the first interval and missed by 1.04 by the second."""
    z = stats.norm.ppf(0.975)
    wanted = 2 * z + 2 / 0.05 * (5 - z - 2) / 2
    assert score([2.5, 5.0], "interval_score", sd=[1.0, 1.0]) == pytest.approx(wanted)


def test_interval_score_is_smallest_for_the_true_interval() -> None:
    """It is a proper score: its expectation is smallest for the quantiles of the distribution."""
    draws = np.random.default_rng(5).normal(2, 1, 4000)
    scores = [score(draws, "interval_score", sd=np.full(4000, sd)) for sd in (0.7, 1.0, 1.4)]
    assert scores[1] < min(scores[0], scores[2])


@pytest.mark.parametrize("n", [30, 31])
def test_error_of_a_median_is_its_spread_over_studies(n: int) -> None:
    rng = np.random.default_rng(6)
    draws = rng.exponential(size=(4000, n))
    errors = np.array([median_of(row).mcse for row in draws[:400]])
    spread = np.median(draws, axis=1).std()
    assert np.sqrt((errors**2).mean()) == pytest.approx(spread, rel=0.1)  # measured: .03, .04


@pytest.mark.parametrize("name", ["empirical_se", "relative_error_se"])
def test_robust_errors_are_right_where_normal_ones_are_not(name: str) -> None:
    """Exponential estimates, kurtosis 9: the normal error of S is half of its spread."""
    draws = np.random.default_rng(7).exponential(size=300 * 200)
    table = {
        "scenario": np.repeat(np.arange(200), 300),
        "replication": np.tile(np.arange(300), 200),
        "mean": draws,
        "sd": np.ones(len(draws)),
    }
    found = {}
    for mcse in ("normal", "robust"):
        out = performance(table, measures=[name], mcse=mcse)
        found[mcse] = out[out["policy"] == "per_method"]
    spread = found["normal"]["value"].std(ddof=1)
    assert found["normal"]["mcse"].mean() < 0.65 * spread
    assert found["robust"]["mcse"].mean() == pytest.approx(spread, rel=0.15)  # known to 5%


def test_robust_error_of_the_empirical_se_is_that_of_its_kurtosis(estimates: Any) -> None:
    n, s = len(estimates), estimates.std(ddof=1)
    k = np.sum((estimates - estimates.mean()) ** 4) / (n * s**4)
    wanted = s / 2 * np.sqrt((k - 1) / n)
    assert score(estimates, "empirical_se", "mcse", mcse="robust") == pytest.approx(wanted)


def test_robust_and_normal_errors_agree_for_normal_estimates() -> None:
    rng = np.random.default_rng(8)
    first = rng.normal(2, 1, 20_000)
    second = 2 + 0.6 * (first - 2) + rng.normal(0, 0.8, 20_000)
    table = pd.DataFrame({"replication": np.tile(np.arange(20_000), 2)})
    table = table.assign(method=np.repeat(["a", "b"], 20_000), mean=np.append(first, second))
    errors = [
        performance(table, truth=2, measures=["relative_precision"], mcse=mcse)["mcse"].iloc[2]
        for mcse in ("normal", "robust")
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.03)  # kurtosis known to 2%


def test_power_by_z_t_interval_and_p() -> None:
    """T / SE = 2.1: above the normal quantile 1.96, below that of t with 10 degrees, 2.23."""
    common = {"sd": [1.0] * 4, "df": [10.0] * 4, "p_value": [0.01, 0.2, 0.04, 0.04]}
    found = {
        how: score([2.1] * 4, "rejection", test=how, **common)
        for how in ("auto", "z", "t", "interval", "p")
    }
    assert found == {"auto": 0.75, "z": 1.0, "t": 0.0, "interval": 0.0, "p": 0.75}


def test_coverage_by_degrees_of_freedom() -> None:
    estimates, sd = [4.1, -0.1, 2.0, 5.0], [1.0] * 4
    assert score(estimates, "coverage", sd=sd) == 0.25
    assert score(estimates, "coverage", sd=sd, df=[10.0] * 4) == 0.75
    assert score(estimates, "interval_width", sd=sd, df=[3.0, 5, 7, 9]) == pytest.approx(
        np.mean(2 * stats.t.ppf(0.975, [3, 5, 7, 9]))
    )


def test_spread_of_estimates_without_truth() -> None:
    table = {"replication": [1, 2, 3], "mean": [1.0, 2.0, 6.0], "sd": [1.0, 1.0, 1.0]}
    out = performance(table, measures=["empirical_se", "bias", "be_coverage"])
    out = out[out["policy"] == "per_method"].set_index("measure")["value"]
    assert out["empirical_se"] == pytest.approx(sd_of(np.array([1.0, 2.0, 6.0])))
    assert np.isnan(out["bias"])
    assert out["be_coverage"] == pytest.approx(1 / 3)  # their mean, 3, is in 2 -+ 1.96 alone
