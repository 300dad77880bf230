"""The fast engine beside long runs of Stan: every model of the parity studies, on their data.

Usage: python benchmarks/agreement.py [--families gaussian,...] [--draws 5000] [--out FOLDER]

For each structural parameter: the difference of posterior means in posterior standard deviations,
less two Monte Carlo standard errors of both; the ratio of standard deviations; the differences of
the 2.5% and 97.5% quantiles in standard deviations. Wanted: at most .05, 5% and .1. Where laplace
says itself that it has not converged (Pareto k above .7), nothing is wanted. Both engines are asked
for enough draws that Monte Carlo errors of standard deviations are about 1%; those of Stan
are in the table (`min_ess`). Writes agreement.csv and agreement.txt.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.study import load_study
from rmm.study.batches import make_task
from rmm.study.config import Study
from rmm.study.engines import sampled
from rmm.study.methods import Method

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(__file__).parent / "results"
FAMILIES = ("gaussian", "binomial", "condlogit", "weibull", "cox")
CHAINS, EFFECTIVE = 4, 10_000
WANTED = {"mean": 0.05, "sd": 0.05, "quantile": 0.1}


def models(study: Study) -> list[Method]:
    """The methods of a parity study that run on Stan: one for each model."""
    return [method for method in study.methods if method.backend == "stan"]


def compare(family: str, name: str, draws: int) -> list[dict[str, Any]]:
    """A row per structural parameter of one model."""
    study = load_study(ROOT / "config" / "studies" / f"parity_{family}.yaml", root=ROOT)
    scenario, method = study.scenarios[0], study.method(name)
    options = dict(method.config["sampler"]["options"])
    long = {"chains": CHAINS, "warmup": 1000, "draws": draws, "thin": 1, "timeout": 3600}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stan = _fit(study, scenario, method, "stan", {**long, "options": options})
        laplace = _fit(study, scenario, method, "laplace", {**long, "options": {"ess": EFFECTIVE}})
    ours, theirs = laplace.summary(), stan.summary()
    k = float(laplace.run.engine["pareto_k"])
    rows = []
    for parameter in theirs.index:
        a, b = ours.loc[parameter], theirs.loc[parameter]
        error = float(np.hypot(a["mcse_mean"], b["mcse_mean"])) / b["sd"]
        shift = abs(float(a["mean"] - b["mean"])) / b["sd"]
        ends = {q: float(a[q] - b[q]) / b["sd"] for q in ("q2.5", "q97.5")}
        ratio = float(a["sd"] / b["sd"])
        agrees = (shift - 2 * error <= WANTED["mean"] and abs(ratio - 1) <= WANTED["sd"]
                  and max(map(abs, ends.values())) <= WANTED["quantile"])  # fmt: skip
        rows.append(
            {"family": family, "model": name.removesuffix("_stan"), "parameter": parameter,
             "mean_laplace": float(a["mean"]), "mean_stan": float(b["mean"]), "shift": shift,
             "shift_mcse": error, "sd_ratio": ratio, **ends, "min_ess": min(b["ess_bulk"],
             b["ess_tail"]), "ess_laplace": float(laplace.run.engine["ess"]), "pareto_k": k,
             "stan_converged": stan.converged, "agrees": agrees}
        )  # fmt: skip
    return rows


def _fit(study: Study, scenario: Any, method: Method, backend: str, sampler: Any) -> Any:
    config = {**method.config, "backend": backend, "sampler": sampler}
    asked = replace(method, backend=backend, config=config)
    task = make_task(study, scenario, asked, 1)
    return sampled(task, task.formula, task.seed, "structural")


def report(table: pd.DataFrame) -> str:
    """Counts, and every row that is not as wanted."""
    lines = []
    for family, part in table.groupby("family", sort=False):
        trusted = part[part["pareto_k"] <= 0.7]
        models_of, bad = part["model"].nunique(), trusted[~trusted["agrees"]]
        distrusted = part.loc[part["pareto_k"] > 0.7, "model"].unique()
        lines.append(
            f"{family}: {models_of} models, {len(part)} parameters; laplace distrusts itself in "
            f"{len(distrusted)} ({', '.join(distrusted) or 'none'}); of the others "
            f"{len(trusted) - len(bad)} of {len(trusted)} parameters agree. Largest shift "
            f"{trusted['shift'].max():.3f} sd, sd ratios {trusted['sd_ratio'].min():.3f} to "
            f"{trusted['sd_ratio'].max():.3f}, largest quantile difference "
            f"{trusted[['q2.5', 'q97.5']].abs().max().max():.3f} sd; smallest ESS of Stan "
            f"{part['min_ess'].min():.0f}."
        )
        if len(bad):
            lines.append(bad.drop(columns="family").to_string(index=False, float_format="%.4g"))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare, write, and exit 1 where something does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--draws", type=int, default=5000, help="of each chain of Stan")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    jobs = [
        (family, method.name)
        for family in given.families.split(",")
        for method in models(
            load_study(ROOT / "config" / "studies" / f"parity_{family}.yaml", root=ROOT)
        )
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(given.workers) as pool:
        waiting = [pool.submit(compare, *job, given.draws) for job in jobs]
        for number, (job, future) in enumerate(zip(jobs, waiting, strict=True), start=1):
            rows += future.result()
            print(f"{number} of {len(jobs)}: {' '.join(job)}", flush=True)
            table = pd.DataFrame(rows)
            table.to_csv(given.out / "agreement.csv", index=False, float_format="%.6g")
    text = report(table)
    (given.out / "agreement.txt").write_text(text)
    print(text)
    trusted = table[table["pareto_k"] <= 0.7]
    return 0 if trusted["agrees"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
