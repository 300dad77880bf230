"""A multiple-membership model with known weights by restricted maximum likelihood.

This is what users of lme4 do: the weights are given, the coefficients are tested by z or t. The
arrays are those of `rmm.fit`, the numerics `frequentist.restricted_likelihood`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.study.files.parquet import OK
from rmm.study.methods.fit_regression import estimate_rows
from rmm.study.methods.frequentist.maximum_likelihood import check_rank
from rmm.study.methods.frequentist.restricted_likelihood import Restricted, restricted_maximum
from rmm.study.methods.task import Outcome, Task

if TYPE_CHECKING:
    from rmm.backends.base import Run
    from rmm.design.prepare import Model

Array = np.ndarray[Any, Any]


def fit_reml(task: Task) -> Outcome:
    """Coefficients with tests and intervals; standard deviations and estimands without.

    With ``tests: t`` a coefficient has as many degrees of freedom as its level has units, less the
    number p of coefficients: K - p of K members for `b_l1`, J - p of J groups for `b_l2`.
    """
    # Late: reading a study file needs no libraries of fits.
    from rmm.study.methods.bayesian import lay_out_model

    model = lay_out_model(task, task.formula)
    names, X, units = _coefficients(model)
    check_rank(X, names, "collinear")
    effects = list(_effects(model))
    y = np.asarray(model.design.outcome["y"], dtype=float)
    if model.design.offset is not None:
        y = y - model.design.offset
    found = restricted_maximum(y, X, [effect.matrix for effect in effects])
    df = np.full(len(names), np.inf)
    if task.method.config["tests"] == "t":
        df = units - len(names)
        if (df < 1).any():
            name = names[int(np.argmin(df))]
            raise ValueError(f"{name} has no degrees of freedom: {int(df.min())}")
    rows = estimate_rows(names, found.b, np.sqrt(np.diag(found.covariance)), df, task.nulls)
    rows += _points(_plugged_in(task, model, names, found, effects))
    return Outcome(OK, tuple(rows), fit=found)


@dataclass(frozen=True)
class _Effect:
    """One component: names of its standard deviation and effects, and its (J, q) matrix."""

    sigma: str
    u: str
    matrix: Any
    slope: bool = False


def _coefficients(model: Model) -> tuple[list[str], Array, Array]:
    """Names, (J, p) columns, and the number of units at the level of each coefficient."""
    design, spec = model.design, model.spec
    names: list[str] = []
    columns: list[Array] = []
    units: list[int] = []

    def add(name: str, labels: Array, values: Array, count: int) -> None:
        names.extend(f"{name}[{label}]" for label in labels)
        columns.append(values)
        units.extend([count] * values.shape[1])

    constant = np.ones((design.J, int(spec.intercept)))
    level2 = np.column_stack([constant, design.X_l2 + design.center_l2])
    add("b_l2", design.coords["covariate_l2"], level2, design.J)
    for part, member in zip(spec.members, design.members, strict=True):
        labels = design.coords[f"covariate_l1{part.suffix}"]
        if part.columns:
            add(part.b, labels, member.X + member.center, member.n_members)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        labels = design.coords[f"covariate_l3{nest.suffix}"]
        if nest.covariates:
            add(nest.b, labels, nesting.X + nesting.center, nesting.n_units)
    return names, np.column_stack(columns), np.array(units)


def _effects(model: Model) -> Iterator[_Effect]:
    """Matrices of the random effects: weights of members, times covariates for slopes; units."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import sparse

    design, spec = model.design, model.spec
    for part, member in zip(spec.members, design.members, strict=True):
        assert member.weight is not None, "checked with the study file"
        shape, places = (design.J, member.n_members), (member.group, member.member)
        if part.random:
            yield _Effect(part.sigma, part.u, sparse.csc_array((member.weight, places), shape))
        if member.slopes is not None:
            for x in member.slopes.values.T:
                matrix = sparse.csc_array((member.weight * x, places), shape)
                yield _Effect(part.sigma_slope, part.u_slope, matrix, slope=True)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        if nest.random:
            places = (np.arange(design.J), nesting.unit)
            shape = (design.J, nesting.n_units)
            matrix = sparse.csc_array((np.ones(design.J), places), shape)
            yield _Effect(nest.sigma, nest.u, matrix)


def _plugged_in(
    task: Task, model: Model, names: list[str], found: Restricted, effects: list[_Effect]
) -> dict[str, float]:
    """Standard deviations, their squares and ready estimands, at the estimates.

    The predictors of the random effects take the place of the effects, and nothing is averaged
    over a posterior: these are points, without a standard error.
    """
    # Late: reading a study file needs no libraries of fits.
    from rmm.posterior.draw_estimates import Estimates
    from rmm.posterior.estimands import estimate
    from rmm.posterior.estimands.quantity import Source

    run = _one_draw(model, names, found, effects)
    elements = Estimates(model, run).elements
    points = dict(zip(elements.labels, elements.values.ravel().tolist(), strict=True))
    points = {name: value for name, value in points.items() if name not in names}
    squares = [n for n in task.nulls if n.endswith("^2") and n[:-2] in points]
    points |= {name: points[name[:-2]] ** 2 for name in squares}
    source = Source(model, run, task.seed)
    return points | {n: float(estimate(source, *one).number()[0]) for n, one in task.ready.items()}


def _one_draw(model: Model, names: list[str], found: Restricted, effects: list[_Effect]) -> Run:
    """The estimates as the only draw of a run."""
    # Late: reading a study file needs no libraries of fits.
    from rmm.backends.base import Run

    draws: dict[str, list[Any]] = {"sigma_l2": [found.residual]}
    for name, value in zip(names, found.b.tolist(), strict=True):
        draws.setdefault(name.partition("[")[0], []).append(value)
    for effect, sd, values in zip(effects, found.sigmas.tolist(), found.effects, strict=True):
        draws.setdefault(effect.sigma, []).append(sd)
        draws.setdefault(effect.u, []).append(values)
    single = {"sigma_l2", *(e.sigma for e in effects if not e.slope)}
    arrays = {k: np.array(v[0] if k in single else v)[None, None] for k, v in draws.items()}
    for effect in effects:
        arrays[effect.u] = np.array(draws[effect.u]).T[None, None]
        if not effect.slope:
            arrays[effect.u] = arrays[effect.u][..., 0]
    return Run(arrays, {}, 0.0, {})


def _points(values: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of estimates without a standard error."""
    return [{"parameter": k, "mean": v, "median": v} for k, v in values.items()]
