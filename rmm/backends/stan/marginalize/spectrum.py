"""The directions in which the effects of a block of members are independent of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sparse

from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.connected import linked
from rmm.design.design import Design
from rmm.model.spec import ModelSpec
from rmm.tables.read import Array


@dataclass(frozen=True)
class Spectrum:
    """The directions in which a block's effects are independent; D = N of them.

    Attributes
    ----------
    basis : (D, J) sparse
        V: rows of length 1, or of length 0 for directions that no group involves.
    rotation : (N, D) sparse
        Q: a direction in each column; orthonormal.
    singular : (D,)
    unit : (D,) int
        Nesting unit of each direction, sorted; zeros without one.
    """

    basis: Any
    rotation: Any
    singular: Array
    unit: Array


def spectrum(
    chosen: Marginalization, spec: ModelSpec, design: Design, root: Array | None = None
) -> Spectrum:
    """The directions of a block; of equal weights if its weights are estimated.

    Parameters
    ----------
    chosen : Marginalization
        Of strategy ``"spectrum"`` or ``"approximation"``.
    spec : ModelSpec
    design : Design
    root : (J,) array, optional
        Factors by which the weights of each group are multiplied.
    """
    m = design.members[chosen.members[0]]
    weight = 1 / m.n if m.weight is None else m.weight
    shape = (design.J, m.n_members)
    W = sparse.csr_matrix((weight, (m.group, m.member)), shape=shape)
    scaled = W if root is None else sparse.diags_array(root) @ W
    groups, members = linked(design, [m], [])
    unit_of = (
        design.nestings[chosen.nestings[0]].unit
        if chosen.nestings
        else np.zeros(design.J, dtype=int)
    )
    found = [
        _directions(scaled, np.flatnonzero(groups == c), np.flatnonzero(members == c), unit_of)
        for c in range(members.max() + 1)
    ]
    singular = np.concatenate([f[2] for f in found])
    unit = np.concatenate([f[3] for f in found])
    order = np.argsort(unit, kind="stable")
    basis = _stacked([f[0] for f in found], design.J)[order]
    rotation = _stacked([f[1] for f in found], m.n_members)[order].T.tocsr()
    return Spectrum(basis, rotation, singular[order], unit[order])


def _directions(W: Any, rows: Array, columns: Array, unit: Array) -> tuple[Any, Any, Array, Array]:
    """Rows of V and Q' of one component with their indices, singular values, nesting units."""
    block = W[rows][:, columns].toarray()
    left, found, right = scipy.linalg.svd(block, full_matrices=len(rows) < len(columns))
    count = len(columns)
    singular = np.zeros(count)
    singular[: len(found)] = np.where(found > 1e-10 * max(found.max(initial=0.0), 1e-300), found, 0)
    basis = np.zeros((count, len(rows)))
    seen = np.flatnonzero(singular)
    basis[seen] = left[:, seen].T
    where = np.full(count, unit[rows[0]] if len(rows) else 0)
    return (basis, rows), (right, columns), singular, where


def _stacked(blocks: list[tuple[Array, Array]], width: int) -> Any:
    """Blocks of rows, each with the columns that it fills, as one sparse matrix."""
    parts = []
    for values, columns in blocks:
        part = sparse.coo_matrix(values)
        parts.append(
            sparse.coo_matrix(
                (part.data, (part.row, columns[part.col])), shape=(len(values), width)
            )
        )
    return sparse.vstack(parts, format="csr")
