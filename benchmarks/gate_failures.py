"""Fits of laplace that their gate refuses, and what four times the effective draws make of them.

    python benchmarks/gate_failures.py [--fits 10000] [--processes 2] [--write]

The multiple membership model with estimated weights of `shared_members_mmmm`: 200 groups of three
from 50 members. Each fit that is refused is named with its replication, its Pareto k and its
effective sample size, and fitted again with four times the effective draws. `--write` keeps what is
printed in results/gate_failures.txt.
"""

from __future__ import annotations

import argparse
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from rmm.study import load_study
from rmm.study.files.parquet import OK
from rmm.study.methods.bayesian import fit_engine
from rmm.study.methods.method import Method
from rmm.study.methods.task import Outcome
from rmm.study.run.replicate import make_task

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "config" / "studies" / "shared_members_mmmm.yaml"
OUT = Path(__file__).parent / "results" / "gate_failures.txt"
METHOD, AT_ONCE, MORE = "mmmm", 250, 4


def refused(numbers: range) -> list[str]:
    """What is to be said of the fits of some replications that are refused."""
    study = load_study(STUDY, root=ROOT)
    method, found = study.method(METHOD), []
    warnings.simplefilter("ignore")
    for number in numbers:
        first = fit_engine(make_task(study, study.scenarios[0], method, number))
        if first.status != OK:
            more = with_more(method, first.fit.settings.options["ess"])
            again = fit_engine(make_task(study, study.scenarios[0], more, number))
            found.append(
                f"replication {number}: {said(first)}; at {MORE} times the ESS: {said(again)}"
            )
    return found


def said(outcome: Outcome) -> str:
    """Status, Pareto k and effective draws of a fit."""
    engine = outcome.fit.run.engine
    k, ess, points = engine["pareto_k"], engine["ess"], engine["points"]
    return f"{outcome.status}, k {k:.2f}, ESS {ess:.0f} of {points:,} points"


def with_more(method: Method, wanted: float) -> Method:
    """The method with `MORE` times the effective draws that it wanted."""
    sampler = method.config["sampler"]
    options = {**sampler["options"], "ess": MORE * wanted}
    return replace(method, config={**method.config, "sampler": {**sampler, "options": options}})


def main() -> None:
    """Fit, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help="keep the output in results/")
    asked = parser.parse_args()
    starts = range(1, asked.fits + 1, AT_ONCE)
    parts = [range(first, min(first + AT_ONCE, asked.fits + 1)) for first in starts]
    with ProcessPoolExecutor(asked.processes) as pool:
        lines = [line for found in pool.map(refused, parts) for line in found]
    text = "\n".join([f"{len(lines)} of {asked.fits:,} fits are refused by their gate", *lines])
    print(text)
    if asked.write:
        OUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
