"""Features of members: definitions by hand, messages, programs on both engines, recovery."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import rmm
from rmm.backends.base import Run, Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.jags import features as jags_features
from rmm.backends.jags import program as jags
from rmm.backends.jags import run as jags_engine
from rmm.backends.stan import run as stan_engine
from rmm.backends.stan.program import features as stan_features
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.design.prepare import Model, prepare
from rmm.formula.features import FEATURES
from rmm.posterior.prediction.linear_predictor import eta_draws, flat_draws, layout_of
from rmm.posterior.prediction.new_groups import lay_out
from tests.coalitions import made_up_coalitions
from tests.family_cases import half_normal_by_raw

START = np.array([0, 3, 4, 9])
SLOPE = 5.0


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    table = made_up_coalitions(groups=100)
    return table.assign(q1=np.exp(0.5 * table["x"])).drop(columns="n")


# ---- definitions -------------------------------------------------------------------------------

# Feature -> its value for one group, written as one would by hand: p shares, x, number.
BY_HAND: dict[str, Callable[[Any, Any, float], float]] = {
    "variance": lambda p, x, k: float(np.average((x - np.average(x, weights=p)) ** 2, weights=p)),
    "herfindahl": lambda p, x, k: float(np.sum((x / x.sum()) ** 2)),
    "entropy": lambda p, x, k: float(stats.entropy(x / x.sum())),
    "threshold": lambda p, x, k: float(p[x > k].sum()),
    "softmax": lambda p, x, k: float(x @ special.softmax(np.log(p) + k * x)),
    "genmean": lambda p, x, k: float(stats.pmean(x, k, weights=p)),
}


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("number", [-3.0, -0.4, 0.7, 1.0, 6.0])
def test_values_are_those_written_by_hand(name: str, number: float) -> None:
    rng = np.random.default_rng(5)
    x, raw = rng.gamma(2, size=9), rng.gamma(1, size=9)
    share = raw / np.repeat(np.add.reduceat(raw, START[:-1]), np.diff(START))
    found = FEATURES[name].values(share, x, number, START)
    groups = [slice(a, b) for a, b in pairwise(START)]
    assert found == pytest.approx([BY_HAND[name](share[g], x[g], number) for g in groups])
    # Draws on the left: each as if alone.
    both, numbers = np.stack([share, share]), np.array([[number], [2.0]])
    several = np.broadcast_to(FEATURES[name].values(both, x, numbers, START), (2, 3))
    alone = FEATURES[name].values(share, x, 2.0, START)
    assert several == pytest.approx(np.stack([found, alone]))


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_has_text_in_both_languages(name: str) -> None:
    assert name in stan_features.STATEMENTS and name in jags_features.TEXTS
    assert FEATURES[name].name == name and name in BY_HAND


def test_weights_themselves() -> None:
    share = np.array([0.2, 0.3, 0.5, 1.0, 0.0, 0.25, 0.25, 0.25, 0.25])
    none = np.zeros(0)
    assert FEATURES["herfindahl"].values(share, none, 0, START) == pytest.approx([0.38, 1, 0.25])
    entropies = [stats.entropy(share[:3]), 0, np.log(4)]
    assert FEATURES["entropy"].values(share, none, 0, START) == pytest.approx(entropies)


def test_limits() -> None:
    """Far out the soft maximum is the maximum or minimum; near 0 the power mean is geometric."""
    x, share = np.array([1.0, 2, 4, 7, 1, 1, 2, 3, 8]), np.full(9, 0.2)
    high, low = (FEATURES["softmax"].values(share, x, k, START) for k in (1e5, -1e5))
    assert high == pytest.approx([4, 7, 8]) and low == pytest.approx([1, 7, 1])
    share = np.repeat(1 / np.diff(START), np.diff(START))
    geometric = [stats.gmean(x[:3]), 7, stats.gmean(x[4:])]
    assert FEATURES["genmean"].values(share, x, 0.0, START) == pytest.approx(geometric, rel=1e-5)
    assert FEATURES["genmean"].values(share, x, -2000.0, START) == pytest.approx(low, rel=1e-2)


# ---- columns -----------------------------------------------------------------------------------


def test_with_known_weights_features_are_columns(table: pd.DataFrame) -> None:
    formula = (
        "y ~ 1 + mm(id(pid, gid), vars(x, variance(x), entropy(), threshold(s, 0.2)),"
        " fn(w ~ exp(s), c=2), RE=TRUE)"
    )
    model = prepare(formula, table)
    names = ["x", "variance(x)", "entropy()", "threshold(s, 0.2)"]
    assert list(model.design.coords["covariate_l1"]) == names
    groups = []
    for _, rows in table.groupby("gid", sort=True):
        p = special.softmax(rows["s"].to_numpy())
        x, s = rows["x"].to_numpy(), rows["s"].to_numpy()
        groups.append([BY_HAND["variance"](p, x, 0), stats.entropy(p), p[s > 0.2].sum()])
    member = model.design.members[0]
    assert (member.X + member.center)[:, 1:] == pytest.approx(np.array(groups))
    scales = [prior.values[1] for prior in model.priors.elements["b_l1"]]
    s = model.spec.family.scale(model.design.outcome)[1]
    assert scales[1:] == pytest.approx(2.5 * s / np.std(groups, axis=0, ddof=1))
    assert rmm.program(formula, data=table) == rmm.program(formula)


def test_numbers_are_estimated_where_none_is_given(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(threshold(s), softmax(x), genmean(q1), softmax(x, 1)))"
    model = prepare(formula, table, priors={"b_f[genmean(q1)]": "normal(0, 0.5)"})
    assert list(model.design.coords["coefficient_f"]) == [
        "threshold(s)",
        "softmax(x)",
        "genmean(q1)",
    ]
    assert "b_f" in [p.name for p in model.spec.parameters if p.structural]
    cut, kappa, exponent = model.priors.elements["b_f"]
    s, x = table["s"], table["x"]
    assert cut.values == pytest.approx((s.mean(), s.std()))
    assert kappa.values == pytest.approx((0, 2 / x.std()))
    assert exponent.values == (0.0, 0.5)
    # The known soft maximum is a column and comes first.
    assert next(iter(model.design.coords["covariate_l1"])) == "softmax(x, 1)"
    classic = prepare(formula, table, priors="rmm").priors.elements["b_f"]
    assert classic[0].values == cut.values


def test_features_of_a_group_without_members_are_zero(table: pd.DataFrame) -> None:
    two = table.assign(mid=table["pid"].where(table["s"] > 0))
    formula = (
        "y ~ 1 + mm(id(pid, gid), vars(x), name=party)"
        " + mm(id(mid, gid), vars(variance(x)), name=minister)"
    )
    member = prepare(formula, two).design.members[1]
    variance = two.dropna(subset="mid").groupby("gid")["x"].var(ddof=0)
    expected = variance.reindex(sorted(two["gid"].unique())).fillna(0).to_numpy()
    assert (member.X + member.center)[:, 0] == pytest.approx(expected)


# ---- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            "variance(x):s",
            "`variance\\(\\)` is a feature of the members of a group and cannot be used here",
        ),
        ("fix(variance(x), 1)", "cannot be used here"),
        (
            "variance(x, s)",
            "`variance\\(\\)` cannot have 2 arguments.*\n.*\n.*\nWrite variance\\(x\\)",
        ),
        ("variance()", "`variance\\(\\)` cannot have 0 arguments"),
        ("herfindahl(x + s)", "`herfindahl\\(\\)` needs one variable"),
        ("entropy(x:s)", "`entropy\\(\\)` needs one variable"),
        ("softmax(x, b = 2)", "`softmax\\(\\)` has no argument `b =`"),
        ("softmax(x, s)", "This must be a number"),
    ],
)
def test_misuse_is_told(variables: str, message: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.FormulaError, match=message):
        prepare(f"y ~ 1 + mm(id(pid, gid), vars({variables}))", table)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ 1 + variance(z) + mm(id(pid, gid), vars(x))",
        "y ~ 1 + mm(id(pid, gid), vars(x)) + hm(id=cid, vars=vars(variance(z)))",
    ],
)
def test_features_stand_in_mm_only(formula: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.FormulaError, match="cannot be used here"):
        prepare(formula, table)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            "genmean(x, 2)",
            r"`genmean\(x, 2\)` needs x > 0. This is not so in \d+ rows; .* row \d+",
        ),
        ("genmean(x)", r"`genmean\(x\)` needs x > 0"),
        ("herfindahl(x)", r"`herfindahl\(x\)` needs x >= 0"),
        ("entropy(I((x > 1.5)*1))", r"`entropy\(.*\)` is not a finite number in \d+ groups"),
        ("variance(region)", "Column `region` contains text.*Convert it to numbers"),
        ("variance(z)", r"`variance\(z\)` needs differences.* z is constant within every group"),
        ("x, softmax(x, 0)", r"`softmax\(x, 0\)` is a linear combination of `x`"),
    ],
)
def test_data_that_a_feature_cannot_use(variables: str, message: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match=message):
        prepare(f"y ~ 1 + mm(id(pid, gid), vars({variables}))", table)


def test_a_feature_beside_its_mean_is_told(table: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match=r"are the same if b_f\[softmax\(x\)\] = 0"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x, softmax(x)))", table)


def test_priors_that_cannot_be(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(softmax(x)))"
    with pytest.raises(rmm.PriorError, match=r"Write it in the formula, as in softmax\(x, 2\)"):
        prepare(formula, table, priors=["b_f[softmax(x)] <- 2"])
    with pytest.raises(rmm.PriorError, match="coefficient of a feature cannot be fixed"):
        prepare(formula, table, priors=["b_l1[softmax(x)] <- 2"])
    with pytest.raises(rmm.PriorError, match=r"has no element `genmean\(x\)`"):
        prepare(formula, table, priors=["b_f[genmean(x)] ~ normal(0, 1)"])


def test_estimated_features_of_several_kinds_are_refused(table: pd.DataFrame) -> None:
    two = table.assign(mid=table["pid"].where(table["s"] > 0))
    formula = "y ~ 1 + mm(id(pid, gid), RE=TRUE) + mm(id(mid, gid), vars(softmax(x)))"
    with pytest.raises(rmm.FormulaError, match="not available with several mm\\(\\) blocks"):
        prepare(formula, two)


# ---- engines -----------------------------------------------------------------------------------

SMALL = (
    "y ~ 1 + z + mm(id(pid, gid), vars(variance(x), entropy(), threshold(s), softmax(x),"
    " genmean(q1, -1)), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE)"
)


def predictor(table: pd.DataFrame, draw: dict[str, Any], model: Model) -> Any:
    """The linear predictor by group at one draw, from a table by pandas and SciPy."""
    members, eta = list(model.design.coords["member"]), []
    names = list(model.design.coords["covariate_l1"])
    b = dict(zip(names, draw["b_l1"], strict=True))
    cut, kappa = draw["b_f"]
    slope = SLOPE / model.used["s"].std()
    for _, rows in table.groupby("gid", sort=True):
        x, s, q = (rows[c].to_numpy() for c in ("x", "s", "q1"))
        raw = len(rows) ** -np.exp(-draw["b_w"][0] * s)
        p = raw / raw.sum()
        u = draw["u_l1"][[members.index(i) for i in rows["pid"]]]
        value = draw["b_l2"][0] + draw["b_l2"][1] * rows["z"].iloc[0] + p @ u
        value += b["variance(x)"] * BY_HAND["variance"](p, x, 0)
        value += b["entropy()"] * stats.entropy(p)
        value += b["threshold(s)"] * (p @ special.expit(slope * (s - cut)))
        value += b["softmax(x)"] * BY_HAND["softmax"](p, x, kappa)
        value += b["genmean(q1, -1)"] * stats.pmean(q, -1, weights=p)
        eta.append(value)
    return np.array(eta)


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_the_host_has_the_predictor_written_by_hand(table: pd.DataFrame) -> None:
    """Draws of the fit's groups, and of new groups of half the members, without an engine."""
    fit = rmm.fit(SMALL, table, backend="fake", chains=1, draws=6, seed=1, progress=False)
    draws = flat_draws(fit.run, fit.model)
    new = table[table["lead"] | (table.groupby("gid").cumcount() < 2)].copy()
    new["gid"] = "new " + new["gid"]
    layouts = (layout_of(fit.model), table), (lay_out(fit.model, new).layout, new)
    for layout, rows in layouts:
        eta = eta_draws(fit.model, layout, draws)
        expected = [
            predictor(rows, {k: v[i] for k, v in draws.items()}, fit.model) for i in range(6)
        ]
        np.testing.assert_allclose(eta, expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_known_features_of_new_groups(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x, variance(x)), fn(w ~ exp(s), c=2))"
    fit = rmm.fit(formula, table, backend="fake", chains=1, draws=6, seed=1, progress=False)
    new = table[table["gid"] < "g050"].assign(gid=lambda t: "new " + t["gid"])
    whole = eta_draws(fit.model, layout_of(fit.model), flat_draws(fit.run, fit.model))
    cut = lay_out(fit.model, new).layout
    assert eta_draws(fit.model, cut, flat_draws(fit.run, fit.model)) == pytest.approx(whole[:, :50])


