"""Every family under every constraint, weight functions, censoring, correlations, activity.

What is compared is stated with its false-alarm rate: scores within 4.5 standard errors (7e-6) and
Kolmogorov-Smirnov tests at 1e-4, for a correct simulator and fixed seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from rmm.formula.functions import FUNCTIONS
from rmm.simulation import simulate
from rmm.simulation.memberships.structures import prepare_membership

MEMBERSHIP: dict[str, Any] = {
    "kind": "synthetic",
    "groups": 3000,
    "members": 60,
    "units": 600,
    "within": False,
    "size": {"distribution": "uniform", "low": 1, "high": 5},
}
COVARIATES: dict[str, Any] = {"x": {"level": "membership"}, "z": {"level": "group"}}
CONSTRAINTS = ("TRUE", "2", "FALSE")
OUTCOMES = {
    "gaussian": "y",
    "binomial": "y",
    "condlogit": "y",
    "weibull": "Surv(y, e)",
    "cox": "Surv(y, e)",
    "poisson": "y",
    "negbinomial": "y",
    "zero_inflated_poisson": "y",
    "zero_inflated_negbinomial": "y",
    "hurdle_poisson": "y",
    "hurdle_negbinomial": "y",
    "lognormal": "y",
    "gamma": "y",
    "student": "y",
    "beta": "y",
    "probit": "y",
    "cloglog": "y",
    "ordinal": "y",
    "ordinal, probit": "y",
}

#: Probability given the linear predictor.
LINKS: dict[str, Any] = {
    "binomial": special.expit,
    "probit": stats.norm.cdf,
    "cloglog": lambda eta: 1 - np.exp(-np.exp(eta)),
}
#: SciPy's distribution given the linear predictor.
MEASURED: dict[str, Any] = {
    "lognormal": lambda eta: stats.lognorm(1.5, scale=np.exp(eta)),
    "student": lambda eta: stats.t(3.0, eta, 1.5),
    "beta": lambda eta: stats.beta(2e4 * special.expit(eta), 2e4 * special.expit(-eta)),
    "gamma": lambda eta: stats.gamma(1.7, scale=np.exp(eta) / 1.7),
}


def simulated(family: str, constraint: str) -> tuple[pd.DataFrame, Any, Any]:
    """One row per group, the linear predictor by hand, and the strata."""
    family, _, link = family.partition(", ")
    intercept = family not in ("condlogit", "cox", "ordinal")
    values = {"b_l2[z]": -0.5, "b_l1[x]": 0.6, "b_w[b1]": 0.4}
    values |= {"b_l2[Intercept]": 0.3} if intercept else {}
    values |= {
        "gaussian": {"sigma_l2": 1.5},
        "weibull": {"shape": 1.7},
        "negbinomial": {"shape": 1.7},
        "zero_inflated_poisson": {"zi": 0.3},
        "zero_inflated_negbinomial": {"zi": 0.3, "shape": 1.7},
        "hurdle_poisson": {"hu": 0.3},
        "hurdle_negbinomial": {"hu": 0.3, "shape": 1.7},
        "lognormal": {"sigma_l2": 1.5},
        "gamma": {"shape": 1.7},
        "student": {"sigma_l2": 1.5, "nu": 3.0},
        "ordinal": {"tau[1|2]": -0.8, "tau[2|3]": 0.9},
        "beta": {"phi": 2e4},  # of less, shares at the largest predictors round to 1
    }.get(family, {})
    more = {"cox": {"baseline": {"shape": 1.4, "rate": 0.5}}}.get(family, {})
    more |= {"link": link} if link else {}
    data = simulate(
        f"{OUTCOMES[family]} ~ {int(intercept)} + z + mm(id(member, group), vars(x), "
        f"fn(w ~ exp(b1*x)/n, c = {constraint}), RE = FALSE)"
        + " + strata(nesting)"
        * (family == "condlogit"),
        values,
        membership=MEMBERSHIP,
        covariates=COVARIATES,
        family=family,
        seed=11,
        **more,
    ).data
    by = data.groupby("group")
    w = np.exp(0.4 * data["x"]) / by["x"].transform("size")
    if constraint == "TRUE":
        w = w / w.groupby(data["group"]).transform("sum")
    elif constraint == "2":
        w = w * 3000 / w.sum()
    groups = by.first()
    eta = 0.3 * intercept - 0.5 * groups["z"] + (w * 0.6 * data["x"]).groupby(data["group"]).sum()
    return groups, eta.to_numpy(), groups["nesting"].to_numpy()


def score(y: Any, p: Any, eta: Any, variance: float) -> float:
    return float(((y - p) * eta).sum() / np.sqrt(variance))


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("family", sorted(OUTCOMES))
def test_every_family_under_every_constraint(family: str, constraint: str) -> None:
    groups, eta, strata = simulated(family, constraint)
    y = groups["y"].to_numpy()
    if family == "gaussian":
        assert stats.kstest((y - eta) / 1.5, stats.norm.cdf).pvalue > 1e-4
        assert abs(np.corrcoef(y - eta, eta)[0, 1]) < 4.5 / np.sqrt(len(y))
    elif family in MEASURED:
        ranks = MEASURED[family](eta).cdf(y)
        assert stats.kstest(ranks, stats.uniform.cdf).pvalue > 1e-4
        assert abs(np.corrcoef(ranks, eta)[0, 1]) < 4.5 / np.sqrt(len(y))
    elif family in LINKS:
        p = LINKS[family](eta)
        for direction in (np.ones_like(eta), eta):
            assert abs(score(y, p, direction, (p * (1 - p) * direction**2).sum())) < 4.5
    elif family.startswith("ordinal"):
        cdf = stats.norm.cdf if "probit" in family else stats.logistic.cdf
        for level, tau in ((1, -0.8), (2, 0.9)):
            p = cdf(tau - eta)
            for direction in (np.ones_like(eta), eta):
                found = score(y <= level, p, direction, (p * (1 - p) * direction**2).sum())
                assert abs(found) < 4.5
    elif family.startswith(("zero", "hurdle")):
        count = stats.nbinom(1.7, 1.7 / (1.7 + np.exp(eta)))
        count = stats.poisson(np.exp(eta)) if "poisson" in family else count
        some = 0.7 / (1 if family.startswith("zero") else count.sf(0))  # probability of a count
        mean = some * count.mean()
        variance = some * (count.var() + count.mean() ** 2) - mean**2
        none = 0.3 + 0.7 * count.pmf(0) if family.startswith("zero") else np.full(len(y), 0.3)
        for direction in (np.ones_like(eta), eta):
            assert abs(score(y, mean, direction, (variance * direction**2).sum())) < 4.5
            spread = (none * (1 - none) * direction**2).sum()
            assert abs(score(y == 0, none, direction, spread)) < 4.5
        # As below; the kurtosis is below 20 here.
        ratio = ((y - mean) ** 2 / variance).mean()
        assert abs(ratio - 1) < 4.5 * np.sqrt(19 / len(y))
    elif family in ("poisson", "negbinomial"):
        mean = np.exp(eta)
        variance = mean + mean**2 / 1.7 * (family == "negbinomial")
        for direction in (np.ones_like(eta), eta):
            assert abs(score(y, mean, direction, (variance * direction**2).sum())) < 4.5
        # Squared residuals are as large as the variance says; a count's kurtosis is below 12 here.
        ratio = ((y - mean) ** 2 / variance).mean()
        assert abs(ratio - 1) < 4.5 * np.sqrt(11 / len(y))
    elif family == "condlogit":
        odds = pd.Series(np.exp(eta)).groupby(strata)
        p = (np.exp(eta) / odds.transform("sum")).to_numpy()
        mean = pd.Series(p * eta).groupby(strata).sum()
        variance = pd.Series(p * eta**2).groupby(strata).sum() - mean**2
        assert abs(score(y, p, eta, variance.sum())) < 4.5
        assert (groups.groupby("nesting")["y"].sum() == 1).all()
    else:
        shape, rate = (1.7, 1.0) if family == "weibull" else (1.4, 0.5)
        sign = -shape if family == "weibull" else 1  # scale exp(eta), or hazard ratio exp(eta)
        hazard = rate * y**shape * np.exp(sign * eta)
        assert (groups["e"] == 1).all()
        assert stats.kstest(hazard, stats.expon.cdf).pvalue > 1e-4
        assert abs(stats.spearmanr(hazard, eta).statistic) < 4.5 / np.sqrt(len(y))


# -- weight functions ------------------------------------------------------------------------

#: Each function once more, by NumPy and SciPy; arguments between 0.05 and 0.95.
BY_HAND: dict[str, Any] = {
    "exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs,
    "pow": lambda v: v**1.5, "ilogit": lambda v: 1 / (1 + np.exp(-v)),
    "logit": lambda v: np.log(v / (1 - v)), "iprobit": stats.norm.cdf, "probit": stats.norm.ppf,
    "icloglog": lambda v: 1 - np.exp(-np.exp(v)), "cloglog": lambda v: np.log(-np.log(1 - v)),
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "round": np.round, "floor": np.floor,
    "ceiling": np.ceil, "trunc": lambda v: v - v % 1,
}  # fmt: skip


def test_every_function_is_here() -> None:
    assert set(BY_HAND) == set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_weight_function(name: str) -> None:
    """Outcomes without noise are weighted sums; 7 + f keeps away from 0; v > 0 throughout."""
    shift = 1.5 if name == "acosh" else 0.5
    argument = "v, 1.5" if FUNCTIONS[name].arity == 2 else "v"
    data = simulate(
        f"y ~ 0 + mm(id(member, group), vars(x), fn(w ~ 7 + {name}({argument})), RE = FALSE)",
        {"b_l1[x]": 2, "sigma_l2": 0},
        membership={**MEMBERSHIP, "groups": 50, "units": 5},
        covariates={
            **COVARIATES,
            "v": {
                "level": "member",
                "distribution": "uniform",
                "mean": shift,
                "sd": 0.9 / np.sqrt(12),
            },
        },
        seed=12,
    ).data
    w = 7 + pd.Series(BY_HAND[name](data["v"]))
    by = data["group"]
    expected = 2 * (w * data["x"]).groupby(by).sum() / w.groupby(by).sum()
    np.testing.assert_allclose(data.groupby("group")["y"].first(), expected, rtol=1e-10)


# -- censoring -------------------------------------------------------------------------------

SURVIVAL = "Surv(y, e) ~ 0 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
SLOPES = {"b_l2[z]": 0.7, "b_l1[x]": 0.5, "sigma_l1": 0.8}


@pytest.mark.parametrize("family", ["weibull", "cox"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("time", [None, 8.0])
def test_censoring_to_a_target_share(family: str, share: float, time: float | None) -> None:
    censoring = {"share": share} | ({"time": time} if time is not None and share > 0.2 else {})
    data = simulate(
        SURVIVAL,
        {**SLOPES, **({"shape": 1.3} if family == "weibull" else {})},
        family=family,
        membership=MEMBERSHIP,
        covariates=COVARIATES,
        censoring=censoring,
        seed=13,
    ).data.drop_duplicates("group")
    found = 1 - data["e"].mean()
    assert abs(found - share) < 4.5 * np.sqrt(share * (1 - share) / len(data))
    assert "time" not in censoring or data["y"].max() <= 8


@pytest.mark.parametrize(
    ("censoring", "expected"),
    [
        ({"rate": 0.5}, 0.5 / 1.5),
        ({"time": 1.2}, np.exp(-1.2)),
        # P(T < min(C, 1.2)) = (1 - exp(-1.2 * 1.5)) / 1.5
        ({"rate": 0.5, "time": 1.2}, 1 - (1 - np.exp(-1.8)) / 1.5),
    ],
)
@pytest.mark.parametrize("family", ["weibull", "cox"])
def test_shares_of_censoring_in_closed_form(
    family: str, censoring: dict[str, float], expected: float
) -> None:
    """Exponential times of rate 1."""
    values = {"b_l2[z]": 0, "b_l1[x]": 0, "sigma_l1": 0}
    data = simulate(
        SURVIVAL,
        {**values, **({"shape": 1} if family == "weibull" else {})},
        family=family,
        membership=MEMBERSHIP,
        covariates=COVARIATES,
        censoring=censoring,
        seed=14,
    ).data.drop_duplicates("group")
    found = 1 - data["e"].mean()
    assert abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / len(data))


# -- covariates and activity -----------------------------------------------------------------


@pytest.mark.parametrize("level", ["member", "membership", "group", "nesting"])
def test_correlation_at_every_level(level: str) -> None:
    data = simulate(
        "y ~ 1",
        {"b_l2[Intercept]": 0, "sigma_l2": 1},
        membership={"kind": "synthetic", "groups": 6000, "size": 1, "overlap": 0, "units": 3000},
        covariates={
            "a": {"level": level, "correlation": {"b": -0.6}, "mean": 9},
            "b": {"level": level, "sd": 4},
        },
        seed=15,
    ).data.drop_duplicates("nesting")
    found = float(np.corrcoef(data["a"], data["b"])[0, 1])
    assert abs(np.arctanh(found) - np.arctanh(-0.6)) < 4.5 / np.sqrt(len(data) - 3)


@pytest.mark.parametrize("icc", [0.1, 0.5, 0.9])
def test_intra_group_correlation_by_analysis_of_variance(icc: float) -> None:
    """F = (1 + (n - 1) icc) / (1 - icc) times an F variable: within its 1e-5 quantiles."""
    groups, n = 500, 4
    data = simulate(
        "y ~ 1",
        {"b_l2[Intercept]": 0, "sigma_l2": 1},
        membership={"kind": "synthetic", "groups": groups, "size": n, "overlap": 0},
        covariates={"x": {"level": "membership", "icc": icc}},
        seed=16,
    ).data
    x = data["x"].to_numpy().reshape(groups, n)
    between = n * x.mean(axis=1).var(ddof=1)
    within = x.var(axis=1, ddof=1).mean()
    scaled = between / within * (1 - icc) / (1 + (n - 1) * icc)
    low, high = stats.f(groups - 1, groups * (n - 1)).ppf([1e-5, 1 - 1e-5])
    assert low < scaled < high


def counts(activity: float, seed: int = 17) -> Any:
    config = {"kind": "synthetic", "groups": 5000, "members": 500, "size": 1, "activity": activity}
    m = prepare_membership(config, Path())[0](np.random.default_rng(seed))
    return np.bincount(m.member, minlength=500)


@pytest.mark.parametrize("activity", [0.0, 0.3, 0.6])
def test_variance_of_memberships_per_member(activity: float) -> None:
    """Seats 5,000 p_i, p_i proportional to exp(a z_i): variance 10 + 100 (exp(a^2) - 1).

    Within 4.5 standard errors of a variance, from the values' own fourth moment.
    """
    found = counts(activity)
    deviation = (found - 10.0) ** 2
    error = deviation.std() / np.sqrt(len(found))
    assert found.mean() == 10
    assert abs(deviation.mean() - (10 + 100 * np.expm1(activity**2))) < 4.5 * error


def test_more_activity_more_variance() -> None:
    spread = [counts(activity).std() for activity in (0, 0.5, 1, 1.5)]
    assert spread == sorted(spread)
    assert spread[3] > 4 * spread[0]
