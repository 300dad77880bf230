"""Methods and data of a user's own: what runs, what an answer may be, what a failure leaves."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from rmm.cli import main
from rmm.errors import BackendError, DataError, StudyError
from rmm.study import Study, load_study, plan, run_batch, status
from rmm.study.manage.check_models import check_models
from rmm.study.manage.kept_data import missing_data, write_data
from rmm.study.manage.set_aside import set_aside
from rmm.study.methods.layouts import LAYOUTS
from rmm.study.methods.own_methods import python_answer, scenario_facts, tables_of
from rmm.study.methods.task import parsed
from rmm.study.own import process_pool
from rmm.study.own.answers import rows_of_answer
from rmm.study.own.given_data import given_data, given_recipe
from rmm.study.own.rscript import installed
from rmm.study.planning.preregistration import protocol
from rmm.study.planning.size_search_fits import scenario_at
from rmm.study.run.log import logged
from rmm.study.run.replicate import draw_replication, make_task
from tests.projects import STUDY

X = "b_l1[x]"
METHODS = """\
import os
import random
import signal
import sys
import time

import numpy as np

np.random.seed(0)


def good(data, scenario, rng):
    return {"b_l1[x]": {"estimate": data["y"].mean() + rng.normal(), "se": 1.0, "df": 8}}


def old_style(data, scenario, rng):
    return {"b_l1[x]": np.random.normal() + random.random()}


def mishap(data, scenario, rng):
    print("on its way")
    what = int(rng.integers(6))
    if what == 0:
        raise ValueError("no luck")
    if what == 1:
        sys.exit(3)
    if what == 2:
        time.sleep(60)
    if what == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == 4:
        return {"b_l1[x]": float("nan")}
    return {"b_l1[x]": 1.0}


def slope(data, scenario, rng, times=1):
    return {"b_l1[x]": times * float(np.polyfit(data["x"], data["y"], 1)[0])}


def status(data, scenario, rng):
    return {"b_l1[x]": 1.0}, {"status": "not_converged", "message": "20 steps"}


def counting(data, scenario, rng, seen=[]):
    seen.append(1)
    return {"b_l1[x]": float(len(seen))}


def typo(data, scenario, rng):
    return {"b_l1[z]": 1.0}


def two(data, rng):
    return {}
"""
DATA = """\
import numpy as np
import pandas as pd


def draw(rng, groups=30, effect=0.5):
    group = np.repeat(np.arange(groups), 2)
    member = rng.permuted(np.tile(np.arange(10), (groups, 1)), axis=1)[:, :2].ravel()
    x, u = rng.normal(size=(2, 10))
    y = effect * x[member].reshape(-1, 2).mean(axis=1) + rng.normal(size=groups)
    frame = pd.DataFrame({"member": member, "group": group, "x": x[member], "y": y[group]})
    return frame, {"b_l1[x]": effect}


def sometimes(rng):
    if rng.random() < 0.4:
        raise RuntimeError("nothing was drawn")
    return draw(rng)


def without_truth(rng):
    return draw(rng)[0]


def tables(rng):
    frame, truth = draw(rng)
    return {"data": frame, "people": pd.DataFrame({"age": rng.normal(size=3)})}, truth


def forgetful(rng):
    return draw(np.random.default_rng())
