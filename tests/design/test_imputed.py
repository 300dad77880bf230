"""Missing values that are parameters, `missing="impute"`: exact posteriors, engines, messages.

What is expected of a normal outcome is computed from the likelihood in which missing values are
integrated out by hand: given its mean m and sd t, a missing x with coefficient b adds b m to the
mean of y and b^2 t^2 to its variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import rmm
from rmm.backends.stan.program import program as stan
from rmm.design.prepare import prepare
from rmm.errors import BackendError, DataError, PriorError
from rmm.posterior.prediction.cross_validation import Refits, without_unit
from rmm.posterior.prediction.predict import log_likelihood
from rmm.posterior.prior_draws import draw_parameters

Array = np.ndarray[Any, Any]

FORMULA = "y ~ 1 + z + q + mm(id(pid, gid), vars(x, a), RE = TRUE)"
ESTIMATED = "y ~ 1 + z + q + mm(id(pid, gid), vars(x, a), fn(w ~ 1/n^exp(-b1*s)), RE = TRUE)"


def teams(groups: int = 80, seed: int = 1, *, complete: bool = False) -> pd.DataFrame:
    """Covariates of groups (z, q), of members (a), of memberships (x, s); q, a and x miss some."""
    rng = np.random.default_rng(seed)
    a, u = rng.normal(size=20), 0.6 * rng.normal(size=20)
    rows = []
    for group in range(groups):
        who, z = rng.choice(20, rng.integers(1, 4), replace=False), rng.normal()
        q, x, s = 5 + 0.8 * z + 0.6 * rng.normal(), *rng.normal(size=(2, len(who)))
        y = 1 + 0.5 * z + 0.7 * q + np.mean(0.8 * x + a[who] + u[who]) + 0.5 * rng.normal()
        rows += [
            {
                "gid": f"g{group:02d}",
                "pid": f"p{k:02d}",
                "y": y,
                "z": z,
                "q": q,
                "x": b,
                "s": c,
                "a": a[k],
            }
            for k, b, c in zip(who, x, s, strict=True)
        ]
    table = pd.DataFrame(rows)
    if not complete:
        gone = [f"g{k:02d}" for k in range(0, groups, 4)]
        table["q"] = table["q"].mask(table["gid"].isin(gone))
        table["x"] = table["x"].mask(rng.uniform(size=len(table)) < 0.15)
        table["a"] = table["a"].mask(table["pid"].isin(["p00", "p07", "p11"]))
    return table.sample(frac=1, random_state=3).reset_index(drop=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return teams()


@pytest.fixture(scope="module")
def faked(table: pd.DataFrame) -> rmm.Fit:
    """Draws that mean nothing: what is computed from them counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            ESTIMATED,
            table,
            backend="fake",
            missing="impute",
            chains=2,
            warmup=10,
            draws=30,
            seed=1,
        )


def drawn(fit: rmm.Fit, name: str) -> Array:
    values = fit.draws["posterior"][name].to_numpy()
    return np.asarray(values.reshape(-1, *values.shape[2:]))


# ---- which values are missing ------------------------------------------------------------------


def test_values_are_those_of_groups_members_and_memberships(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table, missing="impute")
    found = {
        one.column: (one, v)
        for one, v in zip(model.spec.imputed, model.design.imputed, strict=True)
    }
    assert {c: one.unit for c, (one, _) in found.items()} == {
        "q": "group",
        "x": "membership",
        "a": "member",
    }
    lacking = table[table["q"].isna()]["gid"]
    assert list(found["q"][1].labels) == sorted(lacking.unique())
    assert list(found["a"][1].labels) == ["p00", "p07", "p11"]
    pairs = table[table["x"].isna()].sort_values(["gid", "pid"])
    assert list(found["x"][1].labels) == [
        f"{p}, {g}" for p, g in zip(pairs["pid"], pairs["gid"], strict=True)
    ]
    assert found["q"][0].predictors == ("z",)
    assert found["a"][0].predictors == ()
    assert found["x"][0].predictors == (), "a has missing values itself"
    assert model.imputed == (
        f"q ({lacking.nunique()} of 80 groups), x ({len(pairs)} of {len(table)} memberships), "
        "a (3 of 20 members)"
    )
    assert model.used["q"].isna().sum() == len(lacking), "the table is kept as it was"


