"""The evidence against quadrature, bridge sampling with other densities, and closed forms."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from scipy.special import logsumexp

import rmm
from rmm.backends.base import Run, Settings
from rmm.design.prepare import prepare
from rmm.errors import DataError, PriorError, SpecificationWarning
from rmm.posterior.evidence.bridge import bridge
from rmm.posterior.evidence.evidence import Evidence, scaled_priors
from rmm.posterior.fit import Fit

Array = np.ndarray[Any, Any]
FORMULA = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ {}), RE = TRUE)"
PRIORS = {
    "b_l2": "normal(0, 3)",
    "b_l1": "normal(0, 2)",
    "sigma_l1": "half_normal(1.5)",
    "sigma_l2": "half_normal(2)",
}
ESTIMATED = "exp(b1*share)"
TRUE = {"b_l2[Intercept]": 0.5, "b_l1[x]": 0.7, "sigma_l1": 0.8, "sigma_l2": 1}


@cache
def table(groups: int = 40, members: int = 15) -> pd.DataFrame:
    found = rmm.simulate(
        FORMULA.format(ESTIMATED),
        {**TRUE, "b_w[b1]": 0.6},
        membership={"kind": "synthetic", "groups": groups, "members": members, "size": 3},
        covariates={"x": {"level": "member"}, "share": {"level": "membership"}},
        seed=11,
    ).data
    assert isinstance(found, pd.DataFrame)
    return found


def quietly(formula: str, data: pd.DataFrame, **options: Any) -> Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(formula, data, **{"backend": "laplace", "seed": 1, **options})


@cache
def fitted(weights: str, priors: tuple[tuple[str, str], ...] = tuple(PRIORS.items())) -> Fit:
    return quietly(FORMULA.format(weights), table(), priors=dict(priors))


def log_likelihood(data: pd.DataFrame, sigma1: Array, sigma2: Array, b1: Array) -> Array:
    """log p(y | sds, b1): coefficients and effects are normal, so y is multivariate normal."""
    groups, members = pd.factorize(data["group"])[0], pd.factorize(data["member"])[0]
    y = data.groupby(groups)["y"].first().to_numpy()
    rows = np.zeros((len(y), len(data)))
    rows[groups, np.arange(len(data))] = 1
    raw = np.exp(b1[:, None] * data["share"].to_numpy())
    weights = raw / (raw @ rows.T)[:, groups]
    W = np.zeros((len(b1), len(y), members.max() + 1))
    np.add.at(W, (slice(None), groups, members), weights)
    x = (weights * data["x"].to_numpy()) @ rows.T
    covariance = 3.0**2 + (sigma1**2)[:, None, None] * (W @ W.transpose(0, 2, 1))
    covariance += 2.0**2 * x[:, :, None] * x[:, None, :]
    covariance += (sigma2**2)[:, None, None] * np.eye(len(y))
    factor = np.linalg.cholesky(covariance)
    z = np.linalg.solve(factor, np.broadcast_to(y, (len(b1), len(y)))[..., None])[..., 0]
    logdet = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * np.sum(z**2, axis=1) - logdet - 0.5 * len(y) * np.log(2 * np.pi)


def quadrature(with_b1: bool) -> float:
    """Log evidence by Gauss-Legendre over the standard deviations, and b1 by Gauss-Hermite."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    one, two = 2.5 * (nodes + 1), 0.4 + 1.1 * (nodes + 1)  # to 5, and to 2.6
    b, b_weights = np.polynomial.hermite_e.hermegauss(40 if with_b1 else 1)
    if not with_b1:
        b = np.zeros(1)
    b_weights = b_weights / b_weights.sum()
    s1, s2, b1 = (x.ravel() for x in np.meshgrid(one, two, b, indexing="ij"))
    factor = np.einsum("i,j,k->ijk", 2.5 * weights, 1.1 * weights, b_weights).ravel()
    logs = log_likelihood(table(), s1, s2, b1) + np.log(factor)
    logs += stats.halfnorm(scale=1.5).logpdf(s1) + stats.halfnorm(scale=2).logpdf(s2)
    return float(logsumexp(logs))


def test_two_hyperparameters_by_quadrature() -> None:
    found = fitted("1/n").log_evidence()
    assert found.value == pytest.approx(quadrature(with_b1=False), abs=0.01)
    assert found.mcse < 0.01
    assert float(found) == found.value


