"""Hypotheses: their text, and probabilities and density ratios against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.design.prepare import prepare
from rmm.errors import BackendError, FormulaError
from rmm.formula.prior_distributions import probability_up_to, quantile
from rmm.formula.prior_syntax import Prior
from rmm.posterior.inference.hypotheses.point_density import density_at
from rmm.posterior.inference.hypotheses.prior_of_combination import combination_prior
from rmm.posterior.inference.hypotheses.statement import parse_statement
from rmm.posterior.prior_draws import draw_parameters

NAMES = ["b_l1[x]", "b_l1[x:z]", "b_l2[a]", "b_l2[b c]", "b_w[b1]", "sigma_l1"]
INF = math.inf


@pytest.mark.parametrize(
    ("text", "kind", "factors", "low", "high"),
    [
        ("b_l1[x] > 0.2", "direction", {"b_l1[x]": 1}, 0.2, INF),
        ("0.2 < b_l1[x]", "direction", {"b_l1[x]": 1}, 0.2, INF),
        ("b_l1[x] <= -1e-2", "direction", {"b_l1[x]": 1}, -INF, -0.01),
        ("-b_l1[x] < 1", "direction", {"b_l1[x]": 1}, -1, INF),
        ("b_w[b1] = 0", "point", {"b_w[b1]": 1}, 0, 0),
        ("0 == b_w[b1]", "point", {"b_w[b1]": 1}, 0, 0),
        ("b_l1[x] - b_l1[x:z] = 0", "point", {"b_l1[x]": 1, "b_l1[x:z]": -1}, 0, 0),
        ("2*b_l2[a] > b_l2[b c]", "direction", {"b_l2[a]": 2, "b_l2[b c]": -1}, 0, INF),
        ("(b_l2[a] + sigma_l1)/2 = 1", "point", {"b_l2[a]": 0.5, "sigma_l1": 0.5}, 1, 1),
        ("-0.1 < b_l1[x] < 0.1", "interval", {"b_l1[x]": 1}, -0.1, 0.1),
        ("3 > 2*(sigma_l1 - 1) > 1", "interval", {"sigma_l1": 2}, 3, 5),
        ("b_l2[a] + b_l2[a] - 3 = b_l2[a]*2*2 - 1", "point", {"b_l2[a]": 2}, -2, -2),
    ],
)
def test_text(text: str, kind: str, factors: dict[str, float], low: float, high: float) -> None:
    found = parse_statement(text, NAMES)
    assert (found.kind, dict(found.factors)) == (kind, factors)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("text", "problem", "place"),
    [
        ("b_l1[y] > 0", "`b_l1\\[y\\]` is not a parameter of this fit. Did you mean", 0),
        ("1 < b_l1", "`b_l1` is a vector", 4),
        ("b_l1[x]*sigma_l1 > 0", "Two parameters cannot be multiplied", 7),
        ("b_l1[x] + 1", "has no comparison", 0),
        ("b_l1[x] >", "ends after `>`", 8),
        ("(b_l1[x] > 0", "is never closed", 0),
        ("b_l1[x] > 0)", "has no `\\(` before it", 11),
        ("1 > 0", "has no parameter", 0),
        ("b_l1[x] - b_l1[x] = 0", "has no parameter, or all parameters cancel", 0),
        ("b_l1[x] != 0", "`!=` is not available", 8),
        ("0.1 < b_l1[x] < 0", "is empty", 4),
        ("0 < b_l1[x] > 1", "two comparisons of one direction", 12),
        ("sigma_l1 < b_l1[x] < 1", "limits of an interval must be numbers", 0),
        ("0 < b_l1[x] < 1 < 2", "at most two comparisons", 16),
        ("b_l1[x] & 1 > 0", "The character '&' cannot be used", 8),
        ("b_l1[x] 1 > 0", "`1` cannot follow here", 8),
        ("b_l1[x]/sigma_l1 > 0", "Only division by a number", 7),
        ("b_l1[x] > 1e999", "is too large", 10),
        ("+".join(["("] * 60) + " > 0", "nested more than 50 levels", None),
    ],
)
def test_errors_point_at_the_place(text: str, problem: str, place: int | None) -> None:
    with pytest.raises(FormulaError, match=problem) as caught:
        parse_statement(text, NAMES)
    if place is not None:
        assert caught.value.position == place


@pytest.mark.parametrize("text", ["", 3, "x" * 3000, "__import__('os') > 0"])
def test_what_is_no_hypothesis(text: Any) -> None:
    with pytest.raises(FormulaError, match=r"hypothesis|not a parameter"):
        parse_statement(text, NAMES)


LAWS: list[tuple[Any, float, tuple[float, float]]] = [
    (stats.norm(2, 3), 2.0, (-INF, INF)),
    (stats.norm(2, 3), 9.5, (-INF, INF)),
    (stats.t(8), 2.0, (-INF, INF)),
    (stats.gamma(9), 9.0, (0.0, INF)),
    (stats.skewnorm(2), 0.5, (-INF, INF)),
    (stats.halfnorm(scale=0.3), 0.0, (0.0, INF)),
    (stats.truncnorm(-1, 9), -1.0, (-1.0, INF)),
]


@pytest.mark.parametrize(("law", "point", "support"), LAWS)
def test_densities_and_their_errors(law: Any, point: float, support: tuple[float, float]) -> None:
    """Of 1,000 draws: no bias beyond a fifth; the error is about the spread of estimates."""
    rng, errors, stated = np.random.default_rng(4), [], []
    for _ in range(60):
        found = density_at(law.rvs(1000, random_state=rng), point, 1000, support)
        errors.append(found.log - law.logpdf(point))
        stated.append(found.error)
        assert not (found.beyond and abs(law.cdf(point) - 0.5) < 0.4)
    assert abs(np.mean(errors)) < 0.2
    # A spread of 60 estimates has an error of 9%; splines that are chosen by the data add to it.
    assert 0.6 < np.mean(stated) / np.sqrt(np.mean(np.square(errors))) < 1.7


def test_a_point_beyond_the_draws_is_marked() -> None:
    draws = np.random.default_rng(2).normal(size=2000)
    found = density_at(draws, 6.0, 2000)
    assert found.beyond and found.error > 0.5
    assert found.log == pytest.approx(stats.norm.logpdf(6), abs=4 * found.error)
    far = density_at(np.abs(draws) + 1, 0.0, 2000, (0.0, INF))
    assert far.beyond
    with pytest.raises(BackendError, match="at least 50 effective draws"):
        density_at(draws, 0.0, 20)


@pytest.mark.parametrize("family", ["normal", "half_t", "gamma", "uniform", "precision_gamma"])
def test_probabilities_invert_quantiles(family: str) -> None:
    values = {"normal": (1.0, 2.0), "half_t": (3.0, 2.0), "uniform": (-1.0, 2.0)}
    prior = Prior(family, values.get(family, (2.0, 1.5)))
    p = np.array([0.05, 0.5, 0.9])
    np.testing.assert_allclose(probability_up_to(prior, quantile(prior, p)), p, atol=1e-9)


FORMULA = (
    "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^b, c = FALSE), RE = TRUE) + hm(id = cid)"
)


@pytest.mark.parametrize(
    "factors",
    [
        {"b_l2[z]": 1.0},
        {"b_l2[Intercept]": 1.0},  # at zero of the predictors
        {"b_l2[z]": 2.0, "b_l2[Intercept]": -1.0},
        {"sigma_l2": 3.0},
        {"sigma_l2": 1.0, "sigma_l3": -0.5},
        {"b_l2[z]": 1.0, "sigma_l2": 1.0},
        {"b_l1[x]": 1.0},  # of a group of typical size times a power of it
        {"b_l1[x]": 1.0, "b_w[b]": -2.0},
    ],
)
def test_prior_of_a_combination(factors: dict[str, float], coalitions: pd.DataFrame) -> None:
    """Against 100,000 draws from the priors: probabilities of intervals and the density."""
    table = coalitions.assign(x=coalitions["x"] + 3, z=coalitions["z"] - 2)
    model = prepare(FORMULA, table, priors={"b_l2[z]": "student_t(4, 0.5, 1)"})
    prior = combination_prior(model, factors, 1)
    drawn = draw_parameters(model, 100_000, np.random.default_rng(3))
    coords = model.design.coords
    columns = {
        "b_l2[Intercept]": drawn["b_l2"][:, 0],
        "b_l2[z]": drawn["b_l2"][:, 1],
        "b_l1[x]": drawn["b_l1"].reshape(-1),
        "b_w[b]": drawn["b_w"].reshape(-1),
        **{name: drawn[name] for name in ("sigma_l1", "sigma_l2", "sigma_l3")},
    }
    assert len(coords["covariate_l1"]) == 1
    values = np.sum([f * columns[name] for name, f in factors.items()], axis=0)
    low, middle, high = np.quantile(values, [0.2, 0.45, 0.8])
    # 4 standard errors of 100,000 draws, and of 40,000 where others are drawn.
    assert prior.probability(low, high) == pytest.approx(0.6, abs=0.012)
    assert prior.probability(-INF, middle) == pytest.approx(0.45, abs=0.012)
    # Away from a peak at 0; some 1,300 draws are in the interval.
    half, point = 0.02 * (high - low), np.quantile(values, 0.3)
    share = np.mean(np.abs(values - point) < half)
    assert prior.density(point) == pytest.approx(share / (2 * half), rel=0.12)


N = 60
PRIOR = {"b_l2[Intercept]": 2.0, "b_l2[x]": 1.0, "b_l2[z]": 0.5}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    x, z = rng.normal(0.3, 1, N), rng.normal(-0.2, 1.5, N)
    return pd.DataFrame({"y": 1 + 0.4 * x + 0.1 * z + rng.normal(size=N), "x": x, "z": z})


@pytest.fixture(scope="module")
def fit(table: pd.DataFrame) -> rmm.Fit:
    """Normal with known sd 1: everything has a closed form."""
    priors = {name: f"normal(0, {sd})" for name, sd in PRIOR.items()} | {"sigma_l2": 1}
    return rmm.fit("y ~ 1 + x + z", table, priors=priors, backend="laplace", seed=3, ess=4000)


def log_evidence(table: pd.DataFrame, names: list[str], value: float = 0.0) -> float:
    """Of y ~ N(X b, 1), b ~ N(0, prior), with the coefficient of x held at a value."""
    columns = {"b_l2[Intercept]": np.ones(N), "b_l2[x]": table["x"], "b_l2[z]": table["z"]}
    X = np.column_stack([columns[name] for name in names])
    cov = X @ np.diag([PRIOR[name] ** 2 for name in names]) @ X.T + np.eye(N)
    return float(
        stats.multivariate_normal(np.zeros(N), cov).logpdf(table["y"] - value * table["x"])
    )


@pytest.mark.parametrize("value", [0.0, 0.3, 0.6])
def test_savage_dickey_is_the_bayes_factor_of_the_nested_model(
    fit: rmm.Fit, table: pd.DataFrame, value: float
) -> None:
    nested = log_evidence(table, ["b_l2[Intercept]", "b_l2[z]"], value)
    exact = nested - log_evidence(table, list(PRIOR))
    row = fit.hypothesis(f"b_l2[x] = {value}").table.iloc[0]
    assert abs(row["log_bf"] - exact) < 4 * row["log_bf_error"]
    assert row["log_bf_error"] < 0.2
    assert row["bayes_factor"] == pytest.approx(np.exp(row["log_bf"]))


def exact_posterior(table: pd.DataFrame) -> tuple[Any, Any]:
    X = np.column_stack([np.ones(N), table["x"], table["z"]])
    cov = np.linalg.inv(X.T @ X + np.diag([1 / sd**2 for sd in PRIOR.values()]))
    return cov @ X.T @ table["y"].to_numpy(), cov


def test_a_combination(fit: rmm.Fit, table: pd.DataFrame) -> None:
    """x - 2 z: point, direction and interval against normal distributions."""
    mean, cov = exact_posterior(table)
    c = np.array([0.0, 1.0, -2.0])
    law = stats.norm(c @ mean, np.sqrt(c @ cov @ c))
    before = stats.norm(0, np.sqrt(1.0**2 + (2 * 0.5) ** 2))
    found = fit.hypothesis(
        ["b_l2[x] - 2*b_l2[z] = 0.1", "b_l2[x] > 2*b_l2[z]"], "-0.2 < b_l2[x] - 2*b_l2[z] < 0.5"
    ).table
    point, direction, interval = (found.iloc[i] for i in range(3))
    exact = law.logpdf(0.1) - before.logpdf(0.1)
    assert abs(point["log_bf"] - exact) < 4 * point["log_bf_error"]
    p = law.sf(0)
    assert direction["probability"] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 4000))
    assert direction["prior_probability"] == pytest.approx(0.5)
    odds = direction["probability"] / (1 - direction["probability"])
    assert direction["evidence_ratio"] == pytest.approx(odds)
    assert direction["bayes_factor"] == pytest.approx(odds)
    error = np.sqrt(1 / (p * (1 - p) * 4000))
    assert direction["log_bf_error"] == pytest.approx(error, rel=0.2)
    inside = law.cdf(0.5) - law.cdf(-0.2)
    assert interval["probability"] == pytest.approx(inside, abs=4 * np.sqrt(0.25 / 4000))
    prior = before.cdf(0.5) - before.cdf(-0.2)
    assert interval["prior_probability"] == pytest.approx(prior)
    ends = law.ppf([0.025, 0.975])  # of a normal distribution the HDI is the central interval
    share = (min(ends[1], 0.5) - max(ends[0], -0.2)) / np.ptp(ends)
    assert interval["hdi_share"] == pytest.approx(share, abs=0.05)
    assert interval["estimate"] == pytest.approx(law.mean(), abs=4 * law.std() / np.sqrt(4000))


def test_chains_count_their_effective_draws(fit: rmm.Fit) -> None:
    """Draws of chains, each repeated ten times: the error is that of a tenth of the draws."""
    few = {name: values[:, :100] for name, values in fit.run.draws.items()}
    many = {name: np.repeat(values, 10, axis=1) for name, values in few.items()}
    texts = ("b_l2[x] = 0.3", "b_l2[x] > 0.3")
    errors = []
    for draws in (few, many):
        engine = {"name": "stan"}
        settings = replace(fit.settings, draws=draws["b_l2"].shape[1])
        chains = replace(fit, run=replace(fit.run, draws=draws, engine=engine), settings=settings)
        errors.append(chains.hypothesis(*texts).table["log_bf_error"].to_numpy())
    np.testing.assert_allclose(errors[1], errors[0], rtol=0.3)


def test_what_draws_cannot_show_is_remarked(fit: rmm.Fit) -> None:
    found = fit.hypothesis("b_l2[x] > -9", "b_l2[x] = 4")
    assert found.table.loc["b_l2[x] > -9", "evidence_ratio"] == INF
    assert "b_l2[x] > -9: all of the draws" in str(found)
    assert "b_l2[x] = 4: the point lies beyond all draws" in str(found)
    assert "prior_probability" in str(found) and "<table" in found._repr_html_()


def test_limits_of_priors(table: pd.DataFrame) -> None:
    priors = {"b_l2[x]": "uniform(0, 2)"}
    fit = rmm.fit("y ~ 1 + x", table, priors=priors, backend="laplace", seed=3)
    found = fit.hypothesis("b_l2[x] = -1", "b_l2[x] > 0", "b_l2[x] = 0.5")
    assert "b_l2[x] = -1: the prior excludes this point." in found.remarks
    assert "b_l2[x] > 0: the prior excludes the hypothesis or its complement." in found.remarks
    assert np.isnan(found.table["bayes_factor"].iloc[0])
    assert np.isfinite(found.table["bayes_factor"].iloc[2])


def test_a_program_of_ones_own_has_no_bayes_factor(fit: rmm.Fit) -> None:
    found = replace(fit, own_program=True).hypothesis("b_l2[x] > 0", "b_l2[x] = 0")
    assert found.table["bayes_factor"].isna().all()
    assert found.table["probability"].iloc[0] > 0.9
    assert all("the priors of your own program are not known" in line for line in found.remarks)


def test_arguments(fit: rmm.Fit) -> None:
    with pytest.raises(FormulaError, match="`prob` must be a number between 0 and 1"):
        fit.hypothesis("b_l2[x] > 0", prob=95)
    with pytest.raises(FormulaError, match="at least one hypothesis"):
        fit.hypothesis()


def test_coefficients_at_a_typical_size_are_nested_there(coalitions: pd.DataFrame) -> None:
    """A sum or a mean of members without an effect: by quadrature over the power of the size.

    Given the power and the residual sd the model is normal: y = alpha + b (sum of x (n/n_bar)^-b_w
    less its centre), and the nested one has no b.
    """
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^b, c = FALSE))"
    priors = {"sigma_l2": 2.0}
    fit = rmm.fit(formula, coalitions, priors=priors, backend="laplace", seed=2, ess=3000)
    (member,), known = fit.model.design.members, fit.model.priors.elements
    assert member.typical_size != 1
    groups = coalitions.groupby("gid")
    y, n = groups["y"].first().to_numpy(), groups.size().to_numpy() / member.typical_size
    total = groups["x"].sum().to_numpy()
    mean, sd = known["alpha"][0].values
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    centre, width = known["b_w"][0].values
    one, scale = sd * np.ones(len(y)), known["b_l1"][0].values[1]

    def log_density(*columns: Any) -> float:
        """Of y - mean ~ N(0, UU' + 4 I), by Woodbury's identity."""
        U, rest = np.column_stack(columns), y - mean
        inner = np.eye(U.shape[1]) + U.T @ U / 4
        square = (rest @ rest - rest @ U @ np.linalg.solve(inner, U.T @ rest) / 4) / 4
        return -0.5 * (square + np.linalg.slogdet(inner)[1] + len(y) * np.log(2 * np.pi * 4))

    logs = np.array(
        [
            log_density(one, scale * (total * n**-power - member.b_center[0]))
            for power in centre + width * nodes
        ]
    )
    full = np.log(weights @ np.exp(logs - logs.max()) / weights.sum()) + logs.max()
    nested = log_density(one)
    row = fit.hypothesis("b_l1[x] = 0").table.iloc[0]
    assert abs(row["log_bf"] - (nested - full)) < 4 * row["log_bf_error"]
    assert row["log_bf_error"] < 0.3


def test_a_binomial_model_by_quadrature(table: pd.DataFrame) -> None:
    """Both evidences on a grid of intercept and slope; the posterior is not normal."""
    rows = table.head(25).assign(win=(table["y"] > 1.2).astype(int))
    priors = {"b_l2[Intercept]": "normal(0, 1.5)", "b_l2[x]": "student_t(4, 0, 1)"}
    fit = rmm.fit("win ~ 1 + x", rows, "binomial", priors=priors, backend="laplace", ess=4000)
    a, b = np.linspace(-8, 8, 401), np.linspace(-10, 10, 501)
    eta = a[:, None, None] + b[None, :, None] * rows["x"].to_numpy()
    likelihood = np.exp(np.sum(np.where(rows["win"], eta, 0) - np.logaddexp(0, eta), axis=2))
    weight = stats.norm(0, 1.5).pdf(a) * (a[1] - a[0])
    full = weight @ likelihood @ stats.t(4).pdf(b) * (b[1] - b[0])
    nested = weight @ likelihood[:, np.argmin(np.abs(b))]
    row = fit.hypothesis("b_l2[x] = 0").table.iloc[0]
    assert abs(row["log_bf"] - np.log(nested / full)) < 4 * row["log_bf_error"]
    assert row["log_bf_error"] < 0.25
