"""Warnings of weight functions that depend on where zero is, and of those that do not."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.formula.weights.rewrite import shifted
from rmm.formula.weights.weight_function import Column, WeightFunction, parse_weights

LOGISTIC = "1/(1+(n-1)*exp(-(b1*{})))"
POWER = "1/n^exp(-(b1*{}))"
EXPONENTIAL = "exp(b1*{})"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """120 groups of 2 to 5; ages about 45, their centred values, and two shares of variance."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(2, 6, 120)
    team = np.repeat(np.arange(120), sizes)
    data = pd.DataFrame({"team": team, "m": np.arange(len(team)) % 43})
    data["age"] = rng.normal(45, 9, len(team))
    data["young"] = data["age"] - data["age"].mean()
    budget = rng.normal(size=120)[team] * np.sqrt(0.96)
    data["budget"] = 7 + budget + rng.normal(size=len(team)) * np.sqrt(0.04)
    data["evenly"] = rng.normal(size=len(team))
    data["share"] = rng.uniform(0.05, 0.6, len(team))
    data["x"] = rng.normal(size=len(team))
    data["y"] = rng.normal(size=120)[team]
    return data


def found(weight: str, table: pd.DataFrame, constraint: str = "1") -> list[str]:
    """Specification warnings of a model's weights."""
    formula = f"y ~ 1 + mm(id(m, team), vars(x), fn(w ~ {weight}, c = {constraint}), RE=TRUE)"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(formula, table)
    return [str(w.message) for w in caught if w.category is rmm.SpecificationWarning]


@pytest.mark.parametrize("form", [LOGISTIC, POWER])
def test_a_variable_far_from_zero_is_named_with_the_sign(form: str, table: pd.DataFrame) -> None:
    (message,) = found(form.format("age"), table)
    assert "`age` is far from zero. At positive values of b_w[b1]" in message
    assert "write center(age) instead of age" in message
    (mirrored,) = found(form.format("age"), table.assign(age=-table["age"]))
    assert "At negative values of b_w[b1]" in mirrored


@pytest.mark.parametrize("form", [LOGISTIC, POWER])
def test_weights_that_overflow_on_one_side_are_named(form: str, table: pd.DataFrame) -> None:
    (message,) = found(form.format("age"), table.assign(age=table["age"] + 1e5))
    assert "`age` is far from zero" in message
    assert "denominators" not in message


def test_a_linear_function_depends_on_the_location(table: pd.DataFrame) -> None:
    messages = found("1 + 0.1*b1*far", table.assign(far=table["young"] + 3e3))
    assert any("`far / 0.1` is far" in m or "`0.1 * far` is far from zero" in m for m in messages)


@pytest.mark.parametrize(
    "weight",
    [
        LOGISTIC.format("young"),
        POWER.format("young"),
        LOGISTIC.format("share"),
        POWER.format("share"),
        LOGISTIC.format("evenly"),
        LOGISTIC.format("center(age)"),
        POWER.format("center(age)"),
        EXPONENTIAL.format("age"),
        EXPONENTIAL.format("(age + 1000)"),
        "exp(-b1*age)/n",
        "share^b1",
        "age^b1",
        "exp(b1*log(age))",
    ],
)
def test_functions_whose_weights_move_on_both_sides_are_not_flagged(
    weight: str, table: pd.DataFrame
) -> None:
    assert found(weight, table) == []


def test_without_normalising_the_location_of_an_exponential_matters(table: pd.DataFrame) -> None:
    assert found(EXPONENTIAL.format("age"), table, "2") == []
    (message,) = found(EXPONENTIAL.format("age"), table, "FALSE")
    assert "At negative values of b_w[b1]" in message


@pytest.mark.parametrize("form", [LOGISTIC, POWER])
def test_variance_between_groups_saturates(form: str, table: pd.DataFrame) -> None:
    centred = table.assign(budget=table["budget"] - table["budget"].mean())
    (message,) = found(form.format("budget"), centred)
    assert "Most of the variance of the weight variable `budget` lies between groups" in message
    assert "write center(budget, within=team) instead of budget" in message
    assert "exp(b*budget)" in message
    for advice in ("center(budget, within=team)", "center(budget, within=group)"):
        assert found(form.format(advice), centred) == []


def test_an_exponential_is_the_same_whatever_lies_between_groups(table: pd.DataFrame) -> None:
    assert found(EXPONENTIAL.format("budget"), table) == []


@pytest.mark.parametrize(
    "text",
    [
        "1/(1+(n-1)*exp(-(b1*x)))",
        "1/n^exp(-(0.3 - b1*x/2))",
        "1/n^exp((-b1)*x*3)",
        "exp(b1*max(x))/n^exp(b1*x)",
        "x^(-b1)",
        "pow(x, 2*b1) + 1",
    ],
)
def test_a_shifted_function_is_the_function_of_the_shifted_variable(text: str) -> None:
    weight, start = parse_weights(f"w ~ {text}"), np.array([0, 2, 5])
    x, given = np.array([1.3, 2.0, 4.0, 1.1, 3.0]), {"b1": 0.7}
    amount = 0.4
    moved = WeightFunction("", shifted(weight.expression, "b1", Column("c")))
    there = moved.raw({"x": x, "c": np.full(5, amount)}, start, given)
    power = text.startswith(("x^", "pow"))
    if "max" in text:  # both products move
        x_there = x - amount
    else:
        slope = {"b1*x/2": 2.0, "(-b1)*x*3": 1 / 3}
        factor = next((v for k, v in slope.items() if k in text), 1.0)
        x_there = x / np.exp(amount) if power else x - amount * factor
    if text.startswith("pow"):
        x_there = x * np.exp(-amount / 2)
    expected = weight.raw({"x": x_there}, start, given)
    np.testing.assert_allclose(there, expected, rtol=1e-12)