def test_arrays_of_a_covariate_of_groups(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table, missing="impute")
    own, groups = model.design.imputed[0], table.groupby("gid").first()
    z = groups["z"] - groups["z"].mean()
    np.testing.assert_allclose(own.known, groups["q"].dropna())
    np.testing.assert_allclose(own.X_known[:, 1], z[groups["q"].notna()])
    np.testing.assert_allclose(own.X[:, 1], z[groups["q"].isna()])
    assert own.fill == pytest.approx(groups["q"].mean())
    assert own.scale == pytest.approx(groups["q"].std())
    assert model.design.coords["slope_l2"][own.column] == "q"
    column = model.design.X_l2[:, own.column] + model.design.center_l2[own.column]
    np.testing.assert_allclose(column, groups["q"].fillna(groups["q"].mean()))
    np.testing.assert_array_equal(own.row, np.flatnonzero(groups["q"].isna()))


def test_a_value_that_another_row_has_is_not_missing(table: pd.DataFrame) -> None:
    full = teams(complete=True)
    once = full.copy()
    first = once.groupby("gid").cumcount() == 0
    pairs = full.groupby("gid")["gid"].transform("size") > 1
    once.loc[first & pairs, "q"] = np.nan
    again = once.groupby("pid").cumcount() == 1
    once.loc[again, "a"] = np.nan
    assert once["q"].isna().any()
    assert once["a"].isna().any()
    model = prepare(FORMULA, once, missing="impute")
    assert model.spec.imputed == ()
    same = prepare(FORMULA, full)
    np.testing.assert_allclose(model.design.X_l2, same.design.X_l2)
    np.testing.assert_allclose(model.design.members[0].X, same.design.members[0].X)


def test_a_complete_table_is_the_same_model() -> None:
    full = teams(complete=True)
    one, two = prepare(FORMULA, full, missing="impute"), prepare(FORMULA, full)
    assert one.spec == two.spec
    assert one.imputed == ""
    assert str(one.priors.elements) == str(two.priors.elements)


def test_without_groups_rows_have_values() -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"y": rng.normal(size=30), "x": rng.normal(size=30)})
    table.loc[[3, 7], "x"] = np.nan
    model = prepare("y ~ 1 + x", table, missing="impute")
    assert model.imputed == "x (2 of 30 rows)"
    assert len(model.design.imputed[0].row) == 2


def test_kinds_of_members_have_values_of_their_own() -> None:
    rng = np.random.default_rng(2)
    rows = []
    for group in range(40):
        y = rng.normal()
        rows += [
            {"gid": group, "pid": f"p{k}", "x": rng.normal(), "y": y}
            for k in rng.choice(8, 2, replace=False)
        ]
        rows += [{"gid": group, "mid": f"m{rng.integers(6)}", "v": rng.normal(), "y": y}]
    table = pd.DataFrame(rows)
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), name = p) + mm(id(mid, gid), vars(v), name = m)"
    assert prepare(formula, table, missing="impute").spec.imputed == ()
    gone = table.index[table["mid"].notna()][:5]
    table.loc[gone, "v"] = np.nan
    model = prepare(formula, table, missing="impute")
    assert [one.block for one in model.spec.imputed] == [1]
    assert model.imputed == "v (5 of 40 memberships)"