def test_three_hyperparameters_by_quadrature() -> None:
    found = fitted(ESTIMATED, (*PRIORS.items(), ("b_w", "normal(0, 1)"))).log_evidence()
    assert found.value == pytest.approx(quadrature(with_b1=True), abs=0.01)


def test_a_closed_form_without_hyperparameters() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(1, 0.8, 20)
    priors = ["b_l2 ~ normal(0, 2)", "sigma_l2 <- 0.8"]
    found = quietly("y ~ 1", pd.DataFrame({"y": y}), priors=priors).log_evidence()
    law = stats.multivariate_normal(np.zeros(20), 0.64 * np.eye(20) + 4.0)
    assert found.value == pytest.approx(law.logpdf(y), abs=1e-8)
    assert found.mcse == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("d", [1, 3])
def test_bridge_finds_the_integral_of_a_density(d: int) -> None:
    """exp(2) times a normal whose last element is folded at 0 and mostly near it."""
    rng = np.random.default_rng(d)
    scale = np.linspace(0.5, 2, d)
    draws = rng.normal(size=(4, 1000, d)) * scale
    draws[:, :, -1] = np.abs(draws[:, :, -1])
    fold = np.arange(d) == d - 1

    def density(theta: Array) -> Array:
        return 2 + np.log(2) + stats.norm.logpdf(theta, scale=scale).sum(axis=1)

    value, error = bridge(draws, density, fold, 1)
    assert 0 < error < 0.05
    assert abs(value - 2) < 4 * error


def test_bridge_errors_are_no_smaller_than_those_of_repetitions() -> None:
    """Mean squared errors over 60 sets of draws; Sobol points of the proposal make them smaller."""
    rng = np.random.default_rng(4)

    def density(theta: Array) -> Array:
        return stats.t.logpdf(theta, 8).sum(axis=1)

    fold = np.zeros(2, dtype=bool)
    found = [bridge(rng.standard_t(8, (2, 200, 2)), density, fold, s) for s in range(60)]
    values, errors = np.array(found).T
    ratio = np.mean(values**2) / np.mean(errors**2)
    assert 0.1 < ratio < 1.7  # chi-square of 60 over 60: above 1.7 in 1 of 1,000


def test_draws_of_an_exact_posterior_by_bridge_and_a_density_written_here() -> None:
    """Draws of the hyperparameters from a fine grid; the density is that of this file."""
    fit = fitted(ESTIMATED, (*PRIORS.items(), ("b_w", "normal(0, 1)")))
    names = ("sigma_l1", "sigma_l2", "b_w")
    draws = np.stack([fit.run.draws[name].reshape(4, -1) for name in names], axis=2)[:, ::4]
    points = draws.copy()
    points[:, :, :2] = np.log(points[:, :, :2])

    def density(theta: Array) -> Array:
        s1, s2, b1 = np.exp(theta[:, 0]), np.exp(theta[:, 1]), theta[:, 2]
        logs = log_likelihood(table(), s1, s2, b1) + theta[:, 0] + theta[:, 1]
        logs += stats.halfnorm(scale=1.5).logpdf(s1) + stats.halfnorm(scale=2).logpdf(s2)
        return np.asarray(logs + stats.norm.logpdf(b1))

    rng = np.random.default_rng(1)
    mixed = rng.permutation(points.reshape(-1, 3)).reshape(points.shape)
    value, error = bridge(mixed, density, np.zeros(3, dtype=bool), 1)
    # Draws of laplace are resampled: about 500 effective ones.
    assert value == pytest.approx(fit.log_evidence().value, abs=4 * max(error, 0.05))


