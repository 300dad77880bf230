"""Simulated data with known truth: memberships -> covariates -> outcomes.

>>> from rmm.simulation import simulate
>>> simulated = simulate(
...     "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
...     {"b_l2[Intercept]": 0, "b_l1[x]": 0.5, "sigma_l1": 1, "sigma_l2": 1},
...     membership={"kind": "synthetic", "groups": 200, "members": 50, "size": 3},
...     covariates={"x": {"level": "member"}},
...     seed=1,
... )
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmm.simulation.data import Drawn, Recipe, SimulatedData, draw, draw_fixed, prepare
from rmm.simulation.distributions import DISTRIBUTIONS
from rmm.simulation.membership import STRUCTURES
from rmm.simulation.outcomes import OUTCOMES
from rmm.simulation.recipes import RecipeError


def simulate(
    formula: str,
    parameters: Mapping[str, Any],
    *,
    membership: Mapping[str, Any],
    covariates: Mapping[str, Mapping[str, Any]] | None = None,
    family: str = "gaussian",
    effects: Mapping[str, Mapping[str, Any]] | None = None,
    trials: int | None = None,
    censoring: Mapping[str, float] | None = None,
    baseline: Mapping[str, float] | None = None,
    seed: int | None = None,
    root: str | Path = ".",
) -> SimulatedData:
    """Simulate one data set from a multiple-membership model.

    Parameters
    ----------
    formula : str
        The same language as `rmm.fit`.
    parameters : mapping
        True value of every parameter: ``{"b_l2[Intercept]": 0, "b_l1[x]": 1, "sigma_l1": 1, ...}``;
        ``{"prior": "normal(0, 1)"}`` draws it.
    membership : mapping
        ``{"kind": "synthetic", "groups": 200, "members": 50, "size": 3, "overlap": 1}`` or
        ``{"kind": "empirical", "file": ..., "member": ..., "group": ...}``; the keys are those of
        a study file.
    covariates : mapping
        Name -> ``{"level": "member", ...}``, as in a study file.
    family : str
    effects : mapping
        ``{"u_l1": {"distribution": "t", "df": 4}}``; normal if not said.
    trials : int, optional
        binomial with ``cbind(successes, failures)``: trials of each group; 1 if not said.
    censoring : mapping, optional
        weibull and cox: ``{"time": 10}`` (administrative), ``{"rate": 0.1}`` (random,
        exponential), both, or ``{"share": 0.3}``; none if not said.
    baseline : mapping, optional
        cox: ``{"shape": 1, "rate": 1}``, the hazard rate * shape * t^(shape - 1) at a linear
        predictor of 0.
    seed : int, optional
        Same seed, same data.
    root : path
        Folder that a relative path of a table starts from.

    Returns
    -------
    SimulatedData

    Raises
    ------
    FormulaError
        If the formula does not parse.
    RecipeError
        A `DataError` that names the key which is wrong.
    """
    truth = {"formula": formula, "family": family, "parameters": parameters, "effects": effects,
             "trials": trials, "censoring": censoring, "baseline": baseline}  # fmt: skip
    content = {"membership": membership, "covariates": covariates or {}, "truth": truth}
    recipe = prepare(content, Path(root))
    streams = np.random.SeedSequence(seed).spawn(3)
    kept = {"membership": streams[0], "covariates": streams[1]}
    fixed = draw_fixed(recipe, lambda part: np.random.default_rng(kept[part]))
    drawn = draw(recipe, fixed, np.random.default_rng(streams[2]))
    return SimulatedData(drawn.frame(), dict(drawn.truth.parameters))


__all__ = [
    "DISTRIBUTIONS",
    "OUTCOMES",
    "STRUCTURES",
    "Drawn",
    "Recipe",
    "RecipeError",
    "SimulatedData",
    "draw",
    "draw_fixed",
    "prepare",
    "simulate",
]
