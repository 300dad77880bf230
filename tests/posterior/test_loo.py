"""Log likelihood, cross-validation, variance components, conditional effects, checks."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray
from scipy import stats
from scipy.special import logsumexp

import rmm
from rmm.backends.base import Run, Settings
from rmm.design.prepare import prepare
from rmm.design.subset_groups import some_rows
from rmm.posterior.fit import Fit
from rmm.posterior.prediction.cross_validation import Refits, without_unit
from rmm.posterior.prediction.predict import log_likelihood
from rmm.posterior.prediction.predictive_checks import kaplan_meier, survival
from rmm.posterior.prediction.psis import left_out
from rmm.tables.read import Array
from tests.coalitions import made_up_coalitions

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s))), RE=TRUE) + hm(id=cid)"


def faked(formula: str, table: pd.DataFrame, **options: Any) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            formula, table, backend="fake", chains=2, draws=40, seed=1, progress=False, **options
        )


@pytest.fixture(scope="module")
def governments() -> pd.DataFrame:
    return made_up_coalitions(groups=50, members=15).drop(columns="n")


@pytest.fixture(scope="module")
def fit(governments: pd.DataFrame) -> rmm.Fit:
    return faked(FORMULA, governments)


SIGMA, PRIOR_SD = 0.8, 2.0


@pytest.fixture(scope="module")
def conjugate() -> tuple[Fit, np.ndarray[Any, Any]]:
    """y ~ N(mu, 0.8^2), mu ~ N(0, 2^2), with exact draws of the posterior of mu."""
    rng = np.random.default_rng(5)
    y = 1.0 + SIGMA * rng.normal(size=25)
    table = pd.DataFrame({"y": y})
    priors = ["rmm", "b_l2[Intercept] ~ normal(0, 2)", f"sigma_l2 <- {SIGMA}"]
    model = prepare("y ~ 1", table, priors=priors)
    variance = 1 / (1 / PRIOR_SD**2 + len(y) / SIGMA**2)
    mean = variance * y.sum() / SIGMA**2
    draws = rng.normal(mean, np.sqrt(variance), (4, 5000, 1))
    run = Run({"b_l2": draws}, {}, 0.0, {})
    return Fit(model, run, "", {}, "jags", Settings(4, 0, 5000)), y


def exact_loo(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.empty(len(y))
    for i in range(len(y)):
        rest = np.delete(y, i)
        variance = 1 / (1 / PRIOR_SD**2 + len(rest) / SIGMA**2)
        out[i] = stats.norm.logpdf(
            y[i], variance * rest.sum() / SIGMA**2, np.sqrt(variance + SIGMA**2)
        )
    return out


def test_posterior_predictive_of_a_conjugate_model(
    conjugate: tuple[Fit, np.ndarray[Any, Any]],
) -> None:
    """Mean and variance of 500,000 dependent draws (20,000 of mu), within 5 standard errors."""
    fit, y = conjugate
    variance = 1 / (1 / PRIOR_SD**2 + len(y) / SIGMA**2)
    mean = variance * y.sum() / SIGMA**2
    new = fit.posterior_predictive().to_numpy()
    assert abs(new.mean() - mean) < 5 * np.sqrt(variance / 20_000 + SIGMA**2 / new.size)
    assert new.var() == pytest.approx(variance + SIGMA**2, rel=5 * np.sqrt(2 / 20_000))
    assert "posterior_predictive" in fit.draws.children


def test_loo_is_exact_where_it_can_be_computed(
    conjugate: tuple[Fit, np.ndarray[Any, Any]],
) -> None:
    """PSIS on 20,000 exact draws: errors of elpd_i are below 0.01."""
    fit, y = conjugate
    result = fit.loo()
    assert list(result.elpd_i.dims) == ["group"]
    rows = result.elpd_i["group"].to_numpy()
    np.testing.assert_allclose(result.elpd_i, exact_loo(y)[rows], atol=0.02)
    # WAIC is the same up to terms of the order 1/J.
    assert fit.waic().elpd == pytest.approx(exact_loo(y).sum(), abs=0.3)


def test_log_likelihood_is_scipys(fit: rmm.Fit) -> None:
    eta = fit.predict(kind="linear", draws=True)
    sd = fit.draws["posterior"]["sigma_l2"]
    expected = stats.norm.logpdf(
        fit.draws["observed_data"]["y"].to_numpy(), eta, sd.to_numpy()[..., None]
    )
    np.testing.assert_allclose(fit.log_likelihood(), expected, rtol=1e-10)
    assert "log_likelihood" in fit.draws.children


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_refits_are_exact() -> None:
    """Exact leave-one-out of an ordinary unit by JAGS; an outlier that PSIS cannot leave out.

    A unit within 2 sds of the mean has an error of log mean p of less than
    sqrt(exp(0.9^2) - 1) / sqrt(4000) = 0.02; 0.1 is 5 times that, for 3 units.
    """
    rng = np.random.default_rng(5)
    y = 1.0 + SIGMA * rng.normal(size=12)
    y[7] = 9.0
    priors = ["rmm", "b_l2[Intercept] ~ normal(0, 2)", f"sigma_l2 <- {SIGMA}"]
    fit = rmm.fit(
        "y ~ 1",
        pd.DataFrame({"y": y}),
        priors=priors,
        seed=1,
        chains=4,
        warmup=200,
        draws=1000,
        progress=False,
        backend="jags",
    )
    with pytest.warns(rmm.SpecificationWarning, match=r"k is above 0.70 for 1 of 12 units \(7\)"):
        rough = fit.loo()
    exact = fit.loo(refit=True)
    assert float(exact.pareto_k.sel(group=7)) == 0 and not exact.warning
    assert exact.elpd == pytest.approx(float(exact.elpd_i.sum()))
    assert abs(exact.elpd_i.sel(group=7) + 46.66) < abs(rough.elpd_i.sel(group=7) + 46.66)
    assert exact_loo(y)[7] == pytest.approx(-46.66, abs=0.01)
    labels = fit.log_likelihood()["group"].to_numpy()
    refits = Refits(fit.model, fit.program, fit.settings, fit.backend)
    for unit in (0, 4, 8):
        each = log_likelihood(fit.model, refits.without(unit))[:, unit]
        expected = exact_loo(y)[labels[unit]]
        assert logsumexp(each) - np.log(len(each)) == pytest.approx(expected, abs=0.1)


def test_refits_that_do_not_mix_are_named(
    conjugate: tuple[Fit, np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains that stay apart in the refit without one unit; the others' chains agree."""
    fit, _ = conjugate
    apart = fit.run.draws["b_l2"] + 0.3 * np.arange(4)[:, None, None]
    stuck = replace(fit.run, draws={"b_l2": apart})
    monkeypatch.setattr(Refits, "without", lambda self, unit: stuck if unit == 3 else fit.run)
    rough = fit.loo()
    monkeypatch.setattr(
        "rmm.posterior.prediction.cross_validation._too_large", lambda result: np.array([1, 3])
    )
    third = rough.elpd_i["group"].to_numpy()[3]
    said = rf"1 of 2 refits .*without {third}\).*up to \d"
    with pytest.warns(rmm.ConvergenceWarning, match=said):
        found = fit.loo(refit=True)
    assert list(np.flatnonzero(found.elpd_i != rough.elpd_i)) == [1, 3]


