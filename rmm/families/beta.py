"""Shares between 0 and 1: y_j ~ beta with mean mu_j, logit(mu_j) = eta_j, and precision phi.

The variance is mu_j (1 - mu_j) / (1 + phi). Ferrari & Cribari-Neto (2004), Journal of Applied
Statistics 31, 799-815, of which the gradient and the expected curvature are taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import digamma, expit, gammaln, logit, polygamma

from rmm.errors import DataError
from rmm.families.base import (
    Array,
    Curvature,
    Domain,
    Family,
    KernelOutcome,
    Outcome,
    Parameter,
    Values,
)
from rmm.families.binomial import logit_widths
from rmm.formula.prior_syntax import Prior

_LEAST = 1e-100  # parameter of a beta distribution: below it its functions end
_USUAL = 10.0  # a precision, for a normal approximation


def _of_shares(label: str, values: Array) -> str:
    if np.max(values) > 1 and np.min(values) > 0 and np.max(values) < 100:
        return f"If these are percentages, give shares: I({label}/100)."
    if ((values >= 0) & (values <= 1)).all():
        return (
            "A beta distribution gives 0 and 1 no density. Of successes out of a known number of "
            'trials give both counts, with family "binomial": cbind(successes, failures).'
        )
    return "Check the column."


def _read_outcome(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    y = np.asarray(parts[0], dtype=float)
    if np.ptp(y) == 0:
        raise DataError(
            f"The outcome `{label}` is the same in every group ({y[0]:g}), so there is nothing to "
            "explain. Check the name of the column."
        )
    return {"y": y}


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Logit of the mean share, and the sd of the logits."""
    y = outcome["y"]
    return float(logit(np.mean(y))), float(np.std(logit(y), ddof=1))


def _parts(eta: Array, values: Values) -> tuple[Array, Array, Array, Array]:
    """(S, 1) phi, (S, J) derivative of phi mu in eta, and the distribution's two parameters."""
    phi, mu, rest = values["phi"][:, None], expit(eta), expit(-eta)
    return phi, phi * mu * rest, np.maximum(phi * mu, _LEAST), np.maximum(phi * rest, _LEAST)


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    phi, _, a, b = _parts(eta, values)
    y = outcome["y"]
    ways = gammaln(phi) - gammaln(a) - gammaln(b)
    return np.asarray(ways + (a - 1) * np.log(y) + (b - 1) * np.log1p(-y))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    """With the expected curvature: the likelihood is not log-concave in eta."""
    _, slope, a, b = _parts(eta, values)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    gradient = slope * (logit(outcome["y"]) - digamma(a) + digamma(b))
    return Curvature(total, gradient, slope**2 * (polygamma(1, a) + polygamma(1, b)))


def _kernel(outcome: Outcome) -> KernelOutcome:
    """The logit and log(1 - y) of each share."""
    y = np.asarray(outcome["y"])
    constant = -float(np.sum(np.log(y) + np.log1p(-y)))
    return KernelOutcome(8, logit(y), np.log1p(-y), constant)


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    return np.asarray(expit(eta))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    _, _, a, b = _parts(eta, values)
    return rng.beta(a, b)


def _residual_variance(values: Values, outcome: Outcome) -> Array:
    """Variance of logit(y) where mu is the mean share of the data: exact, two trigamma functions.

    logit(y) is the log of the ratio of two independent gamma variables.
    """
    phi, mu = values["phi"], np.mean(outcome["y"])
    return np.asarray(polygamma(1, phi * mu) + polygamma(1, phi * (1 - mu)))


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """Logits drawn towards that of all groups, and their expected curvature at a usual phi."""
    y = np.asarray(outcome["y"])
    share = (y * _USUAL + np.mean(y)) / (_USUAL + 1)
    spread = share * (1 - share)
    return logit(share), (_USUAL + 1) * spread


def _priors(outcome: Outcome) -> dict[str, Prior]:
    """Half-Cauchy of phi with 95% between 0.8, shares near 0 and 1, and 500, sds of at most .02."""
    return {"phi": Prior("half_cauchy", (20.0,))}


def _classic_priors(outcome: Outcome) -> dict[str, Prior]:
    return {"phi": Prior("gamma", (0.01, 0.01))}


BETA = Family(
    name="beta",
    link="logit",
    measure="density",
    outcome_kinds=("plain",),
    domain=Domain(lambda y: (y > 0) & (y < 1), "be between 0 and 1", _of_shares),
    intercept=True,
    parameters=(
        Parameter("phi", (), "positive", "shape", words="the precision of the beta distribution"),
    ),
    read_outcome=_read_outcome,
    scale=_scale,
    widths=logit_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    residual_variance=_residual_variance,
    in_words=("shares (beta, logit link)", "the logit of the expected share changes"),
    like_residual=(
        "Only the form of the beta distribution separates them from the residual (phi). How the "
        "variance of the logits is divided between {which} and phi depends mostly on the priors."
    ),
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="vector<lower=0, upper=1>[J] y;  // share of each group",
    stan_model="y ~ beta_proportion(inv_logit(eta), phi);  // mean inv_logit(eta)",
    stan_density="beta_proportion_lpdf(y[j] | inv_logit(eta[j]), phi)",
    jags_block=False,
    jags_standard_effects=True,
    jags_model="y[j] ~ dbeta(mu[j] * phi, (1 - mu[j]) * phi)  # mean mu[j], precision phi\n"
    "logit(mu[j]) <- eta[j]",
    priors=_priors,
    classic_priors=_classic_priors,
    example={"y": np.array([0.3, 0.6])},
)
