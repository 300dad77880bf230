"""The command line: exit codes, messages instead of tracebacks, help that teaches."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.cli import main, parser
from rmm.cli.common import in_options, plain
from rmm.cli.study import _estimate
from rmm.errors import BackendError, FormulaError
from rmm.families import FAMILIES
from rmm.fitting.engine_choice import ORDER
from rmm.formula.prior_syntax import PRIOR_SETS, read_priors
from rmm.tables.printed_table import table_lines
from rmm.tables.text_values import MISSING_NUMBERS
from tests import ROOT
from tests.kills import load as load_kills
from tests.kills import whole

COMMANDS = (
    ["doctor"],
    ["fit"],
    ["look"],
    ["simulate"],
    ["study", "check"],
    ["study", "plan"],
    ["study", "status"],
    ["study", "report"],
    ["study", "score"],
    ["study", "explain"],
    ["study", "replay"],
    ["study", "preregister"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_by_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"rmm {' '.join(command)}" in text.split("examples:")[1]


#: Options that do nothing unless they are given.
WITHOUT_DEFAULT = (
    "rmm fit save",
    "rmm study check against",
    "rmm study judge out",
    "rmm study new data",
)


def options_of(command: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Options and arguments of a command and of all below it."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from options_of(below)
        else:
            yield f"{command.prog} {action.dest}", action


def test_every_option_says_what_it_is_and_its_default() -> None:
    found = dict(options_of(parser()))
    assert len(found) > 60
    for name, action in found.items():
        assert action.help and not action.help.startswith("default"), name
        optional = action.option_strings and action.nargs != 0 and not action.required
        assert "default: " in action.help or not optional or name in WITHOUT_DEFAULT, name


def test_the_help_of_a_fit_names_every_family_set_of_priors_and_missing_text() -> None:
    fit = {n.split()[-1]: str(a.help) for n, a in options_of(parser()) if n.startswith("rmm fit ")}
    missing = [name for name in FAMILIES if not re.search(rf"\b{name}\b", fit["family"])]
    assert not missing, f"the help of --family in rmm/cli/engine.py does not name {missing}"
    assert all(name in fit["backend"] for name in ORDER)
    assert all(name in fit["priors"] for name in PRIOR_SETS)
    texts = {text.lower() for text in MISSING_NUMBERS} - {"."}
    assert all(text in fit["na"].lower() for text in texts) and "a single dot" in fit["na"]


def test_no_command_is_bad_input() -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"rmm {rmm.__version__}\n"


@pytest.mark.parametrize("error", [FormulaError("no such column"), BackendError("no engine")])
def test_an_error_is_a_message_and_exit_code_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(rmm, "fit", refuse, raising=False)
    assert main(["fit", "data.csv", "y ~ 1"]) == 2
    shown = capsys.readouterr()
    assert shown.err == f"rmm: {error}\n"
    assert shown.out == ""


@pytest.mark.parametrize("command", ["check", "plan", "status", "report", "preregister"])
def test_a_missing_study_file_is_bad_input(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", command, str(tmp_path / "none.yaml")]) == 2
    text = capsys.readouterr().err
    assert "none.yaml" in text
    assert "Traceback" not in text


#: Commands below `rmm study` that read a study file, or may do so.
READERS = ("check", "explain", "judge", "look", "plan", "power", "preregister", "replay", "report")


@pytest.mark.parametrize("command", [*READERS, "run", "search", "status"])
def test_every_command_knows_studies_by_their_names(
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--method", "mm", "--out", "there"] * (command == "replay")
    assert main(["study", command, "nope", *more]) == 2
    assert "There is no study file" in capsys.readouterr().err


def fake_fit(formula: str, data: str, **settings: Any) -> Any:
    table = pd.DataFrame({"mean": [0.5], "rhat": [float("nan")]}, index=["b_l1[x]"])
    seen = {"divergences": settings["chains"]}
    run = SimpleNamespace(engine={"chosen": "auto chose laplace"})
    return SimpleNamespace(
        summary=lambda: table, diagnostics=lambda: seen, converged=True, backend="laplace", run=run
    )


def test_fit_prints_json_that_a_program_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rmm, "fit", fake_fit, raising=False)
    assert main(["fit", "data.csv", "y ~ 1", "--chains", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["summary"] == {"b_l1[x]": {"mean": 0.5, "rhat": None}}
    assert record["diagnostics"] == {"divergences": 3}
    assert record["converged"] is True
    assert (record["backend"], record["chosen"]) == ("laplace", "auto chose laplace")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/fit.nc", "nowhere does not exist. Create it first"),
        ("", "is a folder. Give the path of a file"),
    ],
)
def test_where_a_fit_is_kept_is_checked_before_it_is_computed(
    path: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is not there either, which a fit would say."""
    assert main(["fit", "data.csv", "y ~ 1", "--save", str(tmp_path / path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "statements"),
    [
        ([], []),
        (["--priors", "b_w ~ normal(0, 1)"], ["b_w"]),
        (
            ["--priors", "b_w ~ normal(0, 1)", "--priors", "sigma_l1 ~ half_normal(1)"],
            ["b_w", "sigma_l1"],
        ),
    ],
)
def test_every_prior_of_the_command_line_counts(
    words: list[str], statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def keep(formula: str, data: str, **settings: Any) -> Any:
        given.update(settings)
        return fake_fit(formula, data, **settings)

    monkeypatch.setattr(rmm, "fit", keep, raising=False)
    assert main(["fit", "data.csv", "y ~ 1", *words, "--json"]) == 0
    choice = read_priors(given["priors"])
    assert choice.base == "weakly_informative"
    assert [s.target for s in choice.statements] == statements


#: 40 groups of two, one of them with a missing value; the covariate has mean 10 and sd about 2.
TABLE = pd.DataFrame({"g": [k // 2 for k in range(80)], "m": [k % 13 for k in range(80)]})
TABLE["x"] = [10 + 2 * math.sin(k) * math.sqrt(2) for k in range(80)]
TABLE["y"] = [math.sin(5 * (k // 2)) + math.cos(k // 2 * 2.0) for k in range(80)]
FORMULA = "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ 1/n), RE = FALSE)"


@pytest.fixture
def fit_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`rmm fit` of a table with a missing value, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    TABLE.assign(x=TABLE["x"].where(TABLE.index != 3)).to_csv("t.csv", index=False)
    return ["fit", "t.csv", FORMULA, "--backend", "laplace", "--seed", "1"]


def test_a_fit_takes_a_formula_of_sigma_and_observation_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"z": rng.normal(size=40), "times": np.arange(40) % 3})
    table.assign(y=np.exp(0.5 * table["z"]) * rng.normal(size=40)).to_csv("data.csv", index=False)
    words = ["fit", "data.csv", "y ~ 1", "--backend", "laplace", "--seed", "1"]
    assert main([*words, "--sigma", "~ 1 + z", "--observation-weights", "times"]) == 0
    shown = capsys.readouterr()
    assert "b_sigma[z]" in shown.out
    assert "sigma ~ 1 + z\nobservation weights: times\n" in shown.err
    assert main([*words, "--sigma", "1 + z"]) == 2
    assert "The formula of sigma has no `~`" in capsys.readouterr().err


def test_a_fit_takes_missing_transform_monitor_and_out(
    fit_of: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(fit_of) == 2
    assert "1 missing value" in capsys.readouterr().err
    drop = [*fit_of, "--missing", "drop"]
    assert main([*drop, "--out", "raw.csv", "--save", "raw.nc"]) == 0
    structural = ["--transform", "std", "--monitor", "structural"]
    assert main([*drop, *structural, "--out", "std.parquet", "--save", "std.nc"]) == 0
    assert "Summary written to std.parquet." in capsys.readouterr().err
    raw = pd.read_csv("raw.csv").set_index("parameter")
    std = pd.read_parquet("std.parquet").set_index("parameter")
    assert list(raw) == list(std) == list(rmm.load("raw.nc").summary())
    used = TABLE[TABLE["g"] != 1]["x"]  # group 1 is left out
    ratio = std.loc["b_l1[x]", "sd"] / raw.loc["b_l1[x]", "sd"]
    assert ratio == pytest.approx(used.std(), rel=0.15)  # Monte Carlo errors of two sds, 500 draws
    names = {name: set(rmm.load(f"{name}.nc").draws["posterior"]) for name in ("raw", "std")}
    assert names["std"] <= names["raw"]


def test_variables_of_the_program_that_a_fit_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def keep(formula: str, data: str, **settings: Any) -> Any:
        given.append(settings["monitor"])
        return fake_fit(formula, data, **settings)

    monkeypatch.setattr(rmm, "fit", keep, raising=False)
    for words in ([], ["structural"], ["w"], ["w", "log_lik"]):
        flags = [flag for word in words for flag in ("--monitor", word)]
        assert main(["fit", "data.csv", "y ~ 1", *flags, "--json"]) == 0
    assert given == ["summary", "structural", ["w"], ["w", "log_lik"]]


def test_where_a_summary_is_written_is_checked_before_the_fit(
    fit_of: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*fit_of, "--out", "summary.xls"]) == 2
    assert "Allowed: .csv, .parquet" in capsys.readouterr().err
    assert main([*fit_of, "--out", "nowhere/summary.csv"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_what_was_fitted_stands_above_the_table(
    fit_of: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wide table that was read as a long one shows in the numbers of groups and members."""
    assert main([*fit_of, "--missing", "drop"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^gaussian, laplace: 39 groups, \d+ members; .*, converged \(", err, re.M)
    assert err.endswith("converged: yes\n")
    assert "groups" not in out and out.split()[0] == "mean"


def test_a_fit_that_has_not_converged_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unconverged(formula: str, data: str, **settings: Any) -> Any:
        fit = fake_fit(formula, data, **settings)
        fit.converged = False
        return fit

    monkeypatch.setattr(rmm, "fit", unconverged, raising=False)
    assert main(["fit", "data.csv", "y ~ 1"]) == 1
    assert "converged: NO" in capsys.readouterr().err


#: Commands that print no table: files, a script, a text or the JSON of a truth.
WITHOUT_TABLES = (
    ["completion"],
    ["simulate"],
    ["study", "init"],
    ["study", "new"],
    ["study", "run"],
    ["study", "preregister"],
    ["study", "report"],
)


def test_every_command_that_prints_a_table_has_json() -> None:
    found = set()
    for name, action in options_of(parser()):
        found.add(tuple(name.split()[1:-1]))
        if action.dest == "json":
            assert action.help and "JSON" in action.help
    json_of = {tuple(n.split()[1:-1]) for n, a in options_of(parser()) if a.dest == "json"}
    assert found - json_of == {*map(tuple, WITHOUT_TABLES), (), ("study",)}  # which print help


def test_help_names_the_exit_codes() -> None:
    text = parser().format_help()
    assert re.findall(r"^  (\d+) ", text, re.MULTILINE) == ["0", "1", "2", "130"]
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == ["0", "1", "2", "130"]


def test_the_command_is_a_module_too() -> None:
    command = [sys.executable, "-m", "rmm", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"rmm {rmm.__version__}"


def test_doctor_tells_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rmm.cli import doctor

    def find(state: str) -> list[doctor.Finding]:
        return [doctor.Finding("backend jags", state, "what", "what to do")]

    monkeypatch.setattr(doctor, "diagnose", lambda **given: find("ok"))
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "diagnose", lambda **given: find("missing"))
    assert main(["doctor", "--json"]) == 1
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("[") :])[0]["remedy"] == "what to do"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((), "uses laplace if .* passes its checks; otherwise stan; otherwise jags"),
        (("stan",), "uses laplace if .* passes its checks; otherwise jags"),
        (("stan", "jags"), "uses laplace: no other engine works on this computer"),
        (("laplace", "stan", "jags"), "no engine works on this computer"),
    ],
)
def test_doctor_says_what_auto_takes(
    missing: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmm.backends.base import Availability
    from rmm.cli import doctor

    def stand_in(name: str) -> Any:
        found = Availability(name not in missing, "a stand-in")
        return SimpleNamespace(available=lambda: found)

    monkeypatch.setattr(doctor, "find_backend", stand_in)
    last = doctor.diagnose(prove=False)[-1]
    assert last.subject == "auto" and last.state == ("missing" if len(missing) == 3 else "ok")
    assert re.fullmatch(said, last.what)


def test_doctor_says_what_an_absent_package_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from rmm.cli import doctor

    def absent(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", absent)
    said = {f.subject: f.what for f in map(doctor._package, doctor.PACKAGES)}
    assert said["numpy"] == "not installed"
    assert said["polars"] == "not installed, needed only for tables of polars"
    assert set(doctor._ONLY_FOR) <= set(said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Use rmm.fit(..., missing="drop").', "Use rmm fit ... --missing drop."),
        ("Give replication='rep'.", "Give --replication rep."),
        ('Write estimate="b_{method}".', 'Write --estimate "b_{method}".'),
        ("no column 'b' (`estimate`)", "no column 'b' (--estimate)"),
        ("Column `estimate` is used twice", "Column `estimate` is used twice"),
        ('y ~ hm(id = c, type="RE")', 'y ~ hm(id = c, type="RE")'),
        ('`missing` and data="x"', '`missing` and data="x"'),
    ],
)
def test_messages_name_options_in_the_place_of_arguments(text: str, expected: str) -> None:
    options = argparse.Namespace(missing=None, replication=None, estimate=None, data=None)
    assert in_options(text, options, ["estimate"]) == expected


def test_plain_makes_json_of_numpy_and_missing_values() -> None:
    import numpy as np

    given = {"a": np.float64(1.5), "b": np.arange(2), "c": float("inf"), "d": Path("x")}
    assert plain(given) == {"a": 1.5, "b": [0, 1], "c": None, "d": "x"}


STUDY = """\
seed: 1
replications: 4
batch: 2
membership: {kind: synthetic, groups: 30, members: 15, size: 3}
covariates:
  x: {level: member}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)
  parameters: {"b_l2[Intercept]": 0, "b_l1[x]": 0.5, sigma_l1: 1, sigma_l2: 1}
methods:
  - {name: means, kind: aggregation, backend: ols}
estimands:
  - {parameter: "b_l1[x]"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "one.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return "one.yaml"


def test_check_counts_fits(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "check", file, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fits"] == {"means": 4}
    assert facts["jobs"] == 2
    assert main(["study", "check", file]) == 0
    assert "4 fits in 2 batches" in capsys.readouterr().out


def test_check_points_at_the_key(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(file).write_text(STUDY.replace("kind: aggregation", "kind: agregation"))
    assert main(["study", "check", file]) == 2
    assert "methods[0].kind" in capsys.readouterr().err


def test_status_and_plan_read_finished_batches(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from rmm.study import load_study, plan, run_batch

    study = load_study(file)
    job = plan(study)[0]
    run_batch(study, job.scenario, job.method, job.first, job.last, Path("results/one") / job.path)
    assert main(["study", "status", file, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["fits_done"], facts["fits_missing"]) == (2, 2)
    assert facts["missing_by_method"] == {"means": 2}
    assert [(m["method"], m["first"], m["last"]) for m in facts["missing"]] == [("means", 3, 4)]
    assert main(["study", "status", file]) == 0
    assert f"{job.scenario}, means, 3-4" in capsys.readouterr().out
    assert main(["study", "plan", file, "--mcse", "0.005", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["replications_for_rate"] == 1900
    assert facts["worst_case"] == 10000
    assert facts["methods"][0]["pilot_fits"] == 2


def test_simulate_and_replay_give_the_same_data(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", file, "--replication", "3", "--out", "three.csv"]) == 0
    assert json.loads(capsys.readouterr().out)["b_l1[x]"] == 0.5
    arguments = ["study", "replay", file, "--replication", "3", "--method", "means"]
    assert main([*arguments, "--out", "kept"]) == 0
    assert "b_l1[x]: mean" in capsys.readouterr().out
    assert main([*arguments, "--out", "kept", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "b_l1[x]" in [row["parameter"] for row in facts["estimates"]]
    assert facts["estimates_of_the_study"] == "not there"
    assert Path("three.csv").read_bytes() == Path("kept/data.csv").read_bytes()


def test_replay_beyond_the_planned_replications_is_said(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["study", "replay", file, "--method", "means", "--out", "kept"]
    assert main([*arguments, "--replication", "4"]) == 0
    assert "plans" not in capsys.readouterr().err
    assert main([*arguments, "--replication", "5"]) == 0
    assert "The study plans only 4 replications of means in " in capsys.readouterr().err


def test_a_replay_that_differs_is_exit_code_1(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmm.study.manage.replay.compared", lambda *_: "different in mean")
    arguments = ["study", "replay", file, "--method", "means", "--out", "kept"]
    assert main(arguments) == 1
    assert "different in mean" in capsys.readouterr().out


def test_judge_prints_json(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmm.study.evaluate.criteria.verdict import Verdict

    table = pd.DataFrame({"parameter": ["b_l1[x]"], "z": [math.nan], "passed": [False]})
    verdict = Verdict("study", "recovery", table, ("a note",))
    monkeypatch.setattr("rmm.study.evaluate.criteria.judge.judge", lambda *_: [verdict])
    assert main(["study", "judge", file, "--json"]) == 1
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["passed"] is False and facts["notes"] == ["a note"]
    assert facts["rows"] == [{"parameter": "b_l1[x]", "z": None, "passed": False}]


def test_a_standard_deviation_has_no_p_value() -> None:
    row = {"mean": 1.0, "sd": 0.1, "lower": 0.8, "upper": 1.2, "p_value": 0.0}
    assert _estimate({"parameter": "sigma_l1", **row}).endswith("1.2")
    assert _estimate({"parameter": "b_l1[x]", **row}).endswith("p 0")


def test_replay_of_an_unknown_method_is_bad_input(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "replay", file, "--method", "none", "--out", "kept"]) == 2
    assert "means" in capsys.readouterr().err


def test_simulate_refuses_an_unknown_ending(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", file, "--out", "data.xls"]) == 2
    assert ".csv or .parquet" in capsys.readouterr().err


def test_a_reader_that_has_enough_gets_no_traceback() -> None:
    called = "import sys; from rmm.cli import main; sys.exit(main(sys.argv[1:]))"
    study = ROOT / "config/studies/quickstart.yaml"
    command = [sys.executable, "-c", called, "study", "check", str(study)]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (141, "")


def test_tables_are_whole_and_plain_in_a_pipe() -> None:
    long = "a [bold]note[/bold] " + "of many words " * 20
    lines = table_lines([("name", "n", "note"), ("x", "7", long), ("longer", "12", "-")], " r")
    assert lines == ["name     n  note", f"x        7  {long.strip()}", "longer  12  -"]
    assert table_lines([("a", "b"), ("", "do: c")], head=False) == ["a  b", "   do: c"]


def test_plan_names_methods_that_miss_a_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One method has fewer replications than the study; hours are those of all fits."""
    methods = [
        {"name": "agg", "kind": "aggregation", "backend": "ols"},
        {"name": "few", "kind": "disaggregation", "backend": "ols", "replications": 5},
    ]
    study = load_kills(tmp_path, methods=methods)
    whole(study, tmp_path / study.name)
    asked = ["study", "plan", str(study.file), "--results", str(tmp_path), "--mcse"]
    assert main([*asked, "0.05"]) == 0
    said = capsys.readouterr().out
    needed = re.search(r"(?m)^rejection of b_l1\[x\] +0\.05 +few \(fits 5\) +5 +(\d+) ", said)
    assert needed and int(needed[1]) > 5
    assert f"    few: 5 of {needed[1]} replications for rejection of b_l1[x]" in said
    fits = {m: int(n) for m, n in re.findall(r"(?m)^(agg|few) +\d+ +(\d+) ", said)}
    total = re.search(r"(?m)^total +(\d+) ", said)
    assert total and fits["few"] == 5 and int(total[1]) == fits["agg"] + 5
    assert main([*asked, "0.5"]) == 0
    assert "every method reaches every target" in capsys.readouterr().out


def test_plan_gives_each_scenario_what_its_hardest_target_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two targets: the numbers are those of S^2 / mcse^2 and p (1 - p) / mcse^2, by hand."""
    from rmm.study import plan, run_batch

    study = load_kills(
        tmp_path,
        methods=[{"name": "agg", "kind": "aggregation", "backend": "ols"}],
        replications=40,
        vary={"sd": {"path": "truth.parameters.sigma_l2", "values": [0.5, 3.0]}},
    )
    folder = tmp_path / study.name
    for job in plan(study):
        run_batch(study, job.scenario, job.method, job.first, job.last, folder / job.path)
    asked = ["study", "plan", str(study.file), "--results", str(tmp_path)]
    asked += ["--target", "bias", "b_l1[x]", "0.15", "--target", "coverage", "b_l1[x]", "0.05"]
    assert main([*asked, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [t["deciding"]["measure"] for t in facts["by_scenario"]] == ["coverage", "bias"]
    for one in facts["by_scenario"]:
        needs = [n for n in facts["needs"] if n["scenario"] == one["scenario"]]
        most = max(min(n["up_to"], n["worst"] or n["up_to"]) for n in needs)
        assert most <= one["number"] < most + 50
        rate = next(n for n in needs if n["measure"] == "coverage")
        assert rate["worst"] == 100  # .25 / .05^2
        bias = next(n for n in needs if n["measure"] == "bias")
        paths = folder.glob(f"estimates/{one['scenario']}/agg/*.parquet")
        rows = pd.concat(map(pd.read_parquet, paths)).query("parameter == 'b_l1[x]'")
        assert bias["needed"] == math.ceil(round(rows["mean"].var() / 0.15**2, 6))
    few, many = (one["number"] for one in facts["by_scenario"])
    assert few < many
    assert facts["methods_by_scenario"][0]["fits"] == few + many
    assert facts["methods"][0]["fits"] == 2 * many
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert re.search(rf"(?m)3\.0 +{many:,} +bias of b_l1\[x\], mcse 0\.15: agg$", said)
    assert f"With these numbers: {few + many:,} fits" in said
    assert main([*asked[:5], "--target", "bias", "b_l1[x]", "much"]) == 2
    assert "--target: the error must be a number above 0, not 'much'" in capsys.readouterr().err
    assert main([*asked[:5], "--target", "bia", "b_l1[x]", "0.1"]) == 2
    assert "'bia' is not a measure that can be a stopping target" in capsys.readouterr().err
