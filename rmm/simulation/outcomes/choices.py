"""Binary and binomial outcomes, shares, and choices of one group out of each stratum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from rmm.simulation.outcomes.outcome_model import OutcomeModel, Setting, linear
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.simulation.data_sets import Drawn
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
    eta: Array, columns: int, trials: int | None, rng: np.random.Generator
) -> tuple[Array, ...]:
    """(J,) 0/1 with P(1) = 1 / (1 + exp(-eta)), or successes and failures of `trials` of them."""
    if columns == 1:
        if trials not in (None, 1):
            raise RecipeError(
                "truth.trials",
                f"There are {trials} trials, but the outcome is 0 or 1.",
                "Write the outcome as cbind(successes, failures).",
            )
        return ((rng.logistic(size=len(eta)) < eta).astype(np.int64),)
    count = 1 if trials is None else trials
    successes = np.sum(rng.logistic(size=(count, len(eta))) < eta, axis=0)
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


def _binomial(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_binomial(eta, len(truth.outcomes), truth.options.get("trials"), rng)


def _condlogit(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    memberships, name = setting.memberships, setting.truth.formula.strata
    assert name is not None
    if name == memberships.names.nesting:
        assert memberships.nesting is not None
        return draw_choices(eta, memberships.nesting, rng)
    column = setting.columns[name]
    return draw_choices(eta, memberships.expand(column.values, column.level, "group"), rng)


def _binomial_density(drawn: Drawn) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    successes, *failures = drawn.outcomes.values()
    trials = successes + failures[0] if failures else np.ones_like(successes)
    return np.asarray(stats.binom.logpmf(successes, trials, special.expit(drawn.eta)))


def _choice_density(drawn: Drawn) -> Array:
    """Log probability of the chosen group of each stratum."""
    name = drawn.truth.formula.strata
    assert name is not None, "the family has strata"
    nested = name == drawn.memberships.names.nesting
    strata = np.asarray(drawn.memberships.nesting if nested else drawn.by_group(name))
    of = [strata == s for s in np.unique(strata)]
    return np.concatenate(
        [special.log_softmax(drawn.eta[here])[drawn.outcome[here] == 1] for here in of]
    )


BINOMIAL = OutcomeModel(
    ("plain", "cbind"),
    _binomial,
    {"mean": lambda eta, truth, time: special.expit(eta), "linear": linear},
    lambda truth, mean: _LOGISTIC,
    _binomial_density,
    ("trials",),
    check_binomial,
)
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


def _beta_density(drawn: Drawn) -> Array:
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
