"""Ordered levels: a latent variable that thresholds cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from rmm.simulation.recipe_errors import RecipeError, check_name

Array = np.ndarray[Any, Any]

ORDINAL_KEYS = ("link",)
#: Link -> probability that the latent noise is below a number.
BELOW = {
    "logit": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "probit": lambda x: 0.5 * special.erfc(-x / np.sqrt(2)),
}


def check_ordinal(options: Mapping[str, Any]) -> None:
    """Check the link."""
    check_name("truth.link", "a link", options.get("link", "logit"), BELOW)


def count_thresholds(given: Mapping[str, Any]) -> int:
    """Number of the thresholds among the parameters of a truth.

    Raises
    ------
    RecipeError
        If there are fewer than two.
    """
    count = sum(name.startswith("tau[") for name in given)
    if count < 2:
        raise RecipeError(
            "truth.parameters",
            f"{'One threshold is' if count else 'No thresholds are'} given.",
            "Family ordinal needs two or more: tau[1|2], tau[2|3], ...",
        )
    return count


def thresholds(parameters: Mapping[str, float]) -> Array:
    """(K - 1,) thresholds of a truth, from the lowest."""
    return np.array([v for name, v in parameters.items() if name.startswith("tau[")])


def draw_levels(eta: Array, cuts: Array, link: str, rng: np.random.Generator) -> tuple[Array]:
    """(J,) levels from 1, by inversion: how many P(level <= k) a uniform number exceeds."""
    up_to = np.array([BELOW[link](cut - eta) for cut in cuts])
    return (1 + np.sum(rng.uniform(size=len(eta)) > up_to, axis=0),)


def share_of_level(eta: Array, cuts: Array, link: str, level: int) -> Array:
    """(J,) probabilities of a level, from 1."""
    ends = np.array([-np.inf, *cuts, np.inf])
    return np.asarray(BELOW[link](ends[level] - eta) - BELOW[link](ends[level - 1] - eta))
