"""Binary and binomial outcomes, and choices of one group out of each stratum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.simulation.recipe_errors import RecipeError

Array = np.ndarray[Any, Any]

#: Keys of the truth of family binomial besides the common ones.
BINOMIAL_KEYS = ("trials",)


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
