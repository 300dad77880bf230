"""Data sets whose outcome has unordered categories: one linear predictor for each category.

The predictor of each category but the reference is that of a binomial outcome with the same
formula, memberships and covariates, with parameters and random effects of its own. The category k
is drawn with probability exp(eta_k) / sum_l exp(eta_l), eta of the reference being 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmm.errors import DataError, quoted, unknown_name
from rmm.formula.parse_formula import parse_formula
from rmm.simulation.covariates.covariates import draw_covariates, finish_covariates
from rmm.simulation.data_sets import Recipe, SimulatedData, draw_fixed, prepare
from rmm.simulation.memberships.overlap import overlap_facts
from rmm.simulation.outcomes.true_predictor import draw_all_effects, linear_predictor
from rmm.simulation.recipe_errors import RecipeError, listed

Array = np.ndarray[Any, Any]
_KEYS = ("formula", "family", "parameters", "effects")
_OWN = ("b_l2", "b_l1")  # parameters of each category by "category:label"


def simulate_categories(
    content: Mapping[str, Any], categories: Any, root: Path, seed: int | None
) -> SimulatedData:
    """One data set.

    Parameters
    ----------
    content : mapping
        membership, covariates, truth; the truth without `family`.
    categories : sequence
        The values of the outcome, the reference first.
    root : Path
        Folder that relative paths start from.
    seed : int or None

    Returns
    -------
    SimulatedData

    Raises
    ------
    RecipeError, FormulaError, DataError
    """
    values = _check_categories(categories)
    truth = dict(content["truth"])
    given = dict(truth.pop("parameters"))
    _check_truth(truth, given, content["covariates"])
    own = [_of_category(str(value), given, values) for value in values[1:]]
    recipes = [
        _recipe({**content, "truth": {**truth, "parameters": one}}, str(value), root)
        for value, one in zip(values[1:], own, strict=True)
    ]
    streams = np.random.SeedSequence(seed).spawn(3)
    drawn, effects, outcome = (np.random.default_rng(stream) for stream in streams)
    memberships, columns = _draw_units(recipes[0], drawn)
    count = memberships.counts["group"]
    eta = np.zeros((count, len(values)))
    for k, recipe in enumerate(recipes, start=1):
        u = draw_all_effects(recipe.truth, memberships, columns, effects)
        eta[:, k] = linear_predictor(recipe.truth, memberships, columns, u)
    if not np.isfinite(eta).all():
        group = memberships.group_labels[int(np.argmin(np.isfinite(eta).all(axis=1)))]
        raise DataError(f"A linear predictor of group {quoted(group)} is not finite.")
    codes = draw_codes(eta, outcome)
    (name,) = recipes[0].truth.outcomes
    data = memberships.ids()
    for covariate, column in columns.items():
        data[covariate] = memberships.expand(column.values, column.level, "membership")
    labels = np.empty(len(values), dtype=object)
    labels[:] = values
    kept = labels if any(isinstance(v, str) for v in values) else np.array(values)
    data[name] = kept[codes[memberships.group]]
    # Late: reading a study file needs no libraries of fits.
    import pandas as pd

    parameters = {name: float(value) for name, value in given.items()}
    return SimulatedData(pd.DataFrame(data), parameters, overlap_facts(memberships))


def draw_codes(eta: Array, rng: np.random.Generator) -> Array:
    """(J,) categories from 0, by inversion of their cumulative probabilities.

    Parameters
    ----------
    eta : (J, K) array
    rng : numpy.random.Generator

    Returns
    -------
    (J,) int array
    """
    odds = np.exp(eta - eta.max(axis=1, keepdims=True))
    up_to = np.cumsum(odds, axis=1)
    threshold = rng.uniform(size=(len(eta), 1)) * up_to[:, -1:]
    return np.asarray((threshold > up_to).sum(axis=1))


def _recipe(content: Mapping[str, Any], category: str, root: Path) -> Recipe:
    """The binomial recipe of one category; errors name the category."""
    try:
        return prepare(content, root)
    except RecipeError as error:
        problem = f"Category {quoted(category)}: {error.problem}"
        raise RecipeError(error.key, problem, error.advice) from None


def _draw_units(recipe: Recipe, rng: np.random.Generator) -> tuple[Any, Any]:
    """Memberships and covariates, as for any other family."""
    fixed = draw_fixed(recipe, lambda part: rng)
    memberships = fixed.memberships
    if memberships is None:
        memberships = recipe.membership(rng)
    own = draw_covariates(recipe.covariates, memberships, rng, once=False)
    return memberships, finish_covariates({**fixed.columns, **own}, recipe.covariates, memberships)


def _check_categories(categories: Any) -> list[Any]:
    plain = isinstance(categories, list | tuple)
    values = [v.item() if isinstance(v, np.generic) else v for v in categories] if plain else []
    known = all(isinstance(v, str | int) and not isinstance(v, bool) for v in values)
    if len(values) < 2 or not known or len({str(v) for v in values}) < len(values):
        raise RecipeError(
            "categories",
            f"The value is {categories!r:.60}.",
            "Family multinomial needs a list of two or more different texts or whole numbers, the "
            "reference first.",
        )
    return values


def _check_truth(
    truth: Mapping[str, Any], given: Mapping[str, Any], covariates: Mapping[str, Any]
) -> None:
    formula = parse_formula(truth["formula"])
    for name in truth:
        if name not in _KEYS:
            kind = "a key of a truth of family 'multinomial'"
            raise RecipeError(f"truth.{name}", unknown_name(name, kind, _KEYS))
    if formula.outcome.kind != "plain":
        raise RecipeError(
            "truth.formula",
            f"The outcome {formula.outcome.label!r} cannot be simulated with family 'multinomial'.",
            "Write one plain name: y ~ ...",
        )
    if formula.nestings:
        raise RecipeError("truth.formula", "Family multinomial has no hm().", "Remove it.")
    for name, covariate in covariates.items():
        if covariate.get("endogenous"):
            raise RecipeError(
                f"covariates.{name}.endogenous",
                "Family multinomial has member effects for each category, so that it is not clear "
                "which of them the covariate depends on.",
                "Remove `endogenous`.",
            )
    priors = [name for name, value in given.items() if isinstance(value, Mapping)]
    if priors:
        raise RecipeError(
            f"truth.parameters.{priors[0]}",
            "Family multinomial has no true values that are drawn.",
            "Give a number.",
        )


def _of_category(category: str, given: Mapping[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """The parameters of one category by their names in a binomial model."""
    others = [str(value) for value in values[1:]]
    out: dict[str, Any] = {}
    for name, value in given.items():
        vector, _, element = name.partition("[")
        if vector in _OWN:
            whose = [k for k in others if element.startswith(f"{k}:")]
            if not whose:
                raise _unknown(name, vector, others)
            if max(whose, key=len) == category:
                out[f"{vector}[{element.removeprefix(f'{category}:')}"] = value
        elif vector == "sigma_l1":
            if element.removesuffix("]") not in others:
                raise _unknown(name, vector, others)
            if element == f"{category}]":
                out[vector] = value
        else:  # of weights, which all categories share
            out[name] = value
    return out


def _unknown(name: str, vector: str, others: Sequence[str]) -> RecipeError:
    form = "sigma_l1[{}]" if vector == "sigma_l1" else vector + "[{}:...]"
    allowed = [form.format(other) for other in others]
    return RecipeError(
        f"truth.parameters.{name}",
        unknown_name(name, "a parameter of a category other than the reference", allowed),
        f"Each of {listed(others)} has its own; the reference has none.",
    )
