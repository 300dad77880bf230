"""Prior predictive distributions: against closed forms, and plausible under the default priors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.design.members.random_walks import Walk
from rmm.design.prepare import prepare
from rmm.posterior.prior_draws import draw_parameters

MEMBERS = "mm(id(m, g), vars(x1 + x2), fn(w ~ 1/n), RE = TRUE)"
RIGHT = f"1 + z1 + z2 + {MEMBERS} + hm(id = unit)"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """120 groups of three of 50 members in 12 units; two covariates of each, and outcomes."""
    rng = np.random.default_rng(14)
    groups = np.repeat(np.arange(120), 3)
    each = {"z1": rng.normal(size=120), "z2": rng.gamma(2, 10, 120)}
    each |= {"win": np.arange(120) % 2, "time": rng.exponential(200, 120), "event": np.ones(120)}
    each |= {
        "y": rng.normal(3, 2, 120),
        "yes": rng.integers(1, 8, 120),
        "race": np.arange(120) // 4,
    }
    return pd.DataFrame(
        {
            "g": groups,
            "m": np.concatenate([rng.choice(50, 3, replace=False) for _ in range(120)]),
            "unit": groups % 12,
            "x1": rng.normal(size=360),
            "x2": rng.random(360) < 0.3,
            **{name: np.asarray(values)[groups] for name, values in each.items()},
        }
    ).assign(x2=lambda t: t["x2"].astype(int), no=4, pick=1 * (groups % 4 == 1))


# ---- the criterion ---------------------------------------------------------------------------


def test_default_probabilities_are_rarely_next_to_certain(table: pd.DataFrame) -> None:
    """Four covariates and two kinds of effects: at most 15% outside .01 to .99."""
    found = rmm.prior_predictive(f"win ~ {RIGHT}", table, family="binomial", draws=4000, seed=2)
    name, p = found.shown
    assert name == "probability" and p.shape == (4000, 120)
    outside = np.mean((p < 0.01) | (p > 0.99))
    assert found.implausible == outside
    assert outside <= 0.15
    wide = {f"b_l2[z{k}]": f"normal(0, {2.5 / s})" for k, s in ((1, 1.0), (2, 14.0))}
    wide |= {
        "b_l1": "normal(0, 2.5)",
        "sigma_l1": "half_normal(4.3)",
        "sigma_l3": "half_normal(2.5)",
    }
    before = rmm.prior_predictive(f"win ~ {RIGHT}", table, "binomial", priors=wide, seed=2)
    assert before.implausible is not None and before.implausible > 0.3


@pytest.mark.parametrize("unit", [1.0, 86_400.0])
def test_default_durations_are_within_a_thousandfold(table: pd.DataFrame, unit: float) -> None:
    frame = table.assign(time=table["time"] * unit)
    found = rmm.prior_predictive(f"Surv(time, event) ~ {RIGHT}", frame, "weibull", draws=4000)
    durations = found.outcome
    assert durations is not None
    inside = np.abs(np.log(durations / np.median(durations))) < np.log(1000)
    assert found.implausible == pytest.approx(1 - inside.mean())
    assert inside.mean() >= 0.95
    shape = found.parameters["shape"]
    assert np.mean((shape > 0.3) & (shape < 5)) == pytest.approx(0.95, abs=0.015)


# ---- against closed forms --------------------------------------------------------------------


def test_a_normal_regression(table: pd.DataFrame) -> None:
    """Y of a group is normal with variance of the intercept, of z's slope times z^2, and noise."""
    priors = {
        "b_l2[Intercept]": "normal(2, 3)",
        "b_l2[z1]": "normal(1, 0.5)",
        "sigma_l2": "uniform(1, 3)",
    }
    formula = "y ~ 1 + z1 + mm(id(m, g), vars(fix(x1, 0)))"
    found = rmm.prior_predictive(formula, table, priors=priors, draws=20_000, seed=3)
    z = table.drop_duplicates("g")["z1"].to_numpy()
    assert found.outcome is not None
    mean, variance = 2 + z, 9 + 0.25 * z**2 + (4 + 1 / 3)  # E sigma^2 of a uniform sigma
    error = np.sqrt(variance / 20_000)
    assert (abs(found.outcome.mean(axis=0) - mean) < 4.5 * error).all()
    np.testing.assert_allclose(found.outcome.var(axis=0), variance, rtol=4.5 * 0.01)
    assert (found.groups == np.arange(120)).all()


