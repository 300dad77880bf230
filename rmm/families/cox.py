"""Cox's proportional hazards: h(t) = h0(t) exp(eta), right censoring, Breslow ties.

The baseline is a gamma process (Kalbfleisch 1978, "Non-parametric Bayesian analysis of survival
time data"): its increments over the distinct event times, or over `intervals` between quantiles of
the event times, are dH_k ~ Gamma(c dH*_k, c) independently. The guess dH* is the constant hazard
events / total time, and c = 0.001 gives it the weight of a thousandth of a group at risk: the data
decide. Given eta the increments are Gamma(c dH*_k + d_k, c + S_k), with d_k events and
S_k = sum over groups of exposure e_jk times exp(eta_j), so Stan has the baseline integrated out:

    log m(y) = sum over events of eta_j - sum over k of (c dH*_k + d_k) log(c + S_k) + constant.

With delayed entry (left truncation) a group is at risk in the steps after its entry: e_jk is the
share of step k that lies between its entry and its end, and a group that enters at the time of an
event is not at risk there (Andersen & Gill 1982, "Cox's regression model for counting processes").

With `strata()` each stratum has a baseline of its own (Kalbfleisch & Prentice 2002, "The
Statistical Analysis of Failure Time Data", 4.4): a gamma process over its own event times, with its
own guess. The steps of all strata are laid end to end. A group enters at the first step of its
stratum, so that all of the above holds: m(y) is the product of those of the strata.

JAGS samples the increments, with the same posterior. Its likelihood is that of a Poisson count
per group, 0 or 1, with mean exp(eta_j) H(t_j), times (own increment / H(t_j)) per event. Whatever
is constant goes into the baseline, so there is no intercept. H(t_j) is less H(entry) where groups
enter late.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import gammaln

from rmm.errors import BackendError, DataError, FormulaError, quoted
from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Values
from rmm.families.binomial import logit_widths
from rmm.families.weibull import LEAST_HAZARD, poisson_working, read_survival

_TIED, _NEXT_TO_0 = float(np.sqrt(np.finfo(float).eps)), 1e-12
_RATE = 0.001  # c: weight of the guess of the baseline, in groups at risk
_TINY = 1e-300
# Steps of which the curvature consists at most, and groups at risk below which these are all short.
_MERGED, _FEW = 24, 8
_SHOWN = 8  # strata that a message lists
# With late entries: most merged steps, and how often groups at risk leave or enter in `_MERGED`.
_MOST_MERGED, _USUAL_TURNOVER = 96, 4.0


def _read_outcome(
    label: str,
    parts: tuple[Array, ...],
    strata: Array | None,
    *,
    intervals: int | None,
    entry: bool = False,
) -> dict[str, Any]:
    timed = [np.asarray(part, dtype=float) for part in parts]
    if entry:  # a group does not enter before an event at the same time but for rounding
        timed[0], timed[2] = np.split(tie_times(np.concatenate([timed[0], timed[2]])), 2)
    else:
        timed[0] = tie_times(timed[0])
    out = read_survival(label, tuple(timed), zero=intervals is None, entry=entry)
    out.pop("upper", None)
    if strata is None:
        out |= _one_baseline(label, out, intervals)
    else:
        out |= _baseline_of_each(label, out, strata, intervals)
    out = _with_steps(out, smooth=intervals is not None)
    if "enter_at" in out:
        _refuse_single_risks(label, out)
    return out


def _one_baseline(label: str, known: dict[str, Any], intervals: int | None) -> dict[str, Any]:
    """The steps of a baseline, their prior, and where each group leaves and enters."""
    time, event, steps = known["time"], known["event"], intervals is None
    if intervals is None:
        ends = np.unique(time[event == 1])
    else:
        ends = _interval_ends(label, time, event, intervals)
    at, share = _place(time, ends, steps=steps)
    total = (time - known.get("entry", 0.0)).sum()
    guess = event.sum() / (total or len(time)) * _widths(ends)
    out = {"at": at + 1, "share": share, "ends": ends, "prior_dH": _RATE * guess}
    if "entry" in known:
        enter_at, enter_share = _place(known["entry"], ends, steps=steps)
        out |= {"enter_at": enter_at + 1, "enter_share": enter_share}
    return out


def _baseline_of_each(
    label: str, known: dict[str, Any], strata: Array, intervals: int | None
) -> dict[str, Any]:
    """The same with the steps of all strata end to end.

    A group enters at the first step of its stratum, or later. Groups that are never at risk are
    not at risk in the first step of all.
    """
    labels, stratum = np.unique(strata, return_inverse=True)
    count = len(stratum)
    where = {name: np.ones(count, dtype=int) for name in ("at", "enter_at")}
    where |= {name: np.zeros(count) for name in ("share", "enter_share")}
    ends, prior, first = [], [], [0]
    for code, name in enumerate(labels):
        here = np.flatnonzero(stratum == code)
        own = {key: values[here] for key, values in known.items()}
        if not own["event"].any() and intervals is None:  # nobody is ever compared with another
            first.append(first[-1])
            continue
        found = _one_baseline(f"{label}` in stratum `{name}", own, intervals)
        enter_at, enter_share = found.get("enter_at", 1), found.get("enter_share", 0.0)
        at_risk = (found["at"] > enter_at) | (found["share"] > enter_share)
        for key in ("at", "share", "enter_at", "enter_share"):
            values = np.broadcast_to(found.get(key, 1 if key == "enter_at" else 0.0), here.shape)
            move = first[-1] if key in ("at", "enter_at") else 0
            where[key][here[at_risk]] = values[at_risk] + move
        ends.append(found["ends"])
        prior.append(found["prior_dH"])
        first.append(first[-1] + len(found["ends"]))
    return {
        **where,
        "ends": np.concatenate(ends),
        "prior_dH": np.concatenate(prior),
        "stratum": stratum,
        "strata": labels,
        "first_step": np.array(first),
    }


def _steps_of(outcome: Outcome) -> list[slice]:
    """The steps of each baseline: of all, or of each stratum."""
    first = outcome.get("first_step", (0, len(outcome["ends"])))
    return [slice(a, b) for a, b in pairwise(first)]


def _lengths(outcome: Outcome) -> Array:
    """(K,) time between the ends of steps, within strata."""
    ends = outcome["ends"]
    return np.concatenate([np.diff(ends[steps], prepend=0.0) for steps in _steps_of(outcome)])


def _place(time: Array, ends: Array, *, steps: bool) -> tuple[Array, Array]:
    """Last step of the baseline that had begun by each time, and the share of it that was over.

    A baseline of `steps` jumps at their ends: the share is 1, or 0 before the first step.
    """
    if steps:
        at = np.searchsorted(ends, time, side="right") - 1
        return np.maximum(at, 0), (at >= 0).astype(float)
    at = np.minimum(np.searchsorted(ends, time), len(ends) - 1)
    return at, (time - np.r_[0.0, ends][at]) / np.diff(ends, prepend=0.0)[at]


def _refuse_single_risks(label: str, outcome: dict[str, Any]) -> None:
    """Raise `DataError` where no group is ever at risk at the time of another group's event."""
    at_risk = _risk(np.zeros((1, len(outcome["time"]))), {**outcome, "rate_dH": 0.0})[1][0]
    if "exposure" in outcome or (np.round(at_risk) > outcome["counts"]).any():
        return
    if "strata" in outcome and "entry" not in outcome:
        raise DataError(
            f"In `{label}` no other group is at risk in the stratum of any event, so no two can be "
            "compared. Family 'cox' compares groups within strata. Check the columns of strata(): "
            "each stratum should contain several groups."
        )
    raise DataError(
        f"In `{label}` no other group is at risk at the time of any event: every group enters "
        "after the others have ended, so no two can be compared. Family 'cox' learns only from "
        "such comparisons. Check that start and end count from the same event for each group "
        "(its own beginning), not from a date."
    )


