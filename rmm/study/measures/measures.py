"""Measures of performance, each with its Monte Carlo standard error: one row per measure.

Formulas: Morris, White & Crowther (2019), Statistics in Medicine 38, table 6; White (2010),
Stata Journal 10; kept in the notation n usable replications, T estimates, V squared standard
errors (posterior variances), S = sd(T), theta the truth. A rate of 0 or 1 has no Monte Carlo
standard error, as its estimate would be 0 at any n; rates have Wilson intervals instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


_ROWS = (
    Measure("mean", ("Mean estimate", "mean(T)", "S / √n"), False, "sample", mean),
    Measure("bias", ("Bias", "mean(T − θ)", "S / √n"), False, "sample", bias),
    Measure(
        "relative_bias",
        ("Relative bias; none at θ = 0", "mean((T − θ) / θ)", "sd((T − θ) / θ) / √n"),
        False,
        "sample",
        relative_bias,
    ),
    Measure(
        "empirical_se",
        ("Empirical standard error", "S", "S / √(2(n − 1))"),
        False,
        "sample",
        empirical_se,
    ),
    Measure(
        "mse", ("Mean squared error", "mean((T − θ)²)", "sd((T − θ)²) / √n"), False, "sample", mse
    ),
    Measure(
        "rmse", ("Root mean squared error", "√MSE", "MCSE(MSE) / (2 √MSE)"), False, "sample", rmse
    ),
    Measure(
        "model_se",
        ("Model standard error", "ModSE = √mean(V)", "sd(V) / (2 ModSE √n)"),
        False,
        "sample",
        model_se,
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
    ),
    Measure(
        "interval_width",
        ("Width of intervals", "mean(upper − lower)", "sd(upper − lower) / √n"),
        True,
        "sample",
        interval_width,
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
        "difference_bias",
        "difference_mse",
        "difference_coverage",
    }
)
#: Measures that compare two methods, which need a common scale.
ON_COMMON_SCALE = frozenset({"relative_precision", "difference_width"})