def test_refits_by_weighted_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact values within 0.1 (5 errors of log mean p at 4,000 draws); no chain is judged.

    R-hat of resampled draws says nothing; weights that are not to be trusted are named.
    """
    y = 1.0 + SIGMA * np.random.default_rng(11).normal(size=12)
    priors = ["rmm", "b_l2[Intercept] ~ normal(0, 2)", f"sigma_l2 <- {SIGMA}"]
    fit = rmm.fit(
        "y ~ 1", pd.DataFrame({"y": y}), priors=priors, seed=1, ess=4000, backend="laplace"
    )
    monkeypatch.setattr(
        "rmm.posterior.prediction.cross_validation._too_large", lambda result: np.array([1, 3])
    )
    monkeypatch.setattr(
        "rmm.posterior.prediction.cross_validation._rhat",
        lambda *given: pytest.fail("no chains here"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", rmm.ConvergenceWarning)
        found = fit.loo(refit=True)
    labels = found.elpd_i["group"].to_numpy()
    expected = exact_loo(y)[labels[[1, 3]]]
    np.testing.assert_allclose(found.elpd_i.to_numpy()[[1, 3]], expected, atol=0.1)
    bad = replace(fit.run, engine={**fit.run.engine, "pareto_k": 0.93})
    monkeypatch.setattr(Refits, "without", lambda self, unit: bad if unit == 3 else fit.run)
    named = (
        rf"1 of 2 refits with weighted draws .*without {labels[3]}\) is not reliable: "
        r"Pareto k .* 0.93.*ess="
    )
    with pytest.warns(rmm.ConvergenceWarning, match=named):
        fit.loo(refit=True)


def test_without_a_unit_everything_else_stays(governments: pd.DataFrame) -> None:
    """The cut design is that of the table without the group's rows; units and priors stay."""
    model = prepare(FORMULA, governments)
    cut = without_unit(model, 3)
    rest = prepare(FORMULA, governments[governments["gid"] != "g003"], priors="rmm")
    np.testing.assert_allclose(cut.design.outcome["y"], rest.design.outcome["y"])
    ours, theirs = cut.design.members[0], rest.design.members[0]
    np.testing.assert_allclose(ours.X + ours.center, theirs.X + theirs.center)
    np.testing.assert_array_equal(ours.start, theirs.start)
    assert ours.n_members == model.design.members[0].n_members
    assert cut.priors is model.priors
    pd.testing.assert_frame_equal(
        cut.grouped.frame, some_rows(model.grouped, np.delete(np.arange(50), 3)).frame
    )