def tie_times(time: Array) -> Array:
    """Times with those that differ only by the rounding of their computation made equal.

    Two neighbours are tied where they differ by less than 1.5e-8 of the later one (the root of
    the machine epsilon, as `timefix` of R's survival), or by less than 1e-12 of the median time,
    for times next to 0. Each takes the value of the earliest of its ties.

    Parameters
    ----------
    time : (J,) array

    Returns
    -------
    (J,) array
    """
    if not np.isfinite(time).all():
        return time
    least = _NEXT_TO_0 * float(np.median(np.abs(time)))
    time = np.where(np.abs(time) <= least, 0.0, time)
    distinct = np.unique(time)
    apart = np.diff(distinct) > np.maximum(_TIED * np.abs(distinct[1:]), least)
    first = distinct[np.append(True, apart)]
    return np.asarray(first[np.searchsorted(first, time, side="right") - 1])


def _widths(ends: Array) -> Array:
    """Time between event times, for the guess of the baseline; positive where the first is 0."""
    widths = np.diff(ends, prepend=0.0)
    if widths[0] == 0:
        widths[0] = widths[1:].min() if len(widths) > 1 else 1.0
    return widths


def _with_steps(known: dict[str, Any], *, smooth: bool) -> dict[str, Any]:
    """The outcome with what follows from durations, events and the steps of the baseline."""
    time, event, at = known["time"], known["event"], known["at"] - 1
    steps, seen = len(known["ends"]), np.flatnonzero(event)
    counts = np.bincount(at[seen], minlength=steps)
    out = known | {
        "counts": counts,
        "K_time": steps,
        "shape_dH": known["prior_dH"] + counts,
        "rate_dH": _RATE,
        "n_events": len(seen),
        "seen": seen + 1,
        "one": np.ones(len(seen), dtype=np.int64),
    }
    if "enter_at" in known:
        entered = np.where(known["enter_at"] - 1 == at, known["enter_share"], 0.0)
        out["own_share"] = (known["share"] - entered)[seen]
    if smooth:
        number = np.arange(steps)[:, None]
        exposure = (number < at) + (number == at) * known["share"]
        if "enter_at" in known:
            enter = known["enter_at"] - 1
            exposure = exposure - (number < enter) - (number == enter) * known["enter_share"]
        return {**out, "exposure": exposure}
    ends, entry = known["ends"], known.get("entry")
    if "stratum" in known:  # all on one line, in numbers of steps
        time, ends = known["at"] - 1 + known["share"], np.arange(1, steps + 1)
        entry = known["enter_at"] - 1 + known["enter_share"]
    order = np.argsort(-time, kind="stable")
    at_risk = np.searchsorted(-time[order], -ends, side="right")
    out |= {"by_time": order + 1, "at_risk": at_risk}
    if entry is not None:
        order = np.argsort(-entry, kind="stable")
        waiting = np.searchsorted(-entry[order], -ends, side="right")
        out |= {"by_entry": order + 1, "waiting": waiting + 1}
    return out


