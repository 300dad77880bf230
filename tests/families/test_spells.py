"""Delayed entry, `Surv(start, stop, event)`: likelihoods, splitting, engines, messages."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import rmm
import tests
from rmm.backends.stan.run import available
from rmm.design.columns.outcome import with_third_column_read
from rmm.design.prepare import prepare
from rmm.design.rows.group_rows import group_table
from rmm.families import FAMILIES, Cox, Family
from rmm.families.cox import cumulative_hazard, log_marginal
from rmm.formula.parse_formula import parse_formula
from rmm.posterior.prediction.predictive_checks import kaplan_meier, survival
from rmm.simulation import RecipeError, simulate
from rmm.simulation.outcomes.survival import censoring_rate, draw_cox, draw_weibull
from rmm.tables.table import Table
from tests.family_cases import MIXED, check_stan_density, quiet

Array = np.ndarray[Any, Any]
GOLDEN = tests.GOLDEN / "families"
KINDS: dict[str, Family] = {
    "weibull": FAMILIES["weibull"],
    "cox_steps": FAMILIES["cox"],
    "cox_intervals": Cox(intervals=4),
}
COXES = [name for name in KINDS if name != "weibull"]
needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")


def of_spells(family: Family) -> Family:
    assert family.for_outcome is not None
    return family.for_outcome("spell")


def read(name: str, stop: Any, event: Any, start: Any, *upper: Any) -> dict[str, Any]:
    parts = tuple(np.asarray(part, float) for part in (stop, event, start, *upper))
    return of_spells(KINDS[name]).read_outcome("Surv(t, e, entry = s)", parts, None)


def read_plain(name: str, stop: Any, event: Any) -> dict[str, Any]:
    parts = (np.asarray(stop, float), np.asarray(event, float))
    return KINDS[name].read_outcome("Surv(t, e)", parts, None)


def made_up(count: int = 60, seed: int = 1) -> tuple[Array, Array, Array]:
    """Ends (with ties), events and entries, half of which are 0."""
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(count) < 0.5, 0, rng.integers(0, 20, count) / 2)
    stop = start + rng.integers(1, 30, count) / 2
    return stop, (rng.random(count) < 0.7).astype(float), start


def exposures(name: str, stop: Array, start: Array, ends: Array) -> Array:
    """(J, K) shares of the baseline's steps at risk, from their definition."""
    if name == "cox_steps":
        return ((start[:, None] < ends) & (ends <= stop[:, None])).astype(float)
    begin = np.r_[0.0, ends[:-1]]
    inside = np.minimum(stop[:, None], ends) - np.maximum(start[:, None], begin)
    return np.clip(inside / (ends - begin), 0, None)


# ---- likelihoods -------------------------------------------------------------------------------


def test_weibull_is_the_truncated_law_of_scipy() -> None:
    stop, event, start = made_up()
    rng = np.random.default_rng(2)
    eta, shape = rng.normal(1, 1, (6, len(stop))), rng.uniform(0.3, 4, 6)
    law = stats.weibull_min(shape[:, None], scale=np.exp(eta))
    expected = np.where(event == 1, law.logpdf(stop), law.logsf(stop)) - law.logsf(start)
    outcome = read("weibull", stop, event, start)
    found = of_spells(KINDS["weibull"]).log_likelihood(eta, {"shape": shape}, outcome)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", COXES)
def test_cox_has_the_risk_sets_of_those_who_have_entered(name: str) -> None:
    """The marginal likelihood over groups and steps, and each group's share of it."""
    stop, event, start = made_up()
    outcome, family = read(name, stop, event, start), of_spells(KINDS[name])
    eta, ends = np.random.default_rng(3).normal(0, 2, (3, len(stop))), outcome["ends"]
    exposure, shape = exposures(name, stop, start, ends), outcome["shape_dH"]
    prior = 0.001 * event.sum() / (stop - start).sum() * np.diff(ends, prepend=0.0)
    np.testing.assert_allclose(outcome["prior_dH"], prior)
    np.testing.assert_allclose(shape - prior, np.bincount(outcome["at"][event == 1] - 1))
    total = np.exp(eta) @ exposure + 0.001
    whole = eta @ event - np.log(total) @ shape
    found = log_marginal(eta, outcome)
    np.testing.assert_allclose(found - found[0], whole - whole[0], atol=1e-9)
    each = family.log_likelihood(eta, {}, outcome)
    for j in (0, 5, 17):
        own = np.zeros(len(ends))
        own[outcome["at"][j] - 1] = event[j]
        rest = total - np.exp(eta[:, [j]]) * exposure[j]
        without = (eta @ event - eta[:, j] * event[j]) - np.log(rest) @ (shape - own)
        expected = whole - without
        np.testing.assert_allclose(each[:, j] - each[0, j], expected - expected[0], atol=1e-9)


