"""Intervals of rates: how sure a share of replications is, also where it is 0 or 1."""

from __future__ import annotations

import math


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a rate by Wilson's score method.

    A rate of 0 or 1 has an estimated standard error of 0 at any n; this interval still has a width
    there. Wilson (1927), Journal of the American Statistical Association 22, 209-212.

    Parameters
    ----------
    share : float
        Share of `n` trials, 0 to 1.
    n : float
        Number of trials.
    level : float
        Confidence level.

    Returns
    -------
    float, float
        Lower and upper bound; nan and nan without trials.
    """
    if not n or math.isnan(share):
        return math.nan, math.nan
    # Late: the extra `study` may be absent.
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * n, n, alpha=1 - level, method="wilson")
    return min(share, float(low)), max(share, float(high))  # rounding at 0 and 1
