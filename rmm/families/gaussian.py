"""Gaussian outcome: y_j ~ N(eta_j, sigma_l2^2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.errors import DataError
from rmm.families.base import Array, Family, Parameter


def _read_outcome(label: str, parts: tuple[Array, ...]) -> dict[str, Any]:
    y = np.asarray(parts[0], dtype=float)
    if np.ptp(y) == 0:
        raise DataError(
            f"The outcome `{label}` is the same in every group ({y[0]:g}): there is nothing to "
            "explain. Check that the right column was named."
        )
    return {"y": y}


def _scale(outcome: Mapping[str, Any]) -> tuple[float, float]:
    return float(np.mean(outcome["y"])), float(np.std(outcome["y"], ddof=1))


GAUSSIAN = Family(
    name="gaussian",
    outcome_kinds=("plain",),
    intercept=True,
    parameters=(Parameter("sigma_l2", (), "positive", "sd"),),
    stan_data="vector[J] y;  // outcome of each group",
    stan_model="y ~ normal(eta, sigma_l2);",
    jags_model="y[j] ~ dnorm(eta[j], pow(sigma_l2, -2))",
    read_outcome=_read_outcome,
    scale=_scale,
)
