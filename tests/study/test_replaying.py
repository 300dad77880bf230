"""A replayed fit is the study's fit, to the last bit, and everything it was made of is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import rmm
from rmm.cli import main
from rmm.study import Study, keep_replay, load_study, plan, run_batch
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.manage.replay import compared

WEIGHTS = {"mean": "w ~ 1/n", "given": "w ~ power"}
METHODS: list[dict[str, Any]] = [
    {"name": "ols", "kind": "aggregation"},
    {"name": "mm", "kind": "mm"},
    {"name": "loo", "kind": "choice", "candidates": WEIGHTS},
]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    sampler = {
        "sampler": {"chains": 2, "warmup": 100, "draws": 100},
        "gate": {"rhat": 2, "ess_per_chain": 1},
    }
    config = {
        "seed": 8,
        "replications": 3,
        "batch": 3,
        "membership": {"kind": "synthetic", "groups": 30, "members": 15, "size": 3},
        "covariates": {
            "x": {"level": "member"},
            "power": {"level": "membership", "distribution": "uniform", "mean": 3},
        },
        "truth": {
            "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
            "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0.5, "sigma_l1": 1, "sigma_l2": 1},
        },
        "methods": [m if m["name"] == "ols" else {**m, **sampler} for m in METHODS],
    }
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study("one.yaml")


def run(study: Study) -> dict[str, Path]:
    paths = {}
    for job in plan(study):
        paths[job.method] = Path("results/one") / job.path
        run_batch(study, job.scenario, job.method, job.first, job.last, paths[job.method])
    return paths


@pytest.mark.jags
def test_a_replay_is_the_fit_of_the_study(study: Study) -> None:
    for method, path in run(study).items():
        scenario = study.scenarios[0].id
        outcome, stored = keep_replay(study, scenario, 2, method, method, "results/one")
        assert stored == "same"
        assert outcome.status == "ok"
        table = pq.read_table(path, partitioning=None).to_pandas()
        mine = table[table["replication"] == 2].drop(columns=list(RUN_COLUMNS))
        kept = pd.DataFrame(json.loads(Path(method, "replay.json").read_text())["estimates"])
        for name in mine:  # apart from the comparison that `stored` rests on
            theirs, ours = kept[name].to_numpy(), mine[name].to_numpy()
            same = (theirs == ours) | (pd.isna(theirs) & pd.isna(ours))
            assert same.all(), name


@pytest.mark.jags
def test_files_of_a_bayesian_fit(study: Study) -> None:
    outcome, stored = keep_replay(study, study.scenarios[0].id, 1, "mm", "kept", "results/one")
    assert stored == "not there"
    facts = json.loads(Path("kept/replay.json").read_text())
    assert facts["address"]["replication"] == 1
    assert facts["address"]["method_id"] == study.method("mm").id
    assert facts["versions"]["rmm"] == rmm.__version__
    assert facts["status"] == "ok"
    fit = rmm.load("kept/fit.nc")
    assert facts["chain_seed"] == fit.settings.seed
    assert Path("kept/program.jags").read_text() == fit.program
    data = json.loads(Path("kept/program_data.json").read_text())
    assert set(data) == set(fit.program_data)
    np.testing.assert_array_equal(data["y"], outcome.fit.program_data["y"])
    # The draws that are kept are those of the estimates.
    kept_draws, own = (f.draws["posterior"]["sigma_l1"].to_numpy() for f in (fit, outcome.fit))
    assert kept_draws.tobytes() == own.tobytes()
    means = {e["parameter"]: e["mean"] for e in facts["estimates"]}
    assert kept_draws.mean() == pytest.approx(means["sigma_l1"], rel=1e-12)
    kept = pd.read_csv("kept/data.csv")
    assert len(kept) == 90


@pytest.mark.jags
def test_candidates_are_kept_one_by_one(study: Study) -> None:
    keep_replay(study, study.scenarios[0].id, 1, "loo", "kept")
    names = {p.name for p in Path("kept").iterdir()}
    for name in WEIGHTS:
        assert {f"fit-{name}.nc", f"program-{name}.jags", f"program_data-{name}.json"} <= names
    weights = [rmm.load(f"kept/fit-{name}.nc").weights()["mean"] for name in WEIGHTS]
    assert weights[0].nunique() == 1
    assert weights[1].nunique() > 1


def test_another_result_is_told(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_one(study)
    table = pq.read_table(path, partitioning=None)
    at = table.schema.get_field_index("mean")
    changed = [m + 1e-12 for m in table["mean"].to_pylist()]
    pq.write_table(table.set_column(at, table.schema.field(at), [changed]), path)
    arguments = ["study", "replay", "one.yaml", "--method", "ols", "--out", "kept"]
    assert main(arguments) == 1
    assert "Compared with the estimates of the study: different in mean" in capsys.readouterr().out
    assert not list(Path("kept").glob("program*"))  # least squares has none


@pytest.mark.parametrize(
    ("status", "said"), [("timeout", "same"), ("failed", "different in message")]
)
def test_how_far_a_fit_came_in_its_time_is_no_difference(
    status: str, said: str, study: Study
) -> None:
    path = run_one(study)
    table = pq.read_table(path, partitioning=None)
    first = table.slice(0, 1).to_pylist()[0]
    row = {**first, "status": status, "message": "not done in 2 s (21,472 iterations)"}
    again = pa.Table.from_pylist(
        [{**row, "message": "not done in 2 s (33 iterations)"}], schema=table.schema
    )
    pq.write_table(pa.Table.from_pylist([row], schema=table.schema), path)
    assert compared(again, "results/one") == said


@pytest.mark.jags
def test_sds_have_no_p_value_in_print(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    """No posterior of an sd holds 0; another null of the study is tested."""
    arguments = ["study", "replay", "one.yaml", "--method", "mm", "--out", "kept"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    printed = {line.split(":")[0].strip(): line for line in lines if ": mean" in line}
    tested = {name for name, line in printed.items() if ", p " in line}
    assert {"sigma_l1", "sigma_l2"} <= set(printed)
    assert tested == {"b_l2[Intercept]", "b_l1[x]"}
    config = yaml.safe_load(Path("one.yaml").read_text())
    config["estimands"] = [{"parameter": "sigma_l1", "null": 0.9}]
    Path("one.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [", p " in line for line in lines if "sigma" in line] == [True, False]


def test_a_replication_beyond_those_of_the_file_is_told(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    run_one(study)
    arguments = ["study", "replay", "one.yaml", "--method", "ols", "--out", "kept"]
    beyond = (
        f"The study plans only 3 replications of ols in {study.scenarios[0].id}. "
        "Replication 4 is run anyway."
    )
    for replication, said in {3: "", 4: f"{beyond}\n"}.items():
        assert main([*arguments, "--replication", str(replication)]) == 0
        printed = capsys.readouterr()
        assert printed.err == f"{said}Files written to kept\n"
        stored = "not there" if said else "same"
        assert printed.out.endswith(f"Compared with the estimates of the study: {stored}\n")
        assert json.loads(Path("kept/replay.json").read_text())["estimates_of_the_study"] == stored


def run_one(study: Study) -> Path:
    job = next(j for j in plan(study) if j.method == "ols")
    path = Path("results/one") / job.path
    run_batch(study, job.scenario, job.method, job.first, job.last, path)
    return path