def test_compare_ranks_and_refuses(governments: pd.DataFrame, fit: rmm.Fit) -> None:
    other = faked("y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE=TRUE)", governments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = rmm.compare({"weights": fit, "mean": other})
        best = max(("weights", fit), ("mean", other), key=lambda pair: pair[1].loo().elpd)[0]
    assert table.index[0] == best and set(table.index) == {"weights", "mean"}
    fewer = faked(FORMULA, governments[governments["gid"] != "g003"])
    with pytest.raises(rmm.DataError, match=r"'a' has 50 units, and 'b' has 49; .* g003"):
        rmm.compare({"a": fit, "b": fewer})
    moved = faked(FORMULA, governments.assign(y=governments["y"] * 2))
    with pytest.raises(rmm.DataError, match="different outcomes"):
        rmm.compare({"a": fit, "b": moved})
    with pytest.raises(rmm.DataError, match="needs two fits or more"):
        rmm.compare({"a": fit})


def test_variance_components_by_hand(governments: pd.DataFrame, fit: rmm.Fit) -> None:
    posterior = fit.draws["posterior"].to_dataset().stack(s=("chain", "draw"))
    rows = governments.sort_values(["gid", "pid"])
    n = rows.groupby("gid")["x"].transform("size").to_numpy()[:, None]
    raw = pd.DataFrame(n ** -np.exp(-rows["s"].to_numpy()[:, None] * posterior["b_w"].to_numpy()))
    group = rows["gid"].to_numpy()
    w = raw / raw.groupby(group).transform("sum")
    squares = (w**2).groupby(group).sum().mean().to_numpy()
    member = posterior["sigma_l1"].to_numpy() ** 2 * squares
    nesting, residual = (posterior[s].to_numpy() ** 2 for s in ("sigma_l3", "sigma_l2"))
    table = fit.variance_components()
    assert list(table.index) == ["members", "nesting units", "residual"]
    assert table["variance", "mean"].to_numpy() == pytest.approx(
        [member.mean(), nesting.mean(), residual.mean()]
    )
    share = member / (member + nesting + residual)
    assert table.loc["members", ("share", "q97.5")] == pytest.approx(np.quantile(share, 0.975))
    assert table["share", "mean"].sum() == pytest.approx(1)


def test_conditional_effects(governments: pd.DataFrame, fit: rmm.Fit) -> None:
    posterior = fit.draws["posterior"].to_dataset()
    first = governments.groupby("gid").first()
    b = posterior["b_l2"].to_numpy()
    x_mean, slope = governments["x"].mean(), posterior["b_l1"].to_numpy()[..., 0]
    table = fit.conditional_effects("z", values=[-1.0, 2.0])
    expected = b[..., 0] + 2.0 * b[..., 1] + x_mean * slope
    assert table.loc[2.0, "mean"] == pytest.approx(expected.mean())
    assert table.loc[2.0, "q2.5"] == pytest.approx(np.quantile(expected, 0.025))
    table = fit.conditional_effects("x", at={"z": 1.0}, points=12)
    assert len(table) == 12 and table.index.name == "x"
    expected = b[..., 0] + b[..., 1] + table.index[3] * slope
    assert table["mean"].iloc[3] == pytest.approx(expected.mean())
    assert fit.conditional_effects("z").index[0] == first["z"].min()
    with pytest.raises(rmm.DataError, match=r"'s2' is not a predictor of .* Allowed: z, x, s\."):
        fit.conditional_effects("s2")


def test_check_of_statistics(fit: rmm.Fit) -> None:
    table = fit.check()
    new = fit.predict(kind="outcome", draws=True).to_numpy().reshape(80, -1)
    y = fit.draws["observed_data"]["y"].to_numpy()
    assert table.loc["max", "observed"] == y.max()
    assert table.loc["sd", "mean"] == pytest.approx(new.std(axis=1, ddof=1).mean())
    assert table.loc["min", "p"] == pytest.approx((new.min(axis=1) > y.min()).mean())
    with pytest.raises(rmm.DataError, match="'mode' is not a kind of check"):
        fit.check("mode")
    with pytest.raises(rmm.DataError, match="'survival' cannot be used with this outcome"):
        fit.check("survival")


def test_kaplan_meier_is_that_of_statsmodels() -> None:
    from statsmodels.duration.survfunc import SurvfuncRight

    rng = np.random.default_rng(3)
    time, event = rng.integers(1, 30, 200).astype(float), rng.integers(0, 2, 200)
    theirs = SurvfuncRight(time, event)
    ours = kaplan_meier(time, event, theirs.surv_times)
    np.testing.assert_allclose(ours, theirs.surv_prob, rtol=1e-12)
    band = survival(time, event, rng.exponential(10.0, (300, 200)))
    assert band["observed"].iloc[0] == 1 and (band["q2.5"] <= band["q97.5"]).all()
    np.testing.assert_allclose(band["mean"], np.exp(-band.index / 10), atol=0.02)


def test_a_family_must_say_what_is_left_without_a_unit(governments: pd.DataFrame) -> None:
    model = prepare(FORMULA, governments)
    outcome = {**model.design.outcome, "events": 50}
    model = replace(model, design=replace(model.design, outcome=outcome))
    with pytest.raises(rmm.BackendError, match="its `events` depends on all units"):
        without_unit(model, 3)


def test_all_units_at_once_are_those_of_arviz(fit: rmm.Fit) -> None:
    """The numbers of ArviZ, which takes units one by one."""
    import arviz_stats

    posterior = fit.draws["posterior"].to_dataset()
    names = [p.name for p in fit.model.spec.parameters if p.structural]
    tree = xarray.DataTree.from_dict(
        {
            "posterior": posterior[[name for name in names if name in posterior]],
            "log_likelihood": xarray.Dataset({"y": fit.log_likelihood()}),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = fit.loo(), arviz_stats.loo(tree, pointwise=True)
    np.testing.assert_allclose(ours.elpd_i, theirs.elpd_i, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k, rtol=0, atol=1e-10)
    for name in ("elpd", "se", "p", "good_k", "n_samples", "n_data_points", "warning"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name)), name


@pytest.mark.parametrize("size", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("count", [200, 4000])
def test_tails_are_smoothed_as_by_arviz(count: int, size: float) -> None:
    from arviz_stats.base import array_stats

    rng = np.random.default_rng(int(10 * size) + count)
    values = size * rng.standard_t(5, (count, 7))
    elpd, lpd, k = left_out(values, 0.8)
    np.testing.assert_allclose(lpd, logsumexp(values, axis=0) - np.log(count), rtol=1e-12)
    for unit in range(7):
        logs, expected = array_stats.psislw(values[:, unit], r_eff=0.8, axis=-1)
        assert k[unit] == pytest.approx(float(expected), abs=1e-10)
        assert elpd[unit] == pytest.approx(logsumexp(logs + values[:, unit]), abs=1e-10)


@pytest.mark.parametrize("far", [800.0, 3000.0])
def test_densities_beyond_all_numbers_are_as_by_logarithms(far: float) -> None:
    """Log likelihoods that differ by more than the exponents of doubles have room for."""
    values = np.random.default_rng(2).normal(size=(400, 3))
    values[:5, 0] -= far
    values[5:, 1] -= far
    elpd, lpd, k = left_out(values, 1.0)
    for unit in range(3):
        logs, expected = psislw_of(values[:, unit])
        assert k[unit] == pytest.approx(expected, abs=1e-10, nan_ok=True)
        assert elpd[unit] == pytest.approx(logsumexp(logs + values[:, unit]), rel=1e-10, abs=1e-10)
    np.testing.assert_allclose(lpd, logsumexp(values, axis=0) - np.log(400), rtol=1e-12)


def psislw_of(values: Array) -> tuple[Array, float]:
    """ArviZ's log weights and k."""
    from arviz_stats.base import array_stats

    logs, k = array_stats.psislw(values, r_eff=1.0, axis=-1)
    return np.asarray(logs), float(k)


def test_a_unit_without_information_has_equal_weights() -> None:
    values = np.random.default_rng(1).normal(size=(400, 2))
    values[:, 1] = -3.0
    elpd, lpd, k = left_out(values, 1.0)
    assert elpd[1] == pytest.approx(-3)
    assert lpd[1] == pytest.approx(-3)
    assert k[1] == 0
