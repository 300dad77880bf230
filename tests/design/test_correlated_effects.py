"""Correlated intercepts and slopes of members: against closed forms, lme4 and each other's engine.

What is expected is computed here from the user's columns and covariance matrices, without partial
correlations or Cholesky factors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

import rmm
from rmm.backends.laplace.hyperparameters import log_prior, to_values
from rmm.backends.laplace.kernels.integrals import compiled_pattern, integrals_of
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.laplace.marginal_likelihood import EXACTLY, Integrand
from rmm.design.prepare import Model, prepare
from rmm.errors import BackendError, DataError, PriorError
from rmm.families import find_family
from rmm.formula.prior_syntax import Prior
from rmm.model.correlations import (
    cholesky_factor,
    correlation_matrix,
    correlations,
    lkj_shapes,
    partial_correlations,
)
from rmm.posterior.prior_draws import draw_parameters
from rmm.simulation import RecipeError, draw, draw_fixed, simulate
from rmm.simulation import prepare as prepare_recipe
from rmm.simulation.estimands.true_shares import variance_share
from rmm.simulation.memberships.structures import prepare_membership
from rmm.simulation.outcomes.true_predictor import draw_all_effects
from rmm.simulation.truth_config import prepare_truth
from rmm.simulation.truth_priors import draw_values
from tests.coalitions import made_up_coalitions

Array = np.ndarray[Any, Any]
KNOWN = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = re(1 + x, cor = TRUE))"
THREE = "y ~ 1 + mm(id(pid, gid), vars(x, s), fn(w ~ 1/n), RE = re(1 + x + s, cor = TRUE))"
ESTIMATED = (
    "y ~ 1 + mm(id(pid, gid), vars(x, s),"
    " fn(w ~ 1/(1 + (n - 1)*exp(-(b1*lead)))), RE = re(0 + x + s, cor = TRUE))"
)
FORMULAS = {"known": KNOWN, "three": THREE, "estimated": ESTIMATED}
_HALF = {"sigma_l1": "half_normal(1)", "sigma_slope_l1": "half_normal(1)"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_up_coalitions(60, 12)


# ---- correlation matrices --------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5])
def test_partial_correlations_make_any_matrix(count: int) -> None:
    rng, pairs = np.random.default_rng(1), count * (count - 1) // 2
    partial = rng.uniform(-0.95, 0.95, (50, pairs))
    found = correlations(partial)
    matrices = correlation_matrix(found)
    np.testing.assert_allclose(cholesky_factor(partial), np.linalg.cholesky(matrices), atol=1e-10)
    np.testing.assert_allclose(partial_correlations(found), partial, atol=1e-8)
    assert np.linalg.eigvalsh(matrices).min() > 0


def test_partial_correlations_are_those_of_regressions() -> None:
    """The last of four effects' pairs given the first two, by the inverse of their matrix."""
    R = correlation_matrix(np.array([0.3, -0.2, 0.5, 0.1, 0.4, -0.3]))
    inverse = np.linalg.inv(R)
    known = -inverse[2, 3] / np.sqrt(inverse[2, 2] * inverse[3, 3])
    found = partial_correlations(R[np.triu_indices(4, 1)])
    assert found[5] == pytest.approx(known)
    assert found[0] == pytest.approx(0.3)


@pytest.mark.parametrize("eta", [1.0, 2.0, 3.5])
def test_the_prior_is_a_power_of_the_determinant(eta: float) -> None:
    """Beta densities and the Jacobian of the correlations, by differences, at eight matrices."""
    rng, step = np.random.default_rng(2), 1e-6
    shapes = lkj_shapes(eta, 6)
    rest = []
    for partial in rng.uniform(-0.8, 0.8, (8, 6)):
        moved = [
            (correlations(partial + step * e) - correlations(partial - step * e)) for e in np.eye(6)
        ]
        jacobian = np.linalg.slogdet(np.array(moved) / (2 * step))[1]
        density = stats.beta.logpdf((1 + partial) / 2, shapes, shapes).sum()
        determinant = np.linalg.slogdet(correlation_matrix(correlations(partial)))[1]
        rest.append(density - jacobian - (eta - 1) * determinant)
    np.testing.assert_allclose(rest, rest[0], atol=1e-6)


