"""Member effects with a known covariance matrix, `cov = A`: sigma_l1 times draws of N(0, A)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import quoted, unknown_name
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    import pandas as pd

    from rmm.formula.terms import Formula

Array = np.ndarray[Any, Any]
_SHOWN = 5  # members that a message names
_ROUNDING = 1e-8  # of the largest element


@dataclass(frozen=True, eq=False)
class EffectCovariance:
    """A matrix of `simulate(cov=)`.

    Attributes
    ----------
    name : str
    table : pandas.DataFrame
        Rows and columns are the members, in one order.
    """

    name: str
    table: pd.DataFrame

    def of(self, members: Array) -> Array:
        """(K, K) covariances of some members.

        Raises
        ------
        RecipeError
            For members that the matrix lacks.
        """
        absent = [m for m in members if m not in self.table.index]
        if absent:
            shown = ", ".join(quoted(m) for m in absent[:_SHOWN]) + ", ..." * (len(absent) > _SHOWN)
            raise RecipeError(
                f"cov.{self.name}",
                f"The matrix lacks members of the data: {shown}.",
                "Give it a row and a column for each member, with the member's id as the label.",
            )
        return self.table.loc[list(members), list(members)].to_numpy(dtype=float)

    def draw(self, members: Array, sd: float, rng: np.random.Generator) -> Array:
        """(K,) effects."""
        zero = np.zeros(len(members))
        return sd * rng.multivariate_normal(zero, self.of(members), method="eigh")


def read_effect_covariances(
    given: Mapping[str, pd.DataFrame] | None, formula: Formula
) -> dict[str, EffectCovariance]:
    """The matrices of a formula, checked.

    Parameters
    ----------
    given : mapping of str to pandas.DataFrame, or None
        None in study files, which cannot have matrices.
    formula : Formula

    Raises
    ------
    RecipeError
    """
    wanted = {block.covariance for block in formula.members} - {None}
    if given is not None and not isinstance(given, Mapping):
        raise RecipeError(
            "cov", f"The value is of type {type(given).__name__}.", 'Allowed: {"A": matrix}.'
        )
    given = given or {}
    for name in given:
        if name not in wanted:
            kind = "a matrix that the formula names with `cov =`"
            raise RecipeError(f"cov.{name}", unknown_name(name, kind, sorted(map(str, wanted))))
    for name in sorted(map(str, wanted)):
        if name not in given:
            raise RecipeError(
                "truth.formula",
                f"The formula has `cov = {name}`, but there is no matrix `{name}`.",
                f'Give it in Python: rmm.simulate(..., cov={{"{name}": matrix}}). Study files '
                "cannot contain matrices: leave `cov =` out there.",
            )
    return {name: _read(name, table) for name, table in given.items()}


def _read(name: str, table: Any) -> EffectCovariance:
    # Late: reading a study file needs no libraries of fits.
    import pandas as pd

    key = f"cov.{name}"
    if not isinstance(table, pd.DataFrame):
        raise RecipeError(
            key,
            f"The value is of type {type(table).__name__}.",
            "Allowed: a pandas DataFrame whose rows and columns are labelled with the members.",
        )
    if table.index.has_duplicates or set(table.index) != set(table.columns):
        raise RecipeError(
            key, "Its rows and columns are not labelled with the same members, each once."
        )
    if table.columns.has_duplicates:
        raise RecipeError(key, "A member has several columns.")
    try:
        table = table[list(table.index)].astype(float)
    except (TypeError, ValueError):
        raise RecipeError(key, "It does not consist of numbers.") from None
    values = table.to_numpy()
    if not np.isfinite(values).all():
        raise RecipeError(key, "It has values that are missing or infinite.")
    if np.abs(values - values.T).max(initial=0) > _ROUNDING * np.abs(values).max(initial=0):
        raise RecipeError(key, "It is not symmetric.")
    least = float(np.linalg.eigvalsh(values).min(initial=np.inf))
    if least <= 0:
        raise RecipeError(
            key, f"It is not positive definite: its smallest eigenvalue is {least:.3g}."
        )
    return EffectCovariance(name, table)
