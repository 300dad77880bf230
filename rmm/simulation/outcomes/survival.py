"""Survival times with right censoring, drawn by inversion of the cumulative hazard.

With delayed entry a group is seen only if it lasts beyond its entry. Covariates, members and the
time of entry of a group stay; its duration is drawn from those beyond the entry, as if groups were
drawn until one is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from rmm.simulation.outcomes.outcome_model import (
    OutcomeModel,
    Replication,
    Setting,
    linear,
    strata_of,
)
from rmm.simulation.recipe_errors import RecipeError, check_keys

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]
_GUMBEL = np.pi**2 / 6  # variance
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)
_LOG_RATES = (-60.0, 60.0)  # of censoring, relative to 1 over the mean time


def check_survival(options: Mapping[str, Any]) -> None:
    """Check `censoring`, `baseline` and `entry`; whether there are strata is not known here.

    Raises
    ------
    RecipeError
    """
    for key in ("baseline", "censoring", "entry"):
        one = options.get(key, {})
        check_keys(f"truth.{key}", one, (), _ALLOWED[key])
        for name, value in one.items():
            if not _positive(value):
                allowed = "Allowed: a positive number."
                raise RecipeError(f"truth.{key}.{name}", f"The value is {value!r}.", allowed)
    _check_entry(options.get("entry"), options.get("censoring", {}))
    censoring = options.get("censoring", {})
    if "share" in censoring:
        if censoring["share"] >= 1:
            raise RecipeError(
                "truth.censoring.share",
                f"The value is {censoring['share']:g}.",
                "Allowed: a number between 0 and 1.",
            )
        if "rate" in censoring:
            raise RecipeError(
                "truth.censoring",
                "Both `rate` and `share` are given.",
                "With `share`, the rate is computed: leave one of them out.",
            )


def _check_entry(entry: Mapping[str, float] | None, censoring: Mapping[str, float]) -> None:
    if entry is None:
        return
    if entry.get("share", 1) > 1:
        raise RecipeError(
            "truth.entry.share",
            f"The value is {entry['share']:g}.",
            "Allowed: a number above 0, up to 1.",
        )
    if ("time" in entry) == ("rate" in entry):
        raise RecipeError(
            "truth.entry",
            "Both `time` and `rate` are given."
            if "time" in entry
            else "Neither `time` nor `rate` is given.",
            "Give `time` for entries uniform between 0 and it, or `rate` for exponential ones.",
        )
    if "time" in censoring and not entry.get("time", np.inf) <= censoring["time"]:
        raise RecipeError(
            "truth.entry",
            f"Groups could enter after the end of observation, {censoring['time']:g}.",
            "Set `entry.time` to at most `censoring.time`.",
        )


_ALLOWED = {
    "baseline": ("shape", "rate", "spread"),
    "censoring": ("time", "rate", "share"),
    "entry": ("share", "time", "rate"),
}


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(np.isfinite(value)) and value > 0


def draw_weibull(
    eta: Array,
    shape: float,
    censoring: Mapping[str, float] | None,
    rng: np.random.Generator,
    entry: Mapping[str, float] | None = None,
) -> tuple[Array, ...]:
    """(J,) times, events and, with `entry`, entries; S(t) = exp(-(t / exp(eta))^shape)."""
    return _drawn(np.exp(eta), shape, censoring or {}, rng, entry)


def draw_cox(
    eta: Array,
    baseline: Mapping[str, float] | None,
    censoring: Mapping[str, float] | None,
    rng: np.random.Generator,
    entry: Mapping[str, float] | None = None,
    strata: Array | None = None,
) -> tuple[Array, ...]:
    """(J,) times, events and, with `entry`, entries; S(t) = exp(-rate t^shape exp(eta)).

    With `strata` (J,) each stratum has a shape and a rate of its own, whose logs are normal around
    those of `baseline` with its `spread` as sd.
    """
    shape, rate = ((baseline or {}).get(name, 1.0) for name in ("shape", "rate"))
    if strata is not None:
        labels, stratum = np.unique(strata, return_inverse=True)
        spread = (baseline or {})["spread"]
        own = np.exp(spread * rng.standard_normal((2, len(labels))))[:, stratum]
        shape, rate = shape * own[0], rate * own[1]
    return _drawn(np.exp(-(eta + np.log(rate)) / shape), shape, censoring or {}, rng, entry)


def _drawn(
    scale: Array,
    shape: Array | float,
    censoring: Mapping[str, float],
    rng: np.random.Generator,
    entry: Mapping[str, float] | None,
) -> tuple[Array, ...]:
    """Times min(T, C) and whether T came first, T Weibull and C exponential cut at `time`.

    T is beyond the entry: its cumulative hazard is that of the entry and a standard exponential.
    C is exponential from the entry on, which is its law given that it is beyond it.
    """
    start = np.zeros(len(scale)) if entry is None else _entries(len(scale), entry, rng)
    hazard = rng.standard_exponential(len(scale))
    if entry is not None:
        hazard += (start / scale) ** shape
    times = scale * hazard ** (1 / shape)
    limit = censoring.get("time", np.inf)
    rate = censoring.get("rate")
    if "share" in censoring:
        rate = censoring_rate(scale, shape, limit, censoring["share"], start)
    ends = np.full(len(scale), limit)
    if rate is not None:
        ends = np.minimum(ends, start + rng.standard_exponential(len(scale)) / rate)
    drawn = np.minimum(times, ends), (times <= ends).astype(np.int64)
    if entry is None:
        return drawn
    # A group that ends as it enters but for rounding was seen for the shortest time there is.
    return np.maximum(drawn[0], np.nextafter(start, np.inf)), drawn[1], start


def _entries(count: int, entry: Mapping[str, float], rng: np.random.Generator) -> Array:
    """(count,) times of entry: a share of groups enters late, the others at 0."""
    late = rng.random(count) < entry.get("share", 1.0)
    if "rate" in entry:
        return late * rng.standard_exponential(count) / entry["rate"]
    return late * rng.random(count) * entry["time"]


def censoring_rate(
    scale: Array, shape: Array | float, limit: float, share: float, start: Array | float = 0.0
) -> float:
    """Rate of exponential censoring with an expected share of censored groups.

    The expected share is the mean over the groups at hand of 1 - P(T < C), T ~ Weibull with the
    group's own scale, C ~ Exp(rate) cut at `limit`:
    P(T < C) = integral over p from S(limit) to 1 of exp(-rate S^-1(p)) dp, by Gauss-Legendre.
    With a `start` (J,) the time runs from there, and S is that of groups which last beyond it.

    Raises
    ------
    RecipeError
        If the limit alone censors more than `share`.
    """
    start = np.broadcast_to(start, scale.shape)
    run = (start / scale) ** shape
    last = np.exp(run - (limit / scale) ** shape)[:, None]
    p = last + (1 - last) * (1 + _NODES) / 2
    power = 1 / (shape[:, None] if isinstance(shape, np.ndarray) else shape)
    times = scale[:, None] * (run[:, None] - np.log(p)) ** power - start[:, None]
    mass = (1 - last) * _NODE_WEIGHTS / 2

    def censored(log_rate: float) -> float:
        return 1 - float(np.mean(np.sum(mass * np.exp(-np.exp(log_rate) * times), axis=1)))

    alone = float(np.mean(last))
    if alone >= share:
        raise RecipeError(
            "truth.censoring.share",
            f"The share is {share:g}, but censoring at time {limit:g} alone gives an expected "
            f"share of {alone:.3f}.",
            "Raise `time` or `share`.",
        )
    centre = -float(np.mean(np.log(scale)))
    low, high = (centre + bound for bound in _LOG_RATES)
    from scipy.optimize import brentq  # a tenth of a second that most studies do without

    found: float = brentq(lambda x: censored(x) - share, low, high, xtol=1e-10)
    return float(np.exp(found))


def _weibull(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth, options = setting.truth, setting.truth.options
    return draw_weibull(
        eta, truth.parameters["shape"], options.get("censoring"), rng, options.get("entry")
    )


def _cox(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    options = setting.truth.options
    strata = strata_of(setting) if setting.truth.formula.strata else None
    return draw_cox(
        eta, options.get("baseline"), options.get("censoring"), rng, options.get("entry"), strata
    )


def _weibull_median(eta: Array, truth: Truth, time: float | None) -> Array:
    return np.asarray(np.exp(eta) * np.log(2) ** (1 / truth.parameters["shape"]))


def _weibull_mean(eta: Array, truth: Truth, time: float | None) -> Array:
    return np.asarray(np.exp(eta) * special.gamma(1 + 1 / truth.parameters["shape"]))


def _weibull_survival(eta: Array, truth: Truth, time: float | None) -> Array:
    assert time is not None
    return np.exp(-((time / np.exp(eta)) ** truth.parameters["shape"]))


def _cox_survival(eta: Array, truth: Truth, time: float | None) -> Array:
    assert time is not None
    baseline = truth.options.get("baseline") or {}
    hazard = baseline.get("rate", 1.0) * time ** baseline.get("shape", 1.0)
    return np.asarray(np.exp(-hazard * np.exp(eta)))


def _weibull_density(drawn: Replication) -> Array:
    """Density of events, survival function of censored durations, both beyond the entry."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    time, event, *entry = drawn.outcomes.values()
    law = stats.weibull_min(drawn.truth.parameters["shape"], scale=np.exp(drawn.eta))
    at_entry = law.logsf(entry[0]) if entry else 0.0
    return np.where(event == 1, law.logpdf(time), law.logsf(time)) - at_entry


_TIMES = ("surv", "spell")
WEIBULL = OutcomeModel(
    _TIMES,
    _weibull,
    {
        "median": _weibull_median,
        "mean": _weibull_mean,
        "survival": _weibull_survival,
        "linear": linear,
    },
    lambda truth, mean: _GUMBEL / truth.parameters["shape"] ** 2,
    _weibull_density,
    ("censoring", "entry"),
    check_survival,
)
# Without a density: a fit puts a prior of its own on the baseline.
COX = OutcomeModel(
    _TIMES,
    _cox,
    {"survival": _cox_survival, "linear": linear},
    lambda truth, mean: _GUMBEL,
    None,
    ("censoring", "baseline", "entry"),
    check_survival,
)
