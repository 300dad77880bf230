"""Binomial outcomes: likelihood against SciPy, programs against NumPy, fits against statsmodels.

``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_binomial.py`` rewrites the golden texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

import rmm
from rmm.families import FAMILIES
from tests.coalitions import made_up_coalitions
from tests.family_cases import (
    MIXED,
    check_against_estimates,
    check_engines_agree,
    check_golden,
    check_stan_density,
    quiet,
)

FAMILY = FAMILIES["binomial"]
PLAIN, COUNTS = "won ~ 1 + ", "cbind(yes, no) ~ 1 + "


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Of 240 groups: `won` (boolean), and `yes` and `no` of 1 to 8 trials."""
    table = made_up_coalitions(groups=240, seed=4)
    rng = np.random.default_rng(1)
    group = table.groupby("gid").ngroup().to_numpy()
    p = 1 / (1 + np.exp(1 - table["y"].to_numpy()))
    trials, chance = rng.integers(1, 9, 240)[group], rng.random(240)[group]
    yes = stats.binom.ppf(chance, trials, p).astype(int)
    return table.assign(won=chance > 1 - p, yes=yes, no=trials - yes)


@pytest.mark.parametrize("kind", ["plain", "cbind"])
def test_likelihood_mean_and_draws_are_scipys(kind: str) -> None:
    y, no = np.array([0.0, 1.0, 1.0, 0.0]), np.array([3.0, 0.0, 4.0, 1.0])
    parts = (y,) if kind == "plain" else (y, no)
    outcome = FAMILY.read_outcome("y", parts, None)
    n = np.ones(4) if kind == "plain" else y + no
    eta = np.array([[-800.0, 0.3, 2.0, -1.0], [0.0, 700.0, -1.5, 0.5]])
    p = expit(eta)
    found = FAMILY.log_likelihood(eta, {}, outcome)
    np.testing.assert_allclose(found, stats.binom.logpmf(y, n, p), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(FAMILY.mean(eta, {}, outcome), n * p)
    many = np.repeat(eta[1:], 20_000, axis=0)
    draws = FAMILY.draw(many, {}, outcome, np.random.default_rng(2))
    assert draws.shape == many.shape
    se = np.sqrt(n * p[1] * (1 - p[1]) / len(many))
    assert (np.abs(draws.mean(axis=0) - n * p[1]) <= 4.5 * se).all()  # 4 cells: 3 in 100,000


def test_far_tails_keep_their_likelihood() -> None:
    outcome = FAMILY.read_outcome("y", (np.array([0.0, 1.0]),), None)
    found = FAMILY.log_likelihood(np.array([[900.0, -900.0]]), {}, outcome)
    np.testing.assert_allclose(found, [[-900.0, -900.0]])


def test_scale_is_the_logit_of_the_share_and_bounded() -> None:
    outcome = FAMILY.read_outcome("y", (np.array([0.0, 1.0, 1.0]), np.array([2.0, 3.0, 2.0])), None)
    assert FAMILY.scale(outcome) == pytest.approx((np.log(2.5 / 7.5), 1.0))
    assert FAMILY.residual_variance({}, {}) == pytest.approx(stats.logistic.var())


@pytest.mark.parametrize("kind", ["plain", "cbind"])
def test_golden_texts(kind: str, table: pd.DataFrame) -> None:
    check_golden(
        f"binomial_{kind}", quiet((PLAIN if kind == "plain" else COUNTS) + MIXED, table, "binomial")
    )


def test_text_of_a_formula_alone_knows_the_kind_of_outcome() -> None:
    assert "bernoulli_logit" in rmm.program("won ~ 1 + z", "binomial", "stan")
    assert "binomial_logit" in rmm.program("cbind(yes, no) ~ 1 + z", "binomial", "stan")
    assert "dbin(p[j], trials[j])" in rmm.program("cbind(yes, no) ~ 1 + z", "binomial", "jags")


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.parametrize("kind", ["plain", "cbind"])
def test_stan_density(kind: str, table: pd.DataFrame) -> None:
    model = quiet((PLAIN if kind == "plain" else COUNTS) + MIXED, table, "binomial")
    y = model.design.outcome["y"]
    n = model.design.outcome.get("trials", np.ones(len(y)))
    check_stan_density(model, lambda eta: float(stats.binom.logpmf(y, n, expit(eta)).sum()))


def posterior_means(X: Any, p: Any, n: Any, estimate: Any) -> Any:
    """Posterior means under flat priors from maximum likelihood, to second order.

    Tierney and Kadane (1986): mean - mode = 1/2 H^-1 sum over data of the log likelihood's third
    derivative contracted with H^-1; what is left out is of order 1/n^2.
    """
    inverse = np.linalg.inv(X.T @ (X * (n * p * (1 - p))[:, None]))
    leverage = np.einsum("jk,kl,jl->j", X, inverse, X)
    return estimate - 0.5 * inverse @ (X.T @ (n * p * (1 - p) * (1 - 2 * p) * leverage))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=getattr(pytest.mark, b)) for b in ("jags", "stan")]
)
@pytest.mark.parametrize("kind", ["plain", "cbind"])
def test_regression_is_that_of_statsmodels(backend: str, kind: str, table: pd.DataFrame) -> None:
    import statsmodels.api as sm

    groups = table.drop_duplicates("gid")
    X = np.column_stack([np.ones(len(groups)), groups["z"], groups["q"]])
    outcome = groups["won"].astype(float) if kind == "plain" else groups[["yes", "no"]]
    found = sm.GLM(outcome.to_numpy(), X, family=sm.families.Binomial()).fit()
    n = np.ones(len(groups)) if kind == "plain" else outcome.sum(axis=1).to_numpy()
    means = posterior_means(X, found.fittedvalues, n, found.params)
    names = ("b_l2[Intercept]", "b_l2[z]", "b_l2[q]")
    check_against_estimates(
        (PLAIN if kind == "plain" else COUNTS) + "z + q",
        groups,
        "binomial",
        backend,
        dict(zip(names, means, strict=True)),
    )


