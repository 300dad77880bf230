"""Whether default settings converge on the real coalitions: default priors, estimated weights.

Usage: python -m benchmarks.defaults [--seeds 1,2] [--backends auto,stan,jags] [FAMILY ...]

One line per family, backend and seed: `Fit.converged`, what that rests on, and seconds. Each family
should converge on backend auto. Choices are look-alikes: see `coalition_table`.
"""

from __future__ import annotations

import argparse
import time
import warnings

import pandas as pd

import rmm
from benchmarks import coalition_table

FAMILIES = ("gaussian", "binomial", "condlogit", "weibull", "cox")
BACKENDS = "auto"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=FAMILIES, metavar="FAMILY")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--backends", default=BACKENDS)
    given = parser.parse_args()
    print(f"{'family':10}{'table':10}{'backend':8}{'ran':8}{'seed':>4}  converged  seconds")
    for family in given.families:
        data, table = coalition_table.read(family=family)
        for backend in given.backends.split(","):
            for seed in map(int, given.seeds.split(",")):
                print(
                    f"{family:10}{data:10}{backend:8}{line(family, backend, seed, table)}",
                    flush=True,
                )


def line(family: str, backend: str, seed: int, table: pd.DataFrame) -> str:
    """Fit with default settings; say what came out."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit(
            coalition_table.formula(family, "estimated"),
            table,
            family,
            backend=backend,
            seed=seed,
            progress=False,
        )
    seconds = time.perf_counter() - began
    said = fit.run.engine.get("chosen", "")
    return (
        f"{fit.backend:8}{seed:4}  {fit.converged!s:9}  {seconds:7.1f}  "
        f"{str(fit).splitlines()[1].partition(', ')[2][-60:]}  {said}"
    )


if __name__ == "__main__":
    main()
