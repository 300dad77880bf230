"""Residual standard deviations that differ between groups: log sd_j = Z_j b_sigma.

Families with a `sigma_l2`, with ``sigma = "~ 1 + z"``, as brms' distributional models (Bürkner
2018, The R Journal 10, 395-411). Harvey (1976), Econometrica 44, 461-465, has the same model with
the log of the variance, whose coefficients are twice as large. The columns Z are in the outcome's
data, as `X_sigma`: a column of ones, then predictors less their centres `center_sigma`. What
programs sample is `beta_sigma`, whose intercept is at the centres; `b_sigma` has it at 0.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rmm.families.base import Array, Family, KernelOutcome, Outcome, Parameter, Values
from rmm.families.variants.sigma_formula import parse_sigma
from rmm.formula.prior_syntax import Prior

#: The coefficients, and what programs sample in their place.
B_SIGMA, AT_CENTRES = "b_sigma", "beta_sigma"
#: Mean and sd of log |z| for z standard normal: (digamma(1/2) + log 2) / 2 and pi / sqrt(8).
_LOG_HALF_NORMAL = -0.5 * (np.euler_gamma + np.log(2)), np.pi / np.sqrt(8)
#: The same for a standard Cauchy: 0 and pi / 2.
_LOG_HALF_CAUCHY = 0.0, np.pi / 2
_CLASSIC_SCALE = 25.0
_COLUMNS = ("X_sigma", "center_sigma", "K_sigma")  # entries of the outcome


def sds(values: Values, outcome: Outcome) -> Array:
    """Residual standard deviations: (S, 1) of `sigma_l2`, or (S, J) of `b_sigma`."""
    if B_SIGMA not in values:
        return values["sigma_l2"][:, None]
    columns = outcome["X_sigma"] + outcome["center_sigma"]
    return np.asarray(np.exp(values[B_SIGMA] @ columns.T))


def sigma_columns(outcome: Outcome) -> dict[str, Any]:
    """The columns of the log of the residual sd, their centres and number; {} if all have one."""
    return {name: outcome[name] for name in _COLUMNS if name in outcome}


def at_zero(draws: Array, center: Array) -> Array:
    """(S, K) coefficients with the intercept where all predictors are 0, of those at the centres.

    With minus the centres it is the other way round.
    """
    moved = np.array(draws)
    moved[..., 0] -= draws @ center
    return moved


def log_sd_priors(scale: float, columns: Array) -> tuple[Prior, ...]:
    """The weakly informative priors.

    exp(intercept) has about the distribution of an sd whose prior is half-normal: the normal prior
    has the mean and the sd of its log. A standard deviation of a predictor multiplies the residual
    sd by a factor of e^-2 to e^2 in 95% of prior draws.

    Parameters
    ----------
    scale : float
        Of the half-normal prior of a residual sd that is the same for all groups.
    columns : (J, K) array
        Z, its first column the intercept's.
    """
    mean, sd = _LOG_HALF_NORMAL
    first = Prior("normal", (float(np.log(scale) + mean), float(sd)))
    spread = columns[:, 1:].std(axis=0, ddof=1)
    return (first, *(Prior("normal", (0.0, 1 / (float(s) or 1.0))) for s in spread))


def classic_log_sd_priors(count: int) -> tuple[Prior, ...]:
    """Those of R's rmm: the log of a half-Cauchy(25) sd, and dnorm(0, 0.0001) of slopes."""
    mean, sd = _LOG_HALF_CAUCHY
    first = Prior("normal", (float(np.log(_CLASSIC_SCALE) + mean), float(sd)))
    return (first, *(Prior("normal", (0.0, 100.0)) for _ in range(count - 1)))


_STAN_DATA = """
int<lower=1> K_sigma;  // number of coefficients of the log of the residual sd
matrix[J, K_sigma] X_sigma;  // 1, then predictors of the log of the residual sd, centred
vector[K_sigma] center_sigma;  // their centres, which were subtracted"""
_JAGS_PRECISION = """
precision[j] <- exp(-2 * inprod(X_sigma[j, 1:K_sigma], beta_sigma[1:K_sigma]))  # sd^-2"""


def with_varying_sd(sigma: Any, *, family: Family) -> Family:
    """A family with a formula for the log of its residual standard deviation.

    Parameters
    ----------
    sigma : str
        ``"~ 1 + z"``: group-level columns, and the group size `n`.
    family : Family
        Gaussian, lognormal or student, with the parameter `sigma_l2`.

    Returns
    -------
    Family

    Raises
    ------
    FormulaError
        If this is no such formula.
    """
    known = parse_sigma(sigma)
    count = 1 + len(known.terms)
    b_sigma = Parameter(
        B_SIGMA,
        ("covariate_sigma",),
        "real",
        "log_sd",
        words="the coefficient of the log of the residual standard deviation",
    )
    rest = tuple(p for p in family.parameters if p.name != "sigma_l2")
    return replace(
        family,
        parameters=(b_sigma, *rest),
        sigma=known,
        options={"sigma": known.text},
        normal_sd="",
        kernel=family.kernel and partial(_kernel, known=family.kernel),
        like_residual=(
            "How the variance is divided between {which} and the residual (b_sigma) depends on the "
            "formula of sigma and on the priors. Other coefficients are hardly affected."
        ),
        some_groups=partial(_some_groups, known=family.outcome_of_some),
        stan_data=family.stan_data + _STAN_DATA,
        stan_model=family.stan_model.replace("sigma_l2", f"exp(X_sigma * {AT_CENTRES})"),
        stan_density=family.stan_density.replace("sigma_l2", f"exp(X_sigma[j] * {AT_CENTRES})"),
        jags_model=family.jags_model.replace("pow(sigma_l2, -2)", "precision[j]") + _JAGS_PRECISION,
        example={
            **family.example,
            "X_sigma": np.ones((2, count)),
            "center_sigma": np.zeros(count),
            "K_sigma": count,
        },
    )


def _kernel(outcome: Outcome, known: Any) -> KernelOutcome:
    return replace(known(outcome), sd_columns=outcome["X_sigma"])


def _some_groups(outcome: Outcome, groups: Array, known: Any) -> dict[str, Any]:
    """The outcome of some groups, with the centres of all."""
    rest = known({k: v for k, v in outcome.items() if k not in _COLUMNS}, groups)
    return {**rest, **sigma_columns(outcome), "X_sigma": outcome["X_sigma"][groups]}
