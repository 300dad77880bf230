"""Conditional logit: likelihood by brute force, Stan against NumPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_condlogit.py`` rewrites the golden texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax

import rmm
from rmm.design.prepare import prepare
from rmm.families import FAMILIES
from tests.coalitions import made_up_coalitions
from tests.family_cases import (
    MIXED,
    check_against_estimates,
    check_engines_agree,
    check_golden,
    check_stan_density,
    quiet,
)

FAMILY = FAMILIES["condlogit"]
FORMULA = f"formed ~ {MIXED} + strata(crisis)"
SETS = np.array(["c", "a", "b", "a", "c", "a", "b", "c"])
CHOSEN = np.array([0.0, 0, 1, 1, 1, 0, 0, 0])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """One of four groups is `formed` in each of 120 crises; `year` is constant within a crisis."""
    table = made_up_coalitions(groups=480, seed=4)
    group = table.groupby("gid").ngroup().to_numpy()
    utility = table.groupby("gid")["y"].first().to_numpy()
    utility = utility + np.random.default_rng(1).gumbel(size=480)
    best = utility.reshape(120, 4).argmax(axis=1)
    formed = (np.arange(4) == best[:, None]).ravel().astype(int)
    crisis = group // 4
    return table.assign(formed=formed[group], crisis=crisis, year=1950 + crisis % 7)


def by_hand(eta: Any) -> dict[str, Any]:
    """Probabilities of each group within its stratum."""
    p = np.empty_like(eta)
    for name in "abc":
        p[:, name == SETS] = softmax(eta[:, name == SETS], axis=1)
    log = np.stack([np.log(p[:, (name == SETS) & (CHOSEN == 1)][:, 0]) for name in "abc"], axis=1)
    return {"p": p, "log_likelihood": log}


def test_likelihood_mean_and_draws_by_brute_force() -> None:
    outcome = FAMILY.read_outcome("y", (CHOSEN,), SETS)
    eta = np.random.default_rng(3).normal(0, 1.5, (2, 8))
    expected = by_hand(eta)
    found = FAMILY.log_likelihood(eta, {}, outcome)
    np.testing.assert_allclose(found, expected["log_likelihood"])
    np.testing.assert_allclose(FAMILY.mean(eta, {}, outcome), expected["p"])
    many = np.repeat(eta[:1], 20_000, axis=0)
    draws = FAMILY.draw(many, {}, outcome, np.random.default_rng(4))
    for name in "abc":
        assert (draws[:, name == SETS].sum(axis=1) == 1).all()
    p = expected["p"][0]
    z = (draws.mean(axis=0) - p) / np.sqrt(p * (1 - p) / len(many))
    assert np.abs(z).max() < 4.5  # 8 cells: 5 in 100,000


def test_some_strata_and_new_groups() -> None:
    outcome = FAMILY.read_outcome("y", (CHOSEN,), SETS)
    keep = SETS != "b"
    some = FAMILY.outcome_of_some(outcome, np.flatnonzero(keep))
    alone = FAMILY.read_outcome("y", (CHOSEN[keep],), SETS[keep])
    assert set(some) == set(alone)
    for name, value in alone.items():
        np.testing.assert_array_equal(some[name], value)
    eta = np.random.default_rng(3).normal(size=(2, 8))
    new = FAMILY.outcome_of_new(outcome, None, SETS, 8)
    np.testing.assert_allclose(FAMILY.mean(eta, {}, new), by_hand(eta)["p"])
    with pytest.raises(rmm.DataError, match="The new table needs the column of strata"):
        FAMILY.outcome_of_new(outcome, None, None, 8)


def test_constants_of_strata_cancel_however_large() -> None:
    outcome = FAMILY.read_outcome("y", (CHOSEN,), SETS)
    eta = np.random.default_rng(3).normal(size=(1, 8))
    shift = np.select([SETS == "a", SETS == "b"], [5000.0, -5000.0], 100.0)
    np.testing.assert_allclose(
        FAMILY.log_likelihood(eta + shift, {}, outcome), FAMILY.log_likelihood(eta, {}, outcome)
    )
    assert FAMILY.residual_variance({}, {}) == pytest.approx(stats.gumbel_r.var())


def test_golden_texts(table: pd.DataFrame) -> None:
    check_golden("condlogit", quiet(FORMULA, table, "condlogit"))


@pytest.mark.thorough
@pytest.mark.stan
def test_stan_density(table: pd.DataFrame) -> None:
    model = quiet(FORMULA, table, "condlogit")
    frame = model.grouped.group_frame
    crisis, formed = frame["crisis"].to_numpy(), frame["formed"].to_numpy()

    def log_likelihood(eta: Any) -> float:
        total = [np.log(np.exp(eta[crisis == one]).sum()) for one in np.unique(crisis)]
        return float(eta[formed == 1].sum() - np.sum(total))

    check_stan_density(model, log_likelihood)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=getattr(pytest.mark, b)) for b in ("jags", "stan")]
)
def test_regression_is_that_of_statsmodels(backend: str, table: pd.DataFrame) -> None:
    """Posterior means, to second order (Tierney and Kadane), from maximum likelihood."""
    from statsmodels.discrete.conditional_models import ConditionalLogit

    groups = table.drop_duplicates("gid")
    X, crisis = groups[["z", "q"]].to_numpy(), groups["crisis"].to_numpy()
    found = ConditionalLogit(groups["formed"].to_numpy(), X, groups=crisis).fit(disp=False)
    information, third = np.zeros((2, 2)), []
    for one in np.unique(crisis):
        x = X[crisis == one]
        p = softmax(x @ found.params)
        d = x - p @ x
        information += d.T @ (p[:, None] * d)
        third.append((p, d))
    inverse = np.linalg.inv(information)
    push = sum(d.T @ (p * np.einsum("jk,kl,jl->j", d, inverse, d)) for p, d in third)
    means = found.params - 0.5 * inverse @ push
    check_against_estimates(
        "formed ~ z + q + strata(crisis)",
        groups,
        "condlogit",
        backend,
        dict(zip(("b_l2[z]", "b_l2[q]"), means, strict=True)),
    )


@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.slow
def test_engines_agree(table: pd.DataFrame) -> None:
    check_engines_agree(FORMULA, table, "condlogit")


def test_what_is_constant_within_strata_is_dropped_and_named(table: pd.DataFrame) -> None:
    formula = "formed ~ 1 + z + year + z:year + I(year^2) + strata(crisis) + hm(id=year)"
    formula = formula.replace("z + year", "z + year + mm(id(pid, gid), RE=TRUE)")
    with pytest.warns(rmm.SpecificationWarning) as caught:
        model = prepare(formula, table, "condlogit")
    said = " ".join(str(w.message) for w in caught)
    for name in ("`year`", "`I(year^2)`", "`hm(id = year)`"):
        assert name in said
    assert list(model.design.coords["covariate_l2"]) == ["z", "z:year"]
    assert not model.spec.nestings
    assert not model.spec.intercept


def test_member_sums_that_are_constant_within_strata(table: pd.DataFrame) -> None:
    formula = "formed ~ z + mm(id(pid, gid), vars(year)) + strata(crisis)"
    with pytest.raises(rmm.DataError, match="`year` is constant within every stratum"):
        quiet(formula, table, "condlogit")


def test_collinearity_counts_within_strata(table: pd.DataFrame) -> None:
    table = table.assign(shifted=2 * table["z"] + table["year"])
    with pytest.raises(rmm.DataError, match="`shifted` is a linear combination of `z`"):
        quiet(
            "formed ~ z + shifted + mm(id(pid, gid), RE=TRUE) + strata(crisis)", table, "condlogit"
        )


def test_strata_without_a_choice(table: pd.DataFrame) -> None:
    none = table.assign(formed=table["formed"].where(table["crisis"] != 7, 0))
    with pytest.raises(
        rmm.DataError, match="Stratum 7 has 4 groups, and 0 of them have `formed` = 1"
    ):
        quiet(FORMULA, none, "condlogit")
    two = table.assign(formed=table["formed"].where(table["crisis"] != 8, 1))
    with pytest.raises(rmm.DataError, match="Stratum 8 has 4 groups, and 4 of them have "):
        quiet(FORMULA, two, "condlogit")
    alone = table[(table["crisis"] != 9) | (table["formed"] == 1)]
    with pytest.raises(rmm.DataError, match="Stratum 9 has 1 group, and 1 of them "):
        quiet(FORMULA, alone, "condlogit")


def test_outcomes_that_are_no_choice(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match=r"must be 0 or 1, .* It contains: 0, 2"):
        quiet(FORMULA, table.assign(formed=2 * table["formed"]), "condlogit")
    with pytest.raises(rmm.FormulaError, match=r"add `\+ strata\(column\)`"):
        quiet("formed ~ z", table, "condlogit")
    with pytest.raises(rmm.FormulaError, match="cannot be used with family 'binomial'"):
        quiet(FORMULA, table, "binomial")
