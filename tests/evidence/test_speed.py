"""The speed benchmark: its page is that of the kept results, its programs fit the same model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from benchmarks.speed import (
    figure,
    growth,
    lme4,
    numpyro_environment,
    peers,
    peers_results,
    records,
    reml,
    tables,
)
from benchmarks.speed.problems import PROBLEMS, Problem, write_data
from benchmarks.speed.study_fits import measure

ROOT = Path(__file__).resolve().parents[2]


def made_up(lme4_rows: bool = True) -> pd.DataFrame:
    """Two rounds; binomial and weibull share lme4's binomial fit."""
    seconds = {
        ("gaussian", "lme4", "fixed"): (0.02, 0.04),
        ("gaussian", "rmm", "estimated"): (0.08, 0.10),
        ("binomial", "lme4", "fixed"): (0.1, 0.1),
        ("binomial", "rmm", "estimated"): (0.05, 0.05),
        ("weibull", "rmm", "estimated"): (0.2, 0.4),
    }
    rows = [
        dict(zip(("problem", "program", "weights"), key, strict=True))
        | {"part": "fit", "round": k + 1, "cpu_seconds": value, "commit": "abc", "versions": "v"}
        for key, values in seconds.items()
        for k, value in enumerate(values)
        if lme4_rows or key[1] != "lme4"
    ]
    workflow = rows[0] | {"part": "workflow", "program": "rmm", "cpu_seconds": 0.06}
    return pd.DataFrame([*rows, workflow | {"problem": "gaussian"}])


def test_ratios_are_to_lme4_of_the_same_family_and_round() -> None:
    found = records.ratios(made_up()).set_index(["part", "problem", "program"])
    assert found["ratio"].to_dict() == pytest.approx(
        {
            ("fit", "gaussian", "lme4"): 1,
            ("fit", "gaussian", "rmm"): 3,
            ("fit", "binomial", "lme4"): 1,
            ("fit", "binomial", "rmm"): 0.5,
            ("fit", "weibull", "rmm"): 3,
            ("workflow", "gaussian", "rmm"): 2,
        }
    )
    low, high = found.loc[("fit", "gaussian", "rmm"), ["low", "high"]]
    assert (low, high) == pytest.approx((2.5, 4))


def test_lme4_beside_the_workflow_is_its_unit() -> None:
    table = made_up()
    beside = table.iloc[0].to_dict() | {"part": "workflow", "cpu_seconds": 0.12}
    found = records.ratios(pd.concat([table, pd.DataFrame([beside])]))
    rows = found.set_index(["part", "program", "problem"])["ratio"]
    assert rows["workflow", "rmm", "gaussian"] == pytest.approx(0.5)
    assert rows["fit", "rmm", "gaussian"] == pytest.approx(3)


@pytest.mark.parametrize("commit", ["abc", "4021263589"])
def test_rows_of_other_parts_and_of_the_same_commit_stay(commit: str, tmp_path: Path) -> None:
    file = tmp_path / "run.csv"
    first = records.Records(file, commit, "v", ["fit", "workflow"])
    first.add("fit", "gaussian", "rmm", "fixed", cpu_seconds=1.0)
    first.add("workflow", "gaussian", "rmm", "fixed", cpu_seconds=2.0)
    again = records.Records(file, commit, "v", ["workflow"])
    again.add("workflow", "gaussian", "rmm", "fixed", cpu_seconds=3.0)
    assert pd.read_csv(file)["cpu_seconds"].tolist() == [1, 3]
    assert records.Records(file, "other", "v", []).rows == []


def test_without_lme4_there_are_seconds_and_no_figure_of_ratios() -> None:
    runs = {"speed_before": made_up(lme4_rows=False).iloc[:-1]}
    assert "| 0.090 s |" in tables.fits_table(runs)
    assert "**" not in tables.fits_table(runs)
    assert [len(axes.lines) for axes in figure.draw(runs).axes] == [1, 1]  # the lines at 1


