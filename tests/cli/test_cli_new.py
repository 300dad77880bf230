"""`rmm study new` writes files that are in order, and nothing over what is there."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rmm.cli import main
from rmm.cli.asking import new_study
from rmm.cli.new import _OUTCOMES, BACKENDS, DEFAULTS
from rmm.study import load_study


@pytest.mark.parametrize("family", list(_OUTCOMES))
def test_a_new_study_is_in_order(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    title = 'Said: "what # is" this?'
    words = ["--family", family, "--title", title, "--effect", "0.3", "--members", "25"]
    assert main(["study", "new", str(path), *words]) == 0
    study = load_study(path)
    assert len(study.scenarios) == 2
    content = yaml.safe_load(path.read_text())
    assert content["title"] == title
    assert content["truth"]["family"] == family
    assert content["truth"]["parameters"]["b_l1[x]"] == 0.3
    assert content["membership"]["members"] == 25
    confirming = [m for m in content["methods"] if m.get("confirms") == "mmmm"]
    assert [m["backend"] for m in confirming] == [
        "jags" if family in ("gaussian", "binomial") else "stan"
    ]
    assert confirming[0]["replications"] < content["replications"]
    assert f"rmm study check {path}" in capsys.readouterr().out


def test_a_new_study_is_one_to_publish_with_a_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A true coverage of 95% and a test at 5% are known to .007: a band of .036 to .064."""
    path = tmp_path / "a study.yaml"
    assert main(["study", "new", str(path)]) == 0
    full, trial = load_study(path), load_study(path, size="smoke")
    assert (full.replications, trial.replications) == (1000, 20)
    assert "Monte Carlo error of 95% coverage: 0.7 points" in path.read_text()
    shown = capsys.readouterr().out.splitlines()[1:]
    assert [line.split("#")[1].strip() for line in shown] == [
        "count the fits",
        "a trial, 20 data sets per scenario",
        "the study, 1,000 data sets per scenario",
    ]
    commands = [shlex.split(line.split("#")[0]) for line in shown]
    assert commands[1] == [
        "rmm", "study", "run", str(path), "--cores", "2", "--size", "smoke"
    ]  # fmt: skip
    assert len({line.index("#") for line in shown}) == 1


def test_a_small_study_needs_no_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["study", "new", str(path), "--replications", "20"]) == 0
    assert "smoke" not in capsys.readouterr().out
    assert load_study(path, size="smoke").replications == 20


def test_a_new_study_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "who sits where.csv"
    table.write_text("party,cabinet\n" + "\n".join(f"{i % 7},{i // 3}" for i in range(60)))
    path = tmp_path / "mine.yaml"
    words = ["--data", str(table), "--member", "party", "--group", "cabinet"]
    assert main(["study", "new", str(path), *words]) == 0
    content = yaml.safe_load(path.read_text())
    assert content["membership"] == {
        "kind": "empirical",
        "file": str(table),
        "member": "party",
        "group": "cabinet",
    }
    assert "id(party, cabinet)" in content["truth"]["formula"]
    assert content["covariates"] == {"x": {"level": "member"}, "power": {"level": "membership"}}
    assert "{column: NAME}" in path.read_text()  # covariates may be the table's, too


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    assert main(["study", "new", str(path)]) == 2
    assert "this file exists already" in capsys.readouterr().err
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--size", "50"], "membership"),
        (["--replications", "0"], "replications"),
    ],
)
def test_what_would_not_be_in_order_is_not_left_behind(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["study", "new", str(path), *words]) == 2
    assert said in capsys.readouterr().err
    assert not path.exists()


def test_the_extra_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    path = tmp_path / "mine.yaml"
    assert main(["study", "new", str(path)]) == 2
    assert (
        "needs the package jinja2, which is not installed. Install it with `pip install jinja2`"
        in (capsys.readouterr().err)
    )
    assert not path.exists()


def test_comments_stand_below_each_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["study", "new", str(path), "--members", "12345"]) == 0
    lines = path.read_text().splitlines()
    start = lines.index("membership:") + 2
    places = {line.index("  # ") for line in lines[start : start + 3]}
    assert len(places) == 1
    assert "\t" not in path.read_text()


def asked(*given: str) -> dict[str, object]:
    return new_study(
        DEFAULTS,
        ["gaussian", "binomial"],
        BACKENDS,
        io.StringIO("".join(f"{answer}\n" for answer in given)),
    )


def test_answers_are_options_and_enter_is_the_default() -> None:
    assert asked(*[""] * 9) == {
        key: DEFAULTS[key]
        for key in (
            "title",
            "groups",
            "members",
            "size",
            "family",
            "effect",
            "replications",
            "backend",
        )
    }


def test_what_is_no_answer_is_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("party,cabinet\n1,2\n")
    found = asked("Mine", "gone.csv", str(table), "person", "party", "", "cabinet", "poisson",
                  "binomial", "much", "inf", "0.2", "-3", "0", "7", "bugs", "stan")  # fmt: skip
    assert found == {
        "title": "Mine",
        "data": str(table),
        "member": "party",
        "group": "cabinet",
        "family": "binomial",
        "effect": 0.2,
        "replications": 7,
        "backend": "stan",
    }
    said = capsys.readouterr().out
    for part in (
        "There is no file 'gone.csv'",
        "Its columns: party, cabinet",
        "'person' is not possible here. Choose one of: party, cabinet",
        "'poisson' is not possible here. Choose one of: gaussian, binomial",
        "'much' is not a number",
        "'inf' is not a finite",
        "'-3' is not a whole",
    ):
        assert part in said


def in_a_terminal(path: Path, typed: str) -> str:
    """What a person sees who types that after `rmm study new FILE`."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rmm", "study", "new", str(path)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            seen += part
        process.wait(timeout=60)
    os.close(ours)
    return seen.decode()


def test_a_terminal_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    seen = in_a_terminal(path, "Unions\n\n80\n\n\n\n0.3\n\n\n")
    assert re.search(r"Number of groups, on which the outcome is measured \[100\]:", seen)
    assert f"{path} was written" in seen.replace("\r\n", "")
    content = yaml.safe_load(path.read_text())
    assert (content["title"], content["membership"]["groups"]) == ("Unions", 80)
    assert content["truth"]["parameters"]["b_l1[x]"] == 0.3


def test_who_leaves_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert "Nothing was written" in in_a_terminal(path, "Unions\n\x04")
    assert not path.exists()
