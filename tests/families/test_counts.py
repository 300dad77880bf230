"""Counts: likelihoods against SciPy, programs against NumPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_counts.py`` rewrites the golden texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.families import FAMILIES, find_family
from rmm.posterior.plots.predictive_check import frequencies
from tests.coalitions import made_up_coalitions
from tests.family_cases import (
    MIXED,
    check_against_estimates,
    check_engines_agree,
    check_golden,
    check_stan_density,
    quiet,
)

NAMES = ("poisson", "negbinomial")
#: Poisson means are exp(0.4 y): between .1 and 20 for most groups.
FORMULA = "laws ~ 1 + offset(log(years)) + "
SHAPE = 2.0


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Of 240 groups: `laws`, a count over 1 to 5 `years`, and `many`, one that varies more."""
    table = made_up_coalitions(groups=240, seed=4)
    rng = np.random.default_rng(1)
    group = table.groupby("gid").ngroup().to_numpy()
    years = rng.uniform(1, 5, 240)[group]
    mean = years * np.exp(0.4 * table["y"].to_numpy())
    chance = rng.uniform(size=240)[group]
    return table.assign(
        years=years,
        laws=stats.poisson.ppf(chance, mean).astype(int),
        many=stats.nbinom.ppf(chance, SHAPE, SHAPE / (SHAPE + mean)).astype(int),
    )


def law(name: str, eta: Any, shape: float = SHAPE) -> Any:
    """SciPy's distribution."""
    mean = np.exp(eta)
    return stats.poisson(mean) if name == "poisson" else stats.nbinom(shape, shape / (shape + mean))


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_mean_and_draws_are_scipys(name: str) -> None:
    family, y = FAMILIES[name], np.array([0.0, 1.0, 7.0, 40.0])
    outcome = family.read_outcome("y", (y,), None)
    eta = np.array([[-2.0, 0.3, 2.0, 3.5], [0.0, 1.0, -1.5, 4.0]])
    values = {"shape": np.array([SHAPE, SHAPE])}
    found = family.log_likelihood(eta, values, outcome)
    np.testing.assert_allclose(found, law(name, eta).logpmf(y), rtol=1e-10)
    np.testing.assert_allclose(family.mean(eta, values, outcome), np.exp(eta))
    many = np.repeat(eta[1:], 20_000, axis=0)
    draws = family.draw(many, {"shape": np.full(20_000, SHAPE)}, outcome, np.random.default_rng(2))
    se = law(name, eta[1]).std() / np.sqrt(len(many))
    assert (np.abs(draws.mean(axis=0) - np.exp(eta[1])) <= 4.5 * se).all()  # 3 in 100,000
    # Kurtosis of counts of this size is below 12: the error of a variance is 3.5 times that.
    assert draws.var(axis=0) == pytest.approx(law(name, eta[1]).var(), rel=4.5 * 3.5 / 141)


