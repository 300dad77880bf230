"""Measures against Stata's simsum, hand computations and simulated behaviour; closed forms."""

from __future__ import annotations

import itertools
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from rmm.errors import StudyError
from rmm.simulation.memberships.structures import prepare_membership
from rmm.study.design.closed_forms import (
    aggregation_bias,
    disaggregation_type1,
    shared_members_effect,
    shared_members_size,
)
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.proportions import wilson
from rmm.study.performance import performance
from tests import ROOT

REFERENCE = ROOT.parent / "shared" / "reference"
SIMSUM = {
    "bias": "bias",
    "empse": "empirical_se",
    "relprec": "relative_precision",
    "mse": "mse",
    "modelse": "model_se",
    "relerror": "relative_error_se",
    "cover": "coverage",
    "power": "rejection",
}


# -- simsum ----------------------------------------------------------------------------------


def simsum_scores() -> pd.DataFrame:
    if not REFERENCE.is_dir():
        pytest.skip("the published simsum results (../shared/reference) are not here")
    estimates = pd.read_csv(REFERENCE / "simsum_mi_estimates.csv")
    columns = {"replication": "dataset", "mean": "b", "sd": "se"}
    return performance(estimates, truth=0.5, baseline="CC", columns=columns)


def test_simsum_is_reproduced() -> None:
    scores = simsum_scores().query("policy == 'per_method'").set_index(["method", "measure"])
    published = pd.read_csv(REFERENCE / "simsum_mi_published.csv")
    compared = 0
    for row in published.itertuples():
        ours = scores.loc[(row.method, SIMSUM[row.stat])]
        if row.stat == "relprec" and row.method == "CC":
            assert np.isnan(ours["value"])  # a method is not compared with itself
            continue
        assert ours["value"] == pytest.approx(row.est, abs=1e-6, rel=1e-6), (row.method, row.stat)
        assert ours["mcse"] == pytest.approx(row.mcse, rel=1e-3), (row.method, row.stat)
        compared += 1
    assert compared == 23


# -- hand computations -----------------------------------------------------------------------


def table(**columns: Any) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    base = {"replication": range(1, count + 1), "method": "a", "sd": 1.0, "truth": 2.0}
    return pd.DataFrame({**base, **columns})


def value(frame: pd.DataFrame, measure: str, column: str = "value", **where: Any) -> float:
    rows = frame[frame["measure"] == measure]
    for name, wanted in {"policy": "per_method", **where}.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1, rows
    return float(rows[column].iloc[0])


def test_measures_by_hand() -> None:
    estimates = table(mean=[1.0, 2.0, 3.0, 6.0], sd=[1.0, 1.0, 2.0, 2.0])
    out = performance(estimates)
    error = np.array([-1.0, 0.0, 1.0, 4.0])
    assert value(out, "mean") == 3.0
    assert value(out, "mean", "mcse") == pytest.approx(error.std(ddof=1) / 2)
    assert value(out, "bias") == 1.0
    assert value(out, "bias", "mcse") == pytest.approx(error.std(ddof=1) / 2)
    assert value(out, "relative_bias") == 0.5
    assert value(out, "mse") == 4.5
    assert value(out, "mse", "mcse") == pytest.approx(
        np.sqrt(np.sum((error**2 - 4.5) ** 2) / (4 * 3))
    )
    assert value(out, "rmse") == pytest.approx(np.sqrt(4.5))
    assert value(out, "model_se") == pytest.approx(np.sqrt(2.5))
    assert value(out, "coverage") == 0.75  # 6 -+ 3.92 misses 2
    assert value(out, "coverage", "mcse") == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert value(out, "be_coverage") == 0.75  # 1 -+ 1.96 misses 3
    assert value(out, "rejection") == 0.5  # 2/1 and 6/2 exceed 1.96; 1/1 and 3/2 do not
    assert value(out, "exaggeration") == 2.0
    assert value(out, "type_s") == 0.0


