"""The weight of each group's largest member."""

from __future__ import annotations

import numpy as np

from rmm.errors import DataError, unknown_name
from rmm.posterior.estimands.quantity import Block, Quantity, Source, averaged
from rmm.tables.read import Array, numeric


def draw(
    source: Source, *, by: str, block: int = 1, average: bool = True, share: bool = False
) -> Quantity:
    """W of the member with the largest value of a column; of several that tie, their mean.

    Parameters
    ----------
    source : Source
    by : str
        A numeric column of the table of the fit.
    block : int
    average : bool
        Over the groups that have a member of the block; otherwise one value per group.
    share : bool
        Whether to divide by the sum of the group's weights.
    """
    chosen = source.block(block)
    values = _column(chosen, by)
    start, filled = chosen.member.start, chosen.filled
    sizes = np.diff(start)[filled]
    largest = values == np.repeat(np.maximum.reduceat(values, start[filled]), sizes)
    ties = np.add.reduceat(largest.astype(float), start[filled])
    found = chosen.by_group(chosen.weights(share=share) * largest) / ties
    return averaged(chosen.repeated(found), chosen.groups[filled], average)


def _column(chosen: Block, name: str) -> Array:
    """(M,) values of a column of the block's memberships."""
    table = chosen.source.model.grouped.members[chosen.index].table
    if name not in table:
        raise DataError(unknown_name(name, "a column of the table of the fit", table.names))
    values = numeric(table.frame[name])
    if values is None or np.isnan(values).any():
        what = "has missing values" if values is not None else "is not numeric"
        raise DataError(f"Column `{name}` {what}, so no member of a group is the largest.")
    return values
