"""Measures of performance, each with its Monte Carlo standard error: one row per measure.

Formulas: Morris, White & Crowther (2019), Statistics in Medicine 38, table 6; White (2010),
Stata Journal 10; kept in the notation n usable replications, T estimates, V squared standard
errors (posterior variances), S = sd(T), theta the truth. A rate of 0 or 1 has no Monte Carlo
standard error, as its estimate would be 0 at any n; rates have Wilson intervals instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    alpha: float

    def take(self, keep: Array) -> Sample:
        """The fits at some positions."""
        arrays = {k: v[keep] for k, v in vars(self).items() if k != "alpha"}
        return Sample(**arrays, alpha=self.alpha)

    @property
    def n(self) -> int:
        """Number of fits."""
        return len(self.estimate)

    @property
    def errors(self) -> Array:
        """T - theta."""
        return self.estimate - self.truth


def _mean(values: Array) -> Value:
    """A mean and sd / sqrt(n); nan for no values, or where one is not known."""
    n = len(values)
    if n == 0 or np.isnan(values).any():
        return NONE
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else NAN
    return known_to(float(values.mean()), error)


def _proportion(hits: Array) -> Value:
    """The share of hits as a rate."""
    if len(hits) == 0 or np.isnan(hits).any():
        return NONE
    return rate_of(float(hits.mean()), len(hits))


def _sd(values: Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else NAN


def mean(s: Sample) -> Value:
    """mean(T); S / sqrt(n)."""
    return _mean(s.estimate)


def bias(s: Sample) -> Value:
    """mean(T) - theta; S / sqrt(n)."""
    return _mean(s.errors)


def relative_bias(s: Sample) -> Value:
    """mean((T - theta) / theta), nan at theta = 0."""
    if s.n == 0 or (s.truth == 0).any():
        return NONE
    return _mean(s.errors / s.truth)


def empirical_se(s: Sample) -> Value:
    """S; S / sqrt(2 (n - 1))."""
    sd = _sd(s.errors)
    return known_to(sd, float(sd / np.sqrt(2 * (s.n - 1))) if s.n > 1 else NAN)


def mse(s: Sample) -> Value:
    """mean((T - theta)^2); sqrt(sum((T - theta)^2 - MSE)^2 / (n (n - 1)))."""
    return _mean(s.errors**2)


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
    return known_to(value, float(_sd(s.variance) / (2 * value * np.sqrt(s.n))) if value else NAN)


def relative_error_se(s: Sample) -> Value:
    """100 (ModSE / S - 1), in per cent."""
    sd, se = _sd(s.errors), model_se(s).value
    if not sd > 0 or not se > 0:
        return NONE
    spread = _sd(s.variance) ** 2 / (4 * s.n * se**4) + 1 / (2 * (s.n - 1))
    return known_to(100 * (se / sd - 1), 100 * se / sd * float(np.sqrt(spread)))


def coverage(s: Sample) -> Value:
    """Share of intervals that hold the truth."""
    return _proportion(_inside(s, s.truth))


def be_coverage(s: Sample) -> Value:
    """Bias-eliminated coverage: share of intervals that hold mean(T)."""
    if s.n == 0:
        return NONE
    return _proportion(_inside(s, s.truth + s.errors.mean()))


def _inside(s: Sample, value: Array) -> Array:
    held = ((s.lower <= value) & (value <= s.upper)).astype(float)
    held[np.isnan(s.lower) | np.isnan(s.upper) | np.isnan(value)] = NAN
    return held


def rejection(s: Sample) -> Value:
    """Share of tests that reject: Type-I error where theta is the null value, else power."""
    return _proportion(s.significant)


def interval_width(s: Sample) -> Value:
    """Mean width of the intervals."""
    return _mean(s.upper - s.lower)


def type_s(s: Sample) -> Value:
    """Share of wrong signs among significant estimates (Gelman & Carlin 2014)."""
    hits = s.significant == 1
    if s.n == 0 or (s.truth == s.null).any():
        return NONE
    wrong = np.sign(s.estimate - s.null) != np.sign(s.truth - s.null)
    return _proportion(wrong[hits].astype(float))


def exaggeration(s: Sample) -> Value:
    """Mean |T / theta| among significant estimates, both from the null (Gelman & Carlin 2014)."""
    hits = s.significant == 1
    if s.n == 0 or (s.truth == s.null).any():
        return NONE
    return _mean(np.abs((s.estimate - s.null) / (s.truth - s.null))[hits])


def ess_per_second(s: Sample) -> Value:
    """Mean bulk effective sample size per second of the whole fit; nan for least squares."""
    return _mean(s.ess / s.seconds)


def contraction(s: Sample) -> Value:
    """Mean of 1 - var(posterior) / var(prior); nan where a fit has no prior."""
    return _mean(s.contraction)


def relative_precision(base: Sample, s: Sample) -> Value:
    """100 ((S_A / S_B)^2 - 1) of B against the baseline A, in per cent.

    Its error has n - 2 where White (2010) prints n - 1: that is what Stata's simsum computes
    (seen: its published errors agree to 1e-6 with n - 2, and to 2e-3 with n - 1).
    """
    a, b = _sd(base.errors), _sd(s.errors)
    if not a > 0 or not b > 0:
        return NONE
    rho = float(np.corrcoef(base.errors, s.errors)[0, 1])
    ratio = (a / b) ** 2
    if s.n < 3:
        return known_to(100 * (ratio - 1), NAN)
    error = 200 * ratio * float(np.sqrt(max(0.0, 1 - rho**2) / (s.n - 2)))
    return known_to(100 * (ratio - 1), error)


def size_adjusted_power(null: Sample, s: Sample) -> Value:
    """P(p < r), r the alpha quantile of p in the null scenario; none where the null holds."""
    if null.n == 0 or s.n == 0 or (s.truth == s.null).any():
        return NONE
    if np.isnan(null.p_value).any() or np.isnan(s.p_value).any():
        return NONE
    limit = np.quantile(null.p_value, s.alpha)
    return _proportion((s.p_value < limit).astype(float))


def selection(s: Sample) -> Value:
    """Share of fits in which a candidate was chosen (its estimate is 1, else 0)."""
    return _proportion(s.estimate)


def _difference(per_fit: Callable[[Sample], Array]) -> Callable[[Sample, Sample], Value]:
    return lambda base, s: _mean(per_fit(s) - per_fit(base))


def _rate_difference(per_fit: Callable[[Sample], Array]) -> Callable[[Sample, Sample], Value]:
    """Paired difference of two rates.

    Where all pairs differ alike (usually in none) their standard deviation of 0 is no error: the
    interval is then that of the rate of pairs that differ.
    """

    def difference(base: Sample, s: Sample) -> Value:
        differences = per_fit(s) - per_fit(base)
        found = _mean(differences)
        if len(differences) == 0 or np.isnan(found.value) or np.ptp(differences) > 0:
            return found
        low, high = wilson(abs(found.value), len(differences))
        if found.value == 0:
            return Value(0.0, NAN, -high, high)
        ends = sorted((np.sign(found.value) * low, np.sign(found.value) * high))
        return Value(found.value, NAN, *map(float, ends))

    return difference


@dataclass(frozen=True)
class Measure:
    """One row of `MEASURES`.

    Attributes
    ----------
    by_alpha : bool
        Whether it depends on the level of tests and intervals.
    of : str
        ``"sample"``; ``"pair"`` (baseline and method on the replications that both have);
        ``"null"`` (null scenario and scenario); ``"fits"`` (all fits, no parameter).
    compute : callable or None
        Samples -> (value, MCSE); None for measures of fits.
    prefix : str
        What names of parameters begin with that have it; all have it by default.
    tests : bool
        Whether it is about tests of the null value.
    """

    name: str
    by_alpha: bool
    of: str
    compute: Callable[..., Value] | None
    prefix: str = ""
    tests: bool = False


_ROWS = (
    Measure("mean", False, "sample", mean),
    Measure("bias", False, "sample", bias),
    Measure("relative_bias", False, "sample", relative_bias),
    Measure("empirical_se", False, "sample", empirical_se),
    Measure("mse", False, "sample", mse),
    Measure("rmse", False, "sample", rmse),
    Measure("model_se", False, "sample", model_se),
    Measure("relative_error_se", False, "sample", relative_error_se),
    Measure("relative_precision", False, "pair", relative_precision),
    Measure("coverage", True, "sample", coverage),
    Measure("be_coverage", True, "sample", be_coverage),
    Measure("rejection", True, "sample", rejection, tests=True),
    Measure("interval_width", True, "sample", interval_width),
    Measure("type_s", True, "sample", type_s, tests=True),
    Measure("exaggeration", True, "sample", exaggeration, tests=True),
    Measure("size_adjusted_power", True, "null", size_adjusted_power, tests=True),
    Measure("difference_bias", False, "pair", _difference(lambda s: s.errors)),
    Measure("difference_mse", False, "pair", _difference(lambda s: s.errors**2)),
    Measure("difference_coverage", True, "pair", _rate_difference(lambda s: _inside(s, s.truth))),
    Measure(
        "difference_rejection", True, "pair", _rate_difference(lambda s: s.significant), tests=True
    ),
    Measure("difference_width", True, "pair", _difference(lambda s: s.upper - s.lower)),
    Measure("selection", False, "sample", selection, prefix="choice["),
    Measure("contraction", False, "sample", contraction),
    Measure("ess_per_second", False, "sample", ess_per_second),
    Measure("convergence", False, "fits", None),
    Measure("seconds", False, "fits", None),
)

#: Name -> measure, in the order of tables.
MEASURES: dict[str, Measure] = {row.name: row for row in _ROWS}

#: Measures that are shares of fits: they have Wilson intervals.
RATES = (
    "coverage",
    "be_coverage",
    "rejection",
    "type_s",
    "size_adjusted_power",
    "selection",
    "convergence",
)
