"""Binomial outcome with a complementary log-log link: P(success) = 1 - exp(-exp(eta_j)).

A success is at least one event of a Poisson process with exp(eta_j) expected events. Of durations
in steps, eta is the log of the hazard integrated over a step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit

from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Values, Widths
from rmm.families.binomial import BINOMIAL, drawn_shares, kernel_of, log_ways, trials_of

_SMALL = 0.01  # expected events below which series are exact
_MOST = 700.0  # log of expected events: exp() of more is infinite


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Link of the share of successes, half a success and failure added, and 1."""
    return float(np.log(-np.log1p(-expit(BINOMIAL.scale(outcome)[0])))), 1.0


def _widths(outcome: Outcome) -> Widths:
    """Those of family probit: with 4/3 of them a quarter of probabilities is beyond .01 to .99."""
    return Widths(intercept=0.6, slope=0.9, sd=0.6)


def _parts(eta: Array) -> tuple[Array, Array, Array, Array]:
    """Expected events u, log P(success), r = u / (e^u - 1), and u + r - 1."""
    u = np.exp(np.minimum(eta, _MOST))
    small = u < _SMALL
    with np.errstate(all="ignore"):
        none = np.exp(-u)
        log_p = np.where(small, eta - u / 2 + u**2 / 24 - u**4 / 2880, np.log1p(-none))
        ratio = np.where(small, 1 - u / 2 + u**2 / 12 - u**4 / 720, u * none / (1 - none))
        extra = np.where(small, u / 2 + u**2 / 12 - u**4 / 720, u + ratio - 1)
    return u, log_p, ratio, extra


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    u, log_p, _, _ = _parts(eta)
    y, n = outcome["y"], trials_of(outcome)
    return np.asarray(log_ways(outcome) + y * log_p - (n - y) * u)


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    u, _, ratio, extra = _parts(eta)
    y, n = outcome["y"], trials_of(outcome)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, y * ratio - (n - y) * u, y * ratio * extra + (n - y) * u)


def _kernel(outcome: Outcome) -> KernelOutcome:
    return kernel_of(10, outcome)


def _probability(eta: Array) -> Array:
    return np.asarray(-np.expm1(-np.exp(np.minimum(eta, _MOST))))


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    return np.asarray(trials_of(outcome) * _probability(eta))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return rng.binomial(trials_of(outcome), _probability(eta))


def _residual_variance(values: Values, outcome: Outcome) -> float:
    """Variance of the standard Gumbel distribution, pi^2/6."""
    return float(np.pi**2 / 6)


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """As in family binomial."""
    y, n, share = outcome["y"], trials_of(outcome), drawn_shares(outcome)
    u = -np.log1p(-share)
    slope = u * (1 - share)
    return np.log(u) + (y / n - share) / slope, n * slope**2 / (share * (1 - share))


_STAN = """for (j in 1:J) {{
  // probability 1 - exp(-exp(eta)) of a success
  if (y[j] > 0) target += y[j] * log1m_exp(-exp(eta[j]));
  target += ({} - y[j]) * -exp(eta[j]);
}}"""
_STAN_DENSITY = "(y[j] > 0 ? y[j] * log1m_exp(-exp(eta[j])) : 0) - ({} - y[j]) * exp(eta[j])"


def _for_outcome(kind: str, strata: bool = False) -> Family:
    if kind == "plain":
        return CLOGLOG
    return replace(
        CLOGLOG,
        stan_data="array[J] int<lower=1> trials;  // number of trials of each group\n"
        "array[J] int<lower=0> y;  // number of successes",
        stan_model=_STAN.format("trials[j]"),
        stan_density=_STAN_DENSITY.format("trials[j]"),
        jags_model="y[j] ~ dbin(p[j], trials[j])  # successes of trials\np[j] <- icloglog(eta[j])",
        observed=("y", "trials"),
    )


CLOGLOG = replace(
    BINOMIAL,
    name="cloglog",
    link="cloglog",
    scale=_scale,
    widths=_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    residual_variance=_residual_variance,
    in_words=(
        "a binomial outcome (complementary log-log link)",
        "the log of the expected number of events changes",
    ),
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_model=_STAN.format("1"),
    stan_density=_STAN_DENSITY.format("1"),
    jags_block=False,
    jags_model="y[j] ~ dbern(p[j])\np[j] <- icloglog(eta[j])",
    for_outcome=_for_outcome,
)
