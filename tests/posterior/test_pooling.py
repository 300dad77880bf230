"""Fits of multiply imputed tables, pooled: against Rubin's rules, mixtures by hand, refusals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import rmm
from rmm.posterior.comparison.pooling import PooledFit
from rmm.posterior.prediction.linear_predictor import flat_draws

OPTIONS: dict[str, Any] = {"backend": "laplace", "progress": False, "chains": 2, "draws": 300}
FORMULA = (
    "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*s)))), RE = TRUE)"
    " + hm(id = unit)"
)


def coalitions(number: int = 0) -> pd.DataFrame:
    """A table whose z and s are imputed: each `number` has its own values of some of them."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"group": np.repeat(np.arange(60), rng.integers(2, 5, 60))})
    rows["member"] = np.arange(len(rows)) * 7 % 23
    rows["unit"] = np.array(["a", "b", "c", "d", "e"])[rows["group"] % 5]
    rows["x"], rows["s"] = rng.normal(size=len(rows)), rng.normal(size=len(rows))
    z = rng.normal(size=60)
    rows["y"] = (0.7 * z + rng.normal(size=60))[rows["group"]]
    new = np.random.default_rng(100 + number)
    z[:20] = new.normal(size=20)
    rows.loc[:30, "s"] = new.normal(size=31)
    return rows.assign(z=z[rows["group"]])


def fitted(tables: Any, formula: str = FORMULA, **options: Any) -> list[rmm.Fit]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            rmm.fit(formula, table, seed=k, **{**OPTIONS, **options})
            for k, table in enumerate(tables)
        ]


def pooled(fits: list[rmm.Fit]) -> PooledFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.pool(fits)


@pytest.fixture(scope="module")
def fits() -> list[rmm.Fit]:
    return fitted([coalitions(k) for k in range(3)])


@pytest.fixture(scope="module")
def mixed(fits: list[rmm.Fit]) -> PooledFit:
    return pooled(fits)


def imputed(count: int, rows: int, rng: np.random.Generator) -> tuple[list[pd.DataFrame], float]:
    """Tables with x imputed given y, by draws from the posterior of the regression of x on y.

    x is missing in 80% of the rows with y > 0 (at random given y). Returns the share of them too.
    """
    x = rng.normal(size=rows)
    y = 0.5 + x + rng.normal(size=rows)
    gone = (y > 0) & (rng.random(rows) < 0.8)
    design = np.column_stack([np.ones(rows), y])
    seen = ~gone
    b, rss = np.linalg.lstsq(design[seen], x[seen], rcond=None)[:2]
    inverse = np.linalg.inv(design[seen].T @ design[seen])
    tables = []
    for _ in range(count):
        sigma = np.sqrt(rss[0] / rng.chisquare(seen.sum() - 2))
        draw = rng.multivariate_normal(b, sigma**2 * inverse)
        values = np.where(gone, design @ draw + sigma * rng.normal(size=rows), x)
        tables.append(pd.DataFrame({"y": y, "x": values}))
    return tables, float(gone.mean())


def test_pooled_fits_agree_with_rubins_rules() -> None:
    """A gaussian regression with 600 rows and 40 tables.

    Least squares give W and B; the sd of mixed draws is sqrt(W + (1 - 1/m) B). Flat priors and 598
    degrees of freedom leave 0.2%. Of 40 x 600 draws, means have an error of .0065 sd, sds of .5%:
    limits are 4 of these. T is larger by 2 B/m.
    """
    count, rows = 40, 600
    tables, share = imputed(count, rows, np.random.default_rng(11))
    assert 0.4 < share < 0.6
    fits = fitted(tables, "y ~ 1 + x", priors={"b_l2": "normal(0, 1000)"})
    with warnings.catch_warnings():  # enough tables
        warnings.simplefilter("error")
        found = rmm.pool(fits).summary()
    estimates, variances = [], []
    for table in tables:
        design = np.column_stack([np.ones(rows), table["x"]])
        b, rss = np.linalg.lstsq(design, table["y"], rcond=None)[:2]
        estimates.append(b)
        variances.append(rss[0] / (rows - 2) * np.diag(np.linalg.inv(design.T @ design)))
    within, between = np.mean(variances, axis=0), np.var(estimates, axis=0, ddof=1)
    total = within + (1 + 1 / count) * between
    rows_of = ["b_l2[Intercept]", "b_l2[x]"]
    sd = np.sqrt(within + (1 - 1 / count) * between)
    assert (np.abs(found["mean"][rows_of] - np.mean(estimates, axis=0)) < 0.027 * sd).all()
    np.testing.assert_allclose(found["sd"][rows_of], sd, rtol=0.022)
    np.testing.assert_allclose(found["sd"][rows_of], np.sqrt(total), rtol=0.022 + 1 / count)
    missing = (1 + 1 / count) * between / total
    assert missing[1] > 0.2
    np.testing.assert_allclose(found["missing"][rows_of], missing, atol=0.02)
    np.testing.assert_allclose(found["mcse_tables"][rows_of], np.sqrt(between / count), rtol=0.05)
    # Quantiles of a mixture of normal distributions; 4 errors of quantiles are .08 sd.
    spread = np.sqrt(variances)
    for k, name in enumerate(rows_of):
        parts = stats.norm(np.array(estimates)[:, k], spread[:, k])
        for column, p in (("q2.5", 0.025), ("q97.5", 0.975)):
            exact = optimize.brentq(lambda q, d=parts, p=p: np.mean(d.cdf(q)) - p, -9, 9)
            assert abs(found.loc[name, column] - exact) < 0.08 * sd[k]


