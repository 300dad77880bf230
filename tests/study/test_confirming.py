"""Methods that confirm others: differences on the same data sets, verdicts, their table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rmm.study import load_study
from rmm.study.evaluate.engine_agreement import (
    COLUMNS,
    LEAST,
    TOO_FEW,
    confirmations,
    mean_difference,
    verdict,
)
from rmm.study.report import write_report
from tests import ROOT, invented
from tests.results import both_pages

PAIR = [("fast", "slow")]


def rows(method: str, means: list[float], sd: float, **more: object) -> pd.DataFrame:
    """Fits of replications 1, 2, ... of one scenario."""
    mean = np.array(means)
    table = pd.DataFrame(
        {
            "scenario": "s1",
            "method": method,
            "parameter": "b_l1[x]",
            "replication": np.arange(1, len(means) + 1),
            "mean": mean,
            "sd": sd,
            "lower": mean - 2 * sd,
            "upper": mean + 2 * sd,
            "status": "ok",
            "p_value": np.nan,
        }
    )
    return table.assign(**more)


def frame(method: str, mean: np.ndarray, sd: np.ndarray, parameter: str) -> pd.DataFrame:
    """Usable fits of one parameter with the given means and standard deviations."""
    return rows(method, list(mean), 1.0, parameter=parameter).assign(sd=sd)


def test_the_quick_start_with_stan_has_data_sets_of_the_quick_start() -> None:
    quick, stan = (
        load_study(ROOT / "config" / "studies" / f"{name}.yaml")
        for name in ("quickstart", "quickstart_stan")
    )
    assert stan.seed == quick.seed
    assert [s.digest for s in stan.scenarios] == [s.digest for s in quick.scenarios]
    assert [s.fixed_digests for s in stan.scenarios] == [s.fixed_digests for s in quick.scenarios]
    assert [m.digest for m in stan.methods[:4]] == [m.digest for m in quick.methods[:4]]
    assert stan.estimands == quick.estimands
    for study, engine in ((quick, "jags"), (stan, "stan")):
        others = [m for m in study.methods if m.config.get("confirms")]
        assert [m.config["confirms"] for m in others] == ["mm", "mmmm"]
        assert {m.backend for m in others} == {engine}
        assert min(m.replications or 0 for m in others) > LEAST


def test_differences_are_those_of_pairs() -> None:
    fast = rows("fast", [0.0, 1.0, 3.0, 9.0], 1.1)
    slow = rows("slow", [0.2, 1.0, 2.0], 1.0)
    found = confirmations(pd.concat([fast, slow]), PAIR, {"b_l1[x]": 0.0})
    assert list(found.columns) == COLUMNS
    (row,) = found.to_dict("records")
    assert (row["asked"], row["n"], row["dropped"]) == (3, 3, 0)
    expected = stats.ttest_rel([0.0, 1.0, 3.0], [0.2, 1.0, 2.0])
    low, high = expected.confidence_interval(0.95)
    assert row["shift"] == pytest.approx(0.8 / 3)
    assert (row["shift_lower"], row["shift_upper"]) == pytest.approx((low, high))
    assert row["shift_p"] == pytest.approx(expected.pvalue)
    assert [row[f"sd_ratio{end}"] for end in ("", "_lower", "_upper")] == pytest.approx([1.1] * 3)
    # 3 - 2.2 excludes 0; 2 - 2 does not.
    assert (row["rejections"], row["confirming_rejections"]) == (1, 0)
    assert row["shift_verdict"] == row["sd_ratio_verdict"] == TOO_FEW


def test_p_values_decide_where_there_are_any() -> None:
    fast = rows("fast", [9.0, 9.0], 1.0, p_value=[0.2, 0.01])
    slow = rows("slow", [0.0, 0.0], 1.0, p_value=[0.04, 0.06])
    (row,) = confirmations(pd.concat([fast, slow]), PAIR, {"b_l1[x]": 0.0}).to_dict("records")
    assert (row["rejections"], row["confirming_rejections"]) == (1, 1)


def test_only_fits_that_both_can_use_count() -> None:
    fast = rows("fast", [0.0, 5.0, 0.0], 1.0, status=["ok", "not_converged", "ok"])
    slow = rows("slow", [0.0, 0.0, 7.0], 1.0, status=["ok", "ok", "failed"])
    table = pd.concat([fast, slow])
    (row,) = confirmations(table, PAIR, {"b_l1[x]": 0.0}, ["b_l1[x]"]).to_dict("records")
    assert (row["asked"], row["n"], row["shift"]) == (3, 1, 0)
    assert row["dropped"] == pytest.approx(2 / 3)
    assert np.isnan([row["shift_lower"], row["rejections"]]).all()
    assert confirmations(table, [("fast", "other")], {"b_l1[x]": 0.0}).empty


def test_a_parameter_without_any_estimate_is_not_compared() -> None:
    """Weights of a model with known weights: failed fits have a row of every estimand."""
    none = {"parameter": "b_w[b1]", "status": "failed"}
    table = pd.concat([rows(m, [np.nan] * 12, np.nan, **none) for m in ("fast", "slow")])
    assert confirmations(table, PAIR, {"b_w[b1]": 0.0}).empty


def compared(shifts: np.ndarray, ratios: np.ndarray, parameter: str = "b") -> pd.DataFrame:
    """Two engines whose posteriors differ as given, data set by data set."""
    rng = np.random.default_rng(1)
    means, sds = rng.normal(0, 1, len(shifts)), rng.gamma(20, 0.05, len(shifts))
    slow = frame("slow", means, sds, parameter)
    return pd.concat([frame("fast", means + shifts * sds, sds * ratios, parameter), slow])


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    return confirmations(table, PAIR, {str(p): 0.0 for p in table["parameter"].unique()})


@pytest.mark.parametrize(
    ("shift", "ratio", "n", "expected"),
    [
        (0.0, 1.0, 30, ("agree", "agree")),
        (0.3, 1.2, 30, ("differ", "differ")),
        (-0.3, 1 / 1.2, 30, ("differ", "differ")),
        # Clearly not 0, but too small to matter.
        (0.05, 1.03, 400, ("agree", "agree")),
        (0.1, 1.05, 30, ("undecided", "undecided")),
        (0.3, 1.2, 9, (TOO_FEW, TOO_FEW)),
    ],
)
def test_verdicts(shift: float, ratio: float, n: int, expected: tuple[str, str]) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.1, n), np.exp(rng.normal(0, 0.04, n))
    noise = noise[0] - noise[0].mean(), noise[1] / np.exp(np.log(noise[1]).mean())
    (row,) = verdicts(compared(shift + noise[0], ratio * noise[1])).to_dict("records")
    assert (row["shift_verdict"], row["sd_ratio_verdict"]) == expected


def test_two_data_sets_never_differ() -> None:
    """However far apart and however alike: chance at n = 2 was once called a disagreement."""
    (row,) = verdicts(compared(np.array([2.0, 2.0001]), np.array([3.0, 3.0]))).to_dict("records")
    assert row["shift_p"] < 0.001
    assert row["shift_verdict"] == row["sd_ratio_verdict"] == TOO_FEW


def test_p_values_are_corrected_over_all_comparisons() -> None:
    rng = np.random.default_rng(7)
    table = pd.concat(
        [
            compared(rng.normal(0.12, 0.2, 20), np.exp(rng.normal(0, 0.1, 20)), f"b{i}")
            for i in range(5)
        ]
    )
    few = compared(rng.normal(9, 0.1, 5), np.ones(5), "few")  # not judged, so not counted
    found = verdicts(pd.concat([table, few])).set_index("parameter")
    judged = found.drop("few")
    p = np.r_[judged["shift_p"], judged["sd_ratio_p"]]
    order = np.argsort(p)
    by_hand = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    adjusted = np.r_[judged["shift_p_holm"], judged["sd_ratio_p_holm"]]
    np.testing.assert_allclose(adjusted[order], by_hand)
    assert np.isnan(found.loc["few", "shift_p_holm"])


@pytest.mark.thorough
def test_equal_engines_differ_in_at_most_1_of_100_reports() -> None:
    """100 reports of 6 parameters at 15 data sets whose differences are noise around 0.

    At most 1% may call a difference; 5 or more of 100 have a probability of 0.003 at 1%.
    The noise is large: estimates beyond the margins are common, verdicts are not.
    """
    rng = np.random.default_rng(11)
    false = outside = 0
    for _ in range(100):
        differences = [rng.normal(0, 0.5, 15) for _ in range(6)]
        found = [mean_difference(d) for d in differences]
        adjusted = multipletests([f.p for f in found], method="holm")[1]
        called = [verdict(f, p, 0.1, 15) for f, p in zip(found, adjusted, strict=True)]
        false += "differ" in called
        outside += any(abs(f.estimate) > 0.1 for f in found)
    assert false <= 4
    assert outside > 75


def test_an_engine_that_is_off_by_half_a_deviation_is_found() -> None:
    rng = np.random.default_rng(13)
    found = [mean_difference(rng.normal(0.5, 0.3, 15)) for _ in range(100)]
    assert sum(verdict(f, 36 * f.p, 0.1, 15) == "differ" for f in found) > 80


def test_an_engine_agrees_with_itself() -> None:
    table = compared(np.zeros(12), np.ones(12))
    (row,) = verdicts(table).to_dict("records")
    assert row["shift_verdict"] == row["sd_ratio_verdict"] == "agree"
    assert row["shift_p"] == 1


@pytest.mark.thorough
def test_the_report_has_a_table_of_confirmations(tmp_path: Path) -> None:
    factors = {"overlap": [0.0, 1.0]}
    study, folder = invented.write_study(tmp_path / "made", factors, ["fast", "slow"])
    write_report(study, folder)
    made = folder / "report" / "tables" / "confirmation.csv"
    assert not made.exists()
    fast, slow = study.methods
    confirming = replace(slow, config={**slow.config, "confirms": "fast"})
    page = both_pages(write_report(replace(study, methods=(fast, confirming)), folder))
    assert "Confirmed by another engine" in page
    assert "No verdict below 10 data sets" in page
    with made.open() as file:
        table = list(csv.DictReader(file))
    assert [row["overlap"] for row in table] == ["0.0", "1.0"]
    assert all(30 < int(row["n"]) < 40 for row in table)
    assert all(0 < float(row["dropped"]) < 0.25 for row in table)
    words = {row["shift_verdict"] for row in table} | {row["sd_ratio_verdict"] for row in table}
    assert words <= {"agree", "differ", "undecided"}
    for row in table:
        low, high = (float(end) for end in row["shift_interval"].strip("[]").split(","))
        assert low < float(row["shift"]) < high
