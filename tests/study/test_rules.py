"""The rules of simulation studies, one named test or more for each.

1 seeds are addresses, 2 every method sees the same data, 3 a failed fit is a row, 4 a measure
comes with its error and n under two policies, 5 raw estimates are kept and can be scored anew,
6 one replication can be replayed, 7 a changed file is refused with the difference, never merged.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from rmm.errors import StudyError
from rmm.study import (
    Study,
    collect,
    load_study,
    plan,
    replay,
    run_batch,
    write_design,
    write_performance,
)
from rmm.study.files import seeds
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.measures.measures import RATES
from rmm.study.measures.score_cells import LOWER, UPPER
from rmm.study.methods import fit_task as fitting
from rmm.study.methods.task import Outcome, Task
from rmm.study.performance import performance
from rmm.study.run.metadata import method_content
from rmm.study.run.replicate import make_task
from tests import ROOT

CONFIG: dict[str, Any] = {
    "seed": 5,
    "replications": 12,
    "batch": 5,
    "membership": {"kind": "synthetic", "groups": 30, "members": 12, "size": 2},
    "covariates": {"x": {"level": "member"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0.4, "sigma_l1": 1, "sigma_l2": 1},
    },
    "vary": {"overlap": {"path": "membership.overlap", "values": [0.0, 1.0]}},
    "methods": [
        {"name": "agg", "kind": "aggregation"},
        {"name": "dis", "kind": "disaggregation", "replications": 7},
    ],
    "estimands": [{"parameter": "b_l1[x]"}],
}
KEYS = ["scenario", "method", "replication", "parameter"]


def load(folder: Path, edit: Any = None) -> Study:
    config = copy.deepcopy(CONFIG)
    if edit is not None:
        edit(config)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def run(study: Study, out: Path) -> pd.DataFrame:
    write_design(study, out)
    for job in plan(study, out):
        if not (out / job.path).is_file():
            run_batch(study, job.scenario, job.method, job.first, job.last, out / job.path)
    collect(study, [out / job.path for job in plan(study, out)], out / "estimates.parquet")
    write_performance(study, out / "estimates.parquet", out / "performance.parquet")
    return pd.read_parquet(out / "estimates.parquet")


def files(out: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Inode, time and bytes of every batch."""
    found = sorted((out / "estimates").rglob("*.parquet"))
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in found}


def rows_as_bytes(frame: pd.DataFrame) -> dict[tuple[Any, ...], bytes]:
    """Row by its key, all columns, floats to the last bit."""
    parts = frame.to_dict("records")
    return {
        tuple(row[k] for k in KEYS): repr(
            [v.hex() if isinstance(v, float) else v for v in row.values()]
        ).encode()
        for row in parts
    }


# -- rule 1: what exists does not change, and is not computed again --------------------------


def add_scenario(config: dict[str, Any]) -> None:
    config["vary"]["size"] = {"levels": {"small": {}, "large": {"membership.groups": 60}}}


def add_level(config: dict[str, Any]) -> None:
    config["vary"]["overlap"]["values"].insert(1, 0.5)


def add_method(config: dict[str, Any]) -> None:
    config["methods"].insert(0, {"name": "rob", "kind": "aggregation", "errors": "robust"})


def add_replications(config: dict[str, Any]) -> None:
    config["replications"] = 17
    config["methods"][1]["replications"] = 9


ADDED = {
    add_scenario: "a scenario",
    add_level: "a level of a factor",
    add_method: "a method",
    add_replications: "replications",
}


