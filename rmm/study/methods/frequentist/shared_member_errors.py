"""Standard errors that are robust to members that groups share: dyadic-cluster robust errors.

Two groups are dependent if they have a member in common, as two dyads are that share a unit in
Aronow, Samii & Assenova (2015), Political Analysis 23, 564-577, equation 3: the meat of the
sandwich sums products of scores over all such pairs. Here groups may have any number of members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SharedMembers:
    """Which rows of a regression depend on each other.

    Attributes
    ----------
    row_group : (N,) int array
        Group of each row, from 0.
    group, member : (M,) int arrays
        The memberships.
    """

    row_group: Array
    group: Array
    member: Array

    @cached_property
    def members(self) -> int:
        """Number of members that are in a group."""
        return len(np.unique(self.member))

    @cached_property
    def pairs(self) -> Any:
        """(J, J) sparse array: 1 for two groups with a common member, a group with itself too."""
        # Late: reading a study file needs no libraries of fits.
        from scipy import sparse

        ones, places = np.ones(len(self.group)), (self.group, self.member)
        incidence = sparse.csr_array((ones, places))
        found = (incidence @ incidence.T).tocsr()
        found.data[:] = 1.0
        return found

    def covariance(self, scores: Array, inverse: Array) -> Array:
        """Sandwich covariance of k estimates; with few members it may have negative variances.

        Times K/(K - 1) (N - 1)/(N - k) for K members and N rows, as for clusters.

        Parameters
        ----------
        scores : (N, k) array
            Contributions of the rows to the score.
        inverse : (k, k) array
            Inverse of the information.
        """
        (rows, k), groups = scores.shape, self.pairs.shape[0]
        summed = np.stack([np.bincount(self.row_group, s, groups) for s in scores.T], axis=1)
        factor = self.members / (self.members - 1) * (rows - 1) / (rows - k)
        return np.asarray(factor * inverse @ (summed.T @ (self.pairs @ summed)) @ inverse)
