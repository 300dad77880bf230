"""Weibull outcome, accelerated failure time: S(t) = exp(-(t / exp(eta))^shape), right censoring.

With delayed entry (left truncation) a group is observed only if it had no event before its entry:
its likelihood is divided by S(entry), so that the cumulative hazard at the entry is added to its
logarithm (Klein & Moeschberger 2003, "Survival Analysis", 3.4 and 3.5).

Positive coefficients lengthen durations. Stan is the engine for this family: JAGS has a block for
the effects (the likelihood is that of Poisson counts with mean z = (t / exp(eta))^shape, Aitkin
and Clayton 1980, "The fitting of exponential, Weibull and extreme value distributions to complex
censored survival data using GLIM"), but the effects' standard deviations mix slowly there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import gammainc, gammaincc, gammaln, logsumexp

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
from rmm.families.durations import weibull_intervals
from rmm.formula.prior_syntax import Prior

_LOG_SD = np.pi / np.sqrt(6)  # sd of the log of a Weibull time of shape 1
_TINY = 1e-12
ROUNDING = 1e-12  # of a duration
_LEAST_CAUSES = 3  # codes of a status from which on some may be causes, beside the censored
_STATUS_CODES = 10  # more distinct values are no codes of a status
CAUSES = "If they are causes for which groups end, use rmm.competing_risks()."
# Normal approximations: a cumulative hazard of 0 has no logarithm, an sd(log t) of 0 no shape.
LEAST_HAZARD, _LEAST_SD = 1e-3, 0.1


def read_survival(
    label: str, parts: tuple[Array, ...], *, zero: bool = False, entry: bool = False
) -> dict[str, Any]:
    """Durations (J,), events (J,) as 0/1 integers, entries and upper limits (J,) where given.

    Parameters
    ----------
    label : str
    parts : tuple of (J,) arrays
        Durations, events, with `entry` the entries, and upper limits if there are any.
    zero : bool
        Whether durations may be 0.
    entry : bool
        Whether the third part is the time from which each group is observed.

    Raises
    ------
    DataError
        For durations that are not positive, other events than 0 and 1, no event at all, an
        upper limit below the duration, an entry that is negative or not before the duration.
    """
    time, event, *rest = (np.asarray(part, dtype=float) for part in parts)
    wrong = time[~(time >= 0)] if zero else time[~(time > 0)]
    if len(wrong) and not entry:
        hint = "" if zero else " If they are rounded down, add half a unit: I(time + 0.5)."
        raise DataError(
            f"The durations of `{label}` must be {'0 or more' if zero else 'positive'}, but "
            f"{_such_as(wrong)}.{hint}"
        )
    other = event[~np.isin(event, (0, 1))]
    if len(other):
        raise DataError(
            f"The event of `{label}` must be 1 (it happened) or 0 (censored), but "
            f"{_such_as(other)}. {_event_hint(event, other)}"
        )
    if not event.any():
        raise DataError(
            f"No group has an event in `{label}`: every duration is censored, so the data contain "
            "no information on when events happen. Check that 1 means the event and 0 means "
            "censored."
        )
    out = {"time": time, "event": event.astype(np.int64)}
    if entry:
        out["entry"] = _read_entry(label, time, rest.pop(0))
    if rest:
        out["upper"] = _read_upper(label, time, rest[0])
    return out


def _such_as(wrong: Array) -> str:
    return (
        f"{counted(len(wrong), 'group has another', 'groups have other')} "
        f"{'value' if len(wrong) == 1 else 'values'}, such as {wrong[0]:g}"
    )


def _read_entry(label: str, time: Array, entry: Array) -> Array:
    """Times of entry: not negative, and before the end."""
    wrong = entry[~(entry >= 0)]
    if len(wrong):
        raise DataError(
            f"The entry in `{label}` must be 0 or more, but {_such_as(wrong)}. It is the time, "
            "counted from the group's time 0, from which the group is observed: 0 for a group that "
            "is observed from its beginning."
        )
    late = np.flatnonzero(~(entry < time))
    if len(late):
        first = late[0]
        raise DataError(
            f"The entry in `{label}` must be before the end, but "
            f"{counted(len(late), 'group enters', 'groups enter')} at the end or after it: for "
            f"example, the entry is {entry[first]:g} and the end {time[first]:g}. Check the order "
            "of the columns. A spell without length is never at risk: correct it, or leave it out."
        )
    return entry


def _event_hint(event: Array, other: Array) -> str:
    """Codes of a status can be recoded; times in the place of the event cannot."""
    codes = np.unique(event)
    if len(codes) > _STATUS_CODES or (codes != np.round(codes)).any():
        return (
            "These values look like times. If groups are observed from a start to an end, write "
            "Surv(start, stop, event), or Surv(stop, event, entry = start). If the event lies "
            'between the two times, write Surv(lower, upper, type = "interval2") (family weibull).'
        )
    if len(codes) < _LEAST_CAUSES:  # 1 and 2 of R's `lung`: censored and dead
        return f"Recode it, for example I(status == {other[0]:g})."
    shown = ", ".join(f"{code:g}" for code in codes)
    return (
        f"Its codes are {shown}. {CAUSES} For one of them alone recode it, for example "
        f"I(status == {other[0]:g})."
    )


def _read_upper(label: str, time: Array, upper: Array) -> Array:
    """Upper limits, those below the duration by rounding only raised to it."""
    below = ~(upper >= time * (1 - ROUNDING))
    if below.any():
        first = int(np.argmax(below))
        raise DataError(
            f"The upper limit of `{label}` is below the duration in "
            f"{counted(int(below.sum()), 'group')}: for example, the limit is {upper[first]:g} and "
            f"the duration {time[first]:g}. The upper limit must be the longest duration that the "
            "group could have had. A time of entry is written Surv(stop, event, entry = start)."
        )
    return np.maximum(upper, time)


def _read_outcome(
    label: str, parts: tuple[Array, ...], strata: Array | None, *, entry: bool = False
) -> dict[str, Any]:
    out = read_survival(label, parts, entry=entry)
    time = out["time"]
    if np.ptp(time) == 0:
        raise DataError(
            f"All durations of `{label}` are the same ({time[0]:g}), so there is nothing to "
            "explain. Check the name of the column."
        )
    return _with_logs(out)


def _with_logs(known: dict[str, Any]) -> dict[str, Any]:
    events = int(known["event"].sum())
    out = {**known, "log_t": np.log(known["time"]), "n_events": events, "tiny": _TINY}
    return {**out, **_of_entries(out)} if "entry" in known else out


def _of_entries(known: dict[str, Any]) -> dict[str, Any]:
    """What programs and functions need to know of the entries."""
    entry = known["entry"]
    seen, late = np.flatnonzero(known["event"]), np.flatnonzero(entry > 0)
    with np.errstate(divide="ignore"):
        log_before = np.log(entry / known["time"])  # -inf for groups that enter at 0
    return {
        "before": entry / known["time"],
        "log_before": log_before,
        "late": late + 1,
        "n_late": len(late),
        "log_entry": np.log(entry[late]),
        "seen": seen + 1,
        "tiny": np.full(len(seen), _TINY),
    }


def _some_groups(outcome: Outcome, groups: Array) -> dict[str, Any]:
    kept = ("time", "event", "entry", "upper")
    return _with_logs({k: outcome[k][groups] for k in kept if k in outcome})


def _new_outcome(
    outcome: Outcome, parts: tuple[Array, ...] | None, strata: Array | None, count: int
) -> dict[str, Any]:
    """The upper limits of the new groups, where the new table has them."""
    if parts is None or len(parts) < 3:
        return {}
    return {"upper": np.asarray(parts[2], dtype=float)}


def _new_spells(
    outcome: Outcome, parts: tuple[Array, ...] | None, strata: Array | None, count: int
) -> dict[str, Any]:
    """Entries and upper limits of the new groups, where the new table has them."""
    if parts is None:
        return {}
    names = ("entry", "upper")
    return {n: np.asarray(x, dtype=float) for n, x in zip(names, parts[2:], strict=False)}


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Log of total time at risk per event (the estimate of a constant hazard), and sd(log t)."""
    total = (outcome["time"] - outcome.get("entry", 0.0)).sum()
    return float(np.log(total / outcome["event"].sum())), float(np.std(outcome["log_t"], ddof=1))


