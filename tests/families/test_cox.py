"""The Cox family: marginal likelihood, baseline, messages, programs, and agreement with others."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats
from scipy.special import gammaln

import rmm
import tests
from rmm.backends.stan.run import available
from rmm.design.prepare import prepare, prepare_without_data
from rmm.errors import BackendError, DataError, FormulaError
from rmm.families import FAMILIES, Cox, find_family
from rmm.families.cox import cumulative_hazard, log_marginal
from rmm.posterior.prediction.linear_predictor import eta_draws, flat_draws, layout_of
from rmm.simulation import simulate

Array = np.ndarray[Any, Any]
GOLDEN = tests.GOLDEN / "families"
COX = FAMILIES["cox"]
KINDS = {"steps": COX, "intervals": Cox(intervals=3)}
MIXED = "mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")

# Ties of events, of events with censored times, and a group censored before the first event.
TIME = np.array([2.0, 1.0, 3.0, 3.0, 5.0, 0.5, 4.0, 3.0])
EVENT = np.array([1, 1, 1, 1, 0, 0, 1, 0])


def outcome_of(kind: str, time: Array = TIME, event: Array = EVENT) -> dict[str, Any]:
    return KINDS[kind].read_outcome("Surv(t, e)", (time, event), None)


def survival_data(groups: int = 250, seed: int = 6) -> pd.DataFrame:
    """One row per group, durations in whole units (ties), a quarter censored."""
    data = simulate(
        "Surv(time, event) ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n))",
        {"b_l2[z]": 0.5, "b_l1[x]": -0.4},
        family="cox",
        membership={"kind": "synthetic", "groups": groups, "size": 1, "overlap": 0},
        covariates={"x": {"level": "member"}, "z": {"level": "group"}},
        baseline={"shape": 1.3, "rate": 0.01},
        censoring={"share": 0.25},
        seed=seed,
    ).data
    return data.assign(time=np.ceil(data["time"] / 3))


# ---- likelihood ------------------------------------------------------------------------------


def exposures(kind: str, time: Array, ends: Array) -> Array:
    """(J, K) exposure of each group in each step, written as a loop."""
    starts = np.r_[0.0, ends[:-1]]
    out = np.zeros((len(time), len(ends)))
    for j, t in enumerate(time):
        for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
            part = min(max((t - start) / (end - start), 0), 1)
            out[j, k] = part if kind == "intervals" else float(t >= end)
    return out


def marginal_by_loops(kind: str, eta: Array, keep: Array, outcome: dict[str, Any]) -> float:
    """Log marginal likelihood of some groups, from the table of all groups and steps."""
    ends, rate = outcome["ends"], 0.001
    exposure = exposures(kind, TIME, ends)
    width = np.diff(ends, prepend=0.0)
    prior = rate * width * EVENT.sum() / TIME.sum()
    total = 0.0
    for k in range(len(ends)):
        inside = (ends[k] - width[k] < TIME) & (ends[k] >= TIME) & (EVENT == 1) & keep
        at_risk = np.sum(exposure[keep, k] * np.exp(eta[keep]))
        total += prior[k] * np.log(rate) - gammaln(prior[k])
        total += gammaln(prior[k] + inside.sum())
        total -= (prior[k] + inside.sum()) * np.log(rate + at_risk)
        total += eta[inside].sum() - inside.sum() * np.log(width[k]) * (kind == "intervals")
    return float(total)


@pytest.mark.parametrize("kind", KINDS)
def test_marginal_likelihood_and_leave_one_out(kind: str) -> None:
    eta = np.random.default_rng(1).normal(0, 2, (3, len(TIME)))
    outcome, everyone = outcome_of(kind), np.ones(len(TIME), dtype=bool)
    whole = np.array([marginal_by_loops(kind, row, everyone, outcome) for row in eta])
    np.testing.assert_allclose(log_marginal(eta, outcome), whole, rtol=1e-12)
    expected = [
        [
            whole[s] - marginal_by_loops(kind, row, np.arange(len(TIME)) != j, outcome)
            for j in range(len(TIME))
        ]
        for s, row in enumerate(eta)
    ]
    found = KINDS[kind].log_likelihood(eta, {}, outcome)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_marginal_likelihood_is_the_integral_over_the_baseline() -> None:
    """One event time and two groups: the Gamma increment integrated numerically."""
    time, event, eta = np.array([2.0, 3.0]), np.array([1, 0]), np.array([[0.4, -0.3]])
    outcome = outcome_of("steps", time, event)
    law = stats.gamma(outcome["prior_dH"][0], scale=1 / outcome["rate_dH"])
    risk = np.exp(eta).sum()

    def joint(log_h: float) -> float:
        h = np.exp(log_h)
        return float(np.exp(eta[0, 0] - h * risk) * h * law.pdf(h) * h)

    found = integrate.quad(joint, -60, 5, limit=400)[0]
    np.testing.assert_allclose(np.exp(log_marginal(eta, outcome)[0]), found, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [-400.0, 400.0])
def test_large_predictors_do_not_overflow(kind: str, shift: float) -> None:
    eta = np.random.default_rng(2).normal(size=(2, len(TIME))) + shift
    outcome = outcome_of(kind)
    assert np.isfinite(log_marginal(eta, outcome)).all()
    assert np.isfinite(KINDS[kind].log_likelihood(eta, {}, outcome)).all()


def maximum(family: rmm.families.Family, table: pd.DataFrame) -> Array:
    """Coefficients of z and x with the largest marginal likelihood."""
    parts = (table["time"].to_numpy(), table["event"].to_numpy())
    outcome, X = family.read_outcome("S", parts, None), table[["z", "x"]].to_numpy()
    found = optimize.minimize(
        lambda b: -log_marginal((X @ b)[None], outcome)[0], np.zeros(2), method="BFGS"
    )
    return np.asarray(found.x)


def test_maximum_is_the_partial_likelihoods_with_breslow_ties() -> None:
    """As the baseline's prior weighs nothing: statsmodels within 0.001 (a hundredth of the se)."""
    from statsmodels.duration.hazard_regression import PHReg

    table = survival_data()
    assert table["time"].duplicated().sum() > 100
    result = PHReg(table["time"], table[["z", "x"]], status=table["event"], ties="breslow").fit()
    np.testing.assert_allclose(maximum(COX, table), result.params, atol=1e-3)


