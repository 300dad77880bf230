"""Known truths come back: R rmm's own simulated coalition data (`make recovery`).

Truth (studies.md, number 6): party coefficient 3 on fdep, majority 3, investiture 3, intercept 1,
weight coefficients (1, 1, 1) on (pseatrel, hetero, pmpower) in 1/n^exp(-Xb), constraint 2, all
standard deviations 1. The data are one draw, so estimates are compared with the truth in
posterior sds: |z| < 3.5 on 10 parameters has a false-alarm rate below 0.5%.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from tests.coalitions import shared_file

FORMULA = (
    "sim.y ~ 1 + majority + investiture + mm(id(pid, gid), mmc(fdep), mmw(w ~ "
    "1/offset(n)^exp(-(pseatrel + hetero + pmpower)), constraint=2)) + hm(id=cid, type=RE)"
)
TRUTH = {
    "b_l1[fdep]": 3.0,
    "b_l2[Intercept]": 1.0,
    "b_l2[majority]": 3.0,
    "b_l3[investiture]": 3.0,
    "b_w[b1]": 1.0,
    "b_w[b2]": 1.0,
    "b_w[b3]": 1.0,
    "sigma_l1": 1.0,
    "sigma_l2": 1.0,
    "sigma_l3": 1.0,
}


@pytest.mark.recovery
@pytest.mark.parametrize("backend", ["jags", "stan"])
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_simulated_coalitions(backend: str) -> None:
    table = pd.read_parquet(shared_file("data", "coalgov_rmm.parquet"))
    fit = rmm.fit(
        FORMULA,
        table,
        backend=backend,
        priors={"b_w": "normal(0, 2)"},
        seed=1,
        warmup=1000,
        draws=1500,
        progress=False,
    )
    summary = fit.summary()
    z = (summary["mean"] - pd.Series(TRUTH)) / summary["sd"]
    assert (z.abs() < 3.5).all(), pd.concat([summary, z.rename("z")], axis=1).to_string()
    weights = fit.weights()["mean"]
    assert np.corrcoef(weights, table["sim.w"])[0, 1] > 0.99
