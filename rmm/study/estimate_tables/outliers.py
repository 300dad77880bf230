"""Fits far from all others of their method: `dropbig` of White (2010) and of rsimsum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _classical(values: Array) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _robust(values: Array) -> tuple[float, float]:
    """Median, and the distance between the hinges (Tukey 1977): medians of both halves."""
    ordered = np.sort(values)
    half = (len(ordered) + 1) // 2
    low, high = np.median(ordered[:half]), np.median(ordered[-half:])
    return float(np.median(ordered)), float(high - low)


#: Name -> centre and unit of values; that of one method, parameter and scenario.
SCALES: dict[str, Callable[[Array], tuple[float, float]]] = {"robust": _robust, "sd": _classical}


def find_outliers(
    estimate: Array, se: Array, cell: Array, scale: str, max_estimate: float, max_se: float
) -> Array:
    """(rows,) whether an estimate or a standard error lies far from those of its cell.

    The distance from the cell's median is measured in hinge spreads (``"robust"``, as rsimsum),
    or that from its mean in standard deviations (``"sd"``). In a cell whose unit is 0, most
    values are equal, and none is an outlier.

    Parameters
    ----------
    estimate, se : (rows,) arrays
        nan where not usable.
    cell : (rows,) int array
        Number of the scenario, method and parameter.
    scale : str
        A name in `SCALES`.
    max_estimate, max_se : float
        Largest distances that are no outlier.
    """
    found = np.zeros(len(estimate), dtype=bool)
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        for values, most in ((estimate[rows], max_estimate), (se[rows], max_se)):
            there = np.isfinite(values)
            if there.any():
                center, unit = SCALES[scale](values[there])
                if unit > 0:
                    found[rows[there]] |= np.abs(values[there] - center) > most * unit
    return found
