"""Binomial outcome with a probit link: the probability of a success is Phi(eta_j).

A success is a normal variable with sd 1 and mean eta_j that is above 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit, log_ndtr, ndtr, ndtri

from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Values, Widths
from rmm.families.binomial import BINOMIAL, drawn_shares, kernel_of, log_ways, trials_of

_LOG_HEIGHT = -0.5 * np.log(2 * np.pi)  # of the standard normal density at 0


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Probit of the share of successes, half a success and failure added, and 1."""
    return float(ndtri(expit(BINOMIAL.scale(outcome)[0]))), 1.0


def _widths(outcome: Outcome) -> Widths:
    """Those of family binomial by 5/3: about the ratio of logits to probits."""
    return Widths(intercept=0.6, slope=0.9, sd=0.6)


def _logs(eta: Array, outcome: Outcome) -> Array:
    y, n = outcome["y"], trials_of(outcome)
    return np.asarray(y * log_ndtr(eta) + (n - y) * log_ndtr(-eta))


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    return np.asarray(log_ways(outcome) + _logs(eta, outcome))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    y, n = outcome["y"], trials_of(outcome)
    up, down = (np.exp(_LOG_HEIGHT - eta**2 / 2 - log_ndtr(sign * eta)) for sign in (1, -1))
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    weight = y * up * np.maximum(up + eta, 0) + (n - y) * down * np.maximum(down - eta, 0)
    return Curvature(total, y * up - (n - y) * down, weight)


def _kernel(outcome: Outcome) -> KernelOutcome:
    return kernel_of(9, outcome)


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    return np.asarray(trials_of(outcome) * ndtr(eta))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return rng.binomial(trials_of(outcome), ndtr(eta))


def _residual_variance(values: Values, outcome: Outcome) -> float:
    return 1.0


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """As in family binomial."""
    y, n, share = outcome["y"], trials_of(outcome), drawn_shares(outcome)
    eta = ndtri(share)
    slope = np.exp(_LOG_HEIGHT - eta**2 / 2)
    return eta + (y / n - share) / slope, n * slope**2 / (share * (1 - share))


def _for_outcome(kind: str, strata: bool = False) -> Family:
    if kind == "plain":
        return PROBIT
    return replace(
        PROBIT,
        stan_data="array[J] int<lower=1> trials;  // number of trials of each group\n"
        "array[J] int<lower=0> y;  // number of successes",
        stan_transformed_data="",
        stan_model="for (j in 1:J) {\n"
        "  target += y[j] * normal_lcdf(eta[j] | 0, 1)\n"
        "    + (trials[j] - y[j]) * normal_lcdf(-eta[j] | 0, 1);\n}",
        stan_density="y[j] * normal_lcdf(eta[j] | 0, 1)\n"
        "      + (trials[j] - y[j]) * normal_lcdf(-eta[j] | 0, 1)",
        jags_model="y[j] ~ dbin(p[j], trials[j])  # successes of trials\np[j] <- phi(eta[j])",
        observed=("y", "trials"),
    )


PROBIT = replace(
    BINOMIAL,
    name="probit",
    link="probit",
    scale=_scale,
    widths=_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    residual_variance=_residual_variance,
    in_words=("a binomial outcome (probit link)", "the probit of the probability changes"),
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_transformed_data="vector[J] sign = 2 * to_vector(y) - 1;  // 1: success, -1: failure",
    stan_model="target += normal_lcdf(sign .* eta | 0, 1);  // probability Phi(eta) of a success",
    stan_density="normal_lcdf(sign[j] * eta[j] | 0, 1)",
    # JAGS's own samplers of a probit link do not see one behind phi().
    jags_block=False,
    jags_model="y[j] ~ dbern(p[j])\np[j] <- phi(eta[j])",
    for_outcome=_for_outcome,
)
