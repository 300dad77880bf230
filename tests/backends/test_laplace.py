"""The fast engine: integrals against closed forms and quadrature, draws against the predictor."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy import integrate, special, stats

import rmm
from rmm.backends.initial_values import initial_values
from rmm.backends.laplace.factorisation import fixed_design as fixed
from rmm.backends.laplace.factorisation.factors import DenseFactors, Pattern, SparseFactors
from rmm.backends.laplace.hyperparameters import folded, from_values, log_prior, to_values
from rmm.backends.laplace.importance import (
    Proposal,
    _sobol,
    find_mode,
    other_modes,
    uniforms,
)
from rmm.backends.laplace.kernels.integrals import compiled_pattern, integrals_of
from rmm.backends.laplace.latent_draws import Approximation, Effort, around, latent_draws
from rmm.backends.laplace.latent_model import Hyperparameter, LatentModel, latent_model
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.backends.laplace.sampler import Sampler
from rmm.backends.laplace.single_group_effects import find_private
from rmm.design.prepare import Model, prepare
from rmm.errors import BackendError, BackendTimeout, ProgramError
from rmm.families import Curvature, find_family
from rmm.formula.prior_syntax import Prior
from rmm.posterior.prediction.linear_predictor import (
    flat_draws,
    layout_of,
    linear_predictor,
    weight_totals,
)
from tests.coalitions import made_up_coalitions

Array = np.ndarray[Any, Any]
MEAN = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)"
ESTIMATED = "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*s)))), RE = TRUE)"

FORMULAS: dict[str, str] = {
    "known weights": f"y ~ 1 + z + {MEAN}",
    "estimated weights": f"y ~ 1 + z + {ESTIMATED}",
    "total": "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s)), c = 2), RE = TRUE)",
    "not normalised": "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(b1*s)/n, c = FALSE), RE=TRUE)",
    "aggregates": "y ~ 1 + mm(id(pid, gid), fn(w ~ 1 + exp(b1*(s - mean(s)))), RE = TRUE)",
    "nesting": f"y ~ 1 + z + q + {MEAN} + hm(id = cid, type = 'RE')",
    "crossed nesting": f"y ~ 1 + {MEAN} + hm(id = cid) + hm(id = dec)",
    "fixed effects": f"y ~ 1 + {MEAN} + hm(id = cid, type = 'FE', showFE = TRUE)",
    "walk": "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE, ar = TRUE)",
    "slopes": "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = re(1 + x))",
    "two blocks": (
        "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE) "
        "+ mm(id(pid, gid), vars(lead), fn(w ~ exp(b1*s)), RE = FALSE)"
    ),
    "offset": f"y ~ 1 + fix(z, 0.5) + {ESTIMATED.replace('vars(x)', 'vars(fix(x, 0.8))')}",
    "features": "y ~ 1 + mm(id(pid, gid), vars(x + variance(x)), fn(w ~ exp(b1*s)), RE = TRUE)",
    "feature's number": "y ~ 1 + mm(id(pid, gid), vars(softmax(x)), fn(w ~ 1/n), RE = TRUE)",
}


def latent(model: Model) -> LatentModel:
    return latent_model(model.spec, model.design, model.priors)


def sampler(model: Model, seed: int = 1) -> Sampler:
    integrand = Integrand(latent(model))
    compiled = integrals_of(integrand, compiled_pattern(integrand))
    return Sampler(integrand, seed, lambda: None, compiled=compiled)


def starts(model: Model) -> list[Any]:
    return initial_values(model, 2, 3)


# -- the integral ------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", [FORMULAS[n] for n in ("nesting", "estimated weights")])
def test_a_normal_outcome_has_its_marginal_density(formula: str) -> None:
    """N(y; X m, X S X' + sigma^2 I) with matrices built here from the table."""
    table = made_up_coalitions(40, 12)
    model = prepare(formula, table)
    found = sampler(model)
    theta = np.array([from_values(s, found.hyper) for s in starts(model)])
    values = to_values(theta, found.hyper)
    ours = found.integrand.inner(values, len(theta)).value
    for s in range(len(theta)):
        one = {name: v[s] for name, v in values.items()}
        assert ours[s] == pytest.approx(marginal_density(model, table, one), rel=1e-9)


def marginal_density(model: Model, table: pd.DataFrame, values: dict[str, Array]) -> float:
    groups = table.groupby("gid", sort=True)
    y, first = groups["y"].first().to_numpy(), groups.first()
    raw = np.ones(len(table))
    if "b_w" in values:
        raw = 1 / (1 + (table["n"] - 1) * np.exp(-values["b_w"][0] * table["s"]))
    w = np.asarray(raw / pd.Series(raw).groupby(table["gid"].to_numpy()).transform("sum"))
    J = len(y)
    W = np.zeros((J, table["pid"].max() + 1))
    np.add.at(W, (np.unique(table["gid"], return_inverse=True)[1], table["pid"]), w)
    mean, cov = np.zeros(J), np.eye(J) * values["sigma_l2"][0] ** 2
    cov += values["sigma_l1"][0] ** 2 * W @ W.T
    wx = pd.Series(w * table["x"]).groupby(table["gid"].to_numpy()).sum().to_numpy()
    columns = {"alpha": np.ones(J), "beta_l2": first["z"] - first["z"].mean()}
    mean_x = table.groupby("gid")["x"].mean().mean()  # the centre is that of equal weights
    columns["b_l1"] = wx - mean_x
    if "sigma_l3" in values:
        unit = first["cid"].to_numpy()
        cov += values["sigma_l3"][0] ** 2 * (unit[:, None] == unit[None, :])
        columns["b_l3"] = first["q"] - first["q"].mean()
    for name, column in columns.items():
        (prior,) = model.priors.elements[name]
        mean += prior.hyper["location"] * np.asarray(column)
        cov += prior.hyper["scale"] ** 2 * np.outer(column, column)
    return float(stats.multivariate_normal.logpdf(y, mean, cov))


ZEROS = (
    "zero_inflated_poisson",
    "zero_inflated_negbinomial",
    "hurdle_poisson",
    "hurdle_negbinomial",
)


def outcome_of(name: str) -> tuple[Any, dict[str, Any], dict[str, Array]]:
    """A family, an outcome of 24 groups with ties, and two values of its own parameters."""
    rng, J = np.random.default_rng(5), 24
    time, event = rng.exponential(size=J).round(1) + 0.1, (rng.random(J) < 0.7).astype(float)
    chosen = np.zeros(J)
    chosen[np.arange(8) * 3 + rng.integers(0, 3, 8)] = 1
    family, _, option = name.partition(":")
    parts: dict[str, Any] = {
        "gaussian": (rng.normal(size=J),),
        "binomial": ((rng.random(J) < 0.5).astype(float),),
        "condlogit": (chosen,),
        "weibull": (time, event),
        "cox": (time, event),
        "poisson": (rng.poisson(3.0, J),),
        "negbinomial": (rng.poisson(3.0, J),),
        **dict.fromkeys(ZEROS, (rng.poisson(0.4, J),)),
        "lognormal": (rng.gamma(2.0, size=J),),
        "gamma": (rng.gamma(2.0, size=J),),
        "beta": (rng.beta(2.0, 3.0, size=J),),
        "probit": ((rng.random(J) < 0.5).astype(float),),
        "cloglog": ((rng.random(J) < 0.5).astype(float),),
        "ordinal": (rng.permutation(np.arange(J) % 4),),
    }
    options: dict[str, Any] = {"intervals": {"intervals": 3}, "probit": {"link": "probit"}}
    found = find_family(family, options.get(option, {}))
    strata = np.repeat(np.arange(8), 3) if family == "condlogit" else None
    values = {p.name: np.array([1.3, 0.7]) for p in found.parameters}
    values |= {p.name: np.array([0.3, 0.1]) for p in found.parameters if p.name in ("zi", "hu")}
    if family == "ordinal":
        values = {"tau": np.array([[-1.0, 0.2, 1.5], [-0.3, 0.0, 0.4]])}
    return found, found.read_outcome("y", parts[family], strata), values


#: Families whose gradient and curvature are compared with differences, with their options.
DIFFERENTIATED = (
    "gaussian",
    "binomial",
    "condlogit",
    "weibull",
    "cox",
    "cox:intervals",
    "poisson",
    "negbinomial",
    *ZEROS,
    "lognormal",
    "gamma",
    "beta",
    "probit",
    "cloglog",
    "ordinal",
    "ordinal:probit",
)
#: Of these, families with the expected curvature: only the gradient is that of the likelihood.
EXPECTED = ("beta",)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_derivatives_of_every_family(name: str) -> None:
    """Gradients and Hessians of the log likelihood, by differences."""
    family, outcome, values = outcome_of(name)
    eta, h = np.random.default_rng(6).normal(size=(2, 24)) * 0.5, 1e-5
    found: Curvature = family.curvature(eta, values, outcome)
    slope, hessian = np.zeros((2, 24)), np.zeros((2, 24, 24))
    for j in range(24):
        up, down = (
            family.curvature(eta + sign * h * np.eye(24)[j], values, outcome) for sign in (1, -1)
        )
        slope[:, j] = (up.value - down.value) / (2 * h)
        hessian[:, j] = -(up.gradient - down.gradient) / (2 * h)
    np.testing.assert_allclose(found.gradient, slope, atol=1e-7)
    if name in EXPECTED:
        assert (found.weight > 0).all()
        return
    for s in range(2):
        ours = np.diag(np.broadcast_to(found.weight[s], (24,)))
        if name in ZEROS:  # 0 where the likelihood is not log-concave
            np.testing.assert_allclose(np.triu(hessian[s], 1), 0, atol=1e-7)
            hessian[s] = np.maximum(hessian[s], 0)
        if found.shared is not None:
            C = found.shared(s, np.eye(24))
            ours = ours - C.T @ C
        np.testing.assert_allclose(ours, hessian[s], atol=1e-7)


@pytest.mark.parametrize("dimension", [1, 2, 9, 16, 17])
def test_sobol_points_are_scipys(dimension: int) -> None:
    for power in (1, 3, 10):
        known = stats.qmc.Sobol(dimension, scramble=False, bits=30).random_base2(power)
        np.testing.assert_array_equal(_sobol(dimension, power) / 2**30, known)


def test_merged_steps_of_a_baseline_keep_the_curvature() -> None:
    """Of 250 steps of cox, against the Hessian by differences of the exact gradient.

    Weights of draws vary by half the sum of squares of what is too much: below .01. The diagonal is
    right, and nothing is too little: the precision remains positive definite.
    """
    rng, J = np.random.default_rng(8), 300
    family = find_family("cox")
    eta = rng.normal(0, 1, (1, J))
    time = rng.exponential(np.exp(-eta[0]))
    outcome = family.read_outcome("y", (time, (rng.random(J) < 0.85).astype(float)), None)
    assert len(outcome["ends"]) > 200
    found: Curvature = family.curvature(eta, {}, outcome)
    h, eye = 1e-4, np.eye(J)
    up, down = (family.curvature(eta + sign * h * eye, {}, outcome) for sign in (1, -1))
    exact = -(up.gradient - down.gradient) / (2 * h)
    assert found.shared is not None
    C = found.shared(0, eye)
    assert len(C) <= 24
    ours = np.diag(found.weight[0]) - C.T @ C
    np.testing.assert_allclose(np.diag(ours), np.diag(exact), atol=1e-6)
    B = np.zeros((J, 80))
    B[np.arange(J), rng.integers(80, size=J)] = 0.6
    B[np.arange(J), rng.integers(80, size=J)] += 0.4
    ratio = np.linalg.eigvals(
        np.linalg.solve(np.eye(80) + B.T @ ours @ B, np.eye(80) + B.T @ exact @ B)
    )
    assert 0.5 * np.sum((ratio.real - 1) ** 2) < 0.01
    assert np.linalg.eigvalsh(ours).min() > -1e-6


# -- factors -----------------------------------------------------------------------------------


def integrals(name: str, family: str, sparse: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Integrand, two hyperparameter values, maps and integrals there, by one kind of factors."""
    monkeypatch.setattr(Pattern, "is_sparse", sparse)
    outcome = {"gaussian": "y", "binomial": "lead", "weibull": "Surv(abs(y) + 0.1, lead)"}[family]
    table = made_up_coalitions(60, 25)
    table["lead"] = (table["gid"].str[-1] < "5").astype(int)
    model = prepare(FORMULAS[name].replace("y ~", f"{outcome} ~"), table, family)
    integrand = Integrand(latent(model))
    theta = np.array([from_values(s, integrand.model.hyper) for s in starts(model)])
    values = to_values(theta, integrand.model.hyper)
    inner = integrand.inner(values, len(theta))
    return integrand, values, integrand.affine(values, len(theta)), inner


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["gaussian", "binomial", "weibull"])
@pytest.mark.parametrize("name", ["estimated weights", "crossed nesting", "walk", "slopes"])
def test_sparse_factors_are_the_dense_ones(
    name: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, dense = integrals(name, family, False, monkeypatch)
    integrand, values, affine, sparse = integrals(name, family, True, monkeypatch)
    assert (type(dense.factors), type(sparse.factors)) == (DenseFactors, SparseFactors)
    assert np.isfinite(dense.value).all()
    np.testing.assert_allclose(sparse.value, dense.value, rtol=1e-9)
    np.testing.assert_allclose(sparse.logdet, dense.logdet, rtol=1e-9)
    np.testing.assert_allclose(sparse.mode, dense.mode, atol=1e-6)
    # Draws: their length in the metric of H, and, of many, their covariance.
    lower = dense.factors.lower[1]
    found = around(integrand, sparse, affine, np.random.default_rng(1), 20_000)
    q = Approximation(integrand, values, affine, sparse, sparse.mode, 1.0)
    moved, square = found[1], q.squared(found[:, :200])[1]
    np.testing.assert_allclose(square, np.sum((moved[:200] @ lower) ** 2, axis=1), rtol=1e-6)
    standard = (moved @ lower)[:10_000]
    covariance = standard.T @ standard / 10_000
    # 5 standard errors of some 1,600 elements: a false alarm in 1,000 runs.
    np.testing.assert_allclose(covariance, np.eye(len(covariance)), atol=5 * 2**0.5 / 100)


def test_groups_of_one_weight_are_added_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known weights, normal outcome: the integrals are those without the short cut."""
    table = made_up_coalitions(60, 80)
    model = prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)", table)
    found = []
    for few in (64, 0):
        monkeypatch.setattr(fixed, "_FEW_CLASSES", few)
        integrand = Integrand(latent(model))
        assert len(integrand.private)
        theta = np.array([from_values(s, integrand.model.hyper) for s in starts(model)])
        inner = integrand.inner(to_values(theta, integrand.model.hyper), len(theta))
        assert integrand._map is not None
        assert (integrand._map._added is not None) == bool(few)
        found.append((inner.value, inner.logdet, inner.mode))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["gaussian", "binomial", "weibull"])
