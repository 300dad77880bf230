"""`rmm doctor` and `rmm fit`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rmm
from rmm.cli.common import command, plain, table_lines

_FIT = """\
examples:
  rmm fit coalitions.csv "y ~ 1 + mm(id(party, government), vars(finance), RE=TRUE)" --seed 1
  rmm fit data.parquet "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ 1/n^exp(b1*power)), RE=TRUE)" \\
      --backend stan --cores 4 --save fit.nc
  rmm fit data.csv "..." --json > summary.json
The table has one row per membership.
"""
_DOCTOR = """\
examples:
  rmm doctor               all, with a tiny fit by each backend (Stan compiles once: a minute)
  rmm doctor --no-fits     only what is installed
  rmm doctor --json        for a program
"""


def add_doctor(commands: Any) -> None:
    """Declare `rmm doctor`."""
    doctor = command(
        commands, "doctor", "what is installed, which engines run, how to fix", _DOCTOR, run_doctor
    )
    doctor.add_argument("--no-fits", action="store_true", help="do not prove backends with a fit")
    doctor.add_argument("--json", action="store_true", help="print JSON")


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
            rows.append(("", "", f"do: {finding.remedy}"))
    print("\n".join(table_lines(rows, head=False)))


def add_fit(commands: Any) -> None:
    """Declare `rmm fit`."""
    fit = command(commands, "fit", "fit a model to a table", _FIT, run_fit)
    fit.add_argument(
        "data",
        metavar="DATA",
        help="table: .csv, .tsv, .txt (compressed too), "
        ".parquet, .rda, .dta, .sav, .sas7bdat, .xpt, .xlsx",
    )
    fit.add_argument("formula", metavar="FORMULA", help="in quotes")
    fit.add_argument("--family", default="gaussian", help="default: %(default)s")
    fit.add_argument(
        "--backend",
        default="auto",
        help="auto (laplace where its checks hold, else stan, else jags), or one of the three; "
        "default: %(default)s",
    )
    fit.add_argument(
        "--priors",
        action="append",
        metavar="PRIOR",
        help='a set, or a statement such as "b_w ~ normal(0, 1)"; as often as there are some; '
        "default: weakly_informative",
    )
    fit.add_argument(
        "--na",
        action="append",
        metavar="TEXT",
        help="a text that means a missing value in a text file, as often as there are some; "
        "default: NA, . and the like in columns of numbers (the empty cell always does)",
    )
    fit.add_argument("--chains", type=int, default=4, help="default: %(default)s")
    fit.add_argument("--warmup", type=int, default=1000, help="default: %(default)s")
    fit.add_argument("--draws", type=int, default=1000, help="kept per chain; default: %(default)s")
    fit.add_argument("--thin", type=int, default=1, help="default: %(default)s")
    fit.add_argument("--seed", type=int, help="same seed, same draws")
    fit.add_argument("--cores", type=int, help="processes at the same time; default: all")
    fit.add_argument("--timeout", type=float, metavar="SECONDS", help="end the fit after so long")
    fit.add_argument("--save", metavar="PATH", help="keep the whole fit in one file")
    fit.add_argument("--json", action="store_true", help="print summary and diagnostics as JSON")


def run_fit(options: argparse.Namespace) -> int:
    """`rmm fit`: summary on stdout, the rest on stderr."""
    # Late: `rmm --help` needs no libraries.
    from rmm.posterior.fit_text import formatted
    from rmm.posterior.save import check_folder

    if options.save:
        check_folder(Path(options.save))

    keys = (
        "family",
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
    )
    settings = {key: getattr(options, key) for key in keys}
    settings["priors"] = ";".join(options.priors or ["weakly_informative"])
    fit = rmm.fit(options.formula, options.data, **settings)
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
        print(formatted(table).to_string())
        print(f"\nconverged: {'yes' if fit.converged else 'NO'}", file=sys.stderr)
        if fit.run.engine.get("chosen"):
            print(fit.run.engine["chosen"], file=sys.stderr)
    if options.save:
        fit.save(Path(options.save))
        print(f"Kept in {options.save}; rmm.load reads it.", file=sys.stderr)
    return 0