@pytest.mark.jags
def test_draws_of_jags_by_bridge_and_a_density_written_here() -> None:
    """A logistic regression: both coefficients are bridged, and the truth is a sum over a grid."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=25)
    outcome, _, log_p = _written_here("binomial", x, rng)
    priors = ["b_l2[x] ~ student_t(5, 0, 1)", "b_l2[Intercept] ~ normal(0, 1)"]
    fit = quietly(
        "y ~ 1 + x",
        pd.DataFrame(outcome | {"x": x}),
        family="binomial",
        priors=priors,
        backend="jags",
        draws=2000,
    )

    def density(theta: Array) -> Array:
        a, b = theta.T
        return np.asarray(log_p(b, a) + stats.t(5).logpdf(b) + stats.norm.logpdf(a))

    value, error = bridge(fit.run.draws["b_l2"], density, np.zeros(2, dtype=bool), 1)
    grid = np.linspace(-6, 6, 601)
    points = np.array(np.meshgrid(grid, grid)).reshape(2, -1).T
    truth = logsumexp(density(points)) + 2 * np.log(grid[1] - grid[0])
    assert error < 0.05
    assert value == pytest.approx(truth, abs=4 * error)
    assert fit.log_evidence().value == pytest.approx(truth, abs=0.05)


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("family", ["gaussian", "binomial", "weibull", "cox", "condlogit"])
def test_importance_and_bridge_on_draws_of_stan(family: str) -> None:
    formula, data, priors = example(family)
    one = quietly(formula, data, family=family, priors=priors)
    two = quietly(formula, data, family=family, priors=priors, backend="stan", draws=1000)
    ours, theirs = one.log_evidence(), two.log_evidence()
    assert (ours.method, theirs.method) == ("importance sampling", "bridge sampling")
    error = np.hypot(ours.mcse, theirs.mcse)
    assert error < 0.08
    assert abs(ours.value - theirs.value) < 4 * error


def example(family: str) -> tuple[str, pd.DataFrame, dict[str, str]]:
    """A model with estimated weights and priors as numbers."""
    outcome = {"weibull": "Surv(time, event)", "cox": "Surv(time, event)"}.get(family, "y")
    choice = family == "condlogit"
    start = "0" if family in ("cox", "condlogit") else "1"
    strata = " + strata(nesting)" if choice else ""
    formula = (
        f"{outcome} ~ {start} + mm(id(member, group), vars(x), fn(w ~ {ESTIMATED}), RE = TRUE)"
        f"{strata}"
    )
    true: dict[str, float] = {"b_l1[x]": 0.7, "b_w[b1]": 0.6, "sigma_l1": 0.7}
    true |= {} if start == "0" else {"b_l2[Intercept]": 0.3}
    true |= {"gaussian": {"sigma_l2": 1.0}, "weibull": {"shape": 1.5}}.get(family, {})
    more: dict[str, Any] = {"censoring": {"share": 0.2}} if family == "weibull" else {}
    if family == "cox":
        more = {"censoring": {"rate": 0.2}, "baseline": {"shape": 1.3, "rate": 1}}
    membership: dict[str, Any] = {"kind": "synthetic", "groups": 60, "members": 20, "size": 3}
    if choice:
        membership |= {"units": 15, "within": False}
    data = rmm.simulate(
        formula,
        true,
        family=family,
        membership=membership,
        covariates={"x": {"level": "member"}, "share": {"level": "membership"}},
        seed=3,
        **more,
    ).data
    priors = {"b_l1": "normal(0, 1)", "sigma_l1": "half_normal(1)", "b_w": "normal(0, 1)"}
    priors |= {} if start == "0" else {"b_l2": "normal(0, 2)"}
    priors |= {"gaussian": {"sigma_l2": "half_normal(2)"}, "weibull": {"shape": "gamma(4, 2)"}}.get(
        family, {}
    )
    return formula, data, priors


@pytest.mark.parametrize("family", ["binomial", "weibull", "cox"])
def test_other_families_by_a_grid_and_plain_importance_sampling(family: str) -> None:
    """A regression without effects: the likelihood is written here, the prior is sampled."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=25)
    outcome, start, log_p = _written_here(family, x, rng)
    priors = ["b_l2[x] ~ student_t(5, 0, 1)"]
    priors += ["b_l2[Intercept] ~ normal(0, 1)"] if start == "1" else []
    priors += ["shape <- 1.4"] if family == "weibull" else []
    name = "Surv(time, event)" if "time" in outcome else "y"
    fit = quietly(
        f"{name} ~ {start} + x", pd.DataFrame(outcome | {"x": x}), family=family, priors=priors
    )
    grid = np.linspace(-6, 6, 801)
    step = np.log(grid[1] - grid[0])
    slope, intercept = np.meshgrid(grid, grid if start == "1" else np.zeros(1), indexing="ij")
    logs = log_p(slope.ravel(), intercept.ravel()) + stats.t(5).logpdf(slope.ravel()) + step
    if start == "1":
        logs += stats.norm.logpdf(intercept.ravel()) + step
    assert fit.log_evidence().value == pytest.approx(logsumexp(logs), abs=0.01)


