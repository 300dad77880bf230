"""Fits of two published data sets, beside the numbers of other programs.

usage: .venv/bin/python benchmarks/published_fits.py [OUT.csv]

Coalition governments: models of R's bml 0.9, and of lm, lmer, glm, glmer, survreg and coxph with
the parties averaged. Office workers: the multiple-membership model of Browne, MCMC Estimation in
MLwiN, chapter 16, by lme4. The numbers of these programs are in `published/`. They were computed
for this comparison (R 4.2, JAGS 4.3.1), not printed by the authors.

Posteriors are by laplace, to `EFFECTIVE` effective draws, with the priors of the other program:
those of R's rmm, which bml shares except for the shape, and for the workers the defaults of MLwiN.
Regressions and REML are those of studies. The output has a row per parameter and kind of estimate.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import rmm
from rmm.study.methods.frequentist.restricted_likelihood import restricted_maximum
from rmm.study.methods.regressions import REGRESSIONS, Problem

PUBLISHED = Path(__file__).parent / "published"
OUT = Path(__file__).parent / "results" / "published_fits.csv"
EFFECTIVE, SEED = 4000, 1

PARTIES = " + mm(id(pid, gid), vars(finance), fn(w ~ 1/n), RE = TRUE) + hm(id = cid)"
MEAN, COUNTRIES = " + mean_finance", " + hm(id = cid)"
SURVIVAL = "Surv(dur_wkb, event_wkb)"


@dataclass(frozen=True)
class Model:
    """A model of the coalitions.

    Attributes
    ----------
    terms : str
        Right-hand side after the intercept and `majority`.
    outcome, family : str
    regression : str
        Row of `REGRESSIONS`, or `reml`, that gives the other program's estimates; "" without one.
    priors : tuple of str
        Besides those of R's rmm.
    """

    terms: str
    outcome: str = "y"
    family: str = "gaussian"
    regression: str = ""
    priors: tuple[str, ...] = ()

    @property
    def by_party(self) -> bool:
        """Whether parties are members, not averaged."""
        return self.terms.startswith(PARTIES)


#: By the name in `published/coalitions.csv`.
COALITIONS = {
    "G1": Model(PARTIES),
    "B1": Model(PARTIES, "event_wkb", "binomial"),
    "W1": Model(PARTIES, SURVIVAL, "weibull", priors=("shape ~ exponential(0.001)",)),
    "AG_agg": Model(MEAN, regression="reml"),
    "AG_agg_cid": Model(MEAN + COUNTRIES, regression="reml"),
    "AB_agg": Model(MEAN, "event_wkb", "binomial", "glm"),
    "AB_agg_cid": Model(MEAN + COUNTRIES, "event_wkb", "binomial"),
    "AW_agg": Model(MEAN, SURVIVAL, "weibull", "weibull_ml"),
    "AC_agg": Model(MEAN, SURVIVAL, "cox", "phreg"),
}
PREDICTORS = ("age_40", "female", "part_time")
WORKERS = (
    f"logearn ~ 1 + {' + '.join(PREDICTORS)}"
    " + mm(id(firm, id), vars = NULL, fn(w ~ share), RE = TRUE)"
)
MLWIN = [
    "rmm",
    *(f"{name} ~ precision_gamma(0.001, 0.001)" for name in ("sigma_l1", "sigma_l2")),
]


def coalitions() -> pd.DataFrame:
    """Return `coalgov` with the outcome of G1 and the mean finance of each government."""
    table = rmm.datasets.load("coalgov")
    log = np.log(table.groupby("gid")["dur_wkb"].first())
    return table.assign(
        y=table["gid"].map((log - log.mean()) / log.std()),
        mean_finance=table["gid"].map(table.groupby("gid")["finance"].mean()),
    )


def jobs() -> pd.DataFrame:
    """Return one row per office worker and company, as in docs/tutorials/workers.md."""
    workers = rmm.datasets.load("wage1")
    slots = ["company", "company2", "company3", "company4"]
    shares = ["weight1", "weight2", "weight3", "weight4"]
    used = workers[slots] > 0
    workers[slots] = workers[slots].where(used)
    workers[shares] = workers[shares].where(used.to_numpy())
    workers["female"] = (workers["sex"] == "female").astype(float)
    workers["part_time"] = (workers["parttime"] == "Parttime").astype(float)
    return rmm.to_long(
        workers, members=slots, covariates={"share": shares}, group="id", member="firm"
    )


def posterior(formula: str, table: pd.DataFrame, family: str, priors: list[str]) -> pd.DataFrame:
    """Means, standard deviations and Monte Carlo errors; shares of the variance, too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Without mm\\(\\) every row")  # one per government
        fit = rmm.fit(
            formula,
            table,
            family,
            backend="laplace",
            priors=priors,
            seed=SEED,
            ess=EFFECTIVE,
            progress=False,
        )
    if not fit.converged:
        raise SystemExit(f"{formula}: not converged")
    found = fit.summary()[["mean", "sd", "mcse_mean"]].set_axis(["mean", "sd", "mcse"], axis=1)
    if "mm(" in formula and family == "gaussian":
        shares = fit.variance_components()["share"][["mean", "sd"]]
        shares["mcse"] = shares["sd"] / np.sqrt(EFFECTIVE)
        found = pd.concat([found, shares.rename(index="share of {}".format)])
    return found


