"""`rmm simulate` and `rmm study new|check|run|status|score|report|replay` and more."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rmm.cli import explaining, looking, new, planning, run_command, score_command
from rmm.cli.common import command, plain
from rmm.cli.score_options import given_table_options
from rmm.errors import StudyError, counted

if TYPE_CHECKING:
    from rmm.study import Study
    from rmm.study.evaluate.criteria.verdict import Verdict

_SIMULATE = """\
examples:
  rmm simulate config/studies/quickstart.yaml --out data.csv
  rmm simulate config/studies/quickstart.yaml --scenario s0123456789 --replication 7 \\
      --out data.parquet
The data set is the one that the study itself uses for this scenario and replication. The command
prints the true parameter values as JSON. It also prints, on stderr, the numbers of groups, members
and memberships, and the percentage of members that are in more than one group.
"""
_STUDY = """\
examples:
  rmm study new mine.yaml
  rmm study check mine.yaml
  rmm study run mine.yaml --cores 4
  rmm study status mine.yaml
"""
_CHECK = """\
examples:
  rmm study check config/studies/quickstart.yaml
  rmm study check config/studies/quickstart.yaml --against results/quickstart
The command prints the id of every scenario and the number of fits. It runs no fits. But it
simulates data and checks that the model, priors and options of every method work with these data.
If the study file has mistakes, the exit code is 2, and each message names the key. For example,
`methods[0].kind` is the key `kind` of the first method (methods are counted from 0).
If the file names functions or scripts of yours, they run only with --allow-code, on the first data
sets. Without it, the command prints which they are.
With --against, the command prints whether the results in that folder were computed from this study
file, and what differs. The exit code is 0 if there are no differences, and 1 if there are.
"""
_STATUS = """\
examples:
  rmm study status config/studies/quickstart.yaml
  rmm study status config/studies/quickstart.yaml --json
The command counts the fits of the finished jobs in results/NAME of the present folder, or in
FOLDER/NAME with --results FOLDER. Snakemake runs several fits in each job. Until a job is finished,
all its fits are counted as missing.
"""
_PREREGISTER = """\
examples:
  rmm study preregister config/studies/quickstart.yaml --out protocol.md
The protocol is a Markdown text with the headings of ADEMP: aims, data-generating mechanisms,
estimands, methods, performance measures. It is written from the study file alone: the command needs
no results and runs no fits.
"""
_REPORT = """\
examples:
  rmm study report config/studies/quickstart.yaml
  rmm study report config/studies/quickstart.yaml --out elsewhere/
  rmm study report MIsim.csv --method method --replication dataset --estimate b --se se --truth 0.5
  rmm study report MIsim.csv --method method --replication dataset --estimate b --se se \\
      --truth 0.5 --figure zip --out zip.svg
The report of a study is written from the results in the study's folder, without new fits. Snakemake
also writes it at the end of every run. The report of a table of estimates takes the options of
`rmm study score`. Its figures: coverage, power and bias (dots with intervals), zip, density,
scatter, bland_altman, running, and for studies with many scenarios nested_bias and heat_bias.
"""
_JUDGE = """\
examples:
  rmm study judge config/studies/calibration_gaussian.yaml
  rmm study judge config/studies/calibration_*.yaml --criterion recovery --out recovery.txt
The criteria are those under the key `criteria` of each study file. The exit code is 0 if the
results meet all of them, and 1 if not.
"""
_REPLAY = """\
examples:
  rmm study replay config/studies/quickstart.yaml --scenario s0123456789 --replication 7 \\
      --method mmmm --out replayed/
