"""Binary and binomial outcomes, shares, and choices of one group out of each stratum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from rmm.simulation.outcomes.outcome_model import (
    OutcomeModel,
    Replication,
    Setting,
    linear,
    strata_of,
)
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]
_GUMBEL, _LOGISTIC = np.pi**2 / 6, np.pi**2 / 3  # variances


def check_binomial(options: Mapping[str, Any]) -> None:
    """Check `trials`.

    Raises
    ------
    RecipeError
    """
    trials = options.get("trials", 1)
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise RecipeError(
            "truth.trials", f"The value is {trials!r}.", "Allowed: a whole number of at least 1."
        )


def draw_binomial(
    eta: Array, columns: int, trials: int | None, thresholds: Callable[..., Array]
) -> tuple[Array, ...]:
    """(J,) 0/1, or successes and failures of `trials`.

    A trial is a success where its random threshold is below eta: a logistic variable has
    P(1) = 1 / (1 + exp(-eta)), a normal one Phi(eta). ``thresholds(size=shape)`` draws them.
    """
    if columns == 1:
        if trials not in (None, 1):
            raise RecipeError(
                "truth.trials",
                f"There are {trials} trials, but the outcome is 0 or 1.",
                "Write the outcome as cbind(successes, failures).",
            )
        return ((thresholds(size=len(eta)) < eta).astype(np.int64),)
    count = 1 if trials is None else trials
    successes = np.sum(thresholds(size=(count, len(eta))) < eta, axis=0)
    return successes, count - successes


def draw_choices(eta: Array, strata: Array, rng: np.random.Generator) -> tuple[Array]:
    """(J,) 0/1: in each stratum one group is 1, group j with probability exp(eta_j) / sum.

    Drawn stratum by stratum from these probabilities.

    Raises
    ------
    RecipeError
        If a stratum has only one group.
    """
    chosen = np.zeros(len(eta), dtype=np.int64)
    for stratum in np.unique(strata):
        groups = np.flatnonzero(strata == stratum)
        if len(groups) < 2:
            raise RecipeError(
                "truth.formula",
                f"Stratum {stratum} of strata() has only one group.",
                "A choice needs two groups or more: make the strata larger.",
            )
        odds = np.exp(eta[groups] - eta[groups].max())
        chosen[rng.choice(groups, p=odds / odds.sum())] = 1
    return (chosen,)


def _binomial(
    threshold: Callable[[np.random.Generator], Callable[..., Array]],
) -> Callable[[Array, Setting, np.random.Generator], tuple[Array, ...]]:
    """Draws of the outcome whose trials have such thresholds."""

    def draw(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
        truth = setting.truth
        trials = truth.options.get("trials")
        return draw_binomial(eta, len(truth.outcomes), trials, threshold(rng))

    return draw


def _least_of_events(rng: np.random.Generator) -> Callable[..., Array]:
    """Log of a standard exponential time: below eta with probability 1 - exp(-exp(eta))."""
    return lambda size: np.log(rng.standard_exponential(size=size))


def _condlogit(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    return draw_choices(eta, strata_of(setting), rng)


def _successes(drawn: Replication, p: Array) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    successes, *failures = drawn.outcomes.values()
    trials = successes + failures[0] if failures else np.ones_like(successes)
    return np.asarray(stats.binom.logpmf(successes, trials, p))


def _choice_density(drawn: Replication) -> Array:
    """Log probability of the chosen group of each stratum."""
    (name,) = drawn.truth.formula.strata
    nested = name == drawn.memberships.names.nesting
    strata = np.asarray(drawn.memberships.nesting if nested else drawn.by_group(name))
    of = [strata == s for s in np.unique(strata)]
    return np.concatenate(
        [special.log_softmax(drawn.eta[here])[drawn.outcome[here] == 1] for here in of]
    )


def _of_link(
    probability: Callable[[Array], Array],
    threshold: Callable[[np.random.Generator], Callable[..., Array]],
    noise: float,
) -> OutcomeModel:
    """The binomial model with an inverse link."""
    return OutcomeModel(
        ("plain", "cbind"),
        _binomial(threshold),
        {"mean": lambda eta, truth, time: probability(eta), "linear": linear},
        lambda truth, mean: noise,
        lambda drawn: _successes(drawn, probability(drawn.eta)),
        ("trials",),
        check_binomial,
    )


BINOMIAL = _of_link(special.expit, lambda rng: rng.logistic, _LOGISTIC)
PROBIT = _of_link(special.ndtr, lambda rng: rng.standard_normal, 1.0)
CLOGLOG = _of_link(lambda eta: -np.expm1(-np.exp(eta)), _least_of_events, _GUMBEL)
CONDLOGIT = OutcomeModel(
    ("plain",), _condlogit, {"linear": linear}, lambda truth, mean: _GUMBEL, _choice_density
)


def _beta(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    """Mean expit(eta), X / (X + Y) of two gamma variables; not finite where it rounds to 0 or 1."""
    phi = setting.truth.parameters["phi"]
    x, y = (rng.standard_gamma(phi * special.expit(sign * eta)) for sign in (1, -1))
    share = x / (x + y)
    return (np.where((share > 0) & (share < 1), share, np.nan),)


def _beta_noise(truth: Truth, mean: float) -> float:
    """Variance of the logit of a share of that mean."""
    phi = truth.parameters["phi"]
    return float(special.polygamma(1, phi * mean) + special.polygamma(1, phi * (1 - mean)))


def _beta_density(drawn: Replication) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    phi, mean = drawn.truth.parameters["phi"], special.expit(drawn.eta)
    return np.asarray(stats.beta.logpdf(drawn.outcome, phi * mean, phi * (1 - mean)))


BETA = OutcomeModel(
    ("plain",),
    _beta,
    {"mean": lambda eta, truth, time: special.expit(eta), "linear": linear},
    _beta_noise,
    _beta_density,
)