def test_few_tables_are_too_few() -> None:
    """The advice: sd of mixed draws over sqrt(T), and the number of tables for which it is .98."""
    tables, _ = imputed(4, 300, np.random.default_rng(2))
    fits = fitted(tables, "y ~ 1 + x")
    with pytest.warns(rmm.SpecificationWarning, match=r"^4 tables are few: of .* at least") as said:
        found = rmm.pool(fits).summary()
    share = found["missing"].max()
    worst = str(found["missing"].idxmax())
    text = str(said[0].message)
    needed = int(text.split("at least ")[1].split()[0])
    assert worst in text
    assert f"{share:.0%} of the variance" in text
    # sqrt(1 - 2 share/(m + 1)) >= .98, by trying
    assert np.sqrt(1 - 2 * share / (needed + 1)) >= 0.98
    assert np.sqrt(1 - 2 * share / needed) < 0.98


def test_fits_that_have_not_converged_are_named() -> None:
    fits = fitted([coalitions(0), coalitions(0)], "y ~ 1 + z", draws=40)
    with pytest.warns(rmm.ConvergenceWarning, match=r"2 fits of 2 have not converged: number 1, 2"):
        assert not rmm.pool(fits).converged


def test_summaries_are_of_all_draws(mixed: PooledFit, fits: list[rmm.Fit]) -> None:
    table = mixed.summary(0.9, ["mean", "q5", "q95", "mcse_mean"])
    draws = np.concatenate([flat_draws(f.run, f.model)["b_l1"][:, 0] for f in fits])
    row = table.loc["b_l1[x]"]
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["q5"] == pytest.approx(np.quantile(draws, 0.05))
    errors = np.array([f.summary().loc["b_l1[x]", "mcse_mean"] for f in fits])
    assert row["mcse_mean"] == pytest.approx(np.sqrt((errors**2).sum()) / 3)
    assert "3 fits of imputed tables, pooled; laplace" in str(mixed)
    with pytest.raises(rmm.BackendError, match="'size' is not a column of this summary"):
        mixed.summary(columns="size")


def test_effects_and_weights_are_of_all_draws(mixed: PooledFit, fits: list[rmm.Fit]) -> None:
    u = np.concatenate([flat_draws(f.run, f.model)["u_l1"] for f in fits])
    effects = mixed.member_effects()
    np.testing.assert_allclose(effects["mean"], u.mean(axis=0))
    np.testing.assert_allclose(effects["q97.5"], np.quantile(u, 0.975, axis=0))
    assert "rhat" not in effects
    v = np.concatenate([flat_draws(f.run, f.model)["u_l3"] for f in fits])
    np.testing.assert_allclose(mixed.nesting_effects()["sd"], v.std(axis=0, ddof=1))
    means = np.mean([f.weights()["mean"] for f in fits], axis=0)
    weights = mixed.weights()
    np.testing.assert_allclose(weights["mean"], means)
    within = np.mean([f.weights()["sd"] ** 2 for f in fits], axis=0)
    between = np.var([f.weights()["mean"] for f in fits], axis=0)
    expected = np.sqrt(within * 599 / 600 + between)
    np.testing.assert_allclose(weights["sd"], expected, rtol=1e-3)
    assert list(weights["group"]) == list(fits[0].weights()["group"])
    components = mixed.variance_components()
    each = np.mean([f.variance_components()["share"]["mean"] for f in fits], axis=0)
    np.testing.assert_allclose(components["share"]["mean"], each)


def test_known_weights_vary_where_they_were_imputed() -> None:
    formula = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ exp(s)), RE = TRUE)"
    fits = fitted([coalitions(k) for k in range(3)], formula)
    weights = pooled(fits).weights()
    known = np.array([f.weights()["mean"] for f in fits])
    np.testing.assert_allclose(weights["mean"], known.mean(axis=0))
    assert (weights["sd"].iloc[:25] > 0.01).all()
    assert weights["sd"].iloc[40:].max() < 1e-12


