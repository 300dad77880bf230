"""Counts with extra zeros: 0 with probability zi, otherwise Poisson with mean exp(eta_j)."""

from __future__ import annotations

from rmm.families.poisson import POISSON_COUNT
from rmm.families.zero_counts import zero_inflated

ZERO_INFLATED_POISSON = zero_inflated(POISSON_COUNT, "zero_inflated_poisson", "Poisson", 12)