The command writes data.csv, truth.json (true parameter values) and replay.json (scenario,
replication, method, seed, versions, estimates). For a Bayesian fit it also writes fit.nc with all
draws, the program of the engine (for example program.stan) and program_data.json. It then prints
whether the estimates are exactly equal to those in the results folder of the study. If they are
not, the exit code is 1.
"""
_SUBFOLDERS = (
    "folder with the results of all studies; each study has a subfolder with the name of its study "
    "file"
)
_RESULTS = f"{_SUBFOLDERS}; default: %(default)s"
_CHECKED = (
    f"{_SUBFOLDERS}. If there are results of this study, the command checks that the seed and the "
    "methods are unchanged; default: %(default)s"
)


def add_simulate(commands: Any) -> None:
    """Declare `rmm simulate`."""
    simulate = command(
        commands, "simulate", "write one simulated data set of a study", _SIMULATE, run_simulate
    )
    simulate.add_argument("file", metavar="FILE", help="study file (.yaml)")
    _add_address(simulate)
    _add_permission(simulate)
    simulate.add_argument(
        "--out", required=True, metavar="PATH", help="file to write: .csv or .parquet"
    )


def add_study(commands: Any) -> None:
    """Declare `rmm study` and what stands below it."""
    study = commands.add_parser(
        "study",
        help="plan, check, monitor and report a simulation study",
        description="Commands for simulation studies. Each study is described by one study file.",
        epilog=_STUDY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = study.add_subparsers(required=True, metavar="COMMAND")
    for add in _BELOW:
        add(below)


def _add_check(below: Any) -> None:
    parser = _study_command(
        below, "check", "check a study file and count its fits", _CHECK, run_check, _CHECKED
    )
    parser.add_argument(
        "--against",
        metavar="FOLDER",
        help="folder with the results of one study, such as results/quickstart. Check whether "
        "these results were computed from this study file",
    )
    _add_json(parser)
    _add_permission(parser)


def _add_preregister(below: Any) -> None:
    parser = _study_command(
        below,
        "preregister",
        "write a protocol of the study, before any fit is run",
        _PREREGISTER,
        run_preregister,
        _RESULTS,
    )
    parser.add_argument("--out", metavar="PATH", help="file to write; default: print the protocol")


def _add_look(below: Any) -> None:
    parser = command(
        below,
        "look",
        "simulate some data sets and describe them, beside what the study file asks for",
        looking.LOOK,
        run_look,
    )
    parser.add_argument("file", metavar="FILE", help="study file (.yaml)")
    looking.look_options(parser)
    _add_json(parser)


def _add_plan(below: Any) -> None:
    parser = _study_command(
        below,
        "plan",
        "compute how many replications a study needs to reach a target Monte Carlo error, and "
        "how long these replications take",
        planning.PLAN,
        run_plan,
    )
    planning.plan_options(parser)
    _add_json(parser)


def _add_power(below: Any) -> None:
    parser = _study_command(
        below,
        "power",
        "use the results of a study to print power curves, and the sample size that reaches a "
        "target power",
        planning.POWER,
        run_power,
    )
    parser.add_argument(
        "--target",
        type=float,
        metavar="POWER",
        help="power to reach, between 0 and 1; default: `power.target` of the study file",
    )
    _add_json(parser)


def _add_search(below: Any) -> None:
    parser = _study_command(
        below,
        "search",
        "run new simulations to find the sample size that reaches a target power",
        planning.SEARCH,
        run_search,
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=1,
        metavar="N",
        help="fits that run at the same time; default: %(default)s",
    )
    _add_json(parser)
    _add_permission(parser)


def _add_status(below: Any) -> None:
    parser = _study_command(
        below,
        "status",
        "print how many fits are finished, failed and missing, and the time left",
        _STATUS,
        run_status,
    )
    _add_json(parser)


def _add_score(below: Any) -> None:
    parser = command(
        below,
        "score",
        "score any table of estimates: bias, coverage and more, with Monte Carlo errors",
        score_command.SCORE,
        score_command.run_score,
    )
    score_command.score_options(parser)


def _add_explain(below: Any) -> None:
    parser = command(
        below,
        "explain",
        "print which factors explain the differences of measures between scenarios",
        explaining.EXPLAIN,
        run_explain,
    )
    explaining.explain_options(parser)


def _add_judge(below: Any) -> None:
    parser = command(
        below,
        "judge",
        "check whether results meet the criteria of the study file",
        _JUDGE,
        run_judge,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="study files (.yaml)")
    parser.add_argument(
        "--results",
        default="results",
        metavar="FOLDER",
        help=_RESULTS,
    )
    parser.add_argument(
        "--criterion",
        metavar="NAME",
        help="check this criterion only; default: all criteria of the study file",
    )
    parser.add_argument("--out", metavar="PATH", help="also write the printed text to this file")
    _add_json(parser)


def _add_report(below: Any) -> None:
    parser = command(
        below,
        "report",
        "write the HTML report of a study again, or that of any table of estimates",
        _REPORT,
        run_report,
    )
    parser.add_argument("file", metavar="FILE", help="study file (.yaml), or table of estimates")
    parser.add_argument("--results", default="results", metavar="FOLDER", help=_RESULTS)
    parser.add_argument(
        "--out",
        "--output",
        metavar="PATH",
        help="folder for the report, or file of a figure; default: results/NAME/report, and "
        "TABLE-report for a table",
    )
    score_command.report_options(parser)


def _add_replay(below: Any) -> None:
    parser = _study_command(
        below,
        "replay",
        "run one replication again, and save its data and draws",
        _REPLAY,
        run_replay,
    )
    _add_address(parser)
    parser.add_argument(
        "--method",
        required=True,
        metavar="NAME",
        help="name of a method in the study file; for example, mmmm (multiple-membership "
        "multilevel model) in quickstart.yaml",
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="folder to write the files to"
    )
    _add_json(parser)
    _add_permission(parser)


#: What stands below `rmm study`, in the order of its help.
_BELOW = (
    run_command.add_init,
    new.add_new,
    _add_check,
    run_command.add_run,
    _add_preregister,
    _add_look,
    _add_plan,
    _add_power,
    _add_search,
    _add_status,
    _add_score,
    _add_explain,
    _add_judge,
    _add_report,
    _add_replay,
)


def _study_command(
    commands: Any, name: str, what: str, examples: str, run: Any, results: str = _RESULTS
) -> Any:
    parser = command(commands, name, what, examples, run)
    parser.add_argument("file", metavar="FILE", help="study file (.yaml)")
    parser.add_argument(
        "--results",
        default="results",
        metavar="FOLDER",
        help=results,
    )
    return parser


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_permission(parser: Any) -> None:
    parser.add_argument(
        "--allow-code",
        action="store_true",
        help="let functions and scripts that the study file names run, with your rights",
    )


def _add_address(parser: Any) -> None:
    parser.add_argument(
        "--scenario",
        metavar="ID",
        help="id of a scenario, as printed by `rmm study check`; default: the first scenario",
    )
    parser.add_argument(
        "--replication",
        type=int,
        default=1,
        metavar="N",
        help="number of the replication, from 1; default: %(default)s",
    )


def _study(options: argparse.Namespace) -> Study:
    # Late: `rmm --help` needs no libraries.
    from rmm.study import load_study

    file = run_command.find_study_file(options.file)
    return load_study(file, allow_code=getattr(options, "allow_code", False))


def _folder(study: Study, options: argparse.Namespace) -> Path:
    return Path(options.results) / study.name


def run_check(options: argparse.Namespace) -> int:
    """`rmm study check`: what the study will do."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study import plan
    from rmm.study.design.scale_notes import scale_notes
    from rmm.study.manage.check_models import check_models
    from rmm.study.planning.study_size import size_notes

    study = _study(options)
    if options.against:
        return _check_against(study, Path(options.against), options.json)
    check_models(study)
    jobs = plan(study, _folder(study, options), to_maximum=True)
    fits: Counter[str] = Counter()
    for job in jobs:
        fits[job.method] += job.last - job.first + 1
    notes = [*scale_notes(study), *size_notes(len(jobs), sum(fits.values()))]
    facts = {
        "study": study.name,
        "scenarios": {s.id: dict(s.factors) for s in study.scenarios},
        "fits": dict(fits),
        "jobs": len(jobs),
        "notes": notes,
        "code": {what: code.written for what, code in study.code.items()},
        "code_was_run": bool(study.code) and study.code_allowed,
    }
    if options.json:
        print(json.dumps(plain(facts), indent=2))
        return 0
    print(f"{options.file} is valid.")
    print(f"{counted(len(study.scenarios), 'scenario')}:")
    for scenario in study.scenarios:
        levels = ", ".join(f"{k} = {v}" for k, v in scenario.factors.items())
        print(f"    {scenario.id}  {levels}")
    most = "At most " * (study.stopping is not None)
    print(
        f"{most}{counted(sum(fits.values()), 'fit')} in {counted(len(jobs), 'batch', 'batches')}:"
    )
    for method, number in fits.items():
        print(f"    {method}: {number:,}")
    if study.stopping is not None:
        print(
            f"A scenario stops when it has reached its targets. This is checked at "
            f"{counted(study.stopping.minimum, 'replication')}, and then every "
            f"{study.stopping.step:,}."
        )
    for note in notes:
        print(f"Note. {note}")
    _print_code(study)
    return 0


