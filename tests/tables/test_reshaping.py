"""`rmm.to_long`: one row per membership, nothing lost and nothing made up."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.tables.wide_to_long import numbered_sets

SLOTS = ["club1", "club2", "club3"]
FEES = {"fee": ["fee1", "fee2", "fee3"]}


@pytest.fixture
def wide() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "player": ["a", "b", "c", "d"],
            "club1": [7, 8, 9, 7],
            "club2": [8, np.nan, 7, 9],
            "club3": [np.nan, np.nan, 8, 8],
            "fee1": [1.0, 2.0, 3.0, 4.0],
            "fee2": [5.0, np.nan, 6.0, 7.5],
            "fee3": [np.nan, np.nan, 8.0, 9.0],
            "goals": [3.0, 1.0, 4.0, 2.0],
        }
    )


def test_rows_are_memberships(wide: pd.DataFrame) -> None:
    long = rmm.to_long(wide, SLOTS, FEES, "player", member="club")
    assert list(long.columns) == ["player", "club", "fee", "goals"]
    assert long["player"].tolist() == list("aabcccddd")
    assert long["club"].tolist() == [7, 8, 8, 9, 7, 8, 7, 9, 8] and long["club"].dtype == "int64"
    assert long["fee"].tolist() == [1, 5, 2, 3, 6, 8, 4, 7.5, 9]
    assert long["goals"].tolist() == [3, 3, 1, 4, 4, 4, 2, 2, 2]
    model = prepare("goals ~ 1 + mm(id(club, player), vars(fee), RE=TRUE)", long)
    assert model.design.J == 4 and model.design.members[0].n.tolist() == [2, 2, 1, 3, 3, 3, 3, 3, 3]


def test_groups_are_numbered_without_ids(wide: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match="`fee1`, `fee2`, `fee3` are numbered"):
        long = rmm.to_long(wide.drop(columns="player"), SLOTS, member="club")
    assert long["group"].tolist() == [1, 1, 2, 3, 3, 3, 4, 4, 4]
    assert "fee1" in long, "a column of which nothing is known is kept"


def test_text_files(wide: pd.DataFrame, tmp_path: Path) -> None:
    codes = wide.assign(club1=["07", "7", "8", "8"], club2=["7", None, "07", "9"], club3=None)
    codes = codes.drop(columns=FEES["fee"])
    codes.to_csv(tmp_path / "w.csv", index=False, na_rep="-")
    long = rmm.to_long(tmp_path / "w.csv", SLOTS, group="player", na=["-"])
    assert long["member"].tolist() == ["07", "7", "7", "8", "07", "8", "9"]


def test_groups_without_members_are_reported(wide: pd.DataFrame) -> None:
    empty = wide.astype({"club1": float})
    empty.loc[1, ["club1", "fee1"]] = np.nan
    with pytest.warns(
        rmm.SpecificationWarning, match="Groups without members are left out \\(1 of 4\\): b\\."
    ):
        assert "b" not in set(rmm.to_long(empty, SLOTS, FEES, "player")["player"])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"members": "club1"}, "`members` must be a list of the columns of member ids"),
        ({}, {"members": ["club1", "club1"], "covariates": None}, "the column `club1` twice"),
        (
            {},
            {"members": ["club1", "clab2"], "covariates": None},
            "no column `clab2`. Did you mean `club2`",
        ),
        ({}, {"covariates": {"fee": ["fee1"]}}, "`fee` has 1 column, but `members` has 3"),
        ({}, {"covariates": {"goals": ["fee1", "fee2", "fee3"]}}, "two columns named `goals`"),
        ({"player": list("aabc")}, {}, "Group 'a' \\(column `player`\\) has several rows"),
        ({"player": ["a", None, "b", "c"]}, {}, "column `player`\\) is missing in row 2"),
        (
            {"fee3": [1.0, None, None, None]},
            {},
            r"`fee3` is 1.0, but `club3` is empty. This is the only such case",
        ),
        (
            {"fee3": [1.0] * 4},
            {},
            r"In row 1, `fee3` is 1.0, but `club3` is empty. There are 2 such cases",
        ),
        ({"club2": ["x", None, "y", "z"]}, {}, "`club2` contains text, but `club1` does not"),
    ],
)
def test_what_cannot_be_meant(
    wide: pd.DataFrame, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"members": SLOTS, "covariates": FEES, "group": "player", **options}
    with pytest.raises(rmm.DataError, match=message):
        rmm.to_long(wide.assign(**changes), **given)


def test_columns_that_are_numbered_like_the_members_are_asked_for(wide: pd.DataFrame) -> None:
    """The text that the warning gives is the argument that was left out."""
    with pytest.warns(rmm.SpecificationWarning, match="not in `covariates`") as heard:
        rmm.to_long(wide, SLOTS, group="player")
    written = str(heard[0].message).partition("write covariates=")[2].removesuffix(".")
    assert json.loads(written) == FEES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rmm.to_long(wide, SLOTS, json.loads(written), "player")


@pytest.mark.parametrize(
    ("slots", "names", "found"),
    [
        (["p1", "p2"], ["s1", "s2", "days"], {"s": ["s1", "s2"]}),
        (["p2", "p1"], ["s1", "s2"], {"s": ["s2", "s1"]}),
        (["id_1_x", "id_2_x"], ["seats_1", "seats_2"], {"seats": ["seats_1", "seats_2"]}),
        (["p1", "p2"], ["w3_s1", "w3_s2"], {"w3_s": ["w3_s1", "w3_s2"]}),
        (["p1", "p2"], ["s1", "s2", "s3"], {}),
        (["p1", "p2"], ["s1"], {}),
        (["first", "second"], ["s1", "s2"], {}),
        (["p1"], ["s1"], {}),
        (["p1", "q2"], ["s1", "s2"], {}),
    ],
)
def test_sets_of_columns_by_their_numbers(
    slots: list[str], names: list[str], found: dict[str, list[str]]
) -> None:
    assert numbered_sets(slots, names) == found
