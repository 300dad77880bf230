"""Keys of methods as factors: the same data sets, and only the fits that depend on the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from rmm.errors import StudyError
from rmm.study import Study, collect, load_study, plan, run_batch, write_performance
from rmm.study.design.study import load_checked
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.manage.check_models import check_models
from rmm.study.manage.compare_results import compare
from rmm.study.manage.kept_data import missing_data
from rmm.study.manage.replay import SAME, keep_replay
from rmm.study.manage.status import status
from rmm.study.planning.preregistration import protocol
from rmm.study.planning.replications import read_pilot
from rmm.study.report import write_report
from rmm.study.run.replicate import draw_replication

NARROW = {"b_l1[x]": "normal(0, 0.01)"}
CONFIG: dict[str, Any] = {
    "seed": 11,
    "replications": 3,
    "membership": {"kind": "synthetic", "groups": 40, "members": 15, "size": 2},
    "covariates": {"x": {"level": "member"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0.8, "sigma_l1": 1, "sigma_l2": 1},
    },
    "methods": [
        {"name": "agg", "kind": "aggregation"},
        {"name": "m.m", "kind": "mm", "backend": "laplace", "sampler": {"draws": 200}},
    ],
    "estimands": [{"parameter": "b_l1[x]"}],
}
PRIORS = {
    "priors": {
        "levels": {
            "default": {"methods.m.m.priors": "weakly_informative"},
            "narrow": {"methods.m.m.priors": NARROW},
        }
    }
}
OVERLAP = {"overlap": {"path": "membership.overlap", "values": [0.5, 1.0]}}


def load(folder: Path, **changes: Any) -> Study:
    config = copy.deepcopy(CONFIG) | copy.deepcopy(changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(folder / "study.yaml")


def run(study: Study, folder: Path) -> pd.DataFrame:
    for job in plan(study, folder):
        path = folder / job.path
        if not path.is_file():
            one = load_checked(study.file, job.scenario, job.method)  # as a job of the workflow
            run_batch(one, job.scenario, job.method, job.first, job.last, path)
    collect(study, [folder / j.path for j in plan(study, folder)], folder / "estimates.parquet")
    return pd.read_parquet(folder / "estimates.parquet").drop(columns=list(RUN_COLUMNS))


def test_only_the_method_whose_key_varies_is_fitted_again(tmp_path: Path) -> None:
    """Adding the factor to a study that has run repeats no fit; `agg` is fitted once."""
    folder = tmp_path / "out"
    before = run(load(tmp_path / "a", vary=OVERLAP), folder)
    files = {path: path.stat().st_mtime_ns for path in folder.glob("estimates/*/*/*.parquet")}
    study = load(tmp_path / "a", vary=OVERLAP | PRIORS)
    assert len(study.scenarios) == 4
    assert sum(study.fits.values()) == 3 * (2 + 4)
    after = run(study, folder)
    made = {path: path.stat().st_mtime_ns for path in folder.glob("estimates/*/*/*.parquet")}
    assert files.items() <= made.items()
    assert {path.parts[-2] for path in set(made) - set(files)} == {"m.m"}
    assert after.groupby(["scenario", "method"])["replication"].nunique().tolist() == [3] * 8
    kept = after.merge(before, on=list(before.columns), how="inner")
    assert len(kept) == len(before)

    factors = pd.DataFrame(study.scenario_columns())
    wide = after[after["parameter"] == "b_l1[x]"].merge(factors, on="scenario")
    wide = wide.pivot_table(
        index=["overlap", "method", "replication"], columns="priors", values="mean"
    )
    assert (wide.loc[:, "agg", :]["default"] == wide.loc[:, "agg", :]["narrow"]).all()
    shrunk = wide.loc[:, "m.m", :]
    assert (shrunk["narrow"].abs() < 0.1).all() and (shrunk["default"] > 0.3).all()
    assert status(study, folder)["fits"] == {"ok": 18}
    assert read_pilot(study, folder).groupby("scenario").size().nunique() == 1
    assert compare(study, folder).belongs
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    scores = pd.read_parquet(folder / "performance.parquet").merge(factors, on="scenario")
    bias = scores.query("measure == 'bias' and policy == 'per_method' and parameter == 'b_l1[x]'")
    assert bias.groupby(["method", "priors"]).size().tolist() == [2, 2, 2, 2]


def test_scenarios_that_differ_in_a_key_of_a_method_have_the_same_data(tmp_path: Path) -> None:
    study = load(tmp_path, vary=PRIORS)
    one, other = study.scenarios
    assert one.id != other.id and one.data_id == other.data_id == one.id
    drawn = [draw_replication(study.seed, s, 2).frame() for s in (one, other)]
    pd.testing.assert_frame_equal(*drawn)
    assert [job.scenario for job in missing_data(study, tmp_path)] == [one.id]
    assert study.method_in(one, "m.m") is study.method("m.m")
    assert study.method_in(other, "m.m").config["priors"] == NARROW
    assert study.method_in(other, "agg") is study.method("agg")


def test_two_methods_vary_by_themselves(tmp_path: Path) -> None:
    """2 x 2 levels of keys of two methods: two fits of each, none of the combinations."""
    draws = {"draws": {"path": "methods.m.m.sampler.draws", "values": [200, 300]}}
    summary = {"summary": {"path": "methods.agg.summary", "values": ["mean", "sum"]}}
    study = load(tmp_path, vary=draws | summary)
    assert len({s.id for s in study.scenarios}) == 4
    by_method = pd.Series([name for _, name in study.fits]).value_counts().to_dict()
    assert by_method == {"agg": 2, "m.m": 2}
    # The ids of fits do not depend on which other scenarios there are.
    alone = load(tmp_path, vary={"draws": draws["draws"] | {"values": [300]}} | summary)
    assert set(alone.fits) < set(study.fits)


def test_data_ids_are_those_without_factors_of_methods(tmp_path: Path) -> None:
    plain = load(tmp_path, vary=OVERLAP)
    study = load(tmp_path, vary=OVERLAP | PRIORS)
    assert {s.data_id for s in study.scenarios} == {s.id for s in plain.scenarios}
    assert [s.id for s in study.scenarios if not s.settings] == [s.id for s in plain.scenarios]


def test_jobs_of_scenarios_with_other_replications_fit_together(tmp_path: Path) -> None:
    """`agg` is fitted as often as the scenario that asks for most."""
    levels = PRIORS["priors"]["levels"]
    vary = {"priors": {"levels": {"default": levels["default"] | {"replications": 5},
                                  "narrow": levels["narrow"]}}}  # fmt: skip
    study = load(tmp_path, vary=vary)
    ranges = [(j.method, j.first, j.last) for j in plan(study, tmp_path / "out")]
    assert sorted(ranges) == [
        ("agg", 1, 3), ("agg", 4, 5), ("m.m", 1, 3), ("m.m", 1, 5)
    ]  # fmt: skip
    rows = run(study, tmp_path / "out")
    counts = rows.groupby(["scenario", "method"])["replication"].nunique()
    default, narrow = (s.id for s in study.scenarios)
    assert counts.to_dict() == {
        (default, "agg"): 5, (default, "m.m"): 5, (narrow, "agg"): 3, (narrow, "m.m"): 3
    }  # fmt: skip


def test_a_shared_fit_is_replayed(tmp_path: Path) -> None:
    study = load(tmp_path, vary=PRIORS)
    run(study, tmp_path / "out")
    narrow = study.scenarios[1].id
    for method in ("agg", "m.m"):
        folder = tmp_path / "replay" / method
        outcome, stored = keep_replay(study, narrow, 2, method, folder, tmp_path / "out")
        assert (outcome.status, stored) == ("ok", SAME)


def test_stopping_looks_at_shared_fits(tmp_path: Path) -> None:
    """The rule sees the fits that a scenario shares; both methods reach a wide target at once."""
    target = {"measure": "bias", "parameter": "b_l1[x]", "mcse": 5.0}
    stopping = {"minimum": 3, "step": 2, "targets": [target]}
    study = load(tmp_path, vary=PRIORS, stopping=stopping, replications=7)
    rows = run(study, tmp_path / "out")
    assert rows.groupby(["scenario", "method"])["replication"].max().tolist() == [3] * 4


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("methods.mm.priors", r"is not a method of this study.*Allowed: agg, m\.m"),
        ("methods.agg", r"The path ends with the method agg"),
        ("methods.agg.prior", r"'prior' is not a key that is allowed here"),
        ("methods.agg.kind", r"`kind` of a method cannot be a factor"),
        ("methods.agg.replications", r"use the path `replications`"),
        ("methods.m.m.sampler.draw", r"'draw' is not a key that is allowed here.*draws"),
        ("methods.m.m.weights.x", r"`methods\.m\.m\.weights` has no keys of its own"),
        ("method.agg.errors", r"starts with an allowed key.*methods\.NAME"),
    ],
)
def test_a_wrong_path_is_named(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(StudyError, match=f"(?s)vary\\.f\\.path.*{message}"):
        load(tmp_path, vary={"f": {"path": path, "values": [1, 2]}})


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("methods.m.m.sampler.draws", [200, 0], r"methods\[1\]\.sampler\.draws \(scenario f = 0\)"),
        ("methods.m.m.sampler.ess", [300], r"`ess` cannot be used with backend laplace"),
        ("methods.agg.summary", ["mean", "mode"], r"methods\[0\]\.summary \(scenario f = mode\)"),
        ("methods.agg.formula", ["y ~ 1", "y ~ z"], r"methods\[0\]\.formula .*'z'"),
        ("methods.agg.priors", ["flat"], r"`priors` cannot be used with backend ols"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, path: str, values: Any, message: str) -> None:
    with pytest.raises(StudyError, match=f"(?s){message}"):
        load(tmp_path, vary={"f": {"path": path, "values": values}})


def test_priors_of_each_level_are_checked_before_the_first_fit(tmp_path: Path) -> None:
    bad = {"p": {"path": "methods.m.m.priors", "values": [NARROW, {"b_l9[x]": "normal(0, 1)"}]}}
    with pytest.raises(StudyError, match=r"(?s)methods\[1\]\.priors.*scenario p = .*b_l9"):
        check_models(load(tmp_path, vary=bad))


def test_the_protocol_and_the_report_say_which_keys_vary(tmp_path: Path) -> None:
    aims = {"aims": "Does a narrow prior matter?"}
    study = load(tmp_path, vary=PRIORS, **aims)
    assert study.varied_keys("m.m") == ["priors"] and study.varied_keys("agg") == []
    text = protocol(study)
    assert text.count("factors change priors") == 1
    folder = tmp_path / "out"
    run(study, folder)
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    written = write_report(study, folder)
    page = written.read_text() + written.with_name("numbers.html").read_text()
    assert "factors change priors" in page and "the same data sets by two methods" in page


def test_the_size_of_a_power_curve_is_no_key_of_a_method(tmp_path: Path) -> None:
    vary = {"draws": {"path": "methods.m.m.sampler.draws", "values": [200, 300]}}
    power = {"parameter": "b_l1[x]", "size": "draws"}
    with pytest.raises(StudyError, match=r"(?s)vary\.draws\.path.*varies a key of a method"):
        load(tmp_path, vary=vary, power=power)


def test_levels_that_change_nothing_are_the_same_scenario(tmp_path: Path) -> None:
    factor = {"path": "methods.agg.errors", "values": ["classical", "robust"]}
    study = load(tmp_path, vary={"errors": factor})
    assert [bool(s.settings) for s in study.scenarios] == [False, True]
    with pytest.raises(StudyError, match=r"give the same scenario"):
        load(
            tmp_path, vary={"errors": factor, "more": factor | {"values": ["robust", "classical"]}}
        )


def test_a_key_below_a_key_is_set(tmp_path: Path) -> None:
    factor = {"path": "methods.m.m.priors.b_l1[x]", "values": ["normal(0, 1)", "normal(0, 2)"]}
    study = load(tmp_path, vary={"sd": factor})
    found = [study.method_in(s, "m.m").config["priors"] for s in study.scenarios]
    assert found == [{"b_l1[x]": "normal(0, 1)"}, {"b_l1[x]": "normal(0, 2)"}]
