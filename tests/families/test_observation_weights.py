"""Observation weights: the same as repeated rows, and weighted maximum likelihood."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.backends.laplace.hyperparameters import to_values
from rmm.backends.laplace.kernels.integrals import CompiledIntegrals
from rmm.backends.laplace.kernels.library import builds, load
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.laplace.marginal_likelihood import EXACTLY, Integrand
from rmm.backends.stan.compile import check_syntax
from rmm.backends.stan.program.program import write as write_stan
from rmm.backends.stan.run import available
from rmm.design.prepare import Model
from rmm.errors import BackendError, DataError, FormulaError
from rmm.families import find_family
from rmm.families.variants.observation_weights import WEIGHT
from tests.coalitions import made_up_coalitions
from tests.family_cases import check_engines_agree, quiet

Array = np.ndarray[Any, Any]
MM = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"
#: Family -> outcome, and options of the family. An intercept is left out of ordinal models.
OUTCOMES: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("y", {}),
    "gaussian, own sds": ("y", {"sigma": "~ 1 + z"}),
    "lognormal": ("exp(y)", {}),
    "student": ("y", {}),
    "binomial": ("leads", {}),
    "binomial, trials": ("cbind(count, rest)", {}),
    "probit": ("leads", {}),
    "probit, trials": ("cbind(count, rest)", {}),
    "cloglog": ("leads", {}),
    "cloglog, trials": ("cbind(count, rest)", {}),
    "poisson": ("count", {}),
    "negbinomial": ("count", {}),
    "zero_inflated_poisson": ("count", {}),
    "zero_inflated_negbinomial": ("count", {}),
    "hurdle_poisson": ("count", {}),
    "hurdle_negbinomial": ("count", {}),
    "gamma": ("exp(y)", {}),
    "beta": ("ilogit(y)", {}),
    "ordinal": ("grade", {}),
    "ordinal, probit": ("grade", {"link": "probit"}),
    "weibull": ("Surv(abs(y) + 0.1, leads)", {}),
    "weibull, entry": ("Surv(abs(y) + 0.1, leads, entry = (abs(y) + 0.1)*late)", {}),
    "weibull, intervals": ('Surv(low, high, type = "interval2")', {}),
}
NO_STAN = ("weibull, entry", "weibull, intervals")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """60 groups with outcomes of all families, counted 0 to 3 times (`times`)."""
    table = made_up_coalitions(60, 25)
    number = table["gid"].str[1:].astype(int)
    time = table["y"].abs() + 0.1
    return table.assign(
        leads=(number % 10 < 5).astype(int),
        count=(3 * table["y"].abs()).astype(int),
        rest=number % 4 + 1,
        grade=np.digitize(table["y"], [0.0, 0.8, 1.4]),
        late=np.where(number % 2 == 0, 0, 0.15 + 0.8 * (number % 7) / 7),
        low=time * np.select([number % 5 == 1, number % 5 == 2], [0.0, 1.0], 0.7),
        high=time
        * np.select([number % 5 == 2, number % 5 == 3], [1.0, np.inf], 1.001 + number % 3),
        times=number % 4,
        share=0.3 + (number % 7) / 4,
    )


def repeated(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each group as often as it counts, under names of their own."""
    parts = [
        table[table["times"] > k].assign(gid=lambda t, k=k: t["gid"] + f"/{k}") for k in range(3)
    ]
    return pd.concat(parts, ignore_index=True)


def family_of(name: str, weights: str | None = "times") -> rmm.families.Family:
    options = dict(OUTCOMES[name][1])
    options |= {} if weights is None else {"observation_weights": weights}
    return find_family(name.partition(",")[0], options)


def formula_of(name: str) -> str:
    start = "" if name.startswith("ordinal") else "1 + "
    return f"{OUTCOMES[name][0]} ~ {start}z + {MM} + hm(id=cid)"


def priors_of(model: Model) -> list[str]:
    """Priors as numbers: defaults depend on the outcomes and how often they are there."""
    out = []
    for p in model.spec.parameters:
        if not p.structural:
            continue
        wide = {"positive": "gamma(3, 2)", "probability": "beta(2, 2)"}.get(p.support)
        out.append(f"{p.name} ~ {wide or 'normal(0.2, 1.5)'}")
    return out


