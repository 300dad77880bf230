"""Survival times with right censoring, drawn by inversion of the cumulative hazard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.simulation.recipe_errors import RecipeError, check_keys

Array = np.ndarray[Any, Any]

#: Family -> keys of its truth besides the common ones.
SURVIVAL_KEYS = {"weibull": ("censoring",), "cox": ("censoring", "baseline")}

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)
_LOG_RATES = (-60.0, 60.0)  # of censoring, relative to 1 over the mean time


def check_survival(options: Mapping[str, Any]) -> None:
    """Check `censoring` and `baseline`.

    Raises
    ------
    RecipeError
    """
    for key in ("baseline", "censoring"):
        one = options.get(key, {})
        check_keys(f"truth.{key}", one, (), _ALLOWED[key])
        for name, value in one.items():
            if not _positive(value):
                allowed = "Allowed: a positive number."
                raise RecipeError(f"truth.{key}.{name}", f"The value is {value!r}.", allowed)
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


_ALLOWED = {"baseline": ("shape", "rate"), "censoring": ("time", "rate", "share")}


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(np.isfinite(value)) and value > 0


def draw_weibull(
    eta: Array, shape: float, censoring: Mapping[str, float] | None, rng: np.random.Generator
) -> tuple[Array, Array]:
    """(J,) times and events with S(t) = exp(-(t / exp(eta))^shape)."""
    return _drawn(np.exp(eta), shape, censoring or {}, rng)


def draw_cox(
    eta: Array,
    baseline: Mapping[str, float] | None,
    censoring: Mapping[str, float] | None,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """(J,) times and events with S(t) = exp(-rate t^shape exp(eta))."""
    shape, rate = ((baseline or {}).get(name, 1.0) for name in ("shape", "rate"))
    return _drawn(np.exp(-(eta + np.log(rate)) / shape), shape, censoring or {}, rng)


def _drawn(
    scale: Array, shape: float, censoring: Mapping[str, float], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Times min(T, C) and whether T came first, T Weibull and C exponential cut at `time`."""
    times = scale * rng.standard_exponential(len(scale)) ** (1 / shape)
    limit = censoring.get("time", np.inf)
    rate = censoring.get("rate")
    if "share" in censoring:
        rate = censoring_rate(scale, shape, limit, censoring["share"])
    ends = np.full(len(scale), limit)
    if rate is not None:
        ends = np.minimum(ends, rng.standard_exponential(len(scale)) / rate)
    return np.minimum(times, ends), (times <= ends).astype(np.int64)


def censoring_rate(scale: Array, shape: float, limit: float, share: float) -> float:
    """Rate of exponential censoring with an expected share of censored groups.

    The expected share is the mean over the groups at hand of 1 - P(T < C), T ~ Weibull with the
    group's own scale, C ~ Exp(rate) cut at `limit`:
    P(T < C) = integral over p from S(limit) to 1 of exp(-rate S^-1(p)) dp, by Gauss-Legendre.

    Raises
    ------
    RecipeError
        If the limit alone censors more than `share`.
    """
    last = np.exp(-((limit / scale) ** shape))[:, None]
    p = last + (1 - last) * (1 + _NODES) / 2
    times = scale[:, None] * (-np.log(p)) ** (1 / shape)
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