def test_effects_of_members_and_units(table: pd.DataFrame) -> None:
    """Variance of eta: sigma_l1^2 / 3 + sigma_l3^2; members in common correlate."""
    formula = "y ~ 0 + mm(id(m, g), fn(w ~ 1/n), RE = TRUE) + hm(id = unit)"
    priors = ["sigma_l1 <- 3", "sigma_l3 <- 2"]
    found = rmm.prior_predictive(formula, table, priors=priors, draws=20_000, seed=4)
    np.testing.assert_allclose(found.linear.var(axis=0), 3 + 4, rtol=4.5 * 0.01)
    incidence = pd.crosstab(table["g"], table["m"]).to_numpy()
    units = pd.crosstab(table["g"], table["unit"]).to_numpy() > 0
    expected = incidence @ incidence.T + 4 * (units @ units.T)
    assert abs(np.cov(found.linear.T) - expected).max() < 6 * 7 / np.sqrt(20_000)


def test_the_default_intercept_is_stated_at_the_means(table: pd.DataFrame) -> None:
    model = prepare(f"win ~ {RIGHT}", table, "binomial")
    draws = draw_parameters(model, 20_000, np.random.default_rng(5))
    groups = table.groupby("g")[["z1", "z2", "x1", "x2"]].mean().mean()
    at = draws["b_l2"][:, 0] + draws["b_l2"][:, 1:] @ groups[["z1", "z2"]]
    at = at + draws["b_l1"] @ groups[["x1", "x2"]].to_numpy()
    assert stats.kstest(at, stats.norm(0, 1).cdf).pvalue > 0.001


def test_random_walks_add_their_steps(coalitions: pd.DataFrame) -> None:
    """Cov of two effects of a walk: sigma^2 times the smaller number of steps."""
    model = prepare(
        "y ~ 1 + mm(id(pid, gid), RE = TRUE, ar = TRUE)", coalitions, priors=["sigma_l1 <- 2"]
    )
    walk = model.design.members[0].walk
    assert isinstance(walk, Walk)
    draws = draw_parameters(model, 20_000, np.random.default_rng(6))["u_l1"]
    member = np.flatnonzero(model.design.members[0].member == 4)
    order = walk.order[member]
    expected = 4 * np.minimum.outer(order, order)
    np.testing.assert_allclose(
        np.cov(draws[:, walk.effect[member]].T), expected, atol=6 * expected.max() / np.sqrt(20_000)
    )


def test_random_slopes_have_their_own_sds(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(m, g), vars(x1), RE = re(1 + x1))"
    model = prepare(formula, table, priors=["sigma_slope_l1 ~ uniform(2, 4)"])
    draws = draw_parameters(model, 20_000, np.random.default_rng(7))
    slopes = draws["u_slope_l1"]
    assert slopes.shape == (20_000, 50, 1)
    assert slopes.var() == pytest.approx(9 + 1 / 3, rel=0.05)


# ---- families --------------------------------------------------------------------------------


def test_choices_within_strata(table: pd.DataFrame) -> None:
    formula = "pick ~ z1 + mm(id(m, g), vars(x1), RE = TRUE) + strata(race)"
    found = rmm.prior_predictive(formula, table, "condlogit", draws=300, seed=8)
    assert found.outcome is not None
    np.testing.assert_allclose(found.mean.reshape(300, 30, 4).sum(axis=2), 1)
    assert (found.outcome.reshape(300, 30, 4).sum(axis=2) == 1).all()
    assert "Probabilities outside 0.01 to 0.99" in str(found)


def test_counts_become_probabilities(table: pd.DataFrame) -> None:
    found = rmm.prior_predictive(
        "cbind(yes, no) ~ 1 + z1 + mm(id(m, g), RE = TRUE)", table, "binomial", draws=200
    )
    trials = found.model.design.outcome["trials"]
    assert found.outcome is not None and (found.outcome <= trials).all()
    assert found.shown[1].max() <= 1


