"""Separation: coefficients whose likelihood grows without end, so that their priors bound them.

A direction d of the coefficients of X separates the outcomes if moving along it never makes any of
them less likely, and some more likely:

* binomial: x_j'd >= 0 where all trials succeeded, <= 0 where all failed, 0 otherwise (Albert &
  Anderson 1984, Biometrika 71, 1-10; a linear program finds it: Konis 2007, "Linear programming
  algorithms for detecting separated data in binary logistic regression models", ch. 4).
* condlogit: (x_chosen - x_other)'d >= 0 in every stratum.
* cox: (x_event - x_other)'d >= 0 for all at risk at the time of an event ("monotone likelihood").
* weibull: x_j'd = 0 where the event was seen, >= 0 where it was not: a longer duration still.

Newton's method comes first: where it reaches a maximum there is no such direction, and this takes
a fraction of a millisecond. Of all separating directions the one of the smallest sum of absolute
values is shown, columns scaled alike: it has the fewest coefficients, or nearly so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, sparse

from rmm.design.design import Design
from rmm.design.fixed_effects import FixedEffects
from rmm.families import Family
from rmm.model.spec import INTERCEPT
from rmm.tables.read import Array

_STEPS = 12  # of Newton's method
_FLAT = 1e-7  # gradient at a maximum, per group
_FAR = 12.0  # range of the linear predictor from which on the linear program decides
_NO_PRIOR = 1e-12  # groups at risk that a baseline's prior counts for: it would make a maximum
_MOST_ROWS = 1_000_000  # groups x steps at risk
_MOST_ENTRIES = 5_000_000  # groups x coefficients: beyond it nothing is checked
_SECONDS = 5.0  # of the linear program
_NO_PART = 1e-6  # a coefficient this small has no part in a direction

type Outcome = Mapping[str, Any]
type Rows = Array | sparse.csr_array


@dataclass(frozen=True)
class Cone:
    """Directions d (and auxiliary numbers m) with `rising` (d, m) >= 0 and `still` d = 0.

    Attributes
    ----------
    rising : (R, K + extra) array
    still : (E, K) array
    gain : (K,) array
        A sum of the rows, positive where one of them is.
    extra : int
        Number of the auxiliary variables.
    """

    rising: Rows
    still: Array
    gain: Array
    extra: int = 0


def separating(family: Family, design: Design, fixed: FixedEffects) -> tuple[str, ...]:
    """Coefficients of a direction in which the likelihood never falls.

    Parameters
    ----------
    family : Family
    design : Design
    fixed : FixedEffects

    Returns
    -------
    tuple of str
        Names in `summary()`, without the intercept; empty if the likelihood has a maximum, or
        where the table is too large to look (5 million numbers).
    """
    cone_of, values = CONES.get(family.separation), fixed.values
    if cone_of is None or values.size == 0 or values.size > _MOST_ENTRIES:
        return ()
    intercept = f"b_l2[{INTERCEPT}]"
    if intercept in fixed.labels or not family.intercept:  # constants cancel, or are taken up
        values = np.where(np.ptp(values, axis=0) > 0, values - values.mean(axis=0), values)
    scale = np.abs(values).max(axis=0)
    values = values / np.where(scale > 0, scale, 1.0)
    # With thresholds that stay where they are there may be a maximum where there is none.
    if family.thresholds is None and _has_maximum(family, design, values):
        return ()
    direction = _smallest(cone_of(values, design.outcome))
    names = [fixed.labels[k] for k in np.flatnonzero(np.abs(direction) > _NO_PART)]
    return tuple(name for name in names if name != intercept or len(names) == 1)


def _has_maximum(family: Family, design: Design, values: Array) -> bool:
    """Whether Newton's method finds a maximum of the likelihood of the fixed effects."""
    assert family.curvature is not None
    offset = np.zeros(design.J) if design.offset is None else design.offset
    location = family.scale(design.outcome)[0]
    outcome = design.outcome
    own = family.some_values(outcome)
    if "shape_dH" in outcome:
        outcome = {**outcome, "rate_dH": _NO_PRIOR, "shape_dH": outcome["counts"]}
    b = np.zeros(values.shape[1])
    for _ in range(_STEPS):
        moved = values @ b
        if np.ptp(moved) > _FAR:
            return False
        with np.errstate(over="ignore", invalid="ignore"):  # offsets may be of any size
            at = family.curvature((location + offset + moved)[None], own, outcome)
        if not np.isfinite(at.value).all():
            return False
        gradient = values.T @ at.gradient[0]
        hessian = values.T @ (at.weight[0][:, None] * values)
        if at.shared is not None:
            extra = at.shared(0, values)
            hessian -= extra.T @ extra
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            return False
        if np.abs(gradient).max() < _FLAT * design.J and np.abs(step).max() < 0.01:
            return True
        largest = float(np.abs(values @ step).max())
        b = b + step * min(1.0, 3.0 / max(largest, 1e-300))
    return False