@pytest.mark.parametrize("name", OUTCOMES)
def test_counts_are_repeated_rows(name: str, table: pd.DataFrame) -> None:
    """The marginal likelihood of five values of the hyperparameters, within 1e-8.

    For student, which laplace does not have, the log likelihood itself.
    """
    formula = formula_of(name)
    plain = quiet(formula, table, family_of(name, None))
    priors = priors_of(plain)
    ours = quiet(formula, table, family_of(name), priors=priors)
    known = quiet(formula, repeated(table), family_of(name, None), priors=priors)
    assert ours.design.outcome[WEIGHT].tolist() == table.groupby("gid")["times"].first().tolist()
    if name == "student":
        values = {"sigma_l2": np.array([0.7]), "nu": np.array([4.0])}
        eta = np.zeros((1, 1))
        totals = [
            model.spec.family.log_likelihood(eta, values, model.design.outcome).sum()
            for model in (ours, known)
        ]
        assert totals[0] == pytest.approx(totals[1], rel=1e-12)
        return
    integrands = [Integrand(latent_model(m.spec, m.design, m.priors)) for m in (ours, known)]
    hyper = integrands[0].model.hyper
    theta = np.abs(np.random.default_rng(1).normal(0.3, 0.3, (5, len(hyper))))
    values = to_values(theta, hyper)
    with np.errstate(all="ignore"):
        found = [integrand.inner(values, 5).value for integrand in integrands]
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-8)
    for build in builds() if ours.spec.family.kernel is not None else ():
        compiled = CompiledIntegrals(integrands[0], load(build)).integrals(theta, None, EXACTLY)
        np.testing.assert_allclose(compiled.value, found[0], rtol=0, atol=1e-8)
    has_kernel = name in ("gaussian", "gaussian, own sds", "lognormal")
    assert (ours.spec.family.kernel is not None) == has_kernel


@pytest.mark.parametrize("name", [name for name in OUTCOMES if name != "student"])
def test_derivatives(name: str, table: pd.DataFrame) -> None:
    """Value, gradient and weight with weights of any size, by those of each group."""
    model = quiet(formula_of(name), table, family_of(name, "share"))
    plain = quiet(formula_of(name), table, family_of(name, None))
    values = plain.spec.family.some_values(plain.design.outcome)
    eta = np.random.default_rng(2).normal(0, 0.3, (1, 60))
    w = model.design.outcome[WEIGHT]
    ours = model.spec.family.curvature(eta, values, model.design.outcome)
    known = plain.spec.family.curvature(eta, values, plain.design.outcome)
    each = plain.spec.family.log_likelihood(eta, values, plain.design.outcome)
    np.testing.assert_allclose(ours.value, [(w * each).sum()], rtol=1e-12)
    np.testing.assert_allclose(ours.gradient, w * known.gradient)
    np.testing.assert_allclose(ours.weight, np.broadcast_to(w * known.weight, (1, 60)))


def test_posteriors_and_evidence_of_counts_are_those_of_repeated_rows(table: pd.DataFrame) -> None:
    """Estimates within 4.5 Monte Carlo errors (8 comparisons), evidence within 4."""
    formula, name = formula_of("gaussian"), "gaussian"
    priors = priors_of(quiet(formula, table, family_of(name, None)))
    common = {"priors": priors, "backend": "laplace", "seed": 4, "progress": False, "ess": 3000}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = rmm.fit(formula, table, observation_weights="times", **common)
        known = rmm.fit(formula, repeated(table), **common)
    a, b = ours.summary(), known.summary()
    z = (a["mean"] - b["mean"]).abs() / np.hypot(a["mcse_mean"], b["mcse_mean"])
    assert (z < 4.5).all(), z
    np.testing.assert_allclose(a["sd"], b["sd"], rtol=0.15)
    one, two = ours.log_evidence(), known.log_evidence()
    assert abs(one.value - two.value) < 4 * np.hypot(one.mcse, two.mcse)


@pytest.mark.parametrize("backend", ["laplace", pytest.param("stan", marks=pytest.mark.stan)])
def test_weights_of_1_change_nothing(backend: str, table: pd.DataFrame) -> None:
    """The program is the same text, and draws are equal to the last bit."""
    data = table.assign(one=1.0)
    family = find_family("gaussian", {"observation_weights": "one"})
    texts = [rmm.program(f"y ~ 1 + {MM}", f, backend, data=data) for f in (family, "gaussian")]
    assert texts[0] == texts[1]
    if backend == "laplace":
        fits = [
            rmm.fit(f"y ~ 1 + {MM}", data, f, backend=backend, seed=1, progress=False)
            for f in (family, "gaussian")
        ]
        pd.testing.assert_frame_equal(fits[0].summary(), fits[1].summary(), check_exact=True)


