"""Baselines by stratum, `strata()` with family cox: likelihood, engines, predictions, messages."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.special import gammaln

import rmm
from rmm.backends.stan.run import available
from rmm.families import FAMILIES, Cox, Family
from rmm.families.cox import cumulative_hazard, log_marginal
from rmm.simulation import RecipeError, simulate
from rmm.simulation.outcomes.survival import draw_cox
from tests.coalitions import made_up_coalitions
from tests.family_cases import MIXED, check_golden, check_stan_density, quiet

Array = np.ndarray[Any, Any]
KINDS: dict[str, Family] = {"steps": FAMILIES["cox"], "intervals": Cox(intervals=3)}
EFFECTS = "mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")


def stratified(kind: str, outcome: str = "surv") -> Family:
    family = KINDS[kind]
    assert family.for_outcome is not None
    return family.for_outcome(outcome, True)


def made_up(count: int = 90, seed: int = 1) -> tuple[Array, Array, Array, Array]:
    """Ends (with ties), events, entries and strata of three very different sizes."""
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(count) < 0.5, 0, rng.integers(0, 10, count) / 2)
    stop = start + rng.integers(1, 30, count) / 2
    event = (rng.random(count) < 0.7).astype(float)
    return stop, event, start, rng.choice(["b", "a", "c"], count, p=[0.6, 0.3, 0.1])


def read(kind: str, late: bool = False, seed: int = 1) -> dict[str, Any]:
    stop, event, start, strata = made_up(seed=seed)
    parts = (stop, event, start) if late else (stop, event)
    return stratified(kind, "spell" if late else "surv").read_outcome("Surv()", parts, strata)


def survival_data(seed: int = 3, groups: int = 150) -> pd.DataFrame:
    """Groups of two members; the baselines of four countries differ."""
    return simulate(
        f"Surv(time, event) ~ 0 + z + {EFFECTS} + strata(country)",
        {"b_l2[z]": 0.5, "b_l1[x]": -0.4, "sigma_l1": 0.5},
        family="cox",
        membership={"kind": "synthetic", "groups": groups, "size": 2, "members": 40},
        covariates={
            "x": {"level": "member"},
            "z": {"level": "group"},
            "country": {"level": "group", "distribution": "categories", "count": 4},
        },
        baseline={"shape": 1.3, "rate": 0.01, "spread": 0.7},
        censoring={"share": 0.25},
        seed=seed,
    ).data


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Coalitions with durations, of which three quarters have ended, in five strata."""
    table = made_up_coalitions(groups=120, seed=4)
    number = table.groupby("gid").ngroup()
    return table.assign(
        dur=np.exp(table["y"]).round(2) + 0.1, ended=(number % 4 > 0).astype(int), dec=number % 5
    )


# ---- likelihood ------------------------------------------------------------------------------


def by_loops(kind: str, eta: Array, keep: Array, late: bool) -> float:
    """Log marginal likelihood from its definition: stratum by stratum, step by step.

    The steps and the prior are those of all groups, the events and risk sets those kept.
    """
    stop, event, start, strata = made_up()
    start = start if late else np.zeros_like(start)
    total = 0.0
    for name in np.unique(strata):
        own = strata == name
        seen = stop[own & (event == 1)]
        ends = np.unique(seen)
        if kind == "intervals":
            inner = np.quantile(seen, [1 / 3, 2 / 3], method="inverted_cdf")
            ends = np.r_[inner, stop[own].max()]
        begins = np.r_[0.0, ends[:-1]]
        guess = event[own].sum() / (stop - start)[own].sum()
        for begin, end in zip(begins, ends, strict=True):
            if kind == "intervals":
                inside = np.minimum(stop, end) - np.maximum(start, begin)
                exposure = np.clip(inside, 0, None) / (end - begin)
            else:
                exposure = ((start < end) & (end <= stop)).astype(float)
            here = own & keep
            died = here & (event == 1) & (begin < stop) & (stop <= end)
            prior = 0.001 * guess * (end - begin)
            total += prior * np.log(0.001) - gammaln(prior) + gammaln(prior + died.sum())
            rate = 0.001 + np.sum((exposure * np.exp(eta))[here])
            total += eta[died].sum() - (prior + died.sum()) * np.log(rate)
            total -= died.sum() * np.log(end - begin) * (kind == "intervals")
    return float(total)


