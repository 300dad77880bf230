"""Counts with a hurdle: 0 with probability hu, otherwise Poisson above 0, mu_j = exp(eta_j)."""

from __future__ import annotations

from rmm.families.poisson import POISSON_COUNT
from rmm.families.zero_counts import hurdle

HURDLE_POISSON = hurdle(POISSON_COUNT, "hurdle_poisson", "Poisson", 14)