def _some_groups(outcome: Outcome, groups: Array) -> dict[str, Any]:
    """The outcome of some groups over the same steps, less those at which none is at risk."""
    names = ("time", "event", "at", "share", "entry", "enter_at", "enter_share", "stratum")
    known = {name: outcome[name][groups] for name in names if name in outcome}
    smooth = "exposure" in outcome
    last = len(outcome["ends"]) if smooth else int(known["at"].max())
    known |= {name: outcome[name][:last] for name in ("ends", "prior_dH")}
    if "stratum" in known:
        known["strata"] = outcome["strata"]
        known["first_step"] = np.minimum(outcome["first_step"], last)
    return _with_steps(known, smooth=smooth)


def _new_outcome(
    outcome: Outcome, parts: tuple[Array, ...] | None, strata: Array | None, count: int
) -> dict[str, Any]:
    known = {"ends": outcome["ends"], "smooth": "exposure" in outcome}
    if "strata" in outcome:
        known |= {"first_step": outcome["first_step"], "strata": outcome["strata"]}
        if strata is not None:
            known["stratum"] = _known_strata(outcome["strata"], strata)
    if "entry" not in outcome or parts is None:
        return known
    return {**known, "entry": np.asarray(parts[2], dtype=float)}


def _known_strata(known: Array, strata: Array) -> Array:
    """(J,) codes of the strata of new groups among those of the fit."""
    place = {label: code for code, label in enumerate(known.tolist())}
    unknown = [label for label in dict.fromkeys(strata.tolist()) if label not in place]
    if unknown:
        shown = [quoted(label) for label in known.tolist()[:_SHOWN]]
        raise DataError(
            f"The new table has the stratum {quoted(unknown[0])}, which was not in the data of the "
            "fit: its baseline hazard is not known. The strata of the fit are: "
            f"{', '.join(shown)}{', ...' * (len(known) > _SHOWN)}. Drop the rows of other strata."
        )
    return np.array([place[label] for label in strata.tolist()], dtype=np.int64)


def _interval_ends(label: str, time: Array, event: Array, intervals: int) -> Array:
    """Ends of the intervals: quantiles of the event times, then the last time."""
    at = np.arange(1, intervals) / intervals
    seen = time[event == 1]
    if len(seen) == 0:
        raise DataError(
            f"`{label}` has no event, so its baseline over intervals is not known. With "
            "`intervals` every stratum needs an event."
        )
    inner = np.unique(np.quantile(seen, at, method="inverted_cdf"))
    inner = inner[inner < seen.max()]
    if len(inner) + 1 < intervals:
        raise DataError(
            f"The {len(seen)} event times of `{label}` are too few, or have too many ties, for "
            f"{intervals} intervals. Set `intervals` to at most {len(inner) + 1}."
        )
    return np.r_[inner, time.max()]


def _scale(outcome: Outcome) -> tuple[float, float]:
    return 0.0, 1.0


def _risk(eta: Array, outcome: Outcome) -> tuple[Array, Array]:
    """Top (S, 1) of the predictors, and (S, K) c + S_k, divided by exp(top)."""
    top = eta.max(axis=1, keepdims=True)
    hazard = np.exp(eta - top)
    if "exposure" in outcome:
        total = hazard @ outcome["exposure"].T
    else:
        total = np.cumsum(hazard[:, outcome["by_time"] - 1], axis=1)[:, outcome["at_risk"] - 1]
        if "enter_at" in outcome:
            waiting = np.cumsum(hazard[:, outcome["by_entry"] - 1], axis=1)
            waiting = np.pad(waiting, [(0, 0), (1, 0)])[:, outcome["waiting"] - 1]
            # At least those who have their event, whatever the rounding of the difference.
            total = np.maximum(total - waiting, _own_risk(hazard, outcome))
    return top, outcome["rate_dH"] * np.exp(-top) + total


