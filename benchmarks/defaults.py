"""Whether default settings converge on the real coalitions: default priors, estimated weights.

Usage: python benchmarks/defaults.py [FAMILY ...]

One line per family and backend: `Fit.converged` (R-hat <= 1.01, bulk and tail ESS >= 100 per
chain, no divergences) and what is worst. Each family should converge on one backend at least.
"""

from __future__ import annotations

import sys
import warnings

import coalition_table

import rmm

FAMILIES = ("gaussian", "binomial", "weibull", "cox")
SEED = 1


def main() -> None:
    """Print the table."""
    data, table = coalition_table.read()
    print(
        f"coalitions: {data}\nfamily    backend  converged  R-hat (of)  tail ESS  ESS  divergences"
    )
    for family in sys.argv[1:] or FAMILIES:
        for backend in ("stan", "jags"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = rmm.fit(coalition_table.formula(family, "estimated"), table, family,
                              backend=backend, seed=SEED, progress=False)  # fmt: skip
            found = fit.diagnostics()
            print(
                f"{family:10}{backend:9}{fit.converged!s:11}"
                f"{found['max_rhat']:.3f} ({found['worst_rhat']})  {found['min_ess_tail']:.0f}  "
                f"{found['min_ess_bulk']:.0f}  {found['divergences']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