@pytest.mark.parametrize("edit", ADDED, ids=ADDED.values())
def test_rule_1_adding_leaves_rows_byte_equal_and_computes_nothing_again(
    edit: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = rows_as_bytes(run(load(tmp_path), out))
    kept = files(out)
    after = rows_as_bytes(run(load(tmp_path, edit), out))
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before  # times of fits and engines, too
    now = files(out)
    assert {path: now[path] for path in kept} == kept
    assert len(now) > len(kept)


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """The workflow without results, and the study as `config/studies/study.yaml`."""
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("workflow", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=False)
    (tmp_path / "profiles").symlink_to("workflow/profiles")
    return tmp_path


def snakemake(folder: Path, *more: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *more, "--config", "study=study"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(folder: Path, edit: Any) -> int:
    """Batches that a dry run announces after a change, all of the first study's being there.

    A job of rule `fit_0_2` makes those of two methods.
    """
    studies, out = folder / "config" / "studies", folder / "results" / "study"
    run(load(studies), out)
    for name in ("estimates", "performance"):  # as they are not Snakemake's, it knows no inputs
        (out / f"{name}.parquet").unlink()
    kept = files(out)
    load(studies, edit)
    lines = re.findall(r"^(fit\w*) +(\d+)$", snakemake(folder, "-n"), flags=re.MULTILINE)
    assert files(out) == kept
    # Snakemake says it before and after the plan.
    return sum(int(jobs) * max(1, name.count("_")) for name, jobs in dict(lines).items())


@pytest.mark.thorough
def test_rule_1_snakemake_plans_the_new_fits_alone(workflow: Path) -> None:
    """Everything added at once; batches of 5, and old ones end at 12 (agg) and 7 (dis)."""

    def all_of_it(config: dict[str, Any]) -> None:
        for edit in (add_scenario, add_level, add_replications, add_method):
            edit(config)

    old = 2 * (2 + 1 + 4)  # agg 13-15 and 16-17, dis 8-9, four of the new method
    new = 4 * (4 + 2 + 4)
    assert planned(workflow, all_of_it) == old + new


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "fits"),
    [(add_scenario, 2 * 5), (add_level, 5), (add_method, 2 * 3), (add_replications, 2 * 3)],
)
def test_rule_1_snakemake_plans_the_new_fits_of_each_change(
    workflow: Path, edit: Any, fits: int
) -> None:
    assert planned(workflow, edit) == fits


def test_rule_1_batch_size_and_order_change_no_number(tmp_path: Path) -> None:
    def cut(config: dict[str, Any]) -> None:
        config["batch"] = 4
        config["methods"].reverse()

    first, other = load(tmp_path / "a"), load(tmp_path / "b", cut)
    a = run(first, tmp_path / "a" / "out").drop(columns=list(RUN_COLUMNS))
    out = tmp_path / "b" / "out"
    for job in reversed(plan(other, out)):  # the last job first
        run_batch(other, job.scenario, job.method, job.first, job.last, out / job.path)
    b = run(other, out).drop(columns=list(RUN_COLUMNS))
    assert rows_as_bytes(a) == rows_as_bytes(b)


# -- rule 2: the same data -------------------------------------------------------------------


def test_rule_2_every_method_sees_the_same_data(tmp_path: Path) -> None:
    study = load(tmp_path, add_method)
    for replication in (1, 6):
        drawn = [make_task(study, study.scenarios[1], m, replication).drawn for m in study.methods]
        for other in drawn[1:]:
            pd.testing.assert_frame_equal(other.frame(), drawn[0].frame(), check_exact=True)


# -- rule 3: failures ------------------------------------------------------------------------


def test_rule_3_one_methods_failure_leaves_the_others_and_has_no_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(load(tmp_path), tmp_path / "whole").drop(columns=list(RUN_COLUMNS))
    original = fitting.fit_regression

    def one_fails(task: Task) -> Outcome:
        if task.method.name == "dis":
            raise RuntimeError("no")
        return original(task)

    monkeypatch.setitem(fitting.BACKENDS, "ols", one_fails)
    broken = run(load(tmp_path), tmp_path / "broken").drop(columns=list(RUN_COLUMNS))
    agg = [f[f["method"] == "agg"].reset_index(drop=True) for f in (whole, broken)]
    assert rows_as_bytes(agg[0]) == rows_as_bytes(agg[1])
    dis = broken[broken["method"] == "dis"]
    assert len(dis) == 2 * 7  # a row per fit: nothing disappears, nothing is redrawn
    assert set(dis["status"]) == {"failed"}
    scores = pd.read_parquet(tmp_path / "broken" / "performance.parquet")
    power = scores[(scores["measure"] == "rejection") & (scores["method"] == "dis")]
    bounds = power["policy"].isin([LOWER, UPPER])
    assert len(power[~bounds]) == 2 * 2
    assert power.loc[~bounds, "value"].isna().all()
    assert (power.loc[~bounds, "n"] == 0).all()
    assert (power["n_failed"] == 7).all()
    # All that is known of it: no failed fit would have rejected, or all would have.
    limits = power[bounds].groupby("policy")[["value", "n"]].agg(["min", "max"]).to_numpy().tolist()
    assert limits == [[0, 0, 7, 7], [1, 1, 7, 7]]


# -- rule 4: two policies --------------------------------------------------------------------