"""
FORMULA = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"


def own(function: str = "good", **more: Any) -> dict[str, Any]:
    """A method of the file above."""
    return {"name": function, "kind": "python", "function": f"mine.py:{function}", **more}


def write(folder: Path, *methods: Mapping[str, Any], **study: Any) -> Path:
    """A study file, and beside it the two files above."""
    (folder / "mine.py").write_text(METHODS)
    (folder / "data.py").write_text(DATA)
    file = folder / "mine.yaml"
    whole = {**copy.deepcopy(STUDY), "methods": list(methods or [own()]), **study}
    if "data" in study:
        for part in ("membership", "covariates", "truth"):
            del whole[part]
    file.write_text(yaml.safe_dump(whole, sort_keys=False))
    return file


def load(folder: Path, *methods: Mapping[str, Any], **study: Any) -> Study:
    return load_study(write(folder, *methods, **study), allow_code=True)


def drawn_by(function: str, **more: Any) -> dict[str, Any]:
    return {"kind": "python", "function": f"data.py:{function}", **more}


def fitted(study: Study, folder: Path, name: str, first: int = 1, last: int = 6) -> pd.DataFrame:
    """Rows of a batch."""
    scenario = study.scenarios[0].id
    path = folder / "results" / "estimates" / scenario / name / f"{first:05d}-{last:05d}.parquet"
    run_batch(study, scenario, name, first, last, path)
    return pd.read_parquet(path)


# -- permission ----------------------------------------------------------------------------------


def test_nothing_runs_without_permission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "trace"
    file = write(tmp_path, own(), data=drawn_by("draw", formula=FORMULA))
    for name in ("mine.py", "data.py"):
        text = f"open({str(trace)!r}, 'w')\n"
        (tmp_path / name).write_text(text + (tmp_path / name).read_text())
    for command in ("check", "plan", "status", "preregister"):
        assert main(["study", command, str(file)]) in (0, 2)
    said = capsys.readouterr().out
    assert "None of it was run" in said and "method good: mine.py:good" in said
    study = load_study(file)
    assert not study.code_allowed and len(plan(study)) == 2
    with pytest.raises(StudyError, match=r"data\.py:draw, which has not been allowed"):
        fitted(study, tmp_path, "good")
    simulated = load_study(write(tmp_path, own()))
    outcome = fitted(simulated, tmp_path, "good")
    assert "has not been allowed to run" in outcome["message"].iloc[0]
    assert not trace.exists()


def test_with_permission_the_check_tries_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, own(), {"name": "ols", "kind": "aggregation"})
    assert main(["study", "check", str(file), "--allow-code", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["code"] == {"method good": "mine.py:good"} and facts["code_was_run"]


# -- what a file may name ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("mine.py", "does not name a function.*\n.*FILE.py:NAME"),
        ("mine.py:goood", "'goood' is not a function of mine.py. Did you mean 'good'"),
        ("other.py:good", "'other.py' does not exist.*\n.*Searched in"),
        ("../mine.py:good", "not inside the folder of the study file"),
        ("/etc/mine.py:good", "not inside the folder of the study file"),
        ("mine.py:np.random", "does not name a function"),
        ("broken.py:f", "broken.py, line 1: this is not valid Python"),
        ("linked.py:f", "not inside the folder of the study file"),
    ],
)
def test_functions_that_cannot_be_named(tmp_path: Path, function: str, says: str) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    (tmp_path / "outside.py").write_text("def f(): pass\n")
    (folder / "linked.py").symlink_to(tmp_path / "outside.py")
    (folder / "broken.py").write_text("def f(:\n")
    with pytest.raises(StudyError, match=rf"methods\[0\]\.function[^\n]*\n.*{says}"):
        load(folder, {"name": "m", "kind": "python", "function": function})


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ({"kind": "python"}, r"methods\[0\]\.function\n.*`function` is missing"),
        ({"kind": "external"}, r"methods\[0\]\.estimates\n.*`estimates` is missing"),
        ({**own(), "priors": "rmm"}, r"`priors` cannot be used with backend python"),
        ({**own(), "script": "a.R"}, r"`script` cannot be used in a method of kind python"),
        ({**own(), "layout": "wide"}, r"'wide' is not a layout.*members, groups"),
        ({"kind": "mm", "backend": "fake", "timeout": 3}, "`timeout` cannot be used in a method"),
        ({"kind": "rscript", "script": "a.py"}, "is not the name of an R script"),
    ],
)
def test_methods_that_cannot_be(tmp_path: Path, method: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError, match=says):
        load(tmp_path, {"name": "m", **method})


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ({"estimands": []}, "`estimands` is missing"),
        ({"truth": STUDY["truth"]}, "`truth` cannot be used with `data`"),
        ({"estimands": [{"estimand": "effective_members"}]}, "Ready estimands cannot be used"),
        ({"methods": [{"name": "o", "kind": "aggregation"}]}, "`data` has no `formula`"),
        ({"methods": [own(layout="groups")]}, "needs groups and members"),
        ({"data": drawn_by("draw", formula="y ~")}, "data.formula"),
        (
            {"data": drawn_by("draw", formula="y ~ 1 + mm(id(member, group), cov = A)")},
            "Studies cannot use known covariance matrices",
        ),
        ({"data": drawn_by("draw", family="wurst")}, "'wurst' is not a family"),
    ],
)
def test_own_data_that_cannot_be(tmp_path: Path, study: dict[str, Any], says: str) -> None:
    file = write(tmp_path, own(), **{"data": drawn_by("draw"), **study})
    if "truth" in study:
        whole = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({**whole, "truth": study["truth"]}))
    with pytest.raises(StudyError, match=says):
        load_study(file)


def test_without_own_data_a_study_says_what_is_simulated(tmp_path: Path) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text("seed: 1\nreplications: 2\nmethods: [{name: o, kind: aggregation}]\n")
    with pytest.raises(StudyError, match=r"(?s)`membership` is missing.*`truth` is missing"):
        load_study(file)


# -- addresses -----------------------------------------------------------------------------------


def test_the_text_of_a_file_is_part_of_the_address(tmp_path: Path) -> None:
    """That of the method's chains and of the data; a time limit is part of neither."""
    methods = [own(), {"name": "ols", "kind": "aggregation"}]
    data = drawn_by("draw", formula=FORMULA)
    first = load(tmp_path, *methods, data=data)
    slow = load(tmp_path, own(timeout=5), methods[1], data={**data, "timeout": 5})
    assert slow.scenarios[0].id == first.scenarios[0].id
    assert slow.methods[0].digest == first.methods[0].digest

    (tmp_path / "mine.py").write_text(METHODS + "# new\n")
    other = load_study(tmp_path / "mine.yaml")
    assert other.methods[0].digest != first.methods[0].digest
    assert other.methods[1].id == first.methods[1].id
    assert other.scenarios[0].id == first.scenarios[0].id
    (tmp_path / "data.py").write_text(DATA + "# new\n")
    assert load_study(tmp_path / "mine.yaml").scenarios[0].id != first.scenarios[0].id


