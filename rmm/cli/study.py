"""`rmm simulate` and `rmm study check|preregister|plan|status|judge|report|replay`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import command, plain
from rmm.errors import StudyError

if TYPE_CHECKING:
    from rmm.study import Study

_SIMULATE = """\
examples:
  rmm simulate config/studies/quickstart.yaml --out data.csv
  rmm simulate config/studies/quickstart.yaml --scenario s0123456789 --replication 7 \\
      --out data.parquet
Prints the true values; the data are those that the study fits.
"""
_STUDY = """\
examples:
  rmm study check config/studies/quickstart.yaml
  snakemake --cores 4 --config study=config/studies/quickstart.yaml
  rmm study status config/studies/quickstart.yaml
"""
_CHECK = """\
examples:
  rmm study check config/studies/quickstart.yaml
Exit code 2 and a message with the key path if something is wrong. Runs nothing.
"""
_PLAN = """\
examples:
  rmm study plan config/studies/quickstart.yaml --mcse 0.005 --rate 0.05
  rmm study plan config/studies/quickstart.yaml --mcse 0.01 --cores 8
Times and standard errors come from the fits that results/NAME already holds (a pilot).
"""
_STATUS = """\
examples:
  rmm study status config/studies/quickstart.yaml
  rmm study status config/studies/quickstart.yaml --json
"""
_PREREGISTER = """\
examples:
  rmm study preregister config/studies/quickstart.yaml --out protocol.md
An ADEMP protocol in Markdown, from the study file alone; prints it without --out. Runs nothing.
"""
_REPORT = """\
examples:
  rmm study report config/studies/quickstart.yaml
  rmm study report config/studies/quickstart.yaml --out elsewhere/
Writes the report anew from the collected results; Snakemake does so by itself after a run.
"""
_JUDGE = """\
examples:
  rmm study judge config/studies/calibration_gaussian.yaml
  rmm study judge config/studies/calibration_*.yaml --criterion recovery --out recovery.txt
Exit code 0 if the collected results meet every criterion that the studies name, else 1.
"""
_REPLAY = """\
examples:
  rmm study replay config/studies/quickstart.yaml --scenario s0123456789 --replication 7 \\
      --method mmmm --out replayed/
