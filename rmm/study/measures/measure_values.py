"""Values of the measures of performance, each with its Monte Carlo standard error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from rmm.study.measures.proportions import wilson

Array = np.ndarray[Any, Any]
NAN = float("nan")
_Z = 1.959964  # of 95% intervals


class Value(NamedTuple):
    """A measure's value, Monte Carlo standard error, and 95% Monte Carlo interval."""

    value: float
    mcse: float
    lower: float
    upper: float


#: Where a measure is not defined.
NONE = Value(NAN, NAN, NAN, NAN)


def known_to(value: float, mcse: float) -> Value:
    """A value that is normal in many replications: its interval is value -+ 1.96 MCSE."""
    return Value(value, mcse, value - _Z * mcse, value + _Z * mcse)


def rate_of(share: float, n: int) -> Value:
    """A rate: sqrt(p (1 - p) / n), nan at 0 and 1, and Wilson's interval."""
    mcse = float(np.sqrt(share * (1 - share) / n)) if 0 < share < 1 else NAN
    return Value(share, mcse, *wilson(share, n))


@dataclass(frozen=True, eq=False)
class Sample:
    """Usable fits of one method for one parameter in one scenario.

    Attributes
    ----------
    replication, estimate, variance, truth, null : (n,) arrays
    lower, upper, significant : (n,) arrays
        At level `alpha`; `significant` holds 0, 1 or nan where it is not known.
    df : (n,) array
        Degrees of freedom of a t distribution; nan where intervals and tests are not by t.
    normal : bool
        Whether Monte Carlo errors of spreads suppose that estimates are normal, as those of
        simsum do; else they use the kurtosis of the estimates.
    """

    replication: Array
    estimate: Array
    variance: Array
    truth: Array
    null: Array
    lower: Array
    upper: Array
    p_value: Array
    significant: Array
    ess: Array
    contraction: Array
    seconds: Array
    df: Array
    alpha: float
    normal: bool = True

    def take(self, keep: Array) -> Sample:
        """The fits at some positions, or those with True."""
        arrays = {f.name: getattr(self, f.name)[keep] for f in fields(self)[:-2]}
        return Sample(**arrays, alpha=self.alpha, normal=self.normal)

    def knows(self, names: Sequence[str]) -> Array:
        """(n,) whether all of some attributes are known of a fit."""
        known = np.ones(self.n, dtype=bool)
        for name in names:
            known &= ~np.isnan(getattr(self, name))
        return known

    @property
    def n(self) -> int:
        """Number of fits."""
        return len(self.estimate)

    @property
    def errors(self) -> Array:
        """T - theta."""
        return self.estimate - self.truth

    @property
    def deviations(self) -> Array:
        """T - theta, or T where no truth is known: both have the same spread if theta is fixed."""
        return np.where(np.isnan(self.truth), self.estimate, self.errors)


def mean_of(values: Array) -> Value:
    """A mean and sd / sqrt(n); nan for no values, or where one is not known."""
    n = len(values)
    if n == 0 or np.isnan(values).any():
        return NONE
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else NAN
    return known_to(float(values.mean()), error)


def share_of(hits: Array) -> Value:
    """The share of hits as a rate."""
    if len(hits) == 0 or np.isnan(hits).any():
        return NONE
    return rate_of(float(hits.mean()), len(hits))


