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
    return int(np.sum(_kept(draws) < truth))


def rank_among_ties(draws: np.ndarray[Any, Any], truth: float, seed: int) -> int:
    """The same of a quantity that may equal the truth in some draws, such as a whole number.

    The truth's place among the draws that it ties with is drawn, so that ranks of calibrated draws
    are uniform: the randomised probability integral transform (Czado, Gneiting and Held 2009,
    Biometrics 65, 1254-1261).

    Parameters
    ----------
    draws : (S,) array
    truth : float
    seed : int
    """
    kept = _kept(draws)
    ties = int(np.sum(kept == truth))
    place = np.random.default_rng([seed, 0x71E5]).integers(0, ties + 1)
    return int(np.sum(kept < truth) + place)


def _kept(draws: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return draws[np.linspace(0, len(draws) - 1, KEPT).round().astype(int)]