def _observed(shape: Array, outcome: Outcome) -> Array | float:
    """Share of the cumulative hazard at the end that was run while the group was observed.

    1 - (entry / t)^shape, whatever the linear predictor.
    """
    if "log_before" not in outcome:
        return 1.0
    return np.asarray(-np.expm1(shape * outcome["log_before"]))


def poisson_working(event: Array, expected: Array) -> tuple[Array, Array]:
    """Working response and weight of log z, for the Poisson likelihood of event with mean z.

    At the posterior mean of z where it is gamma with mean `expected` and shape 1.
    """
    z = expected * (event + 1) / (expected + 1)
    return np.log(z) + (event - z) / z, z


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """About the model without predictors: its shape by sd(log t), its scale by likelihood.

    With an entry the Poisson mean is the cumulative hazard that was run since then.

    The likelihood has no maximum in the shape where the only event is the longest duration.
    """
    log_t, event = np.asarray(outcome["log_t"]), np.asarray(outcome["event"], dtype=float)
    shape = _LOG_SD / max(float(np.std(log_t)), _LEAST_SD)
    run = shape * log_t + np.log(_observed(np.asarray(shape), outcome))
    eta = (logsumexp(run) - np.log(event.sum())) / shape
    expected = np.maximum(np.exp(run - shape * eta), LEAST_HAZARD)
    log_z, weight = poisson_working(event, expected)
    return (run - log_z) / shape, shape**2 * weight


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    """Log density where the event was seen, log S(t) where it was not, less log S(entry)."""
    shape = values["shape"][:, None]
    log_z = shape * (outcome["log_t"] - eta)
    density = np.log(shape) - outcome["log_t"] + log_z
    return np.asarray(outcome["event"] * density - np.exp(log_z) * _observed(shape, outcome))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    shape = values["shape"][:, None]
    z = np.exp(shape * (outcome["log_t"] - eta)) * _observed(shape, outcome)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, shape * (z - outcome["event"]), shape**2 * z)


