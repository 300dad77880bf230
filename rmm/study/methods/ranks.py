"""The rank of a true value among posterior draws; `calibration` judges many of them."""

from __future__ import annotations

from typing import Any

import numpy as np

KEPT = 99  # draws among which the truth is ranked: 100 possible ranks


def rank(draws: np.ndarray[Any, Any], truth: float) -> int:
    """How many of `KEPT` evenly spaced draws are below the truth.

    Parameters
    ----------
    draws : (S,) array
        Chain after chain; spacing makes them nearly independent.
    """
    kept = draws[np.linspace(0, len(draws) - 1, KEPT).round().astype(int)]
    return int(np.sum(kept < truth))