def test_contraction_is_a_mean_over_data_sets() -> None:
    shares = np.array([0.2, 0.4, 0.9])
    out = performance(table(mean=[1.0, 2.0, 3.0], contraction=shares))
    assert value(out, "contraction") == 0.5
    assert value(out, "contraction", "mcse") == pytest.approx(shares.std(ddof=1) / np.sqrt(3))
    without = performance(table(mean=[1.0, 2.0, 3.0]))
    assert np.isnan(value(without, "contraction"))


def test_type_s_counts_wrong_signs() -> None:
    out = performance(table(mean=[-5.0, 5.0, 5.0, 0.1]))
    assert value(out, "type_s") == pytest.approx(1 / 3)
    assert value(out, "exaggeration") == 2.5


def test_truth_zero_has_no_relative_bias_and_no_type_s() -> None:
    out = performance(table(mean=[1.0, 2.0, 3.0], truth=0.0))
    assert np.isnan(value(out, "relative_bias"))
    assert np.isnan(value(out, "type_s"))


def test_p_values_and_stored_intervals_are_used() -> None:
    estimates = table(
        mean=[1.0] * 4,
        lower=[0.0, 0, 0, 3],
        upper=[4.0] * 4,
        lower90=[1.5] * 4,
        upper90=[2.5] * 4,
        p_value=[0.01, 0.04, 0.06, 0.2],
    )
    out = performance(estimates, alpha=[0.05, 0.1, 0.2])
    assert value(out, "rejection", alpha=0.05) == 0.5
    assert value(out, "rejection", alpha=0.1) == 0.75
    assert value(out, "coverage", alpha=0.05) == 0.75
    assert value(out, "coverage", alpha=0.1) == 1.0
    assert np.isnan(value(out, "coverage", alpha=0.2))  # not stored, and no df to make it from
    assert value(out, "interval_width", alpha=0.1) == 1.0


def test_other_levels_are_made_from_df() -> None:
    estimates = table(mean=[2.0, 3.0], lower=[0.0, 0.0], upper=[9.0, 9.0], df=10.0)
    out = performance(estimates, alpha=0.2)
    assert value(out, "interval_width") == pytest.approx(2 * stats.t.ppf(0.9, 10))


def test_policies_counts_and_differences() -> None:
    a = table(mean=[1.0, 2.0, 3.0, 4.0, 5.0])
    b = table(mean=[1.5, 2.5, np.nan, 9.0, 5.5], method="b").assign(
        status=["ok", "ok", "failed", "not_converged", "ok"]
    )
    out = performance(pd.concat([a.assign(status="ok"), b]), baseline="a")
    assert value(out, "bias", method="a") == 1.0
    assert value(out, "bias", method="a", policy="complete_case") == pytest.approx(8 / 3 - 2)
    assert value(out, "bias", "n", method="b") == 3
    assert value(out, "bias", "n", method="a", policy="complete_case") == 3
    assert value(out, "bias", "n_failed", method="b") == 1
    assert value(out, "bias", "n_not_converged", method="b") == 1
    assert value(out, "convergence", method="b") == 0.6
    assert value(out, "difference_bias", method="b") == pytest.approx(0.5)
    assert value(out, "difference_bias", "mcse", method="b") == pytest.approx(0, abs=1e-12)
    assert np.isnan(value(out, "difference_bias", method="a"))


def test_a_method_on_fewer_replications_takes_none_from_the_others() -> None:
    """Replication 2 is lost by a failure; 4 and 5, which b was not to fit, stay."""
    a = table(mean=[1.0, 2.0, 3.0, 4.0, 5.0]).assign(status="ok")
    b = table(mean=[1.5, np.nan, 3.5], method="b").assign(status=["ok", "failed", "ok"])
    out = performance(pd.concat([a, b]), baseline="a")
    assert value(out, "bias", "n", method="a", policy="complete_case") == 4
    assert value(out, "bias", method="a", policy="complete_case") == pytest.approx(13 / 4 - 2)
    assert value(out, "bias", "n", method="b", policy="complete_case") == 2
    assert value(out, "difference_bias", "n", method="b") == 2


