"""`rmm doctor` and `rmm fit`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rmm
from rmm.cli.common import command, plain
from rmm.errors import DataError, unknown_name
from rmm.tables.printed_table import table_lines

if TYPE_CHECKING:
    import pandas as pd

_FIT = """\
examples:
  rmm fit coalitions.csv "y ~ 1 + mm(id(party, government), vars(finance), RE=TRUE)" --seed 1
  rmm fit data.parquet "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ 1/n^exp(b1*power)), RE=TRUE)" \\
      --backend stan --cores 4 --save fit.nc
  rmm fit data.csv "..." --missing drop --transform std --out summary.csv
  rmm fit data.csv "..." --json > summary.json
The table has one row per membership: one row for each member of each group. The command prints the
summary table. Lines above it show the model, the numbers of groups and members, and the engine; the
last line shows whether the fit converged. These lines go to stderr: they are not in a file that you
write with `>`. The exit code is 1 if the fit has not converged.
"""
#: Endings of files that --out writes.
_TABLES = (".csv", ".parquet")
_DOCTOR = """\
examples:
  rmm doctor               check packages, and run a tiny fit with each engine
  rmm doctor --no-fits     only list what is installed
  rmm doctor --json        print the result of `rmm doctor` as JSON, for other software to read
On the first run, Stan compiles for about a minute. The exit code is 1 if no engine works, or if an
installed engine fails its tiny fit.
"""


def add_doctor(commands: Any) -> None:
    """Declare `rmm doctor`."""
    doctor = command(
        commands,
        "doctor",
        "check packages and engines, and explain how to repair those that fail",
        _DOCTOR,
        run_doctor,
    )
    doctor.add_argument(
        "--no-fits", action="store_true", help="do not test the engines with a tiny fit"
    )
    doctor.add_argument("--json", action="store_true", help="print the result as JSON")


def run_doctor(options: argparse.Namespace) -> int:
    """`rmm doctor`: exit code 1 if something is broken or no backend runs."""
    # Late: `rmm --help` needs no libraries.
    from rmm.cli.doctor import diagnose

    findings = diagnose(
        prove=not options.no_fits, announce=lambda text: print(text, file=sys.stderr, flush=True)
    )
    if options.json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        _print_findings(findings)
    backends = [f for f in findings if f.subject.startswith("backend ")]
    broken = any(f.state == "broken" for f in findings)
    return 1 if broken or not any(f.state == "ok" for f in backends) else 0


def _print_findings(findings: Sequence[Any]) -> None:
    rows = []
    for finding in findings:
        rows.append((finding.subject, finding.state, finding.what))
        if finding.remedy and finding.state != "ok":
            rows.append(("", "", f"fix: {finding.remedy}"))
    print("\n".join(table_lines(rows, head=False)))


def add_fit(commands: Any) -> None:
    """Declare `rmm fit`."""
    fit = command(commands, "fit", "fit a model to a table", _FIT, run_fit)
    fit.add_argument(
        "data",
        metavar="DATA",
        help="file with the table: .csv, .tsv, .txt (also compressed), .parquet, .rda, .dta, "
        ".sav, .sas7bdat, .xpt or .xlsx",
    )
    fit.add_argument("formula", metavar="FORMULA", help="formula of the model, in quotes")
    fit.add_argument(
        "--family",
        default="gaussian",
        metavar="FAMILY",
        help="family of the outcome: gaussian, binomial, condlogit, weibull, cox, poisson, "
        "negbinomial, zero_inflated_poisson, zero_inflated_negbinomial, hurdle_poisson, "
        "hurdle_negbinomial, lognormal, gamma, student, beta, probit, cloglog or ordinal; "
        "default: %(default)s",
    )
    fit.add_argument(
        "--sigma",
        metavar="FORMULA",
        help='formula of the log of the residual standard deviation, such as "~ 1 + z + log(n)", n '
        "the group size (gaussian, lognormal, student); default: one standard deviation for all "
        "groups",
    )
    fit.add_argument(
        "--observation-weights",
        metavar="COLUMN",
        help="column of numbers: the log likelihood of a group counts so many times (not the "
        "weights of members, which are in the formula); default: once",
    )
    fit.add_argument(
        "--backend",
        default="auto",
        metavar="ENGINE",
        help="engine: auto, laplace, stan or jags. auto uses laplace if its fit passes all checks, "
        "otherwise stan, or jags if stan does not work; default: %(default)s",
    )
    fit.add_argument(
        "--priors",
        action="append",
        metavar="PRIOR",
        help="the name of a set of priors, or the prior of one parameter. Sets: "
        "weakly_informative, and rmm (the default priors of the R package that is also called "
        'rmm). Prior of one parameter: for example "b_w ~ normal(0, 1)"; it replaces the prior '
        "in the set. Repeat the option to give a set and several such priors; default: "
        "weakly_informative",
    )
    fit.add_argument(
        "--na",
        action="append",
        metavar="TEXT",
        help="text that means a missing value, in all columns of a text file. Repeat the option to "
        "give several texts. Empty cells are always missing values, too; default: NA, N/A, NaN, "
        "NULL, None, #N/A and a single dot, all of them only in columns of numbers",
    )
    _number(fit, "--chains", "number of Markov chains", default=4)
    _number(
        fit,
        "--warmup",
        "warm-up iterations per chain, not kept (not used by laplace)",
        default=1000,
    )
    _number(
        fit,
        "--draws",
        "draws to keep per chain. laplace has no chains; the number of draws that it keeps is the "
        "value of --chains times the value of --draws",
        default=1000,
    )
    _number(fit, "--thin", "keep one of every N iterations (not used by laplace)", default=1)
    fit.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the random numbers: the same seed gives the same draws; default: a new seed "
        "for each fit",
    )
    fit.add_argument(
        "--cores",
        type=int,
        metavar="N",
        help="processes that run at the same time; default: the number of chains, or the number of "
        "cores of this machine if it has fewer cores than chains",
    )
    fit.add_argument(
        "--missing",
        choices=("error", "drop", "impute"),
        default="error",
        help="what to do if a column of the model has missing values: error stops with a message; "
        "drop leaves out each group with one (of condlogit each stratum); impute makes missing "
        "values of numeric covariates parameters (stan and jags); default: %(default)s",
    )
    fit.add_argument(
        "--transform",
        choices=("center", "std", "std2"),
        help="what to do with numeric covariates before the fit: center subtracts the mean, std "
        "also divides by the standard deviation, std2 by two of them; default: nothing",
    )
    fit.add_argument(
        "--monitor",
        action="append",
        metavar="NAME",
        help="which draws --save keeps: summary (parameters and effects of units), structural "
        "(parameters only), or the name of a variable of the program, such as w or log_lik. "
        "Repeat the option for several variables; default: summary",
    )
    fit.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="stop the fit with an error message, and without a result, if it takes longer than "
        "this; default: no limit",
    )
    fit.add_argument(
        "--save",
        metavar="PATH",
        help="save the fit, with its data and draws, in this file; rmm.load reads it",
    )
    fit.add_argument(
        "--out",
        metavar="PATH",
        help="also write the summary table, with all digits, to this file: .csv or .parquet; "
        "default: no file",
    )
    fit.add_argument("--json", action="store_true", help="print summary and diagnostics as JSON")


def _number(parser: Any, name: str, what: str, default: int) -> None:
    """An option that is a whole number, with its default in the help."""
    parser.add_argument(
        name, type=int, default=default, metavar="N", help=f"{what}; default: %(default)s"
    )


def run_fit(options: argparse.Namespace) -> int:
    """`rmm fit`: summary on stdout, the rest on stderr."""
    # Late: `rmm --help` needs no libraries.
    from rmm.posterior.reporting.fit_text import formatted
    from rmm.posterior.saved_fits.save import check_folder

    for path in filter(None, (options.save, options.out)):
        check_folder(Path(path))
    if options.out and Path(options.out).suffix not in _TABLES:
        found = unknown_name(Path(options.out).suffix, "an ending of a table", _TABLES)
        raise DataError(f"--out {options.out}: {found}")

    keys = (
        "family",
        "sigma",
        "observation_weights",
        "backend",
        "priors",
        "chains",
        "warmup",
        "draws",
        "thin",
        "seed",
        "cores",
        "timeout",
        "na",
        "missing",
        "transform",
    )
    settings = {key: getattr(options, key) for key in keys}
    settings["priors"] = ";".join(options.priors or ["weakly_informative"])
    fit = rmm.fit(options.formula, options.data, monitor=_monitor(options.monitor), **settings)
    table = fit.summary()
    if options.json:
        record = {
            "converged": bool(fit.converged),
            "backend": fit.backend,
            "chosen": fit.run.engine.get("chosen"),
            "diagnostics": plain(fit.diagnostics()),
            "summary": plain(table.to_dict("index")),
        }
        print(json.dumps(record, indent=2))
    else:
        printed = formatted(table).to_string()
        # The model, its groups and members, and remarks, as `print(fit)` shows them.
        before, _, after = str(fit).partition(printed)
        print(before.strip(), end="\n\n", file=sys.stderr, flush=True)
        print(printed, flush=True)
        remarks = f"\n{after.strip()}\n" if after.strip() else ""
        print(f"{remarks}\nconverged: {'yes' if fit.converged else 'NO'}", file=sys.stderr)
    if options.out:
        _write(table, Path(options.out))
        print(f"Summary written to {options.out}.", file=sys.stderr)
    if options.save:
        fit.save(Path(options.save))
        print(f"Saved in {options.save}; rmm.load reads it.", file=sys.stderr)
    return 0 if fit.converged else 1


def _monitor(names: Sequence[str] | None) -> str | list[str]:
    """What `rmm.fit` calls `monitor`: the name of a set, or variables of the program."""
    # Late: `rmm --help` needs no libraries.
    from rmm.fitting.pipeline import MONITORS

    if not names:
        return "summary"
    return names[0] if len(names) == 1 and names[0] in MONITORS else list(names)


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write a summary with its parameters as the first column."""
    whole = table.rename_axis("parameter").reset_index()
    if path.suffix == ".parquet":
        whole.to_parquet(path, index=False)
    else:
        whole.to_csv(path, index=False, lineterminator="\n")
