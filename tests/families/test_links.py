"""Probit and complementary log-log: likelihoods against SciPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_links.py`` rewrites the golden texts.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import rmm
from rmm.errors import FormulaError, SpecificationWarning
from rmm.families import FAMILIES, find_family
from tests.coalitions import made_up_coalitions
from tests.family_cases import (
    MIXED,
    check_engines_agree,
    check_golden,
    check_stan_density,
    quiet,
)

NAMES = ("probit", "cloglog")


def probability(name: str, eta: Any) -> Any:
    return stats.norm.cdf(eta) if name == "probit" else 1 - np.exp(-np.exp(eta))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """240 groups with an outcome `won`, and `wins` and `losses` of 1 to 5 trials."""
    table = made_up_coalitions(groups=240, seed=4)
    rng = np.random.default_rng(1)
    group = table.groupby("gid").ngroup().to_numpy()
    p = stats.norm.cdf(0.4 * table["y"])
    trials = rng.integers(1, 6, 240)[group]
    chance = rng.uniform(size=240)[group]
    wins = stats.binom.ppf(chance, trials, p).astype(int)
    return table.assign(won=(chance < p).astype(int), wins=wins, losses=trials - wins)


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_mean_and_draws_are_scipys(name: str) -> None:
    family = FAMILIES[name]
    wins, losses = np.array([0.0, 1.0, 3.0, 4.0]), np.array([2.0, 0.0, 2.0, 1.0])
    outcome = family.read_outcome("y", (wins, losses), None)
    eta = np.array([[-2.0, 0.3, 1.0, -4.0], [0.0, 1.0, -1.5, 0.5]])
    p = probability(name, eta)
    wanted = stats.binom.logpmf(wins, wins + losses, p)
    np.testing.assert_allclose(family.log_likelihood(eta, {}, outcome), wanted, rtol=1e-9)
    np.testing.assert_allclose(family.mean(eta, {}, outcome), p * (wins + losses))
    draws = family.draw(np.repeat(eta[:1], 20_000, axis=0), {}, outcome, np.random.default_rng(2))
    law = stats.binom(wins + losses, p[0])
    se = law.std() / np.sqrt(20_000)
    assert (np.abs(draws.mean(axis=0) - law.mean()) <= 4.5 * se + 1e-3).all()  # 3 in 100,000


def test_far_predictors_have_their_asymptotic_likelihood() -> None:
    """log Phi(-40) = -40^2 / 2 - log(40 sqrt(2 pi)) - ...; one event in e^-40."""
    outcome = {"y": np.array([1, 1])}
    found = FAMILIES["probit"].log_likelihood(np.array([[-40.0, 40.0]]), {}, outcome)
    np.testing.assert_allclose(found[0], [special.log_ndtr(-40.0), 0.0], atol=1e-12)
    found = FAMILIES["cloglog"].log_likelihood(np.array([[-40.0, 40.0]]), {}, outcome)
    np.testing.assert_allclose(found[0], [-40.0, 0.0], atol=1e-12)
    for name in NAMES:
        at = FAMILIES[name].curvature(np.array([[-60.0, 30.0]]), {}, outcome)
        assert np.isfinite([at.value[0], *at.gradient[0], *at.weight[0]]).all()
        assert (at.weight >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_residual_variance_is_that_of_the_threshold(name: str) -> None:
    """A success is a threshold below eta: normal, or the log of an exponential time."""
    known = {"probit": stats.norm().var(), "cloglog": stats.gumbel_l().var()}[name]
    assert FAMILIES[name].residual_variance({}, {}) == pytest.approx(known)


@pytest.mark.parametrize("kind", ["plain", "cbind"])
@pytest.mark.parametrize("name", NAMES)
def test_golden_texts(name: str, kind: str, table: pd.DataFrame) -> None:
    outcome = "won" if kind == "plain" else "cbind(wins, losses)"
    check_golden(f"{name}_{kind}", quiet(f"{outcome} ~ 1 + {MIXED}", table, name))


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("outcome", ["won", "cbind(wins, losses)"])
@pytest.mark.parametrize("name", NAMES)
def test_stan_density(name: str, outcome: str, table: pd.DataFrame) -> None:
    model = quiet(f"{outcome} ~ 1 + {MIXED}", table, name)
    y, n = model.design.outcome["y"], model.design.outcome.get("trials", 1)
    check_stan_density(
        model, lambda eta: float(stats.binom.logpmf(y, n, probability(name, eta)).sum())
    )


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("name", NAMES)
def test_engines_agree(name: str, table: pd.DataFrame) -> None:
    check_engines_agree(f"cbind(wins, losses) ~ 1 + {MIXED}", table, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["laplace", pytest.param("stan", marks=pytest.mark.thorough)])
def test_regression_is_near_that_of_statsmodels(
    backend: str, name: str, table: pd.DataFrame
) -> None:
    """Posterior means and the maximum of the likelihood differ by terms of order 1/n."""
    import statsmodels.api as sm

    groups = table.drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    links = {"probit": sm.families.links.Probit(), "cloglog": sm.families.links.CLogLog()}
    family = sm.families.Binomial(links[name])
    known = sm.GLM(groups[["wins", "losses"]], X, family=family).fit()
    fit = rmm.fit(
        "cbind(wins, losses) ~ 1 + z + q",
        groups,
        name,
        backend=backend,
        priors="rmm",
        seed=5,
        progress=False,
    )
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[q]"]]
    away = (found["mean"] - np.asarray(known.params)) / found["sd"]
    assert (away.abs() < 0.2).all(), away
    np.testing.assert_allclose(found["sd"], np.asarray(known.bse), rtol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_and_checks(name: str, table: pd.DataFrame) -> None:
    formula = f"won ~ 1 + {MIXED}"
    fit = rmm.fit(formula, table, name, backend="laplace", seed=1, progress=False)
    share = table.drop_duplicates("gid")["won"].mean()
    assert fit.predict()["mean"].mean() == pytest.approx(share, abs=0.05)
    assert np.isfinite(fit.loo().elpd)
    assert fit.variance_components()[("share", "mean")].sum() == pytest.approx(1)
    assert "link)" in fit.report().text
    fit.plot_check()
    ends = [fit.predict(table.assign(z=table["z"] + s * 1e-5), draws=True) for s in (-1, 1)]
    slope = (ends[1] - ends[0]).mean().item() / 2e-5
    found = fit.estimand("marginal_effect", variable="z")
    assert found["mean"].iloc[0] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_default_priors_say_little_that_no_data_look_like(name: str, table: pd.DataFrame) -> None:
    """As in family binomial: less than 20% of prior probabilities are outside .01 to .99."""
    formula = "won ~ 1 + z + q + hm(id = cid) + mm(id(pid, gid), vars(x), RE = TRUE)"
    found = rmm.prior_predictive(formula, table, name, draws=2000, seed=1)
    assert found.implausible is not None
    assert found.implausible < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_separated_outcomes_are_named(name: str) -> None:
    x = np.linspace(-1, 1, 40)
    data = pd.DataFrame({"y": (x > 0).astype(int), "x": x})
    with pytest.warns(rmm.SpecificationWarning, match="zeros and ones of `y` are separated"):
        rmm.fit("y ~ 1 + x", data, name, backend="laplace", seed=1, progress=False)


@pytest.mark.parametrize(
    ("family", "link", "found"),
    [
        ("binomial", "probit", "probit"),
        ("bernoulli", "cloglog", "cloglog"),
        ("binomial", "logit", "binomial"),
        ("poisson", "log", "poisson"),
        ("gaussian", "identity", "gaussian"),
        ("probit", "probit", "probit"),
    ],
)
def test_links_are_options_too(family: str, link: str, found: str) -> None:
    assert find_family(family, {"link": link}) is FAMILIES[found]


@pytest.mark.parametrize(
    ("family", "link", "message"),
    [
        ("poisson", "identity", "'identity' is not a link of family 'poisson'. .*Allowed: log"),
        ("binomial", "probid", "Did you mean 'probit'"),
        ("binomial", ["probit"], "is not a link of family 'binomial'"),
        ("probit", "logit", "is not a link of family 'probit'"),
        ("cox", "log", "'link' is not an option of family 'cox'"),
        ("ordinal", "cloglog", "'cloglog' is not a link"),
    ],
)
def test_other_links_are_refused(family: str, link: Any, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        find_family(family, {"link": link})


def test_a_fit_by_link_is_that_of_the_family(table: pd.DataFrame) -> None:
    formula = "won ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecificationWarning)
        one, two = (
            rmm.fit(formula, table, family, backend="laplace", seed=1, **more)
            for family, more in [("binomial", {"link": "probit"}), ("probit", {})]
        )
    pd.testing.assert_frame_equal(one.summary(), two.summary())