def _written_here(family: str, x: Array, rng: Any) -> tuple[dict[str, Array], str, Any]:
    """Outcome, intercept and log likelihood of slopes and intercepts."""
    if family == "binomial":
        y = (rng.random(len(x)) < special.expit(0.3 + 0.8 * x)).astype(float)

        def binomial(b: Array, a: Array) -> Array:
            eta = a[:, None] + b[:, None] * x
            return (y * eta - np.logaddexp(0, eta)).sum(axis=1)

        return {"y": y}, "1", binomial
    time = rng.weibull(1.4, len(x)) * np.exp(0.2 + 0.5 * x) + 0.01
    event = (rng.random(len(x)) < 0.8).astype(float)
    if family == "weibull":

        def weibull(b: Array, a: Array) -> Array:
            z = (np.log(time) - a[:, None] - b[:, None] * x) * 1.4
            return (event * (np.log(1.4) - np.log(time) + z) - np.exp(z)).sum(axis=1)

        return {"time": time, "event": event}, "1", weibull

    def cox(b: Array, a: Array) -> Array:
        """Increments of the baseline are Gamma(c g_k, c) beforehand, and integrated out."""
        ends = np.unique(time[event == 1])
        guess = event.sum() / time.sum() * np.diff(ends, prepend=0)
        c = 0.001
        eta = b[:, None] * x
        total = eta @ event
        for end, g in zip(ends, guess, strict=True):
            at_risk = np.exp(eta[:, time >= end]).sum(axis=1)
            deaths = ((time == end) & (event == 1)).sum()
            total = total + c * g * np.log(c) - special.gammaln(c * g)
            total = total + special.gammaln(c * g + deaths)
            total = total - (c * g + deaths) * np.log(c + at_risk)
        return total

    return {"time": time, "event": event}, "0", cox


def test_bayes_factors_are_ratios_of_evidence_and_probabilities_follow() -> None:
    fits = {"mean": fitted("1/n"), "share": fitted("exp(share)", tuple(PRIORS.items()))}
    fits["largest"] = fitted("share == max(share)")
    found = rmm.bayes_factor(fits, probabilities={"mean": 1, "share": 1, "largest": 2}).table
    for name, fit in fits.items():
        row = found.loc[name]
        assert row["log_evidence"] == pytest.approx(fit.log_evidence().value, abs=5 * row["mcse"])
    joint = found["prior"] * np.exp(found["log_evidence"] - found["log_evidence"].max())
    np.testing.assert_allclose(found["probability"], joint / joint.sum())
    assert found["prior"].to_dict() == {"mean": 0.25, "share": 0.25, "largest": 0.5}
    assert found["log_bayes_factor"].iloc[0] == 0


def test_errors_of_probabilities_are_those_of_simulated_errors() -> None:
    from rmm.posterior.comparison.bayes_factors import evidence_table

    found = {
        "a": Evidence(-10.0, 0.05, ""),
        "b": Evidence(-10.7, 0.02, ""),
        "c": Evidence(-9.5, 0.1, ""),
    }
    table = evidence_table(found, dict.fromkeys(found, 1 / 3)).loc[list(found)]
    rng = np.random.default_rng(1)
    logs = (
        table["log_evidence"].to_numpy() + rng.normal(size=(200_000, 3)) * table["mcse"].to_numpy()
    )
    sd = np.std(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)), axis=0)
    np.testing.assert_allclose(table["probability_mcse"], sd, rtol=0.02)


def test_a_prior_of_zero_scale_makes_the_models_one() -> None:
    """The evidence of estimated weights goes to that of 1/n as the prior of b_w narrows."""
    known, free = fitted("1/n"), fitted(ESTIMATED, (*PRIORS.items(), ("b_w", "normal(0, 1)")))
    curve = rmm.evidence_curve({"known": known, "free": free}, "b_w", scales=(0.001, 1.0))
    table = curve.table
    assert table["free", "log_evidence"].iloc[0] == pytest.approx(
        table["known", "log_evidence"].iloc[0], abs=0.02
    )
    assert table["known", "log_evidence"].nunique() == 1
    assert table["free", "log_evidence"].iloc[1] == pytest.approx(
        free.log_evidence().value, abs=0.03
    )


