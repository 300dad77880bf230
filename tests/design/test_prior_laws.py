"""Priors as distributions, against SciPy's distributions and against drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from rmm.formula.prior_distributions import LAWS, draw, quantile, variance, width
from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior

P = np.array([0.001, 0.025, 0.25, 0.5, 0.75, 0.975, 0.999])
WHOLE: dict[str, tuple[tuple[float, ...], Any]] = {
    "normal": ((1.0, 2.5), stats.norm(1, 2.5)),
    "student_t": ((5.0, -1.0, 0.7), stats.t(5, -1, 0.7)),
    "half_normal": ((1.5,), stats.halfnorm(scale=1.5)),
    "half_cauchy": ((3.0,), stats.halfcauchy(scale=3)),
    "exponential": ((2.0,), stats.expon(scale=0.5)),
    "gamma": ((2.4, 1.25), stats.gamma(2.4, scale=0.8)),
    "uniform": ((-1.0, 3.0), stats.uniform(-1, 4)),
    "beta": ((2.5, 0.7), stats.beta(2.5, 0.7)),
    "lkj": ((2.5,), stats.beta(2.5, 2.5, -1, 2)),
}


def test_every_family_has_a_row() -> None:
    assert set(LAWS) == set(PRIOR_FAMILIES)


@pytest.mark.parametrize("family", WHOLE)
def test_quantiles_and_variances_are_those_of_scipy(family: str) -> None:
    values, law = WHOLE[family]
    prior = Prior(family, values)
    np.testing.assert_allclose(quantile(prior, P), law.ppf(P), rtol=1e-9)
    expected = law.var()
    assert variance(prior) == pytest.approx(expected if np.isfinite(expected) else np.inf)


@pytest.mark.parametrize("df", [2.5, 4.0, 30.0])
def test_a_half_t_is_a_folded_t(df: float) -> None:
    """Its moments by numerical integration of twice the t's density."""
    prior, t = Prior("half_t", (df, 1.3)), stats.t(df, scale=1.3)
    np.testing.assert_allclose(t.cdf(quantile(prior, P)), (1 + P) / 2, rtol=1e-9)
    first, second = (
        integrate.quad(lambda x, k=k: 2 * x**k * t.pdf(x), 0, np.inf, limit=500)[0] for k in (1, 2)
    )
    assert variance(prior) == pytest.approx(second - first**2, rel=1e-4)


def test_a_root_of_an_inverse_gamma() -> None:
    """`precision_gamma`: the sd's distribution where the precision is gamma."""
    prior, tau = Prior("precision_gamma", (3.0, 2.0)), stats.gamma(3, scale=0.5)
    np.testing.assert_allclose(tau.sf(quantile(prior, P) ** -2), P, rtol=1e-9)
    first, second = (tau.expect(lambda x, k=k: x ** (-k / 2)) for k in (1, 2))
    assert variance(prior) == pytest.approx(second - first**2, rel=1e-6)


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("half_cauchy", (1.0,)),
        ("student_t", (2.0, 0.0, 1.0)),
        ("half_t", (1.0, 25.0)),
        ("precision_gamma", (1.0, 1.0)),
    ],
)
def test_heavy_tails_have_no_variance(family: str, values: tuple[float, ...]) -> None:
    assert variance(Prior(family, values)) == np.inf


@pytest.mark.parametrize("family", WHOLE)
def test_draws_have_the_distribution(family: str) -> None:
    values, law = WHOLE[family]
    found = draw(Prior(family, values), 4000, np.random.default_rng(3))
    assert stats.kstest(found, law.cdf).pvalue > 0.001


def test_the_width_of_a_normal_prior_is_its_scale() -> None:
    assert width(Prior("normal", (7.0, 0.02))) == pytest.approx(0.02)
    interquartile = stats.cauchy(0, 3).ppf(0.875) - stats.cauchy(0, 3).ppf(0.625)
    assert width(Prior("half_cauchy", (3.0,))) == pytest.approx(interquartile / 1.3489795)
