"""What a pilot fit is for: Stan's adaptation, or the length of JAGS's chains.

Stan's pilot (`sampler: {pilot: 500, warmup: 100}`) adapts a metric and a step size, from which all
other fits of the scenario start. The pilot of JAGS (`sampler: {pilot: 1000, ess: 400}`) measures
how many iterations an effective draw takes; all other fits have as many as `ess` effective draws
take. It has a data set of its own, so no fit depends on the length that its own draws suggest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

#: Draws of a pilot that only adapts; rmm.fit needs some.
_FEW = 10
#: Warm-up in iterations per effective draw of the slowest structural parameter. Sokal (1997,
#: "Monte Carlo methods in statistical mechanics") discards 20 autocorrelation times of the
#: exponential kind; with autocorrelation rho^k, n / ESS is about twice that time.
WARMUP = 10
#: The least warm-up: its first half adapts, and a slice sampler of JAGS needs 50 iterations.
LEAST_WARMUP = 120
#: Chains are at most this many times as long as those of the pilot.
_LONGEST = 10


def pilot_length(sampler: Mapping[str, Any]) -> tuple[int, int]:
    """Warm-up and draws per chain of a pilot fit, by the settings of a method with `pilot`."""
    pilot: int = sampler["pilot"]
    return (max(LEAST_WARMUP, pilot // 2), pilot) if "ess" in sampler else (pilot, _FEW)


def fit_length(sampler: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[int, int]:
    """Warm-up and draws per chain of a fit.

    Parameters
    ----------
    sampler : mapping
        Settings of the method.
    found : mapping
        What its pilot fit found; empty without a pilot, or if it failed: then fits have the long
        warm-up of the pilot, and of JAGS its draws.

    Returns
    -------
    warmup, draws : int
    """
    if "pilot" not in sampler:
        return sampler["warmup"], sampler["draws"]
    long = pilot_length(sampler)
    if "ess" in sampler:
        return found.get("warmup", long[0]), found.get("draws", long[1])
    return (sampler["warmup"] if found else long[0]), sampler["draws"]


def chain_length(
    ess: Mapping[str, float], gated: Collection[str], sampler: Mapping[str, Any]
) -> dict[str, Any]:
    """Length of chains that reach an effective sample size, by those of a pilot fit.

    The draws follow from the slowest parameter of the gate, the warm-up from the slowest of all:
    chains must have left their initial values in every direction.

    Parameters
    ----------
    ess : mapping
        Structural parameter -> effective sample size of all chains of the pilot, above 0.
    gated : collection of str
        Parameters of the gate.
    sampler : mapping
        Settings of the method: `chains`, `pilot`, `ess`, `thin`.

    Returns
    -------
    dict
        warmup, draws (per chain); slowest (parameter that determines `draws`), ess (its effective
        sample size in the pilot).
    """
    chains, pilot = sampler["chains"], sampler["pilot"]
    kept = chains * pilot
    slowest = min(gated, key=ess.__getitem__)
    draws = sampler["ess"] * kept / ess[slowest] / chains
    warmup = WARMUP * sampler["thin"] * kept / min(ess.values())
    return {
        "warmup": _tens(max(LEAST_WARMUP, warmup), pilot),
        "draws": _tens(draws, pilot),
        "slowest": slowest,
        "ess": round(ess[slowest], 1),
    }


def _tens(iterations: float, pilot: int) -> int:
    """A whole number of tens, at least as many, within the limit."""
    return 10 * math.ceil(min(iterations, _LONGEST * pilot) / 10)