@pytest.mark.thorough
def test_neither_batches_nor_other_methods_matter(tmp_path: Path) -> None:
    """Random numbers follow from the address, also those of the global generators."""
    alone = load(tmp_path, own("good"), own("old_style"), data=drawn_by("draw"))
    names = ("good", "old_style")
    whole = {name: fitted(alone, tmp_path, name) for name in names}
    more = load(tmp_path, own("slope"), own("old_style"), own("good"), data=drawn_by("draw"))
    for name in names:
        parts = [fitted(more, tmp_path, name, *ends) for ends in ((4, 6), (1, 3))]
        again = pd.concat(parts).sort_values("replication", ignore_index=True)
        columns = ["replication", "truth", "mean", "sd", "p_value", "seed", "status"]
        pd.testing.assert_frame_equal(again[columns], whole[name][columns])
    assert whole["good"]["mean"].nunique() == whole["old_style"]["mean"].nunique() == 6
    assert not process_pool._running


def test_the_random_generator_is_that_of_the_row(tmp_path: Path) -> None:
    """A user can make it from `seed` of the estimates."""
    study = load(tmp_path, own("good"), data=drawn_by("draw"))
    rows = fitted(study, tmp_path, "good")
    for row in rows.itertuples():
        data = draw_replication(study.seed, study.scenarios[0], row.replication).frame()
        rng = np.random.Generator(np.random.Philox(row.seed))
        assert row.mean == data["y"].mean() + rng.normal()