def _own_risk(hazard: Array, outcome: Outcome) -> Array:
    """(S, K) sums of the hazards of those who have their event in each step."""
    seen = np.flatnonzero(outcome["event"])
    order = seen[np.argsort(outcome["at"][seen], kind="stable")]
    out = np.zeros((len(hazard), len(outcome["ends"])))
    step, first = np.unique(outcome["at"][order] - 1, return_index=True)
    out[:, step] = np.add.reduceat(hazard[:, order], first, axis=1)
    return out


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    """Return log m(y) - log m(y without group j): exact, with the baseline integrated out.

    With x_jk = e_jk exp(eta_j) / (c + S_k) it is the sum over k of shape_k log(1 - x_jk) and, for
    an event in k, eta_j + log((shape_k - 1) / (c + S_k)) - log(1 - x_jk), where
    shape_k = c dH*_k + d_k. Over intervals the density is per unit of time; otherwise it is the
    mass at the event times of all groups.
    """
    top, total = _risk(eta, outcome)
    hazard, at, event = np.exp(eta - top), outcome["at"] - 1, outcome["event"] == 1
    least = outcome["rate_dH"] * np.exp(-top) / total  # what is left where one group is all
    shape, out = outcome["shape_dH"], np.zeros(eta.shape)
    for k in range(len(shape)):
        exposure = _run_of(k, at, outcome["share"])
        if "enter_at" in outcome:
            exposure = exposure - _run_of(k, outcome["enter_at"] - 1, outcome["enter_share"])
        risk = np.flatnonzero(exposure)
        x = exposure[risk] * hazard[:, risk] / total[:, [k]]
        left = np.log(np.maximum(1 - x, least[:, [k]]))
        own = (event & (at == k))[risk]
        out[:, risk] += (shape[k] - own) * left
    k = at[event]
    out[:, event] += eta[:, event] - top - np.log(total[:, k]) + np.log(shape[k] - 1)
    if "exposure" in outcome:
        out[:, event] -= np.log(_lengths(outcome)[k])
    return out


def _run_of(k: int, at: Array, share: Array) -> Array:
    """(J,) share of step k that is over where the last step begun is `at`."""
    return np.where(at > k, 1.0, np.where(at == k, share, 0.0))


def log_marginal(eta: Array, outcome: Outcome) -> Array:
    """(S,) log m(y): the log likelihood of all groups together, the baseline integrated out."""
    top, total = _risk(eta, outcome)
    shape = outcome["shape_dH"]
    total = shape @ np.log(total).T + shape.sum() * top[:, 0]
    return np.asarray(eta @ outcome["event"] - total + _constant(outcome))


def _constant(outcome: Outcome) -> float:
    """Of `log_marginal`."""
    prior, shape = outcome["prior_dH"], outcome["shape_dH"]
    known = np.sum(prior * np.log(outcome["rate_dH"]) - gammaln(prior) + gammaln(shape))
    if "exposure" in outcome:
        known -= outcome["counts"] @ np.log(_lengths(outcome))
    return float(known)


def _kernel(outcome: Outcome) -> KernelOutcome:
    late = "enter_at" in outcome
    return KernelOutcome(
        4,
        outcome["event"],
        outcome["share"],
        _constant(outcome),
        outcome["at"] - 1,
        outcome["shape_dH"],
        outcome["rate_dH"],
        np.append(_merged_steps(outcome), len(outcome["shape_dH"])),
        entry=outcome["enter_share"] if late else None,
        entered=outcome["enter_at"] - 1 if late else None,
    )


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    """Of `log_marginal`: each step k of the baseline adds shape_k (p_k p_k' - diag(p_k)).

    p_k holds e_jk exp(eta_j) / (c + S_k). The entry of p p' for two groups is h_i h_j times the
    smaller of two sums of a_k = shape_k / (c + S_k)^2 over the steps at risk: the covariance of a
    random walk at two times. More than `_MERGED` steps are merged to at most as many, and the walk
    is interpolated between their ends (Williams & Seeger 2001, "Using the Nystroem method to speed
    up kernel machines", NIPS 13): a group is at risk in a merged step for its share of the sum of
    a_k there. The diagonal stays exact: `weight` contains the difference. What a group that enters
    late has at its end, less what it would have had at its entry, is its own.
    """
    top, total = _risk(eta, outcome)
    hazard, shape, at = np.exp(eta - top), outcome["shape_dH"], outcome["at"] - 1
    each = shape / total
    if "exposure" in outcome:
        expected = hazard * (each @ outcome["exposure"])
    else:
        run = np.cumsum(each, axis=1)
        expected = run[:, at] - each[:, at] * (1 - outcome["share"])
        if "enter_at" in outcome:
            enter = outcome["enter_at"] - 1
            expected -= run[:, enter] - each[:, enter] * (1 - outcome["enter_share"])
        expected = hazard * expected
    first = _merged_steps(outcome)
    merged = np.repeat(np.arange(len(first)), np.diff(first, append=len(shape)))
    amount = each / total
    span = np.add.reduceat(amount, first, axis=1)
    clock = np.cumsum(amount, axis=1) - amount
    clock -= clock[:, first][:, merged]
    clock_of = _Clock(merged, clock, amount, span)
    end = clock_of.place(at, outcome["share"])
    entry: _Moment | None = None
    difference = clock_of.difference(end)
    if "enter_at" in outcome:
        entry = clock_of.place(outcome["enter_at"] - 1, outcome["enter_share"])
        difference = clock_of.difference_between(entry, end)
    left_out = hazard**2 * difference

    def shared(s: int, rows: Array) -> Array:
        place = np.arange(len(first))[:, None]
        at_risk = end.run(place, s)
        if entry is not None:
            at_risk = at_risk - entry.run(place, s)
        return np.asarray((at_risk * hazard[s]) @ rows * np.sqrt(span[s])[:, None])

    value = log_marginal(eta, outcome)
    return Curvature(value, outcome["event"] - expected, expected - left_out, shared)