def run_of(model: Model, backend: str) -> Run:
    spec, forms = model.spec, model.priors.forms
    language: Any = {"jags": jags, "stan": stan}[backend]
    priors = prior_values(model) if backend == "stan" else model.priors.data
    engine = {"jags": jags_engine, "stan": stan_engine}[backend]
    monitor = (*jags.monitored(spec, forms), "eta") if backend == "jags" else ()
    options = jags.engine_options(spec, forms) if backend == "jags" else {}
    settings = Settings(
        chains=1, warmup=200, draws=20, seed=4, cores=1, monitor=monitor, options=options
    )
    starts = [language.initial(spec, forms, priors, v) for v in initial_values(model, 1, 3)]
    values = language.data(spec, model.design, priors)
    return engine.run(language.write(spec, forms), values, starts, settings, None)


@pytest.mark.thorough
@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_jags_has_the_predictor_written_by_hand(table: pd.DataFrame) -> None:
    model = prepare(SMALL, table)
    run = run_of(model, "jags")
    for i in range(20):
        draw = {k: v[0, i] for k, v in run.draws.items()}
        np.testing.assert_allclose(draw["eta"], predictor(table, draw, model), rtol=1e-7)


@pytest.mark.thorough
@pytest.mark.stan
def test_stan_has_the_density_written_by_hand(table: pd.DataFrame) -> None:
    model = prepare(SMALL, table)
    run, hyper = run_of(model, "stan"), model.priors.data
    y = table.groupby("gid", sort=True)["y"].first().to_numpy()
    expected = []
    for i in range(20):
        draw = {k: v[0, i] for k, v in run.draws.items()}
        total = stats.norm.logpdf(y, predictor(table, draw, model), draw["sigma_l2"]).sum()
        total += stats.norm.logpdf(draw["u_l1"] / draw["sigma_l1"]).sum()
        for name in ("alpha", "beta_l2", "b_l1", "b_w", "b_f"):
            location, scale = hyper[f"prior_{name}_location"], hyper[f"prior_{name}_scale"]
            total += np.sum(stats.norm.logpdf(draw[name], location, scale))
        for name in ("sigma_l1", "sigma_l2"):
            total += half_normal_by_raw(model, draw, name)
        expected.append(total)
    assert np.ptp(expected) > 5, "the draws are all alike"
    found = run.sample_stats["lp"][0]
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], atol=1e-6)


