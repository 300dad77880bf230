"""Missing values: an error by default; on request groups go whole, counted and reported."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.design.rows.missing_values import Dropped, drop_incomplete
from rmm.formula.parse_formula import parse_formula

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ s), RE=TRUE) + hm(id=cid)"


@pytest.fixture
def holed(coalitions: pd.DataFrame) -> pd.DataFrame:
    """x missing in one row of g003, y in all rows of g010 and one of g011, z in g003 too."""
    table = coalitions.assign(s=np.exp(coalitions["s"]))
    table.loc[table.index[table["gid"] == "g003"][0], "x"] = np.nan
    table.loc[table["gid"] == "g010", "y"] = np.nan
    table.loc[table.index[table["gid"] == "g011"][-1], "y"] = np.nan
    table.loc[table["gid"] == "g003", "z"] = np.nan
    return table


def dropping(formula: str, table: Any, **options: Any) -> Any:
    with pytest.warns(rmm.SpecificationWarning, match="dropped") as caught:
        model = prepare(formula, table, missing="drop", **options)
    return model, str(caught[0].message)


def test_by_default_the_message_names_the_option(holed: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match=r'rmm\.fit\(\.\.\., missing="drop"\)'):
        prepare(FORMULA, holed)
    with pytest.raises(
        rmm.DataError, match=r"'omit' is not a value of `missing`\. Allowed: error, drop"
    ):
        prepare(FORMULA, holed, missing="omit")


def test_groups_go_whole_and_others_stay_as_they_are(holed: pd.DataFrame) -> None:
    """The same arrays as from a table from which the groups were taken by hand."""
    model, message = dropping(FORMULA, holed)
    bad = ["g003", "g010", "g011"]
    rest = holed[~holed["gid"].isin(bad)]
    by_hand = prepare(FORMULA, rest)
    assert model.design.J == by_hand.design.J == 117
    for name in ("member", "group", "start", "weight", "X"):
        ours, theirs = (getattr(m.design.members[0], name) for m in (model, by_hand))
        assert np.array_equal(ours, theirs), name
    assert np.array_equal(model.design.outcome["y"], by_hand.design.outcome["y"])
    assert list(model.design.coords["group"]) == list(by_hand.design.coords["group"])
    rows = holed["gid"].isin(bad).sum()
    holes = {c: int(holed[c].isna().sum()) for c in ("y", "z", "x")}
    assert model.dropped is not None
    assert vars(model.dropped) == {
        "unit": "group",
        "units": tuple(bad),
        "total": 120,
        "rows": rows,
        "columns": holes,
    }
    assert message.startswith(f"3 of 120 groups dropped ({rows} rows; missing y: {holes['y']}, ")
    assert "group g003, g010, g011." in message
    # Rows keep the numbers that they have in the user's table.
    assert set(model.design.rows) == set(rest.index)


def test_what_was_dropped_is_counted_in_words() -> None:
    one = Dropped("group", (4,), 60, 1, {"x": 1})
    assert str(one) == "1 of 60 groups dropped (1 row; missing x: 1)"


def test_unused_columns_and_complete_tables_drop_nothing(coalitions: pd.DataFrame) -> None:
    table = coalitions.assign(unused=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = prepare("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table, missing="drop")
    assert model.dropped is None and model.design.J == 120


def test_ids_the_wrong_way_round(holed: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning) as caught:
        model = prepare(FORMULA.replace("(pid, gid)", "(gid, pid)"), holed, missing="drop")
    said = [str(w.message) for w in caught]
    assert sum("was read as id(pid, gid)" in text for text in said) == 1
    assert model.dropped is not None and model.dropped.units == ("g003", "g010", "g011")


def test_a_missing_member_drops_its_group(coalitions: pd.DataFrame) -> None:
    table = coalitions.astype({"pid": object})
    table.loc[table.index[table["gid"] == "g007"][0], "pid"] = None
    model, _ = dropping("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table)
    assert model.dropped.units == ("g007",) and model.dropped.columns == {"pid": 1}


def test_a_missing_group_is_said(coalitions: pd.DataFrame) -> None:
    table = coalitions.copy()
    table.loc[[3, 4], "gid"] = None
    with pytest.raises(
        rmm.DataError,
        match=r"`gid`, the group id, has 2 missing values\. .*not known which group a row belongs",
    ):
        prepare("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table, missing="drop")


def test_without_mm_rows_go(coalitions: pd.DataFrame) -> None:
    table = coalitions.drop_duplicates("gid").reset_index(drop=True)
    table.loc[[4, 7], "z"] = np.nan
    model, message = dropping("y ~ 1 + z", table)
    assert model.design.J == 118 and model.dropped.units == (5, 8)
    assert message.startswith("2 of 120 rows dropped (2 rows; missing z: 2): row 5, 8.")


def test_several_kinds_need_not_all_be_there() -> None:
    """Rows of one kind miss the other's id and covariates; that is no missing value."""
    rng = np.random.default_rng(1)
    parties = pd.DataFrame({"gid": np.repeat(np.arange(30), 3), "pid": rng.integers(0, 8, 90) * 3})
    parties["pid"] = parties.groupby("gid").cumcount() * 10 + parties["pid"]
    parties["x"] = rng.normal(size=90)
    people = pd.DataFrame({"gid": np.repeat(np.arange(30), 2)})
    people["mid"] = people.groupby("gid").cumcount() * 10 + rng.integers(0, 8, 60)
    people["age"] = rng.normal(size=60)
    table = pd.concat([parties, people], ignore_index=True)
    table["y"] = table["gid"].map(dict(enumerate(rng.normal(size=30))))
    formula = (
        "y ~ 1 + mm(id(pid, gid), vars(x), name=a, RE=TRUE) + mm(id(mid, gid), vars(age), name=b)"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare(formula, table, missing="drop").dropped is None
    table.loc[(table["gid"] == 4) & table["mid"].notna(), "age"] = np.nan
    table.loc[table.index[(table["gid"] == 9) & table["pid"].notna()][0], ["pid", "x"]] = np.nan
    model, _ = dropping(formula, table)
    assert sorted(model.dropped.units) == [4, 9]
    assert model.dropped.columns == {"pid": 1, "mid": 1, "age": 2}


def test_whole_strata_go() -> None:
    formula = parse_formula("y ~ z + strata(s) + mm(id(pid, gid), RE=TRUE)")
    table = pd.DataFrame(
        {
            "s": np.repeat([1, 2, 3], 4),
            "gid": np.repeat(range(6), 2),
            "pid": [0, 1] * 6,
            "y": [1.0, 1, 0, 0] * 3,
            "z": np.arange(12.0),
        }
    )
    table.loc[5, "z"] = np.nan
    with pytest.warns(rmm.SpecificationWarning, match="1 of 3 strata dropped"):
        rest, _ = drop_incomplete(formula, table)
    assert rest["s"].tolist() == [1] * 4 + [3] * 4
    with pytest.raises(
        rmm.DataError,
        match=r"`s`, the id of the choice sets, has 1 missing value\. .*not known which choice set",
    ):
        drop_incomplete(formula, table.assign(s=[np.nan] + [1.0] * 11))


def test_nothing_left(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match=r"Every row has a missing value, .*`z`: 416"):
        prepare(
            "y ~ 1 + z + mm(id(pid, gid), RE=TRUE)", coalitions.assign(z=np.nan), missing="drop"
        )
    table = coalitions.copy()
    table.loc[table["gid"] != "g001", "z"] = np.nan
    with pytest.raises(rmm.DataError, match='missing="drop" would leave only 1 of 120 groups'):
        prepare("y ~ 1 + z + mm(id(pid, gid), RE=TRUE)", table, missing="drop")


def test_infinite_values_stay_an_error(coalitions: pd.DataFrame) -> None:
    table = coalitions.copy()
    table.loc[0, "x"] = np.inf
    with pytest.raises(rmm.DataError, match="1 infinite value"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x))", table, missing="drop")


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_fits_report_it_and_keep_it(holed: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.warns(rmm.SpecificationWarning, match="3 of 120 groups dropped"):
        fit = rmm.fit(FORMULA, holed, backend="fake", seed=1, missing="drop", progress=False)
    assert "117 groups" in str(fit) and "3 of 120 groups dropped (" in str(fit)
    assert fit.diagnostics()["dropped"]["units"] == ("g003", "g010", "g011")
    weights = fit.weights()
    assert weights["member"].tolist() == holed.loc[weights.index, "pid"].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = rmm.load(fit.save(tmp_path / "a.nc"))
        data = rmm.program_data(FORMULA, holed, missing="drop")
    assert again.diagnostics()["dropped"] == fit.diagnostics()["dropped"]
    pd.testing.assert_frame_equal(again.weights(), weights)
    assert data["J"] == 117
    whole = rmm.fit(
        FORMULA,
        holed.dropna(subset=["z", "y"]).query("gid not in ['g003', 'g011']"),
        backend="fake",
        seed=1,
        progress=False,
    )
    assert whole.diagnostics()["dropped"] is None and "dropped" not in str(whole)