def test_negative_binomial_with_a_large_shape_is_poisson() -> None:
    outcome = FAMILIES["poisson"].read_outcome("y", (np.array([0.0, 3.0, 9.0]),), None)
    eta = np.array([[0.1, 1.0, 2.0]])
    found = FAMILIES["negbinomial"].log_likelihood(eta, {"shape": np.array([1e7])}, outcome)
    known = FAMILIES["poisson"].log_likelihood(eta, {}, outcome)
    np.testing.assert_allclose(found, known, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_means_beyond_all_numbers_have_no_likelihood_and_finite_draws(name: str) -> None:
    outcome = FAMILIES[name].read_outcome("y", (np.array([0.0, 3.0]),), None)
    eta, values = np.array([[800.0, -800.0]]), {"shape": np.array([SHAPE])}
    with np.errstate(all="ignore"):
        found = FAMILIES[name].log_likelihood(eta, values, outcome)
    assert (found < -700).all()
    assert (FAMILIES[name].draw(eta, values, outcome, np.random.default_rng(1)) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_residual_variance_is_that_of_a_log_normal_count(name: str) -> None:
    """With the mean and the variance of the count: Nakagawa and others (2017), table 1."""
    outcome = {"y": np.array([2, 4, 6])}
    found = FAMILIES[name].residual_variance({"shape": np.array([SHAPE])}, outcome)
    count = law(name, np.log(4.0))
    wanted = np.log(1 + count.var() / count.mean() ** 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_golden_texts(name: str, table: pd.DataFrame) -> None:
    check_golden(name, quiet(FORMULA + MIXED, table, name))


@pytest.mark.parametrize("text", ["NegBin", "negative binomial", "nb2", "Poisson", "count"])
def test_synonyms(text: str) -> None:
    assert find_family(text).name in NAMES


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("name", NAMES)
def test_stan_density(name: str, table: pd.DataFrame) -> None:
    """With a fixed shape: its prior is tested with those of all parameters."""
    priors = ["shape <- 2"] if name == "negbinomial" else []
    model = quiet("laws ~ 1 + " + MIXED, table, name, priors=priors)
    y = model.design.outcome["y"]
    check_stan_density(model, lambda eta: float(law(name, eta).logpmf(y).sum()))


def poisson_means(X: Any, mean: Any, estimate: Any) -> Any:
    """Posterior means under flat priors from maximum likelihood, to second order.

    Tierney and Kadane (1986): mean - mode = 1/2 H^-1 sum over data of the log likelihood's third
    derivative, -mean, contracted with H^-1.
    """
    inverse = np.linalg.inv(X.T @ (X * mean[:, None]))
    leverage = np.einsum("jk,kl,jl->j", X, inverse, X)
    return estimate - 0.5 * inverse @ (X.T @ (mean * leverage))


@pytest.mark.parametrize(
    "backend",
    [
        "laplace",
        pytest.param("jags", marks=[pytest.mark.jags, pytest.mark.thorough]),
        pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.thorough]),
    ],
)
def test_poisson_regression_is_that_of_statsmodels(backend: str, table: pd.DataFrame) -> None:
    import statsmodels.api as sm

    groups = table.drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    model = sm.GLM(groups["laws"], X, family=sm.families.Poisson(), offset=np.log(groups["years"]))
    found = model.fit()
    means = poisson_means(X, np.asarray(found.fittedvalues), np.asarray(found.params))
    names = ("b_l2[Intercept]", "b_l2[z]", "b_l2[q]")
    wanted = dict(zip(names, means, strict=True))
    check_against_estimates(FORMULA + "z + q", groups, "poisson", backend, wanted)


@pytest.mark.parametrize("backend", ["laplace", pytest.param("stan", marks=pytest.mark.thorough)])
def test_negative_binomial_regression_is_near_that_of_statsmodels(
    backend: str, table: pd.DataFrame
) -> None:
    """Posterior means and the maximum of the likelihood differ by terms of order 1/n."""
    import statsmodels.api as sm

    groups = table.drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    offset = np.log(groups["years"])
    known = sm.NegativeBinomial(groups["many"], X, offset=offset).fit(disp=0)
    fit = rmm.fit(
        FORMULA.replace("laws", "many") + "z + q",
        groups,
        "negbinomial",
        backend=backend,
        priors="rmm",
        seed=5,
        progress=False,
    )
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[q]", "shape"]]
    estimates = np.asarray(known.params)
    wanted = [*estimates[:3], 1 / estimates[3]]
    away = (found["mean"] - wanted) / found["sd"]
    assert (away.abs() < 0.35).all(), away  # skewness of the posterior of the shape
    np.testing.assert_allclose(found["sd"][:3], np.asarray(known.bse)[:3], rtol=0.1)


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("name", NAMES)
def test_engines_agree(name: str, table: pd.DataFrame) -> None:
    check_engines_agree(FORMULA + MIXED, table, name)


@pytest.mark.parametrize("name", NAMES)
def test_exposure_moves_the_prior_of_the_intercept(name: str, table: pd.DataFrame) -> None:
    """Years or days: the same model, whatever the unit of the exposure."""
    days = table.assign(years=365.25 * table["years"])
    one, other = (quiet(FORMULA + "z", t, name).priors.data for t in (table, days))
    moved = one["prior_alpha_location"] - other["prior_alpha_location"]
    assert moved == pytest.approx(np.log(365.25))


def test_predictions_and_checks(table: pd.DataFrame) -> None:
    """New groups take their exposure from the table; a count has a mean and an outcome."""
    fit = rmm.fit(FORMULA + MIXED, table, "poisson", backend="laplace", seed=1, progress=False)
    some = table[table["gid"].isin(["g003", "g004"])]
    once, twice = (fit.predict(some.assign(years=y)) for y in (1.0, 2.0))
    np.testing.assert_allclose(twice["mean"], 2 * once["mean"], rtol=1e-12)
    outcomes = fit.predict(kind="outcome", draws=True, seed=1).to_numpy()
    assert (outcomes == np.round(outcomes)).all() and outcomes.min() >= 0
    assert fit.loo().elpd < 0
    assert "counts (Poisson, log link)" in fit.report().text
    shares = fit.variance_components()[("share", "mean")]
    assert shares.sum() == pytest.approx(1)
    fit.plot_check()


ODD = {
    "shares": (lambda y: y / 7, r"whole numbers from 0.*another value, such as.*offset\(log"),
    "negative": (lambda y: y - 1, r"whole numbers from 0.*such as -1\."),
    "none": (lambda y: 0 * y, "is 0 in every group"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ODD)
def test_outcomes_that_are_no_counts(what: str, name: str, table: pd.DataFrame) -> None:
    values, message = ODD[what]
    with pytest.raises(rmm.DataError, match=message):
        quiet(FORMULA + "z", table.assign(laws=values(table["laws"])), name)


def test_zeros_that_a_predictor_separates_are_named() -> None:
    rng = np.random.default_rng(1)
    x = np.repeat([0.0, 1.0], 20)
    data = pd.DataFrame({"y": np.where(x == 1, 0, rng.poisson(4.0, 40) + 1), "x": x})
    with pytest.warns(rmm.SpecificationWarning, match="zeros of `y` are separated"):
        rmm.fit("y ~ 1 + x", data, "poisson", backend="laplace", seed=1, progress=False)


def test_effects_of_single_groups_are_overdispersion_of_poisson_counts(table: pd.DataFrame) -> None:
    """They are identified beside Poisson's variance, and only by form beside a shape."""
    import warnings

    groups = table.drop_duplicates("gid")
    said = {}
    for name in NAMES:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            rmm.fit(
                "laws ~ 1 + hm(id = gid)",
                groups,
                name,
                backend="laplace",
                seed=1,
                progress=False,
            )
        said[name] = " ".join(str(w.message) for w in found)
    assert "act like a residual" not in said["poisson"]
    assert "gamma distribution" in said["negbinomial"]


def test_frequencies_of_counts_are_counted_in_equal_steps() -> None:
    rng = np.random.default_rng(1)
    observed, replicated = rng.poisson(3.0, 500), rng.poisson(3.0, (400, 500))
    table = frequencies(observed, replicated)
    assert (
        table["observed"].tolist() == np.bincount(observed, minlength=len(table["first"])).tolist()
    )
    # Of a right model 95% of the observed numbers are inside; 13 steps or so depend on each other.
    inside = (table["low"] <= table["observed"]) & (table["observed"] <= table["high"])
    assert inside.mean() > 0.7
    large = frequencies(1000 + 10 * observed, 1000 + 10 * replicated)
    assert len(large["first"]) <= 40
    assert large["observed"].sum() == 500
    assert ((large["last"] - large["first"]) == large["last"][0]).all()
