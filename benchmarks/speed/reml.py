"""Restricted maximum likelihood of the gaussian model with known weights, in SciPy.

usage: python -m benchmarks.speed.reml FOLDER    (data sets as `problems.write_data` writes them)

Written as a careful user would: the ratio of the standard deviations is found by a search in one
dimension, everything else has a closed form, and the only matrix that is factored has a row for
each member. Point estimates and standard errors of the coefficients.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg, optimize

Array = np.ndarray[Any, Any]


def matrices(table: pd.DataFrame) -> tuple[Array, Array, Array]:
    """Return outcomes, predictors (1, z, mean of x) and the membership matrix of weights 1/n."""
    group, groups = pd.factorize(table["group"])
    member, members = pd.factorize(table["member"])
    weight = 1 / np.bincount(group)[group]
    W = np.zeros((len(groups), len(members)))
    W[group, member] = weight
    first = table.groupby("group", sort=False).first()
    x = np.bincount(group, weight * table["x"])
    X = np.column_stack([np.ones(len(groups)), first["z"], x])
    return first["y"].to_numpy(), X, W


def fit(y: Array, X: Array, W: Array) -> dict[str, Any]:
    """Return coefficients, their standard errors and the two standard deviations."""
    Xy = np.column_stack([X, y])
    crossed, WW, WXy = Xy.T @ Xy, W.T @ W, W.T @ Xy
    df = len(y) - X.shape[1]

    def solve(ratio: float) -> tuple[float, float, Array, Array]:
        """Return minus the log likelihood, the residual sum of squares, b and its covariance."""
        A = ratio**2 * WW
        A[np.diag_indices_from(A)] += 1
        root = linalg.cholesky(A, lower=True)
        half = linalg.solve_triangular(root, WXy, lower=True)
        inner = crossed - ratio**2 * half.T @ half  # of X and y, by the inverse of V
        factor = linalg.cho_factor(inner[:-1, :-1])
        b = linalg.cho_solve(factor, inner[:-1, -1])
        rss = inner[-1, -1] - inner[:-1, -1] @ b
        logs = np.log(np.diag(root)).sum() + np.log(np.diag(factor[0])).sum()
        return logs + df / 2 * np.log(rss), rss, b, linalg.cho_solve(factor, np.eye(len(b)))

    found = optimize.minimize_scalar(lambda ratio: solve(ratio)[0], bounds=(0, 20))
    _, rss, b, covariance = solve(found.x)
    sigma = np.sqrt(rss / df)
    return {
        "b": b,
        "se": sigma * np.sqrt(np.diag(covariance)),
        "sigma_l1": sigma * found.x,
        "sigma_l2": sigma,
    }


def main() -> None:
    """Fit all data sets of the folder; the first ones twice, which loads all libraries."""
    tables = [pd.read_csv(file) for file in sorted(Path(sys.argv[1]).glob("data_*.csv"))]
    prepared = [matrices(table) for table in tables]
    for data in prepared[:5]:
        fit(*data)
    started = time.process_time()
    found = [fit(*data) for data in prepared]
    seconds = time.process_time() - started
    print(
        json.dumps(
            {
                "fits": len(found),
                "cpu_seconds": seconds / len(found),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "note": "mean sigma_l1 " + f"{np.mean([f['sigma_l1'] for f in found]):.4f}",
            }
        )
    )


if __name__ == "__main__":
    main()
