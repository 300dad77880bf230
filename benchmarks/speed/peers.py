"""Effective draws per CPU second on the coalitions: laplace, JAGS in bml's style, NumPyro, others.

usage: python -m benchmarks.speed.peers PROGRAM FAMILY fixed|estimated GROUPS    (one row as JSON)

Every fit is a process of its own. The measure is the smallest bulk ESS over b_l1, sigma_l1 and b_w,
divided by CPU seconds: warm-up included, compilation of the model excluded. Of laplace they are
those of all of `rmm.fit` at its defaults (about 1,000 effective draws, so that a large share
is what every fit costs once) and with ess=4000, the mean of some seeds. Its ESS is that of its
weights: its resampled draws would seem to be worth more. All programs have the same posterior
(priors="rmm", with b_w ~ normal(0, 1), since the vague prior leaves b_w without one).

If a program has not converged (R-hat above 1.1), or its ESS is below 100, this number only shows
that it is slow. Ratios to it stand beside what they are at least: had it as many effective draws as
the distance between its chains allows (`most_effective`).
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import rmm
from benchmarks import coalition_table
from benchmarks.speed import bml_style, numpyro_environment, peers_results
from benchmarks.speed.machine import cpu_of_children, run_module
from benchmarks.speed.peers_results import CONVERGED, RELIABLE
from rmm.backends.base import Settings
from rmm.backends.jags import run as jags_backend

FAMILIES = ("gaussian", "binomial", "weibull", "cox", "condlogit")
#: Those of a short run; "jags" and "stan" are our other engines.
PROGRAMS = ("bml style", "numpyro", "laplace", "laplace, ess=4000")
CHAINS = 4
REAL_GROUPS = coalition_table.GOVERNMENTS
# (warm-up, draws) per chain: long enough for an ESS of 100, if that takes less than some minutes.
# Not so for bml style with cox, whose table takes most of a second an iteration, and with
# condlogit: 32,000 draws had an ESS of 28.
LENGTHS = {
    ("bml style", "weibull"): (2000, 8000),
    ("bml style", "condlogit"): (1000, 8000),
    ("bml style", "cox"): (10, 20),
    ("jags", "cox"): (250, 500),
    ("jags", "condlogit"): (500, 1000),
    **{("numpyro", family): (500, 500) for family in FAMILIES},
}
USUAL = (1000, 2000)
#: Of longer chains only the parameters that are counted are kept: all others would be gigabytes.
MANY_DRAWS = 4000
#: From so many groups on JAGS's chains are this many times shorter, and some fits are left out:
#: JAGS's table of a Cox model, laplace's dense factors of thousands of effects take hours.
MANY, SHORTER = 2000, 4
LEFT_OUT = {("bml style", "cox"), ("jags", "cox"), ("laplace", "cox"), ("laplace", "condlogit")}
#: Fits of laplace, whose CPU seconds are few.
SEEDS = 16
COUNTED = {"b.l1": "b_l1", "sigma.l1": "sigma_l1", "b.w": "b_w"}


def measure(program: str, family: str, weights: str, groups: int) -> dict[str, Any]:
    """Fit once; a row of the table."""
    data, table = coalition_table.read(groups, family)
    warmup, draws = LENGTHS.get((program, family), USUAL)
    if groups >= MANY and program in ("bml style", "jags"):
        warmup, draws = warmup // SHORTER, draws // SHORTER
    settings = Settings(chains=CHAINS, warmup=warmup, draws=draws, seed=1, cores=2)
    programs = {"bml style": _bml_style, "numpyro": _numpyro}
    run = _laplace if program.startswith("laplace") else programs.get(program, _ours)
    cpu, wall, found, more = run(program, family, weights, table, settings)
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = {
        k: float(np.squeeze(array_stats.ess(v, method="bulk", **axes))) for k, v in found.items()
    }
    if "ess" in more:
        ess = {"weights": more["ess"]}
    rhat = {k: float(np.squeeze(array_stats.rhat(v, **axes))) for k, v in found.items()}
    worst = min(ess, key=lambda k: ess[k])
    converged = max(rhat.values()) <= CONVERGED and more.get("pareto_k", 0.0) <= 0.7
    most = ess[worst]
    if not (converged and most >= RELIABLE):
        most = max(most, most_effective(max(rhat.values()), draws))
    return {
        "groups": groups,
        "family": family,
        "weights": weights,
        "program": program,
        "data": data,
        "warmup": warmup,
        "draws": draws,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "min_ess": ess[worst],
        "of": worst,
        "max_rhat": max(rhat.values()),
        "converged": converged,
        "divergences": more.get("divergences", 0),
        "pareto_k": more.get("pareto_k", np.nan),
        "ess_per_cpu_second": ess[worst] / cpu,
        "at_most": most / cpu,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        **{f"mean_{k}": float(v.mean()) for k, v in found.items()},
    }


def most_effective(rhat: float, draws: int) -> float:
    """Effective draws of CHAINS chains that their R-hat allows, with probability .999.

    Means of m halves of chains, each of n effective draws with variance W, have variance W/n, and
    R-hat^2 = 1 - 1/N + variance of the means / W for halves of N draws (Gelman and others 2013,
    Bayesian Data Analysis, section 11.4): (m - 1) n (R-hat^2 - 1 + 1/N) is chi-squared with m - 1
    degrees of freedom. Chains that do not agree cannot have had many.
    """
    halves = 2 * CHAINS
    apart = (halves - 1) * (rhat**2 - 1 + 2 / draws)
    most = halves * float(stats.chi2.ppf(0.999, halves - 1)) / max(apart, 1e-12)
    return min(most, CHAINS * draws)


def _bml_style(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    inits = [bml_style.initial(family, weights, table, k) for k in range(settings.chains)]
    monitor = bml_style.monitored(family, weights)
    if settings.draws > MANY_DRAWS:
        monitor = tuple(name for name in COUNTED if name in monitor)
    settings = Settings(
        chains=settings.chains,
        warmup=settings.warmup,
        draws=settings.draws,
        seed=settings.seed,
        cores=settings.cores,
        monitor=monitor,
    )
    run = jags_backend.run(
        bml_style.program(family, weights), bml_style.data(family, weights, table), inits, settings
    )
    found = {COUNTED[k]: run.draws[k] for k in COUNTED if k in run.draws}
    return run.engine["seconds_cpu"], run.seconds, found, {}


def _ours(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    text, priors = coalition_table.formula(family, weights), _priors(weights)
    if program == "stan":
        from rmm.backends.stan.compile import compile_program

        compile_program(rmm.program(text, family, "stan", data=table, priors=priors))
    before = cpu_of_children()
    fit = rmm.fit(
        text,
        table,
        family,
        backend=program,
        priors=priors,
        chains=settings.chains,
        warmup=settings.warmup,
        draws=settings.draws,
        seed=settings.seed,
        cores=settings.cores,
        progress=False,
    )
    cpu = cpu_of_children() - before if program == "stan" else fit.run.engine["seconds_cpu"]
    found = {
        k: fit.run.draws[k].reshape(CHAINS, settings.draws, -1)[:, :, 0]
        for k in COUNTED.values()
        if k in fit.run.draws
    }
    divergences = float(np.sum(fit.run.sample_stats.get("diverging", 0)))
    return cpu, fit.run.seconds, found, {"divergences": divergences}


def _laplace(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    text, priors = coalition_table.formula(family, weights), _priors(weights)
    some = table[table["gid"].isin(table["gid"].unique()[:40])]
    given: dict[str, Any] = {"priors": priors, "backend": "laplace", "progress": False}
    if program != "laplace":
        given["ess"] = int(program.rpartition("=")[2])
    rmm.fit(text, some, family, **given)  # libraries are loaded then
    fits = []
    before, began = time.process_time(), time.perf_counter()
    for seed in range(1, SEEDS + 1):
        fits.append(rmm.fit(text, table, family, seed=seed, **given))
    cpu, wall = time.process_time() - before, time.perf_counter() - began
    draws = fits[0].run.draws
    found = {
        k: draws[k].reshape(*draws[k].shape[:2], -1)[:, :, 0]
        for k in COUNTED.values()
        if k in draws
    }
    engines = [fit.run.engine for fit in fits]
    more = {
        "ess": float(np.mean([e["ess"] for e in engines])),
        "pareto_k": float(max(e["pareto_k"] for e in engines)),
    }
    return cpu / SEEDS, wall / SEEDS, found, more


def _priors(weights: str) -> Any:
    return ["rmm", "b_w ~ normal(0, 1)"] if weights == "estimated" else "rmm"


def _numpyro(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        row, draws = numpyro_environment.fit(family, weights, table, settings, Path(folder))
        wall = time.perf_counter() - began
    return row["cpu_seconds"], wall, draws, {"divergences": row["divergences"]}


# ---- the run -----------------------------------------------------------------------------------


def collect(
    groups: list[int], families: list[str], weights: list[str], programs: list[str], name: str
) -> pd.DataFrame:
    """Return all rows, each measured by a process of its own and kept as soon as it is known."""
    rows: list[dict[str, Any]] = []
    for count, family, kind, program in itertools.product(groups, families, weights, programs):
        if count >= MANY and (program, family) in LEFT_OUT:
            print(f"{count:>6} {family:10}{kind:10}{program:10} left out: hours", flush=True)
            continue
        row = json.loads(run_module("peers", program, family, kind, count))
        rows.append(row)
        print(
            f"{count:>6} {family:10}{kind:10}{program:10}{row['cpu_seconds']:9.1f} CPU s"
            f"{row['min_ess']:8.0f} ESS of {row['of']:9}{row['ess_per_cpu_second']:9.2f} per s",
            flush=True,
        )
        peers_results.write(peers_results.with_ratios(pd.DataFrame(rows)), name)
    return peers_results.with_ratios(pd.DataFrame(rows))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        *words, number = sys.argv[1:]
        print(json.dumps(measure(*words, int(number))))
