"""Text that is nearly numbers, dates in every dress, labels that look alike, wide tables."""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.tables.read import first_varying
from rmm.tables.text_values import describe_texts, is_date, look_alike

ROWS = 40


def units(**columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"y": rng.normal(size=ROWS), "z": rng.normal(size=ROWS), **columns})


def cycle(values: list[Any]) -> list[Any]:
    return [values[i % len(values)] for i in range(ROWS)]


NEARLY = {
    "decimal commas": (
        ["2,5", "3,25", "4"],
        r"numbers written as text, such as '4', but also '2,5'",
    ),
    "thousands": (["2,500", "3,750", "1,000"], r"'1,000' \(.* thousands or decimals\)"),
    "percent": (["5%", "7.5 %", "10%"], r"'10%' \(a percent sign\)"),
    "one point": (["1", "2", ".", "3"], r"such as '1', but also '\.'"),
    "limits": (["<5", "7", "8"], "such as '7', but also '<5'"),
    "money": (["$5", "$1,200", "$30"], "numbers written as text"),
    "blanks": ([" 1", "2 ", "3"], "numbers written as text, such as ' 1'"),
    "ISO dates": (["2019-05-01", "2020-11-30", "2021-01-15"], "dates written as text"),
    "months": (["2019-05", "2020-11"], "dates written as text"),
    "dates with points": (["1.5.2019", "30.11.2020"], "dates written as text"),
    "dates with names": (["3 May 2019", "30 Nov 2020"], "dates written as text"),
    "Stata's dates": (["03may2019", "30nov2020"], "dates written as text"),
    "date objects": (
        [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)],
        "contains dates or dur",
    ),
    "durations": ([pd.Timedelta(days=2), pd.Timedelta(days=3)], "contains dates or durations"),
    "periods": ([pd.Period("2020-01"), pd.Period("2020-02")], "contains dates or durations"),
    "times of a zone": (
        [pd.Timestamp("2020-01-01", tz="UTC"), pd.Timestamp("2021-01-01", tz="UTC")],
        "contains dates or durations",
    ),
}


@pytest.mark.parametrize("name", NEARLY)
def test_what_is_no_category_is_refused(name: str) -> None:
    values, message = NEARLY[name]
    with pytest.raises(rmm.DataError, match=f"predictor `x`.*{message}"):
        prepare("y ~ x", units(x=cycle(values)))
    if isinstance(values[0], str):
        asked = pd.Categorical(cycle(values))
        assert prepare("y ~ x", units(x=asked)).design.X_l2.shape[1] == len(values) - 1


@pytest.mark.parametrize("kind", ["date32[day][pyarrow]", "duration[s][pyarrow]"])
def test_dates_of_arrow(kind: str) -> None:
    values = pd.Series(pd.date_range("2000", periods=ROWS), dtype="datetime64[s]")
    values = (values - values[0] if "duration" in kind else values).astype(kind)
    with pytest.raises(rmm.DataError, match="`x` contains dates or durations"):
        prepare("y ~ x", units(x=values))


@pytest.mark.parametrize(
    "levels",
    [
        ["18-25", "26-35", "36+"],
        ["1st", "2nd"],
        ["a1", "b2"],
        ["New York", "5th"],
        ["low", "1", "high"],
        ["march", "may"],
        ["Q1", "Q2"],
        ["A4", "A5"],
    ],
)
def test_names_of_categories_are_none_of_these(levels: list[str]) -> None:
    assert describe_texts(levels) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare("y ~ x", units(x=cycle(levels))).design.X_l2.shape[1] == len(levels) - 1


def test_words_that_hold_digits_are_no_dates() -> None:
    assert not any(map(is_date, ["12-monkeys-99", "route 66", "1234", "3.5", "10/12", "B2020"]))


def test_text_in_weights_and_outcomes_is_described() -> None:
    table = pd.DataFrame(
        {"g": np.repeat(range(20), 2), "m": list(range(4)) * 10, "w": ["0,5", "1,5"] * 20}
    )
    table["y"] = table["g"] / 2
    with pytest.raises(
        rmm.DataError,
        match=r"variable `w` contains numbers written as text, .*'0,5' \(a decimal co",
    ):
        prepare("y ~ 1 + mm(id(m, g), RE=TRUE, fn(w ~ w))", table)
    with pytest.raises(rmm.DataError, match="Column `d` contains dates"):
        prepare("d ~ z", units(d=pd.date_range("2000", periods=ROWS)))


