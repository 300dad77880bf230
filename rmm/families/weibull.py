"""Weibull outcome, accelerated failure time: S(t) = exp(-(t / exp(eta))^shape), right censoring.

Positive coefficients lengthen durations. Stan is the engine for this family: JAGS has a block for
the effects (the likelihood is that of Poisson counts with mean z = (t / exp(eta))^shape, Aitkin
and Clayton 1980, "The fitting of exponential, Weibull and extreme value distributions to complex
censored survival data using GLIM"), but the effects' standard deviations mix slowly there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammainc, gammaln, logsumexp

from rmm.errors import DataError, counted
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

_LOG_SD = np.pi / np.sqrt(6)  # sd of the log of a Weibull time of shape 1
_TINY = 1e-12
_UPPER_ROUNDING = 1e-12  # of a duration
_STATUS_CODES = 10  # more distinct values are no codes of a status
# Normal approximations: a cumulative hazard of 0 has no logarithm, an sd(log t) of 0 no shape.
LEAST_HAZARD, _LEAST_SD = 1e-3, 0.1


def read_survival(label: str, parts: tuple[Array, ...], *, zero: bool = False) -> dict[str, Any]:
    """Durations (J,), events (J,) as 0/1 integers, and the upper limits (J,) where given.

    Parameters
    ----------
    label : str
    parts : tuple of (J,) arrays
    zero : bool
        Whether durations may be 0.

    Raises
    ------
    DataError
        For durations that are not positive, other events than 0 and 1, no event at all, an
        upper limit below the duration, or a start and an end in place of a duration.
    """
    if len(parts) > 2:
        _refuse_delayed_entry(label, *(np.asarray(part, dtype=float) for part in parts))
    time = np.asarray(parts[0], dtype=float)
    event = np.asarray(parts[1], dtype=float)
    wrong = time[~(time >= 0)] if zero else time[~(time > 0)]
    if len(wrong):
        hint = "" if zero else " If they are rounded down, add half a unit: I(time + 0.5)."
        raise DataError(
            f"The durations of `{label}` must be {'0 or more' if zero else 'positive'}, but "
            f"{counted(len(wrong), 'group has another', 'groups have other')} "
            f"{'value' if len(wrong) == 1 else 'values'}, such as {wrong[0]:g}.{hint}"
        )
    other = event[~np.isin(event, (0, 1))]
    if len(other):
        raise DataError(
            f"The event of `{label}` must be 1 (it happened) or 0 (censored), but "
            f"{counted(len(other), 'group has another', 'groups have other')} "
            f"{'value' if len(other) == 1 else 'values'}, such as {other[0]:g}. "
            + _event_hint(event, other)
        )
    if not event.any():
        raise DataError(
            f"No group has an event in `{label}`: every duration is censored, so the data contain "
            "no information on when events happen. Check that 1 means the event and 0 means "
            "censored."
        )
    out = {"time": time, "event": event.astype(np.int64)}
    if len(parts) > 2:
        out["upper"] = _read_upper(label, time, np.asarray(parts[2], dtype=float))
    return out


_NO_ENTRY = (
    "Delayed entry (left truncation), such as R's Surv(start, stop, event), is not available. Use "
    "Surv(time, event) or Surv(time, event, upper), in which every group is observed from its "
    "time 0."
)


def _event_hint(event: Array, other: Array) -> str:
    """Codes of a status can be recoded; times in the place of the event cannot."""
    codes = np.unique(event)
    if len(codes) > _STATUS_CODES or (codes != np.round(codes)).any():
        return f"These values look like times. {_NO_ENTRY}"
    return f"Recode it, for example I(status == {other[0]:g})."


def _is_coded(values: Array) -> bool:
    """Whether values are two codes of an event: 0 and 1, or 1 and 2."""
    codes = np.unique(values)
    return len(codes) <= 2 and bool(np.isin(codes, (0, 1, 2)).all())


def _refuse_delayed_entry(label: str, start: Array, stop: Array, event: Array) -> None:
    """Raise `DataError` for the start, the end and the event of each spell."""
    coded = [_is_coded(values) for values in (stop, event)]
    if np.isin(stop, (0, 1)).all() or not (coded[1] or ((start < stop).all() and not coded[0])):
        return
    at_zero = bool((start == 0).all())
    raise DataError(
        f"`{label}` has three columns, and the second is not an event (0 or 1). The columns seem "
        f"to be the start, the end and the event of each spell. {_NO_ENTRY} "
        + (
            "All starts are 0 here, so leave the start out."
            if at_zero
            else "Use another package for delayed entry, such as coxph or flexsurv in R. Without "
            "the start, or with stop - start, you would fit a different model."
        )
    )


def _read_upper(label: str, time: Array, upper: Array) -> Array:
    """Upper limits, those below the duration by rounding only raised to it."""
    below = ~(upper >= time * (1 - _UPPER_ROUNDING))
    if below.any():
        first = int(np.argmax(below))
        late = (
            f" Perhaps the third column is an event or a time of entry. {_NO_ENTRY}"
            if below.all() or np.isin(upper, (0, 1)).all()
            else ""
        )
        raise DataError(
            f"The upper limit of `{label}` is below the duration in "
            f"{counted(int(below.sum()), 'group')}: for example, the limit is {upper[first]:g} and "
            f"the duration {time[first]:g}. The upper limit must be the longest duration that the "
            f"group could have had.{late}"
        )
    return np.maximum(upper, time)


def _read_outcome(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    out = read_survival(label, parts)
    time = out["time"]
    if np.ptp(time) == 0:
        raise DataError(
            f"All durations of `{label}` are the same ({time[0]:g}), so there is nothing to "
            "explain. Check the name of the column."
        )
    return _with_logs(out)


def _with_logs(known: dict[str, Any]) -> dict[str, Any]:
    events = int(known["event"].sum())
    return {**known, "log_t": np.log(known["time"]), "n_events": events, "tiny": _TINY}


def _some_groups(outcome: Outcome, groups: Array) -> dict[str, Any]:
    cut = {k: outcome[k][groups] for k in ("time", "event", "upper") if k in outcome}
    return _with_logs(cut)


def _new_outcome(
    outcome: Outcome, parts: tuple[Array, ...] | None, strata: Array | None, count: int
) -> dict[str, Any]:
    """The upper limits of the new groups, where the new table has them."""
    if parts is None or len(parts) < 3:
        return {}
    return {"upper": np.asarray(parts[2], dtype=float)}


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Log of total time per event (the estimate under a constant hazard), and sd(log t)."""
    location = np.log(outcome["time"].sum() / outcome["event"].sum())
    return float(location), float(np.std(outcome["log_t"], ddof=1))


