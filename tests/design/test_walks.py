"""Autoregressive member effects: the order of the walks, and the messages about it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.design.prepare import Model, prepare
from rmm.errors import DataError, SpecificationWarning
from tests.coalitions import made_up_coalitions

FORMULA = "y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE, ar={})"


@pytest.fixture
def table() -> pd.DataFrame:
    table = made_up_coalitions(groups=40, members=8)
    times = np.random.default_rng(1).permutation(40) * 0.5
    return table.assign(year=times[table["gid"].str[1:].astype(int)])


def model_of(table: pd.DataFrame, ar: str = "year") -> Model:
    return prepare(FORMULA.format(ar), table)


def walked(steps: np.ndarray, member: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Effects by membership, member by member and step by step."""
    effects, number = np.zeros(len(member)), 0
    for one in np.unique(member):
        value = 0.0
        for row in sorted(np.flatnonzero(member == one), key=lambda r: time[r]):
            value += steps[number]
            effects[row] = value
            number += 1
    return effects


@pytest.mark.parametrize("ar", ["year", "TRUE"])
def test_effects_are_sums_of_steps_in_the_order_of_time(table: pd.DataFrame, ar: str) -> None:
    model = model_of(table.sample(frac=1, random_state=3), ar)
    frame, walk = model.grouped.frame, model.design.members[0].walk
    assert walk is not None
    time = frame["year"].to_numpy() if ar == "year" else model.grouped.groups.code
    steps = np.random.default_rng(2).normal(size=len(frame))
    expected = walked(steps, frame["pid"].to_numpy(), time)
    sums = np.array([steps[a : b + 1].sum() for a, b in zip(walk.begin, walk.place, strict=True)])
    np.testing.assert_allclose(sums, expected)
    values = stan.data(model.spec, model.design, prior_values(model))
    path, begin = np.cumsum(steps), values["begin_l1"] - 1
    np.testing.assert_allclose(path[values["place_l1"] - 1] - path[begin] + steps[begin], expected)


def test_order_and_the_effect_before(table: pd.DataFrame) -> None:
    model = model_of(table)
    frame, walk = model.grouped.frame.reset_index(drop=True), model.design.members[0].walk
    assert walk is not None
    assert (walk.order == frame.groupby("pid")["year"].rank().astype(int)).all()
    before = frame.sort_values("year").reset_index().groupby("pid")["index"].shift()
    rows = frame.sort_values("year").index
    assert (walk.previous[rows] == before.fillna(-1).to_numpy()).all()


def test_only_the_order_of_times_counts(table: pd.DataFrame) -> None:
    dates = pd.Timestamp("1990-01-01") + pd.to_timedelta(table["year"] ** 2, unit="D")
    one, other = model_of(table), model_of(table.assign(year=dates))
    walks = [model.design.members[0].walk for model in (one, other)]
    assert walks[0] is not None and walks[1] is not None
    assert (walks[0].place == walks[1].place).all()


def test_ordered_categories_are_times(table: pd.DataFrame) -> None:
    spelled = table["year"].map(lambda v: f"t{v}")
    levels = [f"t{v}" for v in sorted(table["year"].unique(), reverse=True)]
    model = model_of(table.assign(year=pd.Categorical(spelled, levels, ordered=True)))
    backwards = model_of(table.assign(year=-table["year"]))
    places = [m.design.members[0].walk for m in (model, backwards)]
    assert places[0] is not None and places[1] is not None
    assert (places[0].place == places[1].place).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.assign(year=t["x"]),
            r"`ar = year` varies within group 'g000' \(column `gid`\)",
        ),
        (
            lambda t: t.assign(year=t["year"] // 15),
            r"Member \d \(column `pid`\) is in groups 'g0\d\d' and 'g0\d\d' \(column `gid`\) at "
            r"the same time: `year` is \d",
        ),
        (lambda t: t.assign(year="late"), "must contain numbers, dates or ordered categories"),
        (lambda t: t.assign(year=None), "Column `year` has .* missing values"),
        (lambda t: t.assign(pid=range(len(t))), r"No member \(column `pid`\) is in two groups"),
    ],
)
def test_messages_about_time(table: pd.DataFrame, change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        model_of(change(table))


def test_group_ids_without_an_order_of_time_are_told(table: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_of(table, "TRUE")  # g000, g001, ...
        model_of(table.assign(gid=table["gid"].str[1:].astype(int)), "TRUE")
    named = table.assign(gid="g" + table["gid"].str[1:].astype(int).astype(str))
    with pytest.warns(SpecificationWarning, match=r"is alphabetical: g0, g1, \.\.\."):
        model_of(named, "TRUE")  # g10 comes before g2
