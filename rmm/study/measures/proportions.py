"""Rates: how sure a share of replications is, and which shares chance explains."""

from __future__ import annotations

import math

from scipy.special import bdtr, bdtrik


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


def acceptance_band(alpha: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Where the rejection rate of an exact level-`alpha` test falls in `level` of all studies.

    Parameters
    ----------
    alpha : float
        Level of the test.
    n : int
        Replications of the study.
    level : float
        Share of studies.

    Returns
    -------
    float, float
        Quantiles of Binomial(n, alpha) / n; nan and nan for n = 0.
    """
    if n < 1:
        return math.nan, math.nan
    tail = (1 - level) / 2
    return _quantile(tail, n, alpha) / n, _quantile(1 - tail, n, alpha) / n


def _quantile(probability: float, n: int, p: float) -> int:
    """Smallest k with P(Binomial(n, p) <= k) >= probability; scipy.stats is slow to import."""
    k = max(0, math.ceil(bdtrik(probability, n, p)) - 1)
    while bdtr(k, n, p) < probability:
        k += 1
    return k