def test_a_category_with_nearly_as_many_levels_as_units_is_reported() -> None:
    names = [f"town {i}" for i in range(25)]
    with pytest.warns(
        rmm.SpecificationWarning, match="`x` is a category with 25 levels, but there are only 40"
    ):
        prepare("y ~ x", units(x=cycle(names)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare("y ~ x", units(x=cycle(names[:12])))


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "pair"),
    [
        (["v", "w ", "w"], ("w ", "w")),
        (["Zoe\u0301", "Zo\u00e9"], ("Zoe\u0301", "Zo\u00e9")),
        (["a b", "a\u00a0b"], ("a b", "a\u00a0b")),
        (["ab", "a\u200bb"], ("ab", "a\u200bb")),
        (["a", "A", "á"], None),
    ],
)
def test_labels_that_look_alike(labels: list[str], pair: tuple[str, str] | None) -> None:
    assert look_alike(labels) == pair
    if pair is not None:
        with pytest.warns(rmm.SpecificationWarning, match="differ only in blanks or in the"):
            prepare("y ~ x", units(x=cycle(labels)))


def test_an_empty_text_is_a_label_with_a_word_on_it() -> None:
    with pytest.warns(rmm.SpecificationWarning, match=r"`x` contains an empty text \(10 rows\)"):
        assert prepare("y ~ x", units(x=cycle(["", "a", "b", "c"]))).design.X_l2.shape[1] == 3


def memberships(groups: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(groups), 2)
    member = np.concatenate([rng.choice(9, 2, replace=False) for _ in range(groups)])
    return pd.DataFrame({"g": group, "m": member, "y": rng.normal(size=groups)[group]})


def test_ids_with_decimals_are_reported() -> None:
    with pytest.warns(rmm.SpecificationWarning, match="ids in column `m` are numbers with dec"):
        prepare("y ~ 1 + mm(id(m, g), RE=TRUE)", memberships().assign(m=lambda t: t["m"] / 4))


# ---- wide tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("club1", "club2"), ("club_1_id", "club_2_id"), ("home", "away")]
)
def test_a_wide_table_is_recognised(names: tuple[str, str]) -> None:
    rng = np.random.default_rng(6)
    teams = np.array(["FC", "SV", "TS", "BV"])
    wide = pd.DataFrame(teams[rng.integers(0, 4, (50, 2))], columns=list(names))
    wide = wide.assign(match=range(50), y=rng.normal(size=50))
    formula = f"y ~ 1 + mm(id({names[0]}, match), RE=TRUE)"
    with pytest.warns(rmm.SpecificationWarning, match=rf"wide table.*rmm\.to_long.*{names[1]}"):
        prepare(formula, wide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(formula, wide.drop(columns=names[1]).assign(year=1))


def test_a_missing_member_has_its_own_message() -> None:
    table = memberships().astype({"m": float})
    table.loc[[3, 8], "m"] = np.nan
    formula = "y ~ 1 + mm(id(m, g), RE=TRUE)"
    slots = (
        r"`m`, the member id, has 2 missing values; the first is in row 4"
        r".*empty cells of a wide table.*dropna"
    )
    with pytest.raises(rmm.DataError, match=slots):
        prepare(formula, table)
    with pytest.warns(
        rmm.SpecificationWarning, match="If the rows without `m` come from empty cells of a wide"
    ):
        prepare(formula, table, missing="drop")


def test_a_member_twice_is_to_be_counted() -> None:
    table = memberships()
    twice = pd.concat([table, table.iloc[[5]]])
    with pytest.raises(
        rmm.DataError, match=r"Group 2 .* has several rows for member .*fn\(w ~ times\)"
    ) as caught:
        prepare("y ~ 1 + mm(id(m, g), RE=TRUE)", twice)
    assert "merge" not in str(caught.value)
    counted = twice.groupby(["g", "m", "y"]).size().rename("times").reset_index()
    weight = (
        prepare("y ~ 1 + mm(id(m, g), fn(w ~ times), RE=TRUE)", counted).design.members[0].weight
    )
    assert weight is not None and sorted(set(weight.round(4))) == [0.3333, 0.5, 0.6667]


# ---- outcomes of two labels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "one"),
    [
        (["Yes", "No"], "Yes"),
        (["won", "lost"], "won"),
        (["t", "f"], "t"),
        (["n", "y"], "y"),
        (["True", "False"], "True"),
    ],
)
def test_two_labels_are_read_and_reported(labels: list[str], one: str) -> None:
    table = units(v=cycle(labels))
    with pytest.warns(rmm.SpecificationWarning, match=f"'{one}' is used as 1"):
        model = prepare("v ~ z", table, "binomial")
    rows = model.design.rows
    assert (model.design.outcome["y"] == (table["v"] == one).to_numpy()[rows]).all()
    reverse = pd.Categorical(table["v"], [one, next(v for v in labels if v != one)])
    if one == "won":  # no word that is known: the order of the categories
        with pytest.warns(rmm.SpecificationWarning, match="'lost' is used as 1"):
            prepare("v ~ z", table.assign(v=reverse), "binomial")


