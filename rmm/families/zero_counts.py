"""Counts with zeros of their own: what zero-inflated and hurdle families have in common.

A count has the probability P(0) = exp(-a) of a 0, with a > 0: mu of a Poisson count. Zero-inflated
(Lambert 1992, Technometrics 34, 1-14): with probability zi the outcome is 0 whatever the count,

    P(y = 0) = zi + (1 - zi) P(0),    P(y) = (1 - zi) p(y) for y > 0.

Hurdle (Mullahy 1986, Journal of Econometrics 33, 341-365): the outcome is 0 with probability hu,
and otherwise a count that is not,

    P(y = 0) = hu,    P(y) = (1 - hu) p(y) / (1 - P(0)) for y > 0.

The curvature is minus the second derivative where that is positive, and 0 elsewhere: zeros of a
zero-inflated count with a large mean, and small positive counts of a negative binomial distribution
with a small shape and a large mean, are not log-concave in eta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmm.families.base import (
    Array,
    Curvature,
    Family,
    KernelOutcome,
    Outcome,
    Parameter,
    Values,
)
from rmm.formula.prior_syntax import Prior

_SMALL = 1e-3  # rate of a count below which the series of log(1 - exp(-a)) is exact
_MOST_LOG = 700.0  # log of a rate: exp() of more is infinite
_MOST = 40.0  # log of the largest mean that outcomes are drawn with
_HALVINGS = 60  # of an interval: a mean to 16 digits

ZI = Parameter(
    "zi", (), "probability", "shape", words="the probability of an extra zero (zero inflation)"
)
HU = Parameter("hu", (), "probability", "shape", words="the probability of a zero (hurdle)")


@dataclass(frozen=True, eq=False)
class ZeroRate:
    """The rate a of a count, P(0) = exp(-a), at (S, J) linear predictors.

    Attributes
    ----------
    log : (S, J)
        log(a).
    first, second : (S, J) or scalar
        First and second derivative of a in eta, divided by a.
    """

    log: Array
    first: Array | float
    second: Array | float

    @property
    def value(self) -> Array:
        """(S, J) a, which stays finite."""
        return np.asarray(np.exp(np.minimum(self.log, _MOST_LOG)))


@dataclass(frozen=True)
class Count:
    """A family of counts, and what is known of its zeros.

    Attributes
    ----------
    family : Family
    zero_rate : callable
        ``(eta, values) -> ZeroRate``.
    draw_positive : callable
        ``(eta, values, passed, rng) -> (S, J)`` counts given that they are not 0. A count is a sum
        of a Poisson number with mean a of jumps; `passed` is the share of a before the first one.
    overdispersion : callable
        ``values -> (S,)``: the variance is mean + mean^2 times this.
    jags_log_rate, jags_zero, jags_log_mass : str
        JAGS expressions of group j: log(a) where a is small, P(0), log p(y).
    stan_zero, stan_mass : str
        Stan expressions of group j: log P(0), log p(y).
    """

    family: Family
    zero_rate: Callable[[Array, Values], ZeroRate]
    draw_positive: Callable[[Array, Values, Array, np.random.Generator], Array]
    overdispersion: Callable[[Values], Array | float]
    jags_log_rate: str
    jags_zero: str
    jags_log_mass: str
    stan_zero: str
    stan_mass: str

    def curvature(self, eta: Array, values: Values, outcome: Outcome) -> Curvature:
        """That of the plain count."""
        assert self.family.curvature is not None
        return self.family.curvature(eta, values, outcome)

    def kernel(self, outcome: Outcome) -> KernelOutcome:
        """That of the plain count."""
        assert self.family.kernel is not None
        return self.family.kernel(outcome)

    def log_positive(self, eta: Array, values: Values) -> tuple[ZeroRate, Array]:
        """The rate, and log(1 - P(0))."""
        rate = self.zero_rate(eta, values)
        a = rate.value
        with np.errstate(divide="ignore"):
            far = np.log(-np.expm1(-a))
        return rate, np.where(a < _SMALL, rate.log - a / 2 + a**2 / 24, far)


def read_zero_counts(read: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A reader of counts that adds what JAGS observes in their place: zeros.

    Parameters
    ----------
    read : callable
        Of the plain count.

    Returns
    -------
    callable
    """

    def with_zeros(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
        found = read(label, parts, strata)
        return {**found, "zeros": np.zeros(len(found["y"]), dtype=np.int64)}

    return with_zeros


def some_zero_counts(outcome: Outcome, groups: Array) -> dict[str, Any]:
    """The outcome of some groups."""
    return {name: outcome[name][groups] for name in ("y", "zeros")}


@dataclass(frozen=True)
class ZeroInflated:
    """Likelihood and draws of a zero-inflated count."""

    count: Count

    def _of_zeros(self, eta: Array, values: Values) -> tuple[ZeroRate, Array, Array]:
        """The rate, log P(y = 0), and the log of the share of it that the count has."""
        zi = values["zi"][:, None]
        rate = self.count.zero_rate(eta, values)
        with np.errstate(divide="ignore"):
            counted = np.log1p(-zi) - rate.value
            total = np.logaddexp(np.log(zi), counted)
        return rate, total, counted - total

    def log_likelihood(self, eta: Array, values: Values, outcome: Outcome) -> Array:
        """(S, J) log p(y)."""
        _, none, _ = self._of_zeros(eta, values)
        with np.errstate(divide="ignore"):
            some = np.log1p(-values["zi"][:, None])
        some = some + self.count.family.log_likelihood(eta, values, outcome)
        return np.where(outcome["y"] == 0, none, some)

    def curvature(self, eta: Array, values: Values, outcome: Outcome) -> Curvature:
        """See the module: 0 where the likelihood of a zero is not log-concave."""
        zero = outcome["y"] == 0
        rate, _, log_share = self._of_zeros(eta, values)
        share, a = np.exp(log_share), rate.value
        slope = -rate.first * share * a
        bend = a * share * (rate.second - (-np.expm1(log_share)) * a * rate.first**2)
        plain = self.count.curvature(eta, values, outcome)
        total = self.log_likelihood(eta, values, outcome).sum(axis=1)
        gradient = np.where(zero, slope, plain.gradient)
        return Curvature(total, gradient, np.where(zero, np.maximum(bend, 0.0), plain.weight))

    def mean(self, eta: Array, values: Values, outcome: Outcome) -> Array:
        """(S, J) means, extra zeros included."""
        plain = self.count.family.mean(eta, values, outcome)
        return np.asarray((1 - values["zi"][:, None]) * plain)

    def draw(self, eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
        """(S, J) outcomes."""
        counted = rng.random(eta.shape) >= values["zi"][:, None]
        return np.where(counted, self.count.family.draw(eta, values, outcome, rng), 0)

    def residual_variance(self, values: Values, outcome: Outcome) -> Array:
        """log(1 + v / m^2) at the mean m of the data, v the variance of an outcome with this mean.

        The log-normal approximation of Nakagawa, Johnson & Schielzeth (2017), Journal of the Royal
        Society Interface 14, 20170213, for the variance with extra zeros.
        """
        zi, mean = values["zi"], np.mean(outcome["y"])
        more = (zi + self.count.overdispersion(values)) / (1 - zi)
        return np.asarray(np.log1p(1 / mean + more))


@dataclass(frozen=True)
class Hurdle:
    """Likelihood and draws of zeros, and counts that are not."""

    count: Count

    def log_likelihood(self, eta: Array, values: Values, outcome: Outcome) -> Array:
        """(S, J) log p(y)."""
        hu = values["hu"][:, None]
        _, positive = self.count.log_positive(eta, values)
        with np.errstate(divide="ignore", invalid="ignore"):
            none, some = np.log(hu), np.log1p(-hu) - positive
            some = some + self.count.family.log_likelihood(eta, values, outcome)
        return np.where(outcome["y"] == 0, none, some)

    def curvature(self, eta: Array, values: Values, outcome: Outcome) -> Curvature:
        """Of counts given that they are not 0: zeros have no part in it. See the module, too."""
        rate, positive = self.count.log_positive(eta, values)
        a = rate.value
        ratio = np.exp(rate.log - a - positive)  # a / (exp(a) - 1)
        slope = ratio * rate.first  # of log(1 - P(0))
        bend = ratio * (rate.second - (a + ratio) * rate.first**2)
        plain = self.count.curvature(eta, values, outcome)
        some = outcome["y"] > 0
        weight = np.where(some, np.maximum(plain.weight + bend, 0.0), 0.0)
        total = self.log_likelihood(eta, values, outcome).sum(axis=1)
        return Curvature(total, np.where(some, plain.gradient - slope, 0.0), weight)

    def mean(self, eta: Array, values: Values, outcome: Outcome) -> Array:
        """(S, J) means, zeros included: (1 - hu) mu / (1 - P(0))."""
        _, positive = self.count.log_positive(eta, values)
        return np.asarray((1 - values["hu"][:, None]) * np.exp(eta - positive))

    def draw(self, eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
        """(S, J) outcomes."""
        eta = np.minimum(eta, _MOST)
        rate, positive = self.count.log_positive(eta, values)
        a = np.maximum(rate.value, np.finfo(float).tiny)
        passed = -np.log1p(-rng.random(eta.shape) * np.exp(positive)) / a
        counts = self.count.draw_positive(eta, values, np.clip(passed, 0.0, 1.0), rng)
        return np.where(rng.random(eta.shape) < values["hu"][:, None], 0, counts)

    def scale(self, outcome: Outcome) -> tuple[float, float]:
        """Log of the mean that a Poisson count without its zeros has, half a count added, and 1."""
        y = outcome["y"]
        mean = (np.sum(y) + 0.5) / np.sum(y > 0)
        return float(np.log(self._untruncated(mean, lambda mean: mean))), 1.0

    def residual_variance(self, values: Values, outcome: Outcome) -> Array:
        """As `ZeroInflated.residual_variance`: zeros at hu, counts with the mean of the positive
        ones of the data.
        """
        y, hu = outcome["y"], values["hu"]
        positive, more = np.mean(y[y > 0]), self.count.overdispersion(values)

        def rate(mean: Array) -> Array:
            if np.ndim(more) == 0:
                return mean
            return np.log1p(mean * more) / more

        mean = self._untruncated(np.full(np.shape(hu), positive), rate)
        # E y^2 / (E y)^2 - 1, with E y = (1 - hu) positive.
        return np.asarray(np.log((1 + mean * (1 + more)) / ((1 - hu) * positive)))

    @staticmethod
    def _untruncated(positive: Any, rate: Callable[[Any], Any]) -> Any:
        """The mean mu with mu / (1 - P(0)) = `positive`, by halving intervals."""
        low, high = np.zeros(np.shape(positive)), np.asarray(positive, dtype=float)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = middle > -positive * np.expm1(-rate(middle))
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.maximum((low + high) / 2, 1e-6)


#: A Poisson variable with mean m is 0 with probability exp(-m), so that log_p is what it adds.
_JAGS = """zeros[j] ~ dpois(max(0, -log_p[j]))  # zeros trick: log_p is the log likelihood of y
log_p[j] <- ifelse(y[j] == 0, {none}, {some})
log_count[j] <- {mass}
"""


def zero_inflated(count: Count, name: str, words: str, likelihood: int) -> Family:
    """The zero-inflated family of a count.

    Parameters
    ----------
    count : Count
    name, words : str
        Of the family, and of the count in a sentence: ``"Poisson"``.
    likelihood : int
        As in `KernelOutcome`.

    Returns
    -------
    Family
    """
    model, plain = ZeroInflated(count), count.family
    return replace(
        _with_zeros(count, name, ZI, likelihood),
        log_likelihood=model.log_likelihood,
        curvature=model.curvature,
        mean=model.mean,
        draw=model.draw,
        residual_variance=model.residual_variance,
        in_words=(
            f"counts with extra zeros (zero-inflated {words}, log link)",
            "the log of the expected count, apart from extra zeros, changes",
        ),
        stan_model=f"""for (j in 1:J) {{
  // zi: probability of an extra zero
  if (y[j] == 0) target += log_mix(zi, 0, {count.stan_zero});
  else target += log1m(zi) + {count.stan_mass};
}}""",
        stan_density=f"y[j] == 0 ? log_mix(zi, 0, {count.stan_zero})\n"
        f"      : log1m(zi) + {count.stan_mass}",
        jags_model=_JAGS.format(
            none="log(zi + (1 - zi) * none[j])",
            some="log(1 - zi) + log_count[j]",
            mass=count.jags_log_mass,
        )
        + f"none[j] <- {count.jags_zero}  # probability of a count of 0\nmu[j] <- exp(eta[j])",
        working=plain.working,
    )


def hurdle(count: Count, name: str, words: str, likelihood: int) -> Family:
    """The hurdle family of a count; as `zero_inflated`."""
    model = Hurdle(count)
    positive = f"ifelse(mu[j] < 1.0E-5, {count.jags_log_rate}, log(1 - none[j]))"
    return replace(
        _with_zeros(count, name, HU, likelihood),
        log_likelihood=model.log_likelihood,
        curvature=model.curvature,
        mean=model.mean,
        draw=model.draw,
        scale=model.scale,
        residual_variance=model.residual_variance,
        in_words=(
            f"counts with a hurdle (zeros, and {words} counts above 0, log link)",
            "the log of the expected count before zeros are left out changes",
        ),
        separated="the ones of `{label}` are separated from the larger counts",
        separation="positive counts",
        stan_model=f"""for (j in 1:J) {{
  // hu: probability of a zero; other counts are truncated
  if (y[j] == 0) target += log(hu);
  else target += log1m(hu) + {count.stan_mass}
    - log1m_exp({count.stan_zero});
}}""",
        stan_density=f"y[j] == 0 ? log(hu)\n"
        f"      : log1m(hu) + {count.stan_mass} - log1m_exp({count.stan_zero})",
        jags_model=_JAGS.format(
            none="log(hu)",
            some="log(1 - hu) + log_count[j] - log_some[j]",
            mass=count.jags_log_mass,
        )
        + f"# log_some: log probability of a count above 0\nlog_some[j] <- {positive}\n"
        f"none[j] <- {count.jags_zero}\nmu[j] <- exp(eta[j])",
        working=None,
    )


def _with_zeros(count: Count, name: str, zero: Parameter, likelihood: int) -> Family:
    """What zero-inflated and hurdle families have in common."""
    plain = count.family
    uniform = {zero.name: Prior("beta", (1.0, 1.0))}
    return replace(
        plain,
        name=name,
        parameters=(*plain.parameters, zero),
        read_outcome=read_zero_counts(plain.read_outcome),
        some_groups=some_zero_counts,
        priors=lambda outcome: {**plain.priors(outcome), **uniform},
        classic_priors=lambda outcome: {**plain.classic_priors(outcome), **uniform},
        example={"y": np.array([0, 1]), "zeros": np.zeros(2, dtype=np.int64)},
        kernel=lambda outcome: replace(count.kernel(outcome), likelihood=likelihood),
        jags_block=False,
    )
