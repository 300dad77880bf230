"""Random walks and random slopes of members: against dense algebra, the simulator and each other.

The table of these tests has the program of `FORMULA`: one compilation on Stan.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.run import run as run_stan
from rmm.design.prepare import Model, prepare
from rmm.errors import DataError, FormulaError, PriorError, SpecificationWarning
from rmm.formula.parse_formula import parse_formula
from rmm.simulation import simulate
from tests.coalitions import made_up_coalitions
from tests.family_cases import half_normal_by_raw

WALK = "mm(id(pid, gid), RE=TRUE, ar=year, name=walk)"
FORMULA = "y ~ 1 + mm(id(pid, gid), vars(x, s), RE=re(1 + x + s), name=party) + " + WALK
ESTIMATED = (
    "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-b1*s)), RE=re(1 + x), name=party)"
    " + mm(id(pid, gid), fn(w ~ 1/n^exp(-b1*x)), RE=TRUE, ar=year, name=walk)"
)
HELD = {
    "sigma_l1_party": 0.5,
    "sigma_slope_l1_party": 0.4,
    "sigma_l1_walk": 0.3,
    "sigma_l2": 0.6,
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    table = made_up_coalitions(groups=80, members=15)
    times = np.random.default_rng(1).permutation(80) * 0.5
    return table.assign(year=times[table["gid"].str[1:].astype(int)]).drop(columns="n")


# ---- language --------------------------------------------------------------------------------


def block(effects: str) -> Any:
    return parse_formula(f"y ~ mm(id(p, g), vars(x), {effects})").members[0]


@pytest.mark.parametrize(
    ("text", "random", "slopes"),
    [
        ("re(1 + x)", True, ["x"]),
        ("re(x)", True, ["x"]),
        ("re(0 + x + z)", False, ["x", "z"]),
        ("re(x - 1)", False, ["x"]),
        ("re(1)", True, []),
        ("re(1 + x*z)", True, ["x", "z", "x:z"]),
        ("re(I(x^2))", True, ["I(x^2)"]),
    ],
)
def test_random_slopes_are_read(text: str, random: bool, slopes: list[str]) -> None:
    found = block(f"RE = {text}")
    assert found.random is random
    assert [t.label for t in found.slopes] == slopes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RE = re(1 + x), ar = TRUE", "`ar =` can be used only with random intercepts"),
        ("RE = re(1 + x, cor = TRUE), ar = TRUE", "`ar =` can be used only with random intercepts"),
        ("RE = re(1 + x, cov = TRUE)", "one argument with a name, `cor = TRUE` or FALSE"),
        ("RE = re(1 + x, cor = TRUE, cor = TRUE)", "one argument with a name|twice"),
        ("RE = re(1 + x, cor = 2)", "`cor =` must be TRUE or FALSE"),
        ("RE = re(1, cor = TRUE)", "needs two or more effects of a member"),
        ("RE = re(cor = TRUE)", "has 0 arguments; one sum of terms"),
        ("RE = re(0)", "neither an intercept nor slopes"),
        ("RE = re(2 + x)", r"a sum of 0 or 1 and covariates"),
        ("RE = re(1 + x - z)", r"a sum of 0 or 1 and covariates"),
        ("RE = re(1, x)", "has 2 arguments; one sum of terms"),
        ("RE = maybe", r"`RE =` must be TRUE or FALSE, or re\(1 \+ x\)"),
    ],
)
def test_messages_about_random_slopes(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        block(text)


def test_messages_about_their_data(table: pd.DataFrame) -> None:
    with pytest.raises(FormulaError, match="no column `nothing`"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), RE=re(1 + nothing))", table)
    with pytest.raises(FormulaError, match="`y` is on both sides"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), RE=re(1 + y))", table)
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), RE=re(1 + x))"
    with pytest.raises(DataError, match=r"`x` in re\(\) is 2 in every row"):
        prepare("y ~ 1 + mm(id(pid, gid), RE=re(1 + x))", table.assign(x=2.0))
    with pytest.warns(SpecificationWarning, match="`s` has random slopes but no common slope"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), RE=re(1 + s))", table)
    with pytest.warns(SpecificationWarning, match=r"`x` in re\(\) does not vary within any member"):
        prepare(formula, table.assign(x=np.sqrt(table["pid"])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(formula, table)
        prepare("y ~ 1 + mm(id(pid, gid), vars(fix(x, 0)), RE=re(1 + x))", table)


def test_priors_of_slopes(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table)
    priors = model.priors.elements
    wide = priors["sigma_l1_party"][0].values[0]
    for one, name in zip(priors["sigma_slope_l1_party"], ("x", "s"), strict=True):
        assert one.family == "half_normal"
        assert one.values[0] == pytest.approx(wide / table[name].std())
    with pytest.raises(
        PriorError, match=r"`sigma_slope_l1_party`: only some of its 2 elements are fixed"
    ):
        prepare(FORMULA, table, priors=["sigma_slope_l1_party[x] <- 1"])
    with pytest.raises(PriorError, match="`sigma_slope_l1_party` must be positive"):
        prepare(FORMULA, table, priors={"sigma_slope_l1_party": "normal(0, 1)"})


# ---- against dense algebra -------------------------------------------------------------------


def held(table: pd.DataFrame) -> Model:
    return prepare(FORMULA, table, priors=[f"{k} <- {v}" for k, v in HELD.items()])


def exact(model: Model) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Posterior means and sds of effects given all standard deviations, from the user's columns.

    y = F beta + Z u + e with normal priors is one Gaussian: see Searle, Casella & McCulloch
    (1992), chapter 7, on best linear unbiased prediction.
    """
    frame, hyper = model.grouped.frame, model.priors.data
    group = frame["gid"].str[1:].astype(int).to_numpy()
    member, time = frame["pid"].to_numpy(), frame["year"].to_numpy()
    count, groups, rows = member.max() + 1, group.max() + 1, len(frame)
    share = np.zeros((groups, rows))
    share[group, np.arange(rows)] = 1 / np.bincount(group)[group]
    is_of = np.eye(count)[member]
    own = {"u_l1_party": share @ is_of}
    for k, name in enumerate(("x", "s")):
        own[f"slope {k}"] = share @ (is_of * frame[name].to_numpy()[:, None])
    # A walk's covariance: the number of steps that two memberships of a member have in common.
    order = np.array([(time[member == m] <= t).sum() for m, t in zip(member, time, strict=True)])
    common = np.minimum(order[:, None], order[None, :]) * (member[:, None] == member[None, :])
    own["u_l1_walk"] = share
    sds = {"u_l1_party": 0.5, "slope 0": 0.4, "slope 1": 0.4}
    prior = {name: sd**2 * np.eye(count) for name, sd in sds.items()}
    prior["u_l1_walk"] = 0.3**2 * common
    means = share @ frame[["x", "s"]].to_numpy()
    fixed = np.column_stack([np.ones(groups), means - means.mean(axis=0)])
    scale = np.append(hyper["prior_alpha_scale"], hyper["prior_b_l1_party_scale"])
    y = model.grouped.group_frame["y"].to_numpy() - hyper["prior_alpha_location"]
    variance = 0.6**2 * np.eye(groups) + (fixed * scale**2) @ fixed.T
    variance += sum(Z @ prior[name] @ Z.T for name, Z in own.items())
    mean, sd = {}, {}
    for name, Z in own.items():
        gain = prior[name] @ Z.T @ np.linalg.inv(variance)
        mean[name] = gain @ y
        sd[name] = np.sqrt(np.diag(prior[name] - gain @ Z @ prior[name]))
    return mean, sd


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("jags", marks=pytest.mark.jags),
        pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.parity]),
    ],
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_effects_are_the_best_predictions(table: pd.DataFrame, backend: str) -> None:
    """Means within 5 Monte Carlo errors: false alarm below 0.1% over 320 effects; sds by 15%."""
    priors = [f"{k} <- {v}" for k, v in HELD.items()]
    fit = rmm.fit(
        FORMULA,
        table,
        backend=backend,
        priors=priors,
        seed=4,
        warmup=300,
        draws=1000,
        progress=False,
    )
    mean, sd = exact(fit.model)
    party, walk = fit.member_effects(1), fit.member_effects(2)
    found = {
        "u_l1_party": party[party["effect"] == "Intercept"],
        "slope 0": party[party["effect"] == "x"],
        "slope 1": party[party["effect"] == "s"],
        "u_l1_walk": walk.loc[fit.model.design.rows],
    }
    for name, effects in found.items():
        z = (effects["mean"].to_numpy() - mean[name]) / effects["mcse_mean"].to_numpy()
        assert np.abs(z).max() < 5, (name, z)
        np.testing.assert_allclose(effects["sd"].to_numpy(), sd[name], rtol=0.15)


