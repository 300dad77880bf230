"""Measure speed beside other programs and keep the result in benchmarks/results/: `make bench`.

CPU seconds (user and system) on one core, all programs in one run: ratios between them depend
little on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.speed import figure, growth, lme4, machine, records, tables, workflow
from benchmarks.speed.problems import PROBLEMS, Problem, write_data
from benchmarks.speed.records import RESULTS, Records

#: Data sets per round: the gaussian problem, and the others.
DATA_SETS = {"gaussian": 40}
OTHER_DATA_SETS = 10
#: Where the rows of a checkout of the package are kept.
Run = tuple[Records, Path]
LME4_FAMILIES = ("gaussian", "binomial")
#: Parts that are measured beside lme4 -> how their rows are called.
PARTS = {"fits": "fit", "workflow": "workflow"}
#: Fits of the two studies that the cost of the workflow is computed from.
STUDIES = (100, 600)


def measure_fits(runs: list[Run], rounds: int, with_lme4: bool) -> None:
    """Fit the same data sets by all programs, round by round; lme4 before and after ours."""
    for number in range(1, rounds + 1):
        for problem in PROBLEMS.values():
            count = DATA_SETS.get(problem.name, OTHER_DATA_SETS)
            numbers = ((number - 1) * count + 1, number * count)
            measure_others(runs, "fit", problem, number, numbers, with_lme4)
            for weights in problem.weights:
                for kept, checkout in runs:
                    words = ("study_fits", problem.name, weights, *numbers)
                    found = json.loads(machine.run_module(*words, checkout=checkout))
                    found["note"] += f"; {1000 * found.pop('simulating'):.1f} ms simulating"
                    kept.add("fit", problem.name, "rmm", weights, round=number, **found)
            measure_others(runs, "fit", problem, number, numbers, with_lme4)


def measure_others(
    runs: list[Run],
    part: str,
    problem: Problem,
    number: int,
    numbers: tuple[int, int],
    with_lme4: bool,
) -> None:
    """Fit the data sets with known weights by lme4 and SciPy; all runs keep the rows."""
    if problem.family not in LME4_FAMILIES:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(problem.study(folder, numbers[1]), *numbers, folder)
        programs = {}
        if with_lme4:
            programs["lme4"] = lme4.measure(problem.family, folder)
        if problem.family == "gaussian" and part == "fit":
            programs["SciPy REML"] = json.loads(machine.run_module("reml", folder))
    for program, found in programs.items():
        for kept, _ in runs:
            kept.add(part, problem.name, program, "fixed", round=number, **found)


def measure_workflow(runs: list[Run], few: int, many: int, with_lme4: bool) -> None:
    """Run studies of the gaussian problem; lme4 before and after each of them."""
    problem = PROBLEMS["gaussian"]
    numbers = (1, DATA_SETS[problem.name])
    for weights in problem.weights:
        measure_others(runs, "workflow", problem, 1, numbers, with_lme4)
        for kept, checkout in runs:
            found = workflow.measure(problem, weights, few, many, checkout)
            kept.add("workflow", problem.name, "rmm", weights, round=1, **found)
    measure_others(runs, "workflow", problem, 1, numbers, with_lme4)


def measure_peers(name: str) -> None:
    """Measure effective draws per CPU second on the coalitions, estimated weights."""
    from benchmarks.speed import peers, peers_results

    found = peers.collect(
        [peers.REAL_GROUPS], list(peers.FAMILIES), ["estimated"], list(peers.PROGRAMS), name
    )
    peers_results.draw(found, RESULTS / f"{name}.png")


def measure_replications(name: str, *, quick: bool = False) -> None:
    """Run two studies on two cores, start to report; with `quick` the quick start alone."""
    from benchmarks.speed import replications

    studies = (
        [replications.quick_start] if quick else [replications.many_fits, replications.quick_start]
    )
    lines = [*(run() for run in studies), f"commit {machine.commit()}"]
    print(*lines, sep="\n", flush=True)
    (RESULTS / f"{name}.txt").write_text("\n".join(lines) + "\n")


def show(name: str) -> None:
    """Write table and figure of a run, or of all runs that the documentation shows."""
    out, runs = name, {name: records.read(name)}
    if name in records.KEPT:
        out, runs = "speed", records.kept_runs()
    text = tables.page_part(runs, records.growth_of(runs))
    (RESULTS / f"{out}.md").write_text(text, encoding="utf-8")
    figure.write(runs, RESULTS / f"{out}.png")


def main() -> None:
    """Run the parts that the options ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "--name", default="speed_latest", help="name of the result files; default: speed_latest"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of fits; default: 3")
    parser.add_argument(
        "--before",
        type=Path,
        help="another checkout with its .venv, fitted in turn; its rows are kept as speed_before",
    )
    parser.add_argument("--peers", action="store_true", help="add NumPyro and JAGS (20 minutes)")
    parser.add_argument(
        "--full",
        action="store_true",
        help="add 10,000 replications, the quick start, and fits of 50,000 groups",
    )
    parser.add_argument(
        "--only",
        choices=("fits", "workflow", "growth", "peers", "replications", "quickstart", "show"),
        help="run one part; `show` rebuilds table and figure from the kept rows",
    )
    parser.add_argument(
        "--family",
        action="append",
        choices=tuple(growth.OUTCOMES),
        help="families whose growth is measured; default: all (can be repeated)",
    )
    given = parser.parse_args()
    parts = {"fits", "workflow", "growth"}
    parts |= ({"peers"} if given.peers else set()) | ({"replications"} if given.full else set())
    parts = {given.only} if given.only else parts
    if "quickstart" in parts:  # on two cores
        measure_replications(f"{given.name}_quickstart", quick=True)
        return
    if "replications" in parts:
        measure_replications(f"{given.name}_replications")
    machine.use_one_core()
    with_lme4 = lme4.available()
    versions = machine.versions(lme4.versions() if with_lme4 else ())
    measured = [part for option, part in PARTS.items() if option in parts]
    checkouts = {given.name: machine.ROOT}
    if given.before:
        checkouts = {"speed_before": given.before.resolve(), **checkouts}
    runs = [
        (Records(RESULTS / f"{name}.csv", machine.commit(path), versions, measured), path)
        for name, path in checkouts.items()
    ]
    if "fits" in parts:
        if not with_lme4:
            print(lme4.MISSING, "Its rows and all ratios are left out.", flush=True)
        measure_fits(runs, given.rounds, with_lme4)
    if "workflow" in parts:
        measure_workflow(runs, *STUDIES, with_lme4)
    kept = runs[-1][0]
    if "growth" in parts:
        cases = growth.FULL if given.full else growth.SHORT
        cases = tuple(c for c in cases if not given.family or c.family in given.family)
        found = growth.collect(cases, f"{given.name}_growth", kept.common)
        (RESULTS / f"{given.name}_growth.md").write_text(tables.growth_table(found))
    if "peers" in parts:
        measure_peers(f"{given.name}_peers")
    if kept.file.exists():
        show(given.name)


if __name__ == "__main__":
    main()
