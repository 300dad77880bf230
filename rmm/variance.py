"""Variance components: how much of the outcome's variation is members', units', groups'."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rmm.backends.base import Run
from rmm.model import Model
from rmm.predictor import (
    Draws,
    chunks,
    flat_draws,
    group_totals,
    layout_of,
    need,
    some_draws,
    some_totals,
    weight_totals,
    weights_of,
)
from rmm.summary import spread
from rmm.tables import Array


def variance_components(model: Model, run: Run) -> pd.DataFrame:
    """Variances and shares per level, by draw.

    Of members: sigma_l1^2 times the mean over groups of sum w^2, which is the variance of a sum
    of independent effects (Browne, Goldstein and Rasbash 2001, Statistical Modelling 1, 103-124,
    section 2), with the weights of each draw. Of nesting units: sigma_l3^2. Of groups: the
    family's residual variance on the scale of the linear predictor (gaussian sigma_l2^2, logit
    pi^2/3, weibull pi^2/(6 shape^2), proportional hazards pi^2/6; Nakagawa, Johnson and
    Schielzeth 2017, Journal of the Royal Society Interface 14, 20170213). Covariates are held
    fixed: shares are of what they leave.

    Returns
    -------
    pandas.DataFrame
        One row per component: variance and share, each with mean, sd and quantiles.
    """
    draws = flat_draws(run, model)
    parts: dict[str, Array] = {}
    squares = _sums_of_squares(model, draws)
    for part in model.spec.members:
        if part.random:
            sd = need(draws, part.sigma, "the members' variance")
            parts[f"members{part.suffix}"] = sd**2 * squares[part.suffix]
    for nest in model.spec.nestings:
        if nest.random:
            sd = need(draws, nest.sigma, "the units' variance")
            parts[f"nesting units{nest.suffix}"] = sd**2
    family = model.spec.family
    own = {p.name: need(draws, p.name, "the residual variance") for p in family.parameters}
    count = len(next(iter(draws.values())))
    parts["residual"] = np.broadcast_to(np.asarray(family.residual_variance(own)), (count,))
    total = np.sum(list(parts.values()), axis=0)
    variance = spread(np.column_stack(list(parts.values())))
    share = spread(np.column_stack([v / total for v in parts.values()]))
    table = pd.DataFrame({**{("variance", k): v for k, v in variance.items()},
                          **{("share", k): v for k, v in share.items()}})  # fmt: skip
    return table.set_axis(pd.Index(list(parts), name="component"), axis=0)


def _sums_of_squares(model: Model, draws: Draws) -> dict[str, Array]:
    """Mean over groups of sum w^2, by block; (S,), or (1,) where weights are known."""
    layout, totals = layout_of(model), weight_totals(model, draws)
    out: dict[str, list[Array]] = {part.suffix: [] for part in model.spec.members}
    for rows in chunks(model, layout, draws):
        some, sums = some_draws(draws, rows), some_totals(totals, rows)
        for index, part in enumerate(model.spec.members):
            if part.random and (part.estimated or not out[part.suffix]):
                weight = weights_of(layout, index, part, some, sums)
                squares = group_totals(weight**2, layout.design.members[index].start)
                out[part.suffix].append(squares.mean(axis=1))
    return {name: np.concatenate(parts) for name, parts in out.items() if parts}