def _kernel(outcome: Outcome) -> KernelOutcome:
    return KernelOutcome(2, outcome["event"], outcome["log_t"], entry=outcome.get("log_before"))


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    """E[T], or E[min(T, upper)]: the integral of S(t) from 0 to the upper limit.

    With an entry it is E[min(T, upper) | T > entry] = entry + the integral from there, over
    S(entry).
    """
    shape = values["shape"][:, None]
    mean = np.exp(eta + gammaln(1 + 1 / shape))
    limit: Array | None = None
    if "upper" in outcome:
        limit = np.exp(shape * (np.log(outcome["upper"]) - eta))
    if "entry" not in outcome:
        return np.asarray(mean if limit is None else mean * gammainc(1 / shape, limit))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        run = np.exp(shape * (np.log(outcome["entry"]) - eta))
        after = gammaincc(1 / shape, run)
        rest = after - (0.0 if limit is None else gammaincc(1 / shape, limit))
        # Far in the tail S(entry) is 0 as a number, and the rest about 1 / hazard.
        rest = np.where(after > 0, mean * rest * np.exp(run), outcome["entry"] / (shape * run))
    return np.asarray(outcome["entry"] + rest)


def _survival(eta: Array, values: Values, outcome: Outcome, time: float) -> Array:
    return np.asarray(np.exp(-np.exp(values["shape"][:, None] * (np.log(time) - eta))))


def _cumulative_hazard(eta: Array, values: Values, outcome: Outcome, times: Array) -> Array:
    """(t / exp(eta))^shape."""
    log_scaled = np.log(times) - eta[:, :, None]
    return np.asarray(np.exp(values["shape"][:, None, None] * log_scaled))


