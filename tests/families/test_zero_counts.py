"""Zero-inflated and hurdle counts: against SciPy, statsmodels, plain counts and each other.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_zero_counts.py`` rewrites the golden texts.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import rmm
from rmm.families import FAMILIES, find_family
from tests.coalitions import made_up_coalitions
from tests.family_cases import (
    MIXED,
    check_engines_agree,
    check_golden,
    check_stan_density,
    quiet,
)

INFLATED, HURDLES = (
    ("zero_inflated_poisson", "zero_inflated_negbinomial"),
    ("hurdle_poisson", "hurdle_negbinomial"),
)
NAMES = (*INFLATED, *HURDLES)
FORMULA = "laws ~ 1 + offset(log(years)) + "
SHAPE, ZERO = 2.0, 0.3


def law(name: str, eta: Any, shape: float = SHAPE) -> Any:
    """SciPy's distribution of the counts."""
    mean = np.exp(eta)
    # 1 / (1 + mean / shape) keeps digits of small means, unlike shape / (shape + mean).
    return stats.poisson(mean) if "poisson" in name else stats.nbinom(shape, 1 / (1 + mean / shape))


def log_mass(name: str, y: Any, eta: Any, shape: float = SHAPE, zero: float = ZERO) -> Any:
    """Log probabilities from the definitions."""
    count = law(name, eta, shape)
    with np.errstate(divide="ignore"):
        if name in INFLATED:
            return np.log(zero * (y == 0) + (1 - zero) * count.pmf(y))
        some = np.log1p(-zero) + count.logpmf(y) - count.logsf(0)
        return np.where(y == 0, np.log(zero), some)


def own_values(shape: float = SHAPE, zero: float = ZERO, draws: int = 1) -> dict[str, Any]:
    """Values of all own parameters that some of the families have."""
    return {
        "shape": np.full(draws, shape),
        "zi": np.full(draws, zero),
        "hu": np.full(draws, zero),
    }