def test_predictions_and_estimands_are_mixtures(mixed: PooledFit, fits: list[rmm.Fit]) -> None:
    new = pd.DataFrame(
        {"group": [900, 900], "member": [1, 2], "unit": "a", "z": 1.0, "x": [0.0, 1], "s": [0.0, 1]}
    )
    found = mixed.predict(new, draws=True)
    assert found.dims == ("draw", "group")
    assert found.sizes["draw"] == 3 * 600
    for number, fit in enumerate(fits, start=1):
        own = found.to_numpy()[found["table"] == number, 0]
        np.testing.assert_allclose(own, fit.predict(new, draws=True).to_numpy().ravel())
    table = mixed.predict()
    each = [fit.predict()["mean"] for fit in fits]
    np.testing.assert_allclose(table["mean"], np.mean(each, axis=0))
    effect = mixed.estimand("marginal_effect", variable="z")
    draws = np.concatenate(
        [f.estimand("marginal_effect", variable="z", draws=True).to_numpy().ravel() for f in fits]
    )
    assert effect.loc["marginal_effect", "q2.5"] == pytest.approx(np.quantile(draws, 0.025))
    share = mixed.estimand("variance_share", component="members")
    each = [f.estimand("variance_share", component="members")["mean"].iloc[0] for f in fits]
    assert share["mean"].iloc[0] == pytest.approx(np.mean(each))
    # New members have other random numbers in each table.
    noisy = mixed.predict(new.assign(member=[700, 701]), draws=True, kind="outcome", seed=1)
    noise = noisy.to_numpy()[:, 0].reshape(3, -1)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.2  # 4 errors of a correlation of 600 are .16


def test_conditional_effects_have_the_means_of_each_table(
    mixed: PooledFit, fits: list[rmm.Fit]
) -> None:
    values = [-1.0, 0.0, 2.0]
    found = mixed.conditional_effects("x", values=values)
    each = [fit.conditional_effects("x", values=values)["mean"] for fit in fits]
    assert found.index.name == "x"
    np.testing.assert_allclose(found["mean"], np.mean(each, axis=0))
    found = mixed.conditional_effects("x", "z", values=values, by_values=[0.0, 1.0])
    each = [f.conditional_effects("x", "z", values=values, by_values=[0.0, 1.0]) for f in fits]
    assert found.index.equals(each[0].index)
    np.testing.assert_allclose(found["mean"], np.mean([one["mean"] for one in each], axis=0))
    with pytest.raises(rmm.DataError, match="'unit' is not a predictor"):
        mixed.conditional_effects("unit")
    with pytest.raises(rmm.DataError, match="kind='weight' is not available"):
        mixed.conditional_effects("s", kind="weight")


def test_hypotheses_are_about_the_mixture() -> None:
    """With the same priors: shares of all draws, and means of density ratios."""
    tables = [coalitions(k).drop_duplicates("group") for k in range(4)]
    fits = fitted(tables, "y ~ 1 + z", priors={"b_l2[z]": "normal(0, 1)"}, draws=600)
    mixed = pooled(fits)
    texts = ("b_l2[z] > 0.3", "b_l2[z] = 0.2", "0 < b_l2[z] < 0.4")
    # The prior of other parameters is scaled by y, which is the same in all tables.
    found, each = mixed.hypothesis(*texts), [f.hypothesis(*texts).table for f in fits]
    draws = np.concatenate([flat_draws(f.run, f.model)["b_l2"][:, 1] for f in fits])
    table = found.table
    assert table.loc[texts[0], "probability"] == pytest.approx((draws > 0.3).mean())
    assert table.loc[texts[0], "high"] == pytest.approx(np.quantile(draws, 0.975))
    before = stats.norm.sf(0.3)
    p = (draws > 0.3).mean()
    odds = p / (1 - p) / (before / (1 - before))
    assert table.loc[texts[0], "bayes_factor"] == pytest.approx(odds, rel=0.02)
    ratios = [one.loc[texts[1], "bayes_factor"] for one in each]
    assert table.loc[texts[1], "bayes_factor"] == pytest.approx(np.mean(ratios))
    # The same, from the density of the mixture; a kernel of 4,800 draws is exact to a few percent.
    density = stats.gaussian_kde(draws)(0.2)[0] / stats.norm.pdf(0.2)
    assert table.loc[texts[1], "bayes_factor"] == pytest.approx(density, rel=0.15)
    assert table.loc[texts[1], "log_bf_error"] > 0
    assert 0 < table.loc[texts[2], "hdi_share"] < 1