@pytest.mark.parametrize("late", [False, True], ids=["from_0", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_density_is_the_product_over_strata(kind: str, late: bool) -> None:
    """And that of each group given all others."""
    outcome, count = read(kind, late), 90
    eta = np.random.default_rng(1).normal(0, 2, (3, count))
    everyone = np.ones(count, dtype=bool)
    whole = np.array([by_loops(kind, row, everyone, late) for row in eta])
    np.testing.assert_allclose(log_marginal(eta, outcome), whole, rtol=1e-9)
    each = stratified(kind).log_likelihood(eta, {}, outcome)
    for j in (0, 7, 31, 88):
        without = [by_loops(kind, row, np.arange(count) != j, late) for row in eta]
        np.testing.assert_allclose(each[:, j], whole - without, atol=1e-9)


@pytest.mark.parametrize("late", [False, True], ids=["from_0", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_some_groups_keep_the_steps_of_their_strata(kind: str, late: bool) -> None:
    """Up to a constant, without a group, and without a whole stratum."""
    outcome, count = read(kind, late), 90
    eta = np.random.default_rng(2).normal(size=(4, count))
    last = outcome["time"] == outcome["time"][outcome["stratum"] == 2].max()
    for keep in (np.arange(count) != 3, ~last, outcome["stratum"] != 2, outcome["stratum"] != 0):
        some = stratified(kind).outcome_of_some(outcome, np.flatnonzero(keep))
        found = log_marginal(eta[:, keep], some)
        expected = np.array([by_loops(kind, row, keep, late) for row in eta])
        np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-9)


@pytest.mark.parametrize("late", [False, True], ids=["from_0", "late"])
def test_partial_likelihood_is_that_of_statsmodels(late: bool) -> None:
    """PHReg with `strata`, Breslow ties: differences without the prior, and the maximum with it.

    The prior has the weight of a thousandth of a group at risk in each step, so that maxima agree
    to a fiftieth of a standard error, .12 here, where the smallest stratum has 9 groups.
    """
    from statsmodels.duration.hazard_regression import PHReg

    stop, event, start, strata = made_up()
    x = np.random.default_rng(5).normal(size=(90, 2))
    outcome = read("steps", late)
    # statsmodels has groups at risk at the time of their entry, R's survival and rmm after it.
    entry = {"entry": np.where(start > 0, start + 1e-9, 0)} if late else {}
    model = PHReg(stop, x, status=event, strata=strata, ties="breslow", **entry)
    without_prior = {**outcome, "rate_dH": 1e-250, "shape_dH": outcome["counts"]}
    points = np.random.default_rng(6).normal(size=(5, 2))
    found = np.array([log_marginal((b @ x.T)[None], without_prior)[0] for b in points])
    expected = np.array([model.loglike(b) for b in points])
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-8)
    best = optimize.minimize(
        lambda b: -log_marginal((x @ b)[None], outcome)[0], np.zeros(2), method="BFGS"
    ).x
    np.testing.assert_allclose(best, model.fit().params, atol=0.0025)


@pytest.mark.parametrize("late", [False, True], ids=["from_0", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_curvature_is_that_of_the_likelihood(kind: str, late: bool) -> None:
    """Gradient by differences, and the diagonal of the Hessian, exact whatever is merged."""
    outcome, family, count = read(kind, late), stratified(kind), 90
    assert family.curvature is not None
    eta, step = np.random.default_rng(8).normal(size=(1, count)), 1e-4
    here, moves = family.curvature(eta, {}, outcome), step * np.eye(count)
    up, down = (log_marginal(eta + s * moves, outcome) for s in (1, -1))
    np.testing.assert_allclose(here.gradient[0], (up - down) / (2 * step), atol=1e-6)
    assert here.shared is not None
    shared = here.shared(0, np.eye(count))
    diagonal = here.weight[0] - np.sum(shared**2, axis=0)
    second = (up - 2 * log_marginal(eta, outcome)[0] + down) / step**2
    np.testing.assert_allclose(diagonal, -second, atol=1e-4)
    # Groups of different strata are never at risk together.
    apart = outcome["stratum"][:, None] != outcome["stratum"]
    np.testing.assert_allclose((shared.T @ shared)[apart], 0, atol=1e-12)


def test_one_stratum_is_no_stratum() -> None:
    stop, event, _, _ = made_up()
    one = stratified("steps").read_outcome("Surv()", (stop, event), np.repeat("a", 90))
    plain = KINDS["steps"].read_outcome("Surv()", (stop, event), None)
    eta = np.random.default_rng(9).normal(size=(2, 90))
    np.testing.assert_allclose(log_marginal(eta, one), log_marginal(eta, plain), rtol=1e-12)


def test_strata_without_events_have_no_part() -> None:
    stop, event, _, strata = made_up()
    event = np.where(strata == "b", 0, event)
    outcome = stratified("steps").read_outcome("Surv()", (stop, event), strata)
    rest = strata != "b"
    others = stratified("steps").read_outcome("Surv()", (stop[rest], event[rest]), strata[rest])
    eta = np.random.default_rng(10).normal(size=(2, 90))
    expected = log_marginal(eta[:, rest], others)
    np.testing.assert_allclose(log_marginal(eta, outcome), expected, rtol=1e-12)
    assert (stratified("steps").log_likelihood(eta, {}, outcome)[:, ~rest] == 0).all()
    draws = stratified("steps").draw(eta, {}, outcome, np.random.default_rng(1))
    assert np.isinf(draws[:, ~rest]).all()
    with pytest.raises(rmm.DataError, match=r"stratum `b` has no event.*every stratum needs"):
        stratified("intervals").read_outcome("Surv()", (stop, event), strata)


def test_what_statistics_cannot_compare() -> None:
    stop, event, _, _ = made_up()
    with pytest.raises(rmm.DataError, match=r"no other group is at risk in the stratum"):
        stratified("steps").read_outcome("Surv()", (stop, event), np.arange(90))


# ---- engines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_programs_are_the_golden_ones(table: pd.DataFrame, kind: str) -> None:
    model = quiet(f"Surv(dur, ended) ~ {MIXED} + strata(dec)", table, KINDS[kind])
    check_golden(f"cox_strata_{kind}", model)


@needs_stan
@pytest.mark.stan
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.thorough
def test_stan_has_the_density_of_the_family(table: pd.DataFrame, kind: str) -> None:
    model = quiet(f"Surv(dur, ended) ~ {MIXED} + strata(dec)", table, KINDS[kind])
    outcome = model.design.outcome
    check_stan_density(model, lambda eta: float(log_marginal(eta[None], outcome)[0]))


@pytest.mark.parity
@needs_stan
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("options", [{}, {"intervals": 3}], ids=["steps", "intervals"])
def test_three_engines_agree(options: dict[str, Any]) -> None:
    """Means within 4.5 combined Monte Carlo errors, 3 parameters x 2 pairs: 1 in 24,000."""
    data, fits = survival_data(groups=80), {}
    for backend, draws, thin in (("laplace", 1000, 1), ("stan", 1000, 1), ("jags", 1000, 5)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits[backend] = rmm.fit(
                f"Surv(time, event) ~ z + {EFFECTS} + strata(country)",
                data,
                "cox",
                backend=backend,
                seed=4,
                chains=2,
                cores=1,
                draws=draws,
                thin=thin,
                progress=False,
                **options,
            ).summary()
    one = fits["laplace"]
    for other in (fits["stan"], fits["jags"]):
        z = (one["mean"] - other["mean"]) / np.hypot(one["mcse_mean"], other["mcse_mean"])
        assert (z.abs() < 4.5).all(), pd.DataFrame({"z": z, "other": other["mean"]})
        assert (one["sd"] / other["sd"]).between(1 / 1.2, 1.2).all()


# ---- fits --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit() -> rmm.Fit:
    return rmm.fit(
        f"Surv(time, event) ~ z + {EFFECTS} + strata(country)",
        survival_data(),
        "cox",
        backend="laplace",
        seed=1,
        draws=500,
    )


def test_splitting_the_fit_by_stratum_gives_the_same_posterior() -> None:
    """Without shared effects a stratified fit is PHReg's: means within .2 sd and 4.5 MCSE."""
    from statsmodels.duration.hazard_regression import PHReg

    data = survival_data(groups=400).drop_duplicates("group")
    fit = rmm.fit(
        "Surv(time, event) ~ z + x + strata(country)",
        data,
        "cox",
        backend="laplace",
        priors="rmm",
        seed=2,
    )
    found = fit.summary().loc[["b_l2[z]", "b_l2[x]"]]
    model = PHReg(data["time"], data[["z", "x"]], status=data["event"], strata=data["country"])
    result = model.fit()
    limit = 0.2 * found["sd"] + 4.5 * found["mcse_mean"]
    assert (np.abs(found["mean"].to_numpy() - result.params) < limit).all()
    np.testing.assert_allclose(found["sd"], result.bse, rtol=0.15)
    # And the strata matter here: without them the estimates are elsewhere.
    plain = PHReg(data["time"], data[["z", "x"]], status=data["event"]).fit()
    assert (np.abs(plain.params - result.params) > 0.5 * result.bse).any()


def test_new_groups_have_the_baseline_of_their_stratum(fit: rmm.Fit) -> None:
    """Shares of 500 x 150 durations beyond a time, the same groups as new ones, by stratum."""
    data = survival_data()
    groups = data.drop_duplicates("group")
    one, two = (fit.predict(new, "outcome", draws=True, seed=4).to_numpy() for new in (None, data))
    shares = []
    for country in range(4):
        own = (groups["country"] == country).to_numpy()
        time = groups["time"][own].median()
        shares.append((np.mean(one[..., own] > time), np.mean(two[..., own] > time)))
        # Medians of baselines differ: the stratum's data are predicted, not all strata's.
        events = groups["event"][own].to_numpy()
        assert events.sum() > 10
    for a, b in shares:
        assert a == pytest.approx(b, abs=0.02)
        assert 0.3 < a < 0.8
    only = fit.predict(data[data["country"] == 2], "outcome", draws=True, seed=4)
    assert only.sizes["group"] == (groups["country"] == 2).sum()


def test_draws_have_the_survival_curve_of_their_stratum() -> None:
    rng, n = np.random.default_rng(4), 4_000
    for kind in KINDS:
        outcome = read(kind)
        eta = np.zeros((n, 90))
        family = stratified(kind)
        draws = family.draw(eta, {}, outcome, rng)
        ends, H = cumulative_hazard(eta, outcome, rng)
        assert family.survival is not None
        for code, (a, b) in enumerate(
            zip(outcome["first_step"], outcome["first_step"][1:], strict=False)
        ):
            group = int(np.flatnonzero(outcome["stratum"] == code)[0])
            assert outcome["strata"][code] == made_up()[3][group]
            middle = (a + b) // 2
            expected = np.exp(-H[:, middle]).mean()
            assert abs(np.mean(draws[:, group] > ends[middle]) - expected) < 4.5 * np.sqrt(0.5 / n)
            curve = family.survival(eta, {}, {**outcome, "baseline": H}, float(ends[middle]))
            np.testing.assert_allclose(curve[:, group], np.exp(-H[:, middle]), rtol=1e-9)


def test_steps_of_a_baseline_have_their_gamma_law() -> None:
    """Risk sets are those of the stratum: counted here by hand."""
    stop, event, _, strata = made_up()
    outcome = read("steps")
    _, H = cumulative_hazard(np.zeros((4_000, 90)), outcome, np.random.default_rng(3))
    first = outcome["first_step"]
    for code, name in enumerate("abc"):
        own = strata == name
        ends = np.unique(stop[own & (event == 1)])
        np.testing.assert_array_equal(outcome["ends"][first[code] : first[code + 1]], ends)
        died = np.sum(own & (event == 1) & (stop == ends[0]))
        law = stats.gamma(
            outcome["prior_dH"][first[code]] + died,
            scale=1 / (0.001 + np.sum(own & (stop >= ends[0]))),
        )
        assert stats.kstest(H[:, first[code]], law.cdf).pvalue > 1e-4


def test_unknown_strata_are_named(fit: rmm.Fit) -> None:
    data = survival_data()
    with pytest.raises(rmm.DataError, match=r"stratum 7.*strata of the fit are: 0.*3"):
        fit.predict(data.assign(country=np.where(data["group"] == 3, 7, data["country"])))
    with pytest.raises(rmm.DataError, match="no column `country`"):
        fit.predict(data.drop(columns="country"))


def test_loo_conditional_effects_and_saved_fits(fit: rmm.Fit, tmp_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(fit.loo().elpd)
    curve = fit.conditional_effects("z")
    assert (np.diff(curve["median"]) > 0).all()
    fit.save(tmp_path / "fit.rmm")
    again = rmm.load(tmp_path / "fit.rmm")
    data = survival_data().query("group < 20")
    pd.testing.assert_frame_equal(
        fit.predict(data, "outcome", seed=3), again.predict(data, "outcome", seed=3)
    )
    late = survival_data()["time"].max() * 2
    with pytest.raises(rmm.BackendError, match=r"baseline hazard of stratum .* ends at"):
        fit.estimand("marginal_effect", variable="z", scale="survival", time=late)


# ---- formula and messages ----------------------------------------------------------------------


def test_combinations_of_columns_are_strata() -> None:
    data = survival_data().assign(half=lambda d: np.where(d["group"] % 2, "odd", "even"))
    model = quiet("Surv(time, event) ~ z + x + strata(country, half)", data, "cox")
    assert model.grouped.strata is not None
    assert list(model.grouped.strata.labels[:2]) == ["country=0, half=even", "country=0, half=odd"]
    one = quiet(
        "Surv(time, event) ~ z + x + strata(both)",
        data.assign(both=data["country"].astype(str) + data["half"]),
        "cox",
    )
    np.testing.assert_array_equal(one.design.outcome["at"], model.design.outcome["at"])


def test_other_families_and_expressions_get_a_caret(table: pd.DataFrame) -> None:
    text = "Surv(dur, ended) ~ z + strata(dec)"
    with pytest.raises(rmm.FormulaError, match=r"cannot be used with family 'weibull'") as found:
        quiet(text, table, "weibull")
    lines = str(found.value).splitlines()
    assert lines[2].index("^") - lines[1].index("Surv") == text.index("strata")
    assert "'cox'" in str(found.value)
    with pytest.raises(rmm.FormulaError, match="must contain columns, not expressions"):
        quiet("Surv(dur, ended) ~ z + strata(dec + 1)", table, "cox")


def test_constants_within_strata_are_left_out() -> None:
    data = survival_data().assign(rich=lambda d: (d["country"] > 1).astype(int))
    with pytest.warns(rmm.SpecificationWarning, match=r"`rich` is constant.*own baseline hazards"):
        fit = rmm.fit(
            "Surv(time, event) ~ z + rich + strata(country)",
            data,
            "cox",
            backend="laplace",
            draws=200,
        )
    assert list(fit.summary().index) == ["b_l2[z]"]


def test_missing_strata_drop_their_groups_alone() -> None:
    data = survival_data()
    data.loc[data["group"] == 5, "country"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit(
            f"Surv(time, event) ~ z + {EFFECTS} + strata(country)",
            data,
            "cox",
            backend="laplace",
            draws=200,
            missing="drop",
        )
    assert fit.model.design.J == 149


# ---- simulation --------------------------------------------------------------------------------


def test_simulated_baselines_differ_by_stratum() -> None:
    """Maximum likelihood of each of 60 strata of 2,000: logs of shapes and rates have sd `spread`.

    The sd of 60 draws is within 35% (3.8 standard errors), and that of shapes does not depend on
    that of rates: their correlation is below .5 (1 in 20,000).
    """
    strata, rng = np.repeat(np.arange(60), 2_000), np.random.default_rng(11)
    baseline = {"shape": 1.5, "rate": 2.0, "spread": 0.4}
    time, event = draw_cox(np.zeros(120_000), baseline, {"rate": 0.2}, rng, None, strata)

    def estimate(t: Any, e: Any) -> Array:
        """Log shape and log rate of S(t) = exp(-rate t^shape) of censored times."""

        def minus(at: Any) -> float:
            shape = np.exp(at[0])
            log_hazard = at[1] + at[0] + (shape - 1) * np.log(t)
            return float(np.sum(np.exp(at[1]) * t**shape) - e @ log_hazard)

        return np.asarray(optimize.minimize(minus, [0.0, 0.0]).x)

    found = np.array([estimate(time[strata == s], event[strata == s]) for s in range(60)])
    np.testing.assert_allclose(found.std(axis=0), 0.4, rtol=0.35)
    np.testing.assert_allclose(found.mean(axis=0), np.log([1.5, 2.0]), atol=4 * 0.4 / np.sqrt(60))
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.5


def test_censoring_share_holds_over_strata() -> None:
    strata, rng = np.repeat(np.arange(20), 500), np.random.default_rng(12)
    baseline = {"shape": 1.5, "rate": 2.0, "spread": 0.6}
    _, event = draw_cox(np.zeros(10_000), baseline, {"share": 0.3}, rng, None, strata)
    assert 1 - event.mean() == pytest.approx(0.3, abs=4.5 * np.sqrt(0.21 / 10_000))


@pytest.mark.parametrize(
    ("strata", "baseline", "message"),
    [
        (" + strata(country)", {"shape": 1}, "`spread` is missing"),
        ("", {"spread": 0.4}, "has no strata"),
    ],
)
def test_spread_and_strata_go_together(strata: str, baseline: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        simulate(
            f"Surv(time, event) ~ 0 + z + {EFFECTS}{strata}",
            {"b_l2[z]": 0.5, "b_l1[x]": 0.1, "sigma_l1": 0.5},
            family="cox",
            membership={"kind": "synthetic", "groups": 20, "size": 2, "members": 10},
            covariates={
                "x": {"level": "member"},
                "z": {"level": "group"},
                "country": {"level": "group", "distribution": "binary"},
            },
            baseline=baseline,
        )
