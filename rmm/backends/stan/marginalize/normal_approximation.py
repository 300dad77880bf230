"""Effects sampled about a normal approximation of the likelihood, direction by direction.

An outcome that is not normal has a working response y with precision q for each group's linear
predictor, as in iteratively weighted least squares. With these, member effects are nearly
independent in the directions Q of the singular vectors of diag(sqrt q) W, W the weights: known,
or equal ones in place of those that are estimated. An engine samples standard normal scores v with

    effect = s a / (1 + s^2) + v / sqrt(1 + s^2),   u = sigma Q effect,

s sigma times the singular value, a the residual of y along the direction given the coefficients
of predictors; v are nearly independent standard normals in the posterior too, whatever sigma is.
It is a change of variables: the posterior does not depend on how good the approximation is.

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
    """What the data say of a block's effects, N of them, and of the H effects of nesting units.

    Attributes
    ----------
    singular, along : (N,)
        Singular values, and the working response along the directions.
    fixed : (N, K)
        Predictors along the directions, in the order of `coefficients`.
    turn : (N, N) sparse
        Q: member effects by directions.
    unit : (N,) int
        Nesting unit of each direction, sorted; zeros without one.
    load : (N,)
        The nesting effects along each direction.
    unit_information, unit_along : (H,) arrays
        Precision of each nesting unit's effect, and sum of the response times precision.
    unit_fixed : (H, K)
        Sums of predictors times precision.
    """

    singular: Array
    along: Array
    fixed: Array
    turn: Any
    unit: Array
    load: Array
    unit_information: Array
    unit_along: Array
    unit_fixed: Array


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
        found.turn,
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
    """Whether all of its covariates are columns, their weighted sums at least nearly known."""
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