@pytest.mark.parametrize(
    ("formula", "change", "message"),
    [
        ("y ~ 1 + I(q^2)", None, r"`q` has .* missing values, and it is in `I\(q\^2\)`.*rmm.pool"),
        ("y ~ 1 + z*q", None, "it is a covariate and in `z:q` in several places"),
        ("y ~ 1 + ns(q, 3)", None, r"it is in `ns\(q, 3\)`"),
        ("y ~ 1 + s(q)", None, r"it is in `s\(q\)`"),
        ("y ~ 1 + fix(q, 1)", None, r"it is in fix\(\)"),
        ("y ~ 1 + offset(q)", None, r"it is in offset\(\)"),
        (
            "y ~ 1 + z + mm(id(pid, gid), fn(w ~ exp(x)), RE = TRUE)",
            None,
            r"in the weights `exp\(x\)`",
        ),
        (
            "y ~ 1 + z + mm(id(pid, gid), vars(x), RE = re(1 + x))",
            None,
            r"a covariate and in re\(\)",
        ),
        ("y ~ 1 + z + mm(id(pid, gid), vars(variance(x)))", None, r"it is in `variance\(x\)`"),
        ("y ~ 1 + z + mm(id(pid, gid), RE = TRUE, ar = ar1(q))", None, "the time of `ar =`"),
        ("y ~ 1 + z", lambda t: t.assign(y=t["y"].mask(t["gid"] == "g00")), "it is the outcome"),
        ("y ~ 1 + q", lambda t: t.assign(q=t["q"].map(str).mask(t["q"].isna())), "is not numeric"),
        (
            "y ~ 1 + q",
            lambda t: t.assign(q=(t["q"] > 5).astype(float).mask(t["q"].isna())),
            "its other values are 0, 1",
        ),
        ("y ~ 1 + q", lambda t: t.assign(q=t["x"]), "varies within group"),
        (
            "y ~ 1 + q + hm(id = z)",
            lambda t: t.assign(
                z=t["gid"].str[1:].astype(int) // 8,
                q=(t["gid"].str[1:].astype(int) // 8).map({k: k**1.5 for k in range(1, 10)}),
            ),
            "it is a covariate of nesting units",
        ),
    ],
)
def test_other_missing_values_are_refused(
    table: pd.DataFrame, formula: str, change: Callable[[Any], Any] | None, message: str
) -> None:
    if "mm(" not in formula:
        formula += " + mm(id(pid, gid), RE = TRUE)"
    with pytest.raises(DataError, match=message):
        prepare(formula, table if change is None else change(table), missing="impute")


def test_other_arguments_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"`pid`, the member id, has 1 missing value"):
        prepare(FORMULA, table.assign(pid=table["pid"].mask(table.index == 0)), missing="impute")
    with pytest.raises(DataError, match=r'cannot be used with transform="std"'):
        prepare(FORMULA, table, missing="impute", transform="std")
    with pytest.raises(DataError, match="The coefficient of `q` is fixed"):
        prepare(FORMULA, table, missing="impute", priors=["b_l2[q] <- 0.5"])
    with pytest.raises(PriorError, match="has no element `x`"):
        prepare(FORMULA, table, missing="impute", priors=["b_imputed_q[x] ~ normal(0, 1)"])
    with pytest.raises(DataError, match="Did you mean 'impute'"):
        prepare(FORMULA, table, missing="imputed")


def test_sigma_and_observation_weights_take_no_missing_values(table: pd.DataFrame) -> None:
    complete = table.assign(w=2.0)
    lacking = complete.assign(w=complete["w"].mask(complete["gid"] == "g00"), q=1.0)
    for data, message, options in (
        (table, r"a covariate and in `sigma`", {"sigma": "~ 1 + q"}),
        (lacking, "it is the observation weights", {"observation_weights": "w"}),
        (complete, r"`q` has missing.*\(`w`\) count outcomes", {"observation_weights": "w"}),
    ):
        with pytest.raises(DataError, match=message):
            rmm.fit(FORMULA, data, missing="impute", backend="stan", **options)


def test_priors_are_on_the_scales_of_columns(table: pd.DataFrame) -> None:
    groups = table.groupby("gid").first()
    for base in ("weakly_informative", "rmm"):
        priors = prepare(FORMULA, table, missing="impute", priors=base).priors.elements
        mean, slope = priors["b_imputed_q"]
        assert mean.values == pytest.approx((groups["q"].mean(), 2.5 * groups["q"].std()))
        assert slope.values[1] == pytest.approx(2.5 * groups["q"].std() / groups["z"].std())
        assert priors["sigma_imputed_q"][0].values == pytest.approx((2.5 * groups["q"].std(),))
    own = ["b_imputed_q[z] ~ normal(1, 0.1)", "sigma_imputed_q ~ exponential(2)"]
    found = prepare(FORMULA, table, missing="impute", priors=own).priors.elements
    assert str(found["b_imputed_q"][1]) == "normal(1, 0.1)"
    assert str(found["sigma_imputed_q"][0]) == "exponential(2)"


# ---- after the fit -----------------------------------------------------------------------------