def test_prior_draws_have_the_marginal_of_every_correlation(table: pd.DataFrame) -> None:
    """(r + 1) / 2 ~ beta(eta + (K - 2) / 2): those of fits and of simulations; KS at 1e-3 / 6."""
    model = prepare(THREE, table, priors={"cor_l1": "lkj(1.5)"})
    found = draw_parameters(model, 4000, np.random.default_rng(3))
    law = stats.beta(2.0, 2.0, -1, 2)
    names = [f"cor_l1[{v}]" for v in model.design.coords["pair_l1"]]
    assert names == ["cor_l1[Intercept, x]", "cor_l1[Intercept, s]", "cor_l1[x, s]"]
    rng = np.random.default_rng(4)
    own = [draw_values(dict.fromkeys(names, Prior("lkj", (1.5,))), rng) for _ in range(4000)]
    for k, name in enumerate(names):
        assert stats.kstest(found["cor_l1"][:, k], law.cdf).pvalue > 1e-3 / 6
        assert stats.kstest([one[name] for one in own], law.cdf).pvalue > 1e-3 / 6
    # Of both the determinant, which has all of the joint density that the marginals lack.
    sets = [found["cor_l1"], np.array([list(one.values()) for one in own])]
    first, second = (np.linalg.det(correlation_matrix(v)) for v in sets)
    assert stats.ks_2samp(first, second).pvalue > 1e-3
    # Effects have the correlations and standard deviations of their own draw.
    u = np.concatenate([found["u_l1"][:, :, None], found["u_slope_l1"]], axis=2)
    sd = np.column_stack([found["sigma_l1"], found["sigma_slope_l1"]])
    covariance = sd[:, :, None] * sd[:, None, :] * correlation_matrix(found["cor_l1"])
    squares = np.einsum("smk,skl,sml->sm", u, np.linalg.inv(covariance), u)
    assert stats.kstest(squares[:, 0], stats.chi2(3).cdf).pvalue > 1e-3


# ---- laplace against normal densities --------------------------------------------------------


def members_covariance(
    frame: pd.DataFrame, terms: tuple[str, ...], covariance: Array, w: Array
) -> Array:
    """(J, J) covariance of sums of w c'u over members, c = the columns `terms` (1: a constant)."""
    c = np.column_stack([np.ones(len(frame)) if t == "1" else frame[t] for t in terms])
    same = frame["pid"].to_numpy()[:, None] == frame["pid"].to_numpy()[None, :]
    rows = w[:, None] * w[None, :] * (c @ covariance @ c.T) * same
    group = np.unique(frame["gid"], return_inverse=True)[1]
    sums = np.zeros((group.max() + 1, len(frame)))
    sums[group, np.arange(len(frame))] = 1.0
    return np.asarray(sums @ rows @ sums.T)


def marginal(model: Model, frame: pd.DataFrame, values: dict[str, Any], terms: Any) -> float:
    """log p(y | theta) with coefficients integrated out, from the columns of the table."""
    group = np.unique(frame["gid"], return_inverse=True)[1]
    raw = np.ones(len(frame))
    if "b_w" in values:
        raw = np.asarray(1 / (1 + (frame["n"] - 1) * np.exp(-values["b_w"] * frame["lead"])))
    w = raw / np.bincount(group, raw)[group]
    S = correlation_matrix(np.atleast_1d(values["cor"])) * np.outer(values["sds"], values["sds"])
    cov = members_covariance(frame, terms, S, w)
    y = frame.groupby("gid", sort=True)["y"].first().to_numpy()
    cov += values["sigma_l2"] ** 2 * np.eye(len(y))
    (alpha,), mean = model.priors.elements["alpha"], np.zeros(len(y))
    mean += alpha.hyper["location"]
    cov += alpha.hyper["scale"] ** 2
    for name, prior in zip(
        [t for t in terms if t != "1"], model.priors.elements["b_l1"], strict=True
    ):
        x = frame[name].to_numpy()
        column = np.bincount(group, w * x) - np.mean(np.bincount(group, x) / np.bincount(group))
        cov += prior.hyper["scale"] ** 2 * np.outer(column, column)
    return float(stats.multivariate_normal.logpdf(y, mean, cov))


