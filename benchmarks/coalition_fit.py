"""Seconds of sampling and peak memory of one fit of the coalition data (model G1).

Usage: python benchmarks/coalition_fit.py coalgov_bml.parquet
The table is that of R's bml. 4 chains x (500 warm-up + 1000 draws) on all cores; every row is a
fit in a process of its own, so that its peak memory is its own. Compare rows, not machines.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import warnings

WEIGHTS = {"fixed": "1/n", "estimated": "1/(1 + (n - 1)*exp(-(b1*pseat_z)))"}


def one(path: str, backend: str, weights: str) -> None:
    """Fit once and print a row."""
    import numpy as np
    import pandas as pd

    import rmm

    table = pd.read_parquet(path)
    log = np.log(table.groupby("gid")["dur_wkb"].first())
    seats = table["pseat"]
    table = table.assign(
        y=table["gid"].map((log - log.mean()) / log.std()),
        pseat_z=(seats - seats.mean()) / seats.std(),
    )
    formula = (
        f"y ~ 1 + majority + mm(id(pid, gid), vars(finance), fn(w ~ {WEIGHTS[weights]}), RE=TRUE)"
        " + hm(id=cid)"
    )
    priors = ["rmm", "b_w ~ normal(0, 1)"] if weights == "estimated" else "rmm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit(
            formula,
            table,
            backend=backend,
            priors=priors,
            seed=1,
            warmup=500,
            draws=1000,
            progress=False,
        )
    from rmm.backends.jags import worker_pool as jags_pool

    jags_pool.shutdown()  # memory of children is known once they have ended
    engines = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ess = fit.summary()[["ess_bulk", "ess_tail"]].min().min()
    print(
        f"{backend:8}{weights:12}{fit.run.seconds:10.1f}{ess:12.0f}{ess / fit.run.seconds:10.0f}"
        f"{own / 1024:14.0f}{engines / 1024:16.0f}",
        flush=True,
    )


def main() -> None:
    """Print the table, or one row of it."""
    if len(sys.argv) == 4:
        one(*sys.argv[1:])
        return
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("backend weights      seconds  min. ESS  ESS per s  memory, MiB  of an engine, MiB")
    for backend in ("jags", "stan"):
        for weights in WEIGHTS:
            command = [sys.executable, __file__, sys.argv[1], backend, weights]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
