"""The effective number of members of a group."""

from __future__ import annotations

import numpy as np

from rmm.errors import BackendError
from rmm.posterior.estimands.quantity import Quantity, Source, averaged


def draw(source: Source, *, block: int = 1, average: bool = True) -> Quantity:
    """1 / (sum of squares of w / sum(w)): n for equal weights, 1 if one member counts alone.

    Laakso and Taagepera (1979), Comparative Political Studies 12, 3-27. A group whose weights are
    all 0 has 0.

    Parameters
    ----------
    source : Source
    block : int
    average : bool
        Over the groups that have a member of the block; otherwise one value per group.

    Raises
    ------
    BackendError
        If a weight is negative in some draw: its group has no number of members then.
    """
    chosen = source.block(block)
    w = chosen.weights()
    negative = (w < 0).mean(axis=1) > 0
    if negative.any():
        raise BackendError(
            f"The weights `{chosen.part.weight.text}` are negative in {negative.mean():.0%} of the "
            "draws. The effective number of members needs weights of 0 or more: use a function "
            "that is never negative, such as exp(b*x)."
        )
    # With the largest weight as unit, squares do not underflow.
    sizes = np.diff(chosen.member.start)[chosen.filled]
    top = np.maximum.reduceat(w, chosen.member.start[chosen.filled], axis=1)
    w = w / np.repeat(np.where(top > 0, top, 1.0), sizes, axis=1)
    squares = chosen.by_group(w**2)
    found = chosen.by_group(w) ** 2 / np.where(squares > 0, squares, 1.0)
    return averaged(chosen.repeated(found), chosen.groups[chosen.filled], average)