@pytest.fixture(scope="module")
def counts(table: pd.DataFrame) -> rmm.Fit:
    return rmm.fit(
        COUNTS + MIXED,
        table,
        "binomial",
        backend="laplace",
        chains=1,
        draws=200,
        seed=1,
        progress=False,
    )


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_new_groups_have_the_trials_of_their_table(counts: rmm.Fit, table: pd.DataFrame) -> None:
    """Means are numbers of successes, of known and new groups; without trials probabilities."""
    pd.testing.assert_frame_equal(counts.predict(table), counts.predict())
    some = table[table["gid"].isin(["g003", "g004"])].assign(gid=lambda t: "x" + t["gid"])
    chance = counts.predict(some.drop(columns=["yes", "no"]), draws=True).to_numpy()
    assert ((chance > 0) & (chance < 1)).all()
    for yes, no in ((0, 1), (0, 12), (5, 7), (0, 0)):
        new = some.assign(yes=yes, no=no)
        assert counts.predict(new, draws=True).to_numpy() == pytest.approx((yes + no) * chance)
        drawn = counts.predict(new, "outcome", draws=True).to_numpy()
        assert set(np.unique(drawn)) <= set(range(yes + no + 1))
    assert counts.predict(some.assign(yes=0, no=12), "outcome", draws=True).to_numpy().max() > 1


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        (
            "yes",
            0.5,
            "successes of the new groups must be whole numbers from 0, but .* such as 0.5",
        ),
        ("no", -1, "failures of the new groups must be whole numbers from 0, but .* such as -1"),
    ],
)
def test_trials_of_new_groups_are_counts(
    counts: rmm.Fit, table: pd.DataFrame, column: str, value: float, match: str
) -> None:
    with pytest.raises(rmm.DataError, match=match):
        counts.predict(table.assign(**{column: value}))


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.jags
def test_engines_agree(table: pd.DataFrame) -> None:
    check_engines_agree(COUNTS + MIXED, table, "binomial")


@pytest.mark.jags
def test_jags_has_everything_in_one_block(table: pd.DataFrame) -> None:
    formula = "won ~ 1 + z + mm(id(pid, gid), vars(x), RE=TRUE) + hm(id=cid)"
    fit = rmm.fit(
        formula,
        table,
        "binomial",
        chains=1,
        warmup=50,
        draws=10,
        seed=1,
        progress=False,
        backend="jags",
    )
    # The sds are factors of the linear predictor, which the glm module samples one by one.
    assert set(fit.run.engine["samplers"]) == {"glm::Holmes-Held", "glm::Holmes-Held-Gibbs"}


LETTERS = {
    "grades 2 to 9": (lambda g: 2 + g % 8, r"must be 0 or 1.* contains: 2, 3, 4, 5, 6 and other"),
    "1 and 2": (
        lambda g: 1 + g % 2,
        r"It contains: 1, 2\. Recode it, for example with I\(won == 2\)",
    ),
    "shares": (lambda g: (g % 3) / 2, r"contains: 0, 0\.5, 1\. Recode it: 1 where"),
    "all 0": (lambda g: 0 * g, r"is a failure \(0\) in every group"),
    "all 1": (lambda g: 0 * g + 1, r"is a success \(1\) in every group"),
}


@pytest.mark.parametrize("name", LETTERS)
def test_outcomes_that_are_not_binary(name: str, table: pd.DataFrame) -> None:
    values, message = LETTERS[name]
    bad = table.assign(won=values(table.groupby("gid").ngroup()))
    with pytest.raises(rmm.DataError, match=message):
        quiet(PLAIN + MIXED, bad, "binomial")


@pytest.mark.parametrize(
    ("yes", "no", "message"),
    [
        (lambda y: y - 1, lambda n: n, "successes of .* whole numbers from 0, but .* such as -1"),
        (lambda y: y, lambda n: n / 2, r"failures of .* values are not, such as \d\.5"),
        (lambda y: y * 0, lambda n: n * 0, "240 groups have neither"),
        (lambda y: y * 0, lambda n: n + 1, "failure .* every group"),
    ],
)
def test_counts_that_are_none(yes: Any, no: Any, message: str, table: pd.DataFrame) -> None:
    bad = table.assign(yes=yes(table["yes"]), no=no(table["no"]))
    with pytest.raises(rmm.DataError, match=message):
        quiet(COUNTS + MIXED, bad, "binomial")


def test_surv_is_no_binomial_outcome(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.FormulaError, match="cannot be used with family 'binomial'"):
        quiet("Surv(y, won) ~ 1 + z", table, "binomial")