@pytest.mark.thorough
def test_a_changed_file_sets_fits_aside(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    study = load(tmp_path, own("good"), own("slope"))
    for name in ("good", "slope"):
        fitted(study, tmp_path, name)
    assert set_aside(study, folder) == []
    other = METHODS + "# new\n"
    (tmp_path / "mine.py").write_text(other)
    changed = load_study(tmp_path / "mine.yaml", allow_code=True)
    for call in (plan, status):
        with pytest.raises(StudyError, match=r"another version of mine\.py:good.*\n.*again"):
            call(changed, folder)
    first, second = set_aside(changed, folder)
    assert "mine.py:good has changed, so 6 fits of method good are made again" in first
    assert "method slope" in second
    assert len(list((folder / "replaced").rglob("00001-00006.parquet"))) == 2
    assert status(changed, folder)["done"] == 0
    # A change of anything else is refused, as for every method.
    study = load(tmp_path, own("slope", arguments={"times": 2}))
    fitted(study, tmp_path, "slope")
    with pytest.raises(StudyError, match=r"arguments.*times: 2 in the results, 3 in"):
        plan(load(tmp_path, own("slope", arguments={"times": 3})), folder)


def test_a_file_that_changes_during_a_run_is_refused(tmp_path: Path) -> None:
    study = load(tmp_path, own("good"))
    (tmp_path / "mine.py").write_text(METHODS + "# new\n")
    rows = fitted(study, tmp_path, "good")
    assert rows["message"].str.contains("was changed while the study was running").all()


# -- failures ------------------------------------------------------------------------------------

MISHAPS = {
    0: ("failed", r"ValueError: no luck \(mine.py, line 24, in mishap\)"),
    1: ("failed", r"SystemExit: 3 \(mine.py, line 26, in mishap\)"),
    2: ("timeout", "mine.py:mishap did not finish within 1 s; its process has been ended"),
    3: ("failed", r"process of mine.py:mishap ended \(killed by SIGSEGV\).*on its way"),
    4: ("failed", "the estimate is missing"),
    5: ("ok", ""),
}


@pytest.mark.thorough
def test_a_failure_is_a_row_and_stops_nothing(tmp_path: Path) -> None:
    study = load(tmp_path, own("mishap", timeout=1), replications=16)
    rows = fitted(study, tmp_path, "mishap", 1, 16)
    assert rows["replication"].tolist() == list(range(1, 17))
    seen = set()
    for row in rows.itertuples():
        what = int(np.random.Generator(np.random.Philox(row.seed)).integers(6))
        assert row.status == MISHAPS[what][0]
        assert pd.isna(row.message) or pd.Series([row.message]).str.contains(MISHAPS[what][1])[0]
        seen.add(what)
    assert seen == set(MISHAPS)
    assert not process_pool._running


def test_too_little_memory_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little to read the call: the system's limit for the process, not a message."""
    resource = pytest.importorskip("resource", reason="limits of memory need a POSIX system")
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limits of another process can be set on Linux only")
    study, start = load(tmp_path, own("good"), replications=2), process_pool.OwnProcess.__init__

    def starved(self: process_pool.OwnProcess, code: Any) -> None:
        start(self, code)
        resource.prlimit(self._process.pid, resource.RLIMIT_AS, (4096, 4096))

    monkeypatch.setattr(process_pool.OwnProcess, "__init__", starved)
    process_pool.end_all()
    rows = fitted(study, tmp_path, "good", 1, 2)
    assert (rows["status"] == "failed").all()
    assert rows["message"].str.contains("ran out of memory|MemoryError|ArrowMemoryError").all()


@pytest.mark.thorough
def test_data_that_cannot_be_drawn_fail_every_method(tmp_path: Path) -> None:
    methods = (own("slope"), {"name": "ols", "kind": "aggregation"})
    study = load(tmp_path, *methods, data=drawn_by("sometimes", formula=FORMULA))
    rows = {name: fitted(study, tmp_path, name) for name in ("slope", "ols")}
    bad = {n: set(r.loc[r["status"] == "failed", "replication"]) for n, r in rows.items()}
    assert bad["slope"] == bad["ols"] and 0 < len(bad["ols"]) < 6
    message = rows["ols"].loc[rows["ols"]["status"] == "failed", "message"].iloc[0]
    assert "RuntimeError: nothing was drawn (data.py, line 16, in sometimes)" in message


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("typo", r"'b_l1\[z\]' is not an estimand of this study.*Allowed: b_l1\[x\]"),
        ("two", r"its arguments are \(data, rng\)"),
        ("counting", r"A second call for the same replication.*must come from `rng`"),
    ],
)
def test_the_check_finds_what_every_fit_would(tmp_path: Path, method: str, says: str) -> None:
    study = load(tmp_path, own(method))
    with pytest.raises(StudyError, match=rf"methods\[0\]\.function \(method {method}\)\n.*{says}"):
        check_models(study)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("without_truth", r"returned no true value of b_l1\[x\] \(returned: none\)"),
        ("forgetful", "A second call for the same replication gave a data set with other values"),
    ],
)
def test_the_check_finds_mistakes_of_data_functions(
    tmp_path: Path, function: str, says: str
) -> None:
    study = load(tmp_path, own(), data=drawn_by(function))
    with pytest.raises(StudyError, match=rf"data\.function\n.*{says}"):
        check_models(study)