@pytest.mark.parametrize("options", [{}, {"intervals": 4}])
def test_cox_has_hazards_and_no_durations(table: pd.DataFrame, options: dict[str, Any]) -> None:
    formula = "Surv(time, event) ~ z1 + mm(id(m, g), vars(x1), RE = TRUE)"
    found = rmm.prior_predictive(formula, table, "cox", draws=200, **options)
    assert found.outcome is None and found.implausible is None
    np.testing.assert_allclose(found.mean, np.exp(found.linear))
    assert list(found.summary().index) == ["linear predictor", "relative hazard"]


PRIORS = ("normal(0, 1)", "student_t(3, 0, 1)", "uniform(-1, 1)")
SDS = (
    "half_normal(1)",
    "half_t(4, 1)",
    "half_cauchy(1)",
    "exponential(1)",
    "gamma(2, 1)",
    "uniform(0, 2)",
    "dgamma(3, 2)",
)


@pytest.mark.parametrize("prior", [*PRIORS, *SDS])
def test_every_prior_can_be_drawn(prior: str, table: pd.DataFrame) -> None:
    name = "b_l1" if prior in PRIORS else "tau_l1" if prior.startswith("d") else "sigma_l1"
    found = rmm.prior_predictive(f"y ~ {RIGHT}", table, priors=[f"{name} ~ {prior}"], draws=50)
    assert found.outcome is not None and np.isfinite(found.outcome).all()


def test_estimated_weights_and_vague_priors(table: pd.DataFrame) -> None:
    """The set of R's rmm reaches weights that underflow and durations beyond what numbers hold."""
    formula = "Surv(time, event) ~ 1 + z1 + mm(id(m, g), vars(x1), fn(w ~ 1/n^exp(-(b1*x2))))"
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = rmm.prior_predictive(formula, table, "weibull", priors="rmm", draws=300, seed=9)
        found.plot()
    assert found.implausible is not None and found.implausible > 0.5


# ---- of a fit, and faults --------------------------------------------------------------------


def test_of_a_fit_it_is_that_of_its_priors(table: pd.DataFrame) -> None:
    formula, priors = "y ~ 1 + z1 + mm(id(m, g), vars(fix(x1, 0)))", ["b_l2[z1] ~ normal(0, 7)"]
    fit = rmm.fit(formula, table, priors=priors, backend="laplace", seed=6, draws=300)
    direct = rmm.prior_predictive(formula, table, priors=priors, seed=6, draws=100)
    np.testing.assert_array_equal(fit.prior_predictive(100).linear, direct.linear)
    assert not np.array_equal(fit.prior_predictive(100, seed=7).linear, direct.linear)


@pytest.mark.parametrize("draws", [0, True, 2.5, "many"])
def test_wrong_numbers_of_draws(draws: Any, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.PriorError, match="`draws` must be a whole number between 1 and"):
        rmm.prior_predictive("y ~ 1 + z1 + mm(id(m, g), RE = TRUE)", table, draws=draws)


def test_priors_that_give_no_weights_are_named(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(m, g), vars(x1), fn(w ~ log(b0 + 3 + x2), c = FALSE))"
    with pytest.raises(
        rmm.PriorError, match=r"weight coefficients that were drawn.*Or use narrower priors"
    ):
        rmm.prior_predictive(formula, table, priors=["b_w ~ normal(0, 50)"], draws=100)


FIGURES = {
    "gaussian": (f"y ~ {RIGHT}", "observed"),
    "binomial": (f"win ~ {RIGHT}", "observed share"),
    "weibull": (f"Surv(time, event) ~ {RIGHT}", "observed"),
    "cox": (f"Surv(time, event) ~ z1 + {MEMBERS}", None),
}


@pytest.mark.parametrize("family", FIGURES)
def test_figures_show_draws_and_what_was_observed(family: str, table: pd.DataFrame) -> None:
    formula, observed = FIGURES[family]
    found = rmm.prior_predictive(formula, table, family, draws=200)
    (cell,) = found.plot().axes
    heights = [bar.get_height() for bar in cell.patches]
    assert sum(heights) == pytest.approx(100)
    labels = cell.get_legend_handles_labels()[1]
    assert set(labels) == {"prior draws", observed} - {None}
    if family == "binomial":
        assert cell.lines[0].get_xdata()[0] == 0.5