@pytest.mark.parametrize(
    ("name", "terms"), [("known", "1x"), ("three", "1xs"), ("estimated", "xs")]
)
def test_a_normal_outcome_has_its_marginal_density(
    name: str, terms: str, table: pd.DataFrame
) -> None:
    """By SciPy's multivariate normal; kernels and NumPy agree to 1e-9, and so do log priors."""
    model = prepare(FORMULAS[name], table)
    latent = latent_model(model.spec, model.design, model.priors)
    integrand = Integrand(latent)
    theta = np.abs(np.random.default_rng(5).normal(size=(4, len(latent.hyper))))
    theta[1] *= [-1 if h.role == "correlation" else 1 for h in latent.hyper]
    values = to_values(theta, latent.hyper)
    ours = integrand.inner(values, len(theta)).value
    for s in range(len(theta)):
        sds = [*values.get("sigma_l1", np.zeros((4, 0)))[s], *values["sigma_slope_l1"][s]]
        own = {"sds": sds, "cor": correlations(values["pcor_l1"][s])}
        own["sigma_l2"] = values["sigma_l2"][s, 0]
        if "b_w" in values:
            own["b_w"] = values["b_w"][s, 0]
        expected = marginal(model, table, own, tuple(terms))
        assert ours[s] == pytest.approx(expected, rel=1e-8)
    compiled = integrals_of(integrand, compiled_pattern(integrand))
    if compiled is not None:
        found = compiled.integrals(theta, None, EXACTLY)
        np.testing.assert_allclose(found.value, ours, rtol=1e-9)
        np.testing.assert_allclose(found.prior, log_prior(theta, latent.hyper), rtol=1e-9)


def test_binary_outcomes_have_the_same_integrals_by_kernels(table: pd.DataFrame) -> None:
    binary = table.assign(y=(table["y"] > table["y"].median()).astype(int))
    for formula in FORMULAS.values():
        model = prepare(formula, binary, find_family("binomial", {}))
        latent = latent_model(model.spec, model.design, model.priors)
        integrand = Integrand(latent)
        theta = np.abs(np.random.default_rng(6).normal(size=(4, len(latent.hyper))))
        ours = integrand.inner(to_values(theta, latent.hyper), 4).value
        compiled = integrals_of(integrand, compiled_pattern(integrand))
        if compiled is not None:
            found = compiled.integrals(theta, None, EXACTLY).value
            np.testing.assert_allclose(found, ours, rtol=1e-9)


def test_posterior_and_evidence_are_those_of_quadrature(table: pd.DataFrame) -> None:
    """Standard deviations held: the correlation is the only hyperparameter."""
    held = {"sigma_l1": 0.8, "sigma_slope_l1": 0.9, "sigma_l2": 0.6}
    priors = [f"{k} <- {v}" for k, v in held.items()]
    priors += ["b_l2 ~ normal(0, 2)", "b_l1 ~ normal(0, 2)", "cor_l1 ~ lkj(1.7)"]
    fit = rmm.fit(KNOWN, table, backend="laplace", priors=priors, seed=1, ess=2000, draws=2000)
    group = np.unique(table["gid"], return_inverse=True)[1]
    w = 1 / np.bincount(group)[group]
    wx = np.bincount(group, w * table["x"])
    y = table.groupby("gid", sort=True)["y"].first().to_numpy()
    rest = 4.0 + 4.0 * np.outer(wx, wx) + 0.36 * np.eye(len(y))

    def joint(r: float) -> float:
        S = np.array([[0.64, 0.72 * r], [0.72 * r, 0.81]])
        cov = rest + members_covariance(table, ("1", "x"), S, w)
        density = stats.multivariate_normal.logpdf(y, np.zeros(len(y)), cov)
        return float(density + stats.beta.logpdf(r, 1.7, 1.7, -1, 2))

    grid = np.linspace(-1, 1, 403)[1:-1]
    logs = np.array([joint(r) for r in grid])
    height = np.exp(logs - logs.max())
    total = integrate.simpson(height, x=grid)
    mean = integrate.simpson(height * grid, x=grid) / total
    row = fit.summary().loc["cor_l1[Intercept, x]"]
    assert abs(row["mean"] - mean) < 4 * row["mcse_mean"]
    evidence = fit.log_evidence()
    assert abs(evidence.value - (np.log(total) + logs.max())) < 4 * evidence.mcse + 1e-3