def test_what_is_never_zero_is_not_tested() -> None:
    """No measure of tests for an untested parameter; all others, and the other parameter whole."""
    one = pd.DataFrame({"replication": range(50), "method": "m", "mean": 1.0, "sd": 0.1})
    both = pd.concat([one.assign(parameter=p) for p in ("b", "sigma_l1")])
    scores = performance(both, truth=1.0, untested=["sigma_l1"])
    tests = {name for name, measure in MEASURES.items() if measure.tests}
    found = {p: set(scores.loc[scores["parameter"] == p, "measure"]) for p in ("b", "sigma_l1")}
    assert found["b"] - found["sigma_l1"] == tests
    assert tests >= {"rejection", "type_s", "exaggeration", "size_adjusted_power"}


def test_both_kinds_of_usable() -> None:
    estimates = table(mean=[1.0, 3.0], status=["ok", "not_converged"])
    assert value(performance(estimates), "bias", "n") == 1
    both = performance(estimates, usable=["ok", "not_converged"])
    assert value(both, "bias", "n") == 2


@pytest.mark.thorough
def test_paired_mcse_is_that_of_repeated_studies() -> None:
    """MCSE of relative precision and of a paired difference against their spread over studies."""
    rng = np.random.default_rng(17)
    found: dict[str, list[tuple[float, float]]] = {"relative_precision": [], "difference_mse": []}
    for _ in range(120):
        common = rng.standard_normal(200)
        own = common + 0.5 * rng.standard_normal(200)
        a, b = table(mean=2 + common), table(mean=2 + own, method="b")
        out = performance(pd.concat([a, b]), baseline="a", measures=list(found))
        for name, pairs in found.items():
            pairs.append((value(out, name, method="b"), value(out, name, "mcse", method="b")))
    for name, pairs in found.items():
        values, errors = np.array(pairs).T
        assert abs(errors.mean() / values.std(ddof=1) - 1) < 0.2, name


def test_size_adjusted_power() -> None:
    p_null = np.linspace(0.001, 0.4, 400)
    null = table(mean=np.zeros(400), p_value=p_null, truth=0.0, scenario="null")
    power = table(mean=np.ones(4), p_value=[0.001, 0.01, 0.03, 0.2], scenario="power")
    pairs = {("power", "theta"): "null"}
    out = performance(pd.concat([null, power]), null_scenarios=pairs)
    # The 5% quantile under the null is near 0.021: the test rejects too often by itself.
    assert value(out, "size_adjusted_power", scenario="power") == 0.5
    assert value(out, "rejection", scenario="power") == 0.75


def test_no_size_adjusted_power_where_the_null_hypothesis_holds() -> None:
    """There it is the level of the test by construction, and no power."""
    p = np.linspace(0.001, 0.999, 100)
    null = table(mean=np.zeros(100), p_value=p, truth=0.0, scenario="null")
    power = table(mean=np.ones(100), p_value=p / 9, scenario="power")
    pairs = {("null", "theta"): "null", ("power", "theta"): "null"}
    out = performance(pd.concat([null, power]), null_scenarios=pairs)
    assert np.isnan(value(out, "size_adjusted_power", scenario="null"))
    assert value(out, "size_adjusted_power", scenario="power") > 0.4


@pytest.mark.parametrize(("mean", "rate"), [(0.0, 0), (9.0, 1)])
def test_rates_of_0_and_1_have_wilson_intervals_and_no_error(mean: float, rate: int) -> None:
    n = 40
    out = performance(table(mean=np.full(n, mean), sd=0.1, truth=mean + 9 * (1 - rate)))
    interval = stats.binomtest(rate * n, n).proportion_ci(method="wilson")
    for name in ("rejection", "coverage"):
        assert value(out, name) == rate
        assert np.isnan(value(out, name, "mcse"))
        ends = value(out, name, "lower"), value(out, name, "upper")
        assert ends == pytest.approx((interval.low, interval.high))
    fits = out[out["measure"] == "convergence"].iloc[0]
    assert (fits["value"], fits["upper"]) == (1, 1)
    assert fits["lower"] == pytest.approx(stats.binomtest(n, n).proportion_ci(method="wilson").low)