def with_features(groups: int, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """Groups whose outcome rests on the spread, a cut and a soft maximum of their members."""
    rng = np.random.default_rng(seed)
    truth = {
        "b_l2[Intercept]": 1.0,
        "b_l1[variance(x)]": 0.7,
        "b_l1[threshold(s)]": 2.0,
        "b_l1[softmax(r)]": 1.0,
        "b_f[threshold(s)]": 0.4,
        "b_f[softmax(r)]": 1.5,
        "sigma_l2": 0.4,
    }
    tables = []
    for group in range(groups):
        n = int(rng.integers(3, 9))
        x, s, r = rng.normal(size=(3, n))
        p = np.exp(0.5 * s) / np.exp(0.5 * s).sum()
        y = 1.0 + 0.7 * np.average((x - p @ x) ** 2, weights=p)
        y += 2.0 * (p @ special.expit(SLOPE * (s - 0.4)))
        y += r @ special.softmax(np.log(p) + 1.5 * r) + rng.normal(0, 0.4)
        pid = rng.choice(60, n, replace=False)
        tables.append(pd.DataFrame({"gid": group, "pid": pid, "y": y, "x": x, "s": s, "r": r}))
    return pd.concat(tables, ignore_index=True), truth


@pytest.mark.parity
@pytest.mark.jags
@pytest.mark.stan
@pytest.mark.parametrize(("weights", "more"), [("exp(0.5*s)", {}), ("exp(b1*s)", {"b_w[b1]": 0.5})])
def test_engines_agree_and_find_the_truth(weights: str, more: dict[str, float]) -> None:
    """Means within 4.5 combined MCSE (15 comparisons: false alarms < 1e-4); truth within 4 sd.

    sd(s) is 1 but for sampling error, which the slope of the smooth threshold shares.
    """
    table, truth = with_features(250, seed=6)
    formula = (
        f"y ~ 1 + mm(id(pid, gid), vars(variance(x), threshold(s), softmax(r)), fn(w ~ {weights}))"
    )
    fits = {}
    for backend in ("jags", "stan"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rmm.ConvergenceWarning)
            fits[backend] = rmm.fit(
                formula,
                table,
                backend=backend,
                seed=8,
                chains=3,
                warmup=500,
                draws=1000,
                thin=3 if backend == "jags" else 1,
                cores=1,
                progress=False,
            ).summary()
    one, other = fits["jags"], fits["stan"]
    assert (one["rhat"] < 1.03).all() and (other["rhat"] < 1.03).all(), (one, other)
    combined = np.hypot(one["mcse_mean"], other["mcse_mean"])
    assert ((one["mean"] - other["mean"]).abs() / combined < 4.5).all(), (one, other)
    assert (one["sd"] / other["sd"]).between(1 / 1.2, 1.2).all(), (one, other)
    z = (other["mean"] - pd.Series({**truth, **more}).loc[other.index]) / other["sd"]
    assert (z.abs() < 4).all(), z
