"""Simulated data with known truth: memberships -> covariates -> outcomes.

Groups of three from one pool of members, who have effects of their own:

>>> from rmm.simulation import simulate
>>> simulated = simulate(
...     "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
...     {"b_l2[Intercept]": 0, "b_l1[x]": 0.5, "sigma_l1": 1, "sigma_l2": 1},
...     membership={"kind": "synthetic", "groups": 200, "members": 50, "size": 3},
...     covariates={"x": {"level": "member"}},
...     seed=1,
... )
>>> list(simulated.data)
['member', 'group', 'x', 'y']
>>> len(simulated.data)
600
>>> simulated.overlap["groups_per_member_mean"]
12.0

Pupils who may go to a second school, and an analysis that knows the first one only:

>>> schools = simulate(
...     "y ~ 1 + mm(id(school, pupil), vars = NULL, fn(w ~ 1/n), RE = TRUE)",
...     {"b_l2[Intercept]": 0, "sigma_l1": 1, "sigma_l2": 1.5},
...     membership={"kind": "neighbours", "members": 50, "groups_per_member": 50,
...                 "mobility": 0.25, "member": "school", "group": "pupil"},
...     covariates={"first": {"column": "first"}},
...     seed=1,
... )
>>> int((schools.data["first"] == 0).sum())
625

A member covariate that goes with what members contribute, and heavy tails:

>>> confounded = simulate(
...     "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
...     {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1, "sigma_l2": 1},
...     membership={"kind": "synthetic", "groups": 200, "members": 50, "size": 3},
...     covariates={"x": {"level": "member", "endogenous": {"u_l1": 0.5}}},
...     effects={"residual": {"distribution": "t", "df": 5}},
...     seed=1,
... )
>>> confounded.truth["b_l1[x]"]
0.0
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmm.arguments import check_seed, readable
from rmm.errors import DataError
from rmm.families import family_name
from rmm.simulation.category_sets import simulate_categories
from rmm.simulation.covariates.distributions import DISTRIBUTIONS
from rmm.simulation.data_sets import Drawn, Recipe, SimulatedData, draw, draw_fixed, prepare
from rmm.simulation.memberships.structures import STRUCTURES
from rmm.simulation.outcomes.outcomes import OUTCOMES
from rmm.simulation.recipe_errors import RecipeError
from rmm.simulation.validate import check_shape, plain


@readable(DataError)
def simulate(
    formula: str,
    parameters: Mapping[str, Any],
    *,
    membership: Mapping[str, Any],
    covariates: Mapping[str, Mapping[str, Any]] | None = None,
    family: str = "gaussian",
    effects: Mapping[str, Mapping[str, Any]] | None = None,
    trials: int | None = None,
    link: str | None = None,
    censoring: Mapping[str, float] | None = None,
    entry: Mapping[str, float] | None = None,
    baseline: Mapping[str, float] | None = None,
    cov: Mapping[str, Any] | None = None,
    categories: Sequence[Any] | None = None,
    seed: int | None = None,
    root: str | Path = ".",
) -> SimulatedData:
    """Simulate one data set from a multiple-membership model.

    Keys are those of a study file, with the same meaning: ``config/README.md`` has their tables.

    Parameters
    ----------
    formula : str
        The same language as `rmm.fit`; aggregates of members such as ``variance(x)`` included.
    parameters : mapping
        True value of every parameter: ``{"b_l2[Intercept]": 0, "b_l1[x]": 1, "sigma_l1": 1, ...}``;
        ``{"prior": "normal(0, 1)"}`` draws it.
    membership : mapping
        ``{"kind": "synthetic", "groups": 200, "members": 50, "size": 3, "overlap": 1}``;
        ``{"kind": "empirical", "file": ..., "member": ..., "group": ...}``, as they are or with
        ``"resample": "groups"`` or ``"nesting"`` (ids that are numbers stay numbers, whole ones
        int64); or ``{"kind": "neighbours", "members": 50,
        "groups_per_member": 50, "mobility": 0.25}``.
    covariates : mapping
        Name -> ``{"level": "member", ...}``; ``"endogenous": {"u_l1": 0.5}`` correlates one with
        random effects of the same units.
    family : str
        ``"gaussian"``, ``"binomial"``, ``"condlogit"``, ``"weibull"``, ``"cox"``, ``"poisson"``,
        ``"negbinomial"``, ``"zero_inflated_poisson"``, ``"zero_inflated_negbinomial"``,
        ``"hurdle_poisson"``, ``"hurdle_negbinomial"``,
        ``"lognormal"``, ``"gamma"``, ``"student"``, ``"beta"``,
        ``"probit"``, ``"cloglog"``, ``"ordinal"`` (levels from 1, with the thresholds
        ``tau[1|2]``, ``tau[2|3]``, ... among the parameters), ``"multinomial"`` (with
        `categories`; not in study files), or a synonym that `rmm.fit` takes, such as ``"zip"``.
    effects : mapping
        ``{"u_l1": {"distribution": "t", "df": 4}}`` for ``u_l1``, ``u_slope_l1``, ``u_l3``, and
        ``residual`` of family gaussian; normal if not said.
    trials : int, optional
        binomial with ``cbind(successes, failures)``: trials of each group; 1 if not said.
    link : {"logit", "probit"}, optional
        ordinal: logit if not said.
    censoring : mapping, optional
        weibull and cox: ``{"time": 10}`` (administrative), ``{"rate": 0.1}`` (random,
        exponential), both, or ``{"share": 0.3}``; none if not said.
    entry : mapping, optional
        weibull and cox with ``Surv(time, event, entry = start)``: ``{"time": 2, "share": 0.5}``,
        half of the groups enter late, uniformly between 0 and 2; ``"rate"`` instead of ``"time"``
        for exponential entries. Groups that fail before they enter are never seen.
    baseline : mapping, optional
        cox: ``{"shape": 1, "rate": 1}``, the hazard rate * shape * t^(shape - 1) at a linear
        predictor of 0. With ``strata()`` in the formula ``"spread": 0.5`` too, the sd of the
        normal distributions of log shape and log rate over strata.
    cov : mapping of str to pandas.DataFrame, optional
        Covariance matrices of member effects by the names that ``cov = A`` in the formula gives
        them, as for `rmm.fit`: effects are normal with covariance sigma_l1^2 A.
    categories : sequence, optional
        multinomial: the categories, the reference first. Parameters are those of
        `rmm.multinomial`: ``b_l2[left:Intercept]``, ``b_l1[left:x]``, ``sigma_l1[left]``, ...
    seed : int, optional
    root : path
        Folder that a relative path of a table starts from.

    Returns
    -------
    SimulatedData

    Raises
    ------
    FormulaError
    RecipeError
        A `DataError` that names the key which is wrong.
    """
    truth = {
        "formula": formula,
        "family": family,
        "parameters": parameters,
        "effects": effects,
        "trials": trials,
        "link": link,
        "censoring": censoring,
        "entry": entry,
        "baseline": baseline,
    }
    truth = {key: value for key, value in truth.items() if value is not None}
    covariates = {} if covariates is None else covariates
    if isinstance(family, str):
        family = truth["family"] = family_name(family) or family
    unordered = isinstance(family, str) and family == "multinomial"
    if unordered:  # each category has the predictor of a binomial outcome
        truth["family"] = "binomial"
        if cov is not None:
            raise RecipeError(
                "cov", "Family multinomial has no `cov`.", "Member effects are independent there."
            )
    elif categories is not None:
        raise RecipeError(
            "categories",
            f"Family {family!r} has no `categories`.",
            'They belong to family="multinomial".',
        )
    content = plain({"membership": membership, "covariates": covariates, "truth": truth})
    check_shape(content)
    check_seed(seed, DataError)
    if not isinstance(root, str | os.PathLike):
        raise RecipeError("root", f"The value is {root!r}.", "Allowed: the path of a folder.")
    if unordered:
        return simulate_categories(content, categories, Path(root), seed)
    recipe = prepare(content, Path(root), cov)
    streams = np.random.SeedSequence(seed).spawn(3)
    kept = {"membership": streams[0], "covariates": streams[1]}
    fixed = draw_fixed(recipe, lambda part: np.random.default_rng(kept[part]))
    drawn = draw(recipe, fixed, np.random.default_rng(streams[2]))
    return drawn.simulated()


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
