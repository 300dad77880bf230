"""Effects that one group alone has, of a normal outcome: variance of that group, until the end.

A member of a single government, or a country with one, adds b z to one linear predictor, z standard
normal. With all others given, the outcome of group j is normal with the variance

    v_j = sigma^2 + sum of b^2 over what only j has,

so that the latent vector can do without them; afterwards they are drawn from what is left of y.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sparse

from rmm.families import Curvature
from rmm.tables.read import Array


class Private:
    """Elements of the latent vector that have one slot, that is, one group.

    Attributes
    ----------
    slots : (n,) int array
        Places of their entries of A.
    row, column : (n,) int arrays
        Their groups, and their places in the whole latent vector.
    """

    def __init__(self, slots: Array, row: Array, column: Array, groups: int) -> None:
        self.slots, self.row, self.column = slots, row[slots], column[slots]
        self.groups = groups

    @cached_property
    def by_row(self) -> Any:
        """Adds them up to groups."""
        count = len(self.slots)
        shape = (self.groups, count)
        return sparse.csr_matrix((np.ones(count), (self.row, np.arange(count))), shape=shape)

    def __len__(self) -> int:
        return len(self.slots)

    def total(self, loads: Array) -> Array:
        """(S, J) sums over each group of (S, n)."""
        return np.ascontiguousarray((self.by_row @ loads.T).T)

    def draw(self, loads: Array, residual: Array, sd: Array, rng: np.random.Generator) -> Array:
        """Their posterior, all else given.

        Parameters
        ----------
        loads : (S, n)
            b.
        residual : (S, J)
            y less the linear predictor of all others.
        sd : (S, 1) or (S, J)
            sigma.

        Returns
        -------
        (S, n)
            z + b (residual - sum of b z - e) / v of standard normal z and e of sd sigma: normal, of
            the mean and covariance that all else leaves (Matheron's rule).
        """
        z = rng.standard_normal(loads.shape)
        noise = sd * rng.standard_normal(residual.shape)
        variance = sd**2 + self.total(loads**2)
        missing = (residual - self.total(loads * z) - noise) / variance
        return np.asarray(z + loads * missing[:, self.row])


def find_private(row: Array, column: Array, candidate: Array, groups: int) -> Private:
    """Those among the candidates (P,) that have one slot."""
    alone = candidate & (np.bincount(column, minlength=len(candidate)) == 1)
    return Private(np.flatnonzero(alone[column]), row, column, groups)


def normal_curvature(eta: Array, y: Array, variance: Any) -> Curvature:
    """Of outcomes that are normal with variances (S, J)."""
    residual = y - eta
    value = -0.5 * np.sum(np.log(2 * np.pi * variance) + residual**2 / variance, axis=1)
    return Curvature(value, residual / variance, 1 / variance)