def _median(eta: Array, values: Values) -> Array:
    """The time at which S(t) is 1/2."""
    return np.asarray(np.exp(eta + np.log(np.log(2.0)) / values["shape"][:, None]))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    """Uncensored durations beyond the entry, cut at the upper limit where there is one."""
    log_z = np.log(rng.standard_exponential(eta.shape))
    if "entry" in outcome:
        with np.errstate(divide="ignore"):
            run = values["shape"][:, None] * (np.log(outcome["entry"]) - eta)
        log_z = np.logaddexp(run, log_z)
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


def _for_outcome(kind: str, strata: bool = False) -> Family:
    return {"spell": _SPELLS, "interval": _INTERVALS}.get(kind, WEIBULL)


WEIBULL = Family(
    name="weibull",
    outcome_kinds=("surv", "spell", "interval"),
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
    cumulative_hazard=_cumulative_hazard,
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
    separation="weibull",
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
    stan_density="event[j] * (log(shape) + shape * (log_t[j] - eta[j]) - log_t[j])\n"
    "      - exp(shape * (log_t[j] - eta[j]))",
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
    for_outcome=_for_outcome,
    example=_EXAMPLE,
)

_SPELLS = replace(
    WEIBULL,
    read_outcome=partial(_read_outcome, entry=True),
    observed=("time", "event", "entry"),
    new_outcome=_new_spells,
    stan_data=f"""{WEIBULL.stan_data}
int<lower=0> n_late;  // number of groups that enter after time 0,
array[n_late] int<lower=1, upper=J> late;  // these groups,
vector[n_late] log_entry;  // and the logs of their entries""",
    stan_model="""// Weibull likelihood, with survival function exp(-(t / exp(eta))^shape),
// given that the group had no event before its entry
{
  vector[J] log_cum_hazard = shape * (log_t - eta);
  target += n_events * log(shape) + dot_product(event, log_cum_hazard - log_t)
    - sum(exp(log_cum_hazard)) + sum(exp(shape * (log_entry - eta[late])));
}""",
    stan_density="",
    jags_model="""event[j] ~ dpois(run[j])  # 1: event, 0: censored; Poisson form, see below
log(run[j]) <- shape * (log_t[j] - eta[j]) + log(observed[j])
observed[j] <- 1 - pow(before[j], shape)""",
    jags_outside="""# The outcome is a duration t of a group that is observed from its entry on.
# before is entry / t.
# The cumulative hazard at t is (t / exp(eta))^shape. The group was observed while the share
# `observed` of it was run: run = observed * (t / exp(eta))^shape.
# The likelihood is exp(-run) if t is censored, and otherwise
# (shape / t) * (run / observed) * exp(-run).
# The Poisson density of `event` is the same, but without the factor shape / (t * observed) of each
# event. 1 / t is constant and can be left out. The line with `tiny` multiplies the likelihood by
# shape / observed for each event e, which happens in group seen[e]: it is the density of dexp() at
# a data value so close to 0 that exp(-tiny * shape / observed) is 1.
for (e in 1:n_events) {
  tiny[e] ~ dexp(shape / observed[seen[e]])
}""",
    example=_read_outcome(
        "Surv(t, e, entry = s)",
        (np.array([1.0, 2.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0])),
        None,
        entry=True,
    ),
)

_INTERVALS = replace(
    WEIBULL,
    read_outcome=weibull_intervals.read_intervals,
    observed=("lower", "upper_end"),
    some_groups=weibull_intervals.some_intervals,
    log_likelihood=weibull_intervals.log_likelihood,
    curvature=weibull_intervals.curvature,
    kernel=weibull_intervals.kernel,
    in_words=(
        "durations (Weibull, accelerated failure time, interval-censored)",
        "log time changes",
    ),
    separated="groups of `{label}` without an event, or with an event between 0 and a time, are "
    "separated from the other groups",
    stan_data=weibull_intervals.STAN_DATA,
    stan_model=weibull_intervals.STAN_MODEL,
    stan_density="",
    jags_block=False,  # the block's samplers know no complementary log-log link
    jags_model=weibull_intervals.JAGS_MODEL,
    jags_outside=weibull_intervals.JAGS_OUTSIDE,
    example=weibull_intervals.describe_intervals(np.array([0.0, 1.0]), np.array([1.0, 2.0])),
)
