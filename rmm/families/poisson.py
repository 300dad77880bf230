"""Counts: y_j ~ Poisson(mu_j), log(mu_j) = eta_j; exposure comes in as offset(log(exposure))."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaln

from rmm.errors import DataError, counted
from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Values, Widths
from rmm.families.zero_counts import Count, ZeroRate

_MOST = 40.0  # log of the largest mean that outcomes are drawn with: numbers of 64 bits end at 43


def read_counts(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    """(J,) counts as integers.

    Raises
    ------
    DataError
        For other numbers, or none but zeros.
    """
    y = np.asarray(parts[0], dtype=float)
    odd = y[(y < 0) | (y != np.round(y))]
    if len(odd):
        hint = ""
        if (odd > 0).any():
            hint = (
                " Of a rate give the count, and what it was divided by in the formula, as "
                "offset(log(exposure))."
            )
        raise DataError(
            f"The outcome `{label}` must be counts: whole numbers from 0. "
            f"{counted(len(odd), 'group has', 'groups have')} another value, such as {odd[0]:g}."
            f"{hint}"
        )
    if not y.any():
        raise DataError(
            f"The outcome `{label}` is 0 in every group, so there is nothing to explain. Check the "
            "name of the column."
        )
    return {"y": y.astype(np.int64)}


def log_mean(outcome: Outcome) -> tuple[float, float]:
    """Log of the mean count, half a count added, and 1."""
    y = outcome["y"]
    return float(np.log((np.sum(y) + 0.5) / len(y))), 1.0


def log_widths(outcome: Outcome) -> Widths:
    """Numbers that keep most prior means within a thousandfold of that of the data.

    A unit of the linear predictor is a factor of 2.7. 97% do with two covariates of groups, two of
    members (in threes) and two kinds of effects, as in family weibull.
    """
    return Widths(intercept=1.5, slope=1.0, sd=1.0)


def mean_count(eta: Array, values: Values, outcome: Outcome) -> Array:
    """(S, J) means."""
    return np.asarray(np.exp(eta))


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    y = outcome["y"]
    return np.asarray(y * eta - np.exp(eta) - gammaln(y + 1.0))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    mean = np.exp(eta)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, outcome["y"] - mean, mean)


def _kernel(outcome: Outcome) -> KernelOutcome:
    y = np.asarray(outcome["y"], dtype=float)
    return KernelOutcome(5, y, constant=-float(gammaln(y + 1).sum()))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return rng.poisson(np.exp(np.minimum(eta, _MOST)))


def _residual_variance(values: Values, outcome: Outcome) -> float:
    """log(1 + 1/lambda) at the mean count lambda of the data, of log counts.

    Nakagawa, Johnson & Schielzeth (2017), Journal of the Royal Society Interface 14, 20170213,
    table 1, log-normal approximation.
    """
    return float(np.log1p(1 / np.mean(outcome["y"])))


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """Log of each count and its weight, half a count added.

    McCullagh & Nelder (1989), Generalized Linear Models, 2.5.
    """
    y = outcome["y"] + 0.5
    return np.log(y), y


POISSON = Family(
    name="poisson",
    link="log",
    measure="counts",
    outcome_kinds=("plain",),
    intercept=True,
    parameters=(),
    read_outcome=read_counts,
    scale=log_mean,
    widths=log_widths,
    log_likelihood=_log_likelihood,
    mean=mean_count,
    draw=_draw,
    residual_variance=_residual_variance,
    check="counts",
    in_words=("counts (Poisson, log link)", "the log of the expected count changes"),
    separated="the zeros of `{label}` are separated from the other counts",
    separation="counts",
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="array[J] int<lower=0> y;  // count of each group",
    stan_model="y ~ poisson_log(eta);",
    stan_density="poisson_log_lpmf(y[j] | eta[j])",
    # The glm module of JAGS knows a log link where it sees one. Its auxiliary mixtures for counts
    # have another posterior: of 240 counts with a mean of 4.6 the intercept was off by a quarter of
    # its sd. Behind the product it sees none, and each parameter is sampled by itself.
    jags_block=False,
    jags_standard_effects=True,
    jags_model="y[j] ~ dpois(mu[j])\nmu[j] <- 1 * exp(eta[j])  # the 1 keeps JAGS from a sampler "
    "that is not exact",
)


def _zero_rate(eta: Array, values: Values) -> ZeroRate:
    """The mean itself."""
    return ZeroRate(eta, 1.0, 1.0)


def _draw_positive(eta: Array, values: Values, passed: Array, rng: np.random.Generator) -> Array:
    """The first event of a Poisson process, and those after it."""
    return 1 + rng.poisson(np.exp(eta) * (1 - passed))


POISSON_COUNT = Count(
    POISSON,
    _zero_rate,
    _draw_positive,
    overdispersion=lambda values: 0.0,
    jags_log_rate="eta[j] - mu[j] / 2",
    jags_zero="exp(-mu[j])",
    jags_log_mass="y[j] * eta[j] - mu[j] - logfact(y[j])",
    stan_zero="-exp(eta[j])",
    stan_mass="poisson_log_lpmf(y[j] | eta[j])",
)