def test_the_page_has_the_kept_results() -> None:
    """After a run: `python -m benchmarks.speed --name speed_before --only show`."""
    kept = (ROOT / "benchmarks" / "results" / "speed.md").read_text(encoding="utf-8")
    runs = records.kept_runs()
    assert kept == tables.page_part(runs, records.growth_of(runs))
    page = (ROOT / "docs" / "explanation" / "speed.md").read_text(encoding="utf-8")
    for name in ("speed.md", "speed.png"):
        assert f"../../benchmarks/results/{name}" in page


def test_the_figure_has_every_ratio_of_the_table() -> None:
    """All but those of lme4, which are 1, and of binomial models with known weights."""
    runs = records.kept_runs()
    drawn = [text.get_text() for axes in figure.draw(runs).axes for text in axes.texts]
    found = pd.concat([records.ratios(table) for table in runs.values()])
    found = found[(found["program"] != "lme4") & found["ratio"].notna()]
    found = found[(found["problem"] == "gaussian") | (found["weights"] == "estimated")]
    assert len(found) >= 8
    assert sorted(map(tables.number, found["ratio"])) == sorted(t for t in drawn if t[0].isdigit())


@pytest.fixture(scope="module")
def tables_of_groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    write_data(PROBLEMS["gaussian"].study(folder, 3), 1, 3, folder)
    return folder


def test_reml_is_the_restricted_likelihood(tables_of_groups: Path) -> None:
    """Against dense matrices of all groups: the optimum, coefficients and standard errors."""
    y, X, W = reml.matrices(pd.read_csv(tables_of_groups / "data_0001.csv"))
    found = reml.fit(y, X, W)
    assert W.sum(axis=1) == pytest.approx(np.ones(120))

    def at(ratio: float) -> tuple[float, np.ndarray, np.ndarray]:
        V = np.eye(len(y)) + ratio**2 * W @ W.T
        inverse = np.linalg.inv(V)
        information = X.T @ inverse @ X
        b = np.linalg.solve(information, X.T @ inverse @ y)
        rss, df = (y - X @ b) @ inverse @ (y - X @ b), len(y) - X.shape[1]
        logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
        se = np.sqrt(rss / df * np.diag(np.linalg.inv(information)))
        return logs + df * np.log(rss), b, se

    ratio = found["sigma_l1"] / found["sigma_l2"]
    loss, b, se = at(ratio)
    assert found["b"] == pytest.approx(b, rel=1e-8)
    assert found["se"] == pytest.approx(se, rel=1e-8)
    assert loss < min(at(ratio * 0.99)[0], at(ratio * 1.01)[0])


@pytest.mark.thorough
def test_lme4_finds_the_restricted_likelihood(tables_of_groups: Path) -> None:
    """Its membership matrix is in the right place: the same mean of sigma_l1, as printed."""
    if not lme4.available():
        pytest.skip(lme4.MISSING)
    files = sorted(tables_of_groups.glob("data_*.csv"))
    ours = np.mean([reml.fit(*reml.matrices(pd.read_csv(f)))["sigma_l1"] for f in files])
    found = lme4.measure("gaussian", tables_of_groups)
    printed = re.match(r"mean sigma_l1 ([\d.]+);", found["note"])
    assert printed is not None and float(printed[1]) == pytest.approx(ours, abs=2e-4)
    assert found["fits"] == 3 and found["cpu_seconds"] > 0


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
def test_the_study_of_a_problem_can_be_read(problem: Problem, tmp_path: Path) -> None:
    study = problem.study(tmp_path, 2)
    assert [m.name for m in study.methods] == list(problem.weights)
    assert study.scenarios[0].recipe.truth.spec.family.name == problem.family


@pytest.mark.thorough
def test_fits_in_a_study_are_measured() -> None:
    found = measure("gaussian", "fixed", 1, 1)
    assert found["note"] == "1 ok" and found["fits"] == 1
    assert 0 < float(str(found["cpu_seconds"])) < 60


