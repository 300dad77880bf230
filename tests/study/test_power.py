"""Power curves and the search of a size, against closed forms at stated false-alarm rates."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import optimize, stats

from rmm.cli import main
from rmm.errors import StudyError
from rmm.posterior.plots.style import looks_of
from rmm.study import Study, collect, load_study, plan, run_batch, write_design, write_performance
from rmm.study.design.power_rule import Search
from rmm.study.evaluate.power import power_curves, write_power
from rmm.study.measures.power_curve import Size, bracket, fit_curve
from rmm.study.planning.size_search import Round, search_size
from rmm.study.planning.size_search_fits import round_words, scenario_at, search_study
from rmm.study.report.data.results import read_results
from rmm.study.report.figures.chart import Pen, draw
from rmm.study.report.figures.power_figures import power_curves as power_charts

CONFIG: dict[str, Any] = {
    "seed": 3,
    "replications": 40,
    "batch": 20,
    "membership": {"kind": "synthetic", "groups": 40, "size": 1, "overlap": 0.0},
    "covariates": {"z": {"level": "group"}},
    "truth": {
        "formula": "y ~ 1 + z + mm(id(member, group), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l2[z]": 0.4, "sigma_l1": 0.6, "sigma_l2": 0.8},
    },
    "vary": {
        "effect": {"path": "truth.parameters.b_l2[z]", "values": [0, 0.4]},
        "groups": {"path": "membership.groups", "values": [20, 40, 80]},
    },
    "methods": [
        {"name": "ols", "kind": "aggregation"},
        {"name": "robust", "kind": "aggregation", "errors": "robust"},
    ],
    "estimands": [{"parameter": "b_l2[z]", "alpha": [0.05, 0.01]}],
    "power": {
        "parameter": "b_l2[z]",
        "size": "groups",
        "methods": ["ols"],
        "search": {"low": 10, "high": 300, "precision": 0.1, "maximum": 3000},
    },
}


def load(folder: Path, **changes: Any) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pow.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(CONFIG) | changes, sort_keys=False))
    return load_study(path)


def run(study: Study, out: Path) -> pd.DataFrame:
    write_design(study, out)
    paths = [out / job.path for job in plan(study)]
    for job, path in zip(plan(study), paths, strict=True):
        run_batch(study, job.scenario, job.method, job.first, job.last, path)
    collect(study, paths, out / "estimates.parquet")
    return write_performance(study, out / "estimates.parquet", out / "performance.parquet")


# -- curves ----------------------------------------------------------------------------------

DELTA = 0.2


def z_test(n: float) -> float:
    """Power of a two-sided z test at alpha .05 with n observations and the effect DELTA."""
    shift, z = DELTA * np.sqrt(n), stats.norm.ppf(0.975)
    return float(stats.norm.cdf(shift - z) + stats.norm.cdf(-shift - z))


Z_SIZE = optimize.brentq(lambda n: z_test(n) - 0.8, 1, 5000)


def within(share: float, p: float, n: int) -> bool:
    """Whether a share of n is where one with probability p is in 999 of 1,000 cases."""
    low, high = stats.binom.ppf([0.0005, 0.9995], n, p) / n
    return bool(low <= share <= high)


def test_the_curve_is_the_likelihoods_best() -> None:
    sizes, hits, trials = [50, 100, 200, 400], [40, 95, 160, 198], [200, 200, 200, 200]
    curve = fit_curve(sizes, hits, trials)
    assert curve is not None

    def loss(beta: Any) -> float:
        p = stats.norm.cdf(beta[0] + beta[1] * np.sqrt(sizes))
        return -float(stats.binom.logpmf(hits, trials, p).sum())

    best = optimize.minimize(
        loss, [0.0, 0.1], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}
    )
    np.testing.assert_allclose([curve.intercept, curve.slope], best.x, rtol=1e-5)
    rates = np.array(hits) / np.array(trials)
    deviance = 2 * (best.fun + stats.binom.logpmf(hits, trials, rates).sum())
    assert curve.deviance == pytest.approx(deviance, abs=1e-6)
    assert curve.p_fit == pytest.approx(stats.chi2.sf(deviance, 2), abs=1e-6)
    matrix = np.column_stack([np.ones(4), np.sqrt(sizes)])
    eta = matrix @ best.x
    p = stats.norm.cdf(eta)
    weights = 200 * stats.norm.pdf(eta) ** 2 / (p * (1 - p))  # expected information
    expected = np.linalg.inv(matrix.T @ (weights[:, None] * matrix))
    np.testing.assert_allclose(curve.covariance, expected, rtol=1e-4)


def test_the_interval_of_the_size_is_where_the_band_crosses() -> None:
    curve = fit_curve([50, 100, 200, 400], [40, 95, 160, 198], [200] * 4)
    assert curve is not None
    size = curve.size(0.8)
    power, low, high = curve.at([size.value, size.low, size.high])
    assert power[0] == pytest.approx(0.8)
    assert high[1] == pytest.approx(0.8)  # the upper edge reaches the target first
    assert low[2] == pytest.approx(0.8)


@pytest.mark.thorough
def test_sizes_of_a_z_test_are_covered_and_curves_that_are_right_are_trusted() -> None:
    """400 studies of a z test; false alarm of each assertion 1 in 1,000."""
    rng = np.random.default_rng(7)
    sizes, runs = [50, 100, 200, 300], 400
    covered = doubted = 0
    for _ in range(runs):
        curve = fit_curve(sizes, rng.binomial(500, [z_test(n) for n in sizes]), [500] * 4)
        assert curve is not None
        size = curve.size(0.8)
        covered += size.low <= Z_SIZE <= size.high
        doubted += not curve.trusted
    assert within(covered / runs, 0.95, runs)
    assert within(doubted / runs, 0.01, runs)


def test_a_curve_that_is_wrong_is_not_trusted() -> None:
    """Power that levels off at a half, as where a share of the fits can never reject."""
    sizes = [50, 100, 200, 400, 800]
    hits = [round(1000 * 0.5 * z_test(3 * n)) for n in sizes]
    curve = fit_curve(sizes, hits, [1000] * 5)
    assert curve is not None
    assert not curve.trusted


def test_nothing_is_claimed_beyond_the_studied_sizes() -> None:
    rates = {n: z_test(n) for n in (50, 100, 150)}
    curve = fit_curve(list(rates), [round(2000 * p) for p in rates.values()], [2000] * 3)
    assert curve is not None
    assert curve.size(0.99).words() == "above 150"
    assert curve.size(0.05).words() == "below 50"
    half = curve.size(0.5)
    true = optimize.brentq(lambda n: z_test(n) - 0.5, 1, 5000)
    assert half.words() == f"{math.ceil(half.value)} (92 to 100)"
    assert half.value == pytest.approx(true, rel=0.01)
    edge = fit_curve([50, 100, 200], [30, 60, 80], [100] * 3)
    assert edge is not None
    assert edge.size(0.8).words().endswith(" to above 200)")
    assert Size(math.nan, -math.inf, math.inf, (50, 200)).words() == "not known"


@pytest.mark.parametrize(
    ("hits", "words"),
    [
        ([0, 0, 100], "between 100 and 200"),
        ([100, 100, 100], "below 50"),
        ([0, 0, 0], "above 200"),
        ([0, 60, 100], "between 50 and 100"),  # no finite slope is best, though 60 is mixed
        ([95, 100, 100], "below 50"),
    ],
)
def test_points_without_a_curve_bracket_the_size(hits: list[int], words: str) -> None:
    target = 0.5 if hits[1] == 60 else 0.8
    assert fit_curve([50, 100, 200], hits, [100] * 3) is None
    assert bracket([50, 100, 200], hits, [100] * 3, target).words() == words


def test_a_curve_without_a_slope_has_no_size() -> None:
    curve = fit_curve([50, 100, 200], [50, 52, 49], [100] * 3)
    assert curve is not None
    assert curve.size(0.8).words() == "not known"


# -- power studies ---------------------------------------------------------------------------


def test_points_are_the_rejections_of_usable_fits(tmp_path: Path) -> None:
    study = load(tmp_path)
    scores = run(study, tmp_path / "out")
    (found,) = power_curves(study, scores)  # no curve where the null is true, and ols alone
    assert (found.method, dict(found.setting)) == ("ols", {"effect": 0.4})
    estimates = pd.read_parquet(tmp_path / "out" / "estimates.parquet")
    mine = estimates.query("method == 'ols' and parameter == 'b_l2[z]'")
    for point in found.points:
        scenario = study.scenario(point.scenario)
        assert scenario.factors == {"effect": 0.4, "groups": point.size}
        p = mine.loc[mine["scenario"] == point.scenario, "p_value"]
        assert (point.hits, point.n) == ((p < 0.05).sum(), 40)
    assert found.curve is not None
    assert found.curve.df == 1


def test_power_parquet_and_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = load(tmp_path), tmp_path / "results" / "pow"
    run(study, out)
    (found,) = write_power(study, out / "performance.parquet", out / "power.parquet")
    table = pd.read_parquet(out / "power.parquet")
    assert table["kind"].value_counts().to_dict() == {"curve": 61, "point": 3, "size": 1}
    size = table[table["kind"] == "size"].iloc[0]
    assert size["size"] == found.size(0.8).value
    curve = table[table["kind"] == "curve"]
    assert curve["power"].is_monotonic_increasing
    assert (curve["low"] < curve["power"]).all()
    arguments = ["study", "power", str(study.file), "--results", str(tmp_path / "results")]
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["curves"][0]["size"] == found.size(0.8).value
    assert main([*arguments, "--target", "0.5"]) == 0
    said = capsys.readouterr().out
    assert found.size(0.5).words() in said
    assert main([*arguments, "--target", "2"]) == 2
    assert "--target must be between 0 and 1, not 2" in capsys.readouterr().err


def test_the_figure_has_points_curves_and_the_target(tmp_path: Path) -> None:
    study = load(tmp_path)
    run(study, tmp_path / "out")
    results = read_results(study, tmp_path / "out")
    (chart,) = power_charts(results)
    figure = draw(chart, Pen(looks_of(results.methods)))
    cell = figure.axes[0]
    (found,) = power_curves(study, read_results(study, tmp_path / "out").performance)
    xs = [line.get_xdata() for line in cell.lines]
    assert any(list(x) == [20, 40, 80] for x in xs)
    drawn = max(cell.lines, key=lambda line: len(line.get_xdata()))
    np.testing.assert_allclose(drawn.get_xdata()[[0, -1]], [20, 80])
    assert any(np.allclose(line.get_ydata(), 0.8) for line in cell.lines)
    assert cell.get_title() == "effect 0.4"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        found.method,
        "target power",
    ]
    assert chart.panels[0].where == (results.filters.level("effect", 0.4),)


def test_a_method_whose_fits_all_failed_has_no_power(tmp_path: Path) -> None:
    study = load(tmp_path)
    run(study, tmp_path / "out")
    path = tmp_path / "out" / "performance.parquet"
    scores = pd.read_parquet(path)
    scores.loc[scores["measure"] == "rejection", ["value", "mcse", "n"]] = [np.nan, np.nan, 0]
    (found,) = power_curves(study, scores)
    assert found.curve is None
    assert all(math.isnan(p.power) for p in found.points)
    assert found.size(0.8).words() == "not known"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "parameter": ({"parameter": "b_l2[x]"}, r"power\.parameter\n.*'b_l2\[x\]' is not an estimand"),
    "alpha": ({"alpha": 0.1}, r"power\.alpha\n.*0\.1 is not .*`alpha` .*\n.*0\.05, 0\.01"),
    "size": ({"size": "overlap"}, r"power\.size\n.*'overlap' is not a factor"),
    "size of words": (
        {"size": "effect"},
        r"effect\.values\[0\]\n.* 0\n.*a whole number of at least 1\n",
    ),
    "methods": ({"methods": ["mm"]}, r"power\.methods\[0\]\n.*'mm' is not a method"),
    "search": (
        {"search": {"low": 50, "high": 20}},
        r"power\.search\.high\n.*20\n.*above `low`, which is 50",
    ),
    "start": (
        {"search": {"low": 5, "high": 20, "start": 30}},
        r"power\.search\.start\n.*30\n.*5 to 20",
    ),
}


def test_what_is_never_zero_has_no_power(tmp_path: Path) -> None:
    estimands = [{"parameter": "sigma_l2"}, {"parameter": "b_l2[z]"}]
    power = CONFIG["power"] | {"parameter": "sigma_l2"}
    with pytest.raises(
        StudyError, match=r"power\.parameter\n.*sigma_l2 has no test.*\n  Allowed: b_l2\[z\]"
    ):
        load(tmp_path, power=power, estimands=estimands)
    estimands[0]["null"] = 0.5
    assert load(tmp_path, power=power, estimands=estimands).power is not None


@pytest.mark.parametrize("case", BAD)
def test_bad_power_gets_a_message(case: str, tmp_path: Path) -> None:
    change, match = BAD[case]
    with pytest.raises(StudyError, match=match):
        load(tmp_path, power=CONFIG["power"] | change)


def test_power_of_another_study_is_refused(tmp_path: Path) -> None:
    config = {k: v for k, v in CONFIG.items() if k != "power"}
    path = tmp_path / "pow.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(StudyError, match=r"power\n  `power` is missing"):
        search_study(load_study(path), tmp_path / "out")
    power = {k: v for k, v in CONFIG["power"].items() if k != "search"}
    with pytest.raises(StudyError, match=r"power\.search\n  `power\.search` is missing"):
        search_study(load(tmp_path, power=power), tmp_path / "out")


# -- search ----------------------------------------------------------------------------------


class Simulated:
    """A z test whose replications are kept, as a study keeps them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.kept: dict[int, tuple[int, int]] = {}

    def __call__(self, wanted: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        for size, count in wanted.items():
            hits, n = self.kept.get(size, (0, 0))
            self.kept[size] = (hits + int(self.rng.binomial(count - n, z_test(size))), count)
        return {size: self.kept[size] for size in wanted}


@pytest.mark.thorough
def test_searches_of_a_z_test_cover_its_size() -> None:
    """150 searches from a bad start; false alarm 1 in 1,000 were the coverage 95%."""
    rule, runs, covered = Search(20, 1000, 600, 0.06, 200, 20_000), 150, 0
    for seed in range(runs):
        found = search_size(Simulated(seed), rule, 0.8)
        assert found.reason == "precise"
        assert found.last.width <= 0.06
        covered += found.last.low <= Z_SIZE <= found.last.high
    assert within(covered / runs, 0.95, runs)


@pytest.mark.parametrize(
    ("low", "high", "reason", "words"),
    [(300, 900, "below", "below 300"), (20, 120, "above", "above 120")],
)
def test_a_search_says_that_the_size_is_outside(
    low: int, high: int, reason: str, words: str
) -> None:
    found = search_size(Simulated(1), Search(low, high, (low + high) // 2, 0.05, 200, 9000), 0.8)
    assert (found.reason, found.words) == (reason, words)


def test_a_search_ends_at_its_most_fits() -> None:
    rounds: list[Round] = []
    found = search_size(Simulated(2), Search(20, 1000, 200, 0.01, 100, 450), 0.8, rounds.append)
    assert found.reason == "maximum"
    assert [r.fits for r in rounds] == [100, 200, 300, 400]
    assert "of ±1.0%, about" in round_words(rounds[-1], Search(20, 1000, 200, 0.01, 100, 450), 0.1)


def t_test(n: float, effect: float = 0.4, sd: float = 1.0, alpha: float = 0.05) -> float:
    """Power of the t test of a slope on a standard normal covariate, n observations.

    Given the covariate it is that of a noncentral t with effect sqrt(S) / sd, where S, the sum of
    squares about the mean, is chi-squared with n - 1 degrees of freedom.
    """
    centre = (np.arange(400) + 0.5) / 400
    shift = effect * np.sqrt(stats.chi2.ppf(centre, n - 1)) / sd
    critical = stats.t.ppf(1 - alpha / 2, n - 2)
    upper = stats.nct.sf(critical, n - 2, shift)
    return float(np.mean(upper + stats.nct.cdf(-critical, n - 2, shift)))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("search")
    facts = search_study(load(folder), folder / "out", say=lambda line: None)
    return folder, facts


def test_the_search_finds_the_size_of_a_t_test(searched: tuple[Path, dict[str, Any]]) -> None:
    """Within the interval at 99.9%, 1.68 times that at 95%: false alarm 1 in 1,000."""
    _, facts = searched
    (one,) = facts["results"]
    assert one["reason"] == "precise"
    true = optimize.brentq(lambda n: t_test(n) - 0.8, 10, 300)
    root = np.sqrt([one["low"], one["size"], one["high"]])
    wide = stats.norm.ppf(0.9995) / stats.norm.ppf(0.975)
    low, high = root[1] - wide * (root[1] - root[0]), root[1] + wide * (root[2] - root[1])
    assert low <= np.sqrt(true) <= high
    assert 50 < true < 54


def test_a_killed_search_gives_the_same_answer(
    searched: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, facts = searched
    study, out = load(tmp_path), tmp_path / "out"

    def killed(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt, match="round 1, 200 fits"):
        search_study(study, out, say=killed)
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    assert len(kept) == 3
    assert search_study(study, out, say=lambda line: None) == facts
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert json.loads((out / "search.json").read_text()) == facts
    # Asked for again: nothing is fitted.
    there = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    assert search_study(study, out, say=lambda line: None) == facts
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == there


@pytest.mark.thorough
def test_processes_change_no_number(searched: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, facts = searched
    assert search_study(load(tmp_path), tmp_path / "out", cores=2, say=lambda line: None) == facts


def test_sizes_that_the_study_has_are_its_scenarios(tmp_path: Path) -> None:
    study = load(tmp_path)
    for scenario in study.scenarios:
        setting = {"effect": scenario.factors["effect"]}
        again = scenario_at(study, scenario.factors["groups"], setting)
        assert (again.id, again.digest) == (scenario.id, scenario.digest)
        assert dict(again.fixed_digests) == dict(scenario.fixed_digests)
    assert scenario_at(study, 41, {"effect": 0.4}).id not in {s.id for s in study.scenarios}
