"""Simulated binary outcomes, counts and choices have the probabilities that they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from rmm.simulation import RecipeError, simulate
from rmm.simulation.outcomes.choices import check_binomial, draw_binomial, draw_choices

MM = "mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
RECIPE: dict[str, Any] = {
    "membership": {
        "kind": "synthetic",
        "groups": 60,
        "members": 25,
        "size": 3,
        "units": 20,
        "within": False,
    },
    "covariates": {"x": {"level": "member"}, "z": {"level": "group"}},
}
SLOPES = {"b_l2[z]": 1, "b_l1[x]": 1, "sigma_l1": 0.5}


def test_shares_of_successes() -> None:
    """Within 4.5 binomial errors at each of 5 predictors: false alarm below 1e-4."""
    eta = np.repeat([-3.0, -1, 0, 0.5, 2], 4000)
    (y,) = draw_binomial(eta, 1, None, np.random.default_rng(1).logistic)
    successes, failures = draw_binomial(eta, 2, 3, np.random.default_rng(2).logistic)
    assert set(y) == {0, 1}
    assert (successes + failures == 3).all()
    p = special.expit(eta.reshape(5, -1)[:, 0])
    error = np.sqrt(p * (1 - p) / 4000)
    assert (np.abs(y.reshape(5, -1).mean(axis=1) - p) < 4.5 * error).all()
    share = successes.reshape(5, -1).mean(axis=1) / 3
    assert (np.abs(share - p) < 4.5 * error / np.sqrt(3)).all()


def test_shares_of_choices() -> None:
    """Strata of 2 and 3 groups, in mixed order; each share within 4.5 binomial errors."""
    strata, eta = np.array([0, 1, 0, 1, 1]), np.array([1.0, 0, 0, 2, -1])
    rng = np.random.default_rng(3)
    drawn = np.array([draw_choices(eta, strata, rng)[0] for _ in range(4000)])
    assert (drawn[:, strata == 0].sum(axis=1) == 1).all()
    assert (drawn[:, strata == 1].sum(axis=1) == 1).all()
    p = np.empty(5)
    for stratum in (0, 1):
        p[strata == stratum] = special.softmax(eta[strata == stratum])
    assert (np.abs(drawn.mean(axis=0) - p) < 4.5 * np.sqrt(p * (1 - p) / 4000)).all()


def test_choices_far_apart_are_certain() -> None:
    (y,) = draw_choices(np.array([900.0, -900, 0]), np.zeros(3), np.random.default_rng(4))
    assert y.tolist() == [1, 0, 0]


def test_a_stratum_of_one_group_is_no_choice() -> None:
    with pytest.raises(RecipeError, match=r"Stratum 1 of strata\(\) has only one group"):
        draw_choices(np.zeros(3), np.array([0, 0, 1]), np.random.default_rng(5))


@pytest.mark.parametrize("trials", [0, 1.5, True, "3"])
def test_trials_are_whole_numbers(trials: Any) -> None:
    with pytest.raises(RecipeError, match=r"truth\.trials"):
        check_binomial({"trials": trials})


def test_trials_need_counts() -> None:
    with pytest.raises(RecipeError, match=r"cbind\(successes, failures\)"):
        draw_binomial(np.zeros(3), 1, 5, np.random.default_rng(6).logistic)


def test_simulated_choices_are_one_per_nesting_unit() -> None:
    data = simulate(
        f"y ~ 0 + z + {MM} + strata(nesting)", SLOPES, family="condlogit", seed=1, **RECIPE
    ).data.drop_duplicates("group")
    assert (data.groupby("nesting")["y"].sum() == 1).all()
    assert data["nesting"].nunique() == 20


def test_strata_may_be_a_covariate() -> None:
    covariates = {
        **RECIPE["covariates"],
        "set": {"level": "group", "distribution": "categories", "count": 5},
    }
    data = simulate(
        f"y ~ 0 + z + {MM} + strata(set)",
        SLOPES,
        family="condlogit",
        seed=1,
        membership=RECIPE["membership"],
        covariates=covariates,
    ).data
    assert data.drop_duplicates("group").groupby("set")["y"].sum().tolist() == [1] * 5


def test_simulated_counts() -> None:
    data = simulate(
        f"cbind(yes, no) ~ 1 + z + {MM}",
        {"b_l2[Intercept]": 0, **SLOPES},
        family="binomial",
        trials=4,
        seed=1,
        **RECIPE,
    ).data
    assert (data["yes"] + data["no"] == 4).all()
