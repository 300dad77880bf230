"""Student t outcomes: likelihood against SciPy, programs against NumPy, engines with each other.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_student.py`` rewrites the golden texts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.families import FAMILIES, find_family
from rmm.posterior.prediction.variance_components import share_of
from tests.coalitions import made_up_coalitions
from tests.family_cases import MIXED, check_engines_agree, check_golden, check_stan_density, quiet

STUDENT = FAMILIES["student"]
FORMULA = f"wild ~ 1 + {MIXED}"
SCALE, NU = 0.8, 3.0


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """240 groups with an outcome `wild`, y and residuals of 3 degrees of freedom."""
    table = made_up_coalitions(groups=240, seed=4)
    residual = SCALE * np.random.default_rng(1).standard_t(NU, 240)
    return table.assign(wild=table["y"] + residual[table.groupby("gid").ngroup()])


def test_likelihood_and_draws_are_scipys() -> None:
    y = np.array([-20.0, 0.5, 3.0, 40.0])
    outcome = STUDENT.read_outcome("y", (y,), None)
    eta = np.array([[-2.0, 0.3, 2.0, 3.5], [0.0, 1.0, -1.5, 4.0]])
    values = {"sigma_l2": np.array([SCALE, 2.5]), "nu": np.array([NU, 80.0])}
    wanted = np.array(
        [stats.t(n, e, s).logpdf(y) for e, s, n in zip(eta, *values.values(), strict=True)]
    )
    np.testing.assert_allclose(STUDENT.log_likelihood(eta, values, outcome), wanted, rtol=1e-10)
    many = np.repeat(eta[:1], 5_000, axis=0)
    own = {"sigma_l2": np.full(5_000, SCALE), "nu": np.full(5_000, NU)}
    draws = STUDENT.draw(many, own, outcome, np.random.default_rng(2))
    for j in range(4):  # 1 in 2,500 that a right one fails
        assert stats.kstest(draws[:, j], stats.t(NU, eta[0, j], SCALE).cdf).pvalue > 1e-4


def test_many_degrees_of_freedom_are_normal() -> None:
    outcome, eta = {"y": np.array([0.0, 3.0])}, np.array([[0.1, 1.0]])
    found = STUDENT.log_likelihood(eta, {"sigma_l2": np.ones(1), "nu": np.full(1, 1e8)}, outcome)
    known = FAMILIES["gaussian"].log_likelihood(eta, {"sigma_l2": np.ones(1)}, outcome)
    np.testing.assert_allclose(found, known, atol=1e-6)


def test_residual_variance_is_scipys_and_infinite_without_one() -> None:
    values = {"sigma_l2": np.array([SCALE, SCALE]), "nu": np.array([NU, 1.5])}
    found = STUDENT.residual_variance(values, {})
    np.testing.assert_allclose(found, [stats.t(NU, 0, SCALE).var(), np.inf])
    total = found + 1.0
    np.testing.assert_array_equal(share_of(found, total)[1], 1.0)
    np.testing.assert_array_equal(share_of(np.ones(2), total)[1], 0.0)


def test_golden_texts(table: pd.DataFrame) -> None:
    check_golden("student", quiet(FORMULA, table, "student"))


@pytest.mark.parametrize("text", ["Student", "t", "student-t"])
def test_synonyms(text: str) -> None:
    assert find_family(text).name == "student"


@pytest.mark.thorough
@pytest.mark.stan
def test_stan_density(table: pd.DataFrame) -> None:
    """With fixed own parameters: their priors are tested with those of all parameters."""
    priors = [f"sigma_l2 <- {SCALE}", f"nu <- {NU}"]
    model = quiet(FORMULA, table, "student", priors=priors)
    y = model.design.outcome["y"]
    check_stan_density(model, lambda eta: float(stats.t(NU, eta, SCALE).logpdf(y).sum()))


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("jags", marks=pytest.mark.jags),
        pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.thorough]),
    ],
)
def test_posterior_is_that_of_quadrature(backend: str) -> None:
    """Means of three parameters on a grid, within 4.5 MCSE, and sds of two within a tenth.

    Draws of 2,000 effective ones have sds within 7% with 4.5 standard errors. Those of nu depend on
    each other in JAGS, and have a long tail: a hundred effective draws tell nothing of its sd.
    """
    y = 0.5 + stats.t(3).rvs(60, random_state=np.random.default_rng(8))
    fit = rmm.fit(
        "y ~ 1",
        pd.DataFrame({"y": y}),
        "student",
        backend=backend,
        priors={"b_l2": "normal(0, 2)", "sigma_l2": "half_normal(2)", "nu": "gamma(2, 0.1)"},
        draws=4000,
        seed=2,
        progress=False,
    )
    axes = np.linspace(-0.7, 1.7, 61), np.linspace(0.3, 2.5, 61), np.geomspace(0.5, 200, 81)
    b, sigma, nu = np.meshgrid(*axes, indexing="ij")
    log = stats.norm(0, 2).logpdf(b) + stats.halfnorm(scale=2).logpdf(sigma)
    log += stats.gamma(2, scale=10).logpdf(nu) + np.log(nu)  # the grid of nu is that of its log
    for one in y:
        log += stats.t.logpdf(one, nu, b, sigma)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    found = fit.summary()
    for name, values in (("b_l2[Intercept]", b), ("sigma_l2", sigma), ("nu", nu)):
        mean = float((weight * values).sum())
        sd = float(np.sqrt((weight * (values - mean) ** 2).sum()))
        row = found.loc[name]
        assert abs(row["mean"] - mean) < 4.5 * row["mcse_mean"], name
        assert name == "nu" or row["sd"] == pytest.approx(sd, rel=0.1), name


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
def test_engines_agree(table: pd.DataFrame) -> None:
    check_engines_agree(FORMULA, table, "student")


def test_laplace_refuses_and_auto_takes_another_engine(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.BackendError, match=r"does not support family 'student'\. Use 'stan'"):
        rmm.fit(FORMULA, table, "student", backend="laplace", progress=False)


def test_outliers_pull_less_than_in_a_gaussian_model(table: pd.DataFrame) -> None:
    groups = table.drop_duplicates("gid").copy()
    groups["wild"] = groups["y"]
    clean, far = groups, groups.assign(wild=groups["y"].where(groups["z"] < 1.5, 40.0))
    slopes = {
        (name, len(set(data["wild"]))): rmm.fit(
            "wild ~ 1 + z", data, name, backend="jags", seed=1, progress=False
        )
        .summary()
        .loc["b_l2[z]", "mean"]
        for name in ("student", "gaussian")
        for data in (clean, far)
    }
    moved = {
        name: abs(np.diff([v for (n, _), v in slopes.items() if n == name]).item())
        for name in ("student", "gaussian")
    }
    assert moved["student"] < 0.1 * moved["gaussian"]


def test_predictions_and_checks(table: pd.DataFrame) -> None:
    fit = rmm.fit(FORMULA, table, "student", backend="jags", seed=1, progress=False)
    found = fit.summary()
    assert abs(found.loc["nu", "mean"] - NU) < 3 * found.loc["nu", "sd"]
    outcomes = fit.predict(kind="outcome", draws=True, seed=1).to_numpy()
    assert np.isfinite(outcomes).all()
    assert np.isfinite(fit.loo().elpd)
    text = fit.report().text
    assert "Student t" in text
    assert "number of degrees of freedom" in text
    assert fit.variance_components()[("share", "mean")].sum() == pytest.approx(1)
    fit.plot_check()
    effect = fit.estimand("marginal_effect", variable="z")["mean"].iloc[0]
    assert effect == pytest.approx(found.loc["b_l2[z]", "mean"], rel=1e-6)


def test_an_outcome_that_does_not_vary(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="is the same in every group"):
        quiet(FORMULA, table.assign(wild=2.0), "student")