def shares_at_means(sds: pd.Series, squares: float) -> pd.Series:
    """Return shares of the variance of G1, at posterior means of its standard deviations.

    Parameters
    ----------
    sds : Series
        With `sigma_l1`, `sigma_l2` and `sigma_l3`.
    squares : float
        Mean over governments of the sum of squared weights, as in bml's `varDecomp`.
    """
    variance = pd.Series(
        {
            "members": sds["sigma_l1"] ** 2 * squares,
            "nesting units": sds["sigma_l3"] ** 2,
            "residual": sds["sigma_l2"] ** 2,
        }
    )
    return (variance / variance.sum()).rename("share of {} at the means".format)


def estimates(model: Model, groups: pd.DataFrame) -> pd.DataFrame:
    """Estimates and standard errors of a regression of averages, by group."""
    X = groups[["majority", "mean_finance"]].to_numpy(float)
    names = ["b_l2[majority]", "b_l2[mean_finance]"]
    if model.family != "cox":
        X, names = np.column_stack([np.ones(len(X)), X]), ["b_l2[Intercept]", *names]
    columns = {"y": "y", "event_wkb": "event_wkb", SURVIVAL: ["dur_wkb", "event_wkb"]}
    y = groups[columns[model.outcome]].to_numpy(float)
    if model.regression == "reml":
        countries = pd.get_dummies(groups["cid"]).to_numpy(float)
        found = restricted_maximum(y, X, [countries] if COUNTRIES in model.terms else [])
        return _of_reml(found, names, ["sigma_l3"])
    problem = Problem(y, X, names, np.zeros(len(y)), None, "classical", None, family=model.family)
    regression = REGRESSIONS[model.regression]
    fitted = regression.fit(problem)
    mean = dict(zip([*names, *regression.positive], fitted.mean, strict=True))
    mean = {k: np.exp(v) if k in regression.positive else v for k, v in mean.items()}
    table = pd.DataFrame({"mean": mean})
    table["sd"] = pd.Series(fitted.sd[: len(names)], names)
    return table


def _of_reml(found: Any, names: list[str], effects: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(
        {"mean": found.b, "sd": np.sqrt(np.diag(found.covariance))}, index=pd.Index(names)
    )
    sigmas = dict(zip(effects, found.sigmas, strict=False)) | {"sigma_l2": found.residual}
    return pd.concat([table, pd.DataFrame({"mean": sigmas})])


def workers_reml(table: pd.DataFrame) -> pd.DataFrame:
    """REML of the workers with their shares of time as weights."""
    table = table.assign(row=table["id"].factorize()[0], firm=table["firm"].factorize()[0])
    share = table["share"] / table.groupby("row")["share"].transform("sum")
    W = np.zeros((table["row"].max() + 1, table["firm"].max() + 1))
    np.add.at(W, (table["row"], table["firm"]), share)
    groups = table.groupby("row").first()
    X = np.column_stack([np.ones(len(groups)), groups[list(PREDICTORS)].to_numpy(float)])
    found = restricted_maximum(groups["logearn"].to_numpy(), X, [W])
    return _of_reml(found, ["b_l2[Intercept]", *(f"b_l2[{p}]" for p in PREDICTORS)], ["sigma_l1"])


def fits() -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the model, the kind of estimate and the estimates of every fit."""
    table = coalitions()
    groups = table.drop_duplicates("gid")
    for name, model in COALITIONS.items():
        formula = f"{model.outcome} ~ 1 + majority{model.terms}"
        data = table if model.by_party else groups
        if model.regression:
            yield name, "estimate", estimates(model, groups)
        else:
            priors = ["rmm", *model.priors]
            yield name, "posterior", posterior(formula, data, model.family, priors)
    table = jobs()
    yield "workers", "posterior", posterior(WORKERS, table, "gaussian", MLWIN)
    yield "workers", "estimate", workers_reml(table)


def published() -> pd.DataFrame:
    """Return the other programs' numbers."""
    tables = [pd.read_csv(PUBLISHED / f"{name}.csv") for name in ("coalitions", "workers")]
    return pd.concat(tables, ignore_index=True)


def compared() -> pd.DataFrame:
    """Return our estimates beside the other programs' numbers, by model, kind and parameter."""
    theirs = published().rename(
        columns={"mean": "published", "sd": "published_sd", "mcse": "published_mcse"}
    )
    squares = float((1 / coalitions().groupby("gid").size()).mean())  # of weights 1/n
    sds = theirs[theirs["model"] == "G1"].set_index("parameter")["published"]
    shares = shares_at_means(sds, squares).rename_axis("parameter").rename("published")
    shares = shares.reset_index().assign(model="G1", program="bml")
    theirs = pd.concat([theirs, shares], ignore_index=True)
    rows = []
    for name, kind, found in fits():
        print(name, kind, flush=True)
        if name == "G1":
            shares = shares_at_means(found["mean"], squares)
            found = pd.concat([found, shares.to_frame("mean")])
        here = found.rename_axis("parameter").reset_index().assign(model=name, kind=kind)
        rows.append(here.merge(theirs, on=["model", "parameter"], how="left"))
    columns = ["model", "kind", "parameter", "program", "published", "published_sd"]
    columns += ["published_mcse", "mean", "sd", "mcse"]
    return pd.concat(rows, ignore_index=True)[columns]


def main(out: Path) -> None:
    """Write the table."""
    compared().to_csv(out, index=False, float_format="%.6g")
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
