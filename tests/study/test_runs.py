"""Running studies: addresses, batches, failures, resuming, collecting, scoring, replaying."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from rmm.errors import BackendTimeout, StudyError
from rmm.simulation import simulate
from rmm.study import (
    Study,
    collect,
    load_study,
    plan,
    replay,
    run_batch,
    status,
    write_design,
    write_performance,
)
from rmm.study.evaluate.score import score
from rmm.study.files import seeds
from rmm.study.files.parquet import ESTIMATES, PERFORMANCE, RUN_COLUMNS, write_whole
from rmm.study.methods import fit_task as fitting
from rmm.study.methods.task import Outcome, Task
from rmm.study.run.replicate import draw_replication, make_task

CONFIG: dict[str, Any] = {
    "seed": 11,
    "replications": 12,
    "batch": 5,
    "membership": {"kind": "synthetic", "groups": 40, "members": 15, "size": 3},
    "covariates": {
        "x": {"level": "member"},
        "z": {"level": "group"},
        "power": {"level": "membership"},
    },
    "truth": {
        "formula": "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {
            "b_l2[Intercept]": 0,
            "b_l2[z]": 0.5,
            "b_l1[x]": 0.4,
            "sigma_l1": 1,
            "sigma_l2": 1,
        },
    },
    "vary": {"overlap": {"path": "membership.overlap", "values": [0.0, 1.0]}},
    "methods": [
        {"name": "agg", "kind": "aggregation"},
        {"name": "dis", "kind": "disaggregation", "replications": 7},
    ],
    "estimands": [{"parameter": "b_l1[x]"}, {"parameter": "b_l2[z]", "null": 0.5}],
}


def load(folder: Path, edit: Any = None) -> Study:
    config = copy.deepcopy(CONFIG)
    if edit is not None:
        edit(config)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def run(study: Study, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    write_design(study, folder)
    for job in plan(study, folder):
        if not (folder / job.path).is_file():
            run_batch(study, job.scenario, job.method, job.first, job.last, folder / job.path)
    paths = [folder / job.path for job in plan(study, folder)]
    collect(study, paths, folder / "estimates.parquet")
    frame = write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    return pd.read_parquet(folder / "estimates.parquet"), frame


def steady(estimates: pd.DataFrame) -> pd.DataFrame:
    return estimates.drop(columns=list(RUN_COLUMNS)).reset_index(drop=True)


# -- rule 1: seeds are addresses -------------------------------------------------------------


def add_level(config: dict[str, Any]) -> None:
    config["vary"]["overlap"]["values"].insert(0, 0.5)


def add_factor_level_patch(config: dict[str, Any]) -> None:
    config["vary"]["groups"] = {"path": "membership.groups", "values": [20, 40]}


def add_method(config: dict[str, Any]) -> None:
    config["methods"].insert(0, {"name": "rob", "kind": "aggregation", "errors": "robust"})


def add_replications(config: dict[str, Any]) -> None:
    config["replications"] = 17


def change_batch(config: dict[str, Any]) -> None:
    config["batch"] = 3


def reorder(config: dict[str, Any]) -> None:
    config["methods"].reverse()
    config["covariates"] = dict(reversed(config["covariates"].items()))
    config["vary"]["overlap"]["values"].reverse()


def say_defaults(config: dict[str, Any]) -> None:
    config["covariates"]["x"] |= {"distribution": "normal", "mean": 0, "sd": 1.0}
    config["membership"] |= {"activity": 0, "redraw": True}
    config["methods"][0] |= {"backend": "ols", "summary": "mean"}


@pytest.mark.parametrize(
    "edit",
    [
        add_level,
        add_factor_level_patch,
        add_method,
        add_replications,
        change_batch,
        reorder,
        say_defaults,
    ],
)
def test_nothing_that_exists_changes(edit: Any, tmp_path: Path) -> None:
    before, _ = run(load(tmp_path / "a"), tmp_path / "a" / "out")
    after, _ = run(load(tmp_path / "b", edit), tmp_path / "b" / "out")
    keys = ["scenario", "method", "replication", "parameter"]
    kept = before[keys].merge(after, on=keys, how="left")[before.columns]
    pd.testing.assert_frame_equal(steady(kept), steady(before))


@pytest.mark.parametrize("edit", [add_level, add_method, add_replications, change_batch])
def test_nothing_that_exists_is_computed_again(
    edit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    before, _ = run(load(tmp_path), out)
    done = {p: p.stat().st_mtime_ns for p in (out / "estimates").rglob("*.parquet")}
    fitted: list[tuple[str, str, int]] = []
    original = fitting.fit_task

    def counted(task: Task, **options: Any) -> Outcome:
        fitted.append((task.method.name, task.formula, task.seed))
        return original(task, **options)

    monkeypatch.setattr("rmm.study.run.batch.fit_task", counted)
    after, _ = run(load(tmp_path, edit), out)
    assert {p: p.stat().st_mtime_ns for p in done} == done
    fits = ["scenario", "method", "replication"]
    new = len(after.drop_duplicates(fits)) - len(before.drop_duplicates(fits))
    assert len(fitted) == new


def test_data_depend_on_seed_content_and_replication(tmp_path: Path) -> None:
    study = load(tmp_path)
    first, second = study.scenarios

    def y(seed: int, scenario: Any, replication: int) -> tuple[float, ...]:
        return tuple(draw_replication(seed, scenario, replication).outcome[:3])

    found = {y(11, first, 1), y(11, first, 2), y(11, second, 1), y(12, first, 1)}
    assert len(found) == 4
    assert y(11, first, 1) in found


def test_methods_see_the_same_data(tmp_path: Path) -> None:
    study = load(tmp_path)
    tasks = [make_task(study, study.scenarios[0], m, 3) for m in study.methods]
    np.testing.assert_array_equal(tasks[0].drawn.outcome, tasks[1].drawn.outcome)
    assert tasks[0].seed != tasks[1].seed


def test_time_limit_and_gate_do_not_change_chains(tmp_path: Path) -> None:
    def with_engine(**settings: Any) -> Study:
        def edit(config: dict[str, Any]) -> None:
            config["methods"] = [{"name": "m", "kind": "mm", **settings}]

        return load(tmp_path, edit)

    plain = with_engine()
    other = with_engine(sampler={"timeout": 5}, gate={"rhat": 1.1})
    longer = with_engine(sampler={"draws": 900})
    seeds = [make_task(s, s.scenarios[0], s.methods[0], 1).seed for s in (plain, other, longer)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert plain.methods[0].id != other.methods[0].id


def test_fixed_designs_are_shared_and_kept(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["membership"]["redraw"] = False
        config["covariates"]["x"]["redraw"] = False
        config["vary"] = {"sd": {"path": "truth.parameters.sigma_l1", "values": [1, 2]}}

    study = load(tmp_path, edit)
    a, b = (draw_replication(study.seed, s, 1) for s in study.scenarios)
    again = draw_replication(study.seed, study.scenarios[0], 2)
    for other in (b, again):
        np.testing.assert_array_equal(a.memberships.member, other.memberships.member)
        np.testing.assert_array_equal(a.columns["x"].values, other.columns["x"].values)
    assert not np.array_equal(a.columns["z"].values, again.columns["z"].values)
    assert not np.array_equal(a.outcome, again.outcome)


def test_canonical_text() -> None:
    assert seeds.canonical({"b": 1.0, "a": [True, 0.5]}) == '{"a":[true,0.5],"b":1}'
    assert seeds.digest({"a": 1}) == seeds.digest({"a": 1.0})
    assert 0 <= seeds.chain_seed(1, "a", 1, "b") < 2**31


# -- batches, files --------------------------------------------------------------------------


def test_plan_covers_every_replication_once(tmp_path: Path) -> None:
    study = load(tmp_path)
    jobs = plan(study, tmp_path / "out")
    for scenario in study.scenarios:
        for method, count in (("agg", 12), ("dis", 7)):
            mine = [j for j in jobs if (j.scenario, j.method) == (scenario.id, method)]
            covered = [r for j in mine for r in range(j.first, j.last + 1)]
            assert covered == list(range(1, count + 1))
    assert jobs[0].path.startswith(f"estimates/{jobs[0].scenario}/{jobs[0].method}/00001-00005")


def test_two_runs_give_the_same_files(tmp_path: Path) -> None:
    study = load(tmp_path)
    a, pa = run(study, tmp_path / "a")
    b, pb = run(study, tmp_path / "b")
    pd.testing.assert_frame_equal(steady(a), steady(b))
    keep = pa["measure"] != "seconds"
    pd.testing.assert_frame_equal(pa[keep], pb[keep])
    assert pq.read_schema(tmp_path / "a" / "estimates.parquet").names == ESTIMATES.names
    assert pq.read_schema(tmp_path / "a" / "performance.parquet").names == PERFORMANCE.names


def test_results_of_another_study_are_refused(tmp_path: Path) -> None:
    run(load(tmp_path), tmp_path / "out")

    def seed(config: dict[str, Any]) -> None:
        config["seed"] = 12

    def settings(config: dict[str, Any]) -> None:
        config["methods"][0]["errors"] = "robust"

    with pytest.raises(StudyError, match=r"another study seed:\n  seed: 11 in the results, 12 in"):
        plan(load(tmp_path, seed), tmp_path / "out")
    with pytest.raises(StudyError, match=r"robust in(?s:.*)delete .*estimates\.parquet to fit"):
        plan(load(tmp_path, settings), tmp_path / "out")


def test_a_missing_or_broken_batch_is_named(tmp_path: Path) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    run(study, out)
    paths = [out / job.path for job in plan(study, out)]
    with pytest.raises(StudyError, match=r"7 of 12 replications are finished"):
        collect(study, paths[1:], out / "estimates.parquet")
    paths[0].write_bytes(b"half a file")
    with pytest.raises(StudyError, match=r"00001-00005\.parquet cannot be read"):
        collect(study, paths, out / "estimates.parquet")
    with pytest.raises(StudyError, match=r"not a complete file of estimates"):
        plan(study, out)


def test_a_killed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"

    def half(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        write_whole(target, half)
    assert list(tmp_path.iterdir()) == []


def test_status_counts(tmp_path: Path) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    jobs = plan(study, out)
    job = next(j for j in jobs if j.method == "agg")
    run_batch(study, job.scenario, job.method, job.first, job.last, out / job.path)
    found = status(study, out)
    assert (found["jobs"], found["done"], len(found["missing"])) == (len(jobs), 1, len(jobs) - 1)
    assert found["fits"] == {"ok": 5}
    assert found["seconds_left"]["agg"] > 0
    assert found["seconds_left"]["dis"] is None


def test_status_counts_what_is_asked_for_now(tmp_path: Path) -> None:
    """A file may hold more than a lowered number of replications, or of one method's."""
    study, out = load(tmp_path), tmp_path / "out"
    run(study, out)
    both = len(study.scenarios) * len(study.methods)
    assert status(study, out)["fits"] == {"ok": len(study.scenarios) * (12 + 7)}
    fewer = load(tmp_path, lambda config: config.update(replications=3))
    found = status(fewer, out)
    assert (found["fits"], found["missing"]) == ({"ok": 3 * both}, [])
    assert found["seconds"] < status(study, out)["seconds"]


