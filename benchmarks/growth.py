"""How the cost of one fit of the fast engine grows with the number of groups.

Usage: python benchmarks/growth.py [--groups 628,5000,20000,50000] [--anybody]

Gaussian outcomes, groups of three, four members for every ten groups. Members meet in nations of 50
groups and 20 members; with `--anybody` all members may meet, which no sparse factor survives: try
it with 5,000 groups at most. Each fit is a process of its own; CPU seconds and peak memory, all
of `rmm.fit` included. The exponent is that of a power law through the sizes, by least squares.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from statistics import linear_regression

import numpy as np
import pandas as pd

import rmm

NATION, MEMBERS, SIZE = 50, 20, 3
WEIGHTS = {"fixed": "1/n", "estimated": "1/(1 + (n-1)*exp(-(b1*s)))"}
AIM = 1.2


def table(groups: int, *, anybody: bool) -> pd.DataFrame:
    """Memberships with an outcome whose weights depend on s."""
    rng = np.random.default_rng(1)
    members = max(MEMBERS, groups * MEMBERS // NATION)
    first = np.zeros(groups, dtype=int) if anybody else np.arange(groups) // NATION * MEMBERS
    among = members if anybody else MEMBERS
    member = np.concatenate([f + rng.choice(among, SIZE, replace=False) for f in first])
    group = np.repeat(np.arange(groups), SIZE)
    effect, x = rng.normal(size=(2, members + MEMBERS))
    s, z = rng.normal(size=groups * SIZE), rng.normal(size=groups)
    weight = 1 / (1 + (SIZE - 1) * np.exp(-s))
    weight /= np.repeat(weight.reshape(groups, SIZE).sum(axis=1), SIZE)
    y = 0.5 * z + np.bincount(group, weight * effect[member]) + rng.normal(size=groups)
    return pd.DataFrame(
        {"gid": group, "pid": member, "x": x[member], "s": s, "z": z[group], "y": y[group]}
    )


def measure(groups: int, weights: str, *, anybody: bool) -> dict[str, float]:
    """One fit, after a small one that loads the libraries."""
    formula = f"y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ {WEIGHTS[weights]}), RE = TRUE)"
    given = {"backend": "laplace", "seed": 1, "monitor": "structural", "progress": False}
    rmm.fit(formula, table(40, anybody=anybody), **given)
    data = table(groups, anybody=anybody)
    began = time.process_time()
    fit = rmm.fit(formula, data, **given)
    return {
        "seconds": time.process_time() - began,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "ess": float(fit.run.engine["ess"]),
        "pareto_k": float(fit.run.engine["pareto_k"]),
        "integrals": float(fit.run.engine["integrals"]),
    }


def main() -> None:
    """Print a line per fit, and the exponents."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--groups", default="628,5000,20000,50000")
    options.add_argument("--anybody", action="store_true")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(measure(int(given.one[0]), given.one[1], anybody=given.anybody)))
        return
    sizes = [int(text) for text in given.groups.split(",")]
    for weights in WEIGHTS:
        seconds = []
        for groups in sizes:
            command = [sys.executable, __file__, "--one", str(groups), weights]
            command += ["--anybody"] * given.anybody
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            seconds.append(row["seconds"])
            print(
                f"{weights:10}{groups:7,} groups {row['seconds']:8.2f} s of CPU "
                f"{row['memory']:6.2f} GB, {row['integrals']:,.0f} integrals, ESS "
                f"{row['ess']:.0f}, Pareto k {row['pareto_k']:.2f}",
                flush=True,
            )
        if len(sizes) > 1:
            exponent, _ = linear_regression(np.log(sizes), np.log(seconds))
            print(f"{weights:10}cost grows as groups^{exponent:.2f} (aim: at most {AIM})")


if __name__ == "__main__":
    main()
