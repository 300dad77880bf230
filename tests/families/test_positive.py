"""Positive outcomes: likelihoods against SciPy, programs against NumPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_positive.py`` rewrites the golden texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.families import FAMILIES, find_family
from tests.coalitions import made_up_coalitions
from tests.family_cases import MIXED, check_engines_agree, check_golden, check_stan_density, quiet

NAMES = ("lognormal", "gamma")
OWN = {"lognormal": "sigma_l2", "gamma": "shape"}
VALUE = 0.8


def law(name: str, eta: Any, own: Any = VALUE) -> Any:
    """SciPy's distribution."""
    if name == "gamma":
        return stats.gamma(own, scale=np.exp(eta) / own)
    return stats.lognorm(own, scale=np.exp(eta))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """240 groups with an outcome of each family, about exp(0.4 y)."""
    table = made_up_coalitions(groups=240, seed=4)
    group = table.groupby("gid").ngroup().to_numpy()
    chance = np.random.default_rng(1).uniform(size=240)[group]
    eta = 0.4 * table["y"].to_numpy()
    return table.assign(**{name: law(name, eta).ppf(chance) for name in NAMES})


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_mean_and_draws_are_scipys(name: str) -> None:
    family, y = FAMILIES[name], np.array([0.01, 0.5, 3.0, 40.0])
    outcome = family.read_outcome("y", (y,), None)
    eta = np.array([[-2.0, 0.3, 2.0, 3.5], [0.0, 1.0, -1.5, 4.0]])
    values = {OWN[name]: np.array([VALUE, 2.5])}
    found = family.log_likelihood(eta, values, outcome)
    wanted = np.array([law(name, e, v).logpdf(y) for e, v in zip(eta, (VALUE, 2.5), strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    at = family.curvature(eta, values, outcome)
    np.testing.assert_allclose(at.value, wanted.sum(axis=1), rtol=1e-10)
    means = [law(name, e, v).mean() for e, v in zip(eta, (VALUE, 2.5), strict=True)]
    np.testing.assert_allclose(family.mean(eta, values, outcome), means)
    many = np.repeat(eta[:1], 5_000, axis=0)
    draws = family.draw(many, {OWN[name]: np.full(5_000, VALUE)}, outcome, np.random.default_rng(2))
    for j in range(4):  # 1 in 2,500 that a right one fails
        assert stats.kstest(draws[:, j], law(name, eta[0, j]).cdf).pvalue > 1e-4


def test_median_of_a_lognormal_outcome() -> None:
    eta = np.array([[-2.0, 0.3]])
    found = FAMILIES["lognormal"].median(eta, {"sigma_l2": np.array([VALUE])})
    np.testing.assert_allclose(found, law("lognormal", eta).median())


@pytest.mark.parametrize("name", NAMES)
def test_residual_variance_is_that_of_the_log(name: str) -> None:
    found = FAMILIES[name].residual_variance({OWN[name]: np.array([VALUE])}, {})
    one = law(name, 0.0)
    mean = one.expect(np.log)
    np.testing.assert_allclose(found, one.expect(lambda y: (np.log(y) - mean) ** 2), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_golden_texts(name: str, table: pd.DataFrame) -> None:
    check_golden(name, quiet(f"{name} ~ 1 + {MIXED}", table, name))


@pytest.mark.parametrize("text", ["Log-Normal", "lognormal", "Gamma"])
def test_synonyms(text: str) -> None:
    assert find_family(text).name in NAMES


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("name", NAMES)
def test_stan_density(name: str, table: pd.DataFrame) -> None:
    """With a fixed own parameter: its prior is tested with those of all parameters."""
    model = quiet(f"{name} ~ 1 + {MIXED}", table, name, priors=[f"{OWN[name]} <- {VALUE}"])
    y = model.design.outcome["y"]
    check_stan_density(model, lambda eta: float(law(name, eta).logpdf(y).sum()))


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("name", NAMES)
def test_engines_agree(name: str, table: pd.DataFrame) -> None:
    check_engines_agree(f"{name} ~ 1 + {MIXED}", table, name)


def test_a_lognormal_model_is_a_gaussian_one_of_the_log(table: pd.DataFrame) -> None:
    """Same posterior under the same priors; evidence and densities differ by the Jacobian.

    Also where effects are one per group. The searches of modes end up to rounding at one place.
    """
    groups = table.drop_duplicates("gid")
    common = {"b_l2": "normal(0, 2)", "sigma_l2": "half_normal(1)"}
    mixed = {"b_l1": "normal(0, 2)", "sigma_l1": "half_normal(1)"}
    for formula, data, chosen in (
        (MIXED, table, common | mixed),
        (
            "z + hm(id = gid)",
            groups,
            common | {"b_l3": "normal(0, 2)", "sigma_l3": "half_normal(1)"},
        ),
    ):
        ours, known = (
            rmm.fit(
                f"{outcome} ~ 1 + {formula}",
                data,
                family,
                backend="laplace",
                priors=chosen,
                seed=3,
                progress=False,
            )
            for outcome, family in (("lognormal", "lognormal"), ("log(lognormal)", "gaussian"))
        )
        pd.testing.assert_frame_equal(ours.summary(), known.summary(), rtol=1e-6)
        moved = float(np.log(groups["lognormal"]).sum())
        assert ours.loo().elpd == pytest.approx(known.loo().elpd - moved, abs=1e-4)
        assert ours.log_evidence().value == pytest.approx(
            known.log_evidence().value - moved, abs=1e-4
        )


@pytest.mark.parametrize("backend", ["laplace", pytest.param("stan", marks=pytest.mark.thorough)])
def test_gamma_regression_is_near_that_of_statsmodels(backend: str, table: pd.DataFrame) -> None:
    """Posterior means and the maximum of the likelihood differ by terms of order 1/n."""
    import statsmodels.api as sm

    groups = table.drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    link = sm.families.Gamma(sm.families.links.Log())
    known = sm.GLM(groups["gamma"], X, family=link).fit(scale=None)
    fit = rmm.fit(
        "gamma ~ 1 + z + q",
        groups,
        "gamma",
        backend=backend,
        priors="rmm",
        seed=5,
        progress=False,
    )
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[q]", "shape"]]
    ratio = groups["gamma"] / known.fittedvalues  # of mean 1 with this link
    shape = stats.gamma.fit(ratio, floc=0, fscale=None)[0]
    away = (found["mean"] - [*known.params, shape]) / found["sd"]
    assert (away.abs() < 0.2).all(), away
    sds = np.asarray(known.bse) / np.sqrt(known.scale * found["mean"]["shape"])
    np.testing.assert_allclose(found["sd"][:3], sds, rtol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_and_checks(name: str, table: pd.DataFrame) -> None:
    fit = rmm.fit(f"{name} ~ 1 + {MIXED}", table, name, backend="laplace", seed=1, progress=False)
    outcomes = fit.predict(kind="outcome", draws=True, seed=1).to_numpy()
    assert outcomes.min() > 0
    observed = table.drop_duplicates("gid")[name].mean()
    assert fit.predict()["mean"].mean() == pytest.approx(observed, rel=0.25)
    assert np.isfinite(fit.loo().elpd)
    assert "a positive outcome" in fit.report().text
    assert fit.variance_components()[("share", "mean")].sum() == pytest.approx(1)
    assert fit.plot_check().axes[0].get_xscale() == "log"
    ends = [fit.predict(table.assign(z=table["z"] + s * 1e-5), draws=True) for s in (-1, 1)]
    slope = (ends[1] - ends[0]).mean().item() / 2e-5
    found = fit.estimand("marginal_effect", variable="z")
    assert found["mean"].iloc[0] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_default_priors_say_little_that_no_data_look_like(name: str, table: pd.DataFrame) -> None:
    """Less than 10% of prior outcomes are a thousandfold off the median, whatever the unit."""
    formula = f"{name} ~ 1 + z + q + hm(id = cid) + mm(id(pid, gid), vars(x), RE = TRUE)"
    for unit in (1e-3, 1e6):
        data = table.assign(**{name: unit * table[name]})
        found = rmm.prior_predictive(formula, data, name, draws=2000, seed=1)
        assert found.implausible is not None
        assert found.implausible < 0.1
        assert found.plot().axes[0].get_title(loc="left").endswith("off the median")


ODD = {
    "zero": (0.0, r"must be positive, but 1 group has another value: 'g003' \(0\)\. .*poisson"),
    "negative": (-2.0, r"must be positive, but 1 group has another value: 'g003' \(-2\)\. Check"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ODD)
def test_outcomes_that_are_not_positive(what: str, name: str, table: pd.DataFrame) -> None:
    value, message = ODD[what]
    odd = table[name].where(table["gid"] != "g003", value)
    with pytest.raises(rmm.DataError, match=message):
        quiet(f"{name} ~ 1 + {MIXED}", table.assign(**{name: odd}), name)


@pytest.mark.parametrize("name", NAMES)
def test_an_outcome_that_does_not_vary(name: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="is the same in every group"):
        quiet(f"{name} ~ 1 + {MIXED}", table.assign(**{name: 2.0}), name)
