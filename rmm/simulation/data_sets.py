"""A recipe (memberships, covariates, truth) -> data sets with known truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import DataError
from rmm.simulation.covariates.covariates import (
    Column,
    check_covariates,
    draw_covariates,
    finish_covariates,
)
from rmm.simulation.memberships.overlap import overlap_facts
from rmm.simulation.memberships.structures import Draw, IdNames, Memberships, prepare_membership
from rmm.simulation.outcomes.outcomes import draw_outcome
from rmm.simulation.recipe_errors import RecipeError
from rmm.simulation.true_model import Truth
from rmm.simulation.truth_config import prepare_truth
from rmm.simulation.validate import usable_numbers

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
_ROWS_SHOWN = 5  # in a notebook


@dataclass(frozen=True)
class SimulatedData:
    """A simulated data set.

    Attributes
    ----------
    data : pandas.DataFrame
        One row per membership: ids, covariates, outcome.
    truth : dict
        True value of every parameter, by name as in `Fit.summary`.
    overlap : dict
        How members are shared; see `rmm.simulation.memberships.overlap.overlap_facts`.
    """

    data: pd.DataFrame
    truth: dict[str, float]
    overlap: dict[str, float] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """What notebooks show: sizes, the truth and the first rows."""
        # Late: reading a study file needs no libraries of fits.
        import pandas as pd

        sizes = [f"{self.overlap[k]:g} {k}" for k in ("groups", "members") if k in self.overlap]
        sizes.append(f"{len(self.data)} memberships")
        truth = pd.DataFrame({"truth": self.truth}, dtype=float)
        tables = [
            t.to_html(float_format=lambda v: f"{v:.3f}", border=0, escape=True)
            for t in (truth, self.data.head(_ROWS_SHOWN))
        ]
        return f"<p>{', '.join(sizes)}</p>{''.join(tables)}"


@dataclass(frozen=True, eq=False)
class Drawn:
    """One replication as arrays: what `SimulatedData` is made from.

    Attributes
    ----------
    eta : (J,) array
        True linear predictor of the groups, random effects and all.
    memberships : Memberships
        M memberships in J groups.
    columns : mapping
        Covariate -> its values at its own level.
    outcomes : mapping
        Outcome column -> (J,) array.
    truth : Truth
    effects : mapping
        True random effects by name: ``u_l1``, ``u_slope_l1[x]``, ``u_l3``.
    """

    memberships: Memberships
    columns: Mapping[str, Column]
    outcomes: Mapping[str, Array]
    truth: Truth
    eta: Array
    effects: Mapping[str, Array]

    @property
    def outcome(self) -> Array:
        """(J,) values of the outcome, or of its first column: the times of a `Surv()`."""
        return self.outcomes[self.truth.outcomes[0]]

    def rows(self, name: str) -> Array:
        """(M,) values of a covariate or an outcome column, one per membership.

        Parameters
        ----------
        name : str

        Returns
        -------
        array
        """
        if name in self.outcomes:
            return self.outcomes[name][self.memberships.group]
        column = self.columns[name]
        return self.memberships.expand(column.values, column.level, "membership")

    def by_group(self, name: str) -> Array:
        """(J,) values of a group- or nesting-level covariate.

        Parameters
        ----------
        name : str

        Returns
        -------
        array
        """
        column = self.columns[name]
        return self.memberships.expand(column.values, column.level, "group")

    def arrays(self) -> dict[str, Array]:
        """Column -> (M,) values, one per membership: ids, covariates, outcome."""
        data = self.memberships.ids()
        for name in (*self.columns, *self.outcomes):
            data[name] = self.rows(name)
        return data

    def frame(self) -> pd.DataFrame:
        """One row per membership: ids, covariates, outcome."""
        # Late: reading a study file needs no libraries of fits.
        import pandas as pd

        return pd.DataFrame(self.arrays())

    def simulated(self) -> SimulatedData:
        """The data set with its truth."""
        facts = overlap_facts(self.memberships)
        return SimulatedData(self.frame(), dict(self.truth.parameters), facts)


@dataclass(frozen=True, eq=False)
class Recipe:
    """A checked description of what to simulate.

    Attributes
    ----------
    membership : callable
        ``rng -> Memberships``.
    fixed : bool
        Whether memberships are the same in all replications.
    names : IdNames
    covariates : mapping
        As in the study file.
    levels : mapping
        Covariate -> its level.
    truth : Truth
    """

    membership: Draw
    fixed: bool
    names: IdNames
    covariates: Mapping[str, Mapping[str, Any]]
    levels: Mapping[str, str]
    truth: Truth


@dataclass(frozen=True, eq=False)
class FixedPart:
    """What all replications of a scenario share."""

    memberships: Memberships | None
    columns: Mapping[str, Column]


def prepare(content: Mapping[str, Any], root: Path, cov: Mapping[str, Any] | None = None) -> Recipe:
    """Check what to simulate: everything that can be wrong is found here.

    Parameters
    ----------
    content : mapping
        membership, covariates, truth; see ``study.schema.json``.
    root : Path
        Folder that relative paths start from.
    cov : mapping of str to pandas.DataFrame, optional
        Known covariance matrices of member effects.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError, FormulaError
    """
    content = {part: usable_numbers(value or {}, part) for part, value in content.items()}
    covariates = content.get("covariates", {})
    membership, fixed = prepare_membership(content["membership"], root)
    # One draw (with any seed) settles names and the levels of real columns.
    trial = membership(np.random.default_rng(0))
    check_covariates(covariates, trial.nesting is not None, fixed)
    levels = _levels(covariates, trial)
    truth = prepare_truth(content["truth"], levels, trial.names, covariates, cov)
    ids = (trial.names.member, trial.names.group, trial.names.nesting)
    for name in truth.outcomes:
        if name in ids or name == "n":
            raise RecipeError(
                "truth.formula",
                f"The outcome cannot be called {name!r}.",
                f"This name is used already. Used names: {_taken(*ids)}.",
            )
    for name in covariates:
        if name in ids or name in truth.outcomes or name == "n":
            raise RecipeError(
                f"covariates.{name}",
                f"A covariate cannot be called {name!r}.",
                f"This name is used already. Used names: {_taken(*ids, *truth.outcomes)}.",
            )
    recipe = Recipe(membership, fixed, trial.names, covariates, levels, truth)
    if any(block.features for block in truth.formula.members):
        _try(recipe)
    return recipe


def _try(recipe: Recipe) -> None:
    """One replication, thrown away: aggregates need values of one sign, which shows in it."""
    rng = np.random.default_rng(0)
    try:
        draw(recipe, draw_fixed(recipe, lambda part: rng), rng)
    except RecipeError:
        raise
    except DataError:
        return  # of true values that priors gave this once


def _taken(*names: str | None) -> str:
    return ", ".join(f"`{name}`" for name in (*names, "n") if name is not None)


def _levels(covariates: Mapping[str, Any], trial: Memberships) -> dict[str, str]:
    real = {n: c for n, c in covariates.items() if c.get("column") is not None}
    found = {n: c.level for n, c in finish_covariates({}, real, trial).items()}
    return {n: found.get(n) or str(c["level"]) for n, c in covariates.items()}


def draw_fixed(recipe: Recipe, rng: Any) -> FixedPart:
    """Draw what all replications share.

    Parameters
    ----------
    recipe : Recipe
    rng : callable
        ``rng(part) -> Generator`` with part ``"membership"`` or ``"covariates"``.

    Returns
    -------
    FixedPart
    """
    if not recipe.fixed:
        return FixedPart(None, {})
    memberships = recipe.membership(rng("membership"))
    columns = draw_covariates(recipe.covariates, memberships, rng("covariates"), once=True)
    return FixedPart(memberships, columns)


def draw(recipe: Recipe, fixed: FixedPart, rng: np.random.Generator) -> Drawn:
    """One replication.

    Parameters
    ----------
    recipe : Recipe
    fixed : FixedPart
        Of `draw_fixed`, the same for all replications of a scenario.
    rng : numpy.random.Generator

    Returns
    -------
    Drawn

    Raises
    ------
    DataError
        If values that were drawn do not go with the formula.
    """
    truth = recipe.truth.drawn(rng)
    memberships = fixed.memberships
    if memberships is None:
        memberships = recipe.membership(rng)
    drawn = {
        **fixed.columns,
        **draw_covariates(recipe.covariates, memberships, rng, once=False),
    }
    columns = finish_covariates(drawn, recipe.covariates, memberships)
    eta, outcomes, effects = draw_outcome(truth, memberships, columns, rng)
    return Drawn(memberships, columns, outcomes, truth, eta, effects)