def test_rule_4_policies_differ_exactly_as_constructed() -> None:
    """A fails in 1 and 2, B does not converge in 3, C was not to fit 9: by hand."""
    estimates = pd.DataFrame(
        [
            {
                "replication": r,
                "method": m,
                "mean": float(r),
                "sd": 1.0,
                "truth": 0.0,
                "status": "failed"
                if m == "A" and r < 3
                else "not_converged"
                if m == "B" and r == 3
                else "ok",
            }
            for m in "ABC"
            for r in range(1, 10)
            if (m, r) != ("C", 9)
        ]
    )
    scores = performance(estimates, measures=["bias", "rejection"])
    found = {
        (r["method"], r["policy"]): (r["value"], r["n"], r["n_failed"], r["n_not_converged"])
        for r in scores[scores["measure"] == "bias"].to_dict("records")
    }
    common = np.mean([4, 5, 6, 7, 8, 9])
    assert found == {
        ("A", "per_method"): (np.mean([3, 4, 5, 6, 7, 8, 9]), 7, 2, 0),
        ("A", "complete_case"): (common, 6, 2, 0),
        ("B", "per_method"): (np.mean([1, 2, 4, 5, 6, 7, 8, 9]), 8, 0, 1),
        ("B", "complete_case"): (common, 6, 0, 1),
        ("C", "per_method"): (np.mean([1, 2, 3, 4, 5, 6, 7, 8]), 8, 0, 0),
        ("C", "complete_case"): (np.mean([4, 5, 6, 7, 8]), 5, 0, 0),
    }


def test_rule_4_every_measure_has_its_error_and_n(tmp_path: Path) -> None:
    study = load(tmp_path)
    run(study, tmp_path / "out")
    scores = pd.read_parquet(tmp_path / "out" / "performance.parquet")
    known = scores[scores["value"].notna()]
    assert (known["n"] > 0).all()
    cell = ["scenario", "method", "policy"]
    rejection = known[known["measure"] == "rejection"].set_index(cell)
    for row in known[known["mcse"].isna()].to_dict("records"):
        if row["measure"] in RATES or row["measure"].startswith("difference_"):
            assert row["value"] in (-1, 0, 1)  # no error, but an interval
            assert row["upper"] - row["lower"] > 0
            continue
        assert row["measure"] == "exaggeration"  # a mean over the significant fits: there is one
        rate = rejection.loc[tuple(row[k] for k in cell), "value"]
        assert round(rate * row["n"]) == 1
    assert scores[["n_failed", "n_not_converged"]].notna().all().all()


# -- rule 5: raw estimates -------------------------------------------------------------------


def test_rule_5_other_levels_are_scored_without_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    estimates = run(load(tmp_path), out)
    kept = files(out)

    def no_fit(*_: Any, **__: Any) -> Any:
        raise AssertionError("a fit")

    monkeypatch.setattr("rmm.study.run.batch.fit_task", no_fit)

    def levels(config: dict[str, Any]) -> None:
        config["estimands"][0]["alpha"] = [0.05, 0.2, 0.013]

    run(load(tmp_path, levels), out)
    assert files(out) == kept
    scores = pd.read_parquet(out / "performance.parquet")
    rejection = scores.query("measure == 'rejection' and policy == 'per_method'")
    assert set(rejection["alpha"]) == {0.05, 0.2, 0.013}
    for row in rejection.to_dict("records"):
        mine = estimates.query("parameter == 'b_l1[x]'")
        mine = mine[(mine["scenario"] == row["scenario"]) & (mine["method"] == row["method"])]
        assert row["value"] == (mine["p_value"] < row["alpha"]).mean()


# -- rule 6: replay --------------------------------------------------------------------------


def test_rule_6_a_replication_is_replayed_by_its_address(tmp_path: Path) -> None:
    study = load(tmp_path)
    estimates = run(study, tmp_path / "out").set_index(KEYS)
    for method, replication in (("agg", 11), ("dis", 3)):
        scenario = study.scenarios[1].id
        data, outcome = replay(study, scenario, replication, method)
        assert outcome.fit is not None
        assert len(data.data) == 60
        for one in outcome.estimates:
            row = estimates.loc[(scenario, method, replication, one["parameter"])]
            assert (row["mean"], row["sd"], row["p_value"]) == (
                one["mean"],
                one["sd"],
                one["p_value"],
            )


# -- rule 7: a changed file ------------------------------------------------------------------


def with_engine(config: dict[str, Any]) -> None:
    config["methods"].append({"name": "mm", "kind": "mm", "sampler": {"draws": 500, "chains": 2}})
    config["estimands"][0]["null"] = 0.1