def test_the_predictor_has_the_missing_values(faked: rmm.Fit) -> None:
    """With estimated weights, by a loop over rows, from the user's table."""
    frame, b = faked.model.grouped.frame, drawn(faked, "b_l2")
    values = {
        (column, unit): drawn(faked, f"imputed_{column}")[:, k]
        for column in ("q", "x", "a")
        for k, unit in enumerate(faked.model.design.coords[f"missing_{column}"])
    }
    n = frame.groupby("gid")["gid"].transform("size").to_numpy(float)
    raw = n ** -np.exp(-drawn(faked, "b_w") * frame["s"].to_numpy())
    slopes, u = drawn(faked, "b_l1"), drawn(faked, "u_l1")
    members = list(faked.model.design.coords["member"])
    expected = []
    for group, rows in frame.reset_index(drop=True).groupby("gid"):
        w = raw[:, rows.index] / raw[:, rows.index].sum(axis=1, keepdims=True)
        eta = b[:, 0] + b[:, 1] * rows["z"].iloc[0]
        eta = eta + b[:, 2] * values.get(("q", group), rows["q"].iloc[0])
        for k, (_, row) in enumerate(rows.iterrows()):
            x = values.get(("x", f"{row['pid']}, {group}"), row["x"])
            a = values.get(("a", row["pid"]), row["a"])
            own = slopes[:, 0] * x + slopes[:, 1] * a + u[:, members.index(row["pid"])]
            eta = eta + w[:, k] * own
        expected.append(eta)
    found = faked.predict(kind="linear", draws=True).to_numpy().reshape(-1, 80)
    np.testing.assert_allclose(found, np.column_stack(expected), atol=1e-10)


def test_tables_name_the_units(faked: rmm.Fit, table: pd.DataFrame) -> None:
    found = faked.imputed_values()
    assert list(found.columns[:3]) == ["column", "unit", "mean"]
    assert found[found["column"] == "a"]["unit"].to_list() == ["p00", "p07", "p11"]
    assert f"Missing values are parameters: {faked.model.imputed}." in str(faked)
    assert not faked.summary().index.str.startswith("imputed_").any()
    assert "b_imputed_q[z]" in faked.summary().index
    assert "Missing values are parameters" in str(faked.report())
    complete = rmm.fit("y ~ 1 + z", table, backend="fake", draws=5, warmup=5, seed=1)
    assert len(complete.imputed_values()) == 0


def test_predictions_of_new_groups_need_all_values(faked: rmm.Fit) -> None:
    new = pd.DataFrame(
        {"gid": ["n"], "pid": ["p00"], "z": [0.0], "q": [5.0], "x": [0.0], "a": [1.0], "s": [0.0]}
    )
    assert np.isfinite(faked.predict(new)["mean"]).all()
    with pytest.raises(DataError, match="Column `q` has 1 missing value"):
        faked.predict(new.assign(q=np.nan))


def test_what_is_not_available_is_refused(faked: rmm.Fit) -> None:
    for name, options in (
        ("contrast", {"group": "g01", "without": ["p07"]}),
        ("marginal_effect", {"variable": "z"}),
    ):
        with pytest.raises(BackendError, match="pool the fits"):
            faked.estimand(name, **options)
    with pytest.raises(BackendError, match="Contributions of members are not available"):
        faked.estimand("rank", of="contribution")
    assert faked.estimand("rank") is not None
    assert faked.estimand("variance_share") is not None
    assert faked.conditional_effects("q") is not None


def test_a_saved_fit_comes_back(faked: rmm.Fit, tmp_path: Path) -> None:
    again = rmm.load(faked.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.imputed_values(), faked.imputed_values())
    pd.testing.assert_frame_equal(again.predict(kind="linear"), faked.predict(kind="linear"))


def test_prior_draws_are_those_of_the_model(table: pd.DataFrame) -> None:
    """20,000 draws: within 5 standard errors."""
    priors = [
        "b_imputed_q[Intercept] ~ normal(2, 0.1)",
        "b_imputed_q[z] ~ normal(1, 0.1)",
        "sigma_imputed_q <- 0.5",
    ]
    model = prepare(FORMULA, table, missing="impute", priors=priors)
    found = draw_parameters(model, 20_000, np.random.default_rng(1))["imputed_q"]
    z = model.design.imputed[0].X[:, 1]
    sd = np.sqrt(0.25 + 0.01 + 0.01 * z**2)
    assert (np.abs(found.mean(axis=0) - (2 + z)) < 5 * sd / 20_000**0.5).all()
    np.testing.assert_allclose(found.std(axis=0), sd, rtol=0.03)
    assert (
        rmm.prior_predictive(FORMULA, table, missing="impute", draws=20, seed=1).outcome is not None
    )