def _print_code(study: Study) -> None:
    """Which code of the user's fits of a study run, and whether it was tried."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.manage.check_own import code_lines
    from rmm.study.own.named_code import ALLOW

    if not study.code:
        return
    print("This study runs code:")
    for line in code_lines(study.code):
        print(f"    {line}")
    if study.code_allowed:
        print("The code was run on the first data sets, and its answers can be used.")
    else:
        print(
            "None of it was run, so neither its answers nor the columns of its data were checked. "
            f"Read the code, then allow it with {ALLOW}."
        )


def _check_against(study: Study, folder: Path, as_json: bool) -> int:
    """Whether results match a study file: 0, or 1 with the differences."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.manage.compare_results import compare

    found = compare(study, folder)
    if as_json:
        print(json.dumps({"belongs": found.belongs, **asdict(found)}, indent=2))
        return 0 if found.belongs else 1
    verb = "match" if found.belongs else "do NOT match"
    print(
        f"The results in {folder} {verb} {study.file}. They have {found.fits:,} of the "
        f"{counted(found.asked, 'fit')} of this study, in "
        f"{counted(found.batches, 'batch', 'batches')}."
    )
    for reason in found.refused:
        print(reason)
    if found.changed:
        print(f"They were computed with another version of {study.file}. These keys differ:")
        print(*(f"    {line}" for line in found.changed), sep="\n")
    return 0 if found.belongs else 1