def test_rows_of_member_effects(faked: rmm.Fit, table: pd.DataFrame) -> None:
    walk = faked.member_effects(2)
    assert list(walk.columns[:4]) == ["member", "group", "order", "mean"]
    assert walk.index.name == "row"
    same = table.loc[walk.index]
    assert (same["pid"] == walk["member"]).all()
    assert (same["gid"] == walk["group"]).all()
    assert (same.groupby("pid")["year"].rank() == walk["order"]).all()
    party = faked.member_effects(1)
    assert len(party) == 3 * table["pid"].nunique()
    assert party.groupby("effect").size().to_dict() == {"Intercept": 15, "x": 15, "s": 15}


# ---- after the fit ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faked(table: pd.DataFrame) -> rmm.Fit:
    """Draws that mean nothing, of a model with everything: what is computed from them counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            FORMULA, table, backend="fake", chains=2, warmup=10, draws=30, progress=False, seed=1
        )


def drawn(fit: rmm.Fit, name: str) -> np.ndarray:
    values = fit.draws["posterior"][name].to_numpy()
    return np.asarray(values.reshape(-1, *values.shape[2:]))


def test_predictor_of_the_fit_is_that_of_the_model(faked: rmm.Fit) -> None:
    frame, member = faked.model.grouped.frame, faked.model.grouped.frame["pid"].to_numpy()
    slopes, b = drawn(faked, "u_slope_l1_party"), drawn(faked, "b_l1_party")
    rows = drawn(faked, "u_l1_party")[:, member] + drawn(faked, "u_l1_walk")
    for k, name in enumerate(("x", "s")):
        rows = rows + frame[name].to_numpy() * (slopes[:, member, k] + b[:, [k]])
    group = frame["gid"].str[1:].astype(int).to_numpy()
    eta = drawn(faked, "b_l2") + np.stack([np.bincount(group, r) for r in rows]) / np.bincount(
        group
    )
    found = faked.predict(kind="linear")
    np.testing.assert_allclose(found["mean"], eta.mean(axis=0))
    np.testing.assert_allclose(found["sd"], eta.std(axis=0, ddof=1))


def test_new_groups_take_the_next_step(faked: rmm.Fit, table: pd.DataFrame) -> None:
    """Member 3 goes on from its last group, then from the first new one; 99 starts at 0."""
    new = pd.DataFrame(
        {"gid": ["n1", "n2", "n3"], "pid": [3, 3, 99], "x": 0.0, "s": 0.0, "year": [90, 80, 95]}
    )
    known = faked.predict(new, kind="linear", effects="known")
    walk = faked.member_effects(2)
    last = walk[walk["member"] == 3].index[-1]
    place = int(np.flatnonzero(faked.model.design.rows == last)[0])
    b = drawn(faked, "b_l2")[:, 0]
    now = b + drawn(faked, "u_l1_party")[:, 3] + drawn(faked, "u_l1_walk")[:, place]
    np.testing.assert_allclose(known["mean"], [now.mean(), now.mean(), b.mean()])
    every = faked.predict(new, kind="linear", effects="all")
    step = drawn(faked, "sigma_l1_walk").mean()
    # One step for n2 (the earlier one), two for n1: their spread around `now`, roughly.
    gains = np.sqrt(np.maximum(every["sd"] ** 2 - known["sd"] ** 2, 0)).to_numpy()
    assert 0.6 * step < gains[1] < 1.4 * step
    assert 0.6 * step < gains[0] / np.sqrt(2) < 1.4 * step
    with pytest.raises(DataError, match=r"New group 'n1' is before group .* have member 3 "):
        faked.predict(new.assign(year=[0.25, 80, 95]))


def test_shares_of_walks_and_slopes(faked: rmm.Fit, table: pd.DataFrame) -> None:
    variance = faked.variance_components()["variance"]["mean"]
    order = table.groupby("pid")["year"].rank()
    size = table.groupby("gid")["gid"].transform("size")
    means = {
        "members_party": drawn(faked, "sigma_l1_party") ** 2 * (size**-2.0).sum() / 80,
        "members_walk": drawn(faked, "sigma_l1_walk") ** 2 * (order / size**2).sum() / 80,
        "members_party, slope of x": drawn(faked, "sigma_slope_l1_party")[:, 0] ** 2
        * (table["x"] ** 2 / size**2).sum()
        / 80,
    }
    for name, values in means.items():
        assert variance[name] == pytest.approx(values.mean())


def test_refits_and_conditional_effects(faked: rmm.Fit) -> None:
    assert faked.conditional_effects("x") is not None
    with pytest.raises(rmm.BackendError, match="not available with the random walks"):
        faked.loo(refit=True)


def test_a_saved_fit_comes_back(faked: rmm.Fit, tmp_path: Path) -> None:
    again = rmm.load(faked.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.member_effects(1), faked.member_effects(1))
    pd.testing.assert_frame_equal(again.member_effects(2), faked.member_effects(2))


# ---- what the programs compute ---------------------------------------------------------------


def log_density(model: Model, draw: dict[str, Any]) -> float:
    """The log density at one draw, on Stan's unconstrained scale, up to a constant."""
    frame, design, hyper = model.grouped.frame, model.design, model.priors.data
    party = design.members[0]
    n, s, x = party.n, frame["s"].to_numpy(), frame["x"].to_numpy()
    u, slope = draw["u_l1_party"], draw["u_slope_l1_party"]
    eta = np.full(design.J, draw["alpha"])
    for b, z, effect in (
        (
            draw["b_w_party"][0],
            s,
            party.X @ draw["b_l1_party"] + u[party.member] + x * slope[party.member, 0],
        ),
        (draw["b_w_walk"][0], x, draw["u_l1_walk"]),
    ):
        raw = n ** -np.exp(-b * z)
        eta += np.bincount(party.group, raw * effect) / np.bincount(party.group, raw)
    walk_steps, member, time = [], frame["pid"].to_numpy(), frame["year"].to_numpy()
    for one in np.unique(member):
        rows = sorted(np.flatnonzero(member == one), key=lambda r: time[r])
        walk_steps.append(np.diff(draw["u_l1_walk"][rows], prepend=0))
    steps = np.concatenate(walk_steps)
    names = ("sigma_l1_party", "sigma_l1_walk", "sigma_l2")
    of_slopes, wide = draw["sigma_slope_l1_party"][0], hyper["prior_sigma_slope_l1_party_scale"][0]
    terms = [
        stats.norm.logpdf(design.outcome["y"], eta, draw["sigma_l2"]).sum(),
        stats.norm.logpdf(u / draw["sigma_l1_party"]).sum(),
        stats.norm.logpdf(slope / draw["sigma_slope_l1_party"]).sum(),
        stats.norm.logpdf(steps / draw["sigma_l1_walk"]).sum(),
        stats.norm.logpdf(draw["alpha"], hyper["prior_alpha_location"], hyper["prior_alpha_scale"]),
        stats.norm.logpdf(draw["b_l1_party"], 0, hyper["prior_b_l1_party_scale"]).sum(),
        stats.norm.logpdf(draw["b_w_party"], 0, hyper["prior_b_w_party_scale"]).sum(),
        stats.norm.logpdf(draw["b_w_walk"], 0, hyper["prior_b_w_walk_scale"]).sum(),
        *(half_normal_by_raw(model, draw, name) for name in names),
        stats.norm.logpdf(of_slopes, 0, wide) + np.log(of_slopes),
    ]
    return float(sum(terms))


