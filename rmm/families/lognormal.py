"""Positive outcome whose log is normal: log(y_j) ~ N(eta_j, sigma_l2^2).

Programs and engines are those of a gaussian model of log(y). Densities, predictions and checks are
of y itself, so that models of y are comparable whatever their family.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

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
    Widths,
)
from rmm.families.gaussian import GAUSSIAN
from rmm.families.variants.varying_sd import sds, with_varying_sd


def _of_positive(label: str, values: Array) -> str:
    zeros = int(np.sum(values == 0))
    if zeros == int(np.sum(~(values > 0))):
        return (
            "A family of positive outcomes gives 0 no probability. Counts have families of their "
            'own: "poisson" and "negbinomial".'
        )
    return "Check the column: a family of positive outcomes gives such values no probability."


POSITIVE = Domain(lambda values: values > 0, "be positive", _of_positive)


def read_positive(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    """(J,) positive outcomes, and their logs.

    Raises
    ------
    DataError
        If all are the same.
    """
    y = np.asarray(parts[0], dtype=float)
    if np.ptp(y) == 0:
        raise DataError(
            f"The outcome `{label}` is the same in every group ({y[0]:g}), so there is nothing to "
            "explain. Check the name of the column."
        )
    return {"y": y, "log_y": np.log(y)}


def some_positive(outcome: Outcome, groups: Array) -> dict[str, Any]:
    """The outcome of some groups."""
    return {name: outcome[name][groups] for name in ("y", "log_y")}


def _scale(outcome: Outcome) -> tuple[float, float]:
    return float(np.mean(outcome["log_y"])), float(np.std(outcome["log_y"], ddof=1))


def positive_widths(outcome: Outcome) -> Widths:
    """Numbers that keep most prior outcomes within a thousandfold of the data's.

    On the scale of logs a unit is a factor of 2.7, whatever the unit of y. Where logs vary by more
    than that, in units of their sd.
    """
    wide = max(1.0, float(np.std(outcome["log_y"], ddof=1)))
    return Widths(intercept=1.5 * wide, slope=wide, sd=wide)


def _log_jacobian(outcome: Outcome) -> Array:
    """Log of d log(y) / dy, which is -log(y)."""
    return -np.asarray(outcome["log_y"])


def _of_logs(outcome: Outcome) -> dict[str, Any]:
    """The gaussian outcome log(y)."""
    return {**outcome, "y": outcome["log_y"]}


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    normal = GAUSSIAN.log_likelihood(eta, values, _of_logs(outcome))
    return normal + _log_jacobian(outcome)


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    assert GAUSSIAN.curvature is not None
    normal = GAUSSIAN.curvature(eta, values, _of_logs(outcome))
    return replace(normal, value=normal.value + np.sum(_log_jacobian(outcome)))


def _kernel(outcome: Outcome) -> KernelOutcome:
    return KernelOutcome(0, outcome["log_y"], constant=float(np.sum(_log_jacobian(outcome))))


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    """exp(eta + sigma_l2^2 / 2)."""
    return np.asarray(np.exp(eta + sds(values, outcome) ** 2 / 2))


def _median(eta: Array, values: Values) -> Array:
    return np.asarray(np.exp(eta))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return np.asarray(np.exp(GAUSSIAN.draw(eta, values, outcome, rng)))


def _configure(sigma: Any) -> Family:
    return with_varying_sd(sigma, family=LOGNORMAL)


LOGNORMAL = replace(
    GAUSSIAN,
    name="lognormal",
    link="",
    domain=POSITIVE,
    parameters=(
        Parameter(
            "sigma_l2",
            (),
            "positive",
            "sd",
            words="the residual standard deviation of the log of the outcome",
        ),
    ),
    read_outcome=read_positive,
    some_groups=some_positive,
    scale=_scale,
    widths=positive_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    median=_median,
    configure=_configure,
    linear_mean=False,
    log_scale=True,
    draw=_draw,
    in_words=("a positive outcome (log-normal)", "the log of the outcome changes"),
    normal_y="log_y",
    log_jacobian=_log_jacobian,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="vector[J] log_y;  // log of the outcome of each group",
    stan_model="log_y ~ normal(eta, sigma_l2);",
    stan_density="normal_lpdf(log_y[j] | eta[j], sigma_l2)",
    jags_model="log_y[j] ~ dnorm(eta[j], pow(sigma_l2, -2))",
    example={"y": np.array([1.0, 2.0]), "log_y": np.log([1.0, 2.0])},
)
