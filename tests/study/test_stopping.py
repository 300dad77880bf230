"""Stopping at a Monte Carlo error: fixed stages, decisions from the estimates alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from rmm.errors import StudyError
from rmm.study import Study, collect, load_study, plan, run_batch, status, write_performance
from rmm.study.design.stopping_rule import Stopping
from rmm.study.evaluate.stopping_decision import standing, usable_error
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.manage.jobs import standing_of
from rmm.study.report.data.where_stopped import stopping_facts

CONFIG: dict[str, Any] = {
    "seed": 4,
    "replications": 90,
    "batch": 10,
    "stopping": {
        "minimum": 20,
        "step": 15,
        "targets": [{"measure": "bias", "parameter": "b_l1[x]", "mcse": 0.06}],
    },
    "membership": {"kind": "synthetic", "groups": 30, "members": 12, "size": 2},
    "covariates": {"x": {"level": "member"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0.4, "sigma_l1": 1, "sigma_l2": 1},
    },
    "vary": {"overlap": {"path": "membership.overlap", "values": [0.0, 1.0]}},
    "methods": [
        {"name": "agg", "kind": "aggregation"},
        {"name": "dis", "kind": "disaggregation", "replications": 25},
    ],
    "estimands": [{"parameter": "b_l1[x]"}],
}


def load(folder: Path, **changes: Any) -> Study:
    config = copy.deepcopy(CONFIG) | changes
    config = {k: v for k, v in config.items() if v is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(folder / "study.yaml")


def run(study: Study, folder: Path) -> pd.DataFrame:
    """Run what the plan asks for until it asks for nothing more, as the workflow does."""
    while missing := [j for j in plan(study, folder) if not (folder / j.path).is_file()]:
        for job in missing:
            run_batch(study, job.scenario, job.method, job.first, job.last, folder / job.path)
    collect(study, [folder / j.path for j in plan(study, folder)], folder / "estimates.parquet")
    return pd.read_parquet(folder / "estimates.parquet").drop(columns=list(RUN_COLUMNS))


def ends(estimates: pd.DataFrame) -> dict[tuple[str, str], int]:
    return estimates.groupby(["scenario", "method"])["replication"].max().to_dict()


def by_hand(whole: pd.DataFrame, scenario: str, mcse: float) -> int:
    """The first stage at which sd / sqrt(n) of the estimates is small enough."""
    part = whole.query("scenario == @scenario and method == 'agg' and parameter == 'b_l1[x]'")
    for stage in (20, 35, 50, 65, 80):
        means = part.loc[part["replication"] <= stage, "mean"]
        if means.std() / np.sqrt(stage) <= mcse:
            return stage
    return 90


def test_scenarios_end_where_their_targets_are_reached(tmp_path: Path) -> None:
    """The end of each scenario is found again from a run without the rule, by hand."""
    whole = run(load(tmp_path / "a", stopping=None), tmp_path / "a" / "out")
    stopping = copy.deepcopy(CONFIG["stopping"])
    stopping["targets"][0]["methods"] = ["agg"]
    study = load(tmp_path / "b", stopping=stopping)
    kept = run(study, tmp_path / "b" / "out")
    wanted = {}
    for scenario in study.scenarios:
        wanted[scenario.id, "agg"] = by_hand(whole, scenario.id, 0.06)
        wanted[scenario.id, "dis"] = min(25, wanted[scenario.id, "agg"])
    assert ends(kept) == wanted
    assert {n for (_, m), n in wanted.items() if m == "agg"} - {20, 90}  # else nothing is seen
    merged = kept.merge(whole, on=list(whole.columns), how="left", indicator=True)
    assert set(merged["_merge"]) == {"both"}  # the rows of a run without the rule, no others


@pytest.mark.thorough
def test_cores_batches_and_what_lies_on_disk_change_nothing(tmp_path: Path) -> None:
    first = run(load(tmp_path / "a"), tmp_path / "a" / "out")
    cut = run(load(tmp_path / "b", batch=7), tmp_path / "b" / "out")
    pd.testing.assert_frame_equal(first, cut)
    # A run to the end without the rule first, then the rule: nothing is computed, all is kept.
    out = tmp_path / "c" / "out"
    run(load(tmp_path / "c", stopping=None, batch=40), out)
    there = {p: p.stat().st_mtime_ns for p in out.rglob("estimates/**/*.parquet")}
    pd.testing.assert_frame_equal(run(load(tmp_path / "c", batch=40), out), first)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("estimates/**/*.parquet")} == there


@pytest.mark.thorough
def test_another_target_goes_on_and_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    loose, tight = copy.deepcopy(CONFIG["stopping"]), copy.deepcopy(CONFIG["stopping"])
    loose["targets"][0]["mcse"], tight["targets"][0]["mcse"] = 0.2, 0.001
    first = run(load(tmp_path, stopping=loose), out)
    assert set(ends(first).values()) == {20}
    there = {p: p.read_bytes() for p in out.rglob("estimates/**/*.parquet")}
    most = run(load(tmp_path, stopping=tight), out)
    assert set(ends(most).values()) == {90, 25}
    assert {p: p.read_bytes() for p in there} == there
    pd.testing.assert_frame_equal(run(load(tmp_path, stopping=loose), out), first)


@pytest.mark.thorough
def test_what_is_said_of_it(tmp_path: Path) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    scenario = study.scenarios[0]
    assert standing_of(study, scenario, out).replications == 20
    assert len(plan(study, out, to_maximum=True)) > len(plan(study, out))
    run(study, out)
    found = status(study, out)
    assert found["missing"] == []
    words = [s.words() for s in found["standings"]]
    assert all(w.startswith("stopped at ") and " of at most 90 replications: " in w for w in words)
    table = pd.read_parquet(out / "stopping.parquet")
    assert set(table["words"]) == set(words)
    assert set(table["method"]) == {"agg", "dis"}
    ((what, said),) = stopping_facts(out)
    assert what == "Stopping"
    assert words[0] in said
    assert stopping_facts(tmp_path) == []
    scores = write_performance(study, out / "estimates.parquet", out / "performance.parquet")
    mine = scores.query("measure == 'bias' and policy == 'per_method'")
    both = mine.merge(table, on=["scenario", "method"], suffixes=("", "_then"))
    np.testing.assert_array_equal(both["mcse"], both["mcse_then"])  # decided on what is reported


def test_a_capped_method_holds_nobody_up(tmp_path: Path) -> None:
    stopping = copy.deepcopy(CONFIG["stopping"])
    stopping["targets"] = [
        {"measure": "bias", "parameter": "b_l1[x]", "mcse": 0.2, "methods": ["agg"]},
        {"measure": "bias", "parameter": "b_l1[x]", "mcse": 1e-6, "methods": ["dis"]},
    ]
    study = load(tmp_path, stopping=stopping)
    assert set(ends(run(study, tmp_path / "out")).values()) == {35, 25}
    words = standing_of(study, study.scenarios[0], tmp_path / "out").words()
    assert words == (
        "stopped at 35 of at most 90 replications: 1 of 2 targets not reached, by methods that "
        "have run all their replications"
    )


def failed(estimates: pd.DataFrame, method: str) -> pd.DataFrame:
    mine = estimates["method"] == method
    return estimates.assign(
        mean=estimates["mean"].mask(mine), status=estimates["status"].mask(mine, "failed")
    )


def test_failed_fits_reach_no_target(tmp_path: Path) -> None:
    study = load(tmp_path)
    run(load(tmp_path, stopping=None), tmp_path / "out")
    study = load(tmp_path)
    whole = pd.read_parquet(tmp_path / "out" / "estimates.parquet")
    scenario = study.scenarios[0]
    broken = failed(whole[whole["scenario"] == scenario.id], "agg")
    found = standing(study, scenario, broken)
    assert (found.replications, found.decided, found.reached) == (90, True, False)
    assert {aim.n for aim in found.aims if aim.method == "agg"} == {0}


def test_no_hits_are_no_evidence() -> None:
    assert usable_error("rejection", 0.0, 0.0, 200) == pytest.approx(
        np.sqrt(2 / 204 * (202 / 204) / 204)
    )
    assert usable_error("rejection", 0.5, 0.05, 100) == 0.05
    assert usable_error("bias", 0.0, 0.0, 200) == 0.0
    assert Stopping((), 200, 200).stages(500) == (200, 400, 500)
    assert Stopping((), 200, 200).stages(150) == (150,)


def test_stopping_moves_a_rate_by_a_tenth_of_its_error() -> None:
    """p = .05, target .005: config/README.md says 8% of a Monte Carlo error, downwards.

    4,000 studies; the mean of their estimates has the error .00008, so that it lies between
    -.0008 and -.0001 of p but for 1 in 10,000 seeds.
    """
    rng = np.random.default_rng(20250601)
    rule = Stopping((), 200, 200)
    found = []
    for _ in range(4000):
        hits = before = 0
        for stage in rule.stages(10_000):
            hits += rng.binomial(stage - before, 0.05)
            before, rate = stage, hits / stage
            error = usable_error("rejection", rate, np.sqrt(rate * (1 - rate) / stage), stage)
            if error <= 0.005:
                break
        found.append((rate, stage))
    rates, stages = np.array(found).T
    assert -0.0008 < rates.mean() - 0.05 < -0.0001
    assert pytest.approx(stages.mean(), abs=4 * 189 / np.sqrt(4000)) == 2017


BAD = {
    "measure": (
        "size_adjusted_power",
        r"targets\[0\]\.measure\n.*not a measure that can be a stopping target",
    ),
    "parameter": ("b_l1[z]", r"targets\[0\]\.parameter\n.*'b_l1\[z\]' is not an estimand"),
    "methods": (["ols"], r"targets\[0\]\.methods\[0\]\n.*'ols' is not a method"),
    "mcse": (0, r"targets\[0\]\.mcse\n.*\n.*above 0"),
}


@pytest.mark.parametrize("key", BAD)
def test_bad_targets_get_a_message(key: str, tmp_path: Path) -> None:
    value, match = BAD[key]
    stopping = copy.deepcopy(CONFIG["stopping"])
    stopping["targets"][0][key] = value
    with pytest.raises(StudyError, match=match):
        load(tmp_path, stopping=stopping)


def test_a_scenario_that_goes_on_is_not_collected(tmp_path: Path) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    for job in plan(study, out):
        run_batch(study, job.scenario, job.method, job.first, job.last, out / job.path)
    paths = [p for p in out.rglob("estimates/**/*.parquet") if "00001" in p.name]
    with pytest.raises(StudyError, match=r"needs 20 replications next \(at most 90"):
        collect(study, paths, out / "estimates.parquet")