@pytest.mark.parametrize("backend", ["laplace", pytest.param("stan", marks=pytest.mark.thorough)])
def test_flat_priors_give_weighted_maximum_likelihood(backend: str) -> None:
    """Weighted least squares in closed form, 1,500 rows: within 0.2 sds of sum(w) rows."""
    rng, n = np.random.default_rng(5), 1500
    x, w = rng.normal(size=n), rng.uniform(0.2, 3, n)
    y = 1 + 0.5 * x + rng.normal(size=n) * np.exp(0.3 * x)
    X = np.column_stack([np.ones(n), x])
    gram = X.T @ (w[:, None] * X)
    b = np.linalg.solve(gram, X.T @ (w * y))
    sigma = np.sqrt(np.sum(w * (y - X @ b) ** 2) / w.sum())
    sds = np.append(sigma * np.sqrt(np.diag(np.linalg.inv(gram))), sigma / np.sqrt(2 * w.sum()))
    fit = rmm.fit(
        "y ~ 1 + x", pd.DataFrame({"x": x, "y": y, "w": w}), observation_weights="w",
        backend=backend, priors="rmm", seed=1, progress=False,
    )  # fmt: skip
    found = fit.summary()
    assert (np.abs(found["mean"] - [*b, sigma]) / sds < 0.2).all()
    np.testing.assert_allclose(found["sd"], sds, rtol=0.1)


def test_weighted_poisson_regression_is_near_that_of_statsmodels() -> None:
    import statsmodels.api as sm

    rng, n = np.random.default_rng(6), 1500
    x, w = rng.normal(size=n), rng.uniform(0.2, 3, n)
    y = rng.poisson(np.exp(0.5 + 0.4 * x))
    known = sm.GLM(
        y, np.column_stack([np.ones(n), x]), family=sm.families.Poisson(), freq_weights=w
    ).fit()
    fit = rmm.fit(
        "y ~ 1 + x", pd.DataFrame({"x": x, "y": y, "w": w}), "poisson", observation_weights="w",
        backend="laplace", priors="rmm", seed=1, progress=False,
    )  # fmt: skip
    found = fit.summary()
    assert (np.abs(found["mean"] - known.params) / known.bse < 0.2).all()
    np.testing.assert_allclose(found["sd"], known.bse, rtol=0.1)


# ---- refusals -----------------------------------------------------------------------------------