def fitted(formula: str, data: pd.DataFrame, name: str, **options: Any) -> rmm.Fit:
    """A fit without warnings on specification."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        return rmm.fit(formula, data, name, seed=5, progress=False, **options)


def outcome_of(name: str, y: Any) -> dict[str, Any]:
    return FAMILIES[name].read_outcome("y", (np.asarray(y, dtype=float),), None)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """240 groups with counts over 1 to 5 `years`, and zeros of their own: one column a family."""
    table = made_up_coalitions(groups=240, seed=4)
    rng = np.random.default_rng(1)
    group = table.groupby("gid").ngroup().to_numpy()
    years = rng.uniform(1, 5, 240)[group]
    eta = np.log(years) + 0.4 * table["y"].to_numpy()
    chance, extra = rng.uniform(size=240)[group], rng.uniform(size=240)[group] < ZERO
    table = table.assign(years=years)
    for name in NAMES:
        count = law(name, eta)
        some = count.ppf(chance) if name in INFLATED else count.isf(chance * count.sf(0))
        table[name] = np.where(extra, 0, some).astype(int)
    return table


def of_family(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(laws=table[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "zero"), [(SHAPE, ZERO), (0.2, 0.05), (50.0, 0.9)])
def test_likelihood_and_mean_are_scipys(name: str, shape: float, zero: float) -> None:
    y = np.array([0.0, 0.0, 1.0, 2.0, 7.0, 40.0])
    family, outcome, values = FAMILIES[name], outcome_of(name, y), own_values(shape, zero, 2)
    eta = np.array([[-2.0, 3.0, 0.3, -6.0, 2.0, 3.5], [0.0, 6.0, 1.0, 2.0, -1.5, 4.0]])
    found = family.log_likelihood(eta, values, outcome)
    np.testing.assert_allclose(found, log_mass(name, y, eta, shape, zero), rtol=1e-9)
    count = law(name, eta, shape)
    mean = (1 - zero) * np.exp(eta) / (1 if name in INFLATED else count.sf(0))
    np.testing.assert_allclose(family.mean(eta, values, outcome), mean, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_sum_to_one(name: str) -> None:
    y = np.arange(4000.0)
    eta = np.repeat([[-3.0], [0.5], [2.5]], len(y), axis=1)
    values = own_values(draws=3)
    found = FAMILIES[name].log_likelihood(eta, values, outcome_of(name, y))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-10)


@pytest.mark.parametrize("name", HURDLES)
def test_counts_above_0_at_means_next_to_0(name: str) -> None:
    """They are 1: log(1 - exp(-mu)) keeps its digits. Two events have the probability mu / 2."""
    outcome, values = outcome_of(name, [1.0, 2.0]), own_values()
    for log_mean in (-5.0, -20.0, -40.0, -300.0, -800.0):
        found = FAMILIES[name].log_likelihood(np.full((1, 2), log_mean), values, outcome)[0]
        ratio = 0.0 if "poisson" in name else np.log(1 + 1 / SHAPE)
        known = np.log1p(-ZERO) + np.array([0.0, log_mean - np.log(2) + ratio])
        # The next terms of the series are of the order of the mean; sums are rounded.
        np.testing.assert_allclose(found, known, rtol=1e-12, atol=2 * np.exp(log_mean) + 1e-12)
        curved = FAMILIES[name].curvature(np.full((1, 2), log_mean), values, outcome)
        np.testing.assert_allclose(curved.gradient, [[0, 1]], atol=2 * np.exp(log_mean) + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_large_means_have_no_likelihood_and_finite_draws(name: str) -> None:
    outcome = outcome_of(name, [0.0, 3.0])
    eta, values = np.array([[800.0, 800.0]]), own_values()
    with np.errstate(all="ignore"):
        found = FAMILIES[name].log_likelihood(eta, values, outcome)[0]
    np.testing.assert_allclose(found[0], np.log(ZERO))  # it is an extra zero
    assert found[1] < -700
    assert (FAMILIES[name].draw(eta, values, outcome, np.random.default_rng(1)) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_zeros_of_their_own_they_are_plain_counts(name: str) -> None:
    y = np.array([0.0, 0.0, 1.0, 5.0])
    eta = np.array([[-1.0, 2.0, 0.3, 1.0]])
    plain = FAMILIES["poisson" if "poisson" in name else "negbinomial"]
    values = own_values(zero=0.0)
    known = plain.log_likelihood(eta, values, plain.read_outcome("y", (y,), None))
    found = FAMILIES[name].log_likelihood(eta, values, outcome_of(name, y))
    if name in HURDLES:  # zeros are impossible
        assert (found[0, :2] == -np.inf).all()
        none = plain.log_likelihood(eta, values, {"y": np.zeros(4, dtype=int)})
        known = known - np.log1p(-np.exp(none))
        found, known = found[:, 2:], known[:, 2:]
    np.testing.assert_allclose(found, known, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [SHAPE, 0.3])
def test_draws_have_the_probabilities(name: str, shape: float) -> None:
    count, rng = 200_000, np.random.default_rng(2)
    for eta in (-4.0, 0.0, 2.0):
        drawn = FAMILIES[name].draw(
            np.full((count, 1), eta), own_values(shape, draws=count), outcome_of(name, [1.0]), rng
        )
        cells = np.arange(8)
        p = np.exp(log_mass(name, cells, np.full(8, eta), shape))
        observed = np.array([np.mean(drawn == k) for k in cells])
        # 24 numbers of each family and shape: beyond 4.5 errors in 1 of 1,000 runs.
        assert (np.abs(observed - p) <= 4.5 * np.sqrt(p * (1 - p) / count) + 1e-5).all()


@pytest.mark.parametrize("name", NAMES)
def test_residual_variance_is_that_of_the_first_two_moments(name: str) -> None:
    """log(E y^2 / (E y)^2), moments summed up, at the mean count of the data."""
    y = np.array([0, 0, 2, 4, 6])
    found = FAMILIES[name].residual_variance(own_values(), outcome_of(name, y))
    some = np.arange(5000)

    def distance(eta: float) -> float:
        p = np.exp(log_mass(name, some, np.full(len(some), eta)))
        goal = y.mean() if name in INFLATED else (1 - ZERO) * y[y > 0].mean()
        return float(p @ some - goal)

    eta = optimize.brentq(distance, -5, 5)
    p = np.exp(log_mass(name, some, np.full(len(some), eta)))
    np.testing.assert_allclose(found, np.log(p @ some**2 / (p @ some) ** 2), rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_golden_texts(name: str, table: pd.DataFrame) -> None:
    check_golden(name, quiet(FORMULA + MIXED, of_family(name, table), name))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ZIP", "zero_inflated_poisson"),
        ("zinb", "zero_inflated_negbinomial"),
        ("zero-inflated negative binomial", "zero_inflated_negbinomial"),
        ("Hurdle Poisson", "hurdle_poisson"),
        ("hurdle_negbinomial", "hurdle_negbinomial"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert find_family(text).name == name
    assert find_family(text, {"link": "log"}).name == name


REFUSED = {
    "normal(0, 1)": r"`zi` is a probability. Use beta\(alpha, beta\), uniform",
    "uniform(0, 2)": "`zi` is a probability",
    "gamma(1, 1)": "`zi` is a probability",
    "beta(0, 1)": "the alpha must be positive, not 0",
}


@pytest.mark.parametrize("prior", REFUSED)
def test_priors_that_are_none_of_a_probability(prior: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.PriorError, match=REFUSED[prior]):
        quiet(FORMULA + "z", of_family(NAMES[0], table), NAMES[0], priors={"zi": prior})


@pytest.mark.parametrize("prior", ["hu ~ beta(50, 30)", "hu ~ uniform(0.4, 0.8)", "hu <- 0.5"])
def test_priors_of_a_probability(prior: str, table: pd.DataFrame) -> None:
    """With a hurdle the posterior is known: a beta distribution, cut off where the prior is."""
    data = of_family("hurdle_poisson", table).drop_duplicates("gid")
    zeros = int((data["laws"] == 0).sum())
    fit = fitted(FORMULA + "z", data, "hurdle_poisson", backend="laplace", priors=[prior])
    if "<-" in prior:
        assert "hu" not in fit.summary().index
        return
    found = fit.summary().loc["hu"]
    a, b = (50, 30) if "beta" in prior else (1, 1)
    law = stats.beta(a + zeros, b + 240 - zeros)
    low, high = (0.0, 1.0) if "beta" in prior else (0.4, 0.8)
    known = law.expect(lambda x: x, lb=low, ub=high, conditional=True)
    assert abs(found["mean"] - known) < 4.5 * found["mcse_mean"]


def test_default_prior_is_uniform_and_beta_is_for_probabilities(table: pd.DataFrame) -> None:
    data = of_family(NAMES[0], table)
    for base in ("weakly_informative", "rmm"):
        (prior,) = quiet(FORMULA + "z", data, NAMES[0], priors=base).priors.elements["zi"]
        assert str(prior) == "beta(1, 1)"
    with pytest.raises(rmm.PriorError, match=r"beta\(\) is the prior of a probability"):
        quiet(FORMULA + "z", data, NAMES[0], priors={"b_l2[z]": "beta(1, 1)"})


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("name", NAMES)
def test_stan_density(name: str, table: pd.DataFrame) -> None:
    """With fixed own parameters: their priors are tested with those of all parameters."""
    priors = [f"{'zi' if name in INFLATED else 'hu'} <- 0.3"]
    priors += ["shape <- 2"] if "negbinomial" in name else []
    model = quiet("laws ~ 1 + " + MIXED, of_family(name, table), name, priors=priors)
    y = model.design.outcome["y"]
    check_stan_density(model, lambda eta: float(log_mass(name, y, eta).sum()))


@pytest.mark.parametrize("name", INFLATED)
def test_zero_inflated_regressions_are_near_those_of_statsmodels(
    name: str, table: pd.DataFrame
) -> None:
    """Posterior means and the maximum of the likelihood differ by terms of order 1/n."""
    from statsmodels.discrete import count_model

    groups = of_family(name, table).drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    kind = {INFLATED[0]: "ZeroInflatedPoisson", INFLATED[1]: "ZeroInflatedNegativeBinomialP"}[name]
    model = getattr(count_model, kind)(
        groups["laws"], X, offset=np.log(groups["years"]), exog_infl=np.ones((len(groups), 1))
    )
    known = model.fit(disp=0, maxiter=1000, method="bfgs")
    assert known.mle_retvals["converged"]
    estimates, errors = np.asarray(known.params), np.asarray(known.bse)
    fit = fitted(FORMULA + "z + q", groups, name, backend="laplace", priors="rmm", draws=2000)
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[q]"]]
    away = (found["mean"] - estimates[1:4]) / found["sd"]
    assert (away.abs() < 0.25).all(), away
    np.testing.assert_allclose(found["sd"], errors[1:4], rtol=0.1)
    # On the scale of the logit. With a shape, which explains zeros too, its posterior has a long
    # tail towards no extra zeros.
    inflation = special.logit(fit.run.draws["zi"].ravel())
    assert abs(np.median(inflation) - estimates[0]) < 0.35 * errors[0]
    if name == "zero_inflated_poisson":
        assert inflation.std() == pytest.approx(errors[0], rel=0.1)


@pytest.mark.parametrize("name", HURDLES)
def test_hurdle_regressions_are_those_of_their_two_parts(name: str, table: pd.DataFrame) -> None:
    """The probability of a zero has a beta posterior, exactly; the rest are truncated counts."""
    from statsmodels.discrete import truncated_model

    groups = of_family(name, table).drop_duplicates("gid")
    fit = fitted(FORMULA + "z + q", groups, name, backend="laplace", priors="rmm", draws=2000)
    found = fit.summary()
    zeros = int((groups["laws"] == 0).sum())
    known = stats.beta(1 + zeros, 1 + len(groups) - zeros)
    assert abs(found["mean"]["hu"] - known.mean()) < 4.5 * found["mcse_mean"]["hu"]
    assert found["sd"]["hu"] == pytest.approx(known.std(), rel=0.1)
    some = groups[groups["laws"] > 0]
    X = np.column_stack([np.ones(len(some)), some["z"], some["q"]])
    kind = {HURDLES[0]: "TruncatedLFPoisson", HURDLES[1]: "TruncatedLFNegativeBinomialP"}[name]
    model = getattr(truncated_model, kind)(some["laws"], X, offset=np.log(some["years"]))
    estimated = model.fit(disp=0, maxiter=1000, method="bfgs")
    assert estimated.mle_retvals["converged"]
    rows = found.loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[q]"]]
    away = (rows["mean"] - np.asarray(estimated.params)[:3]) / rows["sd"]
    assert (away.abs() < 0.35).all(), away  # skewness of the posterior of the shape
    np.testing.assert_allclose(rows["sd"], np.asarray(estimated.bse)[:3], rtol=0.15)


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize("name", NAMES)
def test_engines_agree(name: str, table: pd.DataFrame) -> None:
    check_engines_agree(
        FORMULA + MIXED, of_family(name, table), name, engines=("jags", "stan", "laplace")
    )


@pytest.mark.parametrize("name", NAMES)
def test_predictions_checks_and_saving(name: str, table: pd.DataFrame, tmp_path: Any) -> None:
    """Everything that a fit offers; new groups take their exposure from the table."""
    data = of_family(name, table)
    fit = fitted(FORMULA + MIXED, data, name, backend="laplace", draws=200)
    some = data[data["gid"].isin(["g003", "g004"])]
    once, twice = (fit.predict(some.assign(years=y)) for y in (1.0, 2.0))
    if name in INFLATED:
        np.testing.assert_allclose(twice["mean"], 2 * once["mean"], rtol=1e-12)
    else:  # counts above 0 increase by less
        assert (twice["mean"] > once["mean"]).all()
        assert (twice["mean"] < 2 * once["mean"]).all()
    outcomes = fit.predict(kind="outcome", draws=True, seed=1).to_numpy()
    assert (outcomes == np.round(outcomes)).all()
    assert outcomes.min() == 0
    # The share of zeros and the mean are those of the data: neither is moved by priors here.
    y = data.drop_duplicates("gid")["laws"].to_numpy()
    zeros = (outcomes == 0).mean(axis=-1).ravel()
    assert abs((zeros < np.mean(y == 0)).mean() - 0.5) < 0.4
    assert fit.loo().elpd < 0
    text = fit.report().text
    assert ("zero-inflated" if name in INFLATED else "hurdle") in text
    shares = fit.variance_components()[("share", "mean")]
    assert shares.sum() == pytest.approx(1)
    assert np.isfinite(fit.estimand("marginal_effect", variable="z")["mean"]).all()
    fit.plot_check()
    fit.plot("prior")
    fit.save(tmp_path / "fit.zip")
    again = rmm.load(tmp_path / "fit.zip")
    pd.testing.assert_frame_equal(again.summary(), fit.summary())


def test_prior_predictive_counts(table: pd.DataFrame) -> None:
    """Their share of zeros is uniform, as its prior is: a count is hardly ever 0 here."""
    data = of_family("hurdle_poisson", table).drop_duplicates("gid")
    found = rmm.prior_predictive(FORMULA + "z", data, "hurdle_poisson", draws=2000, seed=1)
    assert found.outcome is not None
    shares = (found.outcome == 0).mean(axis=1)
    assert stats.kstest(shares, stats.uniform.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("name", "level"), [("zero_inflated_poisson", 0), ("hurdle_poisson", 1)])
def test_counts_that_a_predictor_separates_are_named(name: str, level: int) -> None:
    """With hurdles, zeros say nothing of the counts: the ones are the least of those that do."""
    rng = np.random.default_rng(1)
    x = np.repeat([0.0, 1.0], 20)
    y = np.where(x == 1, level, rng.poisson(4.0, 40) + level + 1)
    data = pd.DataFrame({"y": np.r_[y, 0, 0], "x": np.r_[x, 0, 1]})
    message = "zeros of `y` are separated" if level == 0 else "ones of `y` are separated"
    with pytest.warns(rmm.SpecificationWarning, match=message):
        rmm.fit("y ~ 1 + x", data, name, backend="laplace", seed=1, progress=False)
    mixed = data.assign(y=np.where(data.index < 25, data["y"] + data.index % 3, data["y"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", rmm.SpecificationWarning)
        quiet("y ~ 1 + x", mixed, name)


@pytest.mark.parametrize("name", NAMES)
def test_outcomes_that_are_no_counts(name: str, table: pd.DataFrame) -> None:
    data = of_family(name, table)
    with pytest.raises(rmm.DataError, match="must be counts: whole numbers from 0"):
        quiet(FORMULA + "z", data.assign(laws=data["laws"] / 2), name)


def test_effects_of_extra_zeros_are_recovered() -> None:
    """zi and the counts' coefficients, at 3,000 groups, within 4.5 posterior sds."""
    rng = np.random.default_rng(7)
    z = rng.normal(size=3000)
    y = np.where(rng.random(3000) < 0.4, 0, rng.poisson(np.exp(0.5 + 0.6 * z)))
    data = pd.DataFrame({"y": y, "z": z})
    fit = fitted("y ~ 1 + z", data, "zero_inflated_poisson", backend="laplace")
    found = fit.summary()
    truth = {"b_l2[Intercept]": 0.5, "b_l2[z]": 0.6, "zi": 0.4}
    for name, value in truth.items():
        assert abs(found["mean"][name] - value) < 4.5 * found["sd"][name]
    plain = fitted("y ~ 1 + z", data, "poisson", backend="laplace").summary()
    assert abs(plain["mean"]["b_l2[Intercept]"] - 0.5) > 10 * plain["sd"]["b_l2[Intercept]"]


