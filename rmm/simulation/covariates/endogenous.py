"""Covariates that are correlated with random effects of the same units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.simulation.covariates.covariates import Column, correlations
from rmm.simulation.recipe_errors import RecipeError, check_name, listed

if TYPE_CHECKING:
    from rmm.model.spec import ModelSpec

Array = np.ndarray[Any, Any]

#: Name of the group residual among the effects of families that have one.
RESIDUAL = "residual"
_WITH_RESIDUAL = ("gaussian", "lognormal")


@dataclass(frozen=True, eq=False)
class Dependence:
    """How the latent normals of an effect follow from those of its covariates.

    With S the correlation matrix of the covariates and r their correlations with the effect,
    z = r' S^-1 x + sqrt(1 - r' S^-1 r) e: the conditional normal distribution.

    Attributes
    ----------
    covariates : tuple of str
    coefficients : (covariates,) array
    rest : float
        Standard deviation of the part that is not the covariates'.
    """

    covariates: tuple[str, ...]
    coefficients: Array
    rest: float

    def latent(self, own: Array, columns: Mapping[str, Column]) -> Array:
        """(units,) standard normals of the effect; `own` is its part e."""
        out = self.rest * own
        for name, coefficient in zip(self.covariates, self.coefficients, strict=True):
            latent = columns[name].latent
            assert latent is not None
            out = out + coefficient * latent
        return out


def effect_levels(spec: ModelSpec) -> dict[str, str]:
    """Random effect -> level of its units; walks have a step per membership.

    Correlated effects of members, those with a known covariance and AR(1) processes are not among
    them: they are normal, and go with no covariate.
    """
    out: dict[str, str] = {}
    for part in spec.members:
        # Jointly normal, independent of covariates.
        if part.correlated or part.related or part.in_role or part.series:
            continue
        if part.random:
            out[part.u] = "membership" if part.walk else "member"
        out |= {f"{part.u_slope}[{term.label}]": "member" for term in part.block.slopes}
    out |= {part.u: "nesting" for part in spec.nestings if part.random}
    return out | ({RESIDUAL: "group"} if spec.family.name in _WITH_RESIDUAL else {})


def effect_shapes(spec: ModelSpec) -> list[str]:
    """Names under which a distribution can be given: `u_slope_l1` stands for all its slopes."""
    whole = [part.u_slope for part in spec.members if part.slopes and not part.correlated]
    return [*effect_levels(spec), *whole]


def dependences(
    covariates: Mapping[str, Mapping[str, Any]], spec: ModelSpec
) -> dict[str, Dependence]:
    """Effect -> how it depends on covariates, of the effects for which one says so.

    Parameters
    ----------
    covariates : mapping
        Name -> settings, checked by `check_covariates`.
    spec : ModelSpec

    Raises
    ------
    RecipeError
        If there is no such effect, its units are others, or no variables have such correlations.
    """
    wanted: dict[str, dict[str, float]] = {}
    for name in sorted(covariates):
        for effect, value in (covariates[name].get("endogenous") or {}).items():
            _check_pair(name, covariates[name], effect, spec)
            wanted.setdefault(effect, {})[name] = value
    return {effect: _solved(effect, found, covariates) for effect, found in wanted.items()}


def _check_pair(name: str, one: Mapping[str, Any], effect: str, spec: ModelSpec) -> None:
    key, levels = f"covariates.{name}.endogenous.{effect}", effect_levels(spec)
    if one.get("column") is not None:
        raise RecipeError(
            f"covariates.{name}.endogenous",
            "A covariate from a column of a table cannot be endogenous.",
            "Only covariates that are drawn can be endogenous: leave out `column`.",
        )
    if effect == RESIDUAL and effect not in levels:
        raise RecipeError(
            key,
            f"Family {spec.family.name!r} has no residual.",
            f"Allowed: {listed(levels)}. Families with a residual: {listed(_WITH_RESIDUAL)}.",
        )
    check_name(key, "a random effect of the formula", effect, levels)
    if one["level"] != levels[effect]:
        fitting = [e for e, level in levels.items() if level == one["level"]]
        raise RecipeError(
            key,
            f"{effect} is an effect of level {levels[effect]}, but the covariate {name!r} has "
            f"level {one['level']}.",
            f"Allowed at level {one['level']}: {listed(fitting)}.",
        )
    if one.get("icc"):
        raise RecipeError(
            key,
            f"{name!r} has `icc`, but the steps of a random walk are independent.",
            "Leave out `icc` or `endogenous`.",
        )


def _solved(
    effect: str, wanted: Mapping[str, float], covariates: Mapping[str, Mapping[str, Any]]
) -> Dependence:
    names = tuple(wanted)
    r = np.array([wanted[name] for name in names], dtype=float)
    coefficients = np.linalg.solve(correlations(names, covariates), r)
    explained = float(r @ coefficients)
    if explained >= 1:
        raise RecipeError(
            f"covariates.{names[0]}.endogenous.{effect}",
            f"These correlations contradict each other: the correlation matrix of {effect} and "
            f"{listed(names)} is not positive definite.",
            "Make the correlations smaller.",
        )
    return Dependence(names, coefficients, float(np.sqrt(1 - explained)))
