"""Gaussian outcome: y_j ~ N(eta_j, sigma_l2^2), or with a standard deviation for each group."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.errors import DataError
from rmm.families.base import (
    Array,
    Curvature,
    Family,
    KernelOutcome,
    Outcome,
    Parameter,
    Values,
    Widths,
)
from rmm.families.variants.varying_sd import sds, with_varying_sd


def _read_outcome(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    y = np.asarray(parts[0], dtype=float)
    if np.ptp(y) == 0:
        raise DataError(
            f"The outcome `{label}` is the same in every group ({y[0]:g}), so there is nothing to "
            "explain. Check the name of the column."
        )
    return {"y": y}


def _scale(outcome: Outcome) -> tuple[float, float]:
    return float(np.mean(outcome["y"])), float(np.std(outcome["y"], ddof=1))


def _widths(outcome: Outcome) -> Widths:
    """2.5 standard deviations of the outcome, of everything."""
    wide = 2.5 * _scale(outcome)[1]
    return Widths(wide, wide, wide)


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    sd = sds(values, outcome)
    return -0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * ((outcome["y"] - eta) / sd) ** 2


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    precision = sds(values, outcome) ** -2
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, precision * (outcome["y"] - eta), precision)


def _kernel(outcome: Outcome) -> KernelOutcome:
    return KernelOutcome(0, outcome["y"])


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    return eta


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return eta + sds(values, outcome) * rng.standard_normal(eta.shape)


def _residual_variance(values: Values, outcome: Outcome) -> Array:
    """sigma_l2^2, or the mean over groups of their own variances."""
    return np.asarray(np.mean(sds(values, outcome) ** 2, axis=1))


def _configure(sigma: Any) -> Family:
    return with_varying_sd(sigma, family=GAUSSIAN)


GAUSSIAN = Family(
    name="gaussian",
    link="identity",
    measure="density",
    outcome_kinds=("plain",),
    intercept=True,
    parameters=(
        Parameter(
            "sigma_l2",
            (),
            "positive",
            "sd",
            words="the residual standard deviation (one residual per group)",
        ),
    ),
    read_outcome=_read_outcome,
    scale=_scale,
    widths=_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    residual_variance=_residual_variance,
    in_words=("a normal outcome", "the outcome changes"),
    linear_mean=True,
    normal_sd="sigma_l2",
    sds=sds,
    option_names=("sigma",),
    configure=_configure,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="vector[J] y;  // outcome of each group",
    stan_model="y ~ normal(eta, sigma_l2);",
    stan_density="normal_lpdf(y[j] | eta[j], sigma_l2)",
    jags_model="y[j] ~ dnorm(eta[j], pow(sigma_l2, -2))",
)
