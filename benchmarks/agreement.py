"""The fast engine beside long runs of Stan: every model of the parity studies, on their data.

Usage: python benchmarks/agreement.py [--families gaussian,...] [--draws 2500] [--name agreement]
       python benchmarks/agreement.py --kept [--name agreement_numpy]    (Stan's runs of last time)

Stan has 8 chains, laplace is fitted 8 times with other seeds: what they differ by among themselves
is their Monte Carlo error, whatever its causes. For each structural parameter the averages are
compared: means in posterior standard deviations, ratios of standard deviations, 2.5% and 97.5%
quantiles in standard deviations. Wanted: at most .05, 5% and .1, plus two Monte Carlo standard
errors; how many hold without that allowance is said too. Fits of laplace that say that they have
not converged (Pareto k above .7) are left out and counted; where most are, nothing is wanted.
Writes NAME.csv and NAME.txt, and what Stan's chains gave (agreement_stan.csv): with --kept they
are compared with another path of the engine, or another version, without running Stan again.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.backends.convergence import PARETO_K_LIMIT
from rmm.posterior.diagnostics.summary import flatten
from rmm.study import load_study
from rmm.study.design.study import Study
from rmm.study.methods.bayesian import sampled
from rmm.study.methods.method import Method
from rmm.study.run.replicate import make_task

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(__file__).parent / "results"
FAMILIES = ("gaussian", "binomial", "condlogit", "weibull", "cox")
RUNS, EFFECTIVE, RESAMPLED = 8, 2500, 2500  # RESAMPLED draws in each of four chains
# Where draws of laplace are dear (hundreds of effects, choices): its Monte Carlo error is larger.
FEWER = {("condlogit", "autoregressive_stan"): 600}
WANTED = {"mean": 0.05, "sd": 0.05, "q2.5": 0.1, "q97.5": 0.1}
_CERTAIN = 2.0  # Monte Carlo standard errors


def models(study: Study) -> list[Method]:
    """The methods of a parity study that run on Stan: one for each model."""
    return [method for method in study.methods if method.backend == "stan"]


def compare(
    family: str, name: str, draws: int, kept: pd.DataFrame | None
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """A row per structural parameter of one model, and what Stan's chains gave."""
    study = load_study(ROOT / "config" / "studies" / f"parity_{family}.yaml", root=ROOT)
    method = study.method(name)
    options = dict(method.config["sampler"]["options"])
    given = {"warmup": 1000, "thin": 1, "timeout": 3600}
    long = {**given, "chains": RUNS, "draws": draws, "options": options}
    effective = FEWER.get((family, name), EFFECTIVE)
    short = {**given, "chains": 4, "draws": RESAMPLED, "options": {"ess": effective}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stan = _kept(kept, study, method)
        if stan is None:
            stan = _of_stan(_fit(study, method, "stan", long, 0), study, method)
        laplace = [_fit(study, method, "laplace", short, seed) for seed in range(1, RUNS + 1)]
    k = np.array([fit.run.engine["pareto_k"] for fit in laplace])
    trusted = [fit for fit, one in zip(laplace, k, strict=True) if one <= PARETO_K_LIMIT]
    rows = []
    for label, chains in stan.groupby("parameter", sort=False):
        theirs = chains[list(WANTED)].to_numpy()
        used = trusted if len(trusted) > 1 else laplace
        ours = np.concatenate([_statistics(_parameters(f)[label].reshape(1, -1)) for f in used])
        rows.append(
            {
                "family": family,
                "model": name.removesuffix("_stan"),
                "parameter": label,
                **_differences(ours, theirs),
                "stan_ess": chains["ess"].iloc[0],
                "stan_converged": chains["converged"].iloc[0],
                "trusted": len(trusted),
                "max_k": k.max(),
            }
        )
    return rows, stan


def _model_key(study: Study, method: Method) -> str:
    """Of the data and the model: kept runs of another one are not compared."""
    return f"{study.scenarios[0].digest[:12]}-{method.digest[:12]}"


def _of_stan(fit: Any, study: Study, method: Method) -> pd.DataFrame:
    """A row per parameter and chain."""
    tails = fit.summary()["ess_tail"]
    parts = [
        pd.DataFrame(_statistics(chains), columns=list(WANTED)).assign(
            model=_model_key(study, method),
            parameter=label,
            ess=tails[label],
            converged=fit.converged,
        )
        for label, chains in _parameters(fit).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _kept(kept: pd.DataFrame | None, study: Study, method: Method) -> pd.DataFrame | None:
    """The chains of a model that were kept; None where Stan is to run."""
    if kept is None:
        return None
    found = kept[kept["model"] == _model_key(study, method)]
    if found.empty:
        sys.exit(f"No run of Stan is kept for {method.name}: run without --kept.")
    return found


def _fit(study: Study, method: Method, backend: str, sampler: Any, seed: int) -> Any:
    config = {**method.config, "backend": backend, "sampler": sampler}
    asked = replace(method, backend=backend, config=config)
    task = make_task(study, study.scenarios[0], asked, 1)
    return sampled(task, task.formula, task.seed + seed, "structural")


def _parameters(fit: Any) -> dict[str, Any]:
    """(chains, draws) of each element of the structural parameters."""
    posterior = fit.draws["posterior"].to_dataset()
    found = {}
    for name in {label.split("[")[0] for label in fit.summary().index}:
        labels, values = flatten(posterior[name])
        found |= {label: values[:, :, i] for i, label in enumerate(labels)}
    return {label: found[label] for label in fit.summary().index}


def _statistics(draws: Any) -> Any:
    """(chains, 4) mean, sd, and the two quantiles of each chain."""
    ends = np.quantile(draws, (0.025, 0.975), axis=1)
    return np.column_stack([draws.mean(axis=1), draws.std(axis=1, ddof=1), *ends])


def _differences(ours: Any, theirs: Any) -> dict[str, float]:
    """Ours less theirs, in posterior standard deviations; and whether that is as wanted."""
    sd = theirs[:, 1].mean()
    gap = (ours.mean(axis=0) - theirs.mean(axis=0)) / sd
    error = np.sqrt(sum(x.var(axis=0, ddof=1) / len(x) for x in (ours, theirs))) / sd
    limit = np.array(list(WANTED.values()))
    found = {}
    for name, one, se in zip(WANTED, gap, error, strict=True):
        found |= {name: float(one), f"{name}_mcse": float(se)}
    return {
        **found,
        "agrees": bool((np.abs(gap) <= limit + _CERTAIN * error).all()),
        "strictly": bool((np.abs(gap) <= limit).all()),
    }


def report(table: pd.DataFrame) -> str:
    """Counts, and every row that is not as wanted."""
    lines = []
    for family, part in table.groupby("family", sort=False):
        trusted = part[part["trusted"] > RUNS / 2]
        bad = trusted[~trusted["agrees"]]
        fits = part.drop_duplicates("model")
        distrusted = fits.loc[fits["trusted"] <= RUNS / 2, "model"]
        largest = ", ".join(f"{name} {trusted[name].abs().max():.3f}" for name in WANTED)
        error = max(trusted[f"{name}_mcse"].max() for name in WANTED)
        lines.append(
            f"{family}: {len(fits)} models, {len(part)} parameters; laplace distrusts "
            f"{RUNS * len(fits) - fits['trusted'].sum()} of {RUNS * len(fits)} fits, most in "
            f"{', '.join(distrusted) or 'no model'}. Of the others {len(trusted) - len(bad)} of "
            f"{len(trusted)} parameters agree, {trusted['strictly'].sum()} without an allowance "
            f"for Monte Carlo errors (up to {error:.3f} sd). Largest differences in sds: {largest}."
        )
        if len(bad):
            lines.append(bad.drop(columns="family").to_string(index=False, float_format="%.3g"))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare, write, and exit 1 where something does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--draws", type=int, default=2500, help="of each chain of Stan")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--name", default="agreement", help="of the files of results")
    parser.add_argument("--kept", action="store_true", help="compare with the kept runs of Stan")
    given = parser.parse_args()
    jobs = [
        (family, method.name)
        for family in given.families.split(",")
        for method in models(
            load_study(ROOT / "config" / "studies" / f"parity_{family}.yaml", root=ROOT)
        )
    ]
    kept = pd.read_csv(OUT / "agreement_stan.csv") if given.kept else None
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    stan: list[pd.DataFrame] = []
    began = time.monotonic()
    with ProcessPoolExecutor(given.workers) as pool:
        # The dearest first, so that it does not run alone at the end.
        order = sorted(jobs, key=lambda job: job not in FEWER)
        waiting = {pool.submit(compare, *job, given.draws, kept): job for job in order}
        for number, future in enumerate(as_completed(waiting), start=1):
            job = waiting[future]
            found[job], chains = future.result()
            stan.append(chains)
            minutes = (time.monotonic() - began) / 60
            print(f"{number} of {len(jobs)}, {minutes:.0f} min: {' '.join(job)}", flush=True)
            table = pd.DataFrame([row for one in jobs for row in found.get(one, [])])
            table.to_csv(OUT / f"{given.name}.csv", index=False, float_format="%.6g")
            if kept is None:
                every = pd.concat(stan, ignore_index=True)
                every.to_csv(OUT / "agreement_stan.csv", index=False, float_format="%.8g")
    text = report(table)
    (OUT / f"{given.name}.txt").write_text(text)
    print(text)
    return 0 if table.loc[table["trusted"] > RUNS / 2, "agrees"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