def run_preregister(options: argparse.Namespace) -> int:
    """`rmm study preregister`: the protocol of a study."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study import status
    from rmm.study.files.parquet import write_text
    from rmm.study.planning.preregistration import protocol, unanswered

    study = _study(options)
    finished = sum(status(study, _folder(study, options))["fits"].values())
    text = protocol(study, finished)
    if finished:
        print(
            f"This study has results already: {counted(finished, 'fit')}. The protocol says so.",
            file=sys.stderr,
        )
    if missing := unanswered(study):
        keys = ", ".join(f"preregistration.{key}" for key in missing)
        print(f"The protocol says `not stated` where the file lacks: {keys}.", file=sys.stderr)
    if options.out:
        write_text(text, Path(options.out))
        print(options.out)
    else:
        print(text, end="")
    return 0


def run_look(options: argparse.Namespace) -> int:
    """`rmm study look`."""
    return looking.run_look(_study(options), options)


def run_plan(options: argparse.Namespace) -> int:
    """`rmm study plan`."""
    study = _study(options)
    return planning.run_plan(study, _folder(study, options), options)


def run_power(options: argparse.Namespace) -> int:
    """`rmm study power`."""
    study = _study(options)
    return planning.run_power(study, _folder(study, options), options)


def run_search(options: argparse.Namespace) -> int:
    """`rmm study search`."""
    study = _study(options)
    return planning.run_search(study, _folder(study, options), options)


def run_status(options: argparse.Namespace) -> int:
    """`rmm study status`: counts from the finished batches."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study import status
    from rmm.study.manage.status import other_batches

    study = _study(options)
    folder = _folder(study, options)
    found = status(study, folder)
    facts = {
        "study": study.name,
        "folder": str(folder.resolve()),
        "of_other_versions": other_batches(study, folder),
        "jobs": found["jobs"],
        "jobs_done": found["done"],
        "fits_done": sum(found["fits"].values()),
        "fits_missing": sum(job.last - job.first + 1 for job in found["missing"]),
        "fits_by_status": found["fits"],
        "missing_by_method": _by_method(found["missing"]),
        "missing": [
            {"scenario": job.scenario, "method": job.method, "first": job.first, "last": job.last}
            for job in found["missing"]
        ],
        "reasons": [asdict(reason) for reason in found["reasons"]],
        "seconds": found["seconds"],
        "seconds_left": found["seconds_left"],
        "fits_per_second": found["rate"],
        "time_left": found["time_left"],
    }
    if study.stopping is not None:
        facts["stopping"] = {
            s.scenario: {
                "replications": s.replications,
                "maximum": s.maximum,
                "decided": s.decided,
                "words": s.words(),
            }
            for s in found["standings"]
        }
    if options.json:
        print(json.dumps(plain(facts), indent=2))
    else:
        _print_status(facts, folder)
        for line in _other_results(study, folder, facts["of_other_versions"], options.file):
            print(f"    {line}")
    return 0