def _smallest(cone: Cone) -> Array:
    """The direction of gain 1 with the smallest sum of absolute values; zeros if there is none."""
    columns = len(cone.gain)
    size = float(np.abs(cone.gain).max(initial=0))
    if size < _NO_PART:  # columns are at most 1: nothing but rounding
        return np.zeros(columns)
    rising = sparse.csr_array(cone.rising)
    slopes, rest = rising[:, :columns], rising[:, columns:]
    still = sparse.csr_array(np.vstack([cone.still, cone.gain[None] / size]))
    none = sparse.csr_array((still.shape[0], cone.extra))
    found = optimize.linprog(
        np.r_[np.ones(2 * columns), np.zeros(cone.extra)],
        A_ub=-sparse.hstack([slopes, -slopes, rest]).tocsr(),
        b_ub=np.zeros(rising.shape[0]),
        A_eq=sparse.hstack([still, -still, none]).tocsr(),
        b_eq=np.r_[np.zeros(len(cone.still)), 1],
        bounds=[(0, None)] * (2 * columns) + [(None, None)] * cone.extra,
        method="highs",
        options={"time_limit": _SECONDS},
    )
    if not found.success:
        return np.zeros(columns)
    return np.asarray(found.x[:columns] - found.x[columns : 2 * columns])


def _binomial(values: Array, outcome: Outcome) -> Cone:
    y = np.asarray(outcome["y"])
    extreme = (y == 0) | (y == np.broadcast_to(outcome.get("trials", 1), y.shape))
    rising = (np.where(y == 0, -1.0, 1.0)[:, None] * values)[extreme]
    return Cone(rising, values[~extreme], rising.sum(axis=0))


def _condlogit(values: Array, outcome: Outcome) -> Cone:
    stratum = np.asarray(outcome["stratum"]) - 1
    y = np.asarray(outcome["y"]) == 1
    chosen = np.zeros(int(outcome["S"]), dtype=int)
    chosen[stratum[y]] = np.flatnonzero(y)
    rising = (values[chosen[stratum]] - values)[~y]
    return Cone(rising, values[:0], rising.sum(axis=0))


def _weibull(values: Array, outcome: Outcome) -> Cone:
    """Groups without an event can last for ever; groups of which no time without is known end at 0.

    The latter are intervals from 0.
    """
    seen = np.asarray(outcome["event"]) == 1
    short = np.asarray(outcome["left"], dtype=int) - 1 if "left" in outcome else np.array([], int)
    rising = np.concatenate([values[~seen], -values[short]])
    seen[short] = False
    return Cone(rising, values[seen], rising.sum(axis=0))


def _cox(values: Array, outcome: Outcome) -> Cone:
    """With m_k, the largest predictor of those at risk in step k of the baseline, beside d.

    m_k >= m_{k+1}; m_k >= x_j'd for those whose last step is k; x_j'd >= m_k for events in k.
    """
    if "enter_at" in outcome:
        return _cox_spells(values, outcome)
    event, inside = np.asarray(outcome["event"]) == 1, np.asarray(outcome["share"]) > 0
    x, at, event = values[inside], (np.asarray(outcome["at"]) - 1)[inside], event[inside]
    steps, columns = int(outcome["K_time"]), values.shape[1]
    own = _indicators(at, steps)
    chain = sparse.diags_array([1.0, -1.0], offsets=[0, 1], shape=(steps - 1, steps))
    rising = sparse.vstack(
        [
            sparse.hstack([sparse.csr_array(-x), own]),
            sparse.hstack([sparse.csr_array(x[event]), -own[event]]),
            sparse.hstack([sparse.csr_array((steps - 1, columns)), chain]),
        ]
    ).tocsr()
    # How far events are above those at risk with them, in sum.
    at_risk = np.cumsum(np.bincount(at, minlength=steps)[::-1])[::-1]
    events = np.cumsum(np.bincount(at[event], minlength=steps))
    return Cone(rising, values[:0], (np.where(event, at_risk[at], 0) - events[at]) @ x, steps)