def test_a_group_that_is_left_out_keeps_its_missing_value(table: pd.DataFrame) -> None:
    model = prepare(ESTIMATED, table, missing="impute")
    for unit in (0, 1, 79):
        part = without_unit(model, unit)
        for one, old, new in zip(
            model.spec.imputed, model.design.imputed, part.design.imputed, strict=True
        ):
            assert len(new.X) == len(old.X)
            rows = np.arange(80) if one.block is None else model.design.members[0].group
            kept = [(r, v) for r, v in zip(old.row, old.value, strict=True) if rows[r] != unit]
            order = np.cumsum(rows != unit) - 1
            assert [(order[r], v) for r, v in kept] == list(zip(new.row, new.value, strict=True))


def test_laplace_refuses(table: pd.DataFrame) -> None:
    with pytest.raises(BackendError, match="'laplace' does not support missing=\"impute\""):
        rmm.fit(FORMULA, table, backend="laplace", missing="impute", seed=1)


# ---- exact posteriors --------------------------------------------------------------------------

SIMPLE = "y ~ 1 + z + q"
STATED = {
    "b_l2": "normal(0, 2)",
    "sigma_l2": "half_normal(2)",
    "b_imputed_q": "normal(0, 2)",
    "sigma_imputed_q": "half_normal(2)",
}


def regression(rows: int = 60, lacking: float = 0.4, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows)
    q = 0.5 + 0.8 * z + 0.7 * rng.normal(size=rows)
    y = 1 - 0.5 * z + 1.2 * q + 0.5 * rng.normal(size=rows)
    return pd.DataFrame(
        {"y": y, "z": z, "q": np.where(rng.uniform(size=rows) < lacking, np.nan, q)}
    )


def log_posterior(theta: Array, table: pd.DataFrame) -> Array:
    """(S,) of (S, 7): b_l2, log sigma_l2, b_imputed_q, log sigma_imputed_q; missing values are
    integrated out.
    """
    a, bz, bq, log_s, m, c, log_t = theta.T[:, :, None]
    s, t = np.exp(log_s), np.exp(log_t)
    z, y, q = (table[k].to_numpy() for k in ("z", "y", "q"))
    gone, mean = np.isnan(q), m + c * (z - z.mean())
    x = np.where(gone, mean, q)
    sd = np.sqrt(s**2 + np.where(gone, bq**2 * t**2, 0.0))
    total = stats.norm.logpdf(y, a + bz * z + bq * x, sd).sum(axis=1)
    total += np.where(gone, 0.0, stats.norm.logpdf(np.where(gone, 0, q), mean, t)).sum(axis=1)
    for name in (a, bz, bq, m, c):
        total += stats.norm.logpdf(name[:, 0], 0, 2)
    for log in (log_s, log_t):
        total += stats.norm.logpdf(np.exp(log[:, 0]), 0, 2) + log[:, 0]
    return np.asarray(total)


def weighted(table: pd.DataFrame) -> tuple[Array, Array]:
    """100,000 draws about the mode and their weights; standard deviations in place of logs."""
    best = optimize.minimize(
        lambda v: -log_posterior(v[None], table)[0], np.zeros(7), method="BFGS"
    )
    law = stats.multivariate_t(best.x, best.hess_inv * 1.2, df=6, seed=np.random.default_rng(1))
    theta = law.rvs(100_000)
    w = log_posterior(theta, table) - law.logpdf(theta)
    w = np.exp(w - w.max())
    w /= w.sum()
    assert 1 / np.sum(w**2) > 30_000
    theta[:, [3, 6]] = np.exp(theta[:, [3, 6]])
    return theta, w


def exact_moments(table: pd.DataFrame) -> tuple[Array, Array, Array]:
    """Means, sds and errors of means by importance sampling."""
    theta, w = weighted(table)
    mean = w @ theta
    return mean, np.sqrt(w @ (theta - mean) ** 2), np.sqrt(w**2 @ (theta - mean) ** 2)


