"""Ordered levels: likelihoods against SciPy, programs against NumPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_ordinal.py`` rewrites the golden texts.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import rmm
from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.laplace.hyperparameters import from_values, log_prior, to_values
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.run import run
from rmm.families import find_family
from rmm.families.ordinal import with_levels
from rmm.posterior.prior_draws import draw_parameters
from tests.coalitions import made_up_coalitions
from tests.family_cases import MIXED, check_golden, mixed_eta, mixed_log_prior, quiet

LINKS = ("logit", "probit")
LAWS = {"logit": stats.logistic, "probit": stats.norm}
FORMULA = "grade ~ 1 + "
TAU = np.array([-1.2, 0.1, 0.9])
NAMES = ["poor", "fair", "good", "excellent"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Of 240 groups: `grade`, a level from 1 to 4, and `word`, the same as an ordered category."""
    table = made_up_coalitions(groups=240, seed=4)
    group = table.groupby("gid").ngroup().to_numpy()
    noise = np.random.default_rng(1).logistic(size=240)[group]
    grade = 1 + np.digitize(1.5 * (table["y"] - 1) + noise, TAU)
    word = pd.Categorical.from_codes(grade - 1, NAMES, ordered=True)
    return table.assign(grade=grade, word=word)


def family_of(link: str) -> Any:
    return find_family("ordinal", {"link": link})


def outcome_of(levels: Any) -> Any:
    return find_family("ordinal").read_outcome("y", (np.asarray(levels, dtype=float),), None)


def log_probability(link: str, eta: Any, tau: Any, level: Any) -> Any:
    """By SciPy's distribution functions; `level` from 1."""
    ends = np.concatenate([[-np.inf], tau, [np.inf]])
    low, high = ends[level - 1] - eta, ends[level] - eta
    law = LAWS[link]
    return np.log(
        np.where(low + high < 0, law.cdf(high) - law.cdf(low), law.sf(low) - law.sf(high))
    )


# ---- the likelihood ----------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
def test_likelihood_probabilities_mean_and_draws_are_scipys(link: str) -> None:
    family, level = family_of(link), np.array([1, 2, 3, 4, 4])
    outcome = outcome_of(level)
    eta = np.array([[-2.0, 0.3, 2.0, 3.5, -1.0], [0.0, 1.0, -1.5, 4.0, 0.5]])
    values = {"tau": np.array([TAU, TAU + 0.5])}
    found = family.log_likelihood(eta, values, outcome)
    known = [log_probability(link, eta[s], values["tau"][s], level) for s in range(2)]
    np.testing.assert_allclose(found, known, rtol=1e-9)
    shares = family.probabilities(eta, values, outcome)
    np.testing.assert_allclose(shares.sum(axis=2), 1, rtol=1e-12)
    for k in range(4):
        every = [log_probability(link, eta[s], values["tau"][s], k + 1) for s in range(2)]
        np.testing.assert_allclose(shares[:, :, k], np.exp(every), rtol=1e-9)
    np.testing.assert_allclose(family.mean(eta, values, outcome), shares @ [1.0, 2, 3, 4])
    count = 40_000
    many = {"tau": np.repeat(values["tau"][:1], count, axis=0)}
    draws = family.draw(np.repeat(eta[:1], count, axis=0), many, outcome, np.random.default_rng(2))
    for k in range(4):
        p = shares[0, :, k]
        error = np.sqrt(p * (1 - p) / count)
        assert (np.abs((draws == k + 1).mean(axis=0) - p) < 4.8 * error).all()  # 20 at 1.6e-6 each


@pytest.mark.parametrize("link", LINKS)
def test_tails_keep_their_digits(link: str) -> None:
    """At predictors where differences of distribution functions round to 0 or 1."""
    family, outcome = family_of(link), outcome_of([1, 2, 3, 4])
    law = LAWS[link]
    for eta in (-30.0, 30.0):
        found = family.log_likelihood(np.full((1, 4), eta), {"tau": TAU[None]}, outcome)[0]
        low = np.array([-np.inf, *TAU]) - eta
        high = np.array([*TAU, np.inf]) - eta
        # log(F(high) - F(low)) from the logs on the side where they are small
        a, b = (law.logcdf(high), law.logcdf(low)) if eta > 0 else (law.logsf(low), law.logsf(high))
        np.testing.assert_allclose(found, a + np.log1p(-np.exp(b - a)), rtol=1e-9)
        curvature = family.curvature(np.full((1, 4), eta), {"tau": TAU[None]}, outcome)
        assert np.isfinite(curvature.gradient).all()
        assert (curvature.weight >= 0).all()


