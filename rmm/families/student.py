"""Student t outcome: y_j = eta_j + sigma_l2 t_j, with t_j of nu degrees of freedom.

Numbers with outliers, which pull the coefficients less than in a gaussian model. Engine laplace
does not take it, since the likelihood is not log-concave (Vanhatalo, Jylanki & Vehtari 2009,
Advances in Neural Information Processing Systems 22, section 3.2). With the expected curvature,
Newton's method did not end within 60 steps where nu was about 1. With the exact one, 0 where it is
negative, it ended at different modes where effects were large beside sigma_l2: up to 11 apart in
the log of the integral.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaln

from rmm.errors import DataError
from rmm.families.base import (
    Array,
    Family,
    Outcome,
    Parameter,
    Values,
    Widths,
)
from rmm.families.variants.varying_sd import sds, with_varying_sd
from rmm.formula.prior_syntax import Prior


def _read_outcome(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    y = np.asarray(parts[0], dtype=float)
    if np.ptp(y) == 0:
        raise DataError(
            f"The outcome `{label}` is the same in every group ({y[0]:g}), so there is nothing to "
            "explain. Check the name of the column."
        )
    return {"y": y}


def _scale(outcome: Outcome) -> tuple[float, float]:
    """The median, and the median distance to it as an sd: outliers do not move them."""
    # Late: half of a second that fits of other families do without.
    from scipy.stats import median_abs_deviation

    y = outcome["y"]
    spread = float(median_abs_deviation(y, scale="normal"))
    return float(np.median(y)), spread or float(np.std(y, ddof=1))


def _widths(outcome: Outcome) -> Widths:
    """2.5 standard deviations of the outcome, of everything."""
    wide = 2.5 * _scale(outcome)[1]
    return Widths(wide, wide, wide)


def _parts(eta: Array, values: Values, outcome: Outcome) -> tuple[Array, Array, Array]:
    """(S, 1) or (S, J) scale, (S, 1) degrees of freedom, (S, J) residuals in scales."""
    scale, nu = sds(values, outcome), values["nu"][:, None]
    return scale, nu, (outcome["y"] - eta) / scale


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    scale, nu, r = _parts(eta, values, outcome)
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * nu) - np.log(scale)
    return np.asarray(constant - (nu + 1) / 2 * np.log1p(r**2 / nu))


def _centre(eta: Array, values: Values, outcome: Outcome) -> Array:
    """The mean where nu is above 1; the median always."""
    return eta


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    scale, nu = sds(values, outcome), values["nu"][:, None]
    return np.asarray(eta + scale * rng.standard_t(np.broadcast_to(nu, eta.shape)))


def _residual_variance(values: Values, outcome: Outcome) -> Array:
    """sigma_l2^2 nu / (nu - 2), or its mean over groups; infinite for nu up to 2."""
    nu = values["nu"]
    more = np.where(nu > 2, nu / np.where(nu > 2, nu - 2, 1.0), np.inf)
    return np.asarray(np.mean(sds(values, outcome) ** 2, axis=1) * more)


def _priors(outcome: Outcome) -> dict[str, Prior]:
    """Gamma of nu with 95% between 2.4 and 56: from wild to nearly normal.

    Juarez & Steel (2010), Journal of Business & Economic Statistics 28, 52-66.
    """
    return {"nu": Prior("gamma", (2.0, 0.1))}


def _configure(sigma: Any) -> Family:
    return with_varying_sd(sigma, family=STUDENT)


STUDENT = Family(
    name="student",
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
            words="the scale of the residual's t distribution (one residual per group)",
        ),
        Parameter(
            "nu",
            (),
            "positive",
            "shape",
            words="the number of degrees of freedom of the residual's t distribution",
        ),
    ),
    read_outcome=_read_outcome,
    scale=_scale,
    widths=_widths,
    log_likelihood=_log_likelihood,
    mean=_centre,
    linear_mean=True,
    draw=_draw,
    residual_variance=_residual_variance,
    in_words=("an outcome with outliers (Student t)", "the outcome changes"),
    like_residual=(
        "Only the form of the t distribution separates them from the residual (sigma_l2, nu). How "
        "the variance is divided between {which} and the residual depends mostly on the priors. "
        "Coefficients (b_*) are hardly affected."
    ),
    stan_data="vector[J] y;  // outcome of each group",
    stan_model="y ~ student_t(nu, eta, sigma_l2);",
    stan_density="student_t_lpdf(y[j] | nu, eta[j], sigma_l2)",
    # A normal outcome given its own precision, which JAGS has exact samplers for.
    jags_model="y[j] ~ dnorm(eta[j], mixing[j] * pow(sigma_l2, -2))  # t, as a mixture of normals\n"
    "mixing[j] ~ dgamma(nu / 2, nu / 2)",
    priors=_priors,
    classic_priors=_priors,
    option_names=("sigma",),
    configure=_configure,
)