@dataclass(frozen=True, eq=False)
class _Moment:
    """Where J groups are on the steps of a baseline: at their ends, or at their entries.

    Attributes
    ----------
    at : (J,) int array
        Step.
    step_share : (J,) array
        Share of it that is over.
    own : (J,) int array
        Merged step.
    share : (S, J) array
        Share of the merged step's sum of a_k that is over.
    """

    at: Array
    step_share: Array
    own: Array
    share: Array

    def run(self, place: Array, s: int) -> Array:
        """(merged steps, J) share of each merged step that is over."""
        return np.asarray((place < self.own) + (place == self.own) * self.share[s])


@dataclass(frozen=True, eq=False)
class _Clock:
    """The sums of a_k: `clock` (S, K) within merged steps, `amount` (S, K), `span` of each."""

    merged: Array
    clock: Array
    amount: Array
    span: Array

    def place(self, at: Array, step_share: Array) -> _Moment:
        """The moments of groups from their steps and the shares of these that are over."""
        own, run = self.merged[at], self.clock[:, at] + self.amount[:, at] * step_share
        return _Moment(at, step_share, own, run / np.maximum(self.span, _TINY)[:, own])

    def difference(self, end: _Moment) -> Array:
        """(S, J) sum of a_k e_jk^2, less that of the merged steps, of groups that enter at 0."""
        squared = self.clock[:, end.at] + self.amount[:, end.at] * end.step_share**2
        return np.asarray(squared - end.share**2 * self.span[:, end.own])

    def difference_between(self, entry: _Moment, end: _Moment) -> Array:
        """The same of groups that enter late."""
        # (end - entry)^2 = end^2 - 2 end entry + entry^2 in each step.
        g, x, span = entry.step_share, entry.share, self.span[:, entry.own]
        h = np.where(entry.at < end.at, 1.0, end.step_share)
        share = np.where(entry.own < end.own, 1.0, end.share)
        squared = self.amount[:, entry.at] * (g**2 - 2 * h * g) - self.clock[:, entry.at]
        return np.asarray(self.difference(end) + squared + (2 * share - x) * x * span)


def _merged_steps(outcome: Outcome) -> Array:
    """First step of each merged step: at most `_MERGED`, short where few groups are at risk.

    The error grows with the share of the groups at risk that leave within a merged step, or enter.
    """
    steps = len(outcome["shape_dH"])
    if steps <= _MERGED:
        return np.arange(steps)
    leave = np.bincount(outcome["at"] - 1, minlength=steps)
    if "enter_at" in outcome:  # nobody is at risk in two strata
        first = outcome.get("first_step", np.zeros(1, dtype=int))
        return np.union1d(_merged_by_turnover(outcome, leave), first[first < steps])
    at_risk = np.cumsum(leave[::-1])[::-1]
    length = np.log1p(at_risk / _FEW)
    return np.unique(np.floor(_MERGED * (1 - length / length[0])), return_index=True)[1]


def _merged_by_turnover(outcome: Outcome, leave: Array) -> Array:
    """The same where groups enter late: as long as equal shares of those at risk come and go.

    Where all groups are replaced several times, there are more merged steps.
    """
    enter = np.bincount(outcome["enter_at"] - (outcome["enter_share"] < 1), minlength=len(leave))
    at_risk = leave[::-1].cumsum()[::-1] - (enter.sum() - np.cumsum(enter[: len(leave)]))
    turnover = np.cumsum((leave + np.append(0, enter[1 : len(leave)])) / (at_risk + _FEW))
    most = _MERGED * np.clip(turnover[-1] / _USUAL_TURNOVER, 1, _MOST_MERGED / _MERGED)
    return np.unique(np.floor(most * turnover / turnover[-1] * (1 - 1e-9)), return_index=True)[1]