def poisson_working(event: Array, expected: Array) -> tuple[Array, Array]:
    """Working response and weight of log z, for the Poisson likelihood of event with mean z.

    At the posterior mean of z where it is gamma with mean `expected` and shape 1.
    """
    z = expected * (event + 1) / (expected + 1)
    return np.log(z) + (event - z) / z, z


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """About the model without predictors: its shape by sd(log t), its scale by likelihood.

    The likelihood has no maximum in the shape where the only event is the longest duration.
    """
    log_t, event = np.asarray(outcome["log_t"]), np.asarray(outcome["event"], dtype=float)
    shape = _LOG_SD / max(float(np.std(log_t)), _LEAST_SD)
    eta = (logsumexp(shape * log_t) - np.log(event.sum())) / shape
    expected = np.maximum(np.exp(shape * (log_t - eta)), LEAST_HAZARD)
    log_z, weight = poisson_working(event, expected)
    return log_t - log_z / shape, shape**2 * weight


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    """Log density where the event was seen, log S(t) where it was not."""
    shape = values["shape"][:, None]
    log_z = shape * (outcome["log_t"] - eta)
    density = np.log(shape) - outcome["log_t"] + log_z
    return np.asarray(outcome["event"] * density - np.exp(log_z))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    shape = values["shape"][:, None]
    z = np.exp(shape * (outcome["log_t"] - eta))
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, shape * (z - outcome["event"]), shape**2 * z)


def _kernel(outcome: Outcome) -> KernelOutcome:
    return KernelOutcome(2, outcome["event"], outcome["log_t"])


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    """E[T], or E[min(T, upper)]: the integral of S(t) from 0 to the upper limit."""
    shape = values["shape"][:, None]
    mean = np.exp(eta + gammaln(1 + 1 / shape))
    if "upper" not in outcome:
        return np.asarray(mean)
    limit = np.exp(shape * (np.log(outcome["upper"]) - eta))
    return np.asarray(mean * gammainc(1 / shape, limit))


def _survival(eta: Array, values: Values, outcome: Outcome, time: float) -> Array:
    return np.asarray(np.exp(-np.exp(values["shape"][:, None] * (np.log(time) - eta))))