def test_partial_likelihood_is_that_of_statsmodels() -> None:
    """PHReg with `entry` and Breslow ties; entries at event times, too."""
    from statsmodels.duration.hazard_regression import PHReg

    stop, event, start = made_up(120, seed=4)
    x = np.random.default_rng(5).normal(size=(120, 2))
    outcome = read("cox_steps", stop, event, start)
    assert np.isin(start[start > 0], outcome["ends"]).any()
    # statsmodels has groups at risk at the time of their entry, R's survival and rmm after it.
    model = PHReg(stop, x, status=event, entry=start + 1e-9, ties="breslow")
    without_prior = {**outcome, "rate_dH": 1e-250, "shape_dH": outcome["counts"]}
    points = np.random.default_rng(6).normal(size=(5, 2))
    found = np.array([log_marginal((b @ x.T)[None], without_prior)[0] for b in points])
    expected = np.array([model.loglike(b) for b in points])
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-8)


@pytest.mark.parametrize("name", KINDS)
def test_curvature_is_that_of_the_likelihood(name: str) -> None:
    """Gradient by differences; the Hessian's diagonal exact, all of it where few steps merge."""
    stop, event, start = made_up(50, seed=7)
    outcome, family = read(name, stop, event, start), of_spells(KINDS[name])
    assert family.curvature is not None
    eta, step = np.random.default_rng(8).normal(size=(1, 50)), 1e-4
    values = {"shape": np.array([1.4])}

    def total(at: Array) -> float:
        return float(family.curvature(at, values, outcome).value[0])  # type: ignore[misc]

    here, moves = family.curvature(eta, values, outcome), step * np.eye(50)
    slopes = [(total(eta + d) - total(eta - d)) / (2 * step) for d in moves]
    np.testing.assert_allclose(here.gradient[0], slopes, atol=1e-6)
    hessian = np.array(
        [
            family.curvature(eta - d, values, outcome).gradient[0]
            - family.curvature(eta + d, values, outcome).gradient[0]
            for d in moves
        ]
    ) / (2 * step)
    weight = np.broadcast_to(here.weight[0], 50)
    found = np.diag(weight)
    if here.shared is not None:
        rows = here.shared(0, np.eye(50))
        found = found - rows.T @ rows
    np.testing.assert_allclose(np.diag(found), np.diag(hessian), atol=1e-6)
    # 30 event times are merged to 24 steps.
    np.testing.assert_allclose(found, hessian, atol=0.02 if name == "cox_steps" else 1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_entries_of_0_are_no_entries_to_the_last_bit(name: str) -> None:
    stop, event, _ = made_up()
    family = of_spells(KINDS[name])
    late, plain = read(name, stop, event, 0 * stop), read_plain(name, stop, event)
    eta = np.random.default_rng(9).normal(size=(4, len(stop)))
    values = {"shape": np.array([0.5, 1, 1.5, 2])}
    for one, other in zip(
        (family.log_likelihood(eta, values, late), *_numbers(family, eta, values, late)),
        (
            KINDS[name].log_likelihood(eta, values, plain),
            *_numbers(KINDS[name], eta, values, plain),
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert family.scale(late) == KINDS[name].scale(plain)


def _numbers(family: Family, eta: Array, values: Any, outcome: Any) -> tuple[Array, ...]:
    assert family.curvature is not None
    found = family.curvature(eta, values, outcome)
    return found.value, found.gradient


# ---- splitting: the decisive property ----------------------------------------------------------


def split(stop: Array, event: Array, start: Array, rng: Any) -> tuple[Array, ...]:
    """Every spell cut at a time inside of it: ends, events, entries, and the old spell of each."""
    cut = start + rng.uniform(0.05, 0.95, len(stop)) * (stop - start)
    everyone = np.arange(len(stop))
    return (
        np.r_[cut, stop],
        np.r_[0 * event, event],
        np.r_[start, cut],
        np.r_[everyone, everyone],
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_splitting_spells_leaves_the_likelihood(name: str, seed: int) -> None:
    """Value and gradient at the same predictors; gradients of the parts of a spell add up."""
    stop, event, start = made_up(seed=seed)
    rng, family = np.random.default_rng(seed), of_spells(KINDS[name])
    *pieces, old = split(stop, event, start, rng)
    whole, parts = read(name, stop, event, start), read(name, *pieces)
    eta, values = rng.normal(size=(4, len(stop))), {"shape": rng.uniform(0.4, 3, 4)}
    assert family.curvature is not None
    one = family.curvature(eta, values, whole)
    two = family.curvature(eta[:, old], values, parts)
    np.testing.assert_allclose(two.value, one.value, rtol=1e-12)
    np.testing.assert_allclose(
        two.gradient[:, : len(stop)] + two.gradient[:, len(stop) :], one.gradient, atol=1e-10
    )


def spell_table(groups: int, seed: int, family: str = "weibull", **more: Any) -> pd.DataFrame:
    """Rows of memberships; half of the groups enter late, 30% are censored."""
    own = {"shape": 1.5, "b_l2[Intercept]": 1.0} if family == "weibull" else {}
    sign = 1 if family == "weibull" else -1
    return simulate(
        f"Surv(stop, event, entry = start) ~ {1 if own else 0} + z + "
        "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s))), c=TRUE), RE=TRUE)",
        {
            "b_l2[z]": 0.5 * sign,
            "b_l1[x]": 0.4 * sign,
            "b_w[b1]": 0.5,
            "sigma_l1": 0.6,
            **own,
        },
        family=family,
        membership={
            "kind": "synthetic",
            "groups": groups,
            "members": max(groups // 6, 10),
            "size": 3,
            "member": "pid",
            "group": "gid",
        },
        covariates={
            "x": {"level": "member"},
            "z": {"level": "group"},
            "s": {"level": "membership"},
        },
        censoring={"share": 0.3},
        entry={"share": 0.5, "time": 2.0 if family == "weibull" else 0.6},
        seed=seed,
        **more,
    ).data


def split_table(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same spells, each as two groups with the same members and covariates."""
    groups = table.groupby("gid")
    share = pd.Series(
        np.random.default_rng(seed).uniform(0.1, 0.9, groups.ngroups), list(groups.groups)
    )
    cut = table["start"] + table["gid"].map(share) * (table["stop"] - table["start"])
    first = table.assign(stop=cut, event=0, gid=2 * table["gid"])
    return pd.concat([first, table.assign(start=cut, gid=2 * table["gid"] + 1)])


#: Priors that do not follow from the data, whose numbers of rows differ.
_PRIORS = [
    "b_l2 ~ normal(0, 2)",
    "b_l1 ~ normal(0, 2)",
    "b_w ~ normal(0, 1)",
    "sigma_l1 ~ half_normal(1)",
]


@pytest.mark.parametrize("name", KINDS)
def test_splitting_spells_leaves_the_posterior(name: str) -> None:
    """With priors that are given as numbers; laplace has the same points and noise for both.

    Differences are then those of integrals whose curvature is that of other merged steps, and
    below a tenth of a posterior sd: Monte Carlo error, which the two fits have in common in part,
    is .045 of an sd at 500 effective draws.
    """
    table = spell_table(120, seed=11, family=name.partition("_")[0])
    formula = f"Surv(start, stop, event) ~ {MIXED}"
    priors = _PRIORS + (["shape ~ gamma(2, 1)"] if name == "weibull" else [])
    one, two = (
        rmm.fit(
            formula, rows, KINDS[name], backend="laplace", priors=priors, seed=4, progress=False
        ).summary()
        for rows in (table, split_table(table, 12))
    )
    assert list(one.index) == list(two.index)
    assert ((one["mean"] - two["mean"]).abs() < 0.1 * one["sd"]).all(), (one, two)
    assert (two["sd"] / one["sd"]).between(0.9, 1.1).all(), (one, two)


# ---- programs and engines ----------------------------------------------------------------------


@pytest.mark.parametrize("language", ["stan", "jags"])
@pytest.mark.parametrize("name", KINDS)
def test_text_is_the_golden_one(name: str, language: str) -> None:
    """``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_spells.py`` rewrites them."""
    one = "0" if name in COXES else "1"
    formula = f"Surv(stop, event, entry = start) ~ {one} + {MIXED}"
    text = rmm.program(formula, KINDS[name], language)
    path = GOLDEN / f"spells_{name}.{language}.txt"
    if os.environ.get("RMM_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@needs_stan
@pytest.mark.stan
@pytest.mark.thorough
def test_stan_has_scipys_density_of_weibull_spells() -> None:
    model = quiet(f"Surv(start, stop, event) ~ {MIXED}", spell_table(60, 13), "weibull")
    assert model.spec.formula.outcome.kind == "spell"
    first = model.grouped.first_rows

    def log_likelihood(eta: Array, shape: float) -> float:
        law = stats.weibull_min(shape, scale=np.exp(eta))
        stop, event, start = (first[c].numbers for c in ("stop", "event", "start"))
        seen = np.where(event == 1, law.logpdf(stop), law.logsf(stop))
        return float(np.sum(seen - law.logsf(start)))

    check_stan_density(
        model,
        log_likelihood,
        own=lambda d: stats.gamma.logpdf(d["shape"], 2.4, scale=1 / 1.25) + np.log(d["shape"]),
    )


@needs_stan
@pytest.mark.stan
@pytest.mark.parametrize("name", COXES)
@pytest.mark.thorough
def test_stan_has_the_density_of_cox_spells(name: str) -> None:
    model = quiet(f"Surv(start, stop, event) ~ {MIXED}", spell_table(60, 14, "cox"), KINDS[name])
    first = model.grouped.first_rows
    stop, event, start = (np.asarray(first[c].numbers) for c in ("stop", "event", "start"))
    ends, shape = model.design.outcome["ends"], model.design.outcome["shape_dH"]
    exposure = exposures(name, stop, start, ends)

    def log_likelihood(eta: Array) -> float:
        return float(eta @ event - shape @ np.log(np.exp(eta) @ exposure + 0.001))

    check_stan_density(model, log_likelihood)


def test_jags_has_scipys_likelihood_of_weibull_spells() -> None:
    """The Poisson form of the program with its factors, written here, on the program's data."""
    stop, event, start = made_up(40, seed=31)
    family, rng = of_spells(KINDS["weibull"]), np.random.default_rng(32)
    data = family.program_data(read("weibull", stop, event, start), "jags")
    assert set(data) == {"before", "event", "log_t", "n_events", "seen", "tiny"}
    difference = []
    for _ in range(5):
        eta, shape = rng.normal(1, 1, 40), rng.uniform(0.5, 3)
        observed = 1 - data["before"] ** shape
        run = np.exp(shape * (data["log_t"] - eta)) * observed
        found = stats.poisson.logpmf(data["event"], run).sum()
        rates = shape / observed[data["seen"] - 1]
        found += stats.expon.logpdf(data["tiny"], scale=1 / rates).sum()
        law = stats.weibull_min(shape, scale=np.exp(eta))
        seen = np.where(event == 1, law.logpdf(stop), law.logsf(stop)) - law.logsf(start)
        difference.append(found - seen.sum())
    assert np.ptp(difference) < 1e-6


@pytest.mark.jags
@pytest.mark.parametrize("name", COXES)
def test_jags_has_the_posterior_of_laplace(name: str) -> None:
    """Without effects, where JAGS mixes well: means within 4.5 combined MCSE."""
    table = spell_table(80, 16, name.partition("_")[0]).groupby("gid").first().reset_index()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (
            rmm.fit(
                "Surv(start, stop, event) ~ z",
                table,
                KINDS[name],
                backend=backend,
                seed=5,
                chains=2,
                draws=1500,
                cores=1,
                progress=False,
            ).summary()
            for backend in ("jags", "laplace")
        )
    assert (one["rhat"] < 1.03).all(), one
    z = (one["mean"] - two["mean"]) / np.hypot(one["mcse_mean"], two["mcse_mean"])
    assert (z.abs() < 4.5).all(), pd.DataFrame({"jags": one["mean"], "laplace": two["mean"]})
    assert (one["sd"] / two["sd"]).between(1 / 1.2, 1.2).all(), (one["sd"], two["sd"])


def test_cox_has_the_estimates_of_statsmodels() -> None:
    """Posterior means under nearly flat priors, within a fifth of a standard error and 4.5 MCSE."""
    from statsmodels.duration.hazard_regression import PHReg

    table = spell_table(400, 17, "cox").groupby("gid").first().reset_index()
    fit = rmm.fit("Surv(start, stop, event) ~ z + x", table, "cox", backend="laplace",
                  priors="rmm", seed=6, progress=False)  # fmt: skip
    ml = PHReg(
        table["stop"], table[["z", "x"]], status=table["event"], entry=table["start"] + 1e-9,
        ties="breslow",
    ).fit()  # fmt: skip
    found = fit.summary().loc[["b_l2[z]", "b_l2[x]"]]
    limit = 0.2 * ml.bse + 4.5 * found["mcse_mean"].to_numpy()
    assert (np.abs(found["mean"] - ml.params) < limit).all(), (found, ml.summary())
    np.testing.assert_allclose(found["sd"], ml.bse, rtol=0.15)
    # Without the entries the estimates differ by more than their errors: the test can fail.
    naive = PHReg(table["stop"], table[["z", "x"]], status=table["event"], ties="breslow").fit()
    assert (np.abs(naive.params - ml.params) > 0.2 * ml.bse).any()


# ---- predictions -------------------------------------------------------------------------------


def test_weibull_predictions_are_those_beyond_the_entry() -> None:
    rng, n, shape = np.random.default_rng(18), 20_000, 1.7
    start, eta = np.array([0.0, 2.0, 9.0]), np.full((n, 3), 1.2)
    values = {"shape": np.full(n, shape)}
    family, law = of_spells(KINDS["weibull"]), stats.weibull_min(shape, scale=np.exp(1.2))
    outcome = {"entry": start}
    draws = family.draw(eta, values, outcome, rng)
    for j, s in enumerate(start):
        truncated = lambda t, s=s: (law.cdf(t) - law.cdf(s)) / law.sf(s)  # noqa: E731
        assert stats.kstest(draws[:, j], truncated).pvalue > 1e-4
    for more, limit in (({}, np.inf), ({"upper": np.array([4.0, 4.0, 10.0])}, None)):
        found = family.mean(eta[:1], {"shape": np.array([shape])}, {**outcome, **more})[0]
        for j, s in enumerate(start):
            end = limit or more["upper"][j]
            expected = s + integrate.quad(law.sf, s, end)[0] / law.sf(s)
            np.testing.assert_allclose(found[j], expected, rtol=1e-6)
    # So far in the tail that S(entry) is 0 as a number: the rest is 1 / hazard, nearly.
    far = family.mean(np.zeros((1, 1)), {"shape": np.array([2.0])}, {"entry": np.array([60.0])})
    np.testing.assert_allclose(far[0, 0], 60 + 1 / (2 * 60), atol=1e-5)


@pytest.mark.parametrize("name", COXES)
def test_cox_predictions_are_those_beyond_the_entry(name: str) -> None:
    """Draws of each group against exp(-(H(t) - H(entry))), at the steps' ends (4.5 errors)."""
    stop, event, start = made_up(30, seed=19)
    outcome, family, n = read(name, stop, event, start), of_spells(KINDS[name]), 20_000
    ends, hazard = cumulative_hazard(np.zeros((1, 30)), outcome, np.random.default_rng(20))
    known = {**outcome, "baseline": np.repeat(hazard, n, axis=0)}
    draws = family.draw(np.zeros((n, 30)), {}, known, np.random.default_rng(21))
    smooth = name == "cox_intervals"
    for j in np.flatnonzero(start > 0)[:5]:
        assert (draws[:, j] > start[j]).all()
        grid, run = np.r_[0.0, ends], np.r_[0.0, hazard[0]]
        entered = (
            np.interp(start[j], grid, run)
            if smooth
            else run[np.searchsorted(ends, start[j], side="right")]
        )
        for k in np.flatnonzero(ends > start[j]):
            expected = np.exp(-(hazard[0, k] - entered))
            assert abs(np.mean(draws[:, j] > ends[k]) - expected) < 4.5 * np.sqrt(0.25 / n)


def test_new_spells_may_have_entries_or_none() -> None:
    table = spell_table(60, 22).drop(columns="event")
    fit = rmm.fit(
        "Surv(start, stop, event) ~ z", table.assign(event=1).groupby("gid").first(), "weibull",
        backend="laplace", seed=1, draws=200, progress=False,
    )  # fmt: skip
    rows = pd.DataFrame({"z": [0.0, 0.0], "start": [0.0, 50.0]})
    late, early = fit.predict(rows), fit.predict(rows.drop(columns="start"))
    assert late["mean"].iloc[1] > 50 and early["mean"].iloc[1] < 50
    np.testing.assert_allclose(late["mean"].iloc[0], early["mean"], rtol=1e-9)


def test_no_survival_before_anybody_is_at_risk() -> None:
    stop, event, start = made_up(30, seed=23)
    outcome, family = read("cox_steps", stop + 3, event, start + 3), of_spells(KINDS["cox_steps"])
    known = {**outcome, "baseline": np.ones((1, len(outcome["ends"])))}
    assert family.survival is not None
    with pytest.raises(rmm.BackendError, match="all groups enter at 3 or later"):
        family.survival(np.zeros((1, 2)), {}, known, 2.0)
    assert (family.survival(np.zeros((1, 2)), {}, known, 20.0) < 1).all()


def test_kaplan_meier_with_entries_is_statsmodels() -> None:
    from statsmodels.duration.survfunc import SurvfuncRight

    stop, event, start = made_up(200, seed=24)
    theirs = SurvfuncRight(stop, event, entry=start + 1e-9)
    np.testing.assert_allclose(
        kaplan_meier(stop, event, theirs.surv_times, start), theirs.surv_prob, atol=1e-12
    )


def test_replicated_curves_are_those_of_the_law() -> None:
    """Their mean is S(t) where entries count (the sd of a curve is .035, of 400 draws .002)."""
    eta, rng = np.full((400, 200), 1.5), np.random.default_rng(26)
    time, event, start = draw_weibull(eta[0], 1.5, {"rate": 0.1}, rng, {"time": 2.0})
    family, shape = of_spells(KINDS["weibull"]), {"shape": np.full(400, 1.5)}
    draws = family.draw(eta, shape, {"entry": start}, rng)
    found = survival(time, event, draws, entry=start)
    found = found[(found.index > 1) & (found.index < np.quantile(time, 0.9))]
    law = stats.weibull_min(1.5, scale=np.exp(1.5))
    np.testing.assert_allclose(found["mean"], law.sf(found.index), atol=0.01)
    without = survival(time, event, draws)["mean"].loc[found.index]
    assert np.abs(without - law.sf(found.index)).max() > 0.05


# ---- which column is which ---------------------------------------------------------------------


def outcome_as_read(surv: str, **columns: Any) -> tuple[str, list[str]]:
    table = pd.DataFrame({"a": columns["a"], "b": columns["b"], "c": columns["c"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grouped = group_table(parse_formula(f"{surv} ~ 1"), Table(table))
    outcome = with_third_column_read(grouped).formula.outcome
    return outcome.kind, [part.label for part in outcome.parts]


A, B = [0.0, 2.0, 1.5, 3.0], [4.0, 5.0, 2.5, 7.0]
CODES, WORDS = [1, 0, 1, 1], ["yes", "no", "yes", "no"]


@pytest.mark.parametrize(
    ("surv", "columns", "kind", "order"),
    [
        ("Surv(a, b, c)", {"a": A, "b": B, "c": CODES}, "spell", "bca"),
        ("Surv(a, b, c)", {"a": A, "b": B, "c": WORDS}, "spell", "bca"),
        ("Surv(a, b, c)", {"a": A, "b": CODES, "c": B}, "surv", "abc"),
        ("Surv(a, b, c)", {"a": B, "b": WORDS, "c": B}, "surv", "abc"),
        ("Surv(b, c, entry = a)", {"a": A, "b": B, "c": CODES}, "spell", "bca"),
        ("Surv(a, b, upper = c)", {"a": A, "b": CODES, "c": B}, "surv", "abc"),
    ],
)
def test_the_third_column_is_read_by_the_values(
    surv: str, columns: Any, kind: str, order: str
) -> None:
    assert outcome_as_read(surv, **columns) == (kind, list(order))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"a": [0.0, 0.5, 0.2, 0.0], "b": [1] * 4, "c": [1] * 4},
            r"fit two readings.*Surv\(a, b, upper = c\), or Surv\(b, c, entry = a\)",
        ),
        ({"a": B, "b": A, "c": CODES}, r"start `a` is not below the end `b` in 4 groups"),
        ({"a": A, "b": B, "c": [1, 2, 2, 1]}, r"neither.*`b` is not an event.*`c` is not an event"),
        ({"a": B, "b": CODES, "c": A}, r"limit `c` is below.*Surv\(a, b, entry = c\)"),
    ],
)
def test_values_that_fit_both_readings_or_neither(columns: Any, message: str) -> None:
    with pytest.raises(rmm.DataError, match=message):
        outcome_as_read("Surv(a, b, c)", **columns)


def test_without_data_the_third_column_needs_its_name() -> None:
    with pytest.raises(rmm.FormulaError, match=r"Surv\(b, c, entry = a\)"):
        rmm.program("Surv(a, b, c) ~ 1", "weibull", "stan")
    assert "log_entry" in rmm.program("Surv(b, c, entry = a) ~ 1", "weibull", "stan")
    assert "log_entry" not in rmm.program("Surv(a, b, upper = c) ~ 1", "weibull", "stan")


def test_the_reading_is_reported() -> None:
    table = spell_table(40, 27)
    fit = rmm.fit(
        "Surv(start, stop, event) ~ z", table.groupby("gid").first(), "weibull",
        backend="laplace", seed=1, draws=200, progress=False,
    )  # fmt: skip
    late = int((table.groupby("gid")["start"].first() > 0).sum())
    text = str(fit)
    assert f"Surv(stop, event, entry = start): {late} of 40 groups enter after time 0" in text
    assert "by their values its columns are a start, an end and an event" in text


@pytest.mark.parametrize(
    "outcome",
    [
        "Surv(time=a, time2=b, event=c)",
        "Surv(a, b, c, type='counting')",
        "Surv(a, b, c, entry=d)",
        "Surv(a, b, c, d)",
        "Surv(a, b, entry=c, entry=d)",
        "Surv(a, b, type='interval')",
        "Surv(a)",
    ],
)
def test_other_spellings_get_the_right_ones(outcome: str) -> None:
    with pytest.raises(rmm.FormulaError, match=r"Surv\(stop, event, entry = start\)"):
        parse_formula(f"{outcome} ~ z")


# ---- wrong data --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("stop", "event", "start", "message"),
    [
        (
            [4.0, 5, 6, 7],
            CODES,
            [0, 5, 1, 9],
            r"before the end, but 2 groups enter.*entry is 5 and",
        ),
        (B, CODES, [0, -2, 0, 0], "must be 0 or more, but 1 group has another value, such as -2"),
        (B, CODES, [0, np.nan, 0, 0], "must be 0 or more"),
        (
            B,
            [1, 2, 0, 1],
            A,
            r"must be 1 .it happened.*such as 2\. Its codes are 0, 1, 2.*recode it",
        ),
        (B, [0, 0, 0, 0], A, "No group has an event"),
        (B, [4.5, 5, 2, 7], A, r"look like times.*Surv\(start, stop, event\)"),
    ],
)
def test_wrong_spells_get_a_message(
    name: str, stop: Any, event: Any, start: Any, message: str
) -> None:
    with pytest.raises(rmm.DataError, match=message):
        read(name, stop, event, start)


def test_a_missing_start_is_found_by_its_row() -> None:
    table = pd.DataFrame(
        {"s": [0.0, np.nan, 1.0], "t": [2.0, 3, 4], "e": [1, 1, 0], "z": [1, 2, 4]}
    )
    with pytest.raises(rmm.DataError, match=r"`s`.*row 2"):
        prepare("Surv(t, e, entry = s) ~ z", table, "weibull")


def test_spells_that_never_meet_say_nothing_of_the_order() -> None:
    start = np.arange(8.0)
    with pytest.raises(rmm.DataError, match="no other group is at risk"):
        read("cox_steps", start + 1, np.ones(8), start)
    assert read("cox_steps", start + 1.5, np.ones(8), start)["K_time"] == 8


def test_empty_risk_sets_after_some_groups_are_left_out() -> None:
    """Refits without a group: a step without anybody at risk adds a constant."""
    start, stop = np.array([0.0, 0, 5, 6]), np.array([2.0, 3, 7, 8])
    outcome, family = read("cox_steps", stop, np.ones(4), start), of_spells(KINDS["cox_steps"])
    some = family.outcome_of_some(outcome, np.array([2, 3]))
    eta = np.random.default_rng(28).normal(size=(5, 2))
    found = log_marginal(eta, some)
    expected = eta.sum(axis=1) - np.log(np.exp(eta).sum(axis=1)) - eta[:, 1]
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=0.02)


def test_several_spells_of_a_group_need_ids_of_their_own() -> None:
    table = pd.DataFrame(
        {"p": [1, 2, 1, 2, 3], "g": [1, 1, 1, 2, 2], "s": [0.0, 0, 2, 0, 0],
         "t": [2.0, 2, 5, 4, 4], "e": [0, 0, 1, 1, 1]}
    )  # fmt: skip
    formula = "Surv(s, t, e) ~ 1 + mm(id(p, g), RE = TRUE)"
    with pytest.raises(rmm.DataError, match=r"several spells.*data\['spell'\].*id\(p, spell\)"):
        prepare(formula, table, "weibull")
    table["spell"] = table["g"].astype(str) + " from " + table["s"].astype(str)
    assert quiet(formula.replace("g)", "spell)"), table, "weibull").design.J == 3


def test_separation_looks_at_those_who_have_entered() -> None:
    """The larger x always fails first among those at risk, though not among all."""
    stop = np.array([1.0, 2, 3, 11, 12, 13])
    start, x = np.array([0.0, 0, 0, 10, 10, 10]), np.array([3.0, 2, 1, 9, 8, 7])
    table = pd.DataFrame({"s": start, "t": stop, "e": 1, "x": x})
    with pytest.warns(
        rmm.SpecificationWarning, match=r"b_l2\[x\]: the order of all or some events"
    ):
        rmm.fit("Surv(s, t, e) ~ x", table, "cox", backend="laplace", seed=1, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare("Surv(t, e) ~ x", table, "cox")


# ---- simulator ---------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [{"time": 4.0}, {"rate": 0.4}])
def test_simulated_durations_are_those_that_are_seen(law: dict[str, float]) -> None:
    """Against rejection: durations from 0 of which those before the entry are thrown away."""
    rng, n = np.random.default_rng(29), 40_000
    eta = np.full(n, 0.7)
    stop, event, start = draw_weibull(eta, 1.6, None, rng, {"share": 0.6, **law})
    assert event.all() and (start < stop).all()
    assert abs(np.mean(start > 0) - 0.6) < 4.5 * np.sqrt(0.24 / n)
    kinds = stats.uniform(0, 4) if "time" in law else stats.expon(scale=2.5)
    assert stats.kstest(start[start > 0], kinds.cdf).pvalue > 1e-4
    weibull = stats.weibull_min(1.6, scale=np.exp(0.7))
    uniform = weibull.sf(stop) / weibull.sf(start)  # uniform given the entry
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4
    again = np.exp(0.7) * rng.weibull(1.6, (60, n))
    seen = again > start
    first = np.argmax(seen, axis=0)
    ok = seen.any(axis=0)
    assert stats.ks_2samp(again[first, np.arange(n)][ok], stop[ok]).pvalue > 1e-4


def test_simulated_cox_durations_and_censoring_beyond_the_entry() -> None:
    rng, n = np.random.default_rng(30), 40_000
    eta = rng.normal(0, 0.5, n)
    censoring, entry = {"share": 0.3, "time": 6.0}, {"time": 3.0}
    stop, event, start = draw_cox(eta, {"shape": 1.4, "rate": 0.2}, censoring, rng, entry)
    assert (start < stop).all() and stop.max() <= 6
    assert abs(np.mean(event == 0) - 0.3) < 4.5 * np.sqrt(0.21 / n)
    scale = np.exp(-(eta + np.log(0.2)) / 1.4)
    rate = censoring_rate(scale, 1.4, 6.0, 0.3, start)
    times = scale * ((start / scale) ** 1.4 + rng.standard_exponential(n)) ** (1 / 1.4)
    ends = np.minimum(start + rng.exponential(1 / rate, n), 6.0)
    assert abs(np.mean(ends < times) - 0.3) < 4.5 * np.sqrt(0.21 / n)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entry": None}, "truth.entry: .*there is no `entry`"),
        ({"formula": "Surv(t, e) ~ 1"}, "truth.entry: .*`entry` is given"),
        ({"formula": "Surv(s, t, e) ~ 1"}, "Write it with plain names"),
        ({"entry": {"share": 0.5}}, "Neither `time` nor `rate` is given"),
        ({"entry": {"time": 1, "rate": 1}}, "Both `time` and `rate` are given"),
        ({"entry": {"time": 1, "share": 2}}, "truth.entry.share"),
        ({"entry": {"time": -1}}, "truth.entry.time"),
        ({"entry": {"time": 9}, "censoring": {"time": 5}}, "at most `censoring.time`"),
        ({"entry": {"rate": 9}, "censoring": {"time": 5}}, "after the end of observation"),
    ],
)
def test_wrong_recipes_of_entries_are_named(changes: dict[str, Any], message: str) -> None:
    given = {
        "formula": "Surv(t, e, entry = s) ~ 1",
        "parameters": {"b_l2[Intercept]": 0, "shape": 1},
        "family": "weibull",
        "membership": {"kind": "synthetic", "groups": 20, "size": 1, "overlap": 0},
        "entry": {"time": 1.0},
        "seed": 1,
    } | changes
    formula, parameters = given.pop("formula"), given.pop("parameters")
    with pytest.raises(RecipeError, match=message):
        simulate(formula, parameters, **given)
