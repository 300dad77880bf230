"""AR(1) processes of members in time (`ar = ar1(time)`): closed forms, statsmodels, engines.

What is expected is computed here from the user's table and dense covariance matrices, by loops over
groups and members, without occasions, innovations or the order of members.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import rmm
from rmm.backends.laplace.hyperparameters import log_prior, to_values
from rmm.backends.laplace.kernels.integrals import compiled_pattern, integrals_of
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.laplace.marginal_likelihood import EXACTLY, Integrand
from rmm.design.members.autoregressive import between, find_steps
from rmm.design.prepare import Model, prepare
from rmm.errors import BackendError, DataError, FormulaError, PriorError, SpecificationWarning
from rmm.families import find_family
from rmm.formula.parse_formula import columns_of, parse_formula
from rmm.posterior.prediction.cross_validation import Refits
from rmm.posterior.prediction.predict import log_likelihood
from rmm.posterior.prior_draws import draw_parameters
from rmm.simulation import RecipeError, draw, draw_fixed, simulate
from rmm.simulation import prepare as prepare_recipe

Array = np.ndarray[Any, Any]

PLAIN = "y ~ 1 + mm(id(pid, gid), vars(x), RE = TRUE, ar = ar1(year))"
ESTIMATED = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-b1*q)), RE = TRUE, ar = ar1(year))"
SUMS = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1, c = FALSE), RE = TRUE, ar = ar1(year))"
TWO = (
    "y ~ 1 + mm(id(pid, gid), vars(x), RE = TRUE, ar = ar1(year), name = now)"
    " + mm(id(pid, gid), fn(w ~ q^2, c = FALSE), RE = TRUE, name = always)"
)
FORMULAS = {"plain": PLAIN, "estimated": ESTIMATED, "sums": SUMS, "two": TWO}


def governments(
    groups: int = 60,
    parties: int = 14,
    seed: int = 5,
    *,
    rho: float = 0.7,
    sigma: float = 1.0,
    irregular: bool = False,
) -> pd.DataFrame:
    """Governments of 2 to 4 parties at 12 times, several at each; `year` may have fractions."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 12, 12)) if irregular else np.arange(12.0)
    u = sigma * rng.multivariate_normal(
        np.zeros(12), rho ** np.abs(np.subtract.outer(times, times)), parties
    )
    rows = []
    for group in range(groups):
        who = rng.choice(parties, rng.integers(2, 5), replace=False)
        when, x, q = rng.integers(12), *rng.normal(size=(2, len(who)))
        y = 1 + np.mean(u[who, when] + 0.5 * x) + 0.4 * rng.normal()
        rows += [
            {
                "gid": f"g{group:03d}",
                "pid": f"p{p:02d}",
                "year": times[when],
                "x": a,
                "q": b,
                "y": y,
            }
            for p, a, b in zip(who, x, q, strict=True)
        ]
    return pd.DataFrame(rows).sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return governments()


# ---- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("RE = TRUE, ar = ar1(year)", "year"),
        ("ar = ar1(time = year)", "year"),
        ("ar = ar1()", None),
        ("fn = fn(w ~ 1/n, ar = ar1(year))", "year"),
    ],
)
def test_spellings(text: str, time: str | None) -> None:
    formula = parse_formula(f"y ~ 1 + mm(id(p, g), vars(x), {text})")
    block = formula.members[0]
    assert block.series is not None
    assert block.series.time == time
    assert block.random, "ar = implies random effects"
    assert block.autoregressive is False, "it is no random walk"
    assert ("year" in columns_of(formula)) == (time is not None)