def test_savage_and_dickey_say_the_same_of_nested_models() -> None:
    """1/n is exp(b1*share) where b1 = 0: the ratio of densities there is the Bayes factor."""
    priors = (*PRIORS.items(), ("b_w", "normal(0, 1)"))
    free = quietly(FORMULA.format(ESTIMATED), table(), priors=dict(priors), ess=4000, draws=4000)
    found = free.hypothesis("b_w[b1] = 0").table.iloc[0]
    nested = fitted("1/n").log_evidence().value - free.log_evidence().value
    assert found["log_bf"] == pytest.approx(nested, abs=4 * found["log_bf_error"] + 0.05)


def test_priors_are_shown_on_the_scale_of_the_outcome() -> None:
    priors = {**PRIORS, "b_l1": "normal(0, 2)"}
    fits = {"mean": fitted("1/n"), "sum": fitted("1, c = FALSE", tuple(priors.items()))}
    with pytest.warns(SpecificationWarning, match=r"b_l1\[x\] differ on the scale of the outcome"):
        found = rmm.bayes_factor(fits)
    widths = found.priors["on_outcome"]
    assert widths["b_l1[x]", "sum"] == pytest.approx(3 * widths["b_l1[x]", "mean"])
    assert widths["sigma_l1", "sum"] == pytest.approx(3 * widths["sigma_l1", "mean"])
    text = str(found)
    assert "normal(0, 2)" in text
    assert "Part of the Bayes factor" in text


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_a_saved_fit_has_the_same_evidence(family: str, tmp_path: Path) -> None:
    """Proposals are not saved: they are found again, and are the same."""
    formula, data, priors = example(family)
    fit = quietly(formula, data, family=family, priors=priors)
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    assert again.run.proposals is None and fit.run.proposals is not None
    assert again.log_evidence() == fit.log_evidence()


def test_default_priors_are_named() -> None:
    fit = quietly(FORMULA.format("1/n"), table(), priors={"b_l1": "normal(0, 2)"})
    with pytest.warns(SpecificationWarning, match="b_l2, sigma_l1, sigma_l2 are defaults"):
        fit.log_evidence()


def test_a_program_of_ones_own_has_no_evidence() -> None:
    fit = replace(fitted("1/n"), own_program=True)
    with pytest.raises(PriorError, match="your own program"):
        fit.log_evidence()
    with pytest.raises(PriorError, match="'own' was fitted"):
        rmm.bayes_factor({"own": fit, "other": fitted("1/n")})


def test_baselines_of_cox_must_be_the_same() -> None:
    _, data, _ = example("cox")
    formula = "Surv(time, event) ~ 0 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
    one, two = (
        quietly(formula, data, family="cox", **options) for options in ({}, {"intervals": 5})
    )
    with pytest.raises(DataError, match=r"baseline hazard|different outcomes"):
        rmm.bayes_factor({"exact": one, "five": two})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"fits": [1, 2]}, "must map names to fits"),
        ({"probabilities": {"a": 1.0}}, "no entry for 'b'"),
        ({"probabilities": {"a": 1.0, "c": 1.0}}, "'c' is not a model"),
        ({"probabilities": {"a": 1.0, "b": -1.0}}, "positive numbers"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], said: str) -> None:
    fits = {"a": fitted("1/n"), "b": fitted("exp(share)")}
    with pytest.raises(DataError, match=said):
        rmm.bayes_factor(**{"fits": fits, **arguments})


def test_few_draws_make_no_bridge() -> None:
    model = prepare("y ~ 1", pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0]}))
    draws = {"b_l2": np.zeros((2, 10, 1)) + 2.0, "sigma_l2": np.ones((2, 10))}
    run = Run(draws, {}, 0.0, {})
    fit = Fit(model, run, "", {}, "stan", Settings(chains=2, draws=10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(rmm.BackendError, match="has 20 draws"):
            fit.log_evidence()


def test_probabilities_have_no_prior_that_the_data_scale() -> None:
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {"y": rng.poisson(3, 60) * rng.binomial(1, 0.7, 60), "x": rng.normal(size=60)}
    )
    for family in ("zero_inflated_poisson", "hurdle_poisson"):
        assert scaled_priors(prepare("y ~ x", table, family)) == ["b_l2"]
    assert "shape" in scaled_priors(prepare("y ~ x", table, "zero_inflated_negbinomial"))
