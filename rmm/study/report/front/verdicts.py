"""Verdicts on single numbers of a study: what chance explains, and what it does not.

Two levels: outside what 95% of correct methods show is *borderline*, 1 in 20 by chance and not
worth a sentence; outside what 99.9% show is a fault. Where a number is the worst of k, the levels
are .95^(1/k) and .999^(1/k) (Šidák 1967, Journal of the American Statistical Association 62,
626-633).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scipy.special import ndtri

from rmm.study.measures.proportions import acceptance_band, wilson

#: Fewer usable data sets than these have no verdict, and are not shown at all.
JUDGED, SHOWN = 100, 10
_LEVELS = (0.95, 0.999)
#: Bradley (1978): a test keeps its level liberally if its rate is below 1.5 times the level.
LIBERAL = 1.5
#: Biases below this share of the standard deviation of the estimates are not relevant.
RELEVANT = 0.2


class Verdict(Enum):
    """What a number says about a method."""

    FINE = "as it should be"
    CONSERVATIVE = "conservative"
    BORDERLINE = "borderline"
    HIGH = "too high"
    LOW = "too low"
    FEW = "too few data sets for a verdict"
    NONE = "not judged"

    @property
    def fault(self) -> bool:
        """Whether chance does not explain the number."""
        return self in (Verdict.HIGH, Verdict.LOW)


@dataclass(frozen=True)
class Judged:
    """A number of a method in a scenario, with its 95% Monte Carlo interval and verdict.

    Attributes
    ----------
    method, scenario : str
    value, low, high : float
    n : int
        Usable data sets.
    verdict : Verdict
    """

    method: str
    scenario: str
    value: float
    low: float
    high: float
    n: int
    verdict: Verdict

    @property
    def shown(self) -> bool:
        """Whether there is a number of enough data sets."""
        return self.n >= SHOWN and not math.isnan(self.value)


def judged_rate(row: Mapping[Any, Any], level: float, of: int = 1, *, safe: int = -1) -> Judged:
    """A rate beside that of a correct method.

    Parameters
    ----------
    row : mapping
        Of the performance: scenario, method, value, n.
    level : float
        The rate of a correct method.
    of : int
        Of how many rates it is looked at as the worst.
    safe : int
        The side that is no fault: -1 below (rejections), 1 above (coverage).
    """
    value, n = float(row["value"]), int(row["n"])
    low, high = wilson(value, n)
    if math.isnan(value) or n < JUDGED:
        verdict = Verdict.FEW
    else:
        inside, borderline = (acceptance_band(level, n, share ** (1 / of)) for share in _LEVELS)
        verdict = _placed(value, inside, borderline)
        if (verdict in (Verdict.LOW, Verdict.BORDERLINE) and safe < 0 and value < level) or (
            verdict in (Verdict.HIGH, Verdict.BORDERLINE) and safe > 0 and value > level
        ):
            verdict = Verdict.CONSERVATIVE
    return Judged(str(row["method"]), str(row["scenario"]), value, low, high, n, verdict)


def judged_deviation(row: Mapping[Any, Any], of: int = 1, relevant: float = 0.0) -> Judged:
    """A number that is 0 for a correct method, by its Monte Carlo error.

    Parameters
    ----------
    row : mapping
        Of the performance: scenario, method, value, mcse, n.
    of : int
        Of how many it is looked at as the worst.
    relevant : float
        Smaller numbers are as they should be, whatever their error.
    """
    value, mcse, n = float(row["value"]), float(row["mcse"]), int(row["n"])
    half = 1.96 * mcse
    if math.isnan(value) or math.isnan(mcse) or n < JUDGED:
        verdict = Verdict.FEW
    elif abs(value) < relevant:
        verdict = Verdict.FINE
    else:
        bounds = (float(ndtri((1 + share ** (1 / of)) / 2)) * mcse for share in _LEVELS)
        inside, borderline = ((-bound, bound) for bound in bounds)
        verdict = _placed(value, inside, borderline)
    scenario, method = str(row["scenario"]), str(row["method"])
    return Judged(method, scenario, value, value - half, value + half, n, verdict)


def _placed(value: float, inside: tuple[float, float], borderline: tuple[float, float]) -> Verdict:
    if inside[0] <= value <= inside[1]:
        return Verdict.FINE
    if borderline[0] <= value <= borderline[1]:
        return Verdict.BORDERLINE
    return Verdict.HIGH if value > borderline[1] else Verdict.LOW


def keeps_level(found: Sequence[Judged], level: float) -> bool:
    """Whether rates are known to be below Bradley's liberal limit: their intervals end below it."""
    return all(one.high < LIBERAL * level for one in found)