def test_intervals_of_other_values_have_their_errors() -> None:
    out = performance(table(mean=np.r_[np.zeros(30), np.full(10, 9.0)], sd=1.0, truth=0.0))
    interval = stats.binomtest(10, 40).proportion_ci(method="wilson")
    assert value(out, "rejection", "mcse") == pytest.approx(np.sqrt(0.25 * 0.75 / 40))
    assert value(out, "rejection", "lower") == pytest.approx(interval.low)
    for end, sign in (("lower", -1), ("upper", 1)):
        wanted = value(out, "bias") + sign * 1.959964 * value(out, "bias", "mcse")
        assert value(out, "bias", end) == pytest.approx(wanted)


def test_equal_rates_of_two_methods_differ_by_at_most_the_interval() -> None:
    one = table(mean=np.zeros(40), sd=1.0, truth=0.0)
    two = one.assign(method="b")
    out = performance(pd.concat([one, two]), baseline="a")
    high = stats.binomtest(0, 40).proportion_ci(method="wilson").high
    assert value(out, "difference_coverage", method="b") == 0
    assert np.isnan(value(out, "difference_coverage", "mcse", method="b"))
    ends = [value(out, "difference_coverage", end, method="b") for end in ("lower", "upper")]
    assert ends == pytest.approx([-high, high])


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 1.0])
def test_wilson_intervals_are_those_of_scipy(p: float) -> None:
    for n in (1, 40, 1000):
        wanted = stats.binomtest(round(p * n), n).proportion_ci(0.9, method="wilson")
        assert wilson(round(p * n) / n, n, level=0.9) == pytest.approx(wanted)
    assert np.isnan(wilson(0.5, 0)).all() and np.isnan(wilson(float("nan"), 9)).all()


def test_unknown_measures_and_columns() -> None:
    with pytest.raises(StudyError, match="'biass' is not a measure"):
        performance(table(mean=[1.0]), measures=["biass"])
    with pytest.raises(StudyError, match=r"no column 'mean' \(`estimate`\)"):
        performance(table(mean=[1.0]).drop(columns="mean"))
    with pytest.raises(StudyError, match="has no rows"):
        performance(table(mean=[1.0]).iloc[:0])


def test_every_measure_is_scored_and_documented() -> None:
    out = performance(table(mean=[1.0, 2.0, 4.0]))
    everywhere = {name for name, measure in MEASURES.items() if not measure.prefix}
    assert set(out["measure"]) == everywhere
    chosen = performance(table(mean=[1.0, 0.0, 1.0], parameter="choice[a]"))
    assert set(chosen["measure"]) == set(MEASURES)
    promised = (
        "bias relative_bias empirical_se mse rmse model_se relative_error_se relative_precision "
        "coverage be_coverage rejection interval_width type_s exaggeration size_adjusted_power "
        "convergence seconds ess_per_second"
    )
    assert set(promised.split()) <= set(MEASURES)


# -- Monte Carlo errors of few replications -------------------------------------------------


def few(n: int) -> dict[str, list[float]]:
    """The first n of five replications, in which no rate is 0 or 1."""
    columns = {
        "first": [1.9, 2.4, 1.2, 3.1, 2.2],
        "second": [1.0, 2.5, -0.5, 4.5, 2.1],
        "sd_first": [0.5, 0.55, 0.45, 0.6, 0.4],
        "sd_second": [0.3, 1.6, 0.2, 1.1, 0.8],
        "p_first": [0.001, 0.002, 0.06, 0.003, 0.004],
        "p_second": [0.001, 0.2, 0.01, 0.02, 0.04],
        "p_null": [0.01, 0.035, 0.4, 0.6, 0.8],
        "contraction": [0.9, 0.4, 0.8, 0.7, 0.3],
        "ess_bulk": [400.0, 350.0, 900.0, 120.0, 640.0],
        "seconds": [2.0, 3.5, 1.25, 4.0, 2.5],
    }
    return {name: values[:n] for name, values in columns.items()}


