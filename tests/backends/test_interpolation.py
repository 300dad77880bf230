"""Posteriors by polynomials between computed points: against the posteriors themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular

import rmm
from rmm.backends.laplace import sampler as laplace_sampler
from rmm.backends.laplace.hyperparameters import log_prior, to_values
from rmm.backends.laplace.importance import Mode, find_mode, uniforms
from rmm.backends.laplace.interpolation import interpolation, point_count
from rmm.backends.laplace.kernels.library import NUMPY, VARIABLE
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.backends.laplace.sampler import Sampler
from rmm.design.prepare import prepare
from tests.backends.test_laplace import FORMULAS, latent, starts
from tests.coalitions import made_up_coalitions

Array = np.ndarray[Any, Any]
FORMULA = FORMULAS["estimated weights"]
CENTRE = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, 0.02], [0.0, 0.02, 0.01]])


def standardised(points: Array) -> Array:
    return np.linalg.solve(np.linalg.cholesky(COVARIANCE), (points - CENTRE).T).T


def test_a_polynomial_of_degree_four_is_exact() -> None:
    grid = interpolation(Mode(CENTRE, COVARIANCE, 0, 0.0), 500, seed=1)
    assert len(grid.points) == point_count(3) == 70

    def quartic(points: Array) -> Array:
        a, b, c = standardised(points).T
        return np.asarray(3 - a + a * b - 0.2 * c**3 + 0.1 * a**2 * c**2 - 0.05 * b**4)

    known = quartic(grid.points)
    np.testing.assert_allclose(grid.operator @ known, quartic(grid.draws), atol=1e-10)
    assert grid.error(known) < 1e-10


def test_the_error_is_that_of_what_is_no_polynomial() -> None:
    """Left out points against the draws, both about normal: within a factor of three."""
    grid = interpolation(Mode(CENTRE, COVARIANCE, 0, 0.0), 2000, seed=1)
    for size in (0.001, 1.0):

        def kinked(points: Array, size: float = size) -> Array:
            return size * np.abs(standardised(points)).sum(axis=1)

        known = kinked(grid.points)
        away = grid.operator @ known - kinked(grid.draws)
        real = float(np.sqrt(np.mean(away**2)))
        assert real / 3 < grid.error(known) < 3 * real


def test_draws_are_wider_than_the_posterior_and_points_reach_farther() -> None:
    grid = interpolation(Mode(CENTRE, COVARIANCE, 0, 0.0), 4000, seed=2)
    drawn = standardised(grid.draws)
    assert np.abs(drawn.std(axis=0) - 1.15).max() < 0.03
    assert np.sqrt(np.sum(drawn**2, axis=1)).max() < 4.5 + 1e-9
    assert np.sqrt(np.sum(standardised(grid.points) ** 2, axis=1)).max() > 4


@pytest.fixture
def numpy_sampler(monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """Of a model of 400 groups of members who may meet anywhere, which counts as a large one."""
    monkeypatch.setattr(laplace_sampler, "_LARGE", 0)
    return Sampler(
        Integrand(latent(prepare(FORMULA, made_up_coalitions(400, 40)))), 3, lambda: None
    )


def mode_of(sampler: Sampler) -> Mode:
    points = uniforms(4, len(sampler.hyper), 1)
    mode = find_mode(sampler.log_density, points, sampler.folded)
    assert mode is not None
    return mode


@pytest.mark.parametrize("few", [True, False])
def test_heights_and_draws_are_those_of_the_exact_posterior(
    few: bool, numpy_sampler: Sampler
) -> None:
    """Log densities within .02 of the exact ones, and draws of z of the same noise within .02 of
    m + L'^-1 e with the dense H = I + B'B / sigma^2 = L L' at each theta itself.
    """
    sampler = numpy_sampler
    if few:
        sampler = Sampler(sampler.integrand, 3, lambda: None, np.arange(3))
    mode = mode_of(sampler)
    assert sampler._interpolates(mode)
    sample = sampler._interpolated(mode, 500)
    assert sample is not None and sample.ess >= 500
    model, count = sampler.integrand, len(sample.theta)
    values = to_values(sample.theta, sampler.hyper)
    exact = model.inner(values, count).value + log_prior(sample.theta, sampler.hyper)
    grid = interpolation(mode, 800, 3)
    np.testing.assert_array_equal(grid.draws, sample.theta)
    away = np.log(sample.weights.sum(axis=1)) - (exact - grid.log_proposal)
    near = np.argsort(sample.weights.sum(axis=1))[: int(0.8 * count)]  # largest are smoothed
    away = away[near] - away[near].mean()
    assert np.average(away**2, weights=sample.weights.sum(axis=1)[near]) < 0.02**2

    kept = sampler.from_z
    noise = np.random.default_rng([3, 0x1A91ACE])
    noise_of = noise.standard_normal((count, len(kept) if few else model.size))
    affine = model.affine(values, count)
    sd = model.own_values(values, count)["sigma_l2"]
    for s in range(0, count, 50):
        B = model._dense(affine, s)
        H = np.eye(model.size) + B.T @ B / sd[s] ** 2
        residual = model.model.outcome["y"] - affine.offset[s]
        mean = np.linalg.solve(H, B.T @ residual / sd[s] ** 2)
        if few:
            spread = cholesky(np.linalg.inv(H)[np.ix_(kept, kept)], lower=True) @ noise_of[s]
        else:
            lower = cholesky(H, lower=True)
            spread = solve_triangular(lower, noise_of[s], lower=True, trans=1)[kept]
        found = sample.latent[s][:, sampler.to_columns]
        np.testing.assert_allclose(found[0], mean[kept] + spread, atol=0.02)
        np.testing.assert_allclose(found[1], mean[kept] - spread, atol=0.02)


def test_a_posterior_that_is_not_smooth_is_sampled(
    numpy_sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = numpy_sampler
    mode = mode_of(sampler)
    assert sampler._interpolated(mode, 500) is not None
    monkeypatch.setattr(laplace_sampler, "_MOST_ERROR", 0.0)
    assert sampler._interpolated(mode, 500) is None
    model = prepare(FORMULA, made_up_coalitions(400, 40))
    sample = sampler.sample(starts(model), 300)
    assert sample.evaluations > 400 and sample.ess >= 300


def test_standard_deviations_near_0_are_sampled(numpy_sampler: Sampler) -> None:
    mode = mode_of(numpy_sampler)
    centre = np.where(numpy_sampler.folded, 5.9 * np.sqrt(np.diag(mode.covariance)), mode.centre)
    near = Mode(centre, mode.covariance, 0, 0.0)
    assert numpy_sampler._interpolates(mode) and not numpy_sampler._interpolates(near)


def test_fits_are_those_of_importance_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means within 5 Monte Carlo errors, standard deviations within a fifth."""
    monkeypatch.setenv(VARIABLE, NUMPY)
    table = made_up_coalitions(2000, 80)
    given: dict[str, Any] = {"backend": "laplace", "seed": 2, "progress": False}
    sampled = rmm.fit(FORMULA, table, **given)
    monkeypatch.setattr(laplace_sampler, "_LARGE", 0)
    smooth = rmm.fit(FORMULA, table, **given)
    assert smooth.converged and smooth.run.engine["integrals"] < 250
    assert sampled.run.engine["integrals"] > 500
    ours, known = smooth.summary(), sampled.summary()
    error = np.hypot(ours["mcse_mean"], known["mcse_mean"])
    assert (np.abs(ours["mean"] - known["mean"]) < 5 * error).all()
    assert np.abs(np.log(ours["sd"] / known["sd"])).max() < 0.2
    effects, others = smooth.member_effects(), sampled.member_effects()
    error = np.hypot(effects["mcse_mean"], others["mcse_mean"])
    assert (np.abs(effects["mean"] - others["mean"]) < 5 * error).all()
