"""Ready estimands in studies: rows, true values, ranks, and studies that do not ask for them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from rmm.errors import StudyError
from rmm.simulation.estimands import true_value
from rmm.study import Study, collect, load_study, plan, run_batch, write_performance
from rmm.study.design.estimand import Estimand, label_of
from rmm.study.evaluate.criteria import recovery
from rmm.study.manage.check_models import check_models
from rmm.study.methods import bayesian
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.ranks import KEPT, rank, rank_among_ties
from rmm.study.run.replicate import make_task, outcome_rows
from tests import ROOT

READY: list[dict[str, Any]] = [
    {"estimand": "largest_weight", "by": "power"},
    {"estimand": "effective_members"},
    {"estimand": "variance_share", "component": "members"},
    {"estimand": "marginal_effect", "variable": "x"},
    {"estimand": "contrast", "group": 12, "without": [4]},
    {"estimand": "contrast", "group": 12, "joins": {"member": [3], "x": [0.5], "power": [1.0]}},
    {"estimand": "rank", "member": 4},
]
NAMES = [
    "largest_weight[by=power]",
    "effective_members",
    "variance_share[component=members]",
    "marginal_effect[variable=x]",
    "contrast[group=12, without=4]",
    "contrast[group=12, joins=member:3/power:1/x:0.5]",
    "rank[member=4]",
]


def study(folder: Path, estimands: list[dict[str, Any]], **changes: Any) -> Study:
    """The calibration of ready estimands in the gaussian family, made small."""
    path = ROOT / "config" / "studies" / "calibration_estimands_gaussian.yaml"
    config = yaml.safe_load(path.read_text())
    config |= {"estimands": estimands, "replications": 3, "measures": ["bias", "coverage"]}
    config["methods"][0]["sampler"] = {"chains": 2, "draws": 100}
    config |= copy.deepcopy(changes)
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    return load_study(folder / "small.yaml", root=folder)


def rows_of(found: Study, method: str = "laplace", replication: int = 1) -> pd.DataFrame:
    scenario = found.scenarios[0]
    task = make_task(found, scenario, found.method(method), replication)
    outcome = fit_task(task)
    rows = outcome_rows(found, scenario, task, replication, outcome)
    return pd.DataFrame(rows).set_index("parameter")


def test_rows_are_those_of_the_fit_and_the_truth_that_of_the_simulator(tmp_path: Path) -> None:
    found = study(tmp_path, READY)
    assert list(found.ready) == NAMES
    table = rows_of(found)
    task = make_task(found, found.scenarios[0], found.method("laplace"), 1)
    fit = bayesian.sampled(task, task.formula, task.seed, "summary")
    for name, entry in zip(NAMES, READY, strict=True):
        row, wanted = table.loc[name], fit.estimand(entry)
        one = wanted.loc["change"] if "contrast" in name else wanted.iloc[0]
        assert row[["mean", "sd", "median"]].tolist() == pytest.approx(
            one[["mean", "sd", "median"]].tolist(), rel=1e-9
        )
        assert (row["lower"], row["upper"]) == pytest.approx((one["q2.5"], one["q97.5"]))
        options = {k: v for k, v in entry.items() if k != "estimand"}
        assert row["truth"] == true_value(task.drawn, entry["estimand"], options)
        assert 0 <= row["rank"] <= KEPT


def test_the_other_rows_do_not_depend_on_them(tmp_path: Path) -> None:
    """Draws of effects are kept for them: what they are functions of stays to the last bit."""
    plain = study(tmp_path / "plain", [{"parameter": "b_l1[x]"}])
    ready = study(tmp_path / "ready", [{"parameter": "b_l1[x]"}, *READY])
    one, two = rows_of(plain), rows_of(ready)
    columns = ["mean", "sd", "lower", "upper", "truth", "rank"]
    pd.testing.assert_frame_equal(one[columns], two.loc[one.index, columns], check_exact=True)
    assert plain.ready == {}


def test_what_is_not_asked_for_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("nobody asked")

    monkeypatch.setattr(bayesian, "estimate", never)
    monkeypatch.setattr("rmm.study.run.replicate.true_value", never)
    table = rows_of(study(tmp_path, [{"parameter": "b_l1[x]"}]))
    assert table["status"].unique().tolist() == ["ok"]


def test_regressions_have_no_such_rows(tmp_path: Path) -> None:
    methods = [{"name": "ols", "kind": "aggregation", "backend": "ols"}]
    table = rows_of(study(tmp_path, READY[:2], methods=methods), "ols")
    assert not set(table.index) & set(NAMES)
    assert "b_l1[x]" in table.index


def test_performance_of_a_study(tmp_path: Path) -> None:
    """Each data set has its own truth; what cannot be 0 is not tested."""
    found = study(tmp_path, READY, measures=["bias", "coverage", "rejection"])
    jobs = plan(found)
    for job in jobs:
        run_batch(found, job.scenario, job.method, job.first, job.last, tmp_path / job.path)
    estimates = tmp_path / "estimates.parquet"
    collect(found, [tmp_path / job.path for job in jobs], estimates)
    frame = write_performance(found, estimates, tmp_path / "performance.parquet")
    scored = frame[frame["policy"] == "per_method"].set_index(["parameter", "measure"])["value"]
    table = pd.read_parquet(estimates)
    for name in NAMES:
        rows = table[table["parameter"] == name]
        assert rows["truth"].nunique() > 1
        assert scored[name, "bias"] == pytest.approx((rows["mean"] - rows["truth"]).mean())
        assert np.isnan(scored.get((name, "rejection"), np.nan)) == (
            name.split("[")[0] not in ("marginal_effect", "contrast")
        )
    # Intervals of a whole number hold it too often: only its ranks are judged.
    judged = recovery.judge(found, table, {"methods": [], "bias": 3, "coverage": (0.9, 1)})
    assert set(judged.table["parameter"]) == set(NAMES) - {"rank[member=4]"}
    # Batches that lack an estimand are not those of a study that asks for it.
    more = study(tmp_path, [*READY, {"estimand": "member_weight", "member": 4}])
    with pytest.raises(StudyError, match=r"has no member_weight\[member=4\]: this was not"):
        plan(more, tmp_path)
    assert len(plan(study(tmp_path, READY[:2]), tmp_path)) == len(jobs)


def test_models_of_the_study_files_can_be_built() -> None:
    for family in ("gaussian", "binomial", "weibull"):
        path = ROOT / "config" / "studies" / f"calibration_estimands_{family}.yaml"
        found = load_study(path)
        check_models(found)
        assert len(found.ready) >= 14
        task = make_task(found, found.scenarios[0], found.methods[0], 1)
        assert np.isfinite(list(task.truths.values())).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"estimands\[0\]\n  Neither is given\.\n  Give either `parameter` or `estimand`"),
        ({"parameter": "b_l1[x]", "estimand": "rank"}, r"estimands\[0\]\n  Both are given"),
        ({"parameter": "b_l1[x]", "by": "x"}, r"\.by\n  `by` is an option of a ready `estimand`"),
        ({"estimand": "ranks"}, r"\.estimand\n  'ranks' is not an estimand\. Did you mean 'rank'"),
        ({"estimand": "rank"}, r"\.member\n  `member` is missing"),
        ({"estimand": "rank", "by": "x"}, r"\.by\n  'by' is not an option of 'rank'"),
        ({"estimand": "largest_weight", "by": "w"}, r"\.by\n  'w' is not a covariate"),
        ({"estimand": "variance_share", "component": "x"}, r"\.component\n  'x' is not a variance"),
    ],
)
def test_mistakes_of_study_files(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        study(tmp_path, [entry])


def test_one_estimand_is_given_once_however_it_is_said(tmp_path: Path) -> None:
    """A default that is written out is the same estimand."""
    entry = {"estimand": "largest_weight", "by": "power"}
    with pytest.raises(StudyError, match=r"'largest_weight\[by=power\]' is given twice"):
        study(tmp_path, [entry, {**entry, "block": 1, "share": False}])
    assert label_of({"estimand": "contrast", "group": 1, "swap": [2, 3], "time": 1.5}) == (
        "contrast[group=1, swap=2+3, time=1.5]"
    )


def test_a_null_can_be_tested_where_it_is_possible() -> None:
    assert not Estimand("effective_members", 0.0, ()).tested
    assert Estimand("effective_members", 2.0, ()).tested
    assert Estimand("marginal_effect[variable=x]", 0.0, ()).tested
    assert not Estimand("sigma_l1", 0.0, ()).tested


def test_ranks_among_ties_are_uniform() -> None:
    """Truth and draws from one distribution of a few whole numbers.

    400 ranks in 10 bins: a uniform rank has p below 1e-3 in one of a thousand runs; ranks that
    count ties below the truth, in all of them.
    """
    rng = np.random.default_rng(3)
    values = rng.integers(1, 5, size=(400, 1 + KEPT)).astype(float)
    ranks = [rank_among_ties(row[1:], row[0], seed) for seed, row in enumerate(values)]
    counts = np.bincount(np.array(ranks) * 10 // (KEPT + 1), minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3
    plain = [rank(row[1:], row[0]) for row in values]
    assert stats.chisquare(np.bincount(np.array(plain) // 10, minlength=10)).pvalue < 1e-9
    without = rng.normal(size=1 + KEPT)
    assert rank_among_ties(without[1:], without[0], 1) == rank(without[1:], without[0])


@pytest.mark.parametrize(
    ("estimand", "words"),
    [
        ({"estimand": "contrast", "group": 12, "without": [3]}, "group 12 has members: "),
        ({"estimand": "contrast", "group": 912, "without": [3]}, "groups are: 1, 2, "),
        ({"estimand": "member_weight", "member": "Greens"}, "members are: 1, 2, "),
        ({"estimand": "rank", "member": "Greens"}, "members are: 1, 2, "),
    ],
)
def test_members_and_groups_that_no_data_set_has_are_found_before_the_first_fit(
    estimand: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"estimands\[1\]") as found:
        check_models(study(tmp_path, [{"estimand": "effective_members"}, estimand]))
    assert "has no value in the first 3 data sets" in str(found.value)
    assert words in str(found.value)


def test_a_data_set_without_the_member_loses_no_other_row(tmp_path: Path) -> None:
    """Memberships differ between data sets; where member 4 is missing, the fit answers the rest."""
    drawn = {"kind": "synthetic", "groups": 12, "members": 40, "size": 2, "units": 3}
    drawn |= {"within": False, "redraw": True}
    many = study(tmp_path, [{"estimand": "member_weight", "member": 4}, READY[1]], membership=drawn)
    without = 0
    for replication in range(1, 7):
        task = make_task(many, many.scenarios[0], many.methods[0], replication)
        outcome = fit_task(task)
        assert outcome.status == "ok", outcome.message
        rows = outcome_rows(many, many.scenarios[0], task, replication, outcome)
        names = {row["parameter"] for row in rows}
        assert "effective_members" in names
        m = task.drawn.memberships
        there = 4 in m.member_labels[np.unique(m.member)]
        assert ("member_weight[member=4]" in names) == there
        without += not there
    assert 0 < without < 6
