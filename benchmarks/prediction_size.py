"""Time of predicting 10 new groups after training on small and on large tables.

    python benchmarks/prediction_size.py [--rows 100 100000] [--rounds 30]

The models are gaussian, fitted by `laplace`, one with known weights and one with estimated weights
that are divided by their sum over the fit's table. Each prediction reads the new table, lays it out
with the recipe of the fit, and goes through all draws. Fits take turns, and the least CPU time of
each counts. What is compared is `Fit.predict(newdata)` complete, nothing subtracted; the sum over
the fit's table is computed once, by the first prediction.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd

import rmm

FORMULA = "y ~ 1 + z + region + mm(id(pid, gid), vars(x), fn({}), RE = TRUE) + hm(id = cid)"
WEIGHTS = {"known weights": "w ~ 1/n", "total of the fit": "w ~ exp(b1*x), c = 2"}


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
    print(f"{'weights':16} {'rows':>8} {'draws':>6} {'CPU ms':>7} {'ratio':>6}")
    for name, weights in WEIGHTS.items():
        fits = {}
        for rows in given.rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fits[rows] = rmm.fit(
                    FORMULA.format(weights),
                    invented(rows // 4),
                    backend="laplace",
                    seed=1,
                    progress=False,
                )
        report(name, fits, new, given.rounds)


def report(name: str, fits: dict[int, rmm.Fit], new: pd.DataFrame, rounds: int) -> None:
    """Print a row of each fit."""
    times: dict[int, list[float]] = {rows: [] for rows in fits}
    for _ in range(rounds):
        for rows, fit in fits.items():
            start = time.process_time()
            fit.predict(new)
            times[rows].append(1000 * (time.process_time() - start))
    first = min(next(iter(times.values())))
    for rows, fit in fits.items():
        draws = fit.draws["posterior"].sizes
        count, least = draws["chain"] * draws["draw"], min(times[rows])
        print(f"{name:16} {rows:8,} {count:6} {least:7.2f} {least / first:6.2f}")


if __name__ == "__main__":
    main()