def test_random_walks_keep_their_spelling() -> None:
    for text, expected in (("year", "year"), ("TRUE", True), ("FALSE", False)):
        block = parse_formula(f"y ~ 1 + mm(id(p, g), RE = TRUE, ar = {text})").members[0]
        assert block.autoregressive == expected
        assert block.series is None
    column = parse_formula("y ~ 1 + mm(id(p, g), RE = TRUE, ar = ar1)").members[0]
    assert column.autoregressive == "ar1", "a column of that name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ar = ar(year)", r"`ar = ar\(year\)` is not available. Did you mean `ar1`"),
        ("ar = AR1(year)", r"Did you mean.*ar1"),
        ("ar = ar1(year, p = 2)", "must have one argument, the time column"),
        ("ar = ar1(gr = year)", "must have one argument, the time column"),
        ("ar = ar1(2)", r"`ar1\(\)` must name a column"),
        ("ar = ar1(year), cov = A", "`cov =` and `ar =` cannot be used together"),
        ("ar = ar1(year), cor = A", "`cor =` and `ar =` cannot be used together"),
        ("ar = ar1(year), RE = FALSE", "`ar =` needs random effects, but RE is FALSE"),
        ("ar = ar1(year), RE = re(1 + x)", "`ar =` can be used only with random intercepts"),
    ],
)
def test_messages_about_formulas(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(f"y ~ 1 + mm(id(p, g), vars(x), {text})")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(year=t["x"]), r"`ar = ar1\(year\)` varies within group 'g000'"),
        (lambda t: t.assign(year="late"), "must contain numbers, because correlations depend"),
        (
            lambda t: t.assign(year=pd.Timestamp("1990-01-01")),
            "must contain numbers, because correlations depend",
        ),
        (lambda t: t.assign(year=None), "Column `year` has .* missing values"),
        (
            lambda t: t.assign(year=1990),
            r"No member \(column `pid`\) is in two groups at two times",
        ),
        (lambda t: t.assign(pid=range(len(t))), r"No member \(column `pid`\) is in two groups"),
    ],
)
def test_messages_about_times(table: pd.DataFrame, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(PLAIN, change(table))


def test_far_units_of_time_are_told(table: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(PLAIN, table)
    with pytest.warns(
        SpecificationWarning, match=r"is 365 units .* nearly independent.*about 4e\+02"
    ):
        prepare(PLAIN, table.assign(year=table["year"] * 365))
    with pytest.warns(SpecificationWarning, match="effects that are nearly constant"):
        prepare(PLAIN, table.assign(year=table["year"] / 365))
    with pytest.warns(SpecificationWarning, match=r"`ar = ar1\(\)` sorts groups by their ids"):
        prepare(
            PLAIN.replace("year", ""), table.assign(gid="g" + table["gid"].str[1:].str.lstrip("0"))
        )


def test_priors_of_the_correlation(table: pd.DataFrame) -> None:
    for base in ("weakly_informative", "rmm"):
        assert (
            str(prepare(PLAIN, table, priors=base).priors.elements["rho_l1"][0]) == "uniform(0, 1)"
        )
    own = prepare(PLAIN, table, priors=["rho_l1 ~ beta(4, 2)"]).priors.elements["rho_l1"][0]
    assert str(own) == "beta(4, 2)"
    assert prepare(PLAIN, table, priors=["rho_l1 <- 0.3"]).priors.data["rho_l1"] == 0.3
    for text, message in (
        ("rho_l1 ~ normal(0, 1)", "`rho_l1` is a probability"),
        ("rho_l1 ~ uniform(-1, 1)", "`rho_l1` is a probability"),
        ("rho_l1 <- 1", "a member has the same effect at all times"),
        ("rho_l1 <- -0.5", "`rho_l1` is a probability"),
    ):
        with pytest.raises(PriorError, match=message):
            prepare(PLAIN, table, priors=[text])


# ---- occasions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("time", ["year", ""])
def test_occasions_are_members_at_times(time: str) -> None:
    table = governments(irregular=True)
    model = prepare(PLAIN.replace("year", time), table.assign(gid=table["gid"].str[1:].astype(int)))
    series, frame = model.design.members[0].series, model.grouped.frame
    assert series is not None
    when = frame["year"] if time else frame.groupby("pid")["gid"].rank()
    assert (series.time[series.effect] == when).all()
    labels = model.grouped.members[0].labels[series.member[series.effect]]
    assert (labels == frame["pid"]).all()
    assert series.count == len(set(zip(frame["pid"], when, strict=True)))
    assert (series.count < len(frame)) == bool(time), "groups at one time share an effect"
    order = np.lexsort((series.time, series.member))
    assert (order == np.arange(series.count)).all()
    assert len(model.design.coords["occasion"]) == series.count


@pytest.mark.parametrize("rho", [0.0, 1e-9, 0.3, 0.95, 1 - 1e-9])
def test_innovations_have_the_covariance_of_the_process(rho: float) -> None:
    """L L' is rho^|t - s|, to 1e-12, by entries and by the recursion."""
    series = prepare(PLAIN, governments(irregular=True)).design.members[0].series
    assert series is not None
    same = series.member[:, None] == series.member[None, :]
    expected = np.where(same, rho ** np.abs(np.subtract.outer(series.time, series.time)), 0.0)
    L = series.effects(np.eye(series.count), np.full(series.count, rho)).T
    np.testing.assert_allclose(L @ L.T, expected, atol=1e-12)
    steps, M = find_steps(series), len(series.effect)
    rows = np.zeros((M, series.count))
    rows[steps.membership, steps.column] = steps.values(np.array([rho]))[0][steps.value]
    np.testing.assert_allclose(rows, L[series.effect], atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.999])
@pytest.mark.parametrize(("before", "after"), [(1.0, 2.0), (0.1, np.inf), (np.inf, 3.0)])
def test_an_effect_between_two_others(rho: float, before: float, after: float) -> None:
    known = [-before] * (before < np.inf) + [after] * (after < np.inf)
    times = np.array([0.0, *known])
    R = rho ** np.abs(np.subtract.outer(times, times))
    expected = R[0, 1:] @ np.linalg.inv(R[1:, 1:])
    left, right, sd = (v[0] for v in between(np.array([rho]), before, after))
    found = [left] * (before < np.inf) + [right] * (after < np.inf)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert sd**2 == pytest.approx(1 - expected @ R[1:, 0], abs=1e-9)
    assert np.isfinite([left, right, sd]).all()


# ---- laplace against normal densities ----------------------------------------------------------


def weights(frame: pd.DataFrame, name: str, b_w: float | None) -> Array:
    """Weights of the memberships of the block with the process."""
    n = frame.groupby("gid")["gid"].transform("size").to_numpy(float)
    if name == "sums":
        return np.ones(len(frame))
    if b_w is None:
        return 1 / n
    raw = pd.Series(n ** -np.exp(-b_w * frame["q"].to_numpy()), index=frame.index)
    return (raw / raw.groupby(frame["gid"]).transform("sum")).to_numpy()


def by_groups(frame: pd.DataFrame, values: Array) -> Array:
    """(J, M) matrix that adds values of memberships up to groups."""
    groups = sorted(frame["gid"].unique())
    return (np.array(groups)[:, None] == frame["gid"].to_numpy()[None, :]) * values


def marginal(model: Model, name: str, values: dict[str, Array], s: int) -> float:
    """Log density of the outcome, all coefficients and effects integrated out."""
    frame = model.grouped.frame
    y = frame.groupby("gid", sort=True)["y"].first().to_numpy()
    suffix = "_now" if name == "two" else ""
    rho, sigma = (values[f"{k}_l1{suffix}"][s, 0] for k in ("rho", "sigma"))
    b_w = values["b_w"][s, 0] if "b_w" in values else None
    W = by_groups(frame, weights(frame, name, b_w))
    same = frame["pid"].to_numpy()[:, None] == frame["pid"].to_numpy()[None, :]
    apart = np.abs(np.subtract.outer(frame["year"].to_numpy(), frame["year"].to_numpy()))
    cov = sigma**2 * W @ (same * rho**apart) @ W.T + values["sigma_l2"][s, 0] ** 2 * np.eye(len(y))
    if name == "two":
        V = by_groups(frame, frame["q"].to_numpy() ** 2)
        cov += values["sigma_l1_always"][s, 0] ** 2 * V @ same @ V.T
    (alpha,), (slope,) = model.priors.elements["alpha"], model.priors.elements[f"b_l1{suffix}"]
    column = W @ frame["x"].to_numpy() - model.design.members[0].b_center[0]
    cov += alpha.hyper["scale"] ** 2 + slope.hyper["scale"] ** 2 * np.outer(column, column)
    mean = np.full(len(y), alpha.hyper["location"])
    return float(stats.multivariate_normal.logpdf(y, mean, cov))


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_normal_outcome_has_its_marginal_density(name: str, irregular: bool) -> None:
    """By SciPy's multivariate normal to 1e-8; kernels and NumPy agree to 1e-9."""
    model = prepare(FORMULAS[name], governments(irregular=irregular))
    latent = latent_model(model.spec, model.design, model.priors)
    integrand = Integrand(latent)
    theta = np.abs(np.random.default_rng(5).normal(size=(4, len(latent.hyper))))
    theta[1] *= [-1 if h.name.startswith("rho") else 1 for h in latent.hyper]
    values = to_values(theta, latent.hyper)
    ours = integrand.inner(values, len(theta)).value
    for s in range(len(theta)):
        assert ours[s] == pytest.approx(marginal(model, name, values, s), rel=1e-8)
    compiled = integrals_of(integrand, compiled_pattern(integrand))
    if compiled is not None:
        found = compiled.integrals(theta, None, EXACTLY)
        np.testing.assert_allclose(found.value, ours, rtol=1e-9)
        np.testing.assert_allclose(found.prior, log_prior(theta, latent.hyper), rtol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_binary_outcomes_have_the_same_integrals_by_kernels(name: str, table: pd.DataFrame) -> None:
    binary = table.assign(y=(table["y"] > table["y"].median()).astype(int))
    model = prepare(FORMULAS[name], binary, find_family("binomial", {}))
    latent = latent_model(model.spec, model.design, model.priors)
    integrand = Integrand(latent)
    theta = np.abs(np.random.default_rng(6).normal(size=(3, len(latent.hyper))))
    ours = integrand.inner(to_values(theta, latent.hyper), 3).value
    assert np.isfinite(ours).all()
    compiled = integrals_of(integrand, compiled_pattern(integrand))
    if compiled is not None:
        found = compiled.integrals(theta, None, EXACTLY).value
        np.testing.assert_allclose(found, ours, rtol=1e-9)


def at(model: Model, **values: float) -> float:
    """Log density of the outcome at standard deviations and a correlation."""
    integrand = Integrand(latent_model(model.spec, model.design, model.priors))
    given = {name: np.array([[value]]) for name, value in values.items()}
    return float(integrand.inner(given, 1).value[0])


SERIES = "y ~ 0 + mm(id(pid, gid), RE = TRUE, ar = ar1(year))"


def one_series(count: int = 60, missing: bool = True) -> pd.DataFrame:
    """One member alone in its groups, so that its effects are a series with noise."""
    rng = np.random.default_rng(3)
    u = np.zeros(count)
    for t in range(1, count):
        u[t] = 0.8 * u[t - 1] + 0.6 * rng.normal()
    out = pd.DataFrame({"gid": range(count), "pid": "a", "year": range(count), "y": u})
    out["y"] += 0.5 * rng.normal(size=count)
    return out[rng.uniform(size=count) > 0.4] if missing else out


@pytest.mark.parametrize("missing", [True, False])
def test_statsmodels_has_the_same_likelihood_of_a_series_with_gaps(missing: bool) -> None:
    """SARIMAX with AR(1), measurement error and missing values: to 1e-8; the maximum, too."""
    statespace = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
    table = one_series(missing=missing)
    full = table.set_index("year")["y"].reindex(range(table["year"].max() + 1))
    theirs = statespace.SARIMAX(full.to_numpy(), order=(1, 0, 0), measurement_error=True)
    model = prepare(SERIES, table)
    integrand = Integrand(latent_model(model.spec, model.design, model.priors))

    def ours(rho: float, noise: float, innovation: float) -> float:
        values = {
            "rho_l1": np.array([[rho]]),
            "sigma_l1": np.array([[np.sqrt(innovation / (1 - rho**2))]]),
            "sigma_l2": np.array([[np.sqrt(noise)]]),
        }
        return float(integrand.inner(values, 1).value[0])

    points = [(0.8, 0.25, 0.36), (0.2, 0.5, 1.0), (0.97, 0.1, 0.05)]
    for rho, noise, innovation in points:
        expected = theirs.loglike([rho, noise, innovation])
        assert ours(rho, noise, innovation) == pytest.approx(expected, rel=1e-8)
    best = theirs.fit(disp=False, method="bfgs", maxiter=200, gtol=1e-8)
    rho, noise, innovation = best.params
    assert 0.4 < rho < 0.99
    for step in (1e-3, -1e-3):  # no better point next to theirs
        assert ours(rho + step, noise, innovation) < ours(rho, noise, innovation)
        assert ours(rho, noise + step, innovation) < ours(rho, noise, innovation)
        assert ours(rho, noise, innovation + step) < ours(rho, noise, innovation)


def test_a_correlation_of_0_makes_effects_of_times_independent(table: pd.DataFrame) -> None:
    each = table.assign(pid=table["pid"] + "_" + table["year"].astype(str))
    plain = "y ~ 1 + mm(id(pid, gid), vars(x), RE = TRUE)"
    priors = ["sigma_l1 ~ half_normal(1)"]
    ours = at(prepare(PLAIN, table, priors=[*priors, "rho_l1 <- 0"]), sigma_l1=0.7, sigma_l2=0.5)
    theirs = at(prepare(plain, each, priors=priors), sigma_l1=0.7, sigma_l2=0.5)
    assert ours == pytest.approx(theirs, rel=1e-10)
    near = at(prepare(PLAIN, table, priors=priors), sigma_l1=0.7, sigma_l2=0.5, rho_l1=1e-12)
    assert near == pytest.approx(theirs, rel=1e-9)


def test_a_correlation_of_almost_1_makes_effects_constant(table: pd.DataFrame) -> None:
    plain = prepare("y ~ 1 + mm(id(pid, gid), vars(x), RE = TRUE)", table)
    ours = at(prepare(PLAIN, table), sigma_l1=0.7, sigma_l2=0.5, rho_l1=1 - 1e-12)
    assert ours == pytest.approx(at(plain, sigma_l1=0.7, sigma_l2=0.5), rel=1e-8)


# ---- after the fit -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit(table: pd.DataFrame) -> rmm.Fit:
    return rmm.fit(PLAIN, table, backend="laplace", seed=1)


@pytest.fixture(scope="module")
def held(table: pd.DataFrame) -> rmm.Fit:
    """All standard deviations and the correlation are known: the posterior is normal."""
    priors = ["rho_l1 <- 0.7", "sigma_l1 <- 0.9", "sigma_l2 <- 0.4"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(PLAIN, table, backend="laplace", priors=priors, draws=4000, seed=1)


def drawn(fit: rmm.Fit, name: str) -> Array:
    values = fit.draws["posterior"][name].to_numpy()
    return np.asarray(values.reshape(-1, *values.shape[2:]))


def conditional(fit: rmm.Fit, who: list[str], when: list[float]) -> tuple[Array, Array]:
    """Mean and covariance of effects at other times given the outcomes, by dense algebra."""
    frame, model = fit.model.grouped.frame, fit.model
    pid, year = frame["pid"].to_numpy(), frame["year"].to_numpy()
    every, times = np.append(pid, who), np.append(year, when)
    R = 0.9**2 * (every[:, None] == every[None, :]) * 0.7 ** np.abs(np.subtract.outer(times, times))
    count = len(pid)
    W = by_groups(frame, weights(frame, "plain", None))
    (alpha,), (slope,) = model.priors.elements["alpha"], model.priors.elements["b_l1"]
    column = W @ frame["x"].to_numpy() - model.design.members[0].b_center[0]
    V = W @ R[:count, :count] @ W.T + 0.4**2 * np.eye(len(W)) + alpha.hyper["scale"] ** 2
    V += slope.hyper["scale"] ** 2 * np.outer(column, column)
    gain = R[count:, :count] @ W.T @ np.linalg.inv(V)
    y = frame.groupby("gid", sort=True)["y"].first().to_numpy() - alpha.hyper["location"]
    return gain @ y, R[count:, count:] - gain @ W @ R[:count, count:]


def predicted(fit: rmm.Fit, new: pd.DataFrame, effects: str) -> Array:
    """(S, groups) linear predictors, without the intercept; groups in the order of their ids."""
    found = fit.predict(new, "linear", effects=effects, new=True, draws=True)
    eta = found.sortby("group").to_numpy().reshape(-1, found.sizes["group"])
    return eta - drawn(fit, "b_l2")


def test_effects_at_new_times_are_those_of_dense_algebra(held: rmm.Fit) -> None:
    """Means within 4.5 standard errors of 16,000 draws, covariances within 5%: no false alarm in
    10,000. Times before, between, at and after those of the fit, and a new member.
    """
    who = ["p00", "p00", "p00", "p00", "p03", "new", "new"]
    when = [-1.5, 4.4, 4.6, 13.0, 4.0, 1.0, 2.0]
    new = pd.DataFrame({"gid": [f"n{k}" for k in range(7)], "pid": who, "year": when, "x": 0.0})
    new = new.sample(frac=1, random_state=2)
    effects = predicted(held, new, "all")
    mean, cov = conditional(held, who, when)
    sd = np.sqrt(np.diag(cov))
    error = sd / np.sqrt(len(effects))
    assert (np.abs(effects.mean(axis=0) - mean) < 4.5 * error).all()
    np.testing.assert_allclose(np.cov(effects.T), cov, atol=0.05 * sd.max() ** 2)
    expected = predicted(held, new, "known")
    assert (np.abs(expected.mean(axis=0) - mean) < 4.5 * error).all()
    np.testing.assert_allclose(expected[:, 5:], 0.0, atol=1e-12)
    alone = predicted(held, new[new["gid"] == "n4"], "all")
    np.testing.assert_array_equal(alone[:, 0], effects[:, 4])
    own = held.model.design.members[0].series
    assert own is not None
    place = int(np.flatnonzero((own.member == 3) & (own.time == 4.0))[0])
    np.testing.assert_allclose(effects[:, 4], drawn(held, "u_l1")[:, place], atol=1e-10)


def test_groups_in_order_come_after_those_of_the_fit(table: pd.DataFrame) -> None:
    """`ar1()`: the next group of a member is one unit of time after its last one."""
    formula = PLAIN.replace("year", "")
    priors = ["rho_l1 <- 0.7", "sigma_l1 <- 0.9", "sigma_l2 <- 0.4"]
    fit = rmm.fit(formula, table, backend="laplace", priors=priors, seed=1)
    new = pd.DataFrame({"gid": ["n1", "n2"], "pid": ["p00", "p00"], "x": 0.0})
    found, own = predicted(fit, new, "known"), fit.model.design.members[0].series
    assert own is not None
    last = drawn(fit, "u_l1")[:, np.flatnonzero(own.member == 0)[-1]]
    np.testing.assert_allclose(found, np.column_stack([0.7 * last, 0.49 * last]), atol=1e-10)
    effects = fit.member_effects()
    assert list(effects.columns[:3]) == ["member", "order", "mean"]
    assert effects["order"].to_list() == list(own.time)


def test_rows_of_member_effects(fit: rmm.Fit, table: pd.DataFrame) -> None:
    effects = fit.member_effects()
    assert list(effects.columns[:3]) == ["member", "time", "mean"]
    pairs = sorted(set(zip(table["pid"], table["year"], strict=True)))
    assert list(zip(effects["member"], effects["time"], strict=True)) == pairs
    assert effects.index[0] == f"{pairs[0][0]}, {pairs[0][1]:g}"
    assert "rho_l1" in fit.summary().index


def test_predictor_of_the_fit_is_that_of_the_model(fit: rmm.Fit) -> None:
    frame = fit.model.grouped.frame
    effects = fit.member_effects().set_index(["member", "time"])["mean"]
    rows = effects.loc[list(zip(frame["pid"], frame["year"], strict=True))].to_numpy()
    each = rows + drawn(fit, "b_l1").mean() * frame["x"].to_numpy()
    W = by_groups(frame, weights(frame, "plain", None))
    expected = drawn(fit, "b_l2").mean() + W @ each
    found = fit.predict(kind="linear")
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-6)


def test_shares_do_not_depend_on_time(fit: rmm.Fit, table: pd.DataFrame) -> None:
    size = table.groupby("gid").size()
    expected = drawn(fit, "sigma_l1") ** 2 * (1 / size).mean()
    found = fit.variance_components()["variance"]["mean"]
    assert found["members"] == pytest.approx(expected.mean())


def test_groups_are_left_out_one_by_one(fit: rmm.Fit) -> None:
    """Exact leave-one-out densities of a normal outcome at known parameters, and refits.

    Nine refits within 4 Monte Carlo errors: false alarm below 0.1%.
    """
    table = governments(groups=25, parties=8)
    priors = ["rho_l1 <- 0.7", "sigma_l1 <- 0.9", "sigma_l2 <- 0.4", "b_l1 <- 0.5"]
    fitted = rmm.fit(PLAIN, table, backend="laplace", priors=priors, seed=1)
    frame, alpha = fitted.model.grouped.frame, fitted.model.priors.elements["alpha"][0]
    W = by_groups(frame, weights(frame, "plain", None))
    year, pid = frame["year"].to_numpy(), frame["pid"].to_numpy()
    R = 0.9**2 * (pid[:, None] == pid) * 0.7 ** np.abs(np.subtract.outer(year, year))
    V = W @ R @ W.T + 0.16 * np.eye(25) + alpha.hyper["scale"] ** 2
    y = frame.groupby("gid", sort=True)["y"].first().to_numpy() - 0.5 * W @ frame["x"].to_numpy()
    precision = np.linalg.inv(V)
    z = precision @ (y - alpha.hyper["location"]) / np.diag(precision)
    exact = stats.norm.logpdf(z, 0, np.diag(precision) ** -0.5)
    refits = Refits(fitted.model, fitted.program, fitted.settings, "laplace")
    for unit in range(0, 25, 3):
        run = refits.without(unit)
        each = log_likelihood(fitted.model, run)[:, unit]
        found = logsumexp(each) - np.log(len(each))
        error = np.exp(each - found).std() / np.sqrt(len(each))
        assert abs(found - exact[unit]) < 4 * error, (found, exact[unit], error)
    assert fitted.loo().elpd == pytest.approx(exact.sum(), abs=2.0)


def test_contrasts_and_averages(fit: rmm.Fit, table: pd.DataFrame) -> None:
    """Times are known, so that members can leave a group; a changed time changes no effect."""
    group = table["gid"].value_counts().index[0]
    rows = table[table["gid"] == group]
    gone = rows["pid"].iloc[0]
    found = fit.estimand("contrast", group=group, without=[gone], scale="linear")
    effects = fit.member_effects().set_index(["member", "time"])["mean"]
    own = effects.loc[list(zip(rows["pid"], rows["year"], strict=True))].to_numpy()
    own = own + drawn(fit, "b_l1").mean() * rows["x"].to_numpy()
    stay = (rows["pid"] != gone).to_numpy()
    change = found["mean"].iloc[-1] if "mean" in found else float(found.iloc[-1, 0])
    assert change == pytest.approx(own[stay].mean() - own.mean(), abs=1e-8)
    order = rmm.fit(PLAIN.replace("year", ""), table, backend="fake", draws=20, warmup=5, seed=1)
    with pytest.raises(BackendError, match="random walks or `ar = ar1\\(\\)`"):
        order.estimand("contrast", group=group, without=[gone])
    with pytest.raises(BackendError, match="a member has different effects in its groups"):
        fit.estimand("rank")
    timed = "y ~ 1 + year + mm(id(pid, gid), vars(x), RE = TRUE, ar = ar1(year))"
    with_time = rmm.fit(timed, table, backend="laplace", seed=1)
    moved = with_time.estimand("marginal_effect", variable="year", scale="linear")
    slope = drawn(with_time, "b_l2")[:, 1].mean()
    assert float(moved["mean"].iloc[-1]) == pytest.approx(slope, rel=1e-6)


def test_a_saved_fit_comes_back(fit: rmm.Fit, tmp_path: Path) -> None:
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.member_effects(), fit.member_effects())
    new = pd.DataFrame({"gid": ["n"], "pid": ["p00"], "year": [4.5], "x": [0.0]})
    pd.testing.assert_frame_equal(again.predict(new), fit.predict(new))
    assert "AR(1) process in time (`year`)" in str(fit.report())
    assert fit.conditional_effects("x") is not None
    assert fit.conditional_effects("x", effects="all") is not None


def test_prior_draws_have_the_covariance_of_the_process(table: pd.DataFrame) -> None:
    """20,000 draws: correlations within .05, 6 standard errors or more."""
    model = prepare(PLAIN, table, priors=["rho_l1 <- 0.7", "sigma_l1 <- 2"])
    found = draw_parameters(model, 20_000, np.random.default_rng(1))
    series = model.design.members[0].series
    assert series is not None
    own = np.flatnonzero(series.member == 0)[:5]
    expected = 0.7 ** np.abs(np.subtract.outer(series.time[own], series.time[own]))
    np.testing.assert_allclose(np.corrcoef(found["u_l1"][:, own].T), expected, atol=0.05)
    np.testing.assert_allclose(found["u_l1"].std(axis=0), 2.0, rtol=0.05)
    assert rmm.prior_predictive(PLAIN, table, draws=20, seed=1).outcome is not None


# ---- simulation --------------------------------------------------------------------------------

RECIPE: dict[str, Any] = {
    "membership": {
        "kind": "synthetic",
        "groups": 80,
        "members": 12,
        "size": 3,
        "member": "pid",
        "group": "gid",
    },
    "covariates": {
        "x": {"level": "membership"},
        "year": {"level": "group", "distribution": "binary"},
    },
    "seed": 6,
}
TRUTH = {"b_l2[Intercept]": 1, "b_l1[x]": 0.5, "rho_l1": 0.8, "sigma_l1": 1.0, "sigma_l2": 0.5}


def recipe(formula: str = PLAIN, **changes: Any) -> Any:
    return prepare_recipe(
        {
            "membership": {**RECIPE["membership"], **changes},
            "covariates": RECIPE["covariates"],
            "truth": {"formula": formula, "family": "gaussian", "parameters": TRUTH},
        },
        Path("."),
    )


@pytest.mark.parametrize("time", ["year", ""])
def test_simulated_effects_have_the_covariance(time: str) -> None:
    """3,000 members at their first times: covariances within 5 standard errors."""
    made = recipe(PLAIN.replace("year", time), members=3_000, groups=6_000, size=2)
    rng = np.random.default_rng(8)
    data = draw(made, draw_fixed(made, lambda part: rng), rng)
    frame = data.frame().assign(u=data.effects["u_l1"])
    if time:
        pairs = frame.groupby(["pid", "year"])["u"].agg(["nunique", "first"])
        assert (pairs["nunique"] == 1).all()
        assert len(pairs) < len(frame)
        u = pairs["first"].unstack().dropna().to_numpy()
    else:
        order = frame.sort_values("gid").groupby("pid").cumcount()
        u = frame.assign(order=order).pivot(index="pid", columns="order", values="u")
        u = u[[0, 1, 2]].dropna().to_numpy()
    known = 0.8 ** np.abs(np.subtract.outer(np.arange(u.shape[1]), np.arange(u.shape[1])))
    error = np.sqrt((1 + known**2) / len(u))
    assert len(u) > 500
    assert (np.abs(np.cov(u.T) - known) < 5 * error).all()


def test_bad_correlations_of_simulations_are_refused() -> None:
    with pytest.raises(RecipeError, match="It must be between 0 and 1"):
        simulate(PLAIN, {**TRUTH, "rho_l1": 1.2}, **RECIPE)


@pytest.mark.parity
def test_simulated_truths_come_back() -> None:
    """|z| < 4 of 5 parameters: false alarm below 0.1%."""
    size = {**RECIPE["membership"], "groups": 600, "members": 60}
    frame = simulate(PLAIN, TRUTH, **{**RECIPE, "membership": size}).data
    summary = rmm.fit(PLAIN, frame, backend="laplace", seed=2).summary()
    z = (summary["mean"] - pd.Series(TRUTH)) / summary["sd"]
    assert (z.abs() < 4).all(), summary


# ---- engines -----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("plain", "gaussian"),
        ("estimated", "gaussian"),
        ("two", "gaussian"),
        ("sums", "binomial"),
        ("plain", "poisson"),
    ],
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_engines_agree(name: str, family: str) -> None:
    """Three engines, means within 4 Monte Carlo errors: false alarm of all 80 comparisons .5%."""
    frame = governments(groups=100, irregular=name == "plain")
    if family == "binomial":
        frame = frame.assign(y=(frame["y"] > 1).astype(int))
    if family == "poisson":
        frame = frame.assign(y=np.floor(np.exp(frame["y"].clip(-3, 3))).astype(int))
    settings: dict[str, dict[str, Any]] = {
        "laplace": {"ess": 4000, "draws": 2000},
        "stan": {"warmup": 700, "draws": 2000},
        "jags": {"warmup": 3000, "draws": 4000, "thin": 10},
    }
    found = {
        b: rmm.fit(FORMULAS[name], frame, family, backend=b, seed=2, progress=False, **s).summary()
        for b, s in settings.items()
    }
    for other in ("stan", "jags"):
        a, b = found["laplace"], found[other]
        z = (a["mean"] - b["mean"]) / np.hypot(a["mcse_mean"], b["mcse_mean"])
        assert (z.abs() < 4).all(), pd.concat([a, b, z], axis=1)
        assert (a["sd"] / b["sd"]).between(1 / 1.2, 1.2).all(), pd.concat([a, b], axis=1)