def test_outcomes_that_cannot_be_two_labels() -> None:
    with pytest.raises(rmm.DataError, match="has more than two values: 'a', 'b', 'c'"):
        prepare("v ~ z", units(v=cycle(["a", "b", "c"])), "binomial")
    with pytest.raises(rmm.DataError, match="is 'yes' in every group"):
        prepare("v ~ z", units(v=["yes"] * ROWS), "binomial")
    with pytest.raises(rmm.DataError, match="Column `v` contains text, such as 'no'"):
        prepare("v ~ z", units(v=cycle(["yes", "no"])))
    time = np.arange(1.0, ROWS + 1)
    with pytest.warns(rmm.SpecificationWarning, match="'yes' is used as 1"):
        model = prepare("Surv(t, v) ~ z", units(t=time, v=cycle(["yes", "no"])), "weibull")
    assert model.design.outcome["event"].tolist() == [1, 0] * (ROWS // 2)
    with pytest.raises(rmm.DataError, match="`v` is 'left' or 'stayed', and it is not clear which"):
        prepare("Surv(t, v) ~ z", units(t=time, v=cycle(["left", "stayed"])), "cox")


# ---- rounding ------------------------------------------------------------------------------------


def test_rounding_is_no_variation() -> None:
    unit = np.repeat(np.arange(3), 2)
    value = np.array([0.1 + 0.2, 0.3, 1.1 * 3, 3.3, 0.0, 0.0])
    assert len(np.unique(value)) > 3 and first_varying(value, unit) is None
    assert first_varying(np.array([0.0, 0.0, 1.0, 1.0 + 1e-9, 2.0, 2.0]), unit) == 1
    assert first_varying(1e12 + np.array([0.0, 0.0, 1.0, 1.1, 2.0, 2.0]), unit) == 1
    assert first_varying(np.array([1, 1, 2**60, 2**60 + 1, 3, 3]), unit) == 1, "whole numbers"


def test_outcomes_that_differ_by_rounding_within_a_group() -> None:
    table = memberships()
    noisy = table.assign(y=table["y"] * np.where(table.index % 2, 1, 1 + 2.0**-52))
    assert (noisy.groupby("g")["y"].nunique() > 1).any()
    model = prepare("y ~ 1 + mm(id(m, g), RE=TRUE)", noisy)
    assert model.design.outcome["y"] == pytest.approx(table["y"][::2].to_numpy(), rel=1e-15)


def test_numbers_in_disguise_are_refused_without_a_warning_of_many_levels() -> None:
    texts = [f"{1_000 * i + 250:,}" for i in range(1, ROWS + 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(rmm.DataError, match="numbers written as text"):
            prepare("y ~ 1 + income", units(income=texts))


@pytest.mark.parametrize(
    ("missing", "text"), [(np.nan, "nan"), (pd.NA, "<NA>"), (pd.NaT, "NaT"), (None, "None")]
)
def test_missing_values_that_were_written_out_are_no_members(missing: Any, text: str) -> None:
    """An empty slot that became text would be a member of many groups."""
    club = np.array([str(missing) if i % 5 == 0 else f"club {i % 7}" for i in range(ROWS)], object)
    table = units(club=club, trip=np.arange(ROWS) // 2)
    table["y"] = table.groupby("trip")["y"].transform("first")
    message = (
        rf"`club` contains the text '{text}' \(8 rows\).*\.astype\(str\) converts missing values"
    )
    with pytest.warns(rmm.SpecificationWarning, match=message):
        prepare("y ~ 1 + mm(id(club, trip), RE=TRUE)", table)


def test_names_that_look_like_missing_values_are_nothing_unusual() -> None:
    """A category None; NA, the code of Namibia; a club called Nan."""
    table = units(faith=cycle(["None", "some"]), land=cycle(["NA", "DE", "FR"]))
    table = table.assign(club=cycle(["Nan", "Ann", "Bea"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare("y ~ 1 + faith + land + hm(id=club)", table.assign(z=np.arange(ROWS)))


def test_a_wide_table_is_named_before_weights_that_cannot_vary() -> None:
    table = units(boss=cycle(["a", "b", "c", "d"]), firm=range(ROWS), pay=np.linspace(1, 2, ROWS))
    message = (
        r"Every group \(column `firm`\) has only one member \(column `boss`\)"
        r".*one row per membership"
    )
    with pytest.raises(rmm.DataError, match=message):
        prepare("y ~ 1 + mm(id(boss, firm), vars(pay), fn(w ~ exp(b1*pay)), RE=TRUE)", table)