@pytest.mark.parametrize("link", LINKS)
def test_two_levels_are_binomial(link: str) -> None:
    """P(y = 1 of 0, 1) = F(eta - tau): the intercept is minus the threshold."""
    family, eta = family_of(link), np.array([[-2.0, 0.3, 1.1, 4.0]])
    codes = np.array([0, 1, 1, 0])
    outcome = with_levels(codes, np.arange(2))
    found = family.log_likelihood(eta, {"tau": np.array([[0.7]])}, outcome)
    p = LAWS[link].cdf(eta - 0.7)
    np.testing.assert_allclose(found, stats.bernoulli.logpmf(codes, p), rtol=1e-10)
    if link == "logit":
        binomial = find_family("binomial")
        known = binomial.read_outcome("y", (codes.astype(float),), None)
        ours = family.curvature(eta, {"tau": np.array([[0.7]])}, outcome)
        theirs = binomial.curvature(eta - 0.7, {}, known)
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)
        np.testing.assert_allclose(ours.gradient, theirs.gradient, rtol=1e-12)
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-12)


def test_two_levels_have_the_posterior_of_binomial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits refuse two levels; without that check `tau` is minus the intercept."""
    monkeypatch.setattr("rmm.families.ordinal._LEAST", 2)
    rng = np.random.default_rng(3)
    x = rng.normal(2, 1, 300)
    data = pd.DataFrame({"x": x, "y": (rng.logistic(size=300) < x - 1.5).astype(int)})
    same = {"default": "weakly_informative", "b_l2[x]": "normal(0, 2)"}
    options: dict[str, Any] = {"backend": "laplace", "seed": 1, "ess": 2000, "progress": False}
    one = rmm.fit("y ~ 1 + x", data, "ordinal", priors={**same, "tau": "normal(0, 3)"}, **options)
    two = rmm.fit(
        "y ~ 1 + x", data, "binomial", priors={**same, "b_l2[Intercept]": "normal(0, 3)"}, **options
    )
    a, b = one.summary(), two.summary()
    pairs = [("tau[0|1]", "b_l2[Intercept]", -1), ("b_l2[x]", "b_l2[x]", 1)]
    for ours, theirs, sign in pairs:
        error = np.hypot(a["mcse_mean"][ours], b["mcse_mean"][theirs])
        assert abs(a["mean"][ours] - sign * b["mean"][theirs]) < 4.5 * error
        assert a["sd"][ours] == pytest.approx(b["sd"][theirs], rel=0.1)
    # The evidence has all constants: it is the same number.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [float(fit.log_evidence()) for fit in (one, two)]
    assert found[0] == pytest.approx(found[1], abs=0.06)  # errors of .01 each


# ---- priors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
def test_default_prior_makes_all_probabilities_equally_likely(link: str) -> None:
    """Probabilities of five levels are as of a flat Dirichlet distribution: mean and sd."""
    data = pd.DataFrame({"y": np.arange(50) % 5, "x": np.linspace(0, 1, 50)})
    model = quiet("y ~ 1 + x", data, "ordinal" if link == "logit" else family_of(link))
    count = 100_000
    draws = draw_parameters(model, count, np.random.default_rng(1))
    assert (np.diff(draws["tau"], axis=1) > 0).all()
    at_centre = draws["tau"] - draws["b_l2"] * 0.5
    family, outcome = model.spec.family, model.design.outcome
    shares = family.probabilities(np.zeros((count, 1)), {"tau": at_centre}, outcome)[:, 0]
    # 4.5 errors of a mean, and the approximation of the logistic by a t distribution
    np.testing.assert_allclose(shares.mean(axis=0), 0.2, atol=4.5 * 0.163 / 316 + 0.004)
    np.testing.assert_allclose(shares.std(axis=0), np.sqrt(0.2 * 0.8 / 6), atol=0.006)


def test_density_of_thresholds_is_that_of_sorted_draws(table: pd.DataFrame) -> None:
    """It integrates to 1 over the ordered thresholds, on the scale on which laplace samples."""
    model = quiet("grade ~ 1", table[table["grade"] < 4], "ordinal", priors=["tau ~ normal(0, 2)"])
    hyper = latent_model(model.spec, model.design, model.priors).hyper
    assert len(hyper) == 2

    def density(b: float, a: float) -> float:
        return float(np.exp(log_prior(np.array([[a, b]]), hyper)[0]))

    total, _ = integrate.dblquad(density, -12, 12, -20, 6, epsabs=1e-7)
    assert total == pytest.approx(1, abs=1e-4)
    theta = from_values({"cut": np.array([-0.4, 1.3])}, hyper)
    np.testing.assert_allclose(to_values(theta[None], hyper)["cut"][0], [-0.4, 1.3], rtol=1e-12)
    # 2! times both densities, and the derivative of the second threshold in its log distance
    known = np.log(2) + stats.norm(0, 2).logpdf([-0.4, 1.3]).sum() + np.log(1.7)
    assert log_prior(theta[None], hyper)[0] == pytest.approx(known)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("tau[1|2] ~ normal(0, 1)", r"`tau\[1\|2\] ~ normal\(0, 1\)`: all thresholds `tau` have"),
        ("tau ~ half_normal(1)", "one prior, that of sorted draws, and it is normal or student_t"),
        ("tau = 1", "all thresholds `tau` have one prior"),
        ("b_l2[Intercept] ~ normal(0, 1)", "has no element `Intercept`"),
    ],
)
def test_priors_that_thresholds_cannot_have(prior: str, message: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.PriorError, match=message):
        quiet(FORMULA + "z", table, "ordinal", priors=[prior])


# ---- programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
def test_golden_texts(link: str, table: pd.DataFrame) -> None:
    name = "ordinal" if link == "logit" else f"ordinal_{link}"
    check_golden(name, quiet(FORMULA + MIXED, table, family_of(link)))


@pytest.mark.parametrize("text", ["Ordinal", "cumulative", "polr", "clmm", "ordered logit"])
def test_synonyms(text: str) -> None:
    assert find_family(text).name == "ordinal"


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("link", LINKS)
def test_stan_density(link: str, table: pd.DataFrame) -> None:
    """Stan's `lp__` differs from SciPy's density by one constant at all draws."""
    model = quiet(FORMULA + MIXED, table, family_of(link), priors=["tau ~ normal(0.5, 2)"])
    spec, forms, values = model.spec, model.priors.forms, prior_values(model)
    starts = [stan.initial(spec, forms, values, v) for v in initial_values(model, 1, 3)]
    settings = Settings(chains=1, warmup=100, draws=25, seed=3, cores=1)
    text = stan.write(spec, forms)
    fitted = run(text, stan.data(spec, model.design, values), starts, settings)
    level = model.design.outcome["level"]
    ours = []
    for i in range(25):
        draw = {k: v[0, i] for k, v in fitted.draws.items()}
        cut = draw["cut"]
        total = mixed_log_prior(model, draw) + stats.norm(0.5, 2).logpdf(cut).sum()
        total += np.log(np.diff(cut)).sum()  # Stan samples the logs of these
        ours.append(total + log_probability(link, mixed_eta(model, draw), cut, level).sum())
    theirs = fitted.sample_stats["lp"][0]
    assert np.ptp(ours) > 1, "the draws differ"
    np.testing.assert_allclose(theirs - theirs[0], np.array(ours) - ours[0], atol=1e-6)


# ---- fits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
def test_regression_is_that_of_statsmodels(link: str) -> None:
    """In a large sample the posterior is normal about the maximum of the likelihood.

    Means and modes differ by terms of order 1/n, here by less than a tenth of an sd, and by the
    Monte Carlo error of 2,000 effective draws, .022 sd.
    """
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    rng, n = np.random.default_rng(8), 3000
    data = pd.DataFrame({"x": rng.normal(3, 1, n), "z": rng.integers(0, 2, n)})
    noise = LAWS[link].rvs(size=n, random_state=rng)
    data["y"] = np.digitize(0.7 * data["x"] - 0.6 * data["z"] + noise, [0.5, 1.5, 2.0, 3.5])
    known = OrderedModel(data["y"], data[["x", "z"]], distr=link).fit(method="bfgs", disp=0)
    taus = known.model.transform_threshold_params(known.params)[1:-1]
    fit = rmm.fit(
        "y ~ 1 + x + z",
        data,
        "ordinal",
        link=link,
        priors="rmm",
        backend="laplace",
        ess=2000,
        seed=2,
        progress=False,
    )
    found = fit.summary()
    assert list(found.index) == [*(f"tau[{k}|{k + 1}]" for k in range(4)), "b_l2[x]", "b_l2[z]"]
    wanted = np.concatenate([taus, known.params.iloc[:2]])
    away = (found["mean"] - wanted) / found["sd"]
    assert (away.abs() < 0.2).all(), away
    np.testing.assert_allclose(found["sd"].iloc[4:], known.bse.iloc[:2], rtol=0.08)
    # The first threshold is a parameter of statsmodels, too; the others are sums of exponentials.
    assert found["sd"].iloc[0] == pytest.approx(known.bse.iloc[2], rel=0.08)


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("other", ["stan", "jags"])
def test_engines_agree(other: str, table: pd.DataFrame) -> None:
    """Means within 4.5 combined errors, sds within 20%, with estimated weights."""
    options: dict[str, Any] = {"seed": 11, "progress": False, "monitor": "structural"}
    chains = {"stan": {"draws": 1000}, "jags": {"draws": 1500, "thin": 4, "warmup": 1000}}[other]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = rmm.fit(FORMULA + MIXED, table, "ordinal", backend=other, **chains, **options)
        two = rmm.fit(FORMULA + MIXED, table, "ordinal", backend="laplace", ess=2000, **options)
    a, b = one.summary(), two.summary()
    assert list(a.index) == list(b.index)
    assert (a["rhat"] < 1.03).all(), a
    z = (a["mean"] - b["mean"]).abs() / np.hypot(a["mcse_mean"], b["mcse_mean"])
    assert (z < 4.5).all(), pd.DataFrame({other: a["mean"], "laplace": b["mean"], "z": z})
    assert (a["sd"] / b["sd"]).between(1 / 1.2, 1.2).all()


@pytest.fixture(scope="module")
def fit(table: pd.DataFrame) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            FORMULA.replace("grade", "word") + MIXED,
            table,
            "ordinal",
            backend="laplace",
            seed=1,
            progress=False,
        )


def test_levels_of_a_category_name_the_thresholds(fit: Any) -> None:
    names = [name for name in fit.summary().index if name.startswith("tau")]
    assert names == ["tau[poor|fair]", "tau[fair|good]", "tau[good|excellent]"]
    assert (np.diff(fit.draws["posterior"]["tau"].to_numpy(), axis=2) > 0).all()
    assert (fit.summary().loc[names, "contraction"] > 0.5).all()


def test_predictions(fit: Any, table: pd.DataFrame) -> None:
    """Probabilities by group and level; a mean and an outcome that count levels from 1."""
    shares = fit.predict(kind="probability")
    assert shares.index.names == ["group", "level"]
    assert list(shares.index.get_level_values("level")[:4]) == NAMES
    np.testing.assert_allclose(shares["mean"].groupby(level="group").sum(), 1, rtol=1e-12)
    draws = fit.predict(kind="probability", draws=True)
    assert draws.dims == ("chain", "draw", "group", "level")
    assert list(draws["level"].to_numpy()) == NAMES
    # Each level's probability is, on average over groups, about its share in the data.
    found = draws.mean(("chain", "draw", "group")).to_numpy()
    np.testing.assert_allclose(
        found,
        table.groupby("gid")["word"].first().value_counts(normalize=True, sort=False),
        atol=0.02,
    )
    mean = fit.predict(draws=True)
    np.testing.assert_allclose(mean, (draws * [1, 2, 3, 4]).sum("level"), rtol=1e-10)
    outcomes = fit.predict(kind="outcome", draws=True, seed=1).to_numpy()
    assert set(np.unique(outcomes)) == {1, 2, 3, 4}
    # Linear predictor and thresholds give the same probabilities: F(tau - eta).
    eta = fit.predict(kind="linear", draws=True)
    tau = fit.draws["posterior"]["tau"]
    np.testing.assert_allclose(
        draws.isel(level=0), stats.logistic.cdf(tau.isel(threshold=0) - eta), rtol=1e-8
    )


def test_new_groups_without_some_levels_have_probabilities_of_all(
    fit: Any, table: pd.DataFrame
) -> None:
    group = table[table["word"] == "good"]["gid"].iloc[0]
    new = table[table["gid"] == group].assign(gid="new")
    for rows in (new, new.drop(columns=["word", "grade"])):
        shares = fit.predict(rows, kind="probability")
        assert list(shares.index.get_level_values("level")) == NAMES


def test_loo_checks_report_and_effects(fit: Any) -> None:
    assert fit.loo().elpd < 0
    assert "ordered levels (cumulative logit)" in fit.report().text
    assert fit.variance_components()[("share", "mean")].sum() == pytest.approx(1)
    fit.plot_check()
    assert {"mean", "sd"} <= set(fit.check().index)
    effects = fit.conditional_effects("z", points=3)
    assert effects.index.names == ["z", "level"]
    assert len(effects) == 12
    np.testing.assert_allclose(effects["mean"].groupby(level="z").sum(), 1, rtol=1e-10)


def test_marginal_effects_of_probabilities_sum_to_zero(fit: Any) -> None:
    """The default is the latent scale; of a level it is the mean of its probability's slope."""
    latent = fit.estimand("marginal_effect", variable="z", draws=True)
    b = fit.draws["posterior"]["b_l2"].sel(covariate_l2="z")
    np.testing.assert_allclose(latent, b, atol=1e-6)
    each = [
        fit.estimand("marginal_effect", variable="z", level=level, draws=True) for level in NAMES
    ]
    np.testing.assert_allclose(sum(each), 0 * latent, atol=1e-7)
    # P(lowest) = F(tau - eta): its slope is minus b times the mean density.
    eta = fit.predict(kind="linear", draws=True)
    tau = fit.draws["posterior"]["tau"].isel(threshold=0)
    known = -b * stats.logistic.pdf(tau - eta).mean(axis=2)
    np.testing.assert_allclose(each[0], known, atol=1e-6)
    with pytest.raises(rmm.BackendError, match="needs `level`, one of: 'poor', 'fair'"):
        fit.estimand("marginal_effect", variable="z", scale="probability")
    with pytest.raises(rmm.DataError, match="'bad' is not a level of the outcome"):
        fit.estimand("marginal_effect", variable="z", level="bad")


