"""Counts with a hurdle: 0 with probability hu, otherwise negative binomial above 0."""

from __future__ import annotations

from rmm.families.negbinomial import NEGATIVE_BINOMIAL_COUNT
from rmm.families.zero_counts import hurdle

HURDLE_NEGBINOMIAL = hurdle(NEGATIVE_BINOMIAL_COUNT, "hurdle_negbinomial", "negative binomial", 15)
