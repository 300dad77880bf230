"""Effects sampled around a normal approximation of the likelihood, direction by direction.

For an outcome that is not normal, each group's linear predictor has a working response y with
precision q, as in iteratively weighted least squares. In this approximation, member effects are
independent along the right singular vectors Q of diag(sqrt q) W. W are the known weights, or equal
weights in place of estimated ones. The program samples v with

    z = s a / (1 + s^2) + v / sqrt(1 + s^2),   u = sigma Q z.

s is sigma times the singular value. a is the residual of the working response along the direction,
given the coefficients of predictors. In the posterior, the v are approximately independent standard
normals for any sigma. This is a change of variables: a poor approximation makes sampling slower and
does not change the posterior.

Sources: McCullagh & Nelder (1989), Generalized Linear Models, 2.5 (working response);
Papaspiliopoulos, Roberts & Skoeld (2007), A general framework for the parametrization of
hierarchical models, Statistical Science 22 (partial non-centring).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse

from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.spectrum import spectrum
from rmm.design.design import Design
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array


@dataclass(frozen=True)
class Approximation:
    """A normal approximation of the likelihood in N member effects and H nesting effects.

    Attributes
    ----------
    singular, response : (N,)
        Singular values, and the working response projected on the directions.
    predictors : (N, K)
        Predictors projected on the directions, in the order of `coefficients`.
    rotation : (N, N) sparse
        Q: a direction in each column.
    unit : (N,) int
        Nesting unit of each direction, sorted; zeros without one.
    loading : (N,)
        Loading of each direction on the effect of its nesting unit.
    unit_information, unit_response : (H,) arrays
        Sums of precision, and of precision times response, in each nesting unit.
    unit_predictors : (H, K)
        Sums of precision times predictors.
    """

    singular: Array
    response: Array
    predictors: Array
    rotation: Any
    unit: Array
    loading: Array
    unit_information: Array
    unit_response: Array
    unit_predictors: Array


def approximate(chosen: Marginalization, spec: ModelSpec, design: Design) -> Approximation:
    """The approximation of a model's effects.

    Parameters
    ----------
    chosen : Marginalization
        Of strategy ``"approximation"``.
    spec : ModelSpec
    design : Design
    """
    assert spec.family.working is not None
    response, precision = spec.family.working(design.outcome)
    root = np.sqrt(precision)
    found = spectrum(chosen, spec, design, root)
    response = root * (response - (0 if design.offset is None else design.offset))
    X = root[:, None] * _predictors(spec, design)
    unit, count = np.zeros(design.J, dtype=int), 1
    if chosen.nestings:
        nest = design.nestings[chosen.nestings[0]]
        unit, count = nest.unit, nest.n_units
    units = sparse.csr_matrix((root, (unit, np.arange(design.J))), shape=(count, design.J))
    return Approximation(
        found.singular,
        found.basis @ response,
        found.basis @ X,
        found.rotation,
        found.unit,
        found.basis @ root,
        units @ root,
        units @ response,
        units @ X,
    )


def coefficients(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the coefficients of the predictors, scalar or vector."""
    names = ["alpha"] if spec.intercept else []
    names += ["beta_l2"] if spec.terms else []
    names += [part.b for part in spec.members if _linear(part)]
    return (*names, *(nest.b for nest in spec.nestings if nest.covariates))


def _linear(part: MemberPart) -> bool:
    """Whether all its covariates are columns, whose weighted sums are known approximately."""
    return part.covariates and not part.features_in_program


def _predictors(spec: ModelSpec, design: Design) -> Array:
    """(J, K) predictors; members' covariates by equal weights where weights are estimated."""
    columns = [np.ones((design.J, 1))] if spec.intercept else [np.empty((design.J, 0))]
    columns += [design.X_l2] if spec.terms else []
    for part, m in zip(spec.members, design.members, strict=True):
        if not _linear(part):
            continue
        X = m.X
        if part.estimated:
            X = np.zeros((design.J, m.X.shape[1]))
            np.add.at(X, m.group, m.X / m.n[:, None])
        columns.append(X)
    columns += [
        n.X for nest, n in zip(spec.nestings, design.nestings, strict=True) if nest.covariates
    ]
    return np.hstack(columns)