Keeps data.csv, truth.json and, of a Bayesian fit, fit.nc with all draws.
"""


def add_simulate(commands: Any) -> None:
    """Declare `rmm simulate`."""
    simulate = command(commands, "simulate", "write one simulated data set of a study",
                       _SIMULATE, run_simulate)  # fmt: skip
    simulate.add_argument("file", metavar="FILE", help="study file")
    _add_address(simulate)
    simulate.add_argument("--out", required=True, metavar="PATH", help=".csv or .parquet")


def add_study(commands: Any) -> None:
    """Declare `rmm study` and what stands below it."""
    study = commands.add_parser("study", help="check, plan, follow and report a simulation study",
                                description="Simulation studies, each described by one file.",
                                epilog=_STUDY,
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    below = study.add_subparsers(required=True, metavar="COMMAND")
    check = _study_command(below, "check", "validate a study file and count its fits", _CHECK,
                           run_check)  # fmt: skip
    preregister = command(below, "preregister", "write the protocol before anything runs",
                          _PREREGISTER, run_preregister)  # fmt: skip
    preregister.add_argument("file", metavar="FILE", help="study file")
    preregister.add_argument("--out", metavar="PATH", help="default: print it")
    plan = _study_command(below, "plan", "replications for a Monte Carlo error, and their time",
                          _PLAN, run_plan)  # fmt: skip
    plan.add_argument("--mcse", type=float, default=0.01, help="target; default: %(default)s")
    plan.add_argument("--rate", type=float, default=0.05,
                      help="expected rate of rejection or non-coverage; default: %(default)s"
                      )  # fmt: skip
    plan.add_argument("--cores", type=int, default=1, help="default: %(default)s")
    status = _study_command(below, "status", "fits done, failed, missing, and the time left",
                            _STATUS, run_status)  # fmt: skip
    judge = command(below, "judge", "whether results meet the study's criteria", _JUDGE, run_judge)
    judge.add_argument("files", metavar="FILE", nargs="+", help="study files")
    judge.add_argument("--results", default="results", metavar="FOLDER",
                       help="where studies have their folders; default: %(default)s")  # fmt: skip
    judge.add_argument("--criterion", metavar="NAME", help="only this one; default: all")
    judge.add_argument("--out", metavar="PATH", help="write what is printed to a file, too")
    report = _study_command(below, "report", "write the report anew", _REPORT, run_report)
    report.add_argument("--out", metavar="FOLDER", help="default: report/ in the results folder")
    replay = _study_command(below, "replay", "one replication by its address, data and draws kept",
                            _REPLAY, run_replay)  # fmt: skip
    _add_address(replay)
    replay.add_argument("--method", required=True, help="name of a method")
    replay.add_argument("--out", required=True, metavar="FOLDER", help="where to keep it")
    for each in (check, plan, status):
        each.add_argument("--json", action="store_true", help="print JSON")


def _study_command(commands: Any, name: str, what: str, examples: str, run: Any) -> Any:
    parser = command(commands, name, what, examples, run)
    parser.add_argument("file", metavar="FILE", help="study file")
    parser.add_argument("--results", default="results", metavar="FOLDER",
                        help="where studies have their folders; default: %(default)s")  # fmt: skip
    return parser


def _add_address(parser: Any) -> None:
    parser.add_argument("--scenario", metavar="ID", help="default: the first")
    parser.add_argument("--replication", type=int, default=1, help="default: %(default)s")


def _study(options: argparse.Namespace) -> Study:
    from rmm.study import load_study

    return load_study(Path(options.file))


def _folder(study: Study, options: argparse.Namespace) -> Path:
    return Path(options.results) / study.name


def run_check(options: argparse.Namespace) -> int:
    """`rmm study check`: what the study will do."""
    from rmm.study import plan

    study = _study(options)
    jobs = plan(study, _folder(study, options))
    fits: Counter[str] = Counter()
    for job in jobs:
        fits[job.method] += job.last - job.first + 1
    facts = {
        "study": study.name,
        "scenarios": {s.id: dict(s.factors) for s in study.scenarios},
        "fits": dict(fits),
        "jobs": len(jobs),
    }
    if options.json:
        print(json.dumps(plain(facts), indent=2))
        return 0
    print(f"{options.file} is in order.")
    print(f"{len(study.scenarios)} scenarios:")
    for scenario in study.scenarios:
        levels = ", ".join(f"{k} = {v}" for k, v in scenario.factors.items())
        print(f"    {scenario.id}  {levels}")
    print(f"{sum(fits.values()):,} fits in {len(jobs):,} jobs:")
    for method, number in fits.items():
        print(f"    {method}: {number:,}")
    return 0


def run_preregister(options: argparse.Namespace) -> int:
    """`rmm study preregister`: the protocol of a study."""
    from rmm.study.protocol import protocol
    from rmm.study.results import write_text

    text = protocol(_study(options))
    if options.out:
        write_text(text, Path(options.out))
        print(options.out)
    else:
        print(text, end="")
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """`rmm study plan`: replications for a target error, and their time from a pilot."""
    from rmm.study.planning import read_pilot, replications_for_bias, replications_for_rate

    if not 0 < options.mcse < 1 or not 0 < options.rate < 1 or options.cores < 1:
        raise StudyError("--mcse and --rate lie between 0 and 1, --cores is at least 1.")
    study = _study(options)
    rate = replications_for_rate(options.mcse, options.rate)
    rows = []
    for pilot in read_pilot(_folder(study, options)):
        hours = rate * len(study.scenarios) * pilot.seconds / options.cores / 3600
        bias = {p: replications_for_bias(options.mcse, s) for p, s in pilot.empirical_se.items()}
        rows.append({"method": pilot.method, "pilot_fits": pilot.fits,
                     "seconds_per_fit": pilot.seconds, "hours": hours,
                     "replications_for_bias": bias})  # fmt: skip
    facts = {"mcse": options.mcse, "rate": options.rate, "replications_for_rate": rate,
             "worst_case": replications_for_rate(options.mcse),
             "scenarios": len(study.scenarios), "methods": rows}  # fmt: skip
    if options.json:
        print(json.dumps(plain(facts), indent=2))
    else:
        _print_plan(facts, study, options)
    return 0


def _print_plan(facts: dict[str, Any], study: Study, options: argparse.Namespace) -> None:
    from rmm.study.progress import words

    print(f"For a Monte Carlo error of {options.mcse:g}:")
    print(f"    a rate near {options.rate:g} needs {facts['replications_for_rate']:,} replications")
    print(f"    any rate needs at most {facts['worst_case']:,}")
    print(f"    (the study file says {study.replications:,})")
    if not facts["methods"]:
        print(f"No fits in {_folder(study, options)} yet: run a few replications as a pilot to "
              "learn times and standard errors.")  # fmt: skip
    for row in facts["methods"]:
        time = words(3600 * row["hours"])
        print(f"{row['method']}: {row['seconds_per_fit']:.3g} s per fit ({row['pilot_fits']:,} "
              f"fits); {facts['replications_for_rate']:,} replications of all scenarios on "
              f"{options.cores} core(s): {time}")  # fmt: skip
        for parameter, number in row["replications_for_bias"].items():
            print(f"    bias of {parameter}: {number:,} replications")


def run_status(options: argparse.Namespace) -> int:
    """`rmm study status`: counts from the finished batches."""
    from rmm.study import status

    study = _study(options)
    folder = _folder(study, options)
    found = status(study, folder)
    facts = {
        "study": study.name,
        "jobs": found["jobs"],
        "jobs_done": found["done"],
        "fits_done": sum(found["fits"].values()),
        "fits_missing": sum(job.last - job.first + 1 for job in found["missing"]),
        "fits_by_status": found["fits"],
        "missing_by_method": _by_method(found["missing"]),
        "seconds": found["seconds"],
        "seconds_left": found["seconds_left"],
    }
    if options.json:
        print(json.dumps(plain(facts), indent=2))
    else:
        _print_status(facts, folder)
    return 0


def _by_method(jobs: list[Any]) -> dict[str, int]:
    missing: Counter[str] = Counter()
    for job in jobs:
        missing[job.method] += job.last - job.first + 1
    return dict(missing)


def _print_status(facts: dict[str, Any], folder: Path) -> None:
    from rmm.study import progress

    done, missing = facts["fits_done"], facts["fits_missing"]
    by_status = ", ".join(
        f"{n:,} {s.replace('_', ' ')}" for s, n in facts["fits_by_status"].items()
    )
    print(f"{facts['study']} in {folder}")
    print(f"    done:    {done:,} of {done + missing:,} fits{f' ({by_status})' * bool(done)}")
    print(f"    missing: {missing:,} fits")
    for method, number in facts["missing_by_method"].items():
        left = facts["seconds_left"][method]
        words = "not timed yet" if left is None else f"{progress.words(left)} on one core"
        print(f"        {method}: {number:,} ({words})")


def run_judge(options: argparse.Namespace) -> int:
    """`rmm study judge`: tables of all criteria; 0 if all are met."""
    from rmm.study import load_study
    from rmm.study.judging import judge
    from rmm.study.results import write_text

    verdicts = []
    for file in options.files:
        study = load_study(Path(file))
        verdicts += judge(study, Path(options.results) / study.name, options.criterion)
    text = "\n\n".join(verdict.text() for verdict in verdicts)
    print(text)
    if options.out:
        write_text(text + "\n", Path(options.out))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def run_report(options: argparse.Namespace) -> int:
    """`rmm study report`."""
    from rmm.study.report import write_report

    study = _study(options)
    page = write_report(_folder(study, options), Path(options.out) if options.out else None)
    print(page)
    return 0


def run_simulate(options: argparse.Namespace) -> int:
    """`rmm simulate`: one data set, its true values on stdout."""
    from rmm.study.batches import draw_replication

    out = Path(options.out)
    if out.suffix not in (".csv", ".parquet"):
        raise StudyError(f"--out ends in .csv or .parquet, not {out.suffix or 'nothing'!r}.")
    study = _study(options)
    scenario = study.scenario(options.scenario or study.scenarios[0].id)
    drawn = draw_replication(study.seed, scenario, options.replication)
    data = drawn.frame()
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        data.to_csv(out, index=False)
    else:
        data.to_parquet(out, index=False)
    print(json.dumps(plain(dict(drawn.truth.parameters)), indent=2))
    print(f"{len(data):,} memberships in {out}", file=sys.stderr)
    return 0


def run_replay(options: argparse.Namespace) -> int:
    """`rmm study replay`: data, truth and fit of one replication, kept in a folder."""
    from rmm.study import replay

    study = _study(options)
    scenario = options.scenario or study.scenarios[0].id
    simulated, outcome = replay(study, scenario, options.replication, options.method)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    simulated.data.to_csv(out / "data.csv", index=False)
    (out / "truth.json").write_text(json.dumps(plain(simulated.truth), indent=2) + "\n")
    if hasattr(outcome.fit, "draws"):
        outcome.fit.save(out / "fit.nc")
    print(f"{outcome.status}, {outcome.seconds:.2f} s{': ' * bool(outcome.message)}"
          f"{outcome.message}")  # fmt: skip
    for row in outcome.estimates:
        print(f"    {row['parameter']}: mean {row['mean']:.4g}, sd {row['sd']:.4g}, "
              f"95% interval {row['lower']:.4g} to {row['upper']:.4g}, p {row['p_value']:.3g}"
              )  # fmt: skip
    print(f"Kept in {out}", file=sys.stderr)
    return 0
