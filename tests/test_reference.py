"""Posteriors on the real coalition data against R's bml (rjags), with its priors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from coalitions import shared_file

import rmm
from rmm.backends.stan import available

needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")


def published(model: str, program: str) -> pd.DataFrame:
    """Rows of the reference table, by parameter."""
    table = pd.read_csv(shared_file("reference", "bml_posteriors.csv"))
    rows = table[(table["model"] == model) & (table["program"] == program)]
    return rows.set_index("parameter")


@needs_stan
@pytest.mark.stan
@pytest.mark.slow
def test_model_w1_agrees_with_r() -> None:
    """Weibull, within 4 combined MCSE: false alarms of six comparisons below 0.04%.

    R's rows are nine chains pooled, with all R-hat at most 1.01. The prior of the shape differs
    (exponential(0.001) there, gamma(0.01, 0.01) here) by a factor 1/shape: the mean moves by
    about var(shape) / shape = 0.0037 at a posterior sd of 0.066, which is taken out.
    """
    data = pd.read_parquet(shared_file("data", "coalgov_bml.parquet"))
    fit = rmm.fit(
        "Surv(dur_wkb, event_wkb) ~ 1 + majority"
        " + mm(id(pid, gid), vars(finance), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)",
        data, "weibull", backend="stan", priors="rmm", seed=1, draws=2000, progress=False,
    )  # fmt: skip
    assert fit.converged
    ours, theirs = fit.summary(), published("W1", "jags_pooled9chains")
    assert set(ours.index) == set(theirs.index)
    theirs = theirs.loc[ours.index]
    mean = theirs["mean"].copy()
    mean["shape"] -= theirs.loc["shape", "sd"] ** 2 / theirs.loc["shape", "mean"]
    z = (ours["mean"] - mean) / np.hypot(ours["mcse_mean"], theirs["mcse"])
    assert (z.abs() < 4).all(), pd.DataFrame({"rmm": ours["mean"], "bml": mean, "z": z})


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=getattr(pytest.mark, b)) for b in ("jags", "stan")]
)
@pytest.mark.parametrize("program", ["bml", "rjags_direct"])
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_model_b1_agrees_with_r(program: str, backend: str) -> None:
    """Binomial, within 4 combined MCSE: false alarms of 20 comparisons below 0.2%.

    8,000 draws are too few for R-hat <= 1.01 of the standard deviations (their ESS is in the
    hundreds, R's about 1,000); MCSE takes this into account.
    """
    data = pd.read_parquet(shared_file("data", "coalgov_bml.parquet"))
    fit = rmm.fit(
        "event_wkb ~ 1 + majority"
        " + mm(id(pid, gid), vars(finance), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)",
        data, "binomial", backend=backend, priors="rmm", seed=3, draws=2000, progress=False,
        monitor="structural",
    )  # fmt: skip
    ours, theirs = fit.summary(), published("B1", program)
    assert set(ours.index) == set(theirs.index)
    theirs = theirs.loc[ours.index]
    z = (ours["mean"] - theirs["mean"]) / np.hypot(ours["mcse_mean"], theirs["mcse"])
    assert (z.abs() < 4).all(), pd.DataFrame({"rmm": ours["mean"], "bml": theirs["mean"], "z": z})
