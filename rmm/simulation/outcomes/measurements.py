"""Outcomes that are measured: numbers around the linear predictor, or around its exponential."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from rmm.simulation.covariates.endogenous import RESIDUAL
from rmm.simulation.outcomes.outcome_model import (
    OutcomeModel,
    Replication,
    Setting,
    exponential,
    linear,
)
from rmm.simulation.outcomes.true_predictor import draw_effects

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]


def _normal(eta: Array, setting: Setting, rng: np.random.Generator) -> Array:
    """(J,) with mean eta; the residual may depend on covariates, or not be normal."""
    truth = setting.truth
    sd = truth.parameters["sigma_l2"]
    return eta + draw_effects(RESIDUAL, sd, len(eta), truth, setting.columns, rng)


def _gaussian_density(drawn: Replication) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    sd = drawn.truth.parameters["sigma_l2"]
    return np.asarray(stats.norm.logpdf(drawn.outcome, drawn.eta, sd))


GAUSSIAN = OutcomeModel(
    ("plain",),
    lambda eta, setting, rng: (_normal(eta, setting, rng),),
    {"mean": linear, "linear": linear},
    lambda truth, mean: truth.parameters["sigma_l2"] ** 2,
    _gaussian_density,
)


def _lognormal_mean(eta: Array, truth: Truth, time: float | None) -> Array:
    return np.asarray(np.exp(eta + truth.parameters["sigma_l2"] ** 2 / 2))


def _lognormal_density(drawn: Replication) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    sd = drawn.truth.parameters["sigma_l2"]
    return np.asarray(stats.lognorm.logpdf(drawn.outcome, sd, scale=np.exp(drawn.eta)))


LOGNORMAL = OutcomeModel(
    ("plain",),
    lambda eta, setting, rng: (np.exp(_normal(eta, setting, rng)),),
    {"mean": _lognormal_mean, "median": exponential, "linear": linear},
    lambda truth, mean: truth.parameters["sigma_l2"] ** 2,
    _lognormal_density,
)


def _gamma(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    """Mean exp(eta), coefficient of variation 1 / sqrt(shape)."""
    shape = setting.truth.parameters["shape"]
    return (rng.gamma(shape, np.exp(eta) / shape),)


def _gamma_density(drawn: Replication) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    shape = drawn.truth.parameters["shape"]
    return np.asarray(stats.gamma.logpdf(drawn.outcome, shape, scale=np.exp(drawn.eta) / shape))


GAMMA = OutcomeModel(
    ("plain",),
    _gamma,
    {"mean": exponential, "linear": linear},
    lambda truth, mean: float(special.polygamma(1, truth.parameters["shape"])),
    _gamma_density,
)


def _student(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    """A normal residual over the root of chi-squared / nu."""
    b = setting.truth.parameters
    normal, nu = rng.standard_normal(len(eta)), b["nu"]
    return (eta + b["sigma_l2"] * normal / np.sqrt(rng.chisquare(nu, len(eta)) / nu),)


def _student_density(drawn: Replication) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    b = drawn.truth.parameters
    return np.asarray(stats.t.logpdf(drawn.outcome, b["nu"], drawn.eta, b["sigma_l2"]))


def _student_noise(truth: Truth, mean: float) -> float:
    """Infinite for nu up to 2."""
    nu = truth.parameters["nu"]
    return truth.parameters["sigma_l2"] ** 2 * (nu / (nu - 2) if nu > 2 else np.inf)


STUDENT = OutcomeModel(
    ("plain",), _student, {"mean": linear, "linear": linear}, _student_noise, _student_density
)