def test_the_check_finds_columns_that_a_formula_lacks(tmp_path: Path) -> None:
    formula = FORMULA.replace("vars(x)", "vars(z)")
    methods = {"name": "ols", "kind": "aggregation"}
    study = load(tmp_path, methods, data=drawn_by("draw", formula=formula))
    with pytest.raises(StudyError, match=r"'z' is not a covariate of this study.*Allowed: x"):
        check_models(study)


# -- answers -------------------------------------------------------------------------------------


def answer(fields: Mapping[str, Any], null: float = 0.0) -> dict[str, Any]:
    (row,) = rows_of_answer([{"parameter": X, **fields}], [X], [X], {X: null})
    return row


def test_a_standard_error_gives_tests_and_intervals() -> None:
    """Those of Student's t, by SciPy's distributions."""
    row = answer({"estimate": 1.2, "se": 0.5, "df": 8}, null=0.2)
    t = stats.t(8)
    assert row["p_value"] == pytest.approx(2 * t.sf(2.0), rel=1e-12)
    for label, level in (("", 0.95), ("90", 0.9), ("99", 0.99)):
        ends = np.array(t.interval(level)) * 0.5 + 1.2
        np.testing.assert_allclose([row[f"lower{label}"], row[f"upper{label}"]], ends, rtol=1e-12)
    normal = answer({"mean": 1.2, "sd": 0.5})
    assert normal["upper"] == pytest.approx(1.2 + 0.5 * stats.norm.ppf(0.975), rel=1e-12)


def test_an_interval_of_the_method_is_kept_as_it_is() -> None:
    """No other interval, and no test, is made up beside it."""
    row = answer({"estimate": 1.0, "se": 0.5, "low": 0.3, "high": 2.4})
    assert (row["lower"], row["upper"]) == (0.3, 2.4)
    assert not {"lower90", "p_value", "df"} & set(row)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"se": 1}, "the estimate is missing"),
        ({"estimate": float("inf")}, "estimate is inf, not a finite number"),
        ({"estimate": 1, "se": 0}, "se is 0; it must be above 0"),
        ({"estimate": 1, "p": 1.5}, "p is 1.5; it must be between 0 and 1"),
        ({"estimate": 1, "low": 2, "high": 1}, r"95% interval ends \(1\) below its start \(2\)"),
        ({"estimate": 1, "low90": 0}, "90% interval has one bound only"),
        ({"estimate": 1, "std": 2}, "'std' is not a field of an estimate"),
        ({"estimate": "one"}, "estimate is 'one', not a number"),
        ({"estimate": 1, "mean": 1}, "mean is given twice"),
    ],
)
def test_answers_that_cannot_be_used(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says):
        answer(fields)


def test_estimands_that_are_unknown_missing_or_twice() -> None:
    one = {"parameter": X, "estimate": 1}
    with pytest.raises(BackendError, match="two estimates are called"):
        rows_of_answer([one, one], [X], [X], {})
    with pytest.raises(BackendError, match=r"no estimate of b was returned.*`estimands`"):
        rows_of_answer([one], [X, "b"], [X, "b"], {})


def test_a_method_says_how_it_ended(tmp_path: Path) -> None:
    rows = fitted(load(tmp_path, own("status")), tmp_path, "status", 1, 1)
    assert (rows["status"].item(), rows["message"].item()) == ("not_converged", "20 steps")
    assert rows["mean"].item() == 1.0


# -- data ----------------------------------------------------------------------------------------