# R 4, lme4: lmer(y ~ 1 + x + (1 + x | member), REML = TRUE) on `nested()`, VarCorr and REMLcrit,
# and the criterion of the model without correlation, (1 | member) + (0 + x | member).
LME4 = {"sds": (1.0456398223, 0.8052177612), "cor": 0.4828515244, "sigma_l2": 0.6708204538}
REML, REML_WITHOUT, SDS_WITHOUT = (
    858.4821544,
    867.0426963,
    (1.0334566071, 0.8062411270, 0.6724009515),
)


def nested() -> pd.DataFrame:
    """Groups of one member, who has eight of them."""
    rng = np.random.default_rng(12)
    member = np.repeat(np.arange(40), 8)
    x = rng.normal(size=320)
    root = np.linalg.cholesky([[1.0, 0.48], [0.48, 0.64]])
    u = rng.standard_normal((40, 2)) @ root.T
    y = 1 + 0.5 * x + u[member, 0] + u[member, 1] * x + 0.7 * rng.standard_normal(320)
    return pd.DataFrame({"pid": member, "gid": np.arange(320), "x": x, "y": y})


@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")
def test_the_restricted_likelihood_is_that_of_lme4() -> None:
    """With flat priors of coefficients laplace's integral is the restricted likelihood."""
    priors = ["b_l2 ~ normal(0, 1e4)", "b_l1 ~ normal(0, 1e4)"]
    model = prepare(KNOWN, nested(), priors=priors)
    integrand = Integrand(latent_model(model.spec, model.design, model.priors))

    def criterion(sds: Any, cor: float, sigma: float) -> float:
        values = {
            "sigma_l1": np.array([[sds[0]]]),
            "sigma_slope_l1": np.array([[sds[1]]]),
            "pcor_l1": np.array([[cor]]),
            "sigma_l2": np.array([[sigma]]),
        }
        return float(-2 * integrand.inner(values, 1).value[0])

    def of(point: Array) -> float:
        return criterion(np.exp(point[:2]), float(np.tanh(point[2])), float(np.exp(point[3])))

    best = optimize.minimize(of, np.array([0.0, 0.0, 0.1, 0.0]), method="BFGS", tol=1e-6)
    np.testing.assert_allclose(np.exp(best.x[:2]), LME4["sds"], rtol=2e-4)
    assert np.tanh(best.x[2]) == pytest.approx(LME4["cor"], abs=2e-4)
    assert np.exp(best.x[3]) == pytest.approx(LME4["sigma_l2"], rel=2e-4)
    without = criterion(SDS_WITHOUT[:2], 0.0, SDS_WITHOUT[2])
    assert without - best.fun == pytest.approx(REML_WITHOUT - REML, abs=2e-3)


# ---- what is said of data and priors ---------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("cor_l1 ~ normal(0, 1)", r"`cor_l1 ~ lkj\(eta\)`"),
        ("cor_l1[x] ~ lkj(2)", "all correlations `cor_l1` have one prior"),
        ("cor_l1 <- 0", r"remove `cor = TRUE`"),
        ("b_l1 ~ lkj(2)", r"lkj\(\) is the prior of correlations"),
        ("cor_l1 ~ lkj(-1)", "the eta must be positive"),
        ("cor_l1 ~ lkj(1, 2)", r"takes 1 number: lkj\(eta\)"),
    ],
)
def test_messages_about_priors(prior: str, message: str, table: pd.DataFrame) -> None:
    with pytest.raises(PriorError, match=message):
        prepare(KNOWN, table, priors=[prior])


def test_one_column_has_no_correlation(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), RE = re(0 + x, cor = TRUE))"
    with pytest.raises(DataError, match="there is only `x`"):
        prepare(formula, table)
    with pytest.raises(PriorError, match="the model has no parameter `cor_l1`"):
        prepare(KNOWN.replace(", cor = TRUE", ""), table, priors={"cor_l1": "lkj(2)"})


