"""Counts with extra zeros: 0 with probability zi, otherwise negative binomial, mean exp(eta_j)."""

from __future__ import annotations

from rmm.families.negbinomial import NEGATIVE_BINOMIAL_COUNT
from rmm.families.zero_counts import zero_inflated

ZERO_INFLATED_NEGBINOMIAL = zero_inflated(
    NEGATIVE_BINOMIAL_COUNT, "zero_inflated_negbinomial", "negative binomial", 13
)