def test_known_weights_are_a_fixed_map(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The integrals are those of weights that might have changed."""
    table = made_up_coalitions(60, 20).assign(died=lambda t: (t["z"] > 0).astype(int))
    table["t"] = np.exp(table["y"] - table["y"].mean())
    outcome = {"gaussian": "y", "binomial": "died", "weibull": "Surv(t, died)"}[family]
    formula = f"{outcome} ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)"
    model = prepare(formula, table, family)
    found = []
    for plain in (True, False):
        integrand = Integrand(latent(model))
        assert integrand._plain
        monkeypatch.setattr(integrand, "_plain", plain)
        theta = np.array([from_values(s, integrand.model.hyper) for s in starts(model)])
        inner = integrand.inner(to_values(theta, integrand.model.hyper), len(theta))
        assert (integrand._map is not None) == plain
        assert np.isfinite(inner.value).all()
        found.append((inner.value, inner.logdet, inner.mode))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_sparse_factors_are_taken_where_they_are_faster() -> None:
    """Groups of many nations are; members who may meet anywhere are not."""
    rng = np.random.default_rng(3)
    for nations, members in ((40, 10), (1, 400)):  # all members have several groups
        nation = np.repeat(np.arange(nations), 400 // nations)
        pid = [n * members + rng.choice(members, 6, replace=False) for n in nation]
        table = pd.DataFrame({"gid": np.repeat(np.arange(400), 6), "pid": np.concatenate(pid)})
        table["y"] = rng.normal(size=400)[table["gid"]]
        model = prepare("y ~ 1 + mm(id(pid, gid), RE = TRUE)", table)
        *_, pattern = Integrand(latent(model)).pairs
        assert pattern.size > 390
        assert pattern.is_sparse == (nations > 1)


@pytest.mark.thorough
def test_private_elements_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of one group, steps that end a walk: integrated apart, then drawn."""
    table = made_up_coalitions(30, 40)
    for name in ("estimated weights", "crossed nesting", "walk", "offset"):
        model = prepare(FORMULAS[name], table)
        apart = sampler(model)
        n = len(apart.integrand.private)
        assert n >= 5
        with monkeypatch.context() as patch:
            patch.setattr(
                "rmm.backends.laplace.marginal_likelihood.find_private",
                lambda row, column, candidate, groups: find_private(
                    row, column, np.zeros_like(candidate), groups
                ),
            )
            together = sampler(model)
        assert len(together.integrand.private) == 0
        theta = np.array([from_values(s, apart.hyper) for s in starts(model)])
        values = to_values(theta, apart.hyper)
        inner = together.integrand.inner(values, len(theta))
        ours = apart.integrand.inner(values, len(theta)).value
        np.testing.assert_allclose(ours, inner.value, rtol=1e-10)
        # Draws of all elements have the mean and the covariance that they have together.
        lower = inner.factors.lower[0]  # type: ignore[union-attr]
        many = np.repeat(theta[:1], 10_000, axis=0)
        standard = (apart.draw(many)[0][:, 0] - inner.mode[0]) @ lower
        # 5 standard errors of some 3,000 numbers: a false alarm in 500 runs.
        assert np.abs(standard.mean(axis=0)).max() < 5 / 100
        covariance = standard.T @ standard / 10_000
        np.testing.assert_allclose(covariance, np.eye(len(covariance)), atol=5 * 2**0.5 / 100)


# -- hyperparameters -----------------------------------------------------------------------------

PRIORS = {
    "normal": ("weight", (0.5, 2.0)),
    "student_t": ("weight", (3.0, 0.5, 2.0)),
    "half_normal": ("sd", (2.0,)),
    "half_t": ("sd", (3.0, 2.0)),
    "half_cauchy": ("sd", (1.0,)),
    "exponential": ("sd", (0.7,)),
    "gamma": ("shape", (2.0, 1.5)),
    "uniform": ("sd", (0.5, 3.0)),
    "beta": ("shape", (2.5, 1.5)),
    "precision_gamma": ("sd", (2.0, 1.5)),
}


@pytest.mark.parametrize("family", PRIORS)
def test_priors_integrate_to_one(family: str) -> None:
    role, values = PRIORS[family]
    hyper = (Hyperparameter("p", 0, role, Prior(family, values)),)

    def density(t: float) -> float:
        return float(np.exp(log_prior(np.array([[t]]), hyper)[0]))

    wide = 400 if role == "weight" else 60
    parts = ((0, 5), (5, wide)) if folded(hyper)[0] else ((-wide, -5), (-5, 5), (5, wide))
    total = sum(integrate.quad(density, a, b, limit=200)[0] for a, b in parts)
    assert total == pytest.approx(1, abs=2e-3 if family == "student_t" else 1e-5)
    there = to_values(np.array([[0.3]]), hyper)
    assert from_values({"p": there["p"][0]}, hyper) == pytest.approx([0.3])


@pytest.mark.thorough
def test_a_folded_proposal_has_the_density_of_its_draws() -> None:
    """Its density integrates to one over what is not negative, and its draws have its mean."""
    proposal = Proposal(
        np.array([0.4, -0.2]), np.array([[0.8, 0.0], [0.3, 0.5]]), np.array([True, False])
    )

    def density(y: float, x: float) -> float:
        return float(np.exp(proposal.log_density(np.array([[x, y]]))[0]))

    total, _ = integrate.dblquad(density, 0, 60, -60, 60, epsabs=1e-5)
    assert total == pytest.approx(1, abs=1e-3)
    draws = proposal.draw(uniforms(4096, 3, seed=2))
    assert (draws[:, 0] >= 0).all()
    mean, _ = integrate.dblquad(lambda y, x: x * density(y, x), 0, 30, -30, 30, epsabs=1e-5)
    assert draws[:, 0].mean() == pytest.approx(mean, abs=5e-3)


@pytest.mark.parametrize("narrow", [0.5, 1e-4, 1e-9])
def test_a_proposal_along_a_ridge_has_a_density(narrow: float) -> None:
    """That of the multivariate t, from its formula: the determinant and the inverse by hand.

    (SciPy's own refuses scale matrices whose eigenvalues are 1e10 apart.)
    """
    factor, df = np.array([[2.0, 0.0], [1.0, narrow]]), 5.0
    proposal = Proposal(np.array([0.3, -0.1]), factor, np.array([False, False]))
    moved = np.array([[0.4, -1.2], [0.0, 3.0], [-2.0, 0.5]])  # in units of the factor
    theta = proposal.centre + moved @ factor.T
    found = proposal.log_density(theta)
    # gamma((5 + 2) / 2) / gamma(5 / 2) = 5 / 2, so that the constant is 1 / (2 pi det).
    expected = -np.log(2 * np.pi * 2 * narrow) - 3.5 * np.log1p((moved**2).sum(axis=1) / df)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# -- draws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMULAS)
def test_draws_have_the_predictor_that_was_integrated(name: str) -> None:
    """`linear_predictor` of the named draws is the engine's own offset + A x, term by term."""
    model = prepare(FORMULAS[name], made_up_coalitions(60, 15))
    found = sampler(model)
    rng = np.random.default_rng(2)
    theta = np.array([from_values(s, found.hyper) for s in starts(model)])
    z = rng.standard_normal((len(theta), found.integrand.model.size))
    values = to_values(theta, found.hyper)
    affine, private = found.integrand.affine(values, len(theta)), found.integrand.private
    ours = found.integrand.predictor(affine, z[:, found.integrand.kept])
    ours += private.total(affine.private * z[:, private.column])
    from rmm.backends.base import Run
    from rmm.backends.laplace.run import _named

    everything = np.arange(found.integrand.model.size)
    named = _named(found.integrand.model, theta, z, everything)
    named = {k: v[None] for k, v in named.items()}
    draws = flat_draws(Run(named, {}, 0.0, {}), model)
    theirs = linear_predictor(model, layout_of(model), draws, weight_totals(model, draws))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def small_choice(seed: int = 4) -> pd.DataFrame:
    """Eight groups of two of three members; a 0/1 outcome."""
    rng = np.random.default_rng(seed)
    members = [(0, 1), (1, 2), (0, 2)] * 3
    rows = [(g, m) for g, pair in enumerate(members[:8]) for m in pair]
    table = pd.DataFrame(rows, columns=["gid", "pid"])
    y = (rng.random(8) < 0.6).astype(int)
    return table.assign(y=y[table["gid"]])


@pytest.mark.thorough
def test_a_small_logistic_model_agrees_with_quadrature() -> None:
    """E sigma, E intercept by 25^4 Gauss-Hermite points and a grid of sigma; |z| below 4.

    Eight binary outcomes: the Laplace approximation alone is poor here. Two comparisons, false
    alarm rate 1 in 8,000.
    """
    table = small_choice()
    fit = rmm.fit(
        "y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE = TRUE)",
        table,
        "binomial",
        backend="laplace",
        seed=3,
        chains=10,
        draws=1000,
    )
    found, exact = fit.summary(), quadrature(fit.model, table)
    for name, value in exact.items():
        assert abs(found["mean"][name] - value) < 4 * found["mcse_mean"][name], (name, value)
    assert fit.diagnostics()["pareto_k"] < 0.7


def quadrature(model: Model, table: pd.DataFrame) -> dict[str, float]:
    (sd,) = model.priors.elements["sigma_l1"]
    grid = np.linspace(1e-3, 8 * sd.hyper["scale"], 161)
    total = np.array([at_sigma(model, table, sigma) for sigma in grid]).T
    total *= stats.halfnorm.pdf(grid, scale=sd.hyper["scale"])
    norm = np.trapezoid(total[0], grid)
    return {
        "sigma_l1": float(np.trapezoid(grid * total[0], grid) / norm),
        "b_l2[Intercept]": float(np.trapezoid(total[1], grid) / norm),
    }


def at_sigma(model: Model, table: pd.DataFrame, sigma: float) -> tuple[float, float]:
    """p(y | sigma), and that times the mean of the intercept."""
    nodes, weights = hermegauss(25)
    weights = weights / weights.sum()
    (intercept,) = model.priors.elements["alpha"]
    a, *u = np.meshgrid(nodes, nodes, nodes, nodes, indexing="ij")
    mass = np.einsum("i,j,k,l->ijkl", weights, weights, weights, weights)
    alpha = intercept.hyper["location"] + intercept.hyper["scale"] * a
    pairs = table.groupby("gid")["pid"].apply(tuple)
    y = table.groupby("gid")["y"].first()
    logs = np.zeros_like(alpha)
    for group, (one, two) in pairs.items():
        eta = alpha + sigma * (u[one] + u[two]) / 2
        logs += special.log_expit(eta if y[group] else -eta)
    likelihood = np.exp(logs) * mass
    return float(likelihood.sum()), float((likelihood * alpha).sum())


@pytest.mark.thorough
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "effort", [Effort(20, 0), Effort(20, 2), Effort(20, 0, 3), Effort(20, 2, 12)]
)
def test_draws_in_steps_have_the_weights_of_the_integral(
    effort: Effort, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """p(y | sigma) and E[intercept | y, sigma] where effects are large, by 25^4 points.

    |z| below 4 in two comparisons: false alarm rate 1 in 8,000 each of eight times.
    """
    if sparse:
        monkeypatch.setattr(Pattern, "is_sparse", True)
    table = small_choice()
    model = prepare("y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE = TRUE)", table, "binomial")
    integrand, values = Integrand(latent(model)), {"sigma_l1": np.full((200, 1), 4.0)}
    inner, affine = integrand.inner(values, 200), integrand.affine(values, 200)
    assert isinstance(inner.factors, SparseFactors) == sparse
    rng = np.random.default_rng(5)
    z, logs = latent_draws(integrand, values, inner, affine, rng, effort)
    of_intercept = int(np.flatnonzero(integrand.model.scale_of < 0)[0])
    alpha = (
        integrand.model.location[of_intercept]
        + z[:, :, of_intercept] * (integrand.model.scale[of_intercept])
    )
    evidence, moment = at_sigma(model, table, 4.0)
    weights = np.exp(logs)
    for of, exact in ((weights, evidence), (weights * (alpha - moment / evidence), 0.0)):
        by_value = of.mean(axis=1)  # independent ones; draws of a value are in pairs
        error = by_value.std(ddof=1) / np.sqrt(len(by_value))
        assert abs(by_value.mean() - exact) < 4 * error
        assert error < 0.05 * evidence


@pytest.mark.parametrize("family", ["binomial", "weibull"])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_force_of_a_step_is_the_gradient(
    sparse: bool, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H times the force against differences of the ratio."""
    integrand, values, affine, inner = integrals("crossed nesting", family, sparse, monkeypatch)
    q = Approximation(integrand, values, affine, inner, inner.mode + 0.1, 1.3)
    rng = np.random.default_rng(2)
    moved = q.draw(rng, 2)
    found, way, h = q.at(moved), q.draw(rng, 2), 1e-5
    there, back = q.at(moved + h * way).ratio, q.at(moved - h * way).ratio
    # H-products by polarisation of the squared length.
    along = (q.squared(found.force + way) - q.squared(found.force - way)) / 4
    np.testing.assert_allclose(along, (there - back) / (2 * h), rtol=1e-5, atol=1e-6)


def test_what_is_not_looked_at_changes_nothing() -> None:
    """Effects that nobody asked for are left out; all else is the same to the last bit."""
    table = made_up_coalitions(40, 30)
    for name in ("walk", "crossed nesting", "slopes", "estimated weights"):
        given = {"backend": "laplace", "seed": 1, "draws": 200, "progress": False}
        all_of_it = rmm.fit(FORMULAS[name], table, **given).run.draws
        some = rmm.fit(FORMULAS[name], table, monitor="structural", **given).run.draws
        assert set(some) < set(all_of_it)
        for parameter, draws in some.items():
            np.testing.assert_array_equal(draws, all_of_it[parameter])


def test_the_same_seed_gives_the_same_draws_and_another_does_not() -> None:
    table = made_up_coalitions(40, 12)
    fits = [
        rmm.fit(FORMULAS["estimated weights"], table, backend="laplace", seed=s, draws=200)
        for s in (1, 1, 2)
    ]
    one, again, other = (fit.summary()["mean"] for fit in fits)
    pd.testing.assert_series_equal(one, again)
    assert not np.allclose(one, other)


def test_effective_sizes_are_those_of_the_weights() -> None:
    """4,000 draws are resampled from fewer: no table may claim more than the weights are worth."""
    fit = rmm.fit(FORMULAS["known weights"], made_up_coalitions(60, 15), backend="laplace", seed=1)
    ess = fit.run.engine["ess"]
    assert 400 <= ess < 4000
    table = fit.summary()
    assert (table["ess_bulk"] <= ess).all()
    np.testing.assert_allclose(table["mcse_mean"], table["sd"] / np.sqrt(table["ess_bulk"]))
    assert fit.converged
    assert fit.diagnostics()["pareto_k"] == fit.run.engine["pareto_k"]


def test_a_large_k_is_no_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    from rmm.backends.laplace import sampler as sampling

    real = sampling.smoothed
    monkeypatch.setattr(sampling, "smoothed", lambda logs: (real(logs)[0], 0.9))
    monkeypatch.setattr(sampling, "MOST_POINTS", 300)
    with pytest.warns(rmm.ConvergenceWarning, match=r"Pareto k .* 0\.90 .*at most 0\.6\d"):
        fit = rmm.fit(
            FORMULAS["known weights"],
            made_up_coalitions(40, 12),
            backend="laplace",
            seed=1,
            draws=100,
            ess=500,  # at most 2,000 points, for which the limit of k is below 0.7
        )
    assert not fit.converged


def test_what_follows_a_fit_works(tmp_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit(FORMULAS["nesting"], made_up_coalitions(60, 15), backend="laplace", seed=1)
    assert np.isfinite(fit.loo().elpd)
    assert len(fit.member_effects()) == 15
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    assert "integrated out" in fit.program


def test_messages() -> None:
    table = made_up_coalitions(40, 12)
    with pytest.raises(ProgramError, match="'laplace' does not use a program"):
        rmm.fit(FORMULAS["known weights"], table, backend="laplace", program="model {}")
    with pytest.raises(BackendTimeout, match=r"time limit of 1e-06 s"):
        rmm.fit(FORMULAS["known weights"], table, backend="laplace", timeout=1e-6)
    for ess in (0, "many", True, 2e6):
        with pytest.raises(
            BackendError, match=r"effective draws of laplace\) must be a number from 1 to 1,000,000"
        ):
            rmm.fit(FORMULAS["known weights"], table, backend="laplace", ess=ess)


def test_more_effective_draws_can_be_had() -> None:
    table = made_up_coalitions(40, 12)
    few, many = (
        rmm.fit(FORMULAS["known weights"], table, backend="laplace", seed=1, chains=2, **more)
        for more in ({"ess": 500}, {"ess": 1500})
    )
    assert 250 <= few.run.engine["ess"] < 1000
    assert many.run.engine["ess"] >= 1500
    for wrong in (0, True, "many", float("nan")):
        with pytest.raises(BackendError, match=r"`ess` .* of laplace\) must be a number"):
            rmm.fit(FORMULAS["known weights"], table, backend="laplace", ess=wrong)


@pytest.mark.thorough
def test_a_ridge_of_standard_deviations_is_covered() -> None:
    """Without shared members the data tell one sum of both variances only.

    Ten data sets; without local proposals two of three had a Pareto k above .7.
    """
    rng = np.random.default_rng(8)
    table = pd.DataFrame({"gid": np.repeat(np.arange(120), 3), "pid": np.arange(360)})
    ks = []
    for seed in range(10):
        effect = rng.normal(size=360).reshape(120, 3).mean(axis=1) + rng.normal(size=120)
        table["y"] = effect[table["gid"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = rmm.fit(
                "y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE = TRUE)",
                table,
                backend="laplace",
                seed=seed,
                monitor="structural",
            )
        ks.append(fit.diagnostics()["pareto_k"])
    assert max(ks) < 0.7


def two_sided(seed: int = 5) -> pd.DataFrame:
    """Groups of 3 whose weights follow exp(4*s): a function of b^2 or |b - c| has two modes."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(100), 3)
    m = np.concatenate([rng.choice(40, 3, replace=False) for _ in range(100)])
    x, s = rng.normal(size=300), rng.normal(size=300)
    raw = np.exp(4 * s)
    w = raw / np.bincount(g, raw)[g]
    y = 1 + np.bincount(g, w * x) + 0.7 * rng.normal(size=100)
    return pd.DataFrame({"g": g, "m": m, "x": x, "s": s, "y": y[g], "t": np.exp(y)[g], "e": 1})


@pytest.mark.parametrize(("outcome", "family"), [("y", "gaussian"), ("Surv(t, e)", "weibull")])
def test_both_modes_of_a_weight_coefficient_are_found(outcome: str, family: str) -> None:
    """The posterior is the same for b and -b: half of its mass lies on either side."""
    formula = f"{outcome} ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(b1^2*s)))"
    fit = rmm.fit(formula, two_sided(), family, backend="laplace", seed=1)
    b = fit.run.draws["b_w"].ravel()
    positive = float((b > 0).mean())
    # Four Monte Carlo errors of a share of one half at the effective number of draws.
    assert abs(positive - 0.5) < 4 * 0.5 / np.sqrt(fit.run.engine["ess"])
    assert fit.run.engine["pareto_k"] < 0.7
    assert np.abs(b).min() > 0.3  # a valley lies between


def test_modes_of_different_mass_are_weighted() -> None:
    """|b - c| has the same likelihood at c + d and c - d: masses are those of the prior."""
    formula = "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(abs(b1 - 0.3)*s)))"
    fit = rmm.fit(formula, two_sided(), backend="laplace", seed=1, ess=1000)
    away = fit.run.draws["b_w"].ravel() - 0.3
    scale = fit.model.priors.elements["b_w"][0].hyper["scale"]
    distance = np.abs(away)
    above = stats.norm.pdf(0.3 + distance, scale=scale)
    below = stats.norm.pdf(0.3 - distance, scale=scale)
    expected = float(np.mean(above / (above + below)))
    error = np.sqrt(expected * (1 - expected) / fit.run.engine["ess"])
    assert abs(float((away > 0).mean()) - expected) < 4 * error


def test_one_mode_is_found_once() -> None:
    """Searches from the other side that end in the first mode add no proposal."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 3))
    precision = A @ A.T + np.eye(3)

    def density(theta: Array) -> Array:
        return np.asarray(-0.5 * np.sum(theta @ precision * theta, axis=1))

    fold = np.zeros(3, dtype=bool)
    first = find_mode(density, np.ones((1, 3)), fold)
    np.testing.assert_allclose(first.covariance, np.linalg.inv(precision), rtol=1e-4)
    log_mass = -0.5 * np.linalg.slogdet(precision)[1]
    assert first.log_mass == pytest.approx(log_mass, abs=1e-3)
    assert other_modes(density, first, np.array([0, 2]), np.array([3.0, 3.0]), fold) == []


@pytest.mark.parametrize("start", [0.0, 0.006, 0.05])
def test_a_saddle_without_effects_is_no_mode(start: float) -> None:
    """A density that is symmetric in a standard deviation is level at 0, and rises beside it."""

    def density(theta: Array) -> Array:
        below, above = (-0.5 * ((theta[:, 1] + m) / 0.3) ** 2 for m in (0.6, -0.6))
        return np.asarray(np.logaddexp(below, above) - 0.5 * (theta[:, 0] - 1) ** 2)

    mode = find_mode(density, np.array([[1.0, start]]), np.array([False, True]))
    assert mode.centre == pytest.approx([1, 0.6], abs=0.01)
    assert mode.covariance == pytest.approx(np.diag([1, 0.3**2]), rel=0.02, abs=1e-3)


def test_a_narrow_skew_mode_takes_few_values() -> None:
    """Of 100,000 groups: differences of .02 are six standard deviations wide, and their slope is 0
    beside the mode.
    """
    fold = np.zeros(2, dtype=bool)

    def density(theta: Array) -> Array:
        x, y = theta.T
        return np.asarray(-1e5 * ((x - 1) ** 2 / 2 + (x - 1) ** 3 + (y - x) ** 2 / 2))

    mode = find_mode(density, np.array([[0.9, 0.8]]), fold)
    assert mode is not None and mode.evaluations < 80
    assert mode.height > -0.5  # within a standard deviation


@pytest.mark.parametrize("width", [1.0, 0.01, 3e-4])
def test_a_narrow_density_has_its_own_curvature(width: float) -> None:
    """Differences of derivatives shorten where they would reach beyond the density."""
    rng = np.random.default_rng(2)
    A = rng.normal(size=(3, 3))
    covariance = width**2 * (A @ A.T + 0.1 * np.eye(3))
    precision, centre = np.linalg.inv(covariance), np.array([0.7, -1.2, 0.4])

    def density(theta: Array) -> Array:
        away = theta - centre
        return np.asarray(-0.5 * np.einsum("si,ij,sj->s", away, precision, away))

    mode = find_mode(density, centre[None] + 0.5, np.zeros(3, dtype=bool))
    assert mode.centre == pytest.approx(centre, abs=0.1 * width)
    np.testing.assert_allclose(mode.covariance, covariance, rtol=0.01, atol=0.01 * width**2)


def test_a_mode_beyond_a_valley_is_found_unless_its_mass_is_negligible() -> None:
    """Normals at 0 and at -8 of weights 1 and e^-4, and e^-30."""
    fold = np.zeros(2, dtype=bool)

    def mixture(less: float) -> Any:
        def density(theta: Array) -> Array:
            here = -0.5 * np.sum(theta**2, axis=1)
            there = less - 0.5 * ((theta[:, 0] + 8) ** 2 + theta[:, 1] ** 2)
            return np.asarray(np.logaddexp(here, there))

        return density

    for less, count in ((-4.0, 1), (-30.0, 0)):
        density = mixture(less)
        first = find_mode(density, np.array([[0.5, 0.5]]), fold)
        found = other_modes(density, first, np.array([0]), np.array([7.0]), fold)
        assert len(found) == count
        for mode in found:
            assert mode.centre == pytest.approx([-8, 0], abs=0.02)