def test_initial_values_are_correlations(table: pd.DataFrame) -> None:
    fit = rmm.fit(KNOWN, table, backend="laplace", inits={"cor_l1": 0.5}, seed=1)
    assert "cor_l1[Intercept, x]" in fit.summary().index
    with pytest.raises(BackendError, match="correlations of a positive definite matrix"):
        rmm.fit(KNOWN, table, backend="laplace", inits={"cor_l1": 1.5}, seed=1)


# ---- simulation ------------------------------------------------------------------------------

TRUTH: dict[str, Any] = {
    "b_l2[Intercept]": 0.5,
    "b_l1[x]": 1.0,
    "sigma_l1": 1.0,
    "sigma_slope_l1[x]": 0.8,
    "cor_l1[Intercept, x]": -0.6,
    "sigma_l2": 0.5,
}


def simulated(members: int = 40, groups: int = 300, **changes: Any) -> Any:
    known = {**TRUTH, **changes}
    return simulate(
        KNOWN,
        known,
        membership={
            **{"kind": "synthetic", "groups": groups, "members": members, "size": 3},
            **{"member": "pid", "group": "gid"},
        },
        covariates={"x": {"level": "membership"}},
        seed=4,
    )


def test_simulated_outcomes_have_the_covariance() -> None:
    """Groups of one member each: cov(y, x y) and the like, within 5 standard errors."""
    rng = np.random.default_rng(8)
    place, _ = prepare_membership(
        {"kind": "synthetic", "groups": 20_000, "members": 20_000, "size": 1,
         "member": "pid", "group": "gid"}, Path(".")
    )  # fmt: skip
    memberships = place(rng)
    truth = prepare_truth(
        {"formula": KNOWN, "family": "gaussian", "parameters": TRUTH},
        {"x": "membership"},
        memberships.names,
        {},
    )
    u = np.array(list(draw_all_effects(truth, memberships, {}, rng).values()))
    known = np.array([[1.0, -0.48], [-0.48, 0.64]])
    error = np.sqrt((np.outer(np.diag(known), np.diag(known)) + known**2) / u.shape[1])
    assert (np.abs(np.cov(u) - known) < 5 * error).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cor_l1[Intercept, x]": 1.2}, "between -1 and 1"),
        ({"cor_l1[Intercept, x]": {"prior": "normal(0, 1)"}}, r"lkj\(eta\) is the prior"),
        ({"b_l1[x]": {"prior": "lkj(2)"}}, r"lkj\(eta\) is the prior"),
    ],
)
def test_messages_about_truths(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        simulated(**changes)


def test_distributions_of_correlated_effects_are_normal() -> None:
    with pytest.raises(RecipeError, match="a random effect of the formula"):
        simulate(
            KNOWN,
            TRUTH,
            membership={"kind": "synthetic", "groups": 20, "members": 9, "size": 3,
                        "member": "pid", "group": "gid"},
            covariates={"x": {"level": "membership"}},
            effects={"u_l1": {"distribution": "t", "df": 4}},
        )  # fmt: skip


# ---- after the fit ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit() -> rmm.Fit:
    return rmm.fit(KNOWN, simulated().data, backend="laplace", seed=1)


def drawn(fit: rmm.Fit, name: str) -> Array:
    values = fit.draws["posterior"][name].to_numpy()
    return np.asarray(values.reshape(-1, *values.shape[2:]))


def test_the_truth_comes_back(fit: rmm.Fit) -> None:
    """|z| < 4 for six parameters: false alarm below 0.1%."""
    summary = fit.summary()
    for name, value in TRUTH.items():
        assert abs(summary["mean"][name] - value) < 4 * summary["sd"][name], name
    assert summary["contraction"]["cor_l1[Intercept, x]"] > 0.5


def test_new_members_have_correlated_effects(fit: rmm.Fit) -> None:
    """Two groups of a new member, at x = 0 and 1: each draw's own covariance, by its chi-square."""
    many = 400
    new = pd.DataFrame(
        {
            "gid": np.arange(2 * many),
            "pid": 10_000 + np.arange(2 * many) // 2,
            "x": np.tile([0.0, 1.0], many),
        }
    )
    every = fit.predict(new, "linear", draws=True).to_numpy()
    known = fit.predict(new, "linear", effects="known", draws=True).to_numpy()
    gain = (every - known).reshape(-1, many, 2)
    u = np.stack([gain[:, :, 0], gain[:, :, 1] - gain[:, :, 0]], axis=2)
    sd = np.column_stack([drawn(fit, "sigma_l1"), drawn(fit, "sigma_slope_l1")])
    S = sd[:, :, None] * sd[:, None, :] * correlation_matrix(drawn(fit, "cor_l1"))
    squares = np.einsum("smk,skl,sml->sm", u, np.linalg.inv(S), u)
    assert stats.kstest(np.diag(squares[:many]), stats.chi2(2).cdf).pvalue > 1e-3
    z = u / sd[:, None, :]
    assert np.mean(z[:, :, 0] * z[:, :, 1]) == pytest.approx(drawn(fit, "cor_l1").mean(), abs=0.05)
    alone = fit.predict(new[:1], "linear", draws=True).to_numpy()
    np.testing.assert_allclose(alone.ravel(), every.reshape(-1, 2 * many)[:, 0])


def test_variances_have_the_covariances(fit: rmm.Fit) -> None:
    frame = fit.model.grouped.frame
    x, size = frame["x"].to_numpy(), 3
    groups = frame["gid"].nunique()
    a, b, r = drawn(fit, "sigma_l1"), drawn(fit, "sigma_slope_l1")[:, 0], drawn(fit, "cor_l1")[:, 0]
    each = a**2 * len(x) + b**2 * (x**2).sum() + 2 * r * a * b * x.sum()
    expected = each / size**2 / groups
    found = fit.variance_components()["variance"]["mean"]
    assert list(found.index) == ["members", "residual"]
    assert found["members"] == pytest.approx(expected.mean())


def test_true_shares_have_the_covariances() -> None:
    recipe = prepare_recipe(
        {
            "membership": {"kind": "synthetic", "groups": 50, "members": 20, "size": 3,
                           "member": "pid", "group": "gid"},
            "covariates": {"x": {"level": "membership", "mean": 1.0}},
            "truth": {"formula": KNOWN, "family": "gaussian", "parameters": TRUTH},
        },
        Path("."),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    data = draw(recipe, draw_fixed(recipe, lambda part: rng), rng)
    x = data.rows("x")
    members = (1 + 0.64 * x**2 - 2 * 0.48 * x).sum() / 9 / 50
    assert variance_share(data, component="members") == pytest.approx(members / (members + 0.25))


def test_effects_by_name_and_saved(fit: rmm.Fit, tmp_path: Path) -> None:
    effects = fit.member_effects()
    assert effects.groupby("effect").size().to_dict() == {"Intercept": 40, "x": 40}
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(again.member_effects(), effects)
    assert np.isfinite(fit.loo().elpd)
    found = fit.estimand("rank", member=3)
    assert 1 <= float(np.mean(found)) <= 40


@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")
def test_no_correlation_has_its_bayes_factor(fit: rmm.Fit) -> None:
    """The density ratio at 0 is the ratio of the evidence of independent effects, sds alike.

    Of two effects the partial correlation is the correlation, whose prior is scaled as such.
    """
    assert "cor_l1[Intercept, x]" in fit.prior_sensitivity().table.index
    frame = simulated(**{"cor_l1[Intercept, x]": -0.25}).data  # 0 is not in the tail
    both = [
        rmm.fit(formula, frame, backend="laplace", seed=1, ess=2000, draws=2000)
        for formula in (KNOWN, KNOWN.replace(", cor = TRUE", ""))
    ]
    row = both[0].hypothesis("cor_l1[Intercept, x] = 0").table.iloc[0]
    first, second = (one.log_evidence() for one in both)
    error = np.sqrt(row["log_bf_error"] ** 2 + first.mcse**2 + second.mcse**2)
    assert abs(row["log_bf"] - (second.value - first.value)) < 4 * error
    assert error < 0.2


# ---- engines ---------------------------------------------------------------------------------


ENGINES = {
    "gaussian": (KNOWN, "gaussian", TRUTH),
    "binomial": (
        KNOWN,
        "binomial",
        {k: v for k, v in {**TRUTH, "sigma_l1": 1.5, "sigma_slope_l1[x]": 1.2}.items()
         if k != "sigma_l2"},
    ),
    "estimated": (
        ESTIMATED.replace("lead", "q").replace("0 + x", "1 + x"),
        "gaussian",
        {
            **{k: v for k, v in TRUTH.items() if not k.startswith("cor")},
            "b_l1[s]": -0.5,
            "b_w[b1]": 0.7,
            "sigma_slope_l1[s]": 0.6,
            "cor_l1[Intercept, x]": -0.5,
            "cor_l1[Intercept, s]": 0.2,
            "cor_l1[x, s]": 0.3,
        },
    ),
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.filterwarnings(
    "ignore::rmm.errors.ConvergenceWarning", "ignore::rmm.errors.SpecificationWarning"
)
def test_engines_agree(name: str) -> None:
    """Means of all parameters within 4 Monte Carlo errors: false alarm below 0.2% a model."""
    formula, family, truth = ENGINES[name]
    names = ["x"] + ["s", "q"] * (name == "estimated")
    data = simulate(
        formula,
        truth,
        membership={"kind": "synthetic", "groups": 300, "members": 40, "size": 3,
                    "member": "pid", "group": "gid"},
        covariates={n: {"level": "membership"} for n in names},
        family=family,
        seed=3,
    ).data  # fmt: skip
    known = {"laplace": {"ess": 3000}, "stan": {"draws": 1000}, "jags": {"draws": 4000}}
    fits = {
        engine: rmm.fit(
            formula, data, family, backend=engine, seed=7, chains=4, progress=False, **more
        )
        for engine, more in known.items()
    }
    tables = {engine: fit.summary() for engine, fit in fits.items()}
    for one, other in [("laplace", "stan"), ("laplace", "jags"), ("stan", "jags")]:
        a, b = tables[one], tables[other]
        z = (a["mean"] - b["mean"]) / np.hypot(a["mcse_mean"], b["mcse_mean"])
        assert z.abs().max() < 4, (one, other, z)
        np.testing.assert_allclose(a["sd"], b["sd"], rtol=0.15)
    first, second = (fits[engine].log_evidence() for engine in ("laplace", "stan"))
    assert abs(first.value - second.value) < 4 * np.hypot(first.mcse, second.mcse)


@pytest.mark.parametrize(
    "backend",
    [
        "laplace",
        pytest.param("jags", marks=pytest.mark.jags),
        pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.parity]),
    ],
)
@pytest.mark.filterwarnings(
    "ignore::rmm.errors.ConvergenceWarning", "ignore::rmm.errors.SpecificationWarning"
)
def test_without_information_programs_have_the_prior(backend: str, table: pd.DataFrame) -> None:
    """A residual sd of 1e4: each correlation of three has mean 0 and sd by beta(2.5, 2.5)."""
    priors = ["sigma_l2 <- 10000", *(f"{k} ~ {v}" for k, v in _HALF.items())]
    priors += ["b_l2 ~ normal(0, 1)", "b_l1 ~ normal(0, 1)", "cor_l1 ~ lkj(2)"]
    options = {"ess": 4000} if backend == "laplace" else {"warmup": 500}
    fit = rmm.fit(
        THREE, table, backend=backend, priors=priors, seed=3, draws=2000, progress=False, **options
    )
    draws = drawn(fit, "cor_l1")
    summary = fit.summary().loc[[f"cor_l1[{v}]" for v in ("Intercept, x", "Intercept, s", "x, s")]]
    law = stats.beta(2.5, 2.5, -1, 2)
    assert (summary["mean"].abs() < 4 * summary["mcse_mean"]).all()
    size = np.minimum(summary["ess_bulk"].to_numpy(), len(draws))
    for k, count in enumerate(size):  # thinned to independent ones
        thin = draws[:: max(1, int(np.ceil(len(draws) / count)) * 2), k]
        assert stats.kstest(thin, law.cdf).pvalue > 1e-3 / 3