def test_no_bayes_factor_where_priors_differ(mixed: PooledFit) -> None:
    found = mixed.hypothesis("b_l2[z] = 0", "b_l2[z] > 0.2", "b_l2[z] > 0")
    assert found.table["bayes_factor"].isna().tolist() == [True, True, False]
    assert "default priors are scaled by each table" in found.remarks[0]
    assert found.table["probability"].notna().tolist() == [False, True, True]


@pytest.mark.parametrize("kind", ["forest", "effects"])
def test_plots_show_the_mixed_draws(mixed: PooledFit, kind: str) -> None:
    pytest.importorskip("matplotlib")
    sheet = mixed.plot(kind)
    assert sheet.axes
    with pytest.raises(rmm.DataError, match="have the plots 'forest' and 'effects', not 'draws'"):
        mixed.plot("draws")


@pytest.mark.parametrize("name", ["loo", "waic", "log_evidence", "check", "save", "report", "r2"])
def test_what_is_about_one_table_is_refused(mixed: PooledFit, name: str) -> None:
    with pytest.raises(rmm.BackendError, match=rf"Pooled fits have no `{name}`: .* in `fits`"):
        getattr(mixed, name)()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mixed.nothing  # noqa: B018
    assert isinstance(mixed, PooledFit)


def test_the_same_regression_in_any_order_of_rows() -> None:
    """Rows of a model without members are in the order of the outcome: matched by label."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=30)
    tables = [pd.DataFrame({"y": x + rng.normal(0, 0.5, 30), "x": x}) for _ in range(2)]
    fits = fitted(tables, "y ~ 1 + x")
    found = pooled(fits).predict()
    each = [fit.predict()["mean"].sort_index() for fit in fits]
    np.testing.assert_allclose(found["mean"].sort_index(), np.mean(each, axis=0))


def other(**changes: Any) -> rmm.Fit:
    """A second fit that differs in one respect."""
    table = changes.pop("table", coalitions(1))
    return fitted([table], changes.pop("formula", FORMULA), **changes)[0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"formula": FORMULA.replace(" z ", " z*x0 ")}, "differ in the formula: 'y ~ 1 \\+ z \\+"),
        ({"priors": {"b_w": "normal(0, 1)"}}, "differ in the priors: 'weakly_informative' and 'w"),
        ({"transform": "center"}, "differ in `transform`: 'None' and 'center'"),
        ({"draws": 301}, "differ in `draws`: '300' and '301'"),
        ({"ess": 900}, "differ in the options of the engine: 'none' and 'ess = 900'"),
        ({"monitor": False}, "differ in `monitor`"),
        ({"table": coalitions(1).query("group != 7")}, "different groups: only fit 1 has 7\\. "),
        (
            {"table": coalitions(1).replace({"member": {3: 99}})},
            "different members: only fit 1 has 3\\. ",
        ),
        (
            {"table": coalitions(1).replace({"unit": {"e": "f"}})},
            "different nesting units: only fit 1 has 'e'\\. ",
        ),
        (
            {"table": coalitions(1).assign(member=lambda t: (t["member"] * 2) % 23)},
            "Members are in other groups in fit 2 than in fit 1",
        ),
    ],
)
def test_other_models_are_refused(
    fits: list[rmm.Fit], changes: dict[str, Any], problem: str
) -> None:
    if "formula" in changes:
        changes = {**changes, "table": coalitions(1).assign(x0=lambda t: t["group"] % 3)}
    with pytest.raises(rmm.DataError, match=problem):
        rmm.pool([fits[0], other(**changes)])


def test_other_families_and_engines_are_refused(fits: list[rmm.Fit]) -> None:
    tables = [coalitions(k).assign(y=lambda t: (t["y"] > 0).astype(int)) for k in (0, 1)]
    logit = fitted(tables, family="binomial")
    with pytest.raises(rmm.DataError, match="differ in the family: 'gaussian' and 'binomial'"):
        rmm.pool([fits[0], logit[0]])
    faked = fitted([coalitions(1)], backend="fake")
    with pytest.raises(rmm.DataError, match="differ in the engine: 'laplace' and 'fake'"):
        rmm.pool([fits[0], faked[0]])
    categories = [coalitions(0).assign(z=lambda t: np.where(t["z"] > 0, "u", "v"))] * 2
    categories[1] = categories[1].assign(z=categories[1]["z"].mask(categories[1]["group"] < 9, "w"))
    with pytest.raises(rmm.DataError, match=r"different parameters: only fit . has 'b_l2\[z="):
        rmm.pool(fitted(categories))


@pytest.mark.parametrize("given", [[], "fits", None, {"a": 1}])
def test_a_list_of_fits_is_needed(given: Any) -> None:
    with pytest.raises(rmm.DataError, match="must be a list of two or more fits"):
        rmm.pool(given)