@pytest.mark.thorough
@pytest.mark.stan
def test_log_density_on_stan(table: pd.DataFrame) -> None:
    model = prepare(ESTIMATED, table)
    spec, forms = model.spec, model.priors.forms
    settings = Settings(chains=1, warmup=100, draws=25, seed=3, cores=1)
    starts = [
        stan.initial(spec, forms, prior_values(model), v) for v in initial_values(model, 1, 3)
    ]
    values = stan.data(spec, model.design, prior_values(model))
    fitted = run_stan(stan.write(spec, forms), values, starts, settings)
    draws = [{k: v[0, i] for k, v in fitted.draws.items()} for i in range(25)]
    expected = np.array([log_density(model, draw) for draw in draws])
    found = fitted.sample_stats["lp"][0]
    assert np.ptp(expected) > 5, "the draws are all alike"
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-5)


# ---- recovery and parity ---------------------------------------------------------------------

TRUTH = {
    "walk": (
        "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE, ar=year)",
        {"b_l2[Intercept]": 1, "b_l1[x]": 0.5, "sigma_l1": 0.4, "sigma_l2": 0.6},
    ),
    "slopes": (
        "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=re(1 + x))",
        {
            "b_l2[Intercept]": 1,
            "b_l1[x]": 0.5,
            "sigma_l1": 0.6,
            "sigma_slope_l1[x]": 0.8,
            "sigma_l2": 0.6,
        },
    ),
}