def test_a_given_table_is_the_data_set_that_was_simulated(tmp_path: Path) -> None:
    """Every layout of a simulated table is that of its data set."""
    covariates = {"x": {"level": "membership", "icc": 0.6}, "z": {"level": "member"}}
    ols = {"name": "ols", "kind": "aggregation"}
    study = load_study(write(tmp_path, ols, covariates=covariates))
    drawn = draw_replication(1, study.scenarios[0], 1)
    recipe = given_recipe({"formula": FORMULA, "family": "gaussian"})
    shuffled = drawn.frame().sample(frac=1, random_state=1).assign(name="text")
    given = given_data(recipe, {"data": shuffled}, {X: 0.0})
    formula = parsed("y ~ 1 + x + z")
    for name, layout in LAYOUTS.items():
        if name == "adjusted":
            formula = parsed("y ~ 1 + x")  # means of 10 members have no reliability
        one, other = layout(drawn, formula, "mean"), layout(given, formula, "mean")
        for term in formula.terms:
            np.testing.assert_array_equal(one.term(term), other.term(term))
        np.testing.assert_array_equal(one.outcome, other.outcome)
    np.testing.assert_array_equal(
        given.memberships.member_labels[given.memberships.member], drawn.arrays()["member"]
    )
    assert (given.columns["x"].level, given.columns["z"].level) == ("membership", "member")
    assert given.truth.names == drawn.truth.names


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": None}, "no numeric column 'y', the outcome"),
        ({"member": None}, "'member' is not a column of the table"),
        ({"y": np.arange(4.0)}, "The outcome 'y' varies within group"),
        ({"y": [1, 1, np.nan, 2]}, "The outcome 'y' has missing or infinite values"),
        ({"member": [1, 1, 1, 2]}, "A group has two rows for one member"),
    ],
)
def test_tables_that_cannot_be_used(change: dict[str, Any], says: str) -> None:
    frame = pd.DataFrame({"member": [1, 2, 1, 3], "group": [1, 1, 2, 2], "y": [1.0, 1, 2, 2]})
    frame = frame.assign(**change).dropna(axis=1, how="all")
    recipe = given_recipe(
        {"formula": FORMULA.replace("vars(x)", "vars = NULL"), "family": "gaussian"}
    )
    with pytest.raises(DataError, match=says):
        given_data(recipe, {"data": frame}, {})


def test_without_a_formula_the_rows_are_the_units(tmp_path: Path) -> None:
    study = load(tmp_path, own("slope"), data=drawn_by("draw"))
    data = draw_replication(1, study.scenarios[0], 1).frame()
    rows = fitted(study, tmp_path, "slope", 1, 1)
    assert rows["mean"].item() == pytest.approx(np.polyfit(data["x"], data["y"], 1)[0], rel=1e-12)
    assert rows["truth"].item() == 0.5


def test_what_a_method_gets(tmp_path: Path) -> None:
    """The long table, or one row per group; of the scenario nothing that tells the truth."""
    vary = {
        "groups": {"path": "membership.groups", "values": [20, 30]},
        "effect": {"path": f"truth.parameters.{X}", "values": [0, 1]},
    }
    study = load(tmp_path, own(layout="groups"), own("slope"), vary=vary)
    scenario = study.scenarios[1]
    task, long = (make_task(study, scenario, m, 1) for m in study.methods)
    facts = scenario_facts(task)
    assert facts["factors"] == {"groups": 20} and facts["estimands"] == [X]
    assert (facts["member"], facts["group"], facts["outcome"]) == ("member", "group", ["y"])
    table = tables_of(task)["data"]
    frame = tables_of(long)["data"]
    pd.testing.assert_frame_equal(frame, task.drawn.frame())
    expected = frame.groupby("group", as_index=False)[["y", "x"]].mean()
    pd.testing.assert_frame_equal(table[["group", "y", "x"]], expected, check_dtype=False)


def test_a_search_simulates_other_sizes(tmp_path: Path) -> None:
    """A size that the study has is the same scenario."""
    vary = {"groups": {"path": "data.arguments.groups", "values": [20, 30]}}
    data = drawn_by("draw", arguments={"groups": 20}, formula=FORMULA)
    power = {"parameter": X, "size": "groups", "search": {"low": 10, "high": 90}}
    study = load(tmp_path, own("slope"), data=data, vary=vary, power=power)
    assert scenario_at(study, 30, {}).id == study.scenarios[1].id
    other = scenario_at(study, 55, {})
    assert len(draw_replication(1, other, 1).outcome) == 55


def test_a_protocol_of_own_code(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, own(), data=drawn_by("draw"), aims="Does it reject?"))
    text = protocol(study)
    assert "drawn by the function `data.py:draw`" in text and "`mine.py:good`" in text
    assert study.code["the data"].sha256 in text


# -- data that are kept --------------------------------------------------------------------------