def test_growth_uses_each_member_once_in_a_group() -> None:
    for case in (growth.nations(628, 2), growth.Case("gaussian", "anywhere", 50, 10, 5, 0)):
        table = growth.table_of(case)
        assert table.groupby("gid")["pid"].nunique().eq(case.size).all()
        assert table["pid"].max() < case.members
    assert growth.formula(2).count("b2*s2") == 1 and "1/n)" in growth.formula(0)


def test_the_power_of_growth_is_that_of_the_rows() -> None:
    sizes = [(628, 240), (5_000, 2_000), (20_000, 8_000)]
    table = pd.DataFrame(
        [
            (
                *("cox", "nations", groups, members, 3, k),
                *((1 + k) * (groups / 1000) ** (1 + k / 10), 200.0, k == 0),
            )
            for k in (0, 1)
            for groups, members in sizes
        ],
        columns=(
            *("family", "structure", "groups", "members", "size", "coefficients"),
            *("cpu_seconds", "memory_mb", "converged"),
        ),
    )
    text = tables.growth_table(table)
    assert "| cox | 1.00 | 1.10 |" in text
    assert "| cox | in nations of 20 | 5,000 | 2,000 | 0 | 5.00 | 200 | yes |" in text


def test_risk_sets_of_the_numpyro_program() -> None:
    time = np.array([3.0, 1.0, 2.0, 2.0, 5.0])
    found = numpyro_environment._risk_sets(time)
    for group, last in enumerate(found["last_at_risk"]):
        at_risk = set(found["latest_first"][: last + 1])
        assert at_risk == set(np.flatnonzero(time >= time[group]))


@pytest.mark.parametrize("dependence", [0.0, 0.8])
def test_chains_that_do_not_agree_have_few_effective_draws(dependence: float) -> None:
    """The limit is above the true number in all but 1 of 1,000 runs, and far below all draws for
    chains apart. Of 300 runs more than 3 fail it with a probability of .0003.
    """
    from arviz_stats.base import array_stats

    rng, draws, failed = np.random.default_rng(5), 2000, 0
    true = peers.CHAINS * draws * (1 - dependence) / (1 + dependence)
    for _ in range(300):
        noise = rng.normal(size=(peers.CHAINS, draws + 200))
        chains = lfilter([1.0], [1.0, -dependence], noise)[:, 200:]
        rhat = float(array_stats.rhat(chains, chain_axis=0, draw_axis=1))
        failed += peers.most_effective(rhat, draws) < true
    assert failed <= 3
    assert peers.most_effective(1.16, draws) < 100


def test_ratios_to_a_peer_whose_ess_is_unreliable_have_a_lower_bound() -> None:
    """The peer's draws count as independent there: 240 of them in 10 s are at most 24 per s."""
    common = {"groups": 628, "family": "cox", "weights": "estimated", "of": "sigma_l1"}
    common |= {"cpu_seconds": 10.0, "max_rhat": 1.0, "pareto_k": np.nan}
    rows = [
        {"program": "bml style", "min_ess": 6.0, "ess_per_cpu_second": 0.6, "at_most": 24.0},
        {"program": "numpyro", "min_ess": 400.0, "ess_per_cpu_second": 40.0, "at_most": 40.0},
        {"program": "laplace", "min_ess": 4800.0, "ess_per_cpu_second": 480.0, "at_most": 480.0},
    ]
    found = peers_results.with_ratios(pd.DataFrame([common | row for row in rows]))
    np.testing.assert_allclose(found["ratio"], [1, 66.666667, 800], rtol=1e-6)
    np.testing.assert_allclose(found["at_least_numpyro"], [0.015, 1, 12])
    lines = peers_results.as_markdown(found).splitlines()
    assert r"6 (sigma_l1) \*" in lines[2]
    assert lines[3].count("*") == 0
    assert lines[4].endswith("| 800 (at least 20) | 12 |")
