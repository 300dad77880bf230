"""Power scaling: densities of priors against SciPy, weights against fits with changed priors."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arviz_base import from_dict
from arviz_stats import psense
from scipy import integrate, stats

import rmm
from rmm.design.prepare import prepare
from rmm.errors import ConvergenceWarning, PriorError
from rmm.formula.prior_distributions import LAWS, draw, log_density, quantile, support, to_power
from rmm.formula.prior_syntax import Prior
from rmm.posterior.inference.prior_checks.log_prior import log_priors, stated_draws, total_log_prior
from rmm.posterior.inference.prior_checks.power_scaling import BOTH, NOT_SENSITIVE, STRONG_PRIOR
from rmm.posterior.inference.prior_checks.refits import Refits
from rmm.posterior.prediction.linear_predictor import flat_draws
from rmm.posterior.prior_draws import draw_parameters
from tests.coalitions import made_up_coalitions

PRIORS = [
    Prior("normal", (0.5, 2.0)),
    Prior("student_t", (4.0, 0.5, 2.0)),
    Prior("half_normal", (1.5,)),
    Prior("half_t", (3.0, 1.5)),
    Prior("half_cauchy", (1.5,)),
    Prior("exponential", (0.7,)),
    Prior("gamma", (2.4, 1.25)),
    Prior("uniform", (-1.0, 3.0)),
    Prior("precision_gamma", (2.0, 3.0)),
    Prior("lkj", (2.5,)),
    Prior("beta", (2.5, 1.5)),
]


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_densities_belong_to_the_quantiles(prior: Prior) -> None:
    """The integral of the density up to a quantile is its probability."""
    low, high = support(prior)
    for p in (0.2, 0.5, 0.9):
        to = float(quantile(prior, p))
        found, _ = integrate.quad(lambda x: float(np.exp(log_density(prior, x))), low, to)
        assert found == pytest.approx(p, abs=1e-6)
    beyond = [x for x in (low - 1, high + 1) if np.isfinite(x)]
    assert all(log_density(prior, x) == -np.inf for x in beyond)


def test_every_family_has_a_density_tested_here() -> None:
    assert {p.family for p in PRIORS} == set(LAWS) - {"fixed"}


@pytest.mark.parametrize("power", [0.8, 2.0])
@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_a_prior_to_a_power_is_proportional_to_it(prior: Prior, power: float) -> None:
    new = to_power(prior, power)
    assert new is not None
    x = quantile(prior, np.array([0.1, 0.3, 0.7, 0.95]))
    ratio = log_density(new, x) - power * log_density(prior, x)
    assert np.ptp(ratio) < 1e-10


def test_a_heavy_tail_to_a_small_power_is_no_prior() -> None:
    assert to_power(Prior("half_cauchy", (1.0,)), 0.5) is None
    assert to_power(Prior("gamma", (0.3, 1.0)), 2.0) is None


SIZES = "1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^b, c = FALSE), RE = TRUE) + hm(id = cid)"


@pytest.mark.parametrize(
    "formula", [f"y ~ {SIZES}", "y ~ 1 + z + mm(id(pid, gid), vars(x), RE = TRUE, ar = TRUE)"]
)
def test_stated_draws_undo_what_is_reported(formula: str, coalitions: pd.DataFrame) -> None:
    """Draws from the priors come back, and each has the density of its own prior."""
    table = coalitions.assign(x=coalitions["x"] + 3, z=coalitions["z"] - 2)
    model = prepare(formula, table)
    reported = draw_parameters(model, 500, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    drawn = {
        name: np.column_stack([draw(prior, 500, rng) for prior in priors])
        for name, priors in model.priors.elements.items()
    }
    stated = stated_draws(model, reported)
    assert set(stated) == set(drawn)
    for name, values in drawn.items():
        np.testing.assert_allclose(stated[name], values, rtol=1e-9, atol=1e-9)
    logs = log_priors(model, reported)
    location, scale = model.priors.elements["alpha"][0].values
    exact = stats.norm.logpdf(drawn["alpha"][:, 0], location, scale)
    np.testing.assert_allclose(logs["b_l2[Intercept]"], exact, rtol=1e-9)
    np.testing.assert_allclose(total_log_prior(model, reported), sum(logs.values()))


def seen(groups: int = 60) -> pd.DataFrame:
    """Coalitions with an outcome for each family."""
    table = made_up_coalitions(groups, 20)
    rng = np.random.default_rng(9)
    first = ~table["gid"].duplicated()
    eta = 0.6 * (table["y"] - 1)
    number = dict(zip(table["gid"][first], range(groups), strict=True))
    code = table["gid"].map(number).to_numpy()
    noise = {name: rng.random(groups)[code] for name in ("win", "time", "end")}
    y = eta[first].to_numpy()[code]
    choice = np.zeros(groups)
    gumbel = eta[first].to_numpy() + rng.gumbel(size=groups)
    for stratum in range(groups // 3):
        rows = np.arange(3 * stratum, 3 * stratum + 3)
        choice[rows[np.argmax(gumbel[rows])]] = 1
    return table.assign(
        win=(noise["win"] < 1 / (1 + np.exp(-y))).astype(int),
        time=np.exp(y) * (-np.log(noise["time"])) ** (1 / 1.5) + 0.01,
        end=(noise["end"] < 0.8).astype(int),
        set=code // 3,
        chosen=choice[code].astype(int),
    )


W = "fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s))))"
#: Name -> formula, family, a prior that matters, and the parameter that it is about.
MODELS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "gaussian": ("y ~ 1 + z", "gaussian", {"b_l2[z]": "normal(-0.5, 0.2)"}, "b_l2[z]"),
    "gaussian, effects": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x), RE = TRUE)",
        "gaussian",
        {"sigma_l1": "half_normal(0.2)"},
        "sigma_l1",
    ),
    "gaussian, weights": (
        f"y ~ 1 + z + mm(id(pid, gid), vars(x), {W}, RE = TRUE)",
        "gaussian",
        {"b_w": "normal(0, 0.5)"},
        "b_w[b1]",
    ),
    "binomial": (
        "win ~ 1 + z + mm(id(pid, gid), vars(x))",
        "binomial",
        {"b_l1[x]": "student_t(5, 0, 0.3)"},
        "b_l1[x]",
    ),
    "binomial, weights": (
        f"win ~ 1 + z + mm(id(pid, gid), vars(x), {W}, RE = TRUE)",
        "binomial",
        {"b_l1[x]": "normal(-0.7, 0.3)"},
        "b_l1[x]",
    ),
    "weibull, weights": (
        f"Surv(time, end) ~ 1 + z + mm(id(pid, gid), vars(x), {W}, RE = TRUE)",
        "weibull",
        {"shape": "gamma(30, 30)"},
        "shape",
    ),
    "cox": (
        "Surv(time, end) ~ z + mm(id(pid, gid), vars(x), RE = TRUE)",
        "cox",
        {"b_l2[z]": "normal(0, 0.15)"},
        "b_l2[z]",
    ),
    "condlogit, weights": (
        f"chosen ~ z + mm(id(pid, gid), vars(x), {W}) + strata(set)",
        "condlogit",
        {"b_l1[x]": "normal(0, 0.4)"},
        "b_l1[x]",
    ),
}


def fitted(formula: str, family: str, priors: Any, table: pd.DataFrame, **options: Any) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            formula, table, family, priors=priors, backend="laplace", seed=2, ess=1500, **options
        )


@pytest.mark.parametrize("name", MODELS)
def test_weights_agree_with_fits_at_changed_priors(name: str) -> None:
    """Direction and size of the move of each mean, with the priors to the power 0.8 and 1.25.

    Both errors are Monte Carlo errors: of the weighted mean, and of the refit.
    """
    from rmm.posterior.inference.prior_checks.power_scaling import _means

    formula, family, priors, parameter = MODELS[name]
    fit = fitted(formula, family, priors, seen())
    assert fit.converged
    found = fit._estimates.elements
    labels = list(log_priors(fit.model, flat_draws(fit.run, fit.model)))
    values = found.values.reshape(-1, len(found.labels))
    logs = total_log_prior(fit.model, flat_draws(fit.run, fit.model))
    refits = Refits(fit.model, replace(fit.settings, seed=7), "laplace")
    summary = fit.summary()
    moves = {}
    for power in (0.8, 1.25):
        weighted, k = _means(values, logs, power)
        again = refits.means(labels, power)
        error = 2**0.5 * summary["mcse_mean"].to_numpy()
        assert (k < 0.7).all()
        assert (np.abs(weighted - again) < 4 * error).all(), (power, weighted, again, error)
        moves[power] = (again - values.mean(axis=0))[found.labels.index(parameter)]
    # The prior that matters pulls: both refits move, in opposite directions.
    row = fit.prior_sensitivity().table.loc[parameter]
    assert moves[0.8] * moves[1.25] < 0
    assert np.sign(row["stronger"] - row["mean"]) == np.sign(moves[1.25])
    assert row["prior"] > 0.05 and row["diagnosis"] != NOT_SENSITIVE


def test_it_is_the_measure_of_arviz(coalitions: pd.DataFrame) -> None:
    """The same number from the log prior as a group of a DataTree."""
    formula, family, priors, _ = MODELS["gaussian, weights"]
    fit = fitted(formula, family, priors, coalitions)
    logs = total_log_prior(fit.model, flat_draws(fit.run, fit.model)).reshape(4, -1)
    posterior = {n: fit.draws["posterior"][n].to_numpy() for n in ("sigma_l1", "sigma_l2")}
    tree = from_dict(
        {
            "posterior": posterior,
            "log_prior": {"all": logs},
            "log_likelihood": {"y": fit.log_likelihood().to_numpy()},
        }
    )
    table = fit.prior_sensitivity().table
    for group in ("prior", "likelihood"):
        theirs = psense(tree, group=group)
        for name in posterior:
            # Their smoothing takes both tails of the weights, which are next to equal here.
            assert table.loc[name, group] == pytest.approx(float(theirs[name]), rel=0.05)


def test_a_posterior_that_is_the_prior_is_flagged(coalitions: pd.DataFrame) -> None:
    """Weights of members without any effect: their coefficient has no data.

    Power scaling of its N(0, 1) prior then makes N(0, 1 / power).
    """
    table = coalitions.assign(y=np.random.default_rng(1).normal(size=len(coalitions)))
    table["y"] = table.groupby("gid")["y"].transform("first")
    priors = {"b_l1": "normal(0, 0.0001)", "b_w": "normal(0, 1)"}
    fit = fitted(f"y ~ 1 + mm(id(pid, gid), vars(x), {W})", "gaussian", priors, table)
    found = fit.prior_sensitivity()
    assert found.table.loc["b_w[b1]", "diagnosis"] == STRONG_PRIOR
    assert found.table.loc["sigma_l2", "diagnosis"] == NOT_SENSITIVE
    normal = np.random.default_rng(0).normal(size=(4, 5000))
    tree = from_dict({"posterior": {"b": normal}, "log_prior": {"b": stats.norm.logpdf(normal)}})
    exact = float(psense(tree, group="prior")["b"])
    assert found.table.loc["b_w[b1]", "prior"] == pytest.approx(exact, rel=0.2)


def test_a_conflict_of_prior_and_data_is_flagged(coalitions: pd.DataFrame) -> None:
    table = coalitions.drop_duplicates("gid")
    fit = fitted("y ~ 1 + z", "gaussian", {"b_l2[z]": "normal(-1, 0.15)"}, table)
    found = fit.prior_sensitivity()
    assert found.table.loc["b_l2[z]", "diagnosis"] == BOTH
    assert found.table["diagnosis"]["sigma_l2"] in (BOTH, NOT_SENSITIVE)
    # The weights do not reach the posterior with the prior to the power 2; a refit does.
    again = fit.prior_sensitivity(refit=True).table.loc["b_l2[z]"]
    assert again["stronger"] < again["mean"] < again["weaker"] and again["k"] == 0


def test_fixed_and_flat_priors_are_named_and_left_out(coalitions: pd.DataFrame) -> None:
    priors = ["b_w <- 0.5", "b_l1[x] <- 1", "sigma_l2 ~ uniform(0, 5)", "sigma_l1 <- 0.7"]
    fit = fitted(f"y ~ 1 + z + mm(id(pid, gid), vars(x), {W}, RE = TRUE)", "gaussian", priors,
                 coalitions)  # fmt: skip
    found = fit.prior_sensitivity()
    assert found.scaled == ("b_l2[Intercept]", "b_l2[z]")
    assert dict(found.left_out) == {
        "b_w[b1]": "fixed value",
        "b_l1[x]": "fixed value",
        "sigma_l1": "fixed value",
        "sigma_l2": "flat prior: a power does not change it",
    }
    assert "Not scaled (fixed value): b_l1[x], b_w[b1], sigma_l1." in str(found)
    # The row of a parameter with a flat prior is there: other priors may move it.
    assert list(found.table.index) == list(fit.summary().index)


def test_some_priors_alone(coalitions: pd.DataFrame) -> None:
    """The prior of z alone moves z; the others, none of which says much, do not."""
    table = coalitions.drop_duplicates("gid")
    fit = fitted("y ~ 1 + z", "gaussian", {"b_l2[z]": "normal(-1, 0.15)"}, table)
    own = fit.prior_sensitivity("b_l2[z]").table.loc["b_l2[z]", "prior"]
    others = fit.prior_sensitivity(["sigma_l2", "b_l2[Intercept]"]).table.loc["b_l2[z]", "prior"]
    assert own > 0.5 and others < 0.05
    with pytest.raises(PriorError, match="'b_l2\\[q\\]' is not a parameter with a prior that can"):
        fit.prior_sensitivity("b_l2[q]")


def test_without_effects_there_is_no_likelihood(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x), RE = TRUE)"
    fit = fitted(formula, "gaussian", None, coalitions, monitor="structural")
    found = fit.prior_sensitivity()
    assert found.table["likelihood"].isna().all()
    assert "No likelihood sensitivity: the fit kept no draws of the random effects." in str(found)


def test_priors_of_a_program_of_ones_own_are_unknown(coalitions: pd.DataFrame) -> None:
    fit = fitted("y ~ 1 + z", "gaussian", None, coalitions.drop_duplicates("gid"))
    with pytest.raises(PriorError, match="your own program, whose priors are not known"):
        replace(fit, own_program=True).prior_sensitivity()


def test_a_refit_that_has_not_converged_warns(coalitions: pd.DataFrame) -> None:
    fit = fitted("y ~ 1 + z", "gaussian", None, coalitions.drop_duplicates("gid"))
    short = replace(fit, settings=replace(fit.settings, options={"ess": 20}))
    with pytest.warns(ConvergenceWarning, match="The refit with priors to the power"):
        short.prior_sensitivity(refit=True)
