"""Ordered levels: P(y_j <= k) = F(tau_k - eta_j), F the logistic or normal distribution function.

The cumulative model of McCullagh (1980), "Regression models for ordinal data", JRSS B 42, 109-142,
with the sign of R's `polr` and `clmm` and of brms: a positive coefficient moves the outcome to
higher levels. Thresholds tau_1 < ... < tau_(K-1) of K levels take the place of an intercept. A
priori they are K - 1 independent draws of one distribution, sorted: their density is
(K - 1)! times the product of its densities, where they are in order.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_ndtr, logit, ndtr, ndtri

from rmm.errors import DataError, FormulaError, counted, quoted, unknown_name
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
from rmm.formula.prior_syntax import Prior

LINKS = ("logit", "probit")
_LEAST = 3  # levels
_MOST = 50  # levels: more are hardly counted as such
_SHOWN = 8  # levels that a message quotes
_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


# ---- the outcome -------------------------------------------------------------------------------


def _read_outcome(
    label: str, parts: tuple[Array, ...], strata: Array | None, *, stated: bool = False
) -> dict[str, Any]:
    """Codes of the levels, and their labels.

    Parameters
    ----------
    parts : tuple of arrays
        (J,) whole numbers; or (J,) codes from 0 and the (K,) labels of the levels in their order.
    stated : bool
        Whether the user said which levels there are: then nobody needs to have some of them.
    """
    if len(parts) == 1:
        codes, levels = _numbered(label, np.asarray(parts[0], dtype=float))
    else:
        codes, levels = parts
    _check_levels(label, codes, levels, stated)
    return with_levels(codes, levels)


def with_levels(codes: Array, levels: Array) -> dict[str, Any]:
    """The outcome of (J,) codes from 0 of levels; y is a level's own number, or its place from 1.

    Parameters
    ----------
    codes : (J,) int array
    levels : (K,) array

    Returns
    -------
    dict
    """
    numbers = all(isinstance(v, int | np.integer) for v in levels.tolist())
    score = levels.astype(np.int64) if numbers else np.arange(1, len(levels) + 1)
    return {
        "y": score[codes],
        "level": codes.astype(np.int64) + 1,
        "levels": levels,
        "score": score,
        "K_tau": len(levels) - 1,
    }


def _numbered(label: str, y: Array) -> tuple[Array, Array]:
    """Codes and levels of whole numbers without a gap."""
    odd = y[y != np.round(y)]
    if len(odd):
        raise DataError(
            f"The outcome `{label}` must be levels: whole numbers, or an ordered category. "
            f"{counted(len(odd), 'group has', 'groups have')} another number, such as {odd[0]:g}. "
            "For a measured outcome use family 'gaussian'."
        )
    low, high = int(y.min()), int(y.max())
    if high - low >= _MOST:
        raise DataError(
            f"The outcome `{label}` has whole numbers from {low} to {high}. Family 'ordinal' takes "
            f"at most {_MOST} levels. For counts use family 'poisson'; for a measured outcome "
            "'gaussian'."
        )
    return (y - low).astype(np.int64), np.arange(low, high + 1)


def _check_levels(label: str, codes: Array, levels: Array, stated: bool) -> None:
    """Every level must be there, unless the user stated them, and three at least."""
    count = np.bincount(codes, minlength=len(levels))
    there = [str(levels[k]) for k in np.flatnonzero(count)]
    if len(there) == 1:
        raise DataError(
            f"The outcome `{label}` is {there[0]} in every group, so there is nothing to explain. "
            "Check the name of the column."
        )
    absent = [str(levels[k]) for k in np.flatnonzero(count == 0)]
    if absent and not stated:
        raise DataError(
            f"No group has the {'level' if len(absent) == 1 else 'levels'} {_listed(absent)} of "
            f"the outcome `{label}`. Found: {_listed(there)}. If there is no such level, number "
            "the others without a gap, or remove it from the category "
            "(`.cat.remove_unused_categories()`). If there is, state all levels with levels=[...]: "
            "the thresholds beside a level that nobody has then rest on the prior."
        )
    if len(levels) < _LEAST:
        raise DataError(
            f"The outcome `{label}` has only two levels: {_listed(there)}. Family 'ordinal' takes "
            f"{_LEAST} or more. Use family 'binomial' for two: its intercept is minus the "
            "threshold."
        )


def _listed(levels: list[str]) -> str:
    return ", ".join(levels[:_SHOWN]) + ", ..." * (len(levels) > _SHOWN)


def _some_groups(outcome: Outcome, groups: Array) -> dict[str, Any]:
    """The outcome of some groups, with all levels."""
    return {**outcome, "y": outcome["y"][groups], "level": outcome["level"][groups]}


def _new_outcome(
    outcome: Outcome, parts: tuple[Array, ...] | None, strata: Array | None, count: int
) -> dict[str, Any]:
    return {name: outcome[name] for name in ("levels", "score", "K_tau")}


def threshold_labels(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    """Names of the thresholds: the levels on both sides, ``low|medium``."""
    levels = [str(v) for v in outcome["levels"]]
    return {"threshold": tuple(f"{a}|{b}" for a, b in itertools.pairwise(levels))}


def _shares(outcome: Outcome) -> Array:
    """(K - 1,) shares of the outcomes up to each threshold, half a group added to each level."""
    count = np.bincount(outcome["level"] - 1, minlength=outcome["K_tau"] + 1) + 0.5
    return np.asarray(np.cumsum(count)[:-1] / count.sum())


# ---- the likelihood ----------------------------------------------------------------------------


def _limits(eta: Array, values: Values, outcome: Outcome) -> tuple[Array, Array]:
    """(S, J) thresholds below and above each group's level, less eta; infinite at the ends."""
    tau = values["tau"]
    ends = np.full((len(tau), 1), np.inf)
    all_of = np.concatenate([-ends, tau, ends], axis=1)
    level = outcome["level"]
    return all_of[:, level - 1] - eta, all_of[:, level] - eta


