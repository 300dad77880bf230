"""Shares of factors in the differences of measures: against known decompositions, and pure noise.

Each statement about random numbers is a mean over many tables within 4 of its standard errors; the
seeds are fixed. With new seeds, one such check would fail by chance in 6 of 100,000 runs.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import performance, variance_shares
from rmm.study.estimate_tables.score_table import read_table_of
from rmm.study.estimate_tables.table_options import split_arguments
from rmm.study.measures.variance_shares import (
    CONFOUNDED,
    NOISE,
    REST,
    TOTAL,
    Share,
    decompose,
)
from rmm.study.report.data.explained import explained
from rmm.study.report.data.results import StudyResults, read_results
from rmm.study.report.data.table_results import table_results
from rmm.study.report.figures.factor_shares import factor_shares
from rmm.study.report.tables.explained_table import explained_table
from tests.study import test_method_factors

OF_A = np.array([-0.5, 0.0, 0.5])
OF_B = np.array([0.0, 0.2, 0.4, 0.2]) - 0.2
OF_AB = 0.1 * np.outer([1, -1, 0], [1, 0, -1, 0])
OF_C = np.array([-0.1, 0.1])
CELLS = list(itertools.product(range(3), range(4), range(2)))
LEVELS = {name: [cell[i] for cell in CELLS] for i, name in enumerate("abc")}
TRUE = np.array([OF_A[i] + OF_B[j] + OF_AB[i, j] + OF_C[k] for i, j, k in CELLS])
#: By hand: effects are centred and orthogonal, so their mean squares add up.
VARIANCES = {
    "a": (OF_A**2).mean(), "b": (OF_B**2).mean(), "c": (OF_C**2).mean(), "a x b": (OF_AB**2).mean(),
    "a x c": 0.0, "b x c": 0.0, REST: 0.0,
}  # fmt: skip
ERRORS = np.random.default_rng(1).uniform(0.1, 0.4, len(CELLS))


def by_source(shares: list[Share]) -> dict[str, Share]:
    return {one.source: one for one in shares}


def close(draws: np.ndarray[Any, Any], wanted: float) -> bool:
    """A mean of draws is within 4 standard errors of a number."""
    return abs(draws.mean() - wanted) <= 4 * draws.std(ddof=1) / np.sqrt(len(draws)) + 1e-12


def test_without_noise_the_decomposition_is_exact() -> None:
    found = by_source(decompose(TRUE, LEVELS, np.zeros((24, 24))))
    for source, variance in VARIANCES.items():
        assert found[source].variance == pytest.approx(variance, abs=1e-12)
        assert found[source].share == pytest.approx(variance / TRUE.var(), abs=1e-12)
    assert found[TOTAL].variance == pytest.approx(TRUE.var())
    assert found[NOISE].share == 0
    assert {s: found[s].df for s in ("a", "b", "c", "a x b", REST, TOTAL)} == {
        "a": 2, "b": 3, "c": 1, "a x b": 6, REST: 6, TOTAL: 23
    }  # fmt: skip


def test_estimates_recover_the_variances_and_know_their_errors() -> None:
    rng = np.random.default_rng(2)
    covariance = np.diag(ERRORS**2)
    tables = TRUE + ERRORS * rng.standard_normal((600, 24))
    found = [by_source(decompose(y, LEVELS, covariance)) for y in tables]
    for source, variance in VARIANCES.items():
        draws = np.array([one[source].variance for one in found])
        assert close(draws, variance), source
        # Their mean error is the spread of the estimates, or larger where it is of noise alone.
        claimed = np.sqrt(np.mean([one[source].variance_mcse ** 2 for one in found]))
        assert 0.9 * draws.std() < claimed < 1.6 * draws.std(), source
        shares = np.array([one[source].share for one in found])
        claimed = np.sqrt(np.mean([one[source].share_mcse ** 2 for one in found]))
        assert 0.85 * shares.std() < claimed < 1.7 * shares.std(), source
    sums = [sum(o.share for s, o in one.items() if s != TOTAL) for one in found]
    np.testing.assert_allclose(sums, 1)


def test_noise_alone_explains_nothing() -> None:
    """No source has a share on average, and its test rejects as often as it says."""
    rng = np.random.default_rng(3)
    covariance = np.diag(ERRORS**2)
    found = [
        by_source(decompose(ERRORS * rng.standard_normal(24), LEVELS, covariance))
        for _ in range(600)
    ]
    for source in VARIANCES:
        assert close(np.array([one[source].variance for one in found]), 0.0), source
        shares = np.array([one[source].share for one in found])
        assert abs(shares.mean()) < 0.06, source  # a ratio: not exactly unbiased
        rejected = sum(one[source].p_value < 0.05 for one in found)
        low, high = stats.binom.ppf([0.0005, 0.9995], 600, 0.05)
        assert low <= rejected <= high, source


def test_balanced_designs_agree_with_statsmodels() -> None:
    """With equal known errors the raw sums of squares are those of the usual table."""
    rng = np.random.default_rng(4)
    y = TRUE + 0.2 * rng.standard_normal(24)
    frame = pd.DataFrame(LEVELS).assign(y=y)
    usual = anova_lm(ols("y ~ (C(a) + C(b) + C(c))**2", frame).fit(), typ=2)["sum_sq"]
    found = by_source(decompose(y, LEVELS, 0.04 * np.eye(24)))
    names = {"a": "C(a)", "b": "C(b)", "c": "C(c)", "a x b": "C(a):C(b)", REST: "Residual"}
    for source, name in names.items():
        raw = 24 * found[source].variance + 0.04 * found[source].df
        assert raw == pytest.approx(usual[name]), source


def test_unbalanced_designs_agree_with_statsmodels() -> None:
    rng = np.random.default_rng(5)
    kept = np.sort(rng.choice(24, 19, replace=False))
    levels = {name: [column[i] for i in kept] for name, column in LEVELS.items()}
    y = TRUE[kept] + 0.2 * rng.standard_normal(19)
    frame = pd.DataFrame(levels).assign(y=y)
    usual = anova_lm(ols("y ~ (C(a) + C(b) + C(c))**2", frame).fit(), typ=2)["sum_sq"]
    found = by_source(decompose(y, levels, np.zeros((19, 19))))
    for source, name in {"a": "C(a)", "b": "C(b)", "c": "C(c)", "b x c": "C(b):C(c)"}.items():
        assert 19 * found[source].variance == pytest.approx(usual[name]), source
    assert sum(o.share for s, o in found.items() if s != TOTAL) == pytest.approx(1)
    assert CONFOUNDED in found


def test_errors_that_scenarios_share_are_not_differences() -> None:
    """Pairs of scenarios with the same data: the factor within pairs has no noise at all."""
    rng = np.random.default_rng(6)
    levels = {"data": [0, 0, 1, 1, 2, 2, 3, 3], "prior": [0, 1] * 4}
    covariance = np.kron(np.eye(4), np.ones((2, 2)))
    found = []
    for _ in range(300):
        y = np.repeat(rng.standard_normal(4), 2) + np.array([0.0, 0.1] * 4)
        found.append(by_source(decompose(y, levels, covariance)))
    prior = np.array([one["prior"].variance for one in found])
    np.testing.assert_allclose(prior, 0.05**2)
    assert close(np.array([one["data"].variance for one in found]), 0.0)


def test_many_numbers_have_two_directions() -> None:
    x = np.linspace(1, 5, 12)
    levels = {"x": x.tolist(), "z": [0, 1] * 6}
    found = by_source(decompose(x**2, levels, np.zeros((12, 12))))
    assert found["x"].df == 2
    assert found[REST].variance == pytest.approx(0, abs=1e-9)


def estimates(sets: int = 200) -> pd.DataFrame:
    """8 scenarios by 2 methods: the bias of `ols` depends on g, that of `mm` on nothing."""
    rng = np.random.default_rng(7)
    rows = [
        (g, h, m, i, 1 + 0.3 * g * (m == "ols") + e, 0.5)
        for g, h in itertools.product(range(4), "uv")
        for i, e in enumerate(rng.normal(0, 0.5, sets))
        for m in ("mm", "ols")
    ]
    return pd.DataFrame(rows, columns=["g", "h", "m", "i", "b", "se"])


COLUMNS = {"by": ["g", "h"], "method": "m", "replication": "i", "estimate": "b", "se": "se"}


def test_scores_of_a_table_are_explained() -> None:
    scores = performance(estimates(), truth=1, **COLUMNS)
    found = variance_shares(scores, ["g", "h"], ["bias", "coverage"])
    shares = found.set_index(["method", "measure", "source"])["share"]
    assert shares["ols", "bias", "g"] > 0.95 and shares["ols", "coverage", "g"] > 0.9
    errors = found.set_index(["method", "measure", "source"])["share_mcse"]
    assert abs(shares["mm", "bias", "g"]) < 3 * errors["mm", "bias", "g"]
    assert found["scenarios"].unique().tolist() == [8]


def test_rates_of_0_and_1_count() -> None:
    """A rate of 1 has no Monte Carlo error, but its scenario is not left out."""
    frame = estimates(50)
    frame.loc[frame["g"] == 0, "se"] = 100.0
    scores = performance(frame, truth=1, measures=["coverage"], **COLUMNS)
    assert (scores.loc[scores["g"] == 0, "value"] == 1).all()
    found = variance_shares(scores, ["g", "h"], ["coverage"])
    assert found["scenarios"].unique().tolist() == [8]


def test_errors_say_what_is_wrong() -> None:
    scores = performance(estimates(10), truth=1, **COLUMNS)
    with pytest.raises(StudyError, match=r"'k' is not a column of the scores"):
        variance_shares(scores, ["g", "k"])
    with pytest.raises(StudyError, match=r"'bia' is not a measure.*bias"):
        variance_shares(scores, ["g", "h"], ["bia"])
    with pytest.raises(StudyError, match=r"No measure of bias has values"):
        variance_shares(scores.query("g == 0"), ["g", "h"], ["bias"])


def test_the_report_and_the_command_show_the_same_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, options = split_arguments({**COLUMNS, "truth": 1})
    results = table_results(read_table_of(estimates(), columns, options), options, "t")
    table = explained_table(results)[0]
    scores = performance(estimates(), truth=1, **COLUMNS)
    wanted = variance_shares(scores, ["g", "h"])
    shown = {(r[0].value, r[1].value, r[2].value): r[4].value for r in table.rows}
    assert len(shown) == len(wanted)
    for row in wanted.to_dict("records"):
        key = (row["method"], row["measure"], row["source"])
        assert shown[key] == pytest.approx(row["share"])
    panels = factor_shares(results)[0].panels
    rates = ["Coverage of intervals, α = 0.05", "Rejection rate, α = 0.05"]
    assert [p.title for p in panels] == ["Bias", *rates]
    estimates().to_csv(tmp_path / "t.csv", index=False)
    arguments = ["--by", "g", "h", "--method", "m", "--replication", "i", "--estimate", "b"]
    arguments += ["--se", "se", "--truth", "1", "--measures", "bias"]
    assert main(["study", "explain", str(tmp_path / "t.csv"), *arguments]) == 0
    share = 100 * shown["ols", "bias", "g"]
    assert f" {share:.1f} (" in capsys.readouterr().out


def test_small_studies_have_no_such_table() -> None:
    columns, options = split_arguments({**COLUMNS, "truth": 1})
    frame = estimates(10).query("g < 2")
    results = table_results(read_table_of(frame, columns, options), options, "t")
    assert explained_table(results) == [] and factor_shares(results) == []


def test_scenarios_of_the_same_data_are_taken_as_such(tmp_path: Path) -> None:
    """A method without the varied key has the same estimates: its share of the factor is 0."""
    vary = test_method_factors.OVERLAP | test_method_factors.PRIORS
    study = test_method_factors.load(tmp_path, vary=vary, replications=20)
    folder = tmp_path / "out"
    test_method_factors.run(study, folder)
    from rmm.study import write_performance

    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    results = read_results(study, folder)
    assert isinstance(results, StudyResults)
    found = explained(results, ["bias"]).set_index(["method", "source"])
    assert found.loc[("agg", "priors"), "variance"] == pytest.approx(0, abs=1e-12)
    assert found.loc[("m.m", "priors"), "share"] > 0.9
    with pytest.raises(StudyError, match=r"rmse is no mean over data sets"):
        explained(results, ["rmse"])
