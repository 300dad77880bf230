"""Weights that are not finite: messages name groups, rows and values as the user knows them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.initial_values import initial_values
from rmm.design.prepare import prepare
from rmm.design.weights.invalid_weights import Places, finite_weights
from rmm.formula.weights.weight_function import parse_weights

START = np.array([0, 2, 3, 6])
PLACES = Places(
    np.array([5, 4, 3, 2, 1, 0]), np.array([0, 0, 1, 2, 2, 2]), np.array(["k7", "k8", "k9"]), "cab"
)
X = np.array([1.0, 2.0, 3.0, 4.0, 0.0, 5.0])


def table() -> pd.DataFrame:
    """40 groups; rows are in reverse order of the groups' ids."""
    rng = np.random.default_rng(8)
    group = np.repeat(np.arange(40), 3)
    data = pd.DataFrame({"cab": [f"cab {g:02}" for g in group], "m": np.arange(120) % 17})
    data["seats"], data["x"] = rng.integers(1, 9, 120), rng.normal(size=120)
    data["y"] = rng.normal(size=40)[group]
    return data[::-1].reset_index(drop=True)


def block(weight: str, constraint: str = "1") -> str:
    return f"y ~ 1 + mm(id(m, cab), vars(x), fn(w ~ {weight}, c = {constraint}), RE=TRUE)"


@pytest.mark.parametrize("weight", ["seats", "seats^2", "seats/n"])
def test_weights_of_a_group_that_sum_to_zero_name_it(weight: str) -> None:
    data = table()
    data.loc[data["cab"] == "cab 07", "seats"] = 0
    message = r"of group 'cab 07' of `cab` sum to 0 \(0, 0, 0\).*need c = FALSE"
    with pytest.raises(rmm.DataError, match=message):
        prepare(block(weight), data)
    prepare(block(weight, "FALSE"), data)
    prepare(block(weight, "2"), data)


def test_weights_of_all_groups_that_sum_to_zero_say_so() -> None:
    data = table().assign(seats=0)
    with pytest.raises(rmm.DataError, match=r"of all groups sum to 0 \(0, 0, 0, 0, \.\.\.\)"):
        prepare(block("seats", "2"), data)


@pytest.mark.parametrize(
    ("weight", "value", "found"),
    [
        (
            "1/seats",
            0.0,
            r"`1/seats` is inf in row 35 \(group 'cab 28' of `cab`\), where seats = 0",
        ),
        (
            "log(seats)",
            -1.0,
            r"is not a number in row 35 \(group 'cab 28' of `cab`\), where seats = -1",
        ),
        (
            "sqrt(seats)",
            -4.0,
            r"is not a number in row 35 \(group 'cab 28' of `cab`\), where seats = -4",
        ),
    ],
)
@pytest.mark.parametrize("constraint", ["1", "2", "FALSE"])
def test_a_known_weight_that_is_not_finite_names_the_users_row(
    weight: str, value: float, found: str, constraint: str
) -> None:
    data = table().astype({"seats": float})
    row = 34
    data.loc[row, "seats"] = value
    assert data.loc[row, "cab"] == "cab 28"
    with pytest.raises(rmm.DataError, match=found + r".*zeros in denominators"):
        prepare(block(weight, constraint), data)


def test_a_variable_that_is_not_finite_names_the_users_row() -> None:
    data = table().astype({"seats": float})
    data.loc[11, "seats"] = 0.0
    data["power"] = 1 / data["seats"].where(data["seats"] > 0, 1.0)
    message = r"is not finite in 3 memberships; the first is in row 12 \(group 'cab 36' of `cab`\)"
    with pytest.raises(rmm.DataError, match=message):
        prepare(block("exp(b1*max(1/seats))*exp(b2*power)"), data)


def test_negative_weights_name_the_users_row() -> None:
    data = table()
    data.loc[3, "seats"] = -2
    with pytest.raises(
        rmm.DataError, match=r"first is in row 4 \(group 'cab 38' of `cab`\), with the weight -2\."
    ):
        prepare(block("seats"), data)


def test_overflow_at_estimated_coefficients_is_blamed_on_the_location() -> None:
    weight = parse_weights("w ~ 1/n^exp(-(b1*year))")
    draws = {"b1": np.array([[0.001], [-0.9]])}
    year = np.array([1990.0, 1991.0, 1992.0, 1990.0, 1994.0, 1995.0])
    with pytest.raises(rmm.DataError, match=r"year = 1990 at b1 = -0\.9.*center\(year\)") as caught:
        finite_weights(weight, {"year": year}, START, PLACES, draws)
    assert "denominators" not in str(caught.value)
    assert "row 6 (group 'k7' of `cab`)" in str(caught.value)


@pytest.mark.parametrize("weight", ["w ~ seats^b1", "w ~ exp(b1*log(seats))", "w ~ 1/seats^b1"])
def test_zero_to_a_power_is_not_blamed_on_the_location(weight: str) -> None:
    seats = np.array([3.0, 2.0, 1.0, 4.0, 0.0, 5.0])
    draws = {"b1": np.array([[0.7], [-0.7]])}
    message = r"seats = 0 at b1 = .*If rows with `seats` = 0 are not memberships"
    with pytest.raises(rmm.DataError, match=message) as caught:
        finite_weights(parse_weights(weight), {"seats": seats}, START, PLACES, draws)
    assert "center(" not in str(caught.value)


def test_a_zero_that_does_no_harm_is_not_blamed() -> None:
    weight = parse_weights("w ~ 1/n^exp(-(b1*year + x))")
    x = np.array([1.0, 0.5, 0.0, 1.0, 0.0, 0.0])
    year = np.array([1990.0, 1991.0, 1992.0, 1990.0, 1994.0, 1995.0])
    with pytest.raises(rmm.DataError, match=r"center\(year\)") as caught:
        finite_weights(weight, {"year": year, "x": x}, START, PLACES, {"b1": -0.9})
    assert "no members" not in str(caught.value)


def test_a_root_of_a_negative_number_is_not_blamed_on_the_location() -> None:
    weight = parse_weights("w ~ sqrt(b1*x)")
    message = r"is not a number in row 6 .*, where x = 1 at b1 = -1\..*logarithms and roots"
    with pytest.raises(rmm.DataError, match=message):
        finite_weights(weight, {"x": X}, START, PLACES, {"b1": -1.0})


def test_estimated_weights_of_a_group_without_shares_name_it() -> None:
    data = table()
    data.loc[data["cab"] == "cab 07", "seats"] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        model = prepare(block("seats^b1"), data, priors={"b_w": "uniform(1, 2)"})
    message = r"No initial values of b_w.*of group 'cab 07' of `cab` sum to 0 at b1 = .*c = FALSE"
    with pytest.raises(rmm.BackendError, match=message):
        initial_values(model, 2, 1)


def test_finite_weights_are_the_functions_own() -> None:
    weight = parse_weights("w ~ exp(b1*x)")
    found = finite_weights(weight, {"x": X}, START, PLACES, {"b1": 0.3})
    np.testing.assert_array_equal(found, weight.weights({"x": X}, START, {"b1": 0.3}))


def test_places_of_some_rows() -> None:
    assert PLACES.take(slice(2, 5)).name_row(1) == "row 3 (group 'k9' of `cab`)"
