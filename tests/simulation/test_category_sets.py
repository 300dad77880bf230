"""Simulated unordered categories: probabilities, effects of their own, messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from rmm.simulation import RecipeError, simulate
from rmm.simulation.category_sets import draw_codes

FORMULA = "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
TRUTH = {
    "b_l2[b:Intercept]": 0.5,
    "b_l2[c:Intercept]": -0.5,
    "b_l2[b:z]": 1.0,
    "b_l2[c:z]": 0.0,
    "b_l1[b:x]": 1.0,
    "b_l1[c:x]": -1.0,
    "sigma_l1[b]": 0.0,
    "sigma_l1[c]": 2.0,
}
RECIPE: dict[str, Any] = {
    "membership": {"kind": "synthetic", "groups": 2000, "members": 300, "size": 2},
    "covariates": {"x": {"level": "member"}, "z": {"level": "group"}},
    "family": "multinomial",
    "categories": ["a", "b", "c"],
}


def test_shares_are_those_of_softmax() -> None:
    """Within 4.5 binomial errors in each of 3 categories at 3 predictors: 1 in 16,000."""
    eta = np.array([[0.0, 1, -2], [0, 0, 0], [0, 600, 599]])
    codes = draw_codes(np.repeat(eta, 5000, axis=0), np.random.default_rng(1)).reshape(3, -1)
    for row, p in zip(codes, special.softmax(eta, axis=1), strict=True):
        share = np.bincount(row, minlength=3) / 5000
        assert (np.abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / 5000) + 1e-12).all()


def test_a_data_set_has_the_probabilities_of_its_truth() -> None:
    """Without member effects the mean score of the true model is 0: 6 scores within 4.5 errors."""
    data = simulate(FORMULA, {**TRUTH, "sigma_l1[c]": 0.0}, seed=2, **RECIPE).data
    by = data.groupby("group")
    x, z, y = by["x"].mean(), by["z"].first(), by["y"].first()
    assert (by["y"].nunique() == 1).all()
    assert set(y) == {"a", "b", "c"}
    eta = np.column_stack([0 * z, 0.5 + z + x, -0.5 - x])
    p = special.softmax(eta, axis=1)
    for k, name in enumerate("abc"):
        residual = (y == name).to_numpy() - p[:, k]
        for column in (np.ones(len(z)), z, x):
            score = residual * column
            assert abs(score.mean()) < 4.5 * score.std() / len(score) ** 0.5


def test_each_category_has_effects_of_its_own() -> None:
    """Only c varies between members: pairs of groups with a common member agree on c, not on b."""
    recipe = {
        **RECIPE,
        "membership": {"kind": "synthetic", "groups": 4000, "members": 200, "size": 1},
    }
    truth = dict.fromkeys(TRUTH, 0.0) | {"sigma_l1[c]": 2.0}
    data = simulate(FORMULA, truth, seed=3, **recipe).data
    chosen = data[data["y"] != "c"].groupby("member")["y"].agg(lambda v: (v == "b").mean())
    count = data[data["y"] != "c"].groupby("member").size()
    # Binomial variances of shares, 10 or so groups each; sd of the ratio about .1.
    ratio = float((((chosen - 0.5) ** 2) * count / 0.25).mean())
    assert 0.6 < ratio < 1.5
    share = data.groupby("member")["y"].agg(lambda v: (v == "c").mean())
    assert float(share.var()) > 3 * (0.25 / 20)


def test_values_and_seeds() -> None:
    one = simulate(FORMULA, TRUTH, seed=4, **RECIPE)
    again = simulate(FORMULA, TRUTH, seed=4, **RECIPE)
    assert one.data.equals(again.data)
    assert one.truth == TRUTH
    numbers = {n.replace("[b", "[5").replace("[c", "[7"): v for n, v in TRUTH.items()}
    codes = simulate(FORMULA, numbers, seed=4, **{**RECIPE, "categories": [3, 5, 7]}).data
    assert codes["y"].dtype.kind == "i"
    assert list(codes["y"].map({3: "a", 5: "b", 7: "c"})) == list(one.data["y"])


def test_weights_are_shared() -> None:
    formula = FORMULA.replace("1/n", "exp(b1*x)")
    found = simulate(formula, {**TRUTH, "b_w[b1]": 1.0}, seed=5, **RECIPE)
    assert found.truth["b_w[b1]"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": None}, "needs a list of two or more different texts"),
        ({"categories": ["a"]}, "needs a list of two or more different texts"),
        ({"categories": ["a", "b", "b"]}, "needs a list of two or more different texts"),
        ({"categories": ["a", "b", 1.5]}, "needs a list of two or more different texts"),
        ({"cov": {"A": None}}, "Family multinomial has no `cov`"),
        ({"trials": 3}, "'trials' is not a key of a truth of family 'multinomial'"),
        ({"link": "probit"}, "'link' is not a key of a truth of family 'multinomial'"),
        (
            {"formula": FORMULA.replace("y", "cbind(y, v)", 1)},
            r"The outcome 'cbind\(y, v\)' cannot",
        ),
        ({"formula": FORMULA.replace("y", "log(y)", 1)}, r"The outcome 'log\(y\)' cannot"),
        ({"family": "binomial"}, "Family 'binomial' has no `categories`"),
        ({"formula": f"{FORMULA} + hm(id = country)"}, r"Family multinomial has no hm\(\)"),
        (
            {"covariates": {"x": {"level": "member", "endogenous": {"u_l1": 0.5}}}},
            "not clear which of them the covariate depends on",
        ),
    ],
)
def test_recipes_that_cannot_be_used(changes: dict[str, Any], message: str) -> None:
    recipe = {"formula": FORMULA, "parameters": TRUTH, **RECIPE, **changes}
    with pytest.raises(RecipeError, match=message):
        simulate(seed=1, **recipe)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"b_l2[a:z]": 1.0}, "is not a parameter of a category other than the reference"),
        ({"b_l2[z]": 1.0}, "is not a parameter of a category other than the reference"),
        ({"sigma_l1[a]": 1.0}, "is not a parameter of a category other than the reference"),
        ({"sigma_l1": 1.0}, "is not a parameter of a category other than the reference"),
        ({"b_l2[b:w]": 1.0}, r"Category 'b': .* is not a parameter of the formula"),
        ({"sigma_l1[c]": -1.0}, "Category 'c': The value -1 is negative"),
        ({"b_l2[b:z]": {"prior": "normal(0, 1)"}}, "no true values that are drawn"),
    ],
)
def test_parameters_that_cannot_be_used(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        simulate(FORMULA, {**TRUTH, **parameters}, seed=1, **RECIPE)


def test_a_missing_parameter_is_named_with_its_category() -> None:
    truth = {name: value for name, value in TRUTH.items() if name != "b_l1[c:x]"}
    with pytest.raises(RecipeError, match=r"Category 'c': The value of b_l1\[x\] is missing"):
        simulate(FORMULA, truth, seed=1, **RECIPE)