def test_saved_fits_know_their_levels(fit: Any, tmp_path: Any) -> None:
    fit.save(tmp_path / "fit")
    again = rmm.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(
        again.predict(kind="probability"), fit.predict(kind="probability")
    )


# ---- bad outcomes ------------------------------------------------------------------------------


def test_a_stated_order_of_texts(table: pd.DataFrame) -> None:
    """It is the same model as that of an ordered category."""
    text = table.assign(word=table["word"].astype(str))
    family = find_family("ordinal", {"levels": NAMES})
    one, two = (
        quiet(FORMULA.replace("grade", "word") + "z", data, known)
        for data, known in ((text, family), (table, "ordinal"))
    )
    np.testing.assert_array_equal(one.design.outcome["level"], two.design.outcome["level"])
    assert list(one.design.coords["threshold"]) == list(two.design.coords["threshold"])


ODD: dict[str, tuple[Any, str]] = {
    "text": (
        lambda t: t["word"].astype(str),
        r"texts without an order: .*State the order of its levels.*levels=\[",
    ),
    "unordered": (
        lambda t: pd.Categorical(t["word"].astype(str)),
        "categories without an order",
    ),
    "absent": (
        lambda t: pd.Categorical(t["word"].astype(str), [*NAMES, "superb"], ordered=True),
        r"No group has the level superb of the outcome `grade`\. Found: poor, fair, good, exc",
    ),
    "gap": (
        lambda t: t["grade"].replace({4: 6}),
        r"No group has the levels 4, 5 of the outcome `grade`\. Found: 1, 2, 3, 6",
    ),
    "two": (
        lambda t: (t["grade"] > 2).astype(int),
        r"only two levels: 0, 1\..*family 'binomial' for two: its intercept is minus",
    ),
    "one": (lambda t: 3, "is 3 in every group, so there is nothing to explain"),
    "measured": (lambda t: t["y"], r"must be levels: whole numbers.* groups have another number"),
    "counts": (lambda t: t["grade"] * 40, r"from 40 to 160\. .*at most 50 levels"),
}


