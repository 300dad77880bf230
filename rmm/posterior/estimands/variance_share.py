"""Shares of the outcome's variance per level."""

from __future__ import annotations

import numpy as np

from rmm.errors import BackendError, unknown_name
from rmm.posterior.estimands.quantity import Quantity, Source
from rmm.posterior.prediction.variance_components import share_of


def draw(source: Source, *, component: str | None = None) -> Quantity:
    """Variance of each component of `variance_components` over the sum of all.

    Parameters
    ----------
    source : Source
    component : str, optional
        One of them, such as ``"members"``, ``"nesting units"`` or ``"residual"``; default: all.
    """
    parts = source.variances
    total = np.sum(list(parts.values()), axis=0)
    if component is None:
        shares = np.column_stack([share_of(v, total) for v in parts.values()])
        return Quantity(shares, np.array(list(parts), dtype=object), "component")
    if component not in parts:
        raise BackendError(unknown_name(component, "a variance component of this model", parts))
    return Quantity(share_of(parts[component], total)[:, None])
