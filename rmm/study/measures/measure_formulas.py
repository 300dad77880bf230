"""Formulas of the measures for readers: what `rmm.study.measures.measures` computes, in words.

Notation of Morris, White & Crowther (2019), table 6: n usable replications, T estimates, V squared
standard errors (posterior variances), S = sd(T - θ), θ the truth.
"""

from __future__ import annotations

#: Measure -> (what it is, its estimate, its Monte Carlo standard error).
FORMULAS: dict[str, tuple[str, str, str]] = {
    "mean": ("Mean estimate", "mean(T)", "S / √n"),
    "bias": ("Bias", "mean(T − θ)", "S / √n"),
    "relative_bias": ("Relative bias; none at θ = 0", "mean((T − θ) / θ)", "sd((T − θ) / θ) / √n"),
    "empirical_se": ("Empirical standard error", "S", "S / √(2(n − 1))"),
    "mse": ("Mean squared error", "mean((T − θ)²)", "sd((T − θ)²) / √n"),
    "rmse": ("Root mean squared error", "√MSE", "MCSE(MSE) / (2 √MSE)"),
    "model_se": ("Model standard error", "ModSE = √mean(V)", "sd(V) / (2 ModSE √n)"),
    "relative_error_se": (
        "Relative error of the model standard error, %",
        "100 (ModSE / S − 1)",
        "100 (ModSE / S) √(Var(V) / (4 n ModSE⁴) + 1 / (2(n − 1)))",
    ),
    "relative_precision": (
        "Relative precision against the baseline A, %",
        "100 ((S_A / S)² − 1)",
        "200 (S_A / S)² √((1 − ρ²) / (n − 2)), ρ = corr(T_A, T)",
    ),
    "coverage": (
        "Coverage of intervals",
        "p = share with lower ≤ θ ≤ upper",
        "√(p(1 − p) / n); none at 0 and 1",
    ),
    "be_coverage": (
        "Bias-eliminated coverage",
        "p = share with lower ≤ mean(T) ≤ upper",
        "√(p(1 − p) / n); none at 0 and 1",
    ),
    "rejection": (
        "Rejection rate: Type-I error where θ is the null value, power elsewhere",
        "p = share of tests that reject",
        "√(p(1 − p) / n); none at 0 and 1",
    ),
    "interval_width": ("Width of intervals", "mean(upper − lower)", "sd(upper − lower) / √n"),
    "type_s": (
        "Type S error (Gelman & Carlin 2014)",
        "p = share of wrong signs among the m significant estimates",
        "√(p(1 − p) / m); none at 0 and 1",
    ),
    "exaggeration": (
        "Exaggeration (Gelman & Carlin 2014)",
        "mean of |T / θ|, both from the null, among the m significant estimates",
        "sd / √m",
    ),
    "size_adjusted_power": (
        "Size-adjusted power; none where the null hypothesis holds",
        "p = share with p value below the α quantile of p values in the null scenario",
        "√(p(1 − p) / n) for a given quantile; none at 0 and 1",
    ),
    "difference_bias": (
        "Difference in bias from the baseline",
        "mean((T − θ) − (T_A − θ_A)) on the replications that both have",
        "sd of the differences / √n",
    ),
    "difference_mse": (
        "Difference in mean squared error",
        "mean of paired differences of (T − θ)²",
        "sd of the differences / √n",
    ),
    "difference_coverage": (
        "Difference in coverage",
        "mean of paired differences of covering (0 or 1)",
        "sd of the differences / √n",
    ),
    "difference_rejection": (
        "Difference in rejection",
        "mean of paired differences of rejecting (0 or 1)",
        "sd of the differences / √n",
    ),
    "difference_width": (
        "Difference in interval width",
        "mean of paired differences of widths",
        "sd of the differences / √n",
    ),
    "selection": (
        "Selection of a candidate by leave-one-out elpd",
        "p = share of fits in which it was chosen",
        "√(p(1 − p) / n); none at 0 and 1",
    ),
    "contraction": (
        "Prior-to-posterior contraction, 1 − var(posterior) / var(prior); Bayesian fits only. "
        "Below .36 the estimate is mostly prior",
        "mean",
        "sd / √n",
    ),
    "ess_per_second": (
        "Effective draws per second; sampled fits only",
        "mean(bulk ESS / seconds of the whole fit)",
        "sd / √n",
    ),
    "convergence": (
        "Share of fits that count as converged",
        "p",
        "√(p(1 − p) / n), n all fits; none at 0 and 1",
    ),
    "seconds": ("Seconds per fit", "mean", "sd / √n, n all fits"),
}