def kept_with_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of a study with an engine's method, whose fits are not run."""
    monkeypatch.setitem(fitting.BACKENDS, "jags", lambda task: Outcome("ok"))
    out = folder / "out"
    run(load(folder, with_engine), out)
    return out


REFUSED: dict[str, tuple[Any, str]] = {
    "seed": (
        lambda c: c.update(seed=6),
        r"another study seed:\n  seed: 5 in the results, 6 in \S+yaml\n",
    ),
    "a setting at its default": (
        lambda c: c["methods"][2]["sampler"].update(draws=1000),
        r"other settings of the method:\n"
        r"  sampler\.draws: 500 in the results, 1000 in \S+yaml\n  Undo the change",
    ),
    "several settings": (
        lambda c: c["methods"][2].update(
            sampler={"chains": 4, "draws": 500, "options": {"adapt_delta": 0.9}},
            gate={"rhat": 1.1},
        ),
        r"method:\n  sampler\.chains: 2 in the results, 4 in \S+\n"
        r"  sampler\.options\.adapt_delta: nothing in the results, 0\.9 in \S+\n"
        r"  gate\.rhat: 1\.01 in the results, 1\.1 in \S+\n  Undo the change",
    ),
    "text": (
        lambda c: c["methods"][0].update(errors="robust"),
        r"method:\n  errors: classical in the results, robust in",
    ),
    "null": (
        lambda c: c["estimands"][0].update(null=0),
        r"other null values:\n  null of b_l1\[x\]: 0\.1 in the results, nothing in",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rule_7_a_changed_file_is_refused_with_the_difference(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = kept_with_engine(tmp_path, monkeypatch)
    kept = files(out)
    change, match = REFUSED[case]

    def edit(config: dict[str, Any]) -> None:
        with_engine(config)
        change(config)

    study = load(tmp_path, edit)
    with pytest.raises(StudyError, match=match):
        plan(study, out)
    with pytest.raises(StudyError, match=match):
        collect(study, sorted(kept, reverse=True), out / "estimates.parquet")
    assert files(out) == kept


def test_rule_7_files_without_the_content_still_work(tmp_path: Path) -> None:
    """Files of versions before the content was kept: taken, or refused with the two ids."""
    study, out = load(tmp_path), tmp_path / "out"
    run(study, out)
    for path in (out / "estimates").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        older = {k: v for k, v in table.schema.metadata.items() if k != b"rmm.content"}
        assert len(older) < len(table.schema.metadata)
        pq.write_table(table.replace_schema_metadata(older), path)
    assert len(run(study, out)) > 0

    def robust(config: dict[str, Any]) -> None:
        config["methods"][0]["errors"] = "robust"

    other = load(tmp_path, robust)
    ids = (study.method("agg").id, other.method("agg").id)
    with pytest.raises(StudyError, match=f"method_id: {ids[0]} in the results, {ids[1]} in"):
        plan(other, out)


def test_rule_7_what_is_kept_is_what_the_id_is_made_of(tmp_path: Path) -> None:
    study = load(tmp_path, with_engine)
    for method in study.methods:
        assert seeds.short_id("m", method_content(method)) == method.id


# -- frozen addresses ------------------------------------------------------------------------

#: Ids of shipped studies before `stopping` and `power` were keys: first scenario, methods.
FROZEN: dict[str, tuple[str, str, dict[str, str]]] = {
    "quickstart": (  # its levels of overlap and its JAGS settings were changed since
        "scb5747fcb6",
        "cb5747fcb63a4c91",
        {
            "aggregation": "md2aeeb4de4",
            "disaggregation": "m6055dc3c75",
            "mm": "mffaf120b69",
            "mmmm": "m5c02daa804",
            "mm_jags": "m1e4bd9b237",
            "mmmm_jags": "mb7c9daa954",
        },
    ),
    "closed_form_4_shared_members": (
        "sa07811cad1",
        "a07811cad1b8e5d3",
        {"aggregation": "md2aeeb4de4"},
    ),
    "calibration_weibull": (
        "s6ad112893a",
        "6ad112893afe8365",
        {"jags": "m418a9b46f0", "stan": "ma06bed7f78", "laplace": "mef5beac9bb"},
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_ids_of_shipped_studies_are_frozen(name: str) -> None:
    study = load_study(ROOT / "config" / "studies" / f"{name}.yaml")
    scenario, digest, methods = FROZEN[name]
    assert (study.scenarios[0].id, study.scenarios[0].digest[:16]) == (scenario, digest)
    assert {m.name: m.id for m in study.methods} == methods
    assert study.stopping is None
    assert study.power is None