def test_intervals_are_a_poisson_model_in_long_format() -> None:
    import statsmodels.api as sm

    table, family = survival_data(), Cox(intervals=5)
    parts = (table["time"].to_numpy(), table["event"].to_numpy())
    ends = family.read_outcome("S", parts, None)["ends"]
    assert len(ends) == 5
    starts = np.r_[0.0, ends[:-1]]
    rows = [
        {
            "z": r.z,
            "x": r.x,
            "k": k,
            "exposure": min(r.time, ends[k]) - starts[k],
            "event": float(r.event and r.time <= ends[k]),
        }
        for r in table.itertuples()
        for k in range(5)
        if r.time > starts[k]
    ]
    long = pd.DataFrame(rows)
    X = np.column_stack([long[["z", "x"]], pd.get_dummies(long["k"]).to_numpy(dtype=float)])
    glm = sm.GLM(long["event"], X, sm.families.Poisson(), exposure=long["exposure"]).fit()
    np.testing.assert_allclose(maximum(family, table), glm.params[:2], atol=1e-3)


# ---- predictions -----------------------------------------------------------------------------


def test_baseline_draws_have_their_gamma_law() -> None:
    rng, n = np.random.default_rng(3), 20_000
    outcome = outcome_of("steps")
    times, H = cumulative_hazard(np.zeros((n, len(TIME))), outcome, rng)
    np.testing.assert_array_equal(times, [1, 2, 3, 4])
    for k, (events, at_risk) in enumerate([(1, 7), (1, 6), (2, 5), (1, 2)]):
        law = stats.gamma(outcome["prior_dH"][k] + events, scale=1 / (0.001 + at_risk))
        assert stats.kstest(np.diff(H, prepend=0)[:, k], law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_survival_curve_of_the_baseline(kind: str) -> None:
    rng, n = np.random.default_rng(4), 20_000
    eta, outcome = np.zeros((n, len(TIME))), outcome_of(kind)
    draws = KINDS[kind].draw(eta, {}, outcome, rng)
    ends, H = cumulative_hazard(eta, outcome, rng)
    for k, end in enumerate(ends):
        expected = np.exp(-H[:, k]).mean()
        assert abs(np.mean(draws[:, 0] > end) - expected) < 4.5 * np.sqrt(0.5 / n)
    assert np.isinf(draws).any()
    assert draws[np.isfinite(draws)].max() <= ends[-1]


@pytest.mark.parametrize("options", [{}, {"intervals": 6}], ids=["steps", "intervals"])
def test_new_groups_survive_as_those_of_the_fit(options: dict[str, Any]) -> None:
    """The same groups as new ones: 250 x 2,000 durations by another random stream.

    The baseline of a draw is shared by all groups, so that shares of durations have an sd of about
    that of S(t), .03, over sqrt(2,000) draws: .0007; five of them, twice, are below .005.
    """
    data = survival_data()
    fit = rmm.fit(
        "Surv(time, event) ~ z", data, "cox", backend="laplace", seed=3, draws=500, **options
    )
    one, two = (
        fit.predict(table, "outcome", draws=True, seed=4).to_numpy() for table in (None, data)
    )
    model = fit.model
    eta = eta_draws(model, layout_of(model), flat_draws(fit.run, model))
    baseline = cumulative_hazard(eta, model.design.outcome, np.random.default_rng(8))[1]
    outcome = {**model.design.outcome, "baseline": baseline}
    assert model.spec.family.survival is not None
    for time in np.quantile(data["time"], [0.2, 0.5, 0.8]):
        assert np.mean(one > time) == pytest.approx(np.mean(two > time), abs=0.005)
        # And as the survival function says, of which these are draws.
        survival = model.spec.family.survival(eta, {}, outcome, float(time))
        assert np.mean(one > time) == pytest.approx(survival.mean(), abs=0.005)


def test_mean_is_the_relative_hazard() -> None:
    eta = np.array([[0.3, -1.0]])
    np.testing.assert_array_equal(COX.mean(eta, {}, {}), np.exp(eta))


def test_new_groups_need_the_baseline_of_the_fit() -> None:
    eta, rng = np.zeros((2, 3)), np.random.default_rng(5)
    with pytest.raises(BackendError, match="kind='mean'"):
        COX.draw(eta, {}, outcome_of("steps"), rng)
    given = {"ends": np.array([1.0, 2.0]), "baseline": np.full((2, 2), 1e9)}
    np.testing.assert_array_equal(COX.draw(eta, {}, given, rng), np.ones((2, 3)))


def test_point_14_residual_variance_is_that_of_the_log_cumulative_hazard() -> None:
    values = np.log(np.random.default_rng(6).standard_exponential(200_000))
    assert COX.residual_variance({}, {}) == pytest.approx(np.pi**2 / 6)
    assert values.var() == pytest.approx(np.pi**2 / 6, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left_out", [1, 3, 4, 6])
def test_some_groups_keep_the_steps_of_the_baseline(kind: str, left_out: int) -> None:
    """What refits without a group use: the same steps, up to a constant without those at risk."""
    eta = np.random.default_rng(7).normal(size=(4, len(TIME)))
    outcome, keep = outcome_of(kind), np.arange(len(TIME)) != left_out
    some = KINDS[kind].outcome_of_some(outcome, np.flatnonzero(keep))
    assert some.get("at_risk", np.ones(1)).min() >= 1
    found = log_marginal(eta[:, keep], some)
    expected = [marginal_by_loops(kind, row, keep, outcome) for row in eta]
    np.testing.assert_allclose(found - found[0], np.subtract(expected, expected[0]), atol=1e-9)


# ---- the model and its messages ---------------------------------------------------------------


def test_point_11_no_intercept_beside_the_baseline() -> None:
    table = survival_data(40)
    model = prepare("Surv(time, event) ~ 1 + z + x", table, "cox")
    assert not model.spec.intercept
    assert list(model.design.coords["covariate_l2"]) == ["z", "x"]
    np.testing.assert_allclose(model.design.X_l2.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("intervals", [0, -1, 2.5, True, "3"])
def test_intervals_must_be_a_number(intervals: Any) -> None:
    with pytest.raises(FormulaError, match="must be a whole number of at least 1"):
        find_family("cox", {"intervals": intervals})


def test_more_intervals_than_event_times() -> None:
    with pytest.raises(DataError, match="Set `intervals` to at most 4"):
        Cox(intervals=9).read_outcome("Surv(t, e)", (TIME, EVENT), None)


@pytest.mark.parametrize(
    ("time", "event", "message"),
    [
        ([-1.0, 2.0], [1, 1], "must be 0 or more"),
        ([1.0, 2.0], [1, 3], "must be 1"),
        ([1.0, 2.0], [0, 0], "every duration is censored"),
    ],
)
def test_point_17_wrong_outcomes_get_a_message(time: Any, event: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        outcome_of("steps", np.array(time), np.array(event))


# ---- programs and engines --------------------------------------------------------------------


@pytest.mark.parametrize("language", ["stan", "jags"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_is_the_golden_one(kind: str, language: str) -> None:
    """``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_cox.py`` rewrites them; read the diff."""
    text = rmm.program(f"Surv(time, event) ~ 1 + z + {MIXED}", KINDS[kind], language)
    path = GOLDEN / f"cox_{kind}.{language}.txt"
    if os.environ.get("RMM_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_number_of_intervals_is_data() -> None:
    texts = {rmm.program("Surv(t, e) ~ z", Cox(intervals=k), "stan") for k in (2, 7)}
    assert len(texts) == 1
    assert prepare_without_data("Surv(t, e) ~ z", "cox")[0].family.options == {}


@pytest.mark.thorough
@needs_stan
@pytest.mark.stan
@pytest.mark.jags
def test_engines_without_effects() -> None:
    """Stan's log density against NumPy; Stan against the maximum; JAGS against Stan.

    Mean and maximum within a fifth of a posterior sd and 4 MCSE; engines within 4.5 combined MCSE.
    """
    table = survival_data(120)
    settings: dict[str, Any] = {
        "priors": "rmm",
        "seed": 1,
        "cores": 1,
        "progress": False,
        "chains": 2,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        stan = rmm.fit("Surv(time, event) ~ z + x", table, "cox", backend="stan", **settings)
        jags = rmm.fit(
            "Surv(time, event) ~ z + x", table, "cox", draws=500, backend="jags", **settings
        )
    b, design = stan.run.draws["b_l2"], stan.model.design
    eta = b @ design.X_l2.T
    expected = np.array([log_marginal(e, design.outcome) for e in eta])
    expected += stats.norm.logpdf(b, 0, 100).sum(axis=-1)
    found = stan.run.sample_stats["lp"]
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], atol=1e-5)
    one, other = stan.summary(), jags.summary()
    limit = 0.2 * one["sd"] + 4 * one["mcse_mean"]
    assert ((one["mean"] - maximum(COX, table)).abs() < limit).all(), one
    z = (one["mean"] - other["mean"]) / np.hypot(one["mcse_mean"], other["mcse_mean"])
    assert (z.abs() < 4.5).all(), z


@needs_stan
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_engines_agree_on_a_mixed_model(kind: str) -> None:
    """Means within 4.5 combined MCSE: false alarms below 0.01% for six parameters."""
    table = simulate(
        f"Surv(time, event) ~ 1 + z + {MIXED}",
        {"b_l2[z]": 0.5, "b_l1[x]": -0.4, "sigma_l1": 0.8},
        family="cox",
        membership={"kind": "synthetic", "groups": 100, "members": 20, "size": 3},
        covariates={"x": {"level": "member"}, "z": {"level": "group"}},
        censoring={"share": 0.3},
        seed=8,
    ).data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        jags, stan = (
            rmm.fit(
                f"Surv(time, event) ~ 1 + z + {MIXED}",
                table,
                KINDS[kind],
                backend=backend,
                seed=3,
                cores=1,
                progress=False,
                draws=2000,
            ).summary()
            for backend in ("jags", "stan")
        )
    z = (jags["mean"] - stan["mean"]) / np.hypot(jags["mcse_mean"], stan["mcse_mean"])
    assert (z.abs() < 4.5).all(), pd.DataFrame({"jags": jags["mean"], "stan": stan["mean"], "z": z})


def test_loo_with_a_group_that_says_nothing() -> None:
    """Censored before the first event: its log likelihood is 0 in all draws."""
    from rmm.posterior.prediction.cross_validation import Pointwise, loo

    eta = np.random.default_rng(8).normal(0, 0.3, (2, 200, len(TIME)))
    outcome = outcome_of("steps")
    values = np.array([COX.log_likelihood(e, {}, outcome) for e in eta])
    assert (values[..., 5] == 0).all()
    each = Pointwise(values.reshape(-1, len(TIME)), "group", np.arange(len(TIME)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        result = loo(each, None)
    assert np.isfinite(result.elpd)
    assert abs(float(result.elpd_i[5])) < 1e-8