def test_replay_is_the_same_fit(tmp_path: Path) -> None:
    study = load(tmp_path)
    estimates, _ = run(study, tmp_path / "out")
    scenario = study.scenarios[1].id
    data, outcome = replay(study, scenario, 4, "agg")
    row = estimates.query("scenario == @scenario and replication == 4 and method == 'agg'")
    found = {e["parameter"]: e["mean"] for e in outcome.estimates}
    assert found == dict(zip(row["parameter"], row["mean"], strict=True))
    assert outcome.fit is not None
    assert len(data.data) == 120
    assert data.truth["b_l1[x]"] == 0.4
    with pytest.raises(StudyError, match="scenario"):
        replay(study, "s0000000000", 1, "agg")
    with pytest.raises(StudyError, match="of at least 1, but is 0"):
        replay(study, scenario, 0, "agg")


# -- fits ------------------------------------------------------------------------------------


def test_estimates_have_truth_and_null(tmp_path: Path) -> None:
    estimates, _ = run(load(tmp_path), tmp_path / "out")
    x = estimates[estimates["parameter"] == "b_l1[x]"]
    assert set(x["truth"]) == {0.4}
    assert set(estimates.loc[estimates["parameter"] == "b_l2[z]", "null"]) == {0.5}
    assert set(estimates["status"]) == {"ok"}
    assert (estimates["lower99"] < estimates["lower"]).all()
    assert (estimates["lower"] < estimates["lower90"]).all()