def cumulative_hazard(
    eta: Array, outcome: Outcome, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draws of the cumulative baseline hazard, for survival curves exp(-H(t) exp(eta)).

    Parameters
    ----------
    eta : (S, J) array
        Linear predictors of the groups of the fit.

    Returns
    -------
    times : (K,) array
        Distinct event times, or ends of the intervals.
    values : (S, K) array
        H at these times, from its exact posterior given eta. Between event times it is constant;
        within intervals it is linear. With strata both are theirs one after the other.
    """
    top, total = _risk(eta, outcome)
    dH = rng.standard_gamma(outcome["shape_dH"], total.shape) / total * np.exp(-top)
    within = [np.cumsum(dH[:, steps], axis=1) for steps in _steps_of(outcome)]
    return outcome["ends"], np.hstack(within)


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    """Hazard relative to a linear predictor of 0, exp(eta); expected times are not identified."""
    return np.exp(eta)


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    """Event times after the entry; infinite where they are beyond what the baseline knows.

    ``outcome["baseline"]``, (S, K) draws of `cumulative_hazard`, serves groups that are not those
    of the fit.
    """
    if "baseline" in outcome:
        ends, baseline = outcome["ends"], outcome["baseline"]
    elif eta.shape[1] == len(outcome.get("time", ())):
        ends, baseline = cumulative_hazard(eta, outcome, rng)
    else:
        raise BackendError(
            "Durations of new groups cannot be predicted, because the baseline hazard is known "
            "only for the groups of the fit. Use kind='mean' to predict relative hazards."
        )
    needed = rng.standard_exponential(eta.shape) * np.exp(-eta)
    smooth = outcome.get("smooth", "exposure" in outcome)
    out = np.full(eta.shape, np.inf)
    for groups, steps in _by_baseline(outcome, eta.shape[1]):
        own, known = ends[steps], baseline[:, steps]
        wanted = needed[:, groups]
        if "entry" in outcome:
            wanted = wanted + _hazard_at(outcome["entry"][groups], own, known, smooth=smooth)
        out[:, groups] = _times_of(wanted, own, known, smooth=smooth)
    return out


def _by_baseline(outcome: Outcome, count: int) -> Iterator[tuple[Array, slice]]:
    """The groups that share a baseline, and its steps."""
    stratum = outcome.get("stratum", np.zeros(count, dtype=int))
    for code, steps in enumerate(_steps_of(outcome)):
        groups = np.flatnonzero(stratum == code)
        if len(groups):
            yield groups, steps


def _times_of(hazard: Array, ends: Array, baseline: Array, *, smooth: bool) -> Array:
    """(S, J) times at which a cumulative baseline hazard reaches some values."""
    out = np.full(hazard.shape, np.inf)
    for s, (wanted, known) in enumerate(zip(hazard, baseline, strict=True)):
        place = np.searchsorted(known, wanted)
        inside = place < len(ends)
        if smooth:
            out[s, inside] = np.interp(wanted[inside], np.r_[0.0, known], np.r_[0.0, ends])
        else:
            out[s, inside] = ends[place[inside]]
    return out


def _hazard_at(time: Array, ends: Array, baseline: Array, *, smooth: bool) -> Array:
    """(S, J) cumulative baseline hazard at J times; after the last step it is known no further."""
    if not len(ends):
        return np.zeros((len(baseline), len(time)))
    at, share = _place(np.minimum(time, ends[-1]), ends, steps=not smooth)
    before = np.pad(baseline, [(0, 0), (1, 0)])
    return np.asarray(before[:, at] + share * (before[:, at + 1] - before[:, at]))


def _baseline(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return cumulative_hazard(eta, outcome, rng)[1]


def _survival(eta: Array, values: Values, outcome: Outcome, time: float) -> Array:
    """P(T > time) = exp(-H(time) exp(eta)), with H of ``outcome["baseline"]``.

    With strata ``outcome["stratum"]`` are those of the groups of `eta`.
    """
    first = float(np.min(outcome.get("entry", 0.0)))
    if time <= first and first > 0:
        raise BackendError(
            f"The survival function at time {time:g} is not known: all groups enter at "
            f"{first:g} or later, so the data contain no information on earlier events. Choose a "
            "later `time`; the survival function is that of groups without an event until "
            f"{first:g}."
        )
    for groups, steps in _by_baseline(outcome, eta.shape[1]):
        ends = outcome["ends"][steps]
        if not len(ends) or time > ends[-1]:
            raise BackendError(_beyond(outcome, groups, ends, time))
    return np.exp(-_cumulative_hazard(eta, values, outcome, np.array([time]))[:, :, 0])


def _cumulative_hazard(eta: Array, values: Values, outcome: Outcome, times: Array) -> Array:
    """H(t) exp(eta), with H of ``outcome["baseline"]``; with strata, those of the groups."""
    hazard = np.empty((*eta.shape, len(times)))
    smooth = outcome.get("smooth", "exposure" in outcome)
    for groups, steps in _by_baseline(outcome, eta.shape[1]):
        ends, known = outcome["ends"][steps], outcome["baseline"][:, steps]
        hazard[:, groups] = _hazard_at(times, ends, known, smooth=smooth)[:, None]
    return hazard * np.exp(eta)[:, :, None]


def _beyond(outcome: Outcome, groups: Array, ends: Array, time: float) -> str:
    """Message of a survival function beyond the end of a baseline."""
    of = "family 'cox'"
    if "strata" in outcome:
        of = f"stratum {quoted(outcome['strata'][outcome['stratum'][groups[0]]])}"
    known = f"ends at {ends[-1]:g}, the last time with data" if len(ends) else "is not known at all"
    return (
        f"The survival function at time {time:g} is not known: the baseline hazard of {of} "
        f"{known}. " + ("Choose an earlier `time`." if len(ends) else "The stratum has no event.")
    )


def _residual_variance(values: Values, outcome: Outcome) -> float:
    """Variance of the log cumulative hazard at the event, a standard Gumbel's pi^2/6."""
    return float(np.pi**2 / 6)


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """About the model without predictors: Poisson counts given Breslow's baseline."""
    top, total = _risk(np.zeros((1, len(outcome["time"]))), outcome)
    steps = outcome["counts"] / total[0] * np.exp(-top[0])
    at = outcome["at"] - 1
    hazard = np.cumsum(steps)[at] - (1 - outcome["share"]) * steps[at]
    if "enter_at" in outcome:
        enter = outcome["enter_at"] - 1
        hazard -= np.cumsum(steps)[enter] - (1 - outcome["enter_share"]) * steps[enter]
    hazard = np.maximum(hazard, LEAST_HAZARD)  # 0 before the first event
    log_mean, weight = poisson_working(outcome["event"], hazard)
    return log_mean - np.log(hazard), weight


def _jags_initial(outcome: Outcome) -> dict[str, Any]:
    """Breslow's increments where all groups are alike."""
    return {"dH": outcome["counts"] / _risk(np.zeros((1, len(outcome["time"]))), outcome)[1][0]}


def Cox(intervals: int | None = None) -> Family:
    """The family ``"cox"``.

    Parameters
    ----------
    intervals : int, optional
        Pieces of a piecewise constant baseline hazard, between quantiles of the event times;
        without it the baseline steps at every distinct event time.

    Returns
    -------
    Family

    Raises
    ------
    FormulaError
        For other numbers of intervals.
    """
    if intervals is None:
        return COX
    if isinstance(intervals, bool) or not isinstance(intervals, int) or intervals < 1:
        raise FormulaError(
            f"`intervals` must be a whole number of at least 1, but is {intervals!r}.",
            hint="Without it, the baseline has a step at every event time.",
        )
    return _family(intervals)


_JAGS_MODEL = """event[j] ~ dpois(mu[j])  # 1: event, 0: censored; Poisson form, see below
log(mu[j]) <- eta[j] + log(cum_hazard[j])
cum_hazard[j] <- cum_dH[at[j]] + share[j] * dH[at[j]]"""
_JAGS_OUTSIDE = """
# ---- cumulative baseline hazard: cum_dH at the starts of the K_time steps, increments dH
# Group j leaves in step at[j]; share[j] is the share of that step in which it was at risk.
cum_dH[1] <- 1.0E-44  # almost 0, which has no logarithm
for (k in 1:K_time) {
  dH[k] ~ dgamma(prior_dH[k], rate_dH)
  cum_dH[k + 1] <- cum_dH[k] + dH[k]
}
# Event e happens in group seen[e]. The Poisson density of `event` has the cumulative baseline
# hazard as a factor for each event. The likelihood has instead the hazard in the event's own step.
# The data `one`, which are all 1, multiply the Poisson density by the ratio of the two.
for (e in 1:n_events) {
  one[e] ~ dbern(share[seen[e]] * dH[at[seen[e]]] / cum_hazard[seen[e]])
}"""

_STAN_DATA = """vector<lower=0, upper=1>[J] event;  // 1: event, 0: censored
int<lower=1> K_time;  // number of steps of the baseline hazard: {what}
{exposure}
// the steps' gamma priors: shapes, to which the numbers of events are added, and rate
vector<lower=0>[K_time] shape_dH;
real<lower=0> rate_dH;"""
_STAN_MODEL = """// likelihood, with the gamma-distributed steps of the baseline integrated out
{{
  // largest predictor: with it taken out, exp() does not overflow
  real top = max(eta);
  // sums of exp(eta - top) over the groups at risk in each step
  {risk}
  target += dot_product(event, eta) - sum(shape_dH) * top
    - dot_product(shape_dH, log(rate_dH * exp(-top) + risk));
}}"""


_JAGS_SPELLS = _JAGS_MODEL.replace(
    "cum_hazard[j] <- cum_dH[at[j]] + share[j] * dH[at[j]]",
    "# run since the group entered; almost 0, not 0, where no event was in between\n"
    "cum_hazard[j] <- cum_dH[at[j]] + share[j] * dH[at[j]]\n"
    "  - (cum_dH[enter_at[j]] + enter_share[j] * dH[enter_at[j]]) + 1.0E-44",
)
_JAGS_SPELLS_OUTSIDE = _JAGS_OUTSIDE.replace(
    "# Group j leaves in step at[j]; share[j] is the share of that step in which it was at risk.",
    "# Group j leaves in step at[j], of which the share share[j] is over then; it enters in step\n"
    "# enter_at[j], of which the share enter_share[j] is over then.",
).replace(
    "one[e] ~ dbern(share[seen[e]] * dH[at[seen[e]]] / cum_hazard[seen[e]])",
    "one[e] ~ dbern(min(1, own_share[e] * dH[at[seen[e]]] / cum_hazard[seen[e]]))",
)


@cache
def _late(intervals: int | None, *, entry: bool, strata: bool) -> Family:
    """The family with delayed entry, or with strata, which enter one after the other."""
    family = _family(intervals)
    data, risk = family.stan_data, family.stan_model
    if intervals is None:
        data = data.replace(
            "// groups at risk in each step",
            "// groups that have not ended before each step\n"
            "array[J] int<lower=1, upper=J> by_entry;  // groups, latest entry first\n"
            "array[K_time] int<lower=1, upper=J + 1> waiting;  // 1 + groups that enter later",
        )
        risk = risk.replace(
            "[at_risk];",
            "[at_risk]\n    - append_row(0, cumulative_sum(exp(eta[by_entry] - top)))[waiting];",
        )
    return replace(
        family,
        read_outcome=partial(_read_outcome, intervals=intervals, entry=entry),
        observed=("time", "event", *(["entry"] if entry else [])),
        stan_data=_with_strata_named(data, "//") if strata else data,
        stan_model=risk,
        jags_model=_JAGS_SPELLS,
        jags_outside=_with_strata_named(_JAGS_SPELLS_OUTSIDE, "#")
        if strata
        else _JAGS_SPELLS_OUTSIDE,
        example=_read_outcome(
            "Surv(t, e, entry = s)",
            (np.array([1.0, 2.0]), np.array([1.0, 1.0]), np.array([0.0, 0.5])),
            None,
            intervals=intervals and 1,
            entry=True,
        ),
    )


def _with_strata_named(text: str, comment: str) -> str:
    """Program text after a word on the order of the steps."""
    return (
        f"{comment} The steps of the baseline are those of the strata, stratum after stratum. A "
        f"group\n{comment} enters at the first step of its stratum, or later.\n{text.lstrip()}"
    )


def _for_outcome(kind: str, strata: bool = False, *, intervals: int | None) -> Family:
    entry = kind == "spell"
    if entry or strata:
        return _late(intervals, entry=entry, strata=strata)
    return _family(intervals)


@cache
def _family(intervals: int | None) -> Family:
    if intervals is None:
        data = _STAN_DATA.format(
            what="distinct event times",
            exposure="array[J] int<lower=1, upper=J> by_time;  // groups, longest duration first\n"
            "array[K_time] int<lower=1, upper=J> at_risk;  // groups at risk in each step",
        )
        risk = "vector[K_time] risk = cumulative_sum(exp(eta[by_time] - top))[at_risk];"
    else:
        data = _STAN_DATA.format(
            what="intervals",
            exposure="matrix<lower=0>[K_time, J] exposure;  // share of each interval at risk",
        )
        risk = "vector[K_time] risk = exposure * exp(eta - top);"
    return Family(
        name="cox",
        outcome_kinds=("surv", "spell"),
        intercept=False,
        parameters=(),
        read_outcome=partial(_read_outcome, intervals=intervals),
        scale=_scale,
        widths=logit_widths,
        log_likelihood=_log_likelihood,
        mean=_mean,
        draw=_draw,
        baseline=_baseline,
        survival=_survival,
        cumulative_hazard=_cumulative_hazard,
        new_outcome=_new_outcome,
        some_groups=_some_groups,
        residual_variance=_residual_variance,
        check="durations",
        takes_strata=True,
        in_words=("durations (Cox proportional hazards)", "the log hazard changes"),
        like_residual=(
            "Only the assumption of proportional hazards separates them from the baseline hazard. "
            "The posterior of {which} is mostly its prior, and all coefficients (b_*) grow with "
            "{which}."
        ),
        separated="the order of all or some events of `{label}` is determined",
        separation="cox",
        working=_working,
        curvature=_curvature,
        kernel=_kernel,
        stan_data=data,
        stan_model=_STAN_MODEL.format(risk=risk),
        jags_standard_effects=True,
        jags_model=_JAGS_MODEL,
        jags_outside=_JAGS_OUTSIDE,
        jags_initial=_jags_initial,
        prior_outcomes=False,
        observed=("time", "event"),
        options={} if intervals is None else {"intervals": intervals},
        option_names=("intervals",),
        configure=Cox,
        for_outcome=partial(_for_outcome, intervals=intervals),
    )


COX = _family(None)