def _log_logistic(low: Array, high: Array) -> Array:
    """log(F(high) - F(low)) = log F(high) + log F(-low) + log(1 - exp(low - high))."""
    with np.errstate(divide="ignore"):  # thresholds that are equal leave nothing between them
        return np.asarray(log_expit(high) + log_expit(-low) + np.log(-np.expm1(low - high)))


def _log_normal(low: Array, high: Array) -> Array:
    """log(F(high) - F(low)), both mirrored to the side of 0 on which they keep their digits."""
    flip = low > -high
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    upper = log_ndtr(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(upper + np.log(-np.expm1(log_ndtr(a) - upper)))


_LOG_SHARE = {"logit": _log_logistic, "probit": _log_normal}
_CDF = {"logit": expit, "probit": ndtr}
_QUANTILE = {"logit": logit, "probit": ndtri}


def _log_likelihood(eta: Array, values: Values, outcome: Outcome, link: str) -> Array:
    return _LOG_SHARE[link](*_limits(eta, values, outcome))


def _curvature(eta: Array, values: Values, outcome: Outcome, link: str) -> Curvature:
    """The log likelihood is concave in eta: Burridge (1981), JRSS B 43, 41-45."""
    low, high = _limits(eta, values, outcome)
    each = _LOG_SHARE[link](low, high)
    if link == "logit":
        below, above = expit(low), expit(-high)
        gradient, weight = below - above, below * (1 - below) + above * (1 - above)
    else:
        ratios = [_ratio(x, each) for x in (low, high)]
        gradient = ratios[0] - ratios[1]
        drop = [np.where(r > 0, x, 0.0) * r for x, r in zip((low, high), ratios, strict=True)]
        weight = gradient**2 - drop[0] + drop[1]
    return Curvature(each.sum(axis=1), gradient, weight)


def _ratio(x: Array, log_share: Array) -> Array:
    """Normal density at a limit over the probability between both; 0 at an infinite limit."""
    return np.asarray(np.exp(-0.5 * x**2 - _HALF_LOG_2PI - log_share))


def probabilities(eta: Array, values: Values, outcome: Outcome, link: str) -> Array:
    """(S, J, K) probabilities of the levels.

    Parameters
    ----------
    eta : (S, J) array
    values : mapping
    outcome : mapping
    link : {"logit", "probit"}
    """
    tau = values["tau"]
    up_to = _CDF[link](tau[:, None, :] - eta[:, :, None])
    ends = np.ones((*eta.shape, 1))
    return np.diff(np.concatenate([0 * ends, up_to, ends], axis=2), axis=2)


def _mean(eta: Array, values: Values, outcome: Outcome, link: str) -> Array:
    """Expected number of the level: its own, or its place from 1."""
    return np.asarray(probabilities(eta, values, outcome, link) @ outcome["score"].astype(float))


def _draw(
    eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator, link: str
) -> Array:
    """Numbers of levels: how many thresholds a latent eta + noise exceeds."""
    shape = eta.shape
    noise = rng.logistic(size=shape) if link == "logit" else rng.standard_normal(shape)
    above = (eta + noise)[:, :, None] > values["tau"][:, None, :]
    return np.asarray(outcome["score"][above.sum(axis=2)])


def _kernel(outcome: Outcome) -> KernelOutcome:
    level = np.asarray(outcome["level"], dtype=float)
    return KernelOutcome(11, level, categories=int(outcome["K_tau"]) + 1)


# ---- priors ------------------------------------------------------------------------------------


def _widths(outcome: Outcome, link: str) -> Widths:
    """Those of a binomial outcome: a unit of the predictor is one of the log odds, or of probit."""
    sd = {"logit": 1.0, "probit": 0.6}[link]  # the logistic's sd is 1.8 times the normal's
    return Widths(intercept=sd, slope=1.5 * sd, sd=sd)


def _priors(outcome: Outcome, link: str) -> dict[str, Prior]:
    """Sorted draws of F itself: then all probabilities of K levels are equally likely a priori.

    They have the flat Dirichlet distribution where the predictor is 0. A t distribution of 8
    degrees of freedom stands in for the logistic (Albert and Chib 1993, JASA 88, 669-679): its
    distribution function is within .003 of it.
    """
    known = {"logit": Prior("student_t", (8.0, 0.0, 1.6)), "probit": Prior("normal", (0.0, 1.0))}
    return {"tau": known[link]}


def _residual_variance(values: Values, outcome: Outcome, link: str) -> float:
    """Variance of F: pi^2/3, or 1."""
    return float(np.pi**2 / 3) if link == "logit" else 1.0


# ---- the family --------------------------------------------------------------------------------

_STAN_DATA = """int<lower=1> K_tau;  // number of thresholds
array[J] int<lower=1, upper=K_tau + 1> level;  // level of the outcome of each group"""
_JAGS_MODEL = """level[j] ~ dcat(p[j, 1:(K_tau + 1)])
p[j, 1] <- up_to[j, 1]
for (k in 2:K_tau) {{ p[j, k] <- up_to[j, k] - up_to[j, k - 1] }}
p[j, K_tau + 1] <- 1 - up_to[j, K_tau]
for (k in 1:K_tau) {{ up_to[j, k] <- {cdf}(cut[k] - eta[j]) }}  # P(level <= k)"""
_IN_STAN = {"logit": "ordered_logistic", "probit": "ordered_probit"}
_IN_JAGS = {"logit": "ilogit", "probit": "phi"}
_EXAMPLE = with_levels(np.arange(3), np.arange(1, 4))


def Ordinal(link: str = "logit", levels: Any = None) -> Family:
    """Family ``"ordinal"`` with options.

    Parameters
    ----------
    link : {"logit", "probit"}
    levels : list, optional
        The order of the outcome's levels, the lowest first: for texts, and for levels that nobody
        has.

    Returns
    -------
    Family

    Raises
    ------
    FormulaError
        For another link, and for levels that are not three or more different texts or numbers.
    """
    if not isinstance(link, str) or link not in LINKS:
        raise FormulaError(unknown_name(link, "a link of family 'ordinal'", LINKS))
    own = _with_link(link)
    options: dict[str, Any] = {"link": link} if link != "logit" else {}
    if levels is not None:
        options["levels"] = _read_levels(levels)
        own["read_outcome"] = partial(_read_outcome, stated=True)
    return replace(
        ORDINAL,
        options=options,
        in_words=(f"ordered levels (cumulative {link})", _CHANGES[link]),
        **own,
    )


def _read_levels(levels: Any) -> list[Any]:
    """The order of levels that a user states."""
    given = list(levels) if isinstance(levels, list | tuple | np.ndarray) else []
    plain = [v.item() if isinstance(v, np.generic) else v for v in given]
    known = all(isinstance(v, str | int | float) for v in plain)
    if len(plain) < _LEAST or not known or len(set(plain)) < len(plain):
        raise FormulaError(
            f"`levels` must be a list of {_LEAST} or more different texts or numbers, the lowest "
            f"level first, not {quoted(levels)}."
        )
    return plain


def _with_link(link: str) -> dict[str, Any]:
    """What differs between the links."""
    return {
        "widths": partial(_widths, link=link),
        "log_likelihood": partial(_log_likelihood, link=link),
        "mean": partial(_mean, link=link),
        "draw": partial(_draw, link=link),
        "probabilities": partial(probabilities, link=link),
        "residual_variance": partial(_residual_variance, link=link),
        "curvature": partial(_curvature, link=link),
        "kernel": _kernel if link == "logit" else None,
        "priors": partial(_priors, link=link),
        "thresholds": lambda outcome: _QUANTILE[link](_shares(outcome)),
        "stan_model": f"level ~ {_IN_STAN[link]}(eta, cut);",
        "stan_density": f"{_IN_STAN[link]}_lpmf(level[j] | eta[j], cut)",
        "jags_model": _JAGS_MODEL.format(cdf=_IN_JAGS[link]),
    }


_CHANGES = {
    "logit": "the log odds of a higher level change",
    "probit": "the probit of a higher level changes",
}

ORDINAL = Family(
    name="ordinal",
    outcome_kinds=("plain",),
    intercept=False,
    parameters=(Parameter("tau", ("threshold",), "ordered", "threshold"),),
    check="levels",
    read_outcome=_read_outcome,
    scale=lambda outcome: (0.0, 1.0),
    in_words=("ordered levels (cumulative logit)", _CHANGES["logit"]),
    like_residual=(
        "With an outcome of ordered levels, such effects cannot be separated from chance. The data "
        "can estimate the coefficients (b_*) and thresholds (tau) only relative to the total "
        "spread. The posterior of {which} is mostly its prior, and they all grow with {which}. "
        "Predicted probabilities are not affected."
    ),
    separated="the levels of `{label}` are separated in all or some groups",
    separation="ordinal",
    new_outcome=_new_outcome,
    some_groups=_some_groups,
    coords=threshold_labels,
    stan_data=_STAN_DATA,
    jags_block=False,
    jags_standard_effects=True,
    observed=("y",),
    example=_EXAMPLE,
    ordered=True,
    option_names=("link", "levels"),
    configure=Ordinal,
    **_with_link("logit"),
)