def _cox_spells(values: Array, outcome: Outcome) -> Cone:
    """With late entries or strata those at risk in a step are no part of those before:
    m_k >= x_j'd for all.

    Nothing is found where that takes more than a million rows.
    """
    event, last = np.asarray(outcome["event"]) == 1, np.asarray(outcome["at"]) - 1
    first = np.asarray(outcome["enter_at"]) - (np.asarray(outcome["enter_share"]) < 1)
    last = np.where(np.asarray(outcome["share"]) > 0, last, -1)
    length, steps = np.maximum(last - first + 1, 0), int(outcome["K_time"])
    if length.sum() > _MOST_ROWS:
        return Cone(values[:0], values[:0], np.zeros(values.shape[1]))
    group = np.repeat(np.arange(len(length)), length)
    step = np.arange(len(group)) - np.repeat(np.cumsum(length) - length, length) + first[group]
    seen = np.flatnonzero(event)
    at_risk = _indicators(step, steps)
    own = _indicators(last[seen], steps)
    rising = sparse.vstack(
        [
            sparse.hstack([sparse.csr_array(-values[group]), at_risk]),
            sparse.hstack([sparse.csr_array(values[seen]), -own]),
        ]
    ).tocsr()
    # How far events are above those at risk with them, in sum.
    count, events = np.bincount(step, minlength=steps), np.bincount(last[seen], minlength=steps)
    gain = count[last[seen]] @ values[seen] - events[step] @ values[group]
    return Cone(rising, values[:0], gain, steps)


def _indicators(column: Array, columns: int) -> sparse.csr_array:
    """One row for each element, with a 1 in its column."""
    rows = np.arange(len(column))
    return sparse.csr_array((np.ones(len(rows)), (rows, column)), shape=(len(rows), columns))


def _counts(values: Array, outcome: Outcome) -> Cone:
    """A mean of 0 is never reached: groups without a count can fall, the others stand still."""
    zero = np.asarray(outcome["y"]) == 0
    return Cone(-values[zero], values[~zero], -values[zero].sum(axis=0))


def _positive_counts(values: Array, outcome: Outcome) -> Cone:
    """As `_counts`, for ones, the least of positive counts; zeros say nothing."""
    y = np.asarray(outcome["y"])
    one = y == 1
    return Cone(-values[one], values[y > 1], -values[one].sum(axis=0))


def _ordinal(values: Array, outcome: Outcome) -> Cone:
    """With the movement m_k of each threshold beside d: m_k >= x_j'd for groups at level k, and
    x_j'd >= m_(k-1). Weighted by their numbers the rows of a threshold sum to what the mean of x is
    higher in level k + 1 than in level k. Levels that nobody has are left out.
    """
    present, level = np.unique(outcome["level"], return_inverse=True)
    level, steps = level + 1, len(present) - 1
    below, above = np.flatnonzero(level <= steps), np.flatnonzero(level > 1)
    own = sparse.csr_array(
        (
            np.r_[np.ones(len(below)), -np.ones(len(above))],
            (np.arange(len(below) + len(above)), np.r_[level[below] - 1, level[above] - 2]),
        ),
        shape=(len(below) + len(above), steps),
    )
    slopes = sparse.csr_array(np.vstack([-values[below], values[above]]))
    gain = values[level == steps + 1].mean(axis=0) - values[level == 1].mean(axis=0)
    return Cone(sparse.hstack([slopes, own]).tocsr(), values[:0], gain, steps)


#: `Family.separation` -> the directions in which the likelihood never falls.
CONES: Mapping[str, Callable[[Array, Outcome], Cone]] = {
    "binomial": _binomial,
    "condlogit": _condlogit,
    "counts": _counts,
    "cox": _cox,
    "ordinal": _ordinal,
    "positive counts": _positive_counts,
    "weibull": _weibull,
}
