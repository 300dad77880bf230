"""Weibull durations whose events are known to lie between two times (interval censoring).

With z(t) = (t / exp(eta))^shape, so that S(t) = exp(-z(t)), and d = z(upper) - z(lower):

* an interval, also one that begins at 0: log(S(lower) - S(upper)) = -z(lower) + log(1 - exp(-d));
* no event until `lower`: -z(lower), which is d = infinity;
* an event at a known time: the log density, whose derivatives in eta are those of d = 0.

With r = d / (exp(d) - 1) the derivative in eta is shape (z(lower) - r), and minus the second
derivative shape^2 (z(lower) + r (d + r - 1)). It is never negative: log T has a log-concave
density, so that the probability of an interval is log-concave in its location (Prékopa 1973).

(Klein & Moeschberger 2003, "Survival Analysis", 3.5; `Surv(type = "interval2")` of R's survival.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.errors import DataError, counted
from rmm.families.base import Array, Curvature, KernelOutcome, Outcome, Values

_LARGE = 700.0  # exp(-d) is 0 as a number beside 1; exp(d) is still finite
_SMALL = 1e-3  # below, differences of d are taken from their series
_TINY = 1e-12


def read_intervals(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    """The outcome of family weibull from lower and upper times.

    Parameters
    ----------
    label : str
    parts : tuple of two (J,) arrays
        Lower times, 0 where nothing is known, and upper times, infinity where no event was seen.
    strata : None

    Returns
    -------
    dict
        See `describe_intervals`.

    Raises
    ------
    DataError
        For times that are negative, exact or infinite where they cannot be, a lower time above
        the upper one, groups of which nothing is known, and tables without any event, or without
        a group that is known to have had no event until some time.
    """
    lower, upper = (np.asarray(part, dtype=float) for part in parts)
    low, high = label.removeprefix("Surv(").split(", ")[:2]
    event = f"If they are a time and an event (1 or 0), write Surv({low}, {high})."
    rounded = "If times are rounded down, add half a unit to both columns."
    _refuse(
        lower < 0,
        lower,
        f"The lower times of `{label}` must be 0 or more",
        "If nothing is known of the time before the upper one, leave the lower time empty, or set "
        "it to 0.",
    )
    _refuse(
        np.isinf(lower),
        lower,
        f"The lower times of `{label}` must be finite",
        f"If no event was seen, set `{low}` to the last time without an event, and leave "
        f"`{high}` empty.",
    )
    _refuse(
        ~(upper > 0),
        upper,
        f"The upper times of `{label}` must be positive",
        f"{event} {rounded}" if np.isin(upper, (0, 1)).all() else rounded,
    )
    wrong = np.flatnonzero(lower > upper)
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"The lower time of `{label}` is above the upper time in "
            f"{counted(len(wrong), 'group')}: for example, the lower time is {lower[first]:g} and "
            f"the upper {upper[first]:g}. Check the order of the columns. {event}"
        )
    unknown = int(((lower == 0) & np.isinf(upper)).sum())
    if unknown:
        raise DataError(
            f"Nothing is known of the event in {counted(unknown, 'group')} of `{label}`: the lower "
            "time is 0 or missing, and the upper time is missing or infinite. Leave these groups "
            "out."
        )
    if np.isinf(upper).all():
        raise DataError(
            f"No group has an event in `{label}`: every upper time is missing or infinite, so the "
            "data contain no information on when events happen."
        )
    if not lower.any():
        raise DataError(
            f"Every lower time of `{label}` is 0 or missing, so the data do not contain a time "
            "until which any group had no event, and durations can be as short as one likes. "
            "Check the order of the columns."
        )
    return describe_intervals(lower, upper)


def _refuse(wrong: Array, values: Array, rule: str, advice: str) -> None:
    found = values[wrong]
    if len(found):
        raise DataError(
            f"{rule}, but {counted(len(found), 'group has another', 'groups have other')} "
            f"{'value' if len(found) == 1 else 'values'}, such as {found[0]:g}. {advice}"
        )


def describe_intervals(lower: Array, upper: Array) -> dict[str, Any]:
    """What programs and functions need to know of intervals.

    Parameters
    ----------
    lower, upper : (J,) arrays
        Equal where the event was seen; `upper` is infinite where none was.

    Returns
    -------
    dict
        ``lower``, ``upper_end``, and their logs; ``log_width``, log(upper / lower); ``time``, a
        typical time of the interval (the middle; its beginning if it has no end) and whether
        there was an ``event``; the groups (from 1) and times of each part of the likelihood.
    """
    known, ended = lower == upper, np.isfinite(upper)
    with np.errstate(divide="ignore"):
        log_lower, log_upper = np.log(lower), np.log(upper)
        log_ratio = np.log1p((upper - lower) / lower)  # log(upper / lower), exact if it is small
    exact = np.flatnonzero(known)
    after = np.flatnonzero(~known & (lower > 0))
    left = np.flatnonzero(ended & (lower == 0))
    between = np.flatnonzero(ended & ~known & (lower > 0))
    time = np.where(ended, lower + (np.where(ended, upper, 0.0) - lower) / 2, lower)
    return {
        "lower": lower,
        "upper_end": upper,
        "log_lower": log_lower,
        "log_upper": log_upper,
        "log_ratio": log_ratio,
        "known": known,
        "time": time,
        "log_t": np.log(time),
        "event": ended.astype(np.int64),
        **_part("exact", exact, log_lower),
        **_part("after", after, log_lower),
        **_part("left", left, log_upper),
        **_part("between", between, log_upper),
        "log_width": log_ratio[between],
        "one_exact": np.ones(len(exact), dtype=np.int64),
        "none_after": np.zeros(len(after), dtype=np.int64),
        "one_left": np.ones(len(left), dtype=np.int64),
        "one_between": np.ones(len(between), dtype=np.int64),
        "tiny": np.full(len(exact), _TINY),
    }


def _part(name: str, groups: Array, log_time: Array) -> dict[str, Any]:
    return {name: groups + 1, f"n_{name}": len(groups), f"log_{name}": log_time[groups]}


def some_intervals(outcome: Outcome, groups: Array) -> dict[str, Any]:
    """The outcome of some groups, by their numbers."""
    return describe_intervals(outcome["lower"][groups], outcome["upper_end"][groups])


def _hazards(eta: Array, shape: Array, outcome: Outcome) -> tuple[Array, Array]:
    """z(lower), and the log of d = z(upper) - z(lower): -inf at known times, inf without an end."""
    run = np.exp(shape * (outcome["log_lower"] - eta))
    with np.errstate(divide="ignore"):
        share = np.log(-np.expm1(-shape * outcome["log_ratio"]))
    return run, shape * (outcome["log_upper"] - eta) + share


def log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    """(S, J) log S(lower), plus log(1 - S(upper) / S(lower)); the log density at known times."""
    shape = values["shape"][:, None]
    run, log_d = _hazards(eta, shape, outcome)
    d = np.exp(np.minimum(log_d, np.log(_LARGE)))
    with np.errstate(divide="ignore", invalid="ignore"):  # of groups of the other kind
        inside = np.where(d < _SMALL, log_d - d / 2 + d**2 / 24, np.log(-np.expm1(-d)))
        density = np.log(shape) - outcome["log_lower"] + shape * (outcome["log_lower"] - eta)
    return np.asarray(np.where(outcome["known"], density, inside) - run)


def curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    """Value and derivatives in eta: see the head of this module."""
    shape = values["shape"][:, None]
    run, log_d = _hazards(eta, shape, outcome)
    d = np.exp(np.minimum(log_d, np.log(_LARGE)))
    with np.errstate(invalid="ignore"):
        r = np.where(d < _SMALL, 1 - d / 2 + d**2 / 12, d / np.expm1(d))
    more = np.where(d < _SMALL, d / 2 + d**2 / 12, d + r - 1)
    total = log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, shape * (run - r), shape**2 * (run + r * more))


def kernel(outcome: Outcome) -> KernelOutcome:
    """For each group what is known: 0 none until a time, 1 at, 2 before, 3 between two times."""
    left, between = outcome["left"] - 1, outcome["between"] - 1
    what, log_time = outcome["known"].astype(float), np.array(outcome["log_lower"])
    width = np.zeros(len(what))
    what[left], log_time[left] = 2, outcome["log_left"]
    what[between], width[between] = 3, outcome["log_width"]
    return KernelOutcome(16, what, log_time, entry=width)


STAN_DATA = """int<lower=0> n_exact;  // number of events at known times,
array[n_exact] int<lower=1, upper=J> exact;  // their groups,
vector[n_exact] log_exact;  // and the logs of these times
int<lower=0> n_after;  // number of other groups that had no event until a time above 0,
array[n_after] int<lower=1, upper=J> after;  // these groups,
vector[n_after] log_after;  // and the logs of these times
int<lower=0> n_left;  // number of groups with an event between 0 and a time,
array[n_left] int<lower=1, upper=J> left;  // these groups,
vector[n_left] log_left;  // and the logs of these times
int<lower=0> n_between;  // number of groups with an event between two times above 0,
array[n_between] int<lower=1, upper=J> between;  // these groups,
vector[n_between] log_between;  // the logs of the second times,
vector<lower=0>[n_between] log_width;  // and the logs of second / first time"""