WRONG: dict[str, tuple[Any, str]] = {
    "negative": (-1.0, r"`w` is negative in \d rows, first of group 'g003' \(column `gid`\)"),
    "missing": (np.nan, r"`w` is missing in \d rows, first of group 'g003'"),
    "infinite": (np.inf, r"`w` is infinite in \d rows, first of group 'g003'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_weights_that_are_refused(what: str, table: pd.DataFrame) -> None:
    value, message = WRONG[what]
    data = table.assign(w=np.where(table["gid"] == "g003", value, 2.0))
    family = find_family("gaussian", {"observation_weights": "w"})
    with pytest.raises(DataError, match=message):
        quiet(f"y ~ 1 + {MM}", data, family)
    if what == "missing":
        assert quiet(f"y ~ 1 + {MM}", data, family, missing="drop").design.J == 59


def test_more_weights_that_are_refused(table: pd.DataFrame) -> None:
    family = find_family("gaussian", {"observation_weights": "w"})
    formula = f"y ~ 1 + {MM}"
    with pytest.raises(DataError, match=r"must be numbers, but .*group 'g000' \(column `gid`\)"):
        quiet(formula, table.assign(w="often"), family)
    with pytest.raises(DataError, match="All observation weights `w` are 0"):
        quiet(formula, table.assign(w=0), family)
    with pytest.raises(DataError, match=r"Column `w` is used outside mm.*varies within group"):
        quiet(formula, table.assign(w=np.arange(len(table)) + 1.0), family)
    with pytest.raises(FormulaError, match="The table has no column `w`"):
        quiet(formula, table, family)
    with pytest.raises(FormulaError, match="`y` is on both sides of the formula"):
        quiet(formula, table, find_family("gaussian", {"observation_weights": "y"}))
    with pytest.raises(FormulaError, match="must be the name of a column"):
        rmm.fit(formula, table, observation_weights=[1, 2])
    with pytest.raises(DataError, match=r"`w` is negative in 1 row, first of row 2\."):
        quiet("y ~ 1", pd.DataFrame({"y": [1.0, 2.0, 4.0], "w": [1, -1, 1]}), family)


@pytest.mark.parametrize("name", ["cox", "condlogit"])
def test_families_without_a_term_for_each_group(name: str) -> None:
    with pytest.raises(FormulaError, match=f"not available with family '{name}'"):
        find_family(name, {"observation_weights": "w"})


def test_multinomial_models_have_none(table: pd.DataFrame) -> None:
    data = table.assign(grade=table["grade"].map(str))
    with pytest.raises(FormulaError, match="not available with family 'condlogit'"):
        rmm.multinomial(f"grade ~ 1 + {MM}", data, observation_weights="times")


def test_engines_that_refuse(table: pd.DataFrame) -> None:
    family = family_of("gaussian")
    with pytest.raises(BackendError, match="Backend 'jags' has no observation weights"):
        rmm.program(f"y ~ 1 + {MM}", family, "jags")
    for name in NO_STAN:
        model = quiet(formula_of(name), table, family_of(name))
        with pytest.raises(BackendError, match="Backend 'stan' has no observation weights"):
            write_stan(model.spec, model.priors.forms)


# ---- what a fit says ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit(table: pd.DataFrame) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            f"y ~ 1 + z + {MM}", table, observation_weights="share", backend="laplace", seed=1,
            progress=False,
        )  # fmt: skip


def test_what_follows_from_a_weighted_fit(
    fit: rmm.Fit, table: pd.DataFrame, tmp_path: Path
) -> None:
    assert "observation weights: share" in str(fit)
    assert "counts `share` times" in fit.report().text
    y = table.groupby("gid")["y"].first().to_numpy()
    w = table.groupby("gid")["share"].first().to_numpy()
    draws = fit.draws["posterior"]
    eta = fit.predict(kind="linear", draws=True).to_numpy()
    known = w * stats.norm.logpdf(y, eta, draws["sigma_l2"].to_numpy()[..., None])
    np.testing.assert_allclose(fit.log_likelihood().to_numpy(), known, rtol=1e-9)
    for what in (fit.loo, fit.waic):
        with pytest.raises(BackendError, match=r"loo\(\) and waic\(\) are not available with"):
            what()
    with pytest.raises(BackendError, match="`share` are not whole numbers"):
        fit.log_evidence()
    new = table[table["gid"].isin(["g001", "g002"])].drop(columns="share")
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    assert again.model.spec.family.observation_weights == "share"
    pd.testing.assert_frame_equal(
        again.predict(new, kind="outcome", seed=1), fit.predict(new, kind="outcome", seed=1)
    )
    assert fit.plot_check().axes
    assert fit.prior_predictive(draws=50).outcome is not None


def test_only_the_same_weights_are_compared(table: pd.DataFrame) -> None:
    options: dict[str, Any] = {"backend": "laplace", "seed": 1, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = rmm.fit("y ~ 1 + mm(id(pid, gid))", table, observation_weights="times", **options)
        two = rmm.fit("y ~ 1 + mm(id(pid, gid))", table, **options)
    with pytest.raises(DataError, match="have different observation weights"):
        rmm.bayes_factor({"one": one, "two": two})


# ---- Stan ---------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("name", [name for name in OUTCOMES if name not in NO_STAN])
def test_programs_are_valid(name: str, table: pd.DataFrame) -> None:
    if not available().available:
        pytest.skip("Stan is not installed")
    model = quiet(formula_of(name), table, family_of(name))
    text = write_stan(model.spec, model.priors.forms)
    assert f"target += dot_product({WEIGHT}, log_lik);" in text
    check_syntax(text)


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.parametrize(
    "name",
    ["gaussian, own sds", "binomial, trials", "ordinal", "zero_inflated_negbinomial", "weibull"],
)
def test_engines_agree(name: str, table: pd.DataFrame) -> None:
    """laplace and Stan, weights that are no whole numbers: about 8 comparisons each."""
    check_engines_agree(
        formula_of(name).replace(" + hm(id=cid)", ""),
        table,
        name.partition(",")[0],
        ("stan", "laplace"),
        observation_weights="share",
        **OUTCOMES[name][1],
    )


def test_effects_that_fit_each_outcome_exactly_are_named() -> None:
    """p(y | u)^2 has no bound where u is y: the posterior may not exist."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"g": range(30), "m": range(30), "y": rng.normal(size=30), "k": 2.0})
    formula = "y ~ 1 + mm(id(m, g), fn(w ~ 1/n), RE = TRUE)"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = rmm.fit(
            formula, table, observation_weights="k", backend="laplace", seed=1, progress=False
        )
    assert any("may be no posterior distribution" in str(one.message) for one in said)
    assert not fit.converged