def scores_of(given: dict[str, list[float]]) -> pd.DataFrame:
    """Measures of the second method, which also has a failed fit of 8 seconds."""
    n = len(given["first"])
    first = table(mean=given["first"], sd=given["sd_first"], p_value=given["p_first"])
    kept = {name: given[name] for name in ("contraction", "ess_bulk", "seconds")}
    second = table(mean=given["second"], sd=given["sd_second"], p_value=given["p_second"], **kept)
    failed = {"replication": [n + 1], "mean": np.nan, "sd": np.nan, "truth": 2.0, "seconds": 8.0}
    second = pd.concat([second.assign(status="ok"), pd.DataFrame(failed).assign(status="failed")])
    null = table(mean=[0.0] * n, p_value=given["p_null"], truth=0.0, scenario="null")
    parts = [first.assign(status="ok", scenario="power"), second.assign(scenario="power")]
    parts[1]["method"] = "b"
    estimates = pd.concat([*parts, null.assign(status="ok", method="b")])
    pairs = {("power", "theta"): "null"}
    out = performance(estimates, baseline="a", null_scenarios=pairs)
    return out[(out["scenario"] == "power") & (out["method"] == "b")]


def errors_by_hand(given: dict[str, list[float]]) -> dict[str, float]:
    """Monte Carlo errors of Morris, White and Crowther (2019) and White (2010), in plain Python."""
    truth, n = 2.0, len(given["first"])

    def of_mean(values: list[float]) -> float:
        center = sum(values) / len(values)
        squares = sum((v - center) ** 2 for v in values)
        return math.sqrt(squares / (len(values) * (len(values) - 1)))

    def of_share(hits: int, cases: int) -> float:
        return math.sqrt(hits * (cases - hits) / cases**3)

    def of_median(values: list[float]) -> float:
        """Standard deviation of medians of all bootstrap samples; for even n by an integral."""
        if len(values) % 2:
            medians = [statistics.median(draw) for draw in itertools.product(values, repeat=n)]
            return statistics.pstdev(medians)
        half = (len(values) + 1) / 2
        ends = stats.beta(half, half).cdf([k / n for k in range(n + 1)])
        shares = [b - a for a, b in itertools.pairwise(ends)]
        center = sum(p * v for p, v in zip(shares, sorted(values), strict=True))
        return math.sqrt(
            sum(p * (v - center) ** 2 for p, v in zip(shares, sorted(values), strict=True))
        )

    def crps_of_normal(mean: float, sd: float, value: float) -> float:
        below = integrate.quad(lambda x: stats.norm.cdf(x, mean, sd) ** 2, -60, value)[0]
        return below + integrate.quad(lambda x: stats.norm.sf(x, mean, sd) ** 2, value, 60)[0]

    def covers(mean: float, sd: float, value: float) -> bool:
        return abs(mean - value) <= 1.959963984540054 * sd

    error = [t - truth for t in given["second"]]
    error_first = [t - truth for t in given["first"]]
    square, square_first = [e * e for e in error], [e * e for e in error_first]
    variance = [sd * sd for sd in given["sd_second"]]
    mean_square, mean_variance = sum(square) / n, sum(variance) / n
    s = statistics.stdev(error)
    ratio = (statistics.stdev(error_first) / s) ** 2
    rho = statistics.correlation(error_first, error)
    width = [2 * 1.959963984540054 * sd for sd in given["sd_second"]]
    width_first = [2 * 1.959963984540054 * sd for sd in given["sd_first"]]
    fits = list(zip(given["second"], given["sd_second"], strict=True))
    hit = [covers(t, sd, truth) for t, sd in fits]
    fits_first = zip(given["first"], given["sd_first"], strict=True)
    hit_first = [covers(t, sd, truth) for t, sd in fits_first]
    rejected, rejected_first = ([p < 0.05 for p in given[k]] for k in ("p_second", "p_first"))
    found = [t for t, one in zip(given["second"], rejected, strict=True) if one]
    center = truth + sum(error) / n
    p_low, p_next = sorted(given["p_null"])[:2]
    limit = p_low + 0.05 * (n - 1) * (p_next - p_low)

    def paired(second: list[Any], first: list[Any]) -> float:
        return of_mean([float(b) - float(a) for b, a in zip(second, first, strict=True)])

    of_model_se = of_mean(variance) / (2 * math.sqrt(mean_variance))
    relative = math.sqrt(mean_variance) / s
    return {
        "mean": of_mean(given["second"]),
        "bias": of_mean(error),
        "relative_bias": of_mean(error) / truth,
        "empirical_se": s / math.sqrt(2 * (n - 1)),
        "mse": of_mean(square),
        "rmse": of_mean(square) / (2 * math.sqrt(mean_square)),
        "model_se": of_model_se,
        "relative_error_se": 100
        * relative
        * math.sqrt((of_model_se / math.sqrt(mean_variance)) ** 2 + 1 / (2 * (n - 1))),
        "relative_precision": 200 * ratio * math.sqrt((1 - rho**2) / (n - 2)),
        "coverage": of_share(sum(hit), n),
        "be_coverage": of_share(sum(covers(t, sd, center) for t, sd in fits), n),
        "rejection": of_share(sum(rejected), n),
        "interval_width": of_mean(width),
        "type_s": of_share(sum(t < 0 for t in found), len(found)),
        "exaggeration": of_mean([abs(t) / truth for t in found]),
        "size_adjusted_power": of_share(sum(p < limit for p in given["p_second"]), n),
        "difference_bias": paired(error, error_first),
        "difference_mse": paired(square, square_first),
        "difference_coverage": paired(hit, hit_first),
        "difference_rejection": paired(rejected, rejected_first),
        "difference_width": paired(width, width_first),
        "contraction": of_mean(given["contraction"]),
        "ess_per_second": of_mean(
            [e / t for e, t in zip(given["ess_bulk"], given["seconds"], strict=True)]
        ),
        "median": of_median(given["second"]),
        "median_bias": of_median(error),
        "trimmed_bias": of_mean(error),  # a tenth of five is none
        "winsorised_bias": of_mean(error),
        "mean_absolute_error": of_mean([abs(e) for e in error]),
        "mean_variance": of_mean(variance),
        "median_variance": of_median(variance),
        "interval_score": of_mean(
            [
                w + 40 * max(0.0, abs(t - truth) - w / 2)
                for w, (t, _) in zip(width, fits, strict=True)
            ]
        ),
        "crps": of_mean([crps_of_normal(t, sd, truth) for t, sd in fits]),
        "convergence": of_share(n, n + 1),
        "seconds": of_mean([*given["seconds"], 8.0]),
    }