@pytest.mark.parametrize("name", ["zero_inflated_poisson", "hurdle_poisson"])
def test_evidence_is_that_of_quadrature(name: str) -> None:
    """Of an intercept with a normal prior and a probability with a beta prior, over a grid."""
    y = np.array([0, 0, 0, 1, 0, 4, 2, 0, 0, 3, 1, 0, 6, 0, 2])
    zero = "zi" if name in INFLATED else "hu"
    fit = fitted(
        "y ~ 1",
        pd.DataFrame({"y": y, "row": range(15)}),
        name,
        backend="laplace",
        priors={"b_l2[Intercept]": "normal(0.5, 0.8)", zero: "beta(2, 3)"},
    )
    eta, step = np.linspace(-4, 4, 801, retstep=True)
    p, wide = np.linspace(0, 1, 2001, retstep=True)
    logs = stats.norm(0.5, 0.8).logpdf(eta)[:, None] + stats.beta(2, 3).logpdf(p[1:-1])
    for k in y:
        mass = stats.poisson.logpmf(k, np.exp(eta))[:, None]
        if name in INFLATED:
            some = np.log1p(-p[1:-1]) + mass
            logs = logs + (np.logaddexp(np.log(p[1:-1]), some) if k == 0 else some)
        elif k == 0:
            logs = logs + np.log(p[1:-1])
        else:
            positive = stats.poisson.logsf(0, np.exp(eta))[:, None]
            logs = logs + np.log1p(-p[1:-1]) + mass - positive
    # The trapezoidal rule, of a density that is 0 at all ends.
    known = special.logsumexp(logs) + np.log(step * wide)
    found = fit.log_evidence()
    assert abs(found.value - known) < 4.5 * found.mcse + 1e-4
