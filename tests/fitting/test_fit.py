"""`rmm.fit` end to end: reproducible, true to R's answers on the coalition data, and storable."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rmm
from tests.coalitions import shared_file

FORMULA = "y ~ 1 + majority + mm(id(pid, gid), vars(finance), fn(w ~ {w}), RE=TRUE) + hm(id=cid)"
LOGISTIC = "1/(1 + (n - 1)*exp(-(b1*pseat_z)))"
ENGINES = [
    pytest.param("jags", marks=pytest.mark.jags),
    pytest.param("stan", marks=pytest.mark.stan),
]


@pytest.fixture(scope="module")
def governments() -> pd.DataFrame:
    """The real coalition data with model G1's outcome."""
    table = pd.read_parquet(shared_file("data", "coalgov_bml.parquet"))
    log_duration = np.log(table.groupby("gid")["dur_wkb"].first())
    z = (log_duration - log_duration.mean()) / log_duration.std(ddof=1)
    pseat = table["pseat"]
    return table.assign(y=table["gid"].map(z), pseat_z=(pseat - pseat.mean()) / pseat.std(ddof=1))


def z_scores(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Differences of posterior means in combined Monte Carlo standard errors."""
    return (one["mean"] - other["mean"]).abs() / np.hypot(one["mcse_mean"], other["mcse_mean"])


@pytest.mark.thorough
@pytest.mark.jags
@pytest.mark.stan
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_model_g1_agrees_with_r(governments: pd.DataFrame) -> None:
    """Within 4 combined MCSE on each of 6 parameters and 3 pairs: false alarms below 0.2%."""
    published = pd.read_csv(shared_file("reference", "bml_posteriors.csv"))
    r = published.query("model == 'G1' and program == 'rjags_direct'").set_index("parameter")
    r = r.rename(columns={"mcse": "mcse_mean"})
    fits = {
        backend: rmm.fit(
            FORMULA.format(w="1/n"),
            governments,
            backend=backend,
            priors="rmm",
            seed=5,
            warmup=1000,
            draws=3000,
            progress=False,
        )
        for backend in ("jags", "stan")
    }
    tables = {name: fit.summary().loc[r.index] for name, fit in fits.items()}
    for one, other in ((tables["jags"], tables["stan"]), (tables["jags"], r), (tables["stan"], r)):
        assert (z_scores(one, other) < 4).all(), pd.concat([one["mean"], other["mean"]], axis=1)


@pytest.mark.thorough
@pytest.mark.jags
@pytest.mark.stan
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_estimated_weights_agree(governments: pd.DataFrame) -> None:
    """Within 4 combined MCSE on each of 7 parameters: false alarms below 0.05%."""
    jags, stan = (
        rmm.fit(
            FORMULA.format(w=LOGISTIC),
            governments,
            backend=backend,
            seed=6,
            priors=["rmm", "b_w ~ normal(0, 1)"],
            warmup=1000,
            draws=1500,
            monitor="structural",
            progress=False,
        ).summary()
        for backend in ("jags", "stan")
    )
    assert list(jags.index) == list(stan.index) and "b_w[b1]" in jags.index
    assert (z_scores(jags, stan) < 4).all(), pd.concat([jags, stan], axis=1)


@pytest.mark.jags
def test_vague_priors_of_weights_are_said_to_decide(governments: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        with pytest.warns(
            rmm.SpecificationWarning, match="likelihood is flat, and only the prior decides"
        ):
            rmm.fit(
                FORMULA.format(w=LOGISTIC),
                governments,
                priors="rmm",
                seed=1,
                chains=2,
                warmup=400,
                draws=300,
                monitor="structural",
                progress=False,
                backend="jags",
            )


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_same_seed_same_draws_whatever_the_row_order(
    backend: str, coalitions: pd.DataFrame
) -> None:
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)"
    tables = [coalitions, coalitions.sample(frac=1, random_state=1), coalitions]
    fits = [
        rmm.fit(
            formula,
            table,
            backend=backend,
            seed=seed,
            chains=2,
            warmup=200,
            draws=100,
            cores=cores,
            progress=False,
        )
        for table, seed, cores in zip(tables, (3, 3, 4), (1, 2, 2), strict=True)
    ]
    draws = [fit.draws["posterior"].to_dataset() for fit in fits]
    assert draws[0].equals(draws[1])
    assert not draws[0].equals(draws[2])


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_fit_shows_labels_weights_effects_and_is_storable(
    coalitions: pd.DataFrame, tmp_path: Path
) -> None:
    formula = (
        "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s))), RE=TRUE)"
        " + hm(id=cid, name=cname)"
    )
    shuffled = coalitions.sample(frac=1, random_state=2)
    fit = rmm.fit(
        formula, shuffled, seed=2, chains=2, warmup=300, draws=200, progress=False, backend="jags"
    )
    assert list(fit.summary().index) == [
        "b_l1[x]",
        "b_l2[Intercept]",
        "b_l2[z]",
        "b_w[b1]",
        "sigma_l1",
        "sigma_l2",
        "sigma_l3",
    ]
    weights = fit.weights()
    assert weights["member"].tolist() == shuffled["pid"].tolist()
    assert weights["group"].tolist() == shuffled["gid"].tolist()
    assert weights.groupby("group")["mean"].sum().to_numpy() == pytest.approx(1)
    assert (weights["sd"] > 0).all()
    assert list(fit.nesting_effects().index) == [f"C{i}" for i in range(10)]
    assert len(fit.member_effects()) == 30
    again = rmm.load(fit.save(tmp_path / "a fit.nc"))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(again.weights(), fit.weights())
    assert again.program == fit.program and again.program_data.keys() == fit.program_data.keys()


@pytest.mark.jags
def test_convergence_is_said(coalitions: pd.DataFrame) -> None:
    with pytest.warns(rmm.ConvergenceWarning, match="has not converged: largest R-hat"):
        fit = rmm.fit(
            "y ~ 1 + mm(id(pid, gid), RE=TRUE)",
            coalitions,
            seed=1,
            chains=2,
            warmup=5,
            draws=20,
            progress=False,
            backend="jags",
        )
    assert not fit.converged


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_fixed_sd_is_data(coalitions: pd.DataFrame) -> None:
    fit = rmm.fit(
        "y ~ 1 + mm(id(pid, gid), RE=TRUE)",
        coalitions,
        seed=1,
        chains=2,
        warmup=200,
        draws=100,
        priors=["sigma_l1 <- 0.5"],
        progress=False,
        backend="jags",
    )
    assert "sigma_l1" not in fit.summary().index and fit.program_data["sigma_l1"] == 0.5


def test_a_file_that_is_no_fit(tmp_path: Path) -> None:
    path = tmp_path / "no.nc"
    path.write_bytes(b"nothing")
    with pytest.raises(rmm.DataError, match="not a fit that rmm saved"):
        rmm.load(path)
    with pytest.raises(rmm.DataError, match="file does not exist"):
        rmm.load(tmp_path / "absent.nc")


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_weights_that_underflow_still_sum_to_one(coalitions: pd.DataFrame) -> None:
    """1/n^exp(9) is 0 for every member: normalised naively, JAGS stops at 0/0."""
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b0 + b1*s)), c=TRUE), RE=TRUE)"
    priors = {"b_w[b0]": "normal(-9, 0.1)", "b_w[b1]": "normal(0, 1)"}
    fit = rmm.fit(
        formula,
        coalitions,
        priors=priors,
        seed=1,
        chains=2,
        warmup=100,
        draws=100,
        inits={"b_w": [-9.0, 0.5]},
        progress=False,
        backend="jags",
    )
    assert fit.summary()["mean"]["b_w[b0]"] < -8
    assert fit.weights().groupby("group")["mean"].sum().to_numpy() == pytest.approx(1)
