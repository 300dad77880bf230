"""Whether default settings converge on the real coalitions: default priors, estimated weights.

Usage: python benchmarks/defaults.py [--seeds 1,2] [--backends stan,jags] [FAMILY ...]

One line per family, backend and seed: `Fit.converged` (R-hat <= 1.01, bulk and tail ESS >= 100 per
chain, no divergences) and what is worst. Each family should converge on one backend at least.
"""

from __future__ import annotations

import argparse
import warnings

import coalition_table
import pandas as pd

import rmm

FAMILIES = ("gaussian", "binomial", "weibull", "cox")
BACKENDS = "stan,jags"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=FAMILIES, metavar="FAMILY")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--backends", default=BACKENDS)
    given = parser.parse_args()
    data, table = coalition_table.read()
    print(f"coalitions: {data}\n{'family':10}{'backend':9}{'seed':>4}  converged  R-hat (of), "
          "tail ESS, bulk ESS, divergences")  # fmt: skip
    for family in given.families:
        for backend in given.backends.split(","):
            for seed in map(int, given.seeds.split(",")):
                line(family, backend, seed, table)


def line(family: str, backend: str, seed: int, table: pd.DataFrame) -> None:
    """Fit with default settings and print what came out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit(coalition_table.formula(family, "estimated"), table, family,
                      backend=backend, seed=seed, progress=False)  # fmt: skip
    found = fit.diagnostics()
    print(
        f"{family:10}{backend:9}{seed:4}  {fit.converged!s:9}  "
        f"{found['max_rhat']:.3f} ({found['worst_rhat']}), {found['min_ess_tail']:.0f}, "
        f"{found['min_ess_bulk']:.0f}, {found['divergences']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
