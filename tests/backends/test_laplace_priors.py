"""Priors of coefficients that are not normal, in the fast engine: against quadrature and MCMC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import rmm
from rmm.backends.initial_values import initial_values
from rmm.backends.laplace.hyperparameters import folded, from_values, log_prior, to_values
from rmm.backends.laplace.importance import smoothed
from rmm.backends.laplace.latent_model import describe, latent_model
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.design.prepare import prepare
from rmm.errors import BackendError
from tests.coalitions import made_up_coalitions

Array = np.ndarray[Any, Any]
DENSITIES = {
    "student_t(3, 0.2, 0.3)": stats.t(3, 0.2, 0.3).logpdf,
    "uniform(-0.2, 0.6)": stats.uniform(-0.2, 0.8).logpdf,
    "half_normal(0.5)": stats.halfnorm(scale=0.5).logpdf,
    "exponential(4)": stats.expon(scale=0.25).logpdf,
    "gamma(2, 5)": stats.gamma(2, scale=0.2).logpdf,
    "half_cauchy(0.3)": stats.halfcauchy(scale=0.3).logpdf,
}


def table_of(unit: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    x = rng.normal(size=50)
    y = (rng.random(50) < special.expit(0.3 + 0.5 * x)).astype(int)
    return pd.DataFrame({"y": y, "x": x * unit, "z": rng.normal(size=50)})


def by_quadrature(table: pd.DataFrame, log_density: Any) -> tuple[float, float]:
    """Mean and sd of the slope: logistic regression, intercept normal(0, 2), on a grid."""
    a, b = np.linspace(-3, 3, 301), np.linspace(-2, 3, 1501)
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    sign = 2 * y - 1
    log = np.zeros((len(a), len(b)))
    for xi, si in zip(x, sign, strict=True):
        log += special.log_expit(si * (a[:, None] + b[None, :] * xi))
    with np.errstate(all="ignore"):
        log += stats.norm(0, 2).logpdf(a)[:, None] + log_density(b)[None, :]
    p = np.exp(log - log.max()).sum(axis=0)
    p /= p.sum()
    mean = float(p @ b)
    return mean, float(np.sqrt(p @ (b - mean) ** 2))


@pytest.mark.parametrize("prior", DENSITIES)
def test_a_slope_agrees_with_quadrature(prior: str) -> None:
    """Within 4 Monte Carlo errors of the mean, and 10% of the sd."""
    table = table_of()
    fit = rmm.fit(
        "y ~ 1 + x",
        table,
        "binomial",
        backend="laplace",
        seed=2,
        ess=3000,
        priors={"b_l2[Intercept]": "normal(0, 2)", "b_l2[x]": prior},
    )
    mean, sd = by_quadrature(table, DENSITIES[prior])
    row = fit.summary().loc["b_l2[x]"]
    assert fit.converged
    assert abs(row["mean"] - mean) < 4 * row["mcse_mean"], (row["mean"], mean)
    assert row["sd"] == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_a_predictor_does_not_matter(unit: float) -> None:
    given = {"backend": "laplace", "seed": 2}
    one = rmm.fit(
        "y ~ 1 + x", table_of(), "binomial", priors={"b_l2[x]": "student_t(4, 0, 0.5)"}, **given
    ).summary()
    other = rmm.fit(
        "y ~ 1 + x",
        table_of(unit),
        "binomial",
        priors={"b_l2[x]": f"student_t(4, 0, {0.5 / unit!r})"},
        **given,
    ).summary()
    assert other.loc["b_l2[x]", "mean"] * unit == pytest.approx(one.loc["b_l2[x]", "mean"], rel=0.1)
    assert other.loc["b_l2[x]", "sd"] * unit == pytest.approx(one.loc["b_l2[x]", "sd"], rel=0.1)


def test_the_integrand_has_one_more_term() -> None:
    """log p(y, theta): the density that is integrated over a normal prior, and the prior itself.

    Held at any value, a coefficient adds a known number to the predictor, as an offset does.
    """
    table = made_up_coalitions(40, 12).assign(o=0.0)
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ exp(b1*s)), RE = TRUE) + hm(id = cid)"
    prior = {"b_l1[x]": "student_t(3, 0.1, 0.4)", "b_l2[z]": "uniform(-2, 2)"}
    model = prepare(formula, table, priors=prior)
    latent = latent_model(model.spec, model.design, model.priors)
    start = {**initial_values(model, 1, 1)[0], "b_l1": np.array([0.7]), "beta_l2": np.array([-0.4])}
    theta = from_values(start, latent.hyper)[None, :]
    found = Integrand(latent).inner(to_values(theta, latent.hyper), 1).value[0]
    fixed = prepare(
        formula.replace("vars(x)", "vars(fix(x, 0.7))").replace("+ z", "+ fix(z, -0.4)"),
        table,
        priors={"b_l2[Intercept]": _text(model, "alpha")},
    )
    other = latent_model(fixed.spec, fixed.design, fixed.priors)
    kept = {k: v for k, v in start.items() if k not in ("b_l1", "beta_l2")}
    point = from_values(kept, other.hyper)[None, :]
    values = to_values(point, other.hyper)
    wanted = Integrand(other).inner(values, 1).value[0]
    # Centres of predictors move the intercept, whose prior is wide: the same to 1 in 100.
    assert found == pytest.approx(wanted, abs=0.05)
    names = [h.key for h in latent.hyper]
    assert {"b_l1[0]", "beta_l2[0]"} <= set(names)
    assert np.isfinite(log_prior(theta, latent.hyper)).all()


def _text(model: Any, name: str) -> str:
    (prior,) = model.priors.elements[name]
    return str(prior)


def test_positive_coefficients_are_folded_and_others_are_not() -> None:
    table = made_up_coalitions(40, 12)
    priors = {"b_l2[z]": "half_normal(1)", "b_l1[x]": "student_t(3, 0, 1)"}
    model = prepare(
        "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = FALSE)", table, priors=priors
    )
    latent = latent_model(model.spec, model.design, model.priors)
    which = dict(zip([h.key for h in latent.hyper], folded(latent.hyper), strict=True))
    assert which["beta_l2[0]"] and not which["b_l1[0]"]
    text = describe(model.spec, model.priors.forms)
    assert "sampled by importance: beta_l2" in text and "integrated out" in text


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_members_and_groups_agree_with_jags() -> None:
    """Within 5 combined Monte Carlo errors on 7 parameters: false alarms below 1 in 10,000."""
    table = made_up_coalitions(60, 20)
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s))), RE = TRUE)"
    given: dict[str, Any] = {
        "priors": {"b_l1[x]": "student_t(3, 0, 0.1)", "b_l2": "student_t(2, 0, 0.3)"},
        "seed": 3,
        "progress": False,
    }
    ours = rmm.fit(formula, table, backend="laplace", ess=2000, **given).summary()
    jags = rmm.fit(formula, table, backend="jags", draws=4000, **given).summary()
    error = np.hypot(ours["mcse_mean"], jags["mcse_mean"])
    assert list(ours.index) == list(jags.index)
    assert ((ours["mean"] - jags["mean"]).abs() / error < 5).all(), pd.concat([ours, jags], axis=1)


def test_a_family_without_curvature_is_named_before_anything_starts() -> None:
    from dataclasses import replace

    from rmm.families import GAUSSIAN

    family = replace(GAUSSIAN, name="mine", curvature=None)
    with pytest.raises(BackendError, match="does not support family 'mine'"):
        rmm.fit("y ~ 1", made_up_coalitions(40, 12), family, backend="laplace")


def of_two_minds(groups: int, size: int, seed: int) -> pd.DataFrame:
    """Half of the groups follow the members with large s (b = 3), half those with small s."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), size)
    m = np.concatenate([rng.choice(3 * size, size, replace=False) for _ in range(groups)])
    s, x = rng.normal(size=(2, len(g)))
    w = np.exp(np.where(g < groups / 2, 3.0, -3.0) * s)
    y = np.bincount(g, w * x) / np.bincount(g, w) + 0.7 * rng.normal(size=groups)
    return pd.DataFrame({"g": g, "m": m, "s": s, "x": x, "y": y[g]})


