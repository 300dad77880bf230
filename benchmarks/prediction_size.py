"""Time of predicting 10 new groups after training on small and on large tables.

    python benchmarks/prediction_size.py [--rows 100 100000] [--rounds 30]

The model is gaussian, fitted by `laplace`; each prediction reads the new table, lays it out with
the recipe of the fit, and goes through all draws. Fits take turns, and the least CPU time of each
counts. What is compared is `Fit.predict(newdata)` complete, nothing subtracted.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd

import rmm

FORMULA = "y ~ 1 + z + region + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE) + hm(id = cid)"


def invented(groups: int, seed: int = 1) -> pd.DataFrame:
    """Groups of 4 members out of 40, in 10 countries."""
    rng = np.random.default_rng(seed)
    pid = np.concatenate([rng.choice(40, 4, replace=False) for _ in range(groups)])
    gid = np.repeat(np.arange(groups), 4)
    by_group = pd.DataFrame(
        {
            "cid": np.arange(groups) % 10,
            "z": rng.normal(size=groups),
            "region": np.array(["east", "north", "west"])[np.arange(groups) % 3],
        }
    )
    table = by_group.iloc[gid].reset_index(drop=True)
    table = table.assign(gid=[f"g{g}" for g in gid], pid=pid, x=rng.normal(size=4 * groups))
    mean = table.groupby("gid", sort=False)["x"].transform("mean")
    noise = rng.normal(0, 0.5, groups)[gid]
    return table.assign(y=1 + 0.5 * table["z"] + 0.8 * mean + noise)


def main() -> None:
    """Print a table: rows of the fit, its draws, and milliseconds of a prediction."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 100_000])
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    new = invented(10, seed=2).assign(gid=lambda t: "new" + t["gid"]).drop(columns="y")
    fits = {}
    for rows in given.rows:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits[rows] = rmm.fit(
                FORMULA, invented(rows // 4), backend="laplace", seed=1, progress=False
            )
    times: dict[int, list[float]] = {rows: [] for rows in fits}
    for _ in range(given.rounds):
        for rows, fit in fits.items():
            start = time.process_time()
            fit.predict(new)
            times[rows].append(1000 * (time.process_time() - start))
    first = min(times[given.rows[0]])
    print(f"{'rows':>8} {'draws':>6} {'CPU ms':>7} {'ratio':>6}")
    for rows, fit in fits.items():
        draws = fit.draws["posterior"].sizes
        least = min(times[rows])
        print(f"{rows:8,} {draws['chain'] * draws['draw']:6} {least:7.2f} {least / first:6.2f}")


if __name__ == "__main__":
    main()