def _by_method(jobs: list[Any]) -> dict[str, int]:
    missing: Counter[str] = Counter()
    for job in jobs:
        missing[job.method] += job.last - job.first + 1
    return dict(missing)


def _print_status(facts: dict[str, Any], folder: Path) -> None:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.run import progress

    done, missing = facts["fits_done"], facts["fits_missing"]
    by_status = ", ".join(
        f"{n:,} {s.replace('_', ' ')}" for s, n in facts["fits_by_status"].items()
    )
    print(f"{facts['study']} in {folder.resolve()}")
    print(
        f"    done:    {done:,} of {counted(done + missing, 'fit')}{f' ({by_status})' * bool(done)}"
    )
    until = " until the next check of the targets" * ("stopping" in facts)
    print(f"    missing: {counted(missing, 'fit')}{until}")
    for method, number in facts["missing_by_method"].items():
        left = facts["seconds_left"][method]
        words = "not timed yet" if left is None else f"{progress.words(left)} on one core"
        print(f"        {method}: {number:,} ({words})")
    if facts["fits_per_second"]:
        left = progress.words(facts["time_left"]) if missing else "nothing"
        print(
            f"    rate:    {60 * facts['fits_per_second']:,.1f} fits per minute in the last run; "
            f"time left at this rate: {left}"
        )
    _print_some(
        "failed or did not converge:",
        [
            f"{r['fits']:,} {r['status'].replace('_', ' ')}, {r['method']}: {r['message']} "
            f"(first: {r['scenario']}, replication {r['replication']})"
            for r in facts["reasons"]
        ],
    )
    _print_some(
        "missing (scenario, method, replications):",
        [f"{m['scenario']}, {m['method']}, {m['first']}-{m['last']}" for m in facts["missing"]],
    )
    for scenario, standing in facts.get("stopping", {}).items():
        print(f"    {scenario}: {standing['words']}")


def _other_results(study: Study, folder: Path, others: int, file: str) -> Iterator[str]:
    """Where results may be, if there are none; and results of other versions."""
    if not folder.is_dir():
        yield (
            "This folder does not exist: the study was not run here. `rmm study run "
            f"{quote(file)}` runs it. If it was run elsewhere, name the folder that contains "
            f"{study.name}/ with --results."
        )
    if others:
        yield (
            f"The folder has {counted(others, 'more batch', 'more batches')} of scenarios and "
            f"methods that {file} does not have, such as those of an earlier version. They are not "
            "counted."
        )
    smoke = folder.with_name(f"{folder.name}_smoke")
    if smoke.is_dir():
        yield f"Results of size smoke are in {smoke.resolve()}."


def _print_some(heading: str, lines: list[str], most: int = 10) -> None:
    """The first lines of a list, and how many more there are."""
    if not lines:
        return
    print(f"    {heading}")
    for line in lines[:most]:
        print(f"        {line}")
    if len(lines) > most:
        print(f"        and {len(lines) - most:,} more (all with --json)")


def run_judge(options: argparse.Namespace) -> int:
    """`rmm study judge`: tables of all criteria; 0 if all are met."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study import load_study
    from rmm.study.evaluate.criteria.judge import judge
    from rmm.study.files.parquet import write_text

    verdicts = []
    for file in options.files:
        study = load_study(run_command.find_study_file(file))
        verdicts += judge(study, Path(options.results) / study.name, options.criterion)
    text = "\n\n".join(verdict.text() for verdict in verdicts)
    if options.json:
        print(json.dumps(plain([_verdict(verdict) for verdict in verdicts]), indent=2))
    else:
        print(text)
    if options.out:
        write_text(text + "\n", Path(options.out))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON: missing numbers are null."""
    table = verdict.table.astype(object)
    return {
        "study": verdict.study,
        "criterion": verdict.criterion,
        "passed": verdict.passed,
        "complete": verdict.complete,
        "notes": verdict.notes,
        "rows": table.where(table.notna(), None).to_dict("records"),
    }


