"""Contraction of priors: against closed forms, and where it is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.design.prepare import prepare
from rmm.formula.prior_distributions import variance
from rmm.posterior.diagnostics.contraction import contraction, intercept_prior, mostly_prior

N = 40


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    x, z = rng.normal(5, 1, N), rng.normal(-2, 3, N)
    return pd.DataFrame({"y": 1 + 0.5 * x + rng.normal(size=N), "x": x, "z": z})


def fitted(table: pd.DataFrame, priors: Any, formula: str = "y ~ 1 + x") -> rmm.Fit:
    return rmm.fit(formula, table, priors=priors, backend="laplace", seed=4, draws=2000)


def test_it_is_that_of_a_normal_model_with_known_sd(table: pd.DataFrame) -> None:
    """Posterior variance of a conjugate normal regression: (X'X / s^2 + P)^-1."""
    scales = {"b_l2[Intercept]": 3.0, "b_l2[x]": 0.4}
    given = {name: f"normal(0, {s})" for name, s in scales.items()}
    given["sigma_l2"] = "uniform(0.999, 1.001)"
    fit = fitted(table, given)
    X = np.column_stack([np.ones(N), table["x"]])
    prior = np.array(list(scales.values())) ** 2
    exact = np.diag(np.linalg.inv(X.T @ X + np.diag(1 / prior)))
    found = fit.summary()["contraction"]
    # A variance of n independent draws has a relative error of sqrt(2 / n).
    error = np.sqrt(2 / fit.summary()["ess_bulk"].min())
    for name, ratio in zip(scales, exact / prior, strict=True):
        assert 1 - found[name] == pytest.approx(ratio, rel=4 * error)


def test_without_data_worth_the_name_it_is_nought(table: pd.DataFrame) -> None:
    fit = fitted(table, {"b_l2[x]": "normal(0, 0.001)", "sigma_l2": "half_t(30, 1)"})
    found = fit.summary()["contraction"]
    error = np.sqrt(2 / fit.summary()["ess_bulk"]["b_l2[x]"])
    assert abs(found["b_l2[x]"]) < 4 * error and found["b_l2[Intercept]"] > 0.9
    assert mostly_prior(fit.summary()) == ["b_l2[x]"]
    assert "Mostly decided by the prior (contraction below 0.36): b_l2[x]." in str(fit)
    (advice,) = fit.diagnostics()["advice"]
    assert advice.startswith(f"b_l2[x] ({found['b_l2[x]']:.2f}): mostly decided by the prior (")


def test_the_intercepts_prior_is_that_at_zero(table: pd.DataFrame) -> None:
    """By drawing alpha and slopes from their priors: alpha - means' slopes."""
    model = prepare("y ~ 1 + x + z", table)
    rng, elements = np.random.default_rng(5), model.priors.elements
    alpha = rng.normal(*elements["alpha"][0].values, 200_000)
    slopes = [rng.normal(*prior.values, 200_000) for prior in elements["beta_l2"]]
    drawn = alpha - table["x"].mean() * slopes[0] - table["z"].mean() * slopes[1]
    implied = sum(f**2 * variance(prior) for f, prior in intercept_prior(model))
    assert implied == pytest.approx(drawn.var(), rel=0.02)  # 6 standard errors
    own = prepare("y ~ 1 + x + z", table, priors=["b_l2[Intercept] ~ normal(0, 2)"])
    assert sum(f**2 * variance(prior) for f, prior in intercept_prior(own)) == 4


def test_members_and_units_centres_are_in_the_intercepts_prior(coalitions: pd.DataFrame) -> None:
    """The derived row is in no way special: a posterior that is the prior has contraction 0."""
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x), RE = TRUE) + hm(id = cid)"
    model = prepare(formula, coalitions.assign(x=coalitions["x"] + 3))
    rng, elements = np.random.default_rng(6), model.priors.elements
    draws = {
        name: np.column_stack([rng.normal(*p.values, 100_000) for p in elements[name]])
        for name in ("alpha", "beta_l2", "b_l1")
    }
    shift = draws["beta_l2"] @ model.design.center_l2
    shift += draws["b_l1"] @ model.design.members[0].b_center
    b = np.column_stack([draws["alpha"][:, 0] - shift, draws["beta_l2"]])
    found, _ = contraction(model, {"b_l2": b[None]})
    assert found.shape == (2,)
    assert abs(found).max() < 4 * np.sqrt(2 / 100_000)


def test_priors_without_variance_are_compared_by_quartiles(table: pd.DataFrame) -> None:
    fit = fitted(table, {"sigma_l2": "half_cauchy(2)"})
    draws = fit.draws["posterior"]["sigma_l2"].to_numpy().ravel()
    law = stats.halfcauchy(scale=2)
    ratio = np.ptp(np.quantile(draws, [0.25, 0.75])) / (law.ppf(0.75) - law.ppf(0.25))
    assert fit.summary()["contraction"]["sigma_l2"] == pytest.approx(1 - ratio**2)
    assert fit.diagnostics()["contraction_of_quartiles"] == ["sigma_l2"]
    assert "interquartile ranges, because the prior has no variance: sigma_l2." in str(fit)


def test_a_sum_with_a_heavy_tail_is_compared_by_quartiles(table: pd.DataFrame) -> None:
    """The intercept at 0 of x where x's slope is Cauchy: stable under sums, scales add up."""
    model = prepare("y ~ 1 + x", table, priors=["b_l2[x] ~ student_t(1, 0, 2)"])
    rng = np.random.default_rng(7)
    drawn = rng.normal(*model.priors.elements["alpha"][0].values, 400_000)
    drawn = drawn - table["x"].mean() * 2 * rng.standard_cauchy(400_000)
    b = np.column_stack([drawn, 2 * rng.standard_cauchy(400_000)])[None]
    found, quartiles = contraction(model, {"b_l2": b})
    assert quartiles.all()
    # 20,000 draws of the prior: an interquartile range of Cauchy draws has an error of 1.6%.
    assert abs(found).max() < 2 * 4 * 0.016


def test_it_is_the_last_column_and_survives_a_file(table: pd.DataFrame, tmp_path: Path) -> None:
    fit = fitted(table, None)
    assert fit.summary().columns[-1] == "contraction"
    pd.testing.assert_frame_equal(rmm.load(fit.save(tmp_path / "a.nc")).summary(), fit.summary())


def test_priors_of_a_program_of_ones_own_are_not_known(table: pd.DataFrame) -> None:
    fit = replace(
        fitted(table, {"b_l2[x]": "normal(0, 0.001)"}), program="model { }", own_program=True
    )
    assert fit.summary()["contraction"].isna().all()
    assert fit.diagnostics()["advice"] == [] and "Mostly decided" not in str(fit)