@pytest.mark.parametrize("n", [4, 5])
def test_monte_carlo_errors_of_few_replications(n: int) -> None:
    """Few, so that n - 1 or n - 2 in a formula is not n."""
    given = few(n)
    by_hand, out = errors_by_hand(given), scores_of(given)
    assert set(by_hand) == {name for name, measure in MEASURES.items() if not measure.prefix}
    for name, wanted in by_hand.items():
        assert wanted > 0, name
        rel = 1e-7 if name == "crps" else 1e-10 if "median" in name else 1e-12  # by integrals
        assert value(out, name, "mcse") == pytest.approx(wanted, rel=rel), name


@pytest.mark.parametrize("n", [4, 5])
def test_monte_carlo_error_of_a_selection(n: int) -> None:
    chosen = [1.0, 0.0, 1.0, 0.0, 1.0][:n]
    out = performance(table(mean=chosen, parameter="choice[a]"))
    wanted = math.sqrt(sum(chosen) * (n - sum(chosen)) / n**3)
    assert value(out, "selection", "mcse") == pytest.approx(wanted, rel=1e-12)


# -- closed forms ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "expected"),
    [(5, [0.050, 0.098, 0.144, 0.258, 0.381]), (10, [0.050, 0.155, 0.242, 0.403, 0.535])],
)
def test_closed_form_2(n: int, expected: list[float]) -> None:
    found = [disaggregation_type1(n, rho) for rho in (0, 0.1, 0.2, 0.5, 1)]
    np.testing.assert_allclose(found, expected, atol=6e-4)