def run_report(options: argparse.Namespace) -> int:
    """`rmm study report`."""
    if run_command.find_study_file(options.file).suffix.lower() not in (".yaml", ".yml"):
        return score_command.run_table_report(options)
    wrong = given_table_options(options)
    if wrong:
        raise StudyError(
            f"{wrong[0]} is an option of tables of estimates, but {options.file} is a study file."
        )
    # Late: `rmm --help` needs no libraries.
    from rmm.study.report import write_report

    study = _study(options)
    out = Path(options.out) if options.out else None
    page = write_report(study, _folder(study, options), out)
    print(page)
    return 0


def run_explain(options: argparse.Namespace) -> int:
    """`rmm study explain`."""

    def read_study() -> Any:
        # Late: `rmm --help` needs no libraries.
        from rmm.study.report import read_results

        study = _study(options)
        return read_results(study, _folder(study, options))

    return explaining.run_explain(options, read_study)


def run_simulate(options: argparse.Namespace) -> int:
    """`rmm simulate`: one data set, its true values on stdout, its memberships on stderr."""
    # Late: `rmm --help` needs no libraries.
    from rmm.simulation.memberships.overlap import overlap_text
    from rmm.study.run.replicate import draw_replication

    out = Path(options.out)
    if out.suffix not in (".csv", ".parquet"):
        raise StudyError(f"--out must be a file that ends in .csv or .parquet, not {str(out)!r}.")
    if options.replication < 1:
        raise StudyError(f"--replication must be at least 1, not {options.replication}.")
    study = _study(options)
    scenario = study.scenario(options.scenario or study.scenarios[0].id)
    drawn = draw_replication(study.seed, scenario, options.replication)
    simulated = drawn.simulated()
    data = simulated.data
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        data.to_csv(out, index=False)
    else:
        data.to_parquet(out, index=False)
    print(json.dumps(plain(simulated.truth), indent=2))
    print(f"{overlap_text(simulated.overlap)}\nwritten to {out}", file=sys.stderr)
    return 0


def _estimate(row: Mapping[str, Any]) -> str:
    """What a row of estimates has: a choice has no interval, a log likelihood or an sd no test."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.design.estimand import Estimand

    parts = [f"mean {row['mean']:.4g}"]
    if row.get("sd") is not None:
        parts.append(f"sd {row['sd']:.4g}")
    if row.get("lower") is not None:
        parts.append(f"95% interval {row['lower']:.4g} to {row['upper']:.4g}")
    null = row.get("null", 0.0)
    if row.get("p_value") is not None and Estimand(row["parameter"], null, ()).tested:
        parts.append(f"p {row['p_value']:.3g}")
    return ", ".join(parts)


def run_replay(options: argparse.Namespace) -> int:
    """`rmm study replay`: data, truth and fit of one replication, kept in a folder."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.manage.replay import NOT_THERE, SAME, keep_replay

    study = _study(options)
    scenario = options.scenario or study.scenarios[0].id
    out = Path(options.out)
    method = study.method(options.method)
    planned = [study.replications_of(s, method) for s in study.scenarios if s.id == scenario]
    if planned and options.replication > planned[0]:
        print(
            f"The study plans only {counted(planned[0], 'replication')} of {method.name} in "
            f"{scenario}. "
            f"Replication {options.replication:,} is run anyway.",
            file=sys.stderr,
        )
    outcome, stored = keep_replay(
        study, scenario, options.replication, options.method, out, _folder(study, options)
    )
    if options.json:
        print((out / "replay.json").read_text("utf-8"), end="")
    else:
        said = f"{outcome.status}, {outcome.seconds:.2f} s"
        print(": ".join(filter(None, (said, outcome.message))))
        for row in outcome.estimates:
            print(f"    {row['parameter']}: {_estimate(row)}")
        print(f"Compared with the estimates of the study: {stored}")
    print(f"Files written to {out}", file=sys.stderr)
    return 0 if stored in (SAME, NOT_THERE) else 1