def _median(eta: Array, values: Values) -> Array:
    """The time at which S(t) is 1/2."""
    return np.asarray(np.exp(eta + np.log(np.log(2.0)) / values["shape"][:, None]))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    """Uncensored durations, cut at the upper limit where there is one."""
    log_z = np.log(rng.standard_exponential(eta.shape))
    times = np.exp(eta + log_z / values["shape"][:, None])
    return np.minimum(times, outcome.get("upper", np.inf))


def _residual_variance(values: Values, outcome: Outcome) -> Array:
    """Variance of log T given eta, pi^2 / (6 shape^2)."""
    return np.asarray(_LOG_SD**2 / values["shape"] ** 2)


def _widths(outcome: Outcome) -> Widths:
    """Numbers that keep most prior durations within a thousandfold of their median.

    On the log-time scale a unit is a factor of 2.7, whatever the unit of time. 97% of durations
    do with two covariates of groups, two of members (in threes) and two kinds of effects, 96% with
    four covariates of groups.

    The intercept's location is right for a shape of 1. For others it is off by about
    (1/shape - 1) log(groups/events), and 1/shape - 1 is about 1 a priori: with few events its
    prior is wider. (Of censored data little is seen of the time scale.)
    """
    censored = float(np.log(len(outcome["event"]) / outcome["event"].sum()))
    return Widths(intercept=float(np.hypot(1.5, censored)), slope=1.0, sd=1.0)


def _priors(outcome: Outcome) -> dict[str, Prior]:
    """Gamma of the shape with 95% between 0.3 (a falling hazard) and 5 (nearly fixed durations)."""
    return {"shape": Prior("gamma", (2.4, 1.25))}


def _classic_priors(outcome: Outcome) -> dict[str, Prior]:
    return {"shape": Prior("gamma", (0.01, 0.01))}


_EXAMPLE = _read_outcome("Surv(t, e)", (np.array([1.0, 2.0]), np.array([1.0, 1.0])), None)

WEIBULL = Family(
    name="weibull",
    outcome_kinds=("surv",),
    intercept=True,
    parameters=(
        Parameter(
            "shape",
            (),
            "positive",
            "shape",
            words="the shape of the Weibull distribution",
        ),
    ),
    read_outcome=_read_outcome,
    scale=_scale,
    widths=_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    survival=_survival,
    median=_median,
    log_scale=True,
    new_outcome=_new_outcome,
    some_groups=_some_groups,
    residual_variance=_residual_variance,
    check="durations",
    in_words=("durations (Weibull, accelerated failure time)", "log time changes"),
    like_residual=(
        "Only the form of the Weibull distribution separates them from the residual (shape). How "
        "the variance of log durations is divided between {which} and shape depends mostly on the "
        "priors. Coefficients (b_*) are hardly affected."
    ),
    separated="groups of `{label}` without an event are separated from those with one",
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    stan_data="vector[J] log_t;  // log durations\n"
    "vector<lower=0, upper=1>[J] event;  // 1: event, 0: censored\nint<lower=1> n_events;  // "
    "number of events",
    stan_model="""// Weibull likelihood, with survival function exp(-(t / exp(eta))^shape)
{
  vector[J] log_cum_hazard = shape * (log_t - eta);
  target += n_events * log(shape) + dot_product(event, log_cum_hazard - log_t)
    - sum(exp(log_cum_hazard));
}""",
    jags_standard_effects=True,
    jags_model="event[j] ~ dpois(cum_hazard[j])  # 1: event, 0: censored; Poisson form, see below\n"
    "log(cum_hazard[j]) <- shape * (log_t[j] - eta[j])",
    jags_outside="""# The outcome is a duration t, and cum_hazard is (t / exp(eta))^shape.
# The Weibull likelihood is exp(-cum_hazard) if t is censored, and otherwise
# (shape / t) * cum_hazard * exp(-cum_hazard).
# The Poisson density of `event` is the same, but without the factor shape / t of each event.
# 1 / t is constant and can be left out. One factor `shape` per event is still missing: together,
# shape^n_events. The line with `tiny` multiplies the likelihood by it, because the density of
# dgamma(n_events, shape) at `tiny` is proportional to shape^n_events * exp(-shape * tiny). The
# data value `tiny` is so close to 0 that exp(-shape * tiny) is 1. n_events is the shape parameter
# of this gamma distribution, and `shape`, the shape of the Weibull distribution, is its rate
# parameter.
tiny ~ dgamma(n_events, shape)""",
    priors=_priors,
    classic_priors=_classic_priors,
    observed=("time", "event"),
    example=_EXAMPLE,
)