def negative_share(table: pd.DataFrame, model: Any) -> float:
    """P(b < 0 | y) of exp(b*s), by a grid over b and log sigma; coefficients integrated out."""
    priors, J = model.priors.elements, table["g"].nunique()
    level, wide = priors["alpha"][0].values
    r = table.drop_duplicates("g")["y"].to_numpy() - level
    x = table["x"].to_numpy() - model.design.members[0].center[0]
    sd_b = priors["b_w"][0].values[1]
    grid = np.sinh(np.linspace(-np.arcsinh(5 * sd_b), np.arcsinh(5 * sd_b), 300))
    sigma = np.exp(np.linspace(np.log(0.3), np.log(2.0), 40))
    inverse = np.diag([wide**-2, priors["b_l1"][0].values[1] ** -2])
    log = np.empty((len(grid), len(sigma)))
    for i, b in enumerate(grid):
        power = b * table["s"]
        w = np.exp(power - power.groupby(table["g"]).transform("max")).to_numpy()
        X = np.column_stack([np.ones(J), np.bincount(table["g"], w * x)])
        X[:, 1] /= np.bincount(table["g"], w)
        for k, sd in enumerate(sigma):
            precision = inverse + X.T @ X / sd**2
            fitted = X @ np.linalg.solve(precision, X.T @ r / sd**2)
            log[i, k] = -0.5 * (r @ (r - fitted) / sd**2 + np.linalg.slogdet(precision)[1])
            log[i, k] += (1 - J) * np.log(sd) - 0.5 * (sd / priors["sigma_l2"][0].values[0]) ** 2
        log[i] += stats.norm.logpdf(b, 0, sd_b)
    p = np.exp(log - log.max()).sum(axis=1) * np.gradient(grid)
    return float(p[grid < 0].sum() / p.sum())