@pytest.mark.parametrize("what", ODD)
def test_outcomes_that_are_no_levels(what: str, table: pd.DataFrame) -> None:
    values, message = ODD[what]
    with pytest.raises(rmm.DataError, match=message):
        quiet(FORMULA + "z", table.assign(grade=values(table)), "ordinal")


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        (NAMES[:3], rmm.DataError, r"has 1 value that is not among the stated levels: 'excellent'"),
        ("poor", rmm.FormulaError, "`levels` must be a list of 3 or more different"),
        (["a", "a", "b"], rmm.FormulaError, "`levels` must be a list of 3 or more different"),
    ],
)
def test_orders_that_do_not_fit(
    levels: Any, error: type[Exception], message: str, table: pd.DataFrame
) -> None:
    with pytest.raises(error, match=message):
        rmm.fit("word ~ 1 + z", table, "ordinal", levels=levels, backend="laplace")


def test_a_stated_level_that_nobody_has(table: pd.DataFrame) -> None:
    """Its threshold has its prior, above the others; probabilities of it can be predicted."""
    groups = table.drop_duplicates("gid")
    with pytest.warns(rmm.SpecificationWarning, match="No group has the level 'best' of the outc"):
        found = rmm.fit(
            "word ~ 1 + z",
            groups.assign(word=groups["word"].astype(str)),
            "ordinal",
            levels=[*NAMES, "best"],
            backend="laplace",
            seed=1,
            progress=False,
        )
    tau = found.summary().loc["tau[excellent|best]"]
    assert tau["mean"] > found.summary().loc["tau[good|excellent]", "mean"]
    assert found.predict(kind="probability")["mean"].xs("best", level="level").max() < 0.05