STAN_MODEL = """// Weibull likelihood, with survival function S(t) = exp(-(t / exp(eta))^shape)
{
  // events at known times: log density
  vector[n_exact] log_cum_hazard = shape * (log_exact - eta[exact]);
  target += n_exact * log(shape) + sum(log_cum_hazard - log_exact) - sum(exp(log_cum_hazard));
  // no event until a time: log S(time)
  target += -sum(exp(shape * (log_after - eta[after])));
  // event before a time: log(1 - S(time))
  target += sum(log1m_exp(-exp(shape * (log_left - eta[left]))));
  // event before the second time, given none until the first: log(1 - S(second) / S(first))
  target += sum(log1m_exp(exp(shape * (log_between - eta[between])) .* expm1(-shape * log_width)));
}"""

JAGS_MODEL = "# the likelihood is below, by what is known of the event"

JAGS_OUTSIDE = """# S(t) = exp(-h(t)), with the cumulative hazard h(t) = (t / exp(eta))^shape.
# Events at known times. Their density is (shape / t) * hazard * exp(-hazard), with the cumulative
# hazard at t. The Poisson density of a 1 is the same without shape / t. 1 / t is constant and can
# be left out. The line with `tiny` multiplies the likelihood by shape: it is the density of dexp()
# at a data value so close to 0 that exp(-tiny * shape) is 1.
for (e in 1:n_exact) {
  one_exact[e] ~ dpois(hazard_exact[e])
  log(hazard_exact[e]) <- shape * (log_exact[e] - eta[exact[e]])
  tiny[e] ~ dexp(shape)
}
# No event until a time: S(time) is the Poisson density of a 0.
for (e in 1:n_after) {
  none_after[e] ~ dpois(hazard_after[e])
  log(hazard_after[e]) <- shape * (log_after[e] - eta[after[e]])
}
# Event between 0 and a time: 1 - S(time).
for (e in 1:n_left) {
  one_left[e] ~ dbern(p_left[e])
  p_left[e] <- 1 - exp(-exp(shape * (log_left[e] - eta[left[e]])))
}
# Event before the second time, given none until the first: 1 - S(second) / S(first).
for (e in 1:n_between) {
  one_between[e] ~ dbern(p_between[e])
  p_between[e] <- 1 - exp(-hazard_between[e] * (1 - exp(-shape * log_width[e])))
  hazard_between[e] <- exp(shape * (log_between[e] - eta[between[e]]))
}"""
