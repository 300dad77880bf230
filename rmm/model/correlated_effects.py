"""Names of correlated effects of members: of one `mm()` block, or of roles in several blocks.

In a block with ``RE = re(1 + x, cor = TRUE)`` the intercept and slopes of a member are correlated.
Blocks with the same name in ``cor = NAME`` are roles of the same members: a member has one effect
in each block, and these are jointly normal.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rmm.families import Parameter


class CorrelationNames:
    """Names of the correlations of a member's effects, in programs and summaries."""

    suffix: str

    @property
    def cor(self) -> str:
        """Name of the correlations of a member's effects, those above the diagonal, by row."""
        return f"cor_l1{self.suffix}"

    @property
    def pcor(self) -> str:
        """Name of their canonical partial correlations, which are independent a priori."""
        return f"pcor_l1{self.suffix}"

    @property
    def standard(self) -> str:
        """Name of the independent standard normals that correlated effects are made of."""
        return f"z_l1{self.suffix}"

    @property
    def pair(self) -> str:
        """Name of the dimension of the correlations."""
        return f"pair_l1{self.suffix}"

    @property
    def correlations(self) -> Parameter:
        """The correlations as a parameter."""
        return Parameter(self.cor, (self.pair,), "correlation", "correlation")


@dataclass(frozen=True)
class Roles(CorrelationNames):
    """`mm()` blocks in which the same members have roles, with correlated effects.

    Attributes
    ----------
    suffix : str
        "_" and the name that the blocks have in ``cor = NAME``.
    blocks : tuple of int
        Places of the blocks in `ModelSpec.members`.
    labels : tuple of str
        Names of the roles: those of the blocks, or their numbers.
    effects, sds : tuples of str
        Names of the members' effects in each role, and of their standard deviations.
    """

    suffix: str
    blocks: tuple[int, ...]
    labels: tuple[str, ...]
    effects: tuple[str, ...]
    sds: tuple[str, ...]

    @property
    def pairs(self) -> tuple[str, ...]:
        """Labels of the correlations: "leader, partner"."""
        return pair_labels(self.labels)


def pair_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Labels of the pairs of effects above the diagonal of their correlation matrix, by row."""
    return tuple(f"{a}, {b}" for a, b in itertools.combinations(names, 2))
