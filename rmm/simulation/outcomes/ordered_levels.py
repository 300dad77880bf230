"""Ordered levels: a latent variable that thresholds cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from rmm.simulation.outcomes.outcome_model import OutcomeModel, Replication, Setting, linear
from rmm.simulation.recipe_errors import RecipeError, check_name

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]

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


def _draw(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_levels(eta, thresholds(truth.parameters), truth.options.get("link", "logit"), rng)


def _probability(eta: Array, truth: Truth, level: float | None) -> Array:
    assert level is not None
    cuts, link = thresholds(truth.parameters), truth.options.get("link", "logit")
    return share_of_level(eta, cuts, link, int(level))


def _mean_level(eta: Array, truth: Truth, time: float | None) -> Array:
    """1 + the sum of the probabilities of being above each threshold."""
    cuts, link = thresholds(truth.parameters), truth.options.get("link", "logit")
    return np.asarray(1 + sum(1 - BELOW[link](cut - eta) for cut in cuts))


def _noise(truth: Truth, mean: float) -> float:
    return 1.0 if truth.options.get("link") == "probit" else np.pi**2 / 3


def _density(drawn: Replication) -> Array:
    """Differences of distribution functions, from SciPy's logs on the side where they are small."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    law = stats.norm if drawn.truth.options.get("link") == "probit" else stats.logistic
    cuts = np.sort([v for name, v in drawn.truth.parameters.items() if name.startswith("tau[")])
    ends, level = np.array([-np.inf, *cuts, np.inf]), drawn.outcome.astype(int)
    low, high = ends[level - 1] - drawn.eta, ends[level] - drawn.eta
    left = np.array([law.logcdf(high), law.logcdf(low)])
    right = np.array([law.logsf(low), law.logsf(high)])
    pairs = np.where(low + high < 0, left, right)
    return np.asarray(special.logsumexp(pairs, axis=0, b=np.array([[1.0], [-1.0]])))


ORDINAL = OutcomeModel(
    ("plain",),
    _draw,
    {"linear": linear, "probability": _probability, "mean": _mean_level},
    _noise,
    _density,
    ("link",),
    check_ordinal,
)