NAMES = [
    "b_l2[Intercept]",
    "b_l2[z]",
    "b_l2[q]",
    "sigma_l2",
    "b_imputed_q[Intercept]",
    "b_imputed_q[z]",
    "sigma_imputed_q",
]


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("jags", marks=pytest.mark.jags),
        pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.parity]),
    ],
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_posteriors_are_those_with_values_integrated_out(backend: str) -> None:
    """Means within 4 Monte Carlo errors (false alarm below .1%), sds within 8%."""
    table = regression()
    thin = {"thin": 4} if backend == "jags" else {}
    fit = rmm.fit(
        SIMPLE,
        table,
        backend=backend,
        missing="impute",
        priors=STATED,
        seed=3,
        warmup=1000,
        draws=3000,
        progress=False,
        **thin,
    )
    mean, sd, error = exact_moments(table)
    found = fit.summary().loc[NAMES]
    z = (found["mean"] - mean) / np.hypot(found["mcse_mean"], error)
    assert (z.abs() < 4).all(), z
    np.testing.assert_allclose(found["sd"], sd, rtol=0.08)
    # A missing value given the parameters at their means, roughly: Bayes' rule for two normals.
    one = table.index[table["q"].isna()][0]
    prior = mean[4] + mean[5] * (table["z"][one] - table["z"].mean())
    rest = table["y"][one] - mean[0] - mean[1] * table["z"][one]
    precision = mean[6] ** -2 + (mean[2] / mean[3]) ** 2
    expected = (prior / mean[6] ** 2 + mean[2] * rest / mean[3] ** 2) / precision
    values = fit.imputed_values().set_index("unit")
    assert values["mean"][str(one)] == pytest.approx(expected, abs=0.15)
    assert values["sd"][str(one)] == pytest.approx(precision**-0.5, rel=0.25)


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_few_missing_values_change_little() -> None:
    """One of 150: means within .15 sd of complete cases, and sds within 5%."""
    table = regression(rows=150, lacking=0.0)
    table.loc[5, "q"] = np.nan
    ours = rmm.fit(
        SIMPLE, table, backend="jags", missing="impute", seed=1, draws=4000, progress=False
    )
    theirs = rmm.fit(SIMPLE, table.drop(index=5), backend="laplace", seed=1).summary()
    found = ours.summary().loc[theirs.index]
    assert ((found["mean"] - theirs["mean"]).abs() < 0.15 * theirs["sd"]).all()
    np.testing.assert_allclose(found["sd"], theirs["sd"], rtol=0.05)


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize(
    ("formula", "family"),
    [
        (ESTIMATED, "gaussian"),
        (FORMULA.replace("vars", "fn(w ~ s^2, c = FALSE), vars"), "binomial"),
    ],
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_engines_agree(formula: str, family: str) -> None:
    """Means within 4.5 Monte Carlo errors: false alarm of all 40 comparisons below .1%."""
    frame = teams(groups=150)
    if family == "binomial":
        frame = frame.assign(y=(frame["y"] > frame["y"].median()).astype(int))
    found = []
    for backend, more in (("stan", {}), ("jags", {"thin": 20})):
        fit = rmm.fit(
            formula,
            frame,
            family,
            backend=backend,
            missing="impute",
            seed=2,
            warmup=1500,
            draws=2000,
            progress=False,
            **more,
        )
        values = fit.imputed_values()
        index = "imputed " + values["column"] + " " + values["unit"]
        found.append(pd.concat([fit.summary(), values.set_index(index)]))
    a, b = found
    z = (a["mean"] - b["mean"]) / np.hypot(a["mcse_mean"], b["mcse_mean"])
    parameters = ~z.index.str.startswith("imputed ")
    assert (z[parameters].abs() < 4.5).all(), z
    assert (z[~parameters].abs() < 5).all(), z
    assert (a["sd"] / b["sd"]).between(1 / 1.3, 1.3).all()


@pytest.mark.parity
@pytest.mark.stan
def test_auto_takes_stan(table: pd.DataFrame) -> None:
    fit = rmm.fit(FORMULA, table, missing="impute", seed=1, progress=False)
    assert fit.backend == "stan"
    assert "laplace: Backend 'laplace' does not support missing" in fit.run.engine["chosen"]


@pytest.mark.calibration
@pytest.mark.stan
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_ranks_of_true_values_are_uniform() -> None:
    """60 data sets, truths from the priors, 8 quantities: ranks are uniform.

    Kolmogorov-Smirnov tests at .001 each: false alarm below 1% in all.
    """
    rng, ranks = np.random.default_rng(8), []
    priors = {
        "b_l2": "normal(0, 1)",
        "sigma_l2": "gamma(5, 7)",
        "b_imputed_q": "normal(0, 1)",
        "sigma_imputed_q": "gamma(5, 5)",
    }
    for _ in range(60):
        a, bz, bq, m, c = rng.normal(size=5)
        s, t = rng.gamma(5, 1 / 7), rng.gamma(5, 1 / 5)
        z, e = rng.normal(size=40), rng.normal(size=(2, 40))
        q = m + c * (z - z.mean()) + t * e[0]
        y = a + bz * z + bq * q + s * e[1]
        gone = rng.permutation(40)[:14]
        table = pd.DataFrame({"y": y, "z": z, "q": q})
        table.loc[gone, "q"] = np.nan
        fit = rmm.fit(
            SIMPLE,
            table,
            backend="stan",
            missing="impute",
            priors=priors,
            chains=2,
            draws=500,
            warmup=500,
            seed=int(rng.integers(1e6)),
            progress=False,
        )
        first = int(fit.model.design.coords["missing_q"][0])  # its row in the table
        truth = [a, bz, bq, s, m, c, t, q[first]]
        draws = np.column_stack(
            [
                drawn(fit, "b_l2"),
                drawn(fit, "sigma_l2"),
                drawn(fit, "b_imputed_q"),
                drawn(fit, "sigma_imputed_q"),
                drawn(fit, "imputed_q")[:, 0],
            ]
        )
        ranks.append((draws < truth).mean(axis=0))
    for column in np.array(ranks).T:
        assert stats.kstest(column, "uniform").pvalue > 0.001


# ---- programs ----------------------------------------------------------------------------------


def test_programs_do_not_depend_on_how_many_are_missing(table: pd.DataFrame) -> None:
    texts = set()
    for frame in (table, table.assign(q=table["q"].mask(table["gid"] == "g01"))):
        model = prepare(ESTIMATED, frame, missing="impute")
        texts.add(stan.write(model.spec, model.priors.forms))
    assert len(texts) == 1


def test_neither_evidence_nor_categories(faked: rmm.Fit, table: pd.DataFrame) -> None:
    with pytest.raises(BackendError, match=r"log_evidence\(\) is not available"):
        faked.log_evidence()
    with pytest.raises(DataError, match=r"not available in rmm.multinomial\(\)"):
        rmm.multinomial("y ~ 1 + z", table, missing="impute", seed=1)


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")
def test_a_group_is_left_out_exactly() -> None:
    """log p(y_1 | the rest, z_1), q_1 missing: by importance sampling, within 5 errors."""
    table = regression()
    fit = rmm.fit(
        SIMPLE,
        table,
        backend="jags",
        missing="impute",
        priors=STATED,
        seed=3,
        warmup=500,
        draws=4000,
        thin=4,
        progress=False,
    )
    unit = int(table.index[table["q"].isna()][0])
    place = int(np.flatnonzero(fit.model.design.coords["group"].astype(int) == unit)[0])
    refits = Refits(fit.model, fit.program, fit.settings, "jags")
    each = log_likelihood(fit.model, refits.without(place))[:, place]
    found = np.log(np.mean(np.exp(each)))
    # p(y | rest) = 1 / E[1 / p(y_1 | theta)] under the posterior of all data.
    theta, w = weighted(table)
    y, z = table["y"][unit], table["z"][unit] - table["z"].mean()
    mean = (
        theta[:, 0] + theta[:, 1] * table["z"][unit] + theta[:, 2] * (theta[:, 4] + theta[:, 5] * z)
    )
    sd = np.hypot(theta[:, 3], theta[:, 2] * theta[:, 6])
    exact = -np.log(w @ np.exp(-stats.norm.logpdf(y, mean, sd)))
    error = np.exp(each - found).std() / np.sqrt(len(each) / 4)
    assert abs(found - exact) < 5 * np.hypot(error, 0.01)
    assert np.isfinite(fit.loo().elpd)
    assert fit.prior_sensitivity() is not None


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_one_missing_value_of_a_column_with_any_name() -> None:
    """A matrix of one element, and a name that is in no program."""
    table = regression(rows=40, lacking=0.0)[["y", "q"]].rename(columns={"q": "größe */ 1"})
    table.loc[3, "größe */ 1"] = np.nan
    fit = rmm.fit(
        "y ~ 1 + `größe */ 1`", table, backend="jags", missing="impute", seed=1, progress=False
    )
    assert fit.program.isascii()
    assert len(fit.imputed_values()) == 1
    text = stan.write(fit.model.spec, fit.model.priors.forms)
    assert text.count("*/") == text.count("/*")