def sd_of(values: Array) -> float:
    """Standard deviation with n - 1; nan for fewer than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else NAN


def mean(s: Sample) -> Value:
    """mean(T); S / sqrt(n)."""
    return mean_of(s.estimate)


def bias(s: Sample) -> Value:
    """mean(T) - theta; S / sqrt(n)."""
    return mean_of(s.errors)


def relative_bias(s: Sample) -> Value:
    """mean((T - theta) / theta), nan at theta = 0."""
    if s.n == 0 or (s.truth == 0).any():
        return NONE
    return mean_of(s.errors / s.truth)


def empirical_se(s: Sample) -> Value:
    """S; S sqrt(_spread_variance)."""
    sd = sd_of(s.deviations)
    return known_to(sd, sd * float(np.sqrt(_spread_variance(s))) if s.n > 1 else NAN)


def _spread_variance(s: Sample) -> float:
    """Squared Monte Carlo error of S as a share of S^2.

    1 / (2 (n - 1)) for normal estimates; (k - 1) / (4 n) by their kurtosis k, which is n^-1 times
    the sum of their fourth powers in units of S (White 2010; Joshi & Pustejovsky, simhelpers).
    Of few estimates k may be below 1: then it is not known.
    """
    if s.normal:
        return 1 / (2 * (s.n - 1))
    excess = float(np.mean(_standardised(s) ** 4)) - 1
    return excess / (4 * s.n) if excess > 0 else NAN


def _standardised(s: Sample) -> Array:
    """(T - mean(T)) / S."""
    return (s.deviations - s.deviations.mean()) / sd_of(s.deviations)


def mse(s: Sample) -> Value:
    """mean((T - theta)^2); sqrt(sum((T - theta)^2 - MSE)^2 / (n (n - 1)))."""
    return mean_of(s.errors**2)


def rmse(s: Sample) -> Value:
    """sqrt(MSE), by the delta method."""
    square = mse(s)
    root = float(np.sqrt(square.value))
    return known_to(root, square.mcse / (2 * root) if root > 0 else NAN)


def model_se(s: Sample) -> Value:
    """sqrt(mean V); sqrt(Var(V) / (4 n ModSE^2))."""
    if s.n == 0 or np.isnan(s.variance).any():
        return NONE
    value = float(np.sqrt(s.variance.mean()))
    return known_to(value, float(sd_of(s.variance) / (2 * value * np.sqrt(s.n))) if value else NAN)


def relative_error_se(s: Sample) -> Value:
    """100 (ModSE / S - 1), in per cent."""
    sd, se = sd_of(s.deviations), model_se(s).value
    if not sd > 0 or not se > 0:
        return NONE
    spread = sd_of(s.variance) ** 2 / (4 * s.n * se**4) + _spread_variance(s)
    return known_to(100 * (se / sd - 1), 100 * se / sd * float(np.sqrt(spread)))


def share(hits: Callable[[Sample], Array]) -> Callable[[Sample], Value]:
    """The share of fits that are hits: 1 or 0, nan where it is not known; none may count."""
    return lambda s: share_of(hits(s))


def bounds(hits: Array, lost: int) -> tuple[Value, Value]:
    """The rate if no lost fit were a hit, and if all were (Pawel et al. 2026).

    Parameters
    ----------
    hits : (m,) array
        Of the usable fits that count.
    lost : int
        Fits that are not usable.
    """
    n = len(hits) + lost
    if n == 0 or np.isnan(hits).any():
        return NONE, NONE
    found = float(hits.sum())
    return rate_of(found / n, n), rate_of((found + lost) / n, n)


def covers(s: Sample) -> Array:
    """Whether intervals hold the truth."""
    return inside(s, s.truth)


def covers_mean(s: Sample) -> Array:
    """Whether intervals hold mean(T), so that bias does not count."""
    if s.n == 0:
        return np.array([NAN])
    return inside(s, np.where(np.isnan(s.truth), 0.0, s.truth) + s.deviations.mean())


def inside(s: Sample, value: Array) -> Array:
    """1 where an interval holds the value, 0 where not, NaN where one of them is missing."""
    held = ((s.lower <= value) & (value <= s.upper)).astype(float)
    held[np.isnan(s.lower) | np.isnan(s.upper) | np.isnan(value)] = NAN
    return held


def rejects(s: Sample) -> Array:
    """Whether tests reject the null value."""
    return s.significant


def interval_width(s: Sample) -> Value:
    """Mean width of the intervals."""
    return mean_of(s.upper - s.lower)


def wrong_signs(s: Sample) -> Array:
    """Whether significant estimates have the wrong sign (Gelman & Carlin 2014)."""
    if s.n == 0 or (s.truth == s.null).any():
        return np.array([NAN])
    wrong = np.sign(s.estimate - s.null) != np.sign(s.truth - s.null)
    return np.asarray(wrong[s.significant == 1].astype(float))


def exaggeration(s: Sample) -> Value:
    """Mean |T / theta| among significant estimates, both from the null (Gelman & Carlin 2014)."""
    hits = s.significant == 1
    if s.n == 0 or (s.truth == s.null).any():
        return NONE
    return mean_of(np.abs((s.estimate - s.null) / (s.truth - s.null))[hits])


def ess_per_second(s: Sample) -> Value:
    """Mean bulk effective sample size per second of the whole fit; nan for least squares."""
    return mean_of(s.ess / s.seconds)


def contraction(s: Sample) -> Value:
    """Mean of 1 - var(posterior) / var(prior); nan where a fit has no prior."""
    return mean_of(s.contraction)


def relative_precision(base: Sample, s: Sample) -> Value:
    """100 ((S_A / S_B)^2 - 1) of B against the baseline A, in per cent.

    Its error has n - 2 where White (2010) prints n - 1: that is what Stata's simsum computes
    (seen: its published errors agree to 1e-6 with n - 2, and to 2e-3 with n - 1). Without
    normality it is that of the ratio by the delta method, from the squares of both.
    """
    a, b = sd_of(base.deviations), sd_of(s.deviations)
    if not a > 0 or not b > 0:
        return NONE
    rho = float(np.corrcoef(base.deviations, s.deviations)[0, 1])
    ratio = (a / b) ** 2
    if s.n < 3:
        return known_to(100 * (ratio - 1), NAN)
    if not s.normal:
        squares = _standardised(base) ** 2 - _standardised(s) ** 2
        return known_to(100 * (ratio - 1), 100 * ratio * sd_of(squares) / float(np.sqrt(s.n)))
    error = 200 * ratio * float(np.sqrt(max(0.0, 1 - rho**2) / (s.n - 2)))
    return known_to(100 * (ratio - 1), error)


def below_null_quantile(null: Sample, s: Sample) -> Array:
    """Whether p < r, r the alpha quantile of p in the null scenario; nan where the null holds."""
    if null.n == 0 or s.n == 0 or (s.truth == s.null).any() or np.isnan(null.p_value).any():
        return np.array([NAN])
    below = (s.p_value < np.quantile(null.p_value, s.alpha)).astype(float)
    below[np.isnan(s.p_value)] = NAN
    return below


def size_adjusted_power(null: Sample, s: Sample) -> Value:
    """P(p < r), r the alpha quantile of p in the null scenario; none where the null holds."""
    return share_of(below_null_quantile(null, s))


def chosen(s: Sample) -> Array:
    """Whether a candidate was chosen: its estimate is 1, else 0."""
    return s.estimate


def difference(per_fit: Callable[[Sample], Array]) -> Callable[[Sample, Sample], Value]:
    """A paired difference from the baseline of a number that each fit has."""
    return lambda base, s: mean_of(per_fit(s) - per_fit(base))


def rate_difference(per_fit: Callable[[Sample], Array]) -> Callable[[Sample, Sample], Value]:
    """Paired difference of two rates.

    Where all pairs differ alike (usually in none) their standard deviation of 0 is no error: the
    interval is then that of the rate of pairs that differ.
    """

    def paired(base: Sample, s: Sample) -> Value:
        differences = per_fit(s) - per_fit(base)
        found = mean_of(differences)
        if len(differences) == 0 or np.isnan(found.value) or np.ptp(differences) > 0:
            return found
        low, high = wilson(abs(found.value), len(differences))
        if found.value == 0:
            return Value(0.0, NAN, -high, high)
        ends = sorted((np.sign(found.value) * low, np.sign(found.value) * high))
        return Value(found.value, NAN, *map(float, ends))

    return paired
