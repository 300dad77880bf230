"""Positive outcome: y_j ~ gamma with mean mu_j = exp(eta_j) and variance mu_j^2 / shape.

McCullagh & Nelder (1989), Generalized Linear Models, chapter 8; the log link.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, polygamma

from rmm.families.base import (
    Array,
    Curvature,
    Family,
    KernelOutcome,
    Outcome,
    Parameter,
    Values,
)
from rmm.families.lognormal import POSITIVE, positive_widths, read_positive, some_positive
from rmm.formula.prior_syntax import Prior

_LEAST_SD = 0.1  # of logs, for a normal approximation


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Log of the mean outcome, and the sd of the logs."""
    return float(np.log(np.mean(outcome["y"]))), float(np.std(outcome["log_y"], ddof=1))


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    shape = values["shape"][:, None]
    ratio = outcome["log_y"] - eta
    constant = shape * np.log(shape) - gammaln(shape) - outcome["log_y"]
    return np.asarray(constant + shape * (ratio - np.exp(ratio)))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    shape = values["shape"][:, None]
    ratio = np.exp(outcome["log_y"] - eta)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, shape * (ratio - 1), shape * ratio)


def _kernel(outcome: Outcome) -> KernelOutcome:
    log_y = np.asarray(outcome["log_y"])
    return KernelOutcome(7, log_y, constant=-float(log_y.sum()))


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    return np.asarray(np.exp(eta))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    shape = values["shape"][:, None]
    return np.asarray(np.exp(eta) * rng.gamma(shape, 1 / shape, eta.shape))


def _residual_variance(values: Values, outcome: Outcome) -> Array:
    """Variance of log(y) given eta: the trigamma function of the shape."""
    return np.asarray(polygamma(1, values["shape"]))


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """Logs, and the precision that they have where predictors explain nothing."""
    log_y = np.asarray(outcome["log_y"])
    return log_y, np.full(len(log_y), max(float(np.std(log_y)), _LEAST_SD) ** -2)


def _priors(outcome: Outcome) -> dict[str, Prior]:
    """Half-Cauchy of the shape with 95% between 0.4, a coefficient of variation of 1.6, and 250, a
    coefficient of .06. Its tail lets outcomes that vary less have their way.
    """
    return {"shape": Prior("half_cauchy", (10.0,))}


def _classic_priors(outcome: Outcome) -> dict[str, Prior]:
    return {"shape": Prior("gamma", (0.01, 0.01))}


GAMMA = Family(
    name="gamma",
    link="log",
    measure="density",
    outcome_kinds=("plain",),
    domain=POSITIVE,
    intercept=True,
    parameters=(
        Parameter("shape", (), "positive", "shape", words="the shape of the gamma distribution"),
    ),
    read_outcome=read_positive,
    some_groups=some_positive,
    scale=_scale,
    widths=positive_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    log_scale=True,
    residual_variance=_residual_variance,
    in_words=("a positive outcome (gamma, log link)", "the log of the expected outcome changes"),
    like_residual=(
        "Only the form of the gamma distribution separates them from the residual (shape). How the "
        "variance of the logs is divided between {which} and shape depends mostly on the priors. "
        "Coefficients (b_*) are hardly affected."
    ),
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="vector<lower=0>[J] y;  // outcome of each group",
    stan_model="y ~ gamma(shape, shape * exp(-eta));  // mean exp(eta)",
    stan_density="gamma_lpdf(y[j] | shape, shape * exp(-eta[j]))",
    jags_block=False,
    jags_standard_effects=True,
    jags_model="y[j] ~ dgamma(shape, shape / mu[j])  # mean mu[j], variance mu[j]^2 / shape\n"
    "log(mu[j]) <- eta[j]",
    priors=_priors,
    classic_priors=_classic_priors,
    example={"y": np.array([1.0, 2.0]), "log_y": np.log([1.0, 2.0])},
)