def test_kept_data_are_those_of_the_fits(tmp_path: Path) -> None:
    study = load(tmp_path, own("slope"), data=drawn_by("tables"), replications=130)
    folder, scenario = tmp_path / "results", study.scenarios[0].id
    jobs = missing_data(study, folder)
    assert [(job.first, job.last) for job in jobs] == [(1, 100), (101, 130)]
    write_data(study, scenario, 101, 130, folder / jobs[1].path)
    here = folder / "data" / scenario
    assert sorted(p.name for p in here.iterdir()) == [
        "00101-00130.parquet",
        "00101-00130.people.parquet",
        "00101-00130.truth.parquet",
    ]
    data = pd.read_parquet(here / "00101-00130.parquet")
    one = data[data["replication"] == 117].drop(columns="replication").reset_index(drop=True)
    drawn = draw_replication(1, study.scenarios[0], 117).frame()
    pd.testing.assert_frame_equal(one, drawn)
    truth = pd.read_parquet(here / "00101-00130.truth.parquet")
    assert (truth["truth"] == 0.5).all() and truth["replication"].tolist() == list(range(101, 131))
    assert [(job.first, job.last) for job in missing_data(study, folder)] == [(1, 100)]
    other = load(tmp_path, own("slope"), data=drawn_by("tables"), replications=130, seed=2)
    with pytest.raises(StudyError, match=r"was made with seed 1, but .* has 2\.\n"):
        missing_data(other, folder)


# -- estimates of other programs -----------------------------------------------------------------


def external(folder: Path, table: pd.DataFrame | None, **more: Any) -> Study:
    if table is not None:
        table.to_csv(folder / "other.csv", index=False)
    return load(folder, {"name": "other", "kind": "external", "estimates": "other.csv"}, **more)


def estimates_of(study: Study) -> pd.DataFrame:
    rows = {"scenario": study.scenarios[0].id, "replication": range(1, 7), "parameter": X}
    return pd.DataFrame({**rows, "estimate": np.arange(6.0), "se": 0.5})


def test_a_table_of_estimates_is_read_by_address(tmp_path: Path) -> None:
    table = estimates_of(external(tmp_path, None))
    table.loc[2, "estimate"] = np.nan
    table["status"] = [None, "failed", None, "not_converged", None, None]
    table["message"] = [None, "singular", None, "slow", None, None]
    study = external(tmp_path, table.drop(index=5))
    check_models(study)
    rows = fitted(study, tmp_path, "other").set_index("replication")
    assert rows["status"].tolist() == ["ok", "failed", "failed", "not_converged", "ok", "failed"]
    assert rows["mean"].dropna().to_dict() == {1: 0.0, 4: 3.0, 5: 4.0}
    assert rows.loc[2, "message"] == "singular"
    assert rows.loc[6, "message"] == "other.csv has no estimates of this data set"


def test_tables_of_estimates_that_are_wrong(tmp_path: Path) -> None:
    good = estimates_of(external(tmp_path, None))
    with pytest.raises(StudyError, match=r"methods\[0\].estimates\n.*'other.csv' does not exist"):
        check_models(external(tmp_path, None))
    wrong = {
        "Row 7: scenario .* has b_l1.x. a second time": pd.concat([good, good.iloc[:1]]),
        "Row 1: 'b_l1.z.' is not an estimand": good.replace(X, "b_l1[z]"),
        "Row 2: 'nowhere' is not a scenario": good.assign(
            scenario=[good["scenario"][0], *["nowhere"] * 5]
        ),
        "'std' is not a column of a table of estimates": good.rename(columns={"se": "std"}),
        "column 'replication' is missing": good.drop(columns="replication"),
        "Row 1: replication 1.5 is not a whole number": good.assign(
            replication=good["replication"] + 0.5
        ),
    }
    for says, table in wrong.items():
        with pytest.raises(StudyError, match=says):
            check_models(external(tmp_path, table))


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    """The end of its input is enough: a job that is killed leaves nothing behind."""
    study = load(tmp_path, own("good"))
    code = study.methods[0].code
    assert code is not None
    process = process_pool.OwnProcess(code)
    number = process._process.pid
    process.forget()
    assert process._process.wait(timeout=60) != 0
    with pytest.raises(ProcessLookupError, match=r".*"):
        os.kill(number, 0)