@pytest.mark.parametrize("summary", ["mean", "sum", "min", "max"])
def test_aggregation_is_least_squares_on_groups(summary: str, tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["methods"] = [{"name": "agg", "kind": "aggregation", "summary": summary}]

    study = load(tmp_path, edit)
    data, outcome = replay(study, study.scenarios[1].id, 2, "agg")
    groups = data.data.groupby("group").agg({"y": "first", "z": "first", "x": summary})
    matrix = np.column_stack([np.ones(len(groups)), groups["z"], groups["x"]])
    beta, rest, *_ = np.linalg.lstsq(matrix, groups["y"].to_numpy(), rcond=None)
    se = np.sqrt(rest[0] / (len(groups) - 3) * np.diag(np.linalg.inv(matrix.T @ matrix)))
    found = {e["parameter"]: e for e in outcome.estimates}
    assert list(found) == ["b_l2[Intercept]", "b_l2[z]", "b_l1[x]"]
    np.testing.assert_allclose([e["mean"] for e in found.values()], beta, rtol=1e-9)
    np.testing.assert_allclose([e["sd"] for e in found.values()], se, rtol=1e-9)


def test_disaggregation_copies_the_outcome(tmp_path: Path) -> None:
    study = load(tmp_path)
    data, outcome = replay(study, study.scenarios[0].id, 1, "dis")
    rows = data.data
    matrix = np.column_stack([np.ones(len(rows)), rows["z"], rows["x"]])
    beta = np.linalg.lstsq(matrix, rows["y"].to_numpy(), rcond=None)[0]
    np.testing.assert_allclose([e["mean"] for e in outcome.estimates], beta, rtol=1e-9)
    assert outcome.estimates[0]["df"] == 117


@pytest.mark.parametrize(
    "settings",
    [
        {"errors": "robust"},
        {"errors": "cluster", "cluster": ["group"]},
        {"errors": "cluster", "cluster": ["group", "member"]},
    ],
)
def test_robust_errors_change_errors_only(settings: dict[str, Any], tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["methods"].append({"name": "rob", "kind": "disaggregation", **settings})

    study = load(tmp_path, edit)
    _, plain = replay(study, study.scenarios[1].id, 1, "dis")
    _, robust = replay(study, study.scenarios[1].id, 1, "rob")
    assert robust.status == "ok", robust.message
    for a, b in zip(plain.estimates, robust.estimates, strict=True):
        assert a["mean"] == pytest.approx(b["mean"])
        assert a["sd"] != pytest.approx(b["sd"], rel=1e-6)


def test_a_failed_fit_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that fail or time out stay in the denominator, and power is not 0."""
    original = fitting.fit_regression

    def sometimes(task: Task) -> Outcome:
        if task.method.name == "dis":
            raise ValueError("no luck\nat all")
        if task.drawn.outcome[0] > 0:
            raise BackendTimeout("took too long")
        return original(task)

    monkeypatch.setitem(fitting.BACKENDS, "ols", sometimes)
    estimates, scores = run(load(tmp_path), tmp_path / "out")
    dis = estimates[estimates["method"] == "dis"]
    assert set(dis["status"]) == {"failed"}
    assert set(dis["message"]) == {"ValueError: no luck at all"}
    assert len(dis) == 2 * 7 * 2  # scenarios x replications x estimands
    agg = estimates[estimates["method"] == "agg"]
    assert set(agg["status"]) == {"ok", "timeout"}
    assert agg.drop_duplicates(["scenario", "replication"]).shape[0] == 24
    power = scores.query("measure == 'rejection' and method == 'dis' and policy == 'per_method'")
    assert len(power) == 4
    assert power["value"].isna().all()
    assert (power["n"] == 0).all()
    assert (power["n_failed"] == 7).all()
    convergence = scores.query("measure == 'convergence' and method == 'agg'")
    late = agg.drop_duplicates(["scenario", "replication"]).groupby("scenario")["status"]
    expected = late.apply(lambda s: float((s == "ok").mean()))
    np.testing.assert_allclose(
        convergence.set_index("scenario")["value"].sort_index(), expected.sort_index()
    )


def test_collinear_regressors_fail(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["methods"] = [
            {"name": "agg", "kind": "aggregation", "formula": "y ~ 1 + x + I(2*x)"}
        ]

    study = load(tmp_path, edit)
    _, outcome = replay(study, study.scenarios[0].id, 1, "agg")
    assert outcome.status == "failed"
    assert "collinear" in outcome.message


def test_jags_method_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("pyjags", reason="the engine JAGS (pyjags) is not installed")

    def edit(config: dict[str, Any]) -> None:
        config |= {"replications": 2, "vary": {}}
        sampler = {"chains": 2, "warmup": 200, "draws": 200}
        gate = {"rhat": 1.5, "ess_per_chain": 1}
        weights = "w ~ 1/(1 + (n-1)*exp(-(b1*power)))"
        config["methods"] = [
            {"name": "mmmm", "kind": "mmmm", "weights": weights, "sampler": sampler, "gate": gate},
            {
                "name": "agg",
                "kind": "aggregation",
                "backend": "jags",
                "sampler": sampler,
                "gate": gate,
            },
            {
                "name": "strict",
                "kind": "mm",
                "sampler": sampler,
                "gate": {"rhat": 5, "ess_per_chain": 9999},
            },
        ]

    study = load(tmp_path, edit)
    estimates, scores = run(study, tmp_path / "a")
    again, _ = run(replace(study, batch=1), tmp_path / "b")
    pd.testing.assert_frame_equal(steady(estimates), steady(again))
    mmmm = estimates[estimates["method"] == "mmmm"]
    assert set(mmmm["status"]) == {"ok"}, mmmm["message"].iloc[0]
    assert {"b_l1[x]", "b_w[b1]", "sigma_l1"} <= set(mmmm["parameter"])
    assert mmmm[["rhat", "ess_bulk", "p_value", "engine"]].notna().all().all()
    agg = estimates[(estimates["method"] == "agg") & (estimates["parameter"] == "b_l1[x]")]
    assert set(agg["truth"]) == {0.4}
    strict = estimates[estimates["method"] == "strict"]
    assert set(strict["status"]) == {"not_converged"}
    assert strict["message"].str.contains("wanted").all()
    counted = scores.query("method == 'strict' and measure == 'bias' and policy == 'per_method'")
    assert (counted["n_not_converged"] == 2).all()
    assert (counted["n"] == 0).all()


def test_study_data_are_those_of_the_simulator(tmp_path: Path) -> None:
    """A study adds addresses to `simulate`, nothing else: same columns, same truth."""
    study = load(tmp_path)
    scenario = study.scenarios[0]
    content = scenario.content
    direct = simulate(
        content["truth"]["formula"],
        content["truth"]["parameters"],
        seed=1,
        membership=dict(content["membership"]),
        covariates=content["covariates"],
    )
    frame = draw_replication(study.seed, scenario, 1).frame()
    assert list(frame.columns) == list(direct.data.columns)
    assert direct.truth == dict(scenario.recipe.truth.parameters)


def test_collection_and_measures_in_parts_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch and one scenario at a time: the same bytes however rows were cut into files."""

    def null_scenarios(config: dict[str, Any]) -> None:
        config["vary"]["effect"] = {"path": "truth.parameters.b_l1[x]", "values": [0, 0.4]}
        config["estimands"].append({"parameter": "sigma_l1"})  # which no method estimates

    from rmm.study.files import parquet as results

    written = []
    for batch in (5, 12):
        monkeypatch.setattr(results, "GROUP_ROWS", 50)
        study = replace(load(tmp_path, null_scenarios), batch=batch)
        out = tmp_path / str(batch)
        estimates, measured = run(study, out)
        kept = pq.read_table(out / "estimates.parquet")
        assert pq.ParquetFile(out / "estimates.parquet").num_row_groups > 2
        assert kept.equals(kept.sort_by([(n, "ascending") for n in results.ESTIMATES_ORDER]))
        whole = score(study, estimates)
        columns = [name for name in PERFORMANCE.names if name in whole]
        pd.testing.assert_frame_equal(
            measured[columns], whole[columns], check_dtype=False, check_exact=True
        )
        assert measured.query("measure == 'size_adjusted_power' and value == value").size > 0
        written.append(kept.drop_columns(list(RUN_COLUMNS)))
    assert written[0].equals(written[1])
