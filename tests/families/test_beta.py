"""Shares: likelihood against SciPy, programs against NumPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_beta.py`` rewrites the golden texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import rmm
from rmm.families import FAMILIES
from tests.coalitions import made_up_coalitions
from tests.family_cases import MIXED, check_engines_agree, check_golden, check_stan_density, quiet

BETA = FAMILIES["beta"]
FORMULA = f"share ~ 1 + {MIXED}"
PHI = 6.0


def law(eta: Any, phi: float = PHI) -> Any:
    """SciPy's distribution."""
    return stats.beta(phi * special.expit(eta), phi * special.expit(-eta))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """240 groups with a `share` about the inverse logit of y / 2."""
    table = made_up_coalitions(groups=240, seed=4)
    chance = np.random.default_rng(1).uniform(size=240)[table.groupby("gid").ngroup()]
    return table.assign(share=law(0.5 * table["y"].to_numpy()).ppf(chance))


def test_likelihood_mean_and_draws_are_scipys() -> None:
    y = np.array([1e-6, 0.2, 0.5, 0.999])
    outcome = BETA.read_outcome("y", (y,), None)
    eta = np.array([[-2.0, 0.3, 2.0, 3.5], [0.0, 1.0, -1.5, 4.0]])
    values = {"phi": np.array([PHI, 40.0])}
    wanted = np.array([law(e, v).logpdf(y) for e, v in zip(eta, (PHI, 40.0), strict=True)])
    np.testing.assert_allclose(BETA.log_likelihood(eta, values, outcome), wanted, rtol=1e-10)
    np.testing.assert_allclose(BETA.mean(eta, values, outcome)[0], law(eta[0]).mean())
    many = np.repeat(eta[:1], 5_000, axis=0)
    draws = BETA.draw(many, {"phi": np.full(5_000, PHI)}, outcome, np.random.default_rng(2))
    for j in range(4):  # 1 in 2,500 that a right one fails
        assert stats.kstest(draws[:, j], law(eta[0, j]).cdf).pvalue > 1e-4


def test_gradient_and_expected_curvature() -> None:
    """The gradient by differences; the curvature as the variance of the gradient over outcomes."""
    values, h = {"phi": np.array([PHI])}, 1e-6
    outcome, eta = {"y": np.array([0.001, 0.4, 0.98])}, np.array([[0.5, -0.4, -2.0]])
    at = BETA.curvature(eta, values, outcome)
    for j in range(3):
        low, high = (BETA.curvature(eta + s * h * np.eye(3)[j], values, outcome) for s in (-1, 1))
        np.testing.assert_allclose(at.gradient[0, j], (high.value - low.value) / (2 * h), atol=1e-6)

        def squared(y: float, j: int = j) -> float:
            one = BETA.curvature(eta[:, [j]], values, {"y": np.array([y])})
            return float(one.gradient[0, 0] ** 2)

        variance = law(eta[0, j]).expect(squared)
        assert at.weight[0, j] == pytest.approx(variance, rel=1e-5)


def test_means_near_0_and_1_have_finite_derivatives() -> None:
    outcome, values = {"y": np.array([0.3, 0.3])}, {"phi": np.array([PHI])}
    at = BETA.curvature(np.array([[800.0, -800.0]]), values, outcome)
    assert np.isfinite([at.value[0], *at.gradient[0], *at.weight[0]]).all()


def test_residual_variance_is_that_of_the_logit() -> None:
    """At the mean share of the data, by quadrature."""
    found = BETA.residual_variance({"phi": np.array([PHI])}, {"y": np.array([0.1, 0.5])})
    one = law(special.logit(0.3))
    mean = one.expect(special.logit)
    np.testing.assert_allclose(found, one.expect(lambda y: (special.logit(y) - mean) ** 2))


def test_golden_texts(table: pd.DataFrame) -> None:
    check_golden("beta", quiet(FORMULA, table, "beta"))


@pytest.mark.thorough
@pytest.mark.stan
def test_stan_density(table: pd.DataFrame) -> None:
    """With a fixed precision: its prior is tested with those of all parameters."""
    model = quiet(FORMULA, table, "beta", priors=[f"phi <- {PHI}"])
    y = model.design.outcome["y"]
    check_stan_density(model, lambda eta: float(law(eta).logpdf(y).sum()))


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
def test_engines_agree(table: pd.DataFrame) -> None:
    check_engines_agree(FORMULA, table, "beta")