def test_an_unknown_link() -> None:
    with pytest.raises(rmm.FormulaError, match="'loglog' is not a link of family 'ordinal'"):
        find_family("ordinal", {"link": "loglog"})


def test_probabilities_are_of_ordered_levels_only(table: pd.DataFrame) -> None:
    plain = rmm.fit("y ~ 1 + z", table, backend="laplace", seed=1, progress=False)
    with pytest.raises(rmm.BackendError, match="Family 'gaussian' has no probabilities of ordered"):
        plain.predict(kind="probability")


def test_levels_that_a_predictor_separates_are_named() -> None:
    """x orders the levels completely, though not around the thresholds of the shares."""
    x = np.r_[np.arange(20.0), np.arange(20.0) + 20, np.arange(20.0) + 40]
    data = pd.DataFrame({"y": np.repeat([1, 2, 3], 20), "x": x})
    with pytest.warns(rmm.SpecificationWarning, match="levels of `y` are separated"):
        rmm.fit("y ~ 1 + x", data, "ordinal", backend="laplace", seed=1, progress=False)
    mixed = data.assign(y=np.r_[data["y"].to_numpy()[:-1], 1])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        rmm.fit("y ~ 1 + x", mixed, "ordinal", backend="laplace", seed=1, progress=False)
    assert not any("separated" in str(w.message) for w in found)
