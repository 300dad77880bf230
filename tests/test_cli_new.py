"""`rmm study new` writes files that are in order, and nothing over what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rmm.cli import main
from rmm.study import load_study


@pytest.mark.parametrize("family", ["gaussian", "binomial", "weibull"])
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
    assert [m["backend"] for m in confirming] == ["stan" if family == "weibull" else "jags"]
    assert confirming[0]["replications"] < content["replications"]
    assert f"rmm study check {path}" in capsys.readouterr().out


def test_a_new_study_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "who sits where.csv"
    table.write_text("party,cabinet\n" + "\n".join(f"{i % 7},{i // 3}" for i in range(60)))
    path = tmp_path / "mine.yaml"
    words = ["--data", str(table), "--member", "party", "--group", "cabinet"]
    assert main(["study", "new", str(path), *words]) == 0
    content = yaml.safe_load(path.read_text())
    assert content["membership"] == {
        "kind": "empirical", "file": str(table), "member": "party", "group": "cabinet"
    }  # fmt: skip
    assert "id(party, cabinet)" in content["truth"]["formula"]
    assert content["covariates"] == {"x": {"level": "member"}, "power": {"level": "membership"}}
    assert "{column: NAME}" in path.read_text()  # covariates may be the table's, too


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    assert main(["study", "new", str(path)]) == 2
    assert "there is such a file already" in capsys.readouterr().err
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
