"""Counts that vary more than Poisson's: y_j with mean mu_j, variance mu_j + mu_j^2 / shape.

log(mu_j) = eta_j. A Poisson distribution whose mean is multiplied by a gamma variable with mean 1
and variance 1/shape in each group ("NB2" of Cameron & Trivedi 2013, Regression Analysis of Count
Data, 3.3).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, gammaln, log_expit

from rmm.families.base import (
    Array,
    Curvature,
    Family,
    KernelOutcome,
    Outcome,
    Parameter,
    Values,
)
from rmm.families.poisson import log_mean, log_widths, mean_count, read_counts
from rmm.families.zero_counts import Count, ZeroRate
from rmm.formula.prior_syntax import Prior

_MOST = 40.0  # log of the largest mean that outcomes are drawn with
_USUAL = 2.0  # a shape, for a normal approximation
_LEAST_ODDS = -700.0  # log odds: exp() of less is 0
_MOST_SHARE = float(np.nextafter(1.0, 0.0))


def _log_odds(eta: Array, values: Values) -> tuple[Array, Array]:
    """(S, 1) shape, and eta - log shape: log odds of the failures that y counts."""
    shape = values["shape"][:, None]
    return shape, eta - np.log(shape)


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    y = outcome["y"]
    shape, odds = _log_odds(eta, values)
    ways = gammaln(y + shape) - gammaln(shape) - gammaln(y + 1.0)
    return np.asarray(ways + (y + shape) * log_expit(odds) - shape * odds)


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    y = outcome["y"]
    shape, odds = _log_odds(eta, values)
    p = expit(odds)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, y - (y + shape) * p, (y + shape) * p * (1 - p))


def _kernel(outcome: Outcome) -> KernelOutcome:
    y = np.asarray(outcome["y"], dtype=float)
    return KernelOutcome(6, y, constant=-float(gammaln(y + 1).sum()))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    shape = values["shape"][:, None]
    return rng.poisson(np.exp(np.minimum(eta, _MOST)) * rng.gamma(shape, 1 / shape, eta.shape))


def _residual_variance(values: Values, outcome: Outcome) -> Array:
    """log(1 + 1/lambda + 1/shape) at the mean count lambda of the data, of log counts.

    Nakagawa, Johnson & Schielzeth (2017), Journal of the Royal Society Interface 14, 20170213,
    table 1, log-normal approximation.
    """
    return np.asarray(np.log1p(1 / np.mean(outcome["y"]) + 1 / values["shape"]))


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """Log of each count, half a count added, and its weight at a usual shape."""
    y = outcome["y"] + 0.5
    return np.log(y), 1 / (1 / y + 1 / _USUAL)


def _priors(outcome: Outcome) -> dict[str, Prior]:
    """Gamma (an exponential) of the shape with 95% between 0.25, a coefficient of variation of 2
    beside that of Poisson's, and 37, a coefficient of .16: nearly Poisson.
    """
    return {"shape": Prior("gamma", (1.0, 0.1))}


def _classic_priors(outcome: Outcome) -> dict[str, Prior]:
    return {"shape": Prior("gamma", (0.01, 0.01))}


NEGBINOMIAL = Family(
    name="negbinomial",
    link="log",
    measure="counts",
    outcome_kinds=("plain",),
    intercept=True,
    parameters=(
        Parameter(
            "shape",
            (),
            "positive",
            "shape",
            words="the shape of the negative binomial distribution",
        ),
    ),
    read_outcome=read_counts,
    scale=log_mean,
    widths=log_widths,
    log_likelihood=_log_likelihood,
    mean=mean_count,
    draw=_draw,
    residual_variance=_residual_variance,
    check="counts",
    in_words=("counts (negative binomial, log link)", "the log of the expected count changes"),
    like_residual=(
        "Only the form of the gamma distribution separates them from the overdispersion (shape). "
        "How the variance is divided between {which} and shape depends mostly on the priors. "
        "Coefficients (b_*) are hardly affected."
    ),
    separated="the zeros of `{label}` are separated from the other counts",
    separation="counts",
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="array[J] int<lower=0> y;  // count of each group",
    stan_model="y ~ neg_binomial_2_log(eta, shape);",
    stan_density="neg_binomial_2_log_lpmf(y[j] | eta[j], shape)",
    jags_block=False,
    jags_standard_effects=True,
    jags_model="y[j] ~ dnegbin(p[j], shape)  # mean mu[j], variance mu[j] + mu[j]^2 / shape\n"
    "p[j] <- shape / (shape + mu[j])\nlog(mu[j]) <- eta[j]",
    priors=_priors,
    classic_priors=_classic_priors,
)


def _zero_rate(eta: Array, values: Values) -> ZeroRate:
    """Shape log(1 + mu / shape)."""
    shape, odds = _log_odds(eta, values)
    near = np.maximum(odds, _LEAST_ODDS)
    p, logs = expit(near), -log_expit(-near)
    log_rate = np.where(odds > _LEAST_ODDS, np.log(shape) + np.log(logs), eta)
    return ZeroRate(log_rate, p / logs, p * (1 - p) / logs)


def _draw_positive(eta: Array, values: Values, passed: Array, rng: np.random.Generator) -> Array:
    """The first of a Poisson number of jumps, which are logarithmic, and the count after it.

    Quenouille (1949), Biometrics 5, 162-164.
    """
    shape, odds = _log_odds(eta, values)
    jump = rng.logseries(np.minimum(expit(odds), _MOST_SHARE))
    rest = rng.gamma(shape * (1 - passed)) * np.exp(eta) / shape
    return jump + rng.poisson(rest)


NEGATIVE_BINOMIAL_COUNT = Count(
    NEGBINOMIAL,
    _zero_rate,
    _draw_positive,
    overdispersion=lambda values: 1 / values["shape"],
    jags_log_rate="eta[j] - mu[j] / 2 * (1 + 1 / shape)",
    jags_zero="pow(shape / (shape + mu[j]), shape)",
    jags_log_mass="loggam(y[j] + shape) - loggam(shape) - logfact(y[j])\n"
    "  + shape * log(shape) + y[j] * eta[j] - (y[j] + shape) * log(shape + mu[j])",
    stan_zero="-shape * log1p_exp(eta[j] - log(shape))",
    stan_mass="neg_binomial_2_log_lpmf(y[j] | eta[j], shape)",
)