@pytest.mark.parametrize("backend", ["laplace", pytest.param("stan", marks=pytest.mark.thorough)])
def test_beta_regression_is_near_that_of_statsmodels(backend: str, table: pd.DataFrame) -> None:
    """Posterior means and the maximum of the likelihood differ by terms of order 1/n."""
    from statsmodels.othermod.betareg import BetaModel

    groups = table.drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    known = BetaModel(groups["share"].to_numpy(), X).fit(disp=0)
    fit = rmm.fit(
        "share ~ 1 + z + q",
        groups,
        "beta",
        backend=backend,
        priors="rmm",
        seed=5,
        progress=False,
    )
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[q]", "phi"]]
    wanted = [*known.params[:3], np.exp(known.params[3])]
    away = (found["mean"] - wanted) / found["sd"]
    assert (away.abs() < 0.2).all(), away
    np.testing.assert_allclose(found["sd"][:3], known.bse[:3], rtol=0.1)


def test_predictions_and_checks(table: pd.DataFrame) -> None:
    fit = rmm.fit(FORMULA, table, "beta", backend="laplace", seed=1, progress=False)
    outcomes = fit.predict(kind="outcome", draws=True, seed=1).to_numpy()
    assert 0 < outcomes.min() < outcomes.max() < 1
    observed = table.drop_duplicates("gid")["share"].mean()
    assert fit.predict()["mean"].mean() == pytest.approx(observed, abs=0.03)
    assert np.isfinite(fit.loo().elpd)
    text = fit.report().text
    assert "shares (beta, logit link)" in text
    assert "precision of the beta distribution" in text
    assert fit.variance_components()[("share", "mean")].sum() == pytest.approx(1)
    fit.plot_check()
    ends = [fit.predict(table.assign(z=table["z"] + s * 1e-5), draws=True) for s in (-1, 1)]
    slope = (ends[1] - ends[0]).mean().item() / 2e-5
    found = fit.estimand("marginal_effect", variable="z")
    assert found["mean"].iloc[0] == pytest.approx(slope, rel=1e-4)


def test_default_priors_say_little_that_no_data_look_like(table: pd.DataFrame) -> None:
    """Most prior expectations are between .01 and .99, and most prior shares inside 1e-6."""
    formula = "share ~ 1 + z + q + hm(id = cid) + mm(id(pid, gid), vars(x), RE = TRUE)"
    found = rmm.prior_predictive(formula, table, "beta", draws=2000, seed=1)
    assert np.mean((found.mean < 0.01) | (found.mean > 0.99)) < 0.2
    name, shares = found.shown
    assert name == "outcome"
    assert np.mean((shares < 1e-6) | (shares > 1 - 1e-6)) < 0.1
    found.plot()


ODD = {
    "zero": (0.0, r"must be between 0 and 1, but 1 group has .*: 'g003' \(0\)\. .*cbind\("),
    "one": (1.0, r"must be between 0 and 1, but 1 group has .*: 'g003' \(1\)\. .*cbind\("),
    "negative": (-0.1, r"must be between 0 and 1, but .*: 'g003' \(-0\.1\)\. Check the column"),
}


@pytest.mark.parametrize("what", ODD)
def test_outcomes_that_are_no_shares(what: str, table: pd.DataFrame) -> None:
    value, message = ODD[what]
    odd = table["share"].where(table["gid"] != "g003", value)
    with pytest.raises(rmm.DataError, match=message):
        quiet(FORMULA, table.assign(share=odd), "beta")


def test_percentages_are_recognised(table: pd.DataFrame) -> None:
    message = r"240 groups have other values: .*, \.\.\.\. .*give shares: I\(share/100\)"
    with pytest.raises(rmm.DataError, match=message):
        quiet(FORMULA, table.assign(share=1 + 98 * table["share"]), "beta")


def test_an_outcome_that_does_not_vary(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="is the same in every group"):
        quiet(FORMULA, table.assign(share=0.5), "beta")
