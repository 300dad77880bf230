"""Priors on the scale of the group's outcome, where those of different weights can be compared.

The coefficient of a member covariate multiplies a weighted sum of members, and the standard
deviation of members' effects reaches the outcome through the weights: the same prior means
something else under a mean than under a sum. On the outcome's scale they are what one standard
deviation of that weighted sum contributes, and the standard deviation of a group's weighted sum of
effects.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rmm.design.prepare import Model
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.prior_distributions import width
from rmm.model.spec import CUT, INTERCEPT, MemberPart
from rmm.posterior.prediction.linear_predictor import (
    group_totals,
    layout_of,
    weight_totals,
    weights_of,
)
from rmm.tables.read import Array


def typical_weights(model: Model, index: int, part: MemberPart) -> Array:
    """(M,) weights of a block: known, or at the locations of the priors of its coefficients."""
    known = model.design.members[index].weight
    return known if known is not None else weights_where(model, index, part, None)


def weights_where(model: Model, index: int, part: MemberPart, value: float | None) -> Array:
    """(M,) estimated weights where all coefficients have a value, or their priors' centres."""
    draws = {}
    for other in model.spec.members:
        if other.estimated:
            priors = model.priors.elements[other.b_w]
            centres = [p.hyper.get("location", 0.0) if value is None else value for p in priors]
            draws[other.b_w] = np.array([centres])
    totals = weight_totals(model, draws)
    return np.asarray(weights_of(layout_of(model), index, part, draws, totals)[0])


def contributions(model: Model, index: int, part: MemberPart) -> Array:
    """(K,) standard deviations over groups of what the coefficients `b_l1` of a block multiply."""
    member = model.design.members[index]
    if member.weight is not None:  # X has sums over members, one row per group
        return np.asarray(member.X.std(axis=0, ddof=1))
    weights = typical_weights(model, index, part)
    sums = [group_totals((weights * x)[None], member.start)[0] for x in member.X.T]
    return np.array([one.std(ddof=1) for one in sums])


def prior_table(model: Model) -> pd.DataFrame:
    """The prior of each structural parameter that is sampled, and its width on the outcome's scale.

    Returns
    -------
    pandas.DataFrame
        Index ``parameter``, as in `fit.summary()`; columns ``prior`` (text) and ``on_outcome``: the
        prior's width (the sd of a normal with its interquartile range) times what the parameter
        multiplies; NaN for parameters of weight functions and the like, which have no such scale.
    """
    factors, elements = _outcome_factors(model), model.priors.elements
    rows = {}
    for label, (name, index) in places(model).items():
        prior = elements[name][index]
        rows[label] = str(prior), width(prior) * factors.get(label, np.nan)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["prior", "on_outcome"])
    return table.rename_axis("parameter")


def places(model: Model) -> dict[str, tuple[str, int]]:
    """Structural parameter, as in `fit.summary()` -> sampled parameter, and which of its priors."""
    found: dict[str, tuple[str, int]] = {}
    public = _PUBLIC | {found.pcor: found.cor for found in model.spec.correlated}
    for parameter in model.spec.sampled:
        if not parameter.structural:
            continue
        name = public.get(parameter.name, parameter.name)
        labels = [INTERCEPT] if parameter.name == "alpha" else _labels(model, parameter.dims)
        several = len(model.priors.elements[parameter.name]) > 1
        for index, label in enumerate(labels):
            if parameter.role == "correlation":  # the last has the eta of their matrix
                index = len(labels) - 1
            found[f"{name}[{label}]" if label else name] = parameter.name, index * several
    return found


_PUBLIC = {"alpha": "b_l2", "beta_l2": "b_l2", CUT: "tau", AT_CENTRES: B_SIGMA}


def _labels(model: Model, dims: tuple[str, ...]) -> list[str]:
    """Labels of the elements of a parameter; one that is empty for a number."""
    return [str(v) for v in model.design.coords[dims[0]]] if dims else [""]


def _outcome_factors(model: Model) -> dict[str, float]:
    """Structural parameter -> what its prior is multiplied by."""
    spec, design = model.spec, model.design
    found = {f"b_l2[{INTERCEPT}]": 1.0}
    for own in spec.family.parameters:
        if own.role == "log_sd":  # of a logarithm
            continue
        labels = _labels(model, own.dims)
        found |= {f"{own.name}[{one}]" if one else own.name: 1.0 for one in labels}
    labels = _labels(model, ("slope_l2",))
    found |= {f"b_l2[{one}]": float(sd) for one, sd in zip(labels, design.scale_l2, strict=True)}
    for index, part in enumerate(spec.members):
        if part.covariates:
            labels = _labels(model, (f"covariate_l1{part.suffix}",))
            sds = contributions(model, index, part)
            found |= {f"{part.b}[{k}]": float(sd) for k, sd in zip(labels, sds, strict=False)}
        if part.random:
            weights, start = typical_weights(model, index, part), design.members[index].start
            squares = group_totals(weights[None] ** 2, start)[0][np.diff(start) > 0]
            found[part.sigma] = float(np.mean(np.sqrt(squares)))
    for nest in spec.nestings:
        if nest.random:
            found[nest.sigma] = 1.0
    return found