@pytest.mark.parametrize(
    ("variance", "n", "rho", "z", "x"),
    [
        (4, 10, 0.3, 9.16, -30.53),
        (4, 40, 0.3, 2.97, -9.90),
        (9, 10, 0.3, 14.92, -49.72),
        (9, 40, 0.3, 5.95, -19.82),
        (4, 10, 0, 0, -28.57),
        (4, 40, 0, 0, -9.09),
        (9, 10, 0, 0, -47.37),
        (9, 40, 0, 0, -18.37),
    ],
)
def test_closed_form_3(variance: float, n: int, rho: float, z: float, x: float) -> None:
    covariance = np.array([[1, rho], [rho, 1]])
    found = aggregation_bias(covariance, np.array([0.3, 0.3]), np.array([0, variance / n]))
    np.testing.assert_allclose(100 * found, [z, x], atol=0.006)


def test_closed_form_4_without_sharing_is_nominal() -> None:
    rng = np.random.default_rng(1)
    matrix = np.column_stack([np.ones(50), rng.standard_normal(50)])
    assert shared_members_size(matrix, 2.5 * np.eye(50), 1) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("members", "groups", "sd", "published"),
    [
        (50, 200, 1, 0.174),
        (50, 200, 2, 0.255),
        (50, 500, 1, 0.318),
        (200, 200, 1, 0.076),
        (20, 200, 1, 0.283),
    ],
)
def test_closed_form_4_over_designs(members: int, groups: int, sd: float, published: float) -> None:
    """The published values are of one drawn design each: they lie among those of our designs.

    The third, .318, is 2.9 standard deviations above the mean of our designs, .290.
    """
    config = {"kind": "synthetic", "groups": groups, "members": members, "size": 3}
    draw, _ = prepare_membership(config, Path())
    rng = np.random.default_rng(1)
    sizes = []
    for _ in range(60):
        drawn = draw(rng)
        shares = np.zeros((groups, members))
        shares[drawn.group, drawn.member] = 1 / 3
        matrix = np.column_stack([np.ones(groups), shares @ rng.standard_normal(members)])
        covariance = np.eye(groups) + sd**2 * shares @ shares.T
        sizes.append(shared_members_size(matrix, covariance, 1))
    assert abs(published - np.mean(sizes)) < 3 * np.std(sizes, ddof=1)


@pytest.mark.parametrize(
    ("members", "groups", "sd", "activity"), [(50, 200, 1, 0), (20, 200, 1, 1), (300, 100, 2, 0)]
)
def test_design_effect_of_shared_members_is_that_of_drawn_covariates(
    members: int, groups: int, sd: float, activity: float
) -> None:
    """Mean variance over covariates: the sandwich of V beside what least squares estimates.

    3,000 covariates; the comparison is at 4 Monte Carlo errors, false alarm below .001 in all.
    """
    config = {
        "kind": "synthetic", "groups": groups, "members": members, "size": 3, "activity": activity
    }  # fmt: skip
    draw, _ = prepare_membership(config, Path())
    rng = np.random.default_rng(3)
    drawn = draw(rng)
    shares = np.zeros((groups, members))
    shares[drawn.group, drawn.member] = 1 / 3
    centred = shares - shares.mean(axis=0)
    x = centred @ rng.standard_normal((members, 3000))
    covariance = np.eye(groups) + sd**2 * shares @ shares.T
    own = np.eye(groups) - 1 / groups
    top = np.sum(x * (covariance @ x), axis=0)
    below = np.sum(x**2, axis=0) * np.trace(own @ covariance) / (groups - 1)
    ratio = top.mean() / below.mean()
    errors = (top - ratio * below) / below.mean()
    found = shared_members_effect(shares, sd)
    assert abs(found.design_effect - ratio) < 4 * errors.std() / np.sqrt(len(errors))


def test_design_effect_of_identical_groups_is_that_of_clusters() -> None:
    """40 members alone in 5 groups each: Moulton's 1 + (m - 1) icc, nearly m = 5."""
    found = shared_members_effect(np.kron(np.eye(40), np.ones((5, 1))), 1.0)
    assert found.effective_members == pytest.approx(39)
    assert found.icc == pytest.approx(0.5, abs=0.01)
    assert found.design_effect == pytest.approx(1 + (199 / 39 - 1) * found.icc)
    alone = shared_members_effect(np.eye(60), 2.0)
    assert alone.design_effect == pytest.approx(1)
    assert alone.size() == pytest.approx(0.05)
