"""CPU time of a model averaged over five weight functions, fits included, in units of one fit.

    python benchmarks/average_cost.py [--rounds 5] [--write]

Simulated groups of three: 200 of 60 members, and 628 of 300, as many as real coalitions. One fit is
that with the estimated weights of the formula; nothing is predicted in either. `--write` keeps the
table in results/average_cost.txt.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rmm
from rmm.formula.replaced_weights import with_weights

OUT = Path(__file__).parent / "results" / "average_cost.txt"
WEIGHTS = "1/(1 + (n-1)*exp(-(b1*power)))"
FORMULA = f"y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ {WEIGHTS}), RE = TRUE)"
CANDIDATES = ["1/n", "1, c = FALSE", "power == max(power)", WEIGHTS, "exp(b1*power)"]
TRUE = {
    "b_l2[Intercept]": 0,
    "b_l2[z]": 0.5,
    "b_l1[x]": 0.8,
    "b_w[b1]": 1,
    "sigma_l1": 1,
    "sigma_l2": 1,
}
SIZES = ((200, 60), (628, 300))


def cpu(call: Callable[[], Any], rounds: int) -> float:
    """The least CPU time of some rounds, in seconds."""
    spent = []
    for _ in range(rounds + 1):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent[1:])  # the first imports


def measured_calls(data: Any) -> tuple[Callable[[], Any], dict[str, Callable[[], Any]]]:
    """One fit, and what is measured in units of it."""

    def fits() -> dict[str, rmm.Fit]:
        return {
            w: rmm.fit(with_weights(FORMULA, w), data, backend="laplace", seed=1)
            for w in CANDIDATES
        }

    return lambda: rmm.fit(FORMULA, data, backend="laplace", seed=1), {
        "five fits": fits,
        "averaged by evidence": lambda: rmm.average(fits(), "evidence"),
        "averaged by stacking": lambda: rmm.average(fits(), "stacking"),
        "compare_weights": lambda: rmm.compare_weights(FORMULA, data, CANDIDATES, seed=1),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the output in results/")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [f"{'in units of one fit':24} " + " ".join(f"{g:>6} groups" for g, _ in SIZES)]
    columns = []
    for groups, members in SIZES:
        data = rmm.simulate(
            FORMULA,
            TRUE,
            membership={"kind": "synthetic", "groups": groups, "members": members, "size": 3},
            covariates={
                "x": {"level": "member"},
                "z": {"level": "group"},
                "power": {"level": "membership"},
            },
            seed=1,
        ).data

        one, calls = measured_calls(data)
        unit = cpu(one, asked.rounds)
        columns.append({name: cpu(call, asked.rounds) / unit for name, call in calls.items()})
        columns[-1]["one fit, seconds"] = unit
    for name in columns[0]:
        digits = 3 if "seconds" in name else 1
        lines.append(f"{name:24} " + " ".join(f"{c[name]:13.{digits}f}" for c in columns))
    print("\n".join(lines))
    if asked.write:
        OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
