"""`rmm look`: what it prints, its picture, and columns with unusual names."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from rmm.cli import main
from rmm.cli.look_command import id_columns
from rmm.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "my folder (ä)"
    folder.mkdir()
    path = folder / "my table.csv"
    pd.DataFrame(
        {"a, b": ["x", "y", "x", "z"], "grüppe": [1, 1, 2, 2], "seats": [0.4, 0.6, 0.3, 0.7]}
    ).to_csv(path, index=False)
    return path


def test_text_and_picture(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = table.parent / "new folder" / "the network.svg"
    code = main(["look", str(table), "--id", "`a, b`, grüppe", "--out", str(picture)])
    out = capsys.readouterr().out
    assert code == 0
    assert out.startswith("my table.csv: 4 rows, 4 memberships")
    assert "2 groups (`grüppe`), 3 members (`a, b`)" in out
    assert out.endswith(f"Picture: {picture}\n")
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_json_has_the_numbers(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", str(table), "--id", "`a, b`,grüppe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["groups"], found["members"], found["members_in_several_groups"]) == (2, 3, 1)
    assert found["members_of_a_group"] == {"2": 2}
    (seats,) = found["variables"]
    assert (seats["name"], seats["level"], seats["varies"]) == ("seats", "membership", 2)
    assert {"outcome and covariates of groups"} < {row["what"] for row in found["estimable"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--id", "grüppe"], "--id must name two columns"),
        (["--id", "a, b,grüppe"], "A name with a comma needs backticks"),
        (["--id", "`a, b`,gruppe"], "no column `gruppe`. Did you mean `grüppe`?"),
        (["--id", "`a, b`,grüppe", "--out", "x.bmp"], "Allowed: .pdf, .png, .svg"),
    ],
)
def test_mistakes_get_a_message(
    table: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["look", str(table), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("m,g", ("m", "g")),
        (" my member , the group ", ("my member", "the group")),
        ("`a,b`,`c d`", ("a,b", "c d")),
        ("имя,政党", ("имя", "政党")),
    ],
)
def test_columns_of_id(text: str, found: tuple[str, str]) -> None:
    assert id_columns(text) == found


@pytest.mark.parametrize("text", ["", "m", "m,", ",g", "m,g,h", "`m,g", "``,g"])
def test_no_two_columns(text: str) -> None:
    with pytest.raises(DataError, match="must name two columns"):
        id_columns(text)


def test_without_ids_the_columns_are_listed(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["look", str(table)]) == 2
    said = capsys.readouterr().err
    assert "such as --id party,government" in said
    assert said.endswith(f"The columns of {table} are: a, b, grüppe, seats.\n")