def simulated(name: str, groups: int = 250) -> pd.DataFrame:
    formula, parameters = TRUTH[name]
    drawn = simulate(
        formula,
        parameters,
        membership={
            "kind": "synthetic",
            "groups": groups,
            "members": 30,
            "size": 3,
            "member": "pid",
            "group": "gid",
        },
        covariates={"x": {"level": "membership"}, "year": {"level": "group"}},
        seed=6,
    )
    return drawn.data


@pytest.mark.parity
@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_engines_agree_and_truths_come_back(name: str) -> None:
    """|z| < 4 on 9 parameters and 2 engines, parity within 4.5: false alarm below 0.2%."""
    formula, truth = TRUTH[name]
    table = simulated(name)
    fits = [
        rmm.fit(
            formula,
            table,
            backend=b,
            seed=2,
            warmup=500,
            draws=2000,
            progress=False,
            thin=2 if b == "jags" else 1,
        )
        for b in ("jags", "stan")
    ]
    jags, stan_ = (fit.summary() for fit in fits)
    for summary in (jags, stan_):
        z = (summary["mean"] - pd.Series(truth)) / summary["sd"]
        assert (z.abs() < 4).all(), summary
    z = (jags["mean"] - stan_["mean"]) / np.hypot(jags["mcse_mean"], stan_["mcse_mean"])
    assert (z.abs() < 4.5).all(), pd.concat([jags, stan_, z], axis=1)
    assert (jags["sd"] / stan_["sd"]).between(1 / 1.2, 1.2).all()
