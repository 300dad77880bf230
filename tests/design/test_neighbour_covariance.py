"""`rmm.car`: the matrix has the conditional distributions that its docstring states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.errors import DataError

PAIRS = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a", "c")]


def test_effects_given_all_others_are_means_of_neighbours() -> None:
    """E(u_i | others) = -Q_ij / Q_ii u_j, Q the inverse: rho over the number of neighbours."""
    A = rmm.car(PAIRS, 0.7)
    Q = np.linalg.inv(A.to_numpy())
    degree = {"a": 3, "b": 2, "c": 3, "d": 2}
    linked = {frozenset(pair) for pair in PAIRS}
    for i, one in enumerate(A):
        for j, other in enumerate(A):
            expected = 0.7 / degree[one] if frozenset((one, other)) in linked else 0.0
            if i != j:
                assert -Q[i, j] / Q[i, i] == pytest.approx(expected, abs=1e-12)
        assert Q[i, i] / degree[one] == pytest.approx(Q[0, 0] / 3)
    assert np.mean(np.diag(A)) == pytest.approx(1)
    np.testing.assert_array_equal(A, A.T)


def test_two_neighbours_have_the_correlation_rho() -> None:
    A = rmm.car([("a", "b")], -0.4)
    np.testing.assert_allclose(A, [[1, -0.4], [-0.4, 1]])


def test_all_forms_of_neighbours_are_one_matrix() -> None:
    A = rmm.car(PAIRS, 0.7)
    labels = list("abcd")
    square = pd.DataFrame(0.0, index=labels, columns=labels)
    for one, other in PAIRS:
        square.loc[one, other] = square.loc[other, one] = 1.0
    forms: list[Any] = [
        pd.DataFrame(PAIRS, columns=["from", "to"]),
        pd.DataFrame([(*p, 1.0) for p in PAIRS], columns=["from", "to", "weight"]),
        [*PAIRS, *((b, a) for a, b in PAIRS)],
        square,
        square.loc[::-1],
    ]
    for form in forms:
        found = rmm.car(form, 0.7).loc[labels, labels]
        np.testing.assert_allclose(found, A.loc[labels, labels], rtol=1e-12)


def test_weights_count() -> None:
    """Of two neighbours the one with twice the weight has twice the part in the mean."""
    Q = np.linalg.inv(rmm.car([("a", "b", 2.0), ("a", "c", 1.0)], 0.6).to_numpy())
    assert -Q[0, 1] / Q[0, 0] == pytest.approx(0.4)
    assert -Q[0, 2] / Q[0, 0] == pytest.approx(0.2)


def test_members_without_neighbours_are_independent() -> None:
    A = rmm.car([("a", "b")], 0.5, members=["x", "b", "a"])
    assert list(A.index) == list(A) == ["x", "b", "a"]
    np.testing.assert_allclose(A, [[1, 0, 0], [0, 1, 0.5], [0, 0.5, 1]])
    np.testing.assert_array_equal(rmm.car([], 0.5, members=[1, 2]), np.eye(2))


def test_a_fit_takes_the_matrix() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"m": np.tile(list("abcd"), 20), "g": np.repeat(np.arange(40), 2)})
    data["y"] = rng.normal(size=40)[data["g"]]
    formula = "y ~ 1 + mm(id(m, g), RE = TRUE, cov = C)"
    fit = rmm.fit(formula, data, cov={"C": rmm.car(PAIRS, 0.9)}, backend="laplace", seed=1)
    assert fit.converged


@pytest.mark.parametrize(
    ("neighbours", "options", "message"),
    [
        (PAIRS, {"rho": 1.0}, "`rho` must be a number between -1 and 1, but is 1.0"),
        (PAIRS, {"rho": "x"}, "`rho` must be a number"),
        (PAIRS, {"members": ["a", "b", "c"]}, "'d' is a neighbour, but not one of `members`"),
        (PAIRS, {"members": ["a", "a"]}, "a member twice"),
        ([("a", "a")], {}, "'a' is given as its own neighbour"),
        ([("a", "b", 1), ("b", "a", 2)], {}, "'b' and 'a' have two weights: 1 and 2"),
        ([("a", "b", -1)], {}, "must be a number of 0 or more, but is -1"),
        ([("a", "b", np.nan)], {}, "must be a number of 0 or more, but is nan"),
        ([("a", "b", "c")], {}, "must be a number of 0 or more, but is 'c'"),
        ([("a", None)], {}, "A member is missing in the pair"),
        (["ab"], {}, "must be a pair of members"),
        ("ab", {}, "must be pairs of members, or a table, not of type str"),
        (3, {}, "not of type int"),
        ([], {}, "has no members"),
        (pd.DataFrame(np.ones((3, 4))), {}, "must be a pair of members"),
        (pd.DataFrame([[0, 1.0], [2.0, 0]]), {}, "row 0, column 1 is 1, but that of row 1"),
        (pd.DataFrame([[1.0, 1.0], [1.0, 0]]), {}, "0 is given as its own neighbour"),
    ],
)
def test_messages(neighbours: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rmm.car(neighbours, **{"rho": 0.5, **options})
