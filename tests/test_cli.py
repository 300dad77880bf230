"""The command line: exit codes, letters instead of tracebacks, help that teaches."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import rmm
from rmm.cli import main
from rmm.cli.common import plain
from rmm.errors import BackendError, FormulaError

COMMANDS = (
    ["doctor"], ["fit"], ["simulate"], ["study", "check"], ["study", "plan"],
    ["study", "status"], ["study", "report"], ["study", "replay"],
)  # fmt: skip
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_by_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"rmm {' '.join(command)}" in text.split("examples:")[1]


def test_no_command_is_bad_input() -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"rmm {rmm.__version__}\n"


@pytest.mark.parametrize("error", [FormulaError("no such column"), BackendError("no engine")])
def test_an_error_is_a_letter_and_exit_code_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(rmm, "fit", refuse, raising=False)
    assert main(["fit", "data.csv", "y ~ 1"]) == 2
    shown = capsys.readouterr()
    assert shown.err == f"rmm: {error}\n"
    assert shown.out == ""


@pytest.mark.parametrize("command", ["check", "plan", "status", "report"])
def test_a_missing_study_file_is_bad_input(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", command, str(tmp_path / "none.yaml")]) == 2
    text = capsys.readouterr().err
    assert "none.yaml" in text
    assert "Traceback" not in text


def fake_fit(formula: str, data: str, **settings: Any) -> Any:
    table = pd.DataFrame({"mean": [0.5], "rhat": [float("nan")]}, index=["b_l1[x]"])
    seen = {"divergences": settings["chains"]}
    return SimpleNamespace(summary=lambda: table, diagnostics=lambda: seen, converged=True)


def test_fit_prints_json_that_a_program_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rmm, "fit", fake_fit, raising=False)
    assert main(["fit", "data.csv", "y ~ 1", "--chains", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["summary"] == {"b_l1[x]": {"mean": 0.5, "rhat": None}}
    assert record["diagnostics"] == {"divergences": 3}
    assert record["converged"] is True


def test_doctor_tells_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rmm import doctor

    def find(state: str) -> list[doctor.Finding]:
        return [doctor.Finding("backend jags", state, "what", "how to mend")]

    monkeypatch.setattr(doctor, "diagnose", lambda **given: find("ok"))
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "diagnose", lambda **given: find("missing"))
    assert main(["doctor", "--json"]) == 1
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("[") :])[0]["remedy"] == "how to mend"


def test_plain_makes_json_of_numpy_and_missing_values() -> None:
    import numpy as np

    given = {"a": np.float64(1.5), "b": np.arange(2), "c": float("inf"), "d": Path("x")}
    assert plain(given) == {"a": 1.5, "b": [0, 1], "c": None, "d": "x"}
