"""Measure speed beside other programs and keep the result: `make bench`.

usage: python -m benchmarks.speed [--name speed] [--rounds 3] [--peers] [--full]

All on one core, as CPU seconds (user and system), in one run: ratios between programs then depend
little on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.speed import lme4, machine, workflow
from benchmarks.speed.problems import PROBLEMS, Problem, write_data
from benchmarks.speed.records import RESULTS, Records

#: Data sets per round: the gaussian problem, and the others.
DATA_SETS = {"gaussian": 40}
OTHER_DATA_SETS = 10
LME4_FAMILIES = ("gaussian", "binomial")
#: Fits of the two studies that the cost of the workflow is computed from.
STUDIES = (100, 600)


def measure_fits(records: Records, rounds: int, with_lme4: bool) -> None:
    """Fit the same data sets by all programs, round by round."""
    for number in range(1, rounds + 1):
        for problem in PROBLEMS.values():
            count = DATA_SETS.get(problem.name, OTHER_DATA_SETS)
            first, last = (number - 1) * count + 1, number * count
            measure_others(records, problem, number, (first, last), with_lme4)
            for weights in problem.weights:
                found = json.loads(
                    machine.run_module("study_fits", problem.name, weights, first, last)
                )
                found["note"] += f"; {1000 * found.pop('simulating'):.1f} ms simulating"
                records.add("fit", problem.name, "rmm", weights, round=number, **found)


def measure_others(
    records: Records, problem: Problem, number: int, numbers: tuple[int, int], with_lme4: bool
) -> None:
    """Fit the data sets with known weights by lme4 and SciPy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if problem.family in LME4_FAMILIES:
            write_data(problem.study(folder, numbers[1]), *numbers, folder)
        if problem.family in LME4_FAMILIES and with_lme4:
            found = lme4.measure(problem.family, folder)
            records.add("fit", problem.name, "lme4", "fixed", round=number, **found)
        if problem.family == "gaussian":
            found = json.loads(machine.run_module("reml", folder))
            records.add("fit", problem.name, "SciPy REML", "fixed", round=number, **found)


def measure_workflow(records: Records) -> None:
    """Run studies of the gaussian problem."""
    problem = PROBLEMS["gaussian"]
    for weights in problem.weights:
        found = workflow.measure(problem, weights, *STUDIES)
        records.add("workflow", problem.name, "rmm", weights, round=0, **found)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--name", default="speed", help="name of the files in benchmarks/results/")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    machine.use_one_core()
    with_lme4 = lme4.available()
    if not with_lme4:
        print(lme4.MISSING, "Its rows and all ratios are left out.", flush=True)
    versions = machine.versions(lme4.versions() if with_lme4 else ())
    records = Records(RESULTS / f"{given.name}.csv", machine.commit(), versions)
    measure_fits(records, given.rounds, with_lme4)
    measure_workflow(records)


if __name__ == "__main__":
    main()