def test_a_python_with_a_relative_path_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the workflow, where it is relative to the folder of the run."""
    monkeypatch.chdir(Path(sys.executable).parents[1])
    study = load(tmp_path, own("good"))
    monkeypatch.setattr(sys, "executable", os.path.relpath(sys.executable))
    assert fitted(study, tmp_path, "good", 1, 1)["status"].item() == "ok"


def test_code_of_users_inherits_no_safe_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python that it starts may need modules of its folder; those of the run are safe from it.

    For R scripts, a stand-in of Rscript that starts such a Python.
    """
    (tmp_path / "mine.R").write_text("# what the stand-in is called with\n")
    study = load(tmp_path, {"name": "mine", "kind": "rscript", "script": "mine.R"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "sibling.py").write_text("SLOPE = 0.25\n")
    script = tmp_path / "bin" / "Rscript"
    script.write_text(
        f"""#!/bin/sh
test -z "$PYTHONSAFEPATH" || exit 3
{shlex.quote(sys.executable)} -c 'import sibling; print("parameter,estimate,se")
print("b_l1[x],%s,1" % sibling.SLOPE)' > "$4"
"""
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    with logged(tmp_path / "log.txt"):
        assert os.environ["PYTHONSAFEPATH"] == "1"
        rows = fitted(study, tmp_path, "mine", 1, 1)
    assert (rows["status"] == "ok").all(), rows["message"].tolist()
    assert (rows["mean"] == 0.25).all()


def test_a_running_process_needs_permission_too(tmp_path: Path) -> None:
    task = make_task(load(tmp_path, own("good")), *_first(load(tmp_path, own("good"))))
    python_answer(task)
    refused = load_study(tmp_path / "mine.yaml")
    with pytest.raises(StudyError, match="has not been allowed to run"):
        python_answer(make_task(refused, *_first(refused)))
    process_pool.end_all()


def _first(study: Study) -> tuple[Any, Any, int]:
    return study.scenarios[0], study.methods[0], 1


def test_a_file_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    study = load(tmp_path, own("good"))
    (tmp_path / "mine.py").write_text("import nowhere_to_be_found\n\ndef good(d, s, r): pass\n")
    study = load_study(tmp_path / "mine.yaml", allow_code=True)
    rows = fitted(study, tmp_path, "good", 1, 2)
    says = r"mine.py:good cannot be loaded: ModuleNotFoundError: .* \(mine.py, line 1"
    assert rows["message"].str.contains(says).all()
    code = study.methods[0].code
    assert code is not None
    with pytest.raises(BackendError, match="cannot be loaded"):
        process_pool.OwnProcess(code)


# -- R -------------------------------------------------------------------------------------------

R = """\
args <- commandArgs(TRUE)
data <- read.csv(args[1])
what <- sub("what=", "", args[4])
if (what == "stop") stop("singular fit")
if (what == "sleep") Sys.sleep(60)
set.seed(as.integer(args[3]))
answer <- data.frame(parameter = "b_l1[x]", estimate = mean(data$y), se = 2, df = 5, message = what)
if (what != "nothing") write.csv(answer, args[2], row.names = FALSE)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not installed(), reason="there is no Rscript")
def test_r_scripts_and_how_they_fail(tmp_path: Path) -> None:
    """An argument reaches the script as it is: no shell reads it."""
    (tmp_path / "mine.R").write_text(R)
    shell = f"fine; touch {tmp_path}/trace"
    expected = {
        shell: ("ok", re.escape(shell)),
        "stop": ("failed", "mine.R ended with exit status 1: .*singular fit"),
        "sleep": ("timeout", "mine.R did not finish within 5 s"),
        "nothing": ("failed", "mine.R wrote no estimates"),
    }
    r = {"kind": "rscript", "script": "mine.R", "timeout": 5}
    methods = [{"name": f"m{i}", "arguments": {"what": w}, **r} for i, w in enumerate(expected)]
    study = load(tmp_path, *methods)
    data = draw_replication(study.seed, study.scenarios[0], 1).frame()
    for method, (status_, says) in zip(study.methods, expected.values(), strict=True):
        row = fitted(study, tmp_path, method.name, 1, 1).iloc[0]
        assert row["status"] == status_ and re.search(says, row["message"])
        if status_ == "ok":  # CSV has all digits
            assert (row["mean"], row["sd"], row["df"]) == (pytest.approx(data["y"].mean()), 2, 5)
    assert not (tmp_path / "trace").exists()


def test_without_r_a_script_is_an_error_of_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.R").write_text(R)
    study = load(tmp_path, {"name": "r", "kind": "rscript", "script": "mine.R"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match=r"methods\[0\]\.script.*\n.*Rscript is not installed"):
        check_models(study)
