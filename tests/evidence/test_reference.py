"""Posteriors on the real coalition data against R's bml (rjags), with its priors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import rmm
from rmm.backends.stan.run import available
from rmm.families import FAMILIES
from rmm.families.cox import log_marginal
from tests.coalitions import shared_file

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
        data,
        "weibull",
        backend="stan",
        priors="rmm",
        seed=1,
        draws=2000,
        progress=False,
    )
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
        data,
        "binomial",
        backend=backend,
        priors="rmm",
        seed=3,
        draws=2000,
        progress=False,
        monitor="structural",
    )
    ours, theirs = fit.summary(), published("B1", program)
    assert set(ours.index) == set(theirs.index)
    theirs = theirs.loc[ours.index]
    z = (ours["mean"] - theirs["mean"]) / np.hypot(ours["mcse_mean"], theirs["mcse"])
    assert (z.abs() < 4).all(), pd.DataFrame({"rmm": ours["mean"], "bml": theirs["mean"], "z": z})


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    """The coalitions, with R's outcome of G1 and the mean finance of each government."""
    table = pd.read_parquet(shared_file("data", "coalgov_bml.parquet"))
    log = np.log(table.groupby("gid")["dur_wkb"].first())
    return table.assign(
        y=table["gid"].map((log - log.mean()) / log.std()),
        mean_finance=table["gid"].map(table.groupby("gid")["finance"].mean()),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=getattr(pytest.mark, b)) for b in ("jags", "stan")]
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_model_g1_agrees_with_r(backend: str, scored: pd.DataFrame) -> None:
    """Gaussian, within 4 combined MCSE: false alarms of 24 comparisons below 0.2%."""
    fit = rmm.fit(
        "y ~ 1 + majority + mm(id(pid, gid), vars(finance), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)",
        scored,
        backend=backend,
        priors="rmm",
        seed=5,
        draws=2000,
        progress=False,
        thin=4 if backend == "jags" else 1,
        monitor="structural",
    )
    ours = fit.summary()
    for program in ("bml", "rjags_direct"):
        theirs = published("G1", program)
        assert set(ours.index) == set(theirs.index)
        assert (theirs["rhat"] <= 1.01).all()
        theirs = theirs.loc[ours.index]
        z = (ours["mean"] - theirs["mean"]) / np.hypot(ours["mcse_mean"], theirs["mcse"])
        shown = pd.DataFrame({"rmm": ours["mean"], "bml": theirs["mean"], "z": z})
        assert (z.abs() < 4).all(), (program, shown)
        assert (ours["sd"] / theirs["sd"]).between(0.9, 1.1).all(), (ours["sd"], theirs["sd"])


@pytest.mark.slow
@pytest.mark.jags
@pytest.mark.parametrize(("model", "program"), [("AG_agg", "lm"), ("AG_agg_cid", "lmer")])
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_aggregated_gaussian_models_agree_with_r(
    model: str, program: str, scored: pd.DataFrame
) -> None:
    """Party finance averaged per government, no mm(): posterior means beside R's estimates.

    Tolerances: coefficients by 0.12 standard errors (0.25 with random effects, whose sds R fixes
    at their estimates), standard errors by 7% (15%), the residual sd by 0.02, the sd of random
    effects, a mode there and a mean here, by 0.12.
    """
    mixed = program == "lmer"
    fit = rmm.fit(
        "y ~ 1 + majority + mean_finance" + " + hm(id=cid)" * mixed,
        scored.drop_duplicates("gid"),
        priors="rmm",
        seed=5,
        draws=2000,
        thin=2,
        progress=False,
        backend="jags",
    )
    theirs, ours = published(model, program), fit.summary()
    assert set(ours.index) == set(theirs.index)
    ours = ours.loc[theirs.index]
    b = theirs["sd"].notna()
    off = (ours["mean"] - theirs["mean"])[b] / theirs["sd"][b]
    assert (off.abs() < (0.25 if mixed else 0.12)).all(), off
    width = (ours["sd"] / theirs["sd"])[b] - 1
    assert (width.abs() < (0.15 if mixed else 0.07)).all(), width
    allowed = np.where(theirs.index == "sigma_l3", 0.12, 0.02)
    assert ((ours["mean"] - theirs["mean"]).abs()[~b] < allowed[~b]).all(), ours["mean"]


@pytest.mark.parametrize(
    ("model", "program", "family", "outcome"),
    [
        ("AB_agg", "glm", "binomial", ["event_wkb"]),
        ("AW_agg", "survreg", "weibull", ["dur_wkb", "event_wkb"]),
        ("AC_agg", "coxph", "cox", ["dur_wkb", "event_wkb"]),
    ],
)
def test_estimates_of_r_maximise_our_likelihood(
    model: str, program: str, family: str, outcome: list[str], scored: pd.DataFrame
) -> None:
    """Without random effects, by search; no engine, no prior, so no Monte Carlo error.

    Within a thousandth of a standard error. coxph takes ties by Efron's rule, we by Breslow's:
    245 events lie on 216 days, hence 0.05 standard errors there.
    """
    groups, row = scored.drop_duplicates("gid"), FAMILIES[family]
    data = row.read_outcome("outcome", tuple(groups[c].to_numpy(float) for c in outcome), None)
    theirs = published(model, program)
    X = groups[["majority", "mean_finance"]].to_numpy(float)
    if row.intercept:
        X = np.column_stack([np.ones(len(X)), X])
    shape = "shape" in theirs.index

    def loss(x: np.ndarray) -> float:
        eta = (X @ x[: X.shape[1]])[None, :]
        if family == "cox":
            return -float(log_marginal(eta, data)[0])
        values = {"shape": np.exp(x[-1:])} if shape else {}
        return -float(row.log_likelihood(eta, values, data).sum())

    b = theirs[theirs["sd"].notna()]
    start = np.r_[b["mean"] + b["sd"], [0.0] * shape]
    tight = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 5000}
    found = minimize(loss, start, method="Nelder-Mead", options=tight).x
    off = (found[: len(b)] - b["mean"]) / b["sd"]
    assert (off.abs() < (0.05 if family == "cox" else 1e-3)).all(), off
    if shape:
        assert np.exp(found[-1]) == pytest.approx(theirs.loc["shape", "mean"], rel=1e-4)
