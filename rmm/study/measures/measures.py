"""Measures of performance, each with its Monte Carlo standard error: one row per measure.

Formulas: Morris, White & Crowther (2019), Statistics in Medicine 38, table 6; White (2010),
Stata Journal 10; kept in the notation n usable replications, T estimates, V squared standard
errors (posterior variances), S = sd(T), theta the truth. A rate of 0 or 1 has no Monte Carlo
standard error, as its estimate would be 0 at any n; rates have Wilson intervals instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rmm.study.measures.forecast_scores import crps, interval_score
from rmm.study.measures.measure_values import (
    Array,
    Value,
    below_null_quantile,
    bias,
    chosen,
    contraction,
    covers,
    covers_mean,
    difference,
    empirical_se,
    ess_per_second,
    exaggeration,
    inside,
    interval_width,
    mean,
    model_se,
    mse,
    rate_difference,
    rejects,
    relative_bias,
    relative_error_se,
    relative_precision,
    rmse,
    share,
    size_adjusted_power,
    wrong_signs,
)
from rmm.study.measures.robust_values import (
    mean_absolute_error,
    mean_variance,
    median,
    median_bias,
    median_variance,
    trimmed_bias,
    winsorised_bias,
)


@dataclass(frozen=True)
class Measure:
    """One row of `MEASURES`.

    Attributes
    ----------
    formula : tuple of str
        For readers: what it is, its estimate, its Monte Carlo standard error. Notation of
        Morris, White & Crowther (2019), table 6: n usable replications, T estimates, V squared
        standard errors (posterior variances), S = sd(T - θ), θ the truth.
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
    rate : bool
        Whether it is a share of fits or data sets, which has a Wilson interval.
    hits : callable or None
        Of rates of usable fits: sample or samples -> 1 or 0 of each fit that counts, for the
        bounds of what fits that are not usable could change.
    needs : tuple of str
        Attributes of `Sample` that a fit must have beside its estimate. Fits that lack one, such
        as a standard error, are left out, and do not count in n.
    """

    name: str
    formula: tuple[str, str, str]
    by_alpha: bool
    of: str
    compute: Callable[..., Value] | None
    prefix: str = ""
    tests: bool = False
    rate: bool = False
    hits: Callable[..., Array] | None = None
    needs: tuple[str, ...] = ()


#: Monte Carlo error of a median.
MEDIAN = "sd of the medians of bootstrap samples, by its formula (Maritz & Jarrett 1978)"

_ROWS = (
    Measure("mean", ("Mean estimate", "mean(T)", "S / √n"), False, "sample", mean),
    Measure("bias", ("Bias", "mean(T − θ)", "S / √n"), False, "sample", bias, needs=("truth",)),
    Measure(
        "relative_bias",
        ("Relative bias; none at θ = 0", "mean((T − θ) / θ)", "sd((T − θ) / θ) / √n"),
        False,
        "sample",
        relative_bias,
        needs=("truth",),
    ),
    Measure(
        "empirical_se",
        ("Empirical standard error", "S", "S / √(2(n − 1))"),
        False,
        "sample",
        empirical_se,
    ),
    Measure(
        "mse",
        ("Mean squared error", "mean((T − θ)²)", "sd((T − θ)²) / √n"),
        False,
        "sample",
        mse,
        needs=("truth",),
    ),
    Measure(
        "rmse",
        ("Root mean squared error", "√MSE", "MCSE(MSE) / (2 √MSE)"),
        False,
        "sample",
        rmse,
        needs=("truth",),
    ),
    Measure(
        "model_se",
        ("Model standard error", "ModSE = √mean(V)", "sd(V) / (2 ModSE √n)"),
        False,
        "sample",
        model_se,
        needs=("variance",),
    ),
    Measure(
        "relative_error_se",
        (
            "Relative error of the model standard error, %",
            "100 (ModSE / S − 1)",
            "100 (ModSE / S) √(Var(V) / (4 n ModSE⁴) + 1 / (2(n − 1)))",
        ),
        False,
        "sample",
        relative_error_se,
        needs=("variance",),
    ),
    Measure(
        "relative_precision",
        (
            "Relative precision against the baseline A, %",
            "100 ((S_A / S)² − 1)",
            "200 (S_A / S)² √((1 − ρ²) / (n − 2)), ρ = corr(T_A, T)",
        ),
        False,
        "pair",
        relative_precision,
    ),
    Measure(
        "coverage",
        (
            "Coverage of intervals",
            "p = share with lower ≤ θ ≤ upper",
            "√(p(1 − p) / n); none at 0 and 1",
        ),
        True,
        "sample",
        share(covers),
        rate=True,
        hits=covers,
        needs=("lower", "upper", "truth"),
    ),
    Measure(
        "be_coverage",
        (
            "Bias-eliminated coverage",
            "p = share with lower ≤ mean(T) ≤ upper",
            "√(p(1 − p) / n); none at 0 and 1",
        ),
        True,
        "sample",
        share(covers_mean),
        rate=True,
        hits=covers_mean,
        needs=("lower", "upper"),
    ),
    Measure(
        "rejection",
        (
            "Rejection rate: Type-I error where θ is the null value, power elsewhere",
            "p = share of tests that reject",
            "√(p(1 − p) / n); none at 0 and 1",
        ),
        True,
        "sample",
        share(rejects),
        tests=True,
        rate=True,
        hits=rejects,
        needs=("significant",),
    ),
    Measure(
        "interval_width",
        ("Width of intervals", "mean(upper − lower)", "sd(upper − lower) / √n"),
        True,
        "sample",
        interval_width,
        needs=("lower", "upper"),
    ),
    Measure(
        "type_s",
        (
            "Type S error (Gelman & Carlin 2014)",
            "p = share of wrong signs among the m significant estimates",
            "√(p(1 − p) / m); none at 0 and 1",
        ),
        True,
        "sample",
        share(wrong_signs),
        tests=True,
        rate=True,
        hits=wrong_signs,
        needs=("significant", "truth"),
    ),
    Measure(
        "exaggeration",
        (
            "Exaggeration (Gelman & Carlin 2014)",
            "mean of |T / θ|, both from the null, among the m significant estimates",
            "sd / √m",
        ),
        True,
        "sample",
        exaggeration,
        tests=True,
        needs=("significant", "truth"),
    ),
    Measure(
        "size_adjusted_power",
        (
            "Size-adjusted power; none where the null hypothesis holds",
            "p = share with p value below the α quantile of p values in the null scenario",
            "√(p(1 − p) / n) for a given quantile; none at 0 and 1",
        ),
        True,
        "null",
        size_adjusted_power,
        tests=True,
        rate=True,
        hits=below_null_quantile,
        needs=("p_value",),
    ),
    Measure(
        "difference_bias",
        (
            "Difference in bias from the baseline",
            "mean((T − θ) − (T_A − θ_A)) on the replications that both have",
            "sd of the differences / √n",
        ),
        False,
        "pair",
        difference(lambda s: s.errors),
        needs=("truth",),
    ),
    Measure(
        "difference_mse",
        (
            "Difference in mean squared error",
            "mean of paired differences of (T − θ)²",
            "sd of the differences / √n",
        ),
        False,
        "pair",
        difference(lambda s: s.errors**2),
        needs=("truth",),
    ),
    Measure(
        "difference_coverage",
        (
            "Difference in coverage",
            "mean of paired differences of covering (0 or 1)",
            "sd of the differences / √n",
        ),
        True,
        "pair",
        rate_difference(lambda s: inside(s, s.truth)),
        needs=("lower", "upper", "truth"),
    ),
    Measure(
        "difference_rejection",
        (
            "Difference in rejection",
            "mean of paired differences of rejecting (0 or 1)",
            "sd of the differences / √n",
        ),
        True,
        "pair",
        rate_difference(lambda s: s.significant),
        tests=True,
        needs=("significant",),
    ),
    Measure(
        "difference_width",
        (
            "Difference in interval width",
            "mean of paired differences of widths",
            "sd of the differences / √n",
        ),
        True,
        "pair",
        difference(lambda s: s.upper - s.lower),
        needs=("lower", "upper"),
    ),
    Measure("median", ("Median estimate", "median(T)", MEDIAN), False, "sample", median),
    Measure(
        "median_bias",
        ("Median bias", "median(T − θ)", MEDIAN),
        False,
        "sample",
        median_bias,
        needs=("truth",),
    ),
    Measure(
        "trimmed_bias",
        (
            "Trimmed bias: without the 10% lowest and the 10% highest errors",
            "mean of the other T − θ",
            "sd of the winsorised errors / (0.8 √n)",
        ),
        False,
        "sample",
        trimmed_bias,
        needs=("truth",),
    ),
    Measure(
        "winsorised_bias",
        (
            "Winsorised bias: the 10% lowest and highest errors replaced by the next one",
            "mean of the winsorised errors",
            "sd of the winsorised errors / √n · (n − 1) / (h − 1), h errors not replaced",
        ),
        False,
        "sample",
        winsorised_bias,
        needs=("truth",),
    ),
    Measure(
        "mean_absolute_error",
        ("Mean absolute error", "mean |T − θ|", "sd |T − θ| / √n"),
        False,
        "sample",
        mean_absolute_error,
        needs=("truth",),
    ),
    Measure(
        "mean_variance",
        ("Mean squared standard error", "mean(V)", "sd(V) / √n"),
        False,
        "sample",
        mean_variance,
        needs=("variance",),
    ),
    Measure(
        "median_variance",
        ("Median squared standard error", "median(V)", MEDIAN),
        False,
        "sample",
        median_variance,
        needs=("variance",),
    ),
    Measure(
        "interval_score",
        (
            "Interval score (Gneiting & Raftery 2007); smaller is better",
            "mean of upper − lower + (2/α) · distance of θ from the interval",
            "sd / √n",
        ),
        True,
        "sample",
        interval_score,
        needs=("lower", "upper", "truth"),
    ),
    Measure(
        "crps",
        (
            "Continuous ranked probability score of the normal (or t) distribution with mean T "
            "and scale √V (Gneiting & Raftery 2007); smaller is better",
            "mean of ∫ (F(x) − 1{θ ≤ x})² dx",
            "sd / √n",
        ),
        False,
        "sample",
        crps,
        needs=("variance", "truth"),
    ),
    Measure(
        "selection",
        (
            "Selection of a candidate by leave-one-out elpd",
            "p = share of fits in which it was chosen",
            "√(p(1 − p) / n); none at 0 and 1",
        ),
        False,
        "sample",
        share(chosen),
        prefix="choice[",
        rate=True,
        hits=chosen,
    ),
    Measure(
        "contraction",
        (
            "Prior-to-posterior contraction, 1 − var(posterior) / var(prior); Bayesian fits only. "
            "Below .36, the posterior sd is more than .8 of the prior sd",
            "mean",
            "sd / √n",
        ),
        False,
        "sample",
        contraction,
        needs=("contraction",),
    ),
    Measure(
        "ess_per_second",
        (
            "Effective draws per second; sampled fits only",
            "mean(bulk ESS / seconds of the whole fit)",
            "sd / √n",
        ),
        False,
        "sample",
        ess_per_second,
        needs=("ess", "seconds"),
    ),
    Measure(
        "convergence",
        (
            "Share of fits that count as converged",
            "p",
            "√(p(1 − p) / n), n all fits; none at 0 and 1",
        ),
        False,
        "fits",
        None,
        rate=True,
    ),
    Measure("seconds", ("Seconds per fit", "mean", "sd / √n, n all fits"), False, "fits", None),
)

#: Name -> measure, in the order of tables.
MEASURES: dict[str, Measure] = {row.name: row for row in _ROWS}

#: Measures that are shares of fits: they have Wilson intervals.
RATES = tuple(row.name for row in _ROWS if row.rate)

#: Measures that compare estimates with the truth, or have their unit: a method whose estimates are
#: on another scale than the truth has none of them.
ON_TRUE_SCALE = frozenset(
    {
        "bias",
        "relative_bias",
        "empirical_se",
        "mse",
        "rmse",
        "model_se",
        "coverage",
        "interval_width",
        "exaggeration",
        "median_bias",
        "trimmed_bias",
        "winsorised_bias",
        "mean_absolute_error",
        "mean_variance",
        "median_variance",
        "interval_score",
        "crps",
        "difference_bias",
        "difference_mse",
        "difference_coverage",
    }
)
#: Measures that compare two methods, which need a common scale.
ON_COMMON_SCALE = frozenset({"relative_precision", "difference_width"})