@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")  # it says so: flat
@pytest.mark.parametrize(("seed", "prior_sd"), [(4, 60.0), (6, 60.0), (2, 6.0)])
def test_all_of_a_wide_prior_of_weights_is_searched(seed: int, prior_sd: float) -> None:
    """The flat likelihood far from 0, on both sides: within 4 standard errors of a share."""
    table = of_two_minds(30, 4, seed)
    fit = rmm.fit(
        "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(b*s)))",
        table,
        seed=1,
        backend="laplace",
        priors={"b_w": f"normal(0, {prior_sd})"},
    )
    share = negative_share(table, fit.model)
    error = np.sqrt(share * (1 - share) / fit.run.engine["ess"])
    assert fit.converged
    assert abs((fit.run.draws["b_w"] < 0).mean() - share) < 4 * error, share


def test_nothing_to_sample_is_the_normal_posterior_itself() -> None:
    """Both standard deviations held: the posterior of the coefficients is normal, by matrices.

    Within 4 Monte Carlo errors of the means and 10% of the sds.
    """
    table, sds = made_up_coalitions(40, 12), (0.6, 1.3)
    fit = rmm.fit(
        "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)",
        table,
        backend="laplace",
        seed=1,
        priors=[
            f"sigma_l1 <- {sds[0]}",
            f"sigma_l2 <- {sds[1]}",
            "b_l1 ~ normal(0, 1)",
            "b_l2 ~ normal(0, 1)",
        ],
    )
    ids, place = np.unique(table["gid"], return_inverse=True)
    groups = table.drop_duplicates("gid").set_index("gid").loc[ids]
    W = np.zeros((len(ids), table["pid"].nunique()))
    np.add.at(W, (place, np.unique(table["pid"], return_inverse=True)[1]), 1.0)
    W /= W.sum(axis=1, keepdims=True)
    means = table.groupby("gid")["x"].mean().loc[ids]
    X = np.column_stack([means, np.ones(len(ids)), groups["z"]])
    V = sds[0] ** 2 * W @ W.T + sds[1] ** 2 * np.eye(len(ids))
    covariance = np.linalg.inv(np.eye(3) + X.T @ np.linalg.solve(V, X))
    mean = covariance @ X.T @ np.linalg.solve(V, groups["y"])
    found = fit.summary().loc[["b_l1[x]", "b_l2[Intercept]", "b_l2[z]"]]
    assert fit.converged and fit.diagnostics()["pareto_k"] == 0
    assert (np.abs(found["mean"] - mean) < 4 * found["mcse_mean"]).all(), (found, mean)
    np.testing.assert_allclose(found["sd"], np.sqrt(np.diag(covariance)), rtol=0.1)


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_too_few_weights_for_a_tail_are_no_error(tmp_path: Path) -> None:
    """`ess=5` of coefficients alone: 12 weights, of which no k can be told."""
    formula = "y ~ 1 + x"
    fit = rmm.fit(formula, table_of(), "binomial", backend="laplace", seed=1, ess=5, draws=50)
    assert not fit.converged
    assert fit.diagnostics()["pareto_k"] == np.inf
    again = rmm.load(fit.save(tmp_path / "fit.rmm"))
    assert not again.converged and again.diagnostics()["pareto_k"] == np.inf


def test_smoothed_weights_without_a_tail() -> None:
    weights, k = smoothed(np.array([3.0] * 60))
    np.testing.assert_allclose(weights, 1 / 60)
    assert k == 0
    weights, k = smoothed(np.log([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(weights, [0.125, 0.25, 0.625])
    assert k == np.inf
    weights, k = smoothed(np.array([2.0, 2.0] + [-np.inf] * 60))  # all mass in two points
    np.testing.assert_allclose(weights[:2], 0.5)
    assert k == np.inf
    weights, k = smoothed(np.r_[0.0, -1e4 * np.ones(99)])  # all mass in one, of a hundred
    assert weights[0] == 1 and k == np.inf
    weights, k = smoothed(np.full(30, -np.inf))
    assert not weights.any() and k == np.inf


@pytest.mark.parametrize(
    ("parameter", "prior", "sd"),
    [
        ("b_w[b1]", "normal(0, 1e-7)", 1e-7),
        ("b_w[b1]", "normal(1.5, 0.0001)", 1e-4),
        ("sigma_l1", "half_normal(1e-7)", 1e-7 * np.sqrt(1 - 2 / np.pi)),
        ("sigma_l1", "exponential(1e6)", 1e-6),
        ("sigma_l1", "gamma(400, 1e6)", 2e-5),
    ],
)
def test_a_prior_much_narrower_than_the_unit_is_the_posterior(
    parameter: str, prior: str, sd: float
) -> None:
    """Steps of the search follow the prior; the sd within 15% (500 effective draws: 5 sds)."""
    data = made_up_coalitions(seed=4).rename(columns={"s": "votes"})
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(b1*votes)), RE=TRUE)"
    fit = rmm.fit(formula, data, backend="laplace", seed=1, priors={parameter: prior})
    assert fit.converged
    assert fit.summary().loc[parameter, "sd"] == pytest.approx(sd, rel=0.15)
