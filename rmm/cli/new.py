"""`rmm study new`: a commented study file to start from."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rmm.cli.common import command
from rmm.errors import StudyError, how_to_install

EXAMPLES = """\
examples:
  rmm study new mine.yaml            # without options: the command asks for each value
  rmm study new mine.yaml --groups 200 --members 50 --size 3 --effect 0.3 --replications 1000
  rmm study new mine.yaml --data coalitions.csv --member party --group government
  rmm study new mine.yaml --family binomial --backend stan
The file has a comment for every key. The command asks for values if you give no options and run it
in a terminal. Otherwise, values that you do not give have their defaults. The command runs no fits
and never overwrites a file.
"""
BACKENDS = ("laplace", "jags", "stan")
DEFAULTS: dict[str, Any] = {
    "title": "A new study",
    "family": "gaussian",
    "backend": "laplace",
    "effect": 0.5,
    "replications": 100,
    "seed": 1,
    "groups": 100,
    "members": 40,
    "size": 3,
    "data": None,
    "member": "member",
    "group": "group",
}
#: Family -> the outcome of its formula, and its own parameter of the truth.
_OUTCOMES = {
    "gaussian": ("y", "sigma_l2: 1\t# residual sd (one residual per group)"),
    "binomial": ("y", ""),
    "probit": ("y", ""),
    "cloglog": ("y", ""),
    "poisson": ("y", ""),
    "negbinomial": ("y", "shape: 2\t# variance: mean + mean^2 / shape"),
    "lognormal": ("y", "sigma_l2: 1\t# residual sd of log(y)"),
    "gamma": ("y", "shape: 2\t# variance: mean^2 / shape"),
    "student": ("y", "sigma_l2: 1\t# scale of the residual\n    nu: 4\t# its degrees of freedom"),
    "beta": ("y", "phi: 8\t# variance: mean * (1 - mean) / (1 + phi)"),
    "weibull": ("Surv(time, event)", "shape: 1.5\t# above 1: the hazard increases with time"),
}
_THERE = "{path}: this file exists already. Give another name."
_CONFIRMED = 20  # data sets of each scenario


def add_new(commands: Any) -> None:
    """Declare `rmm study new`."""
    new = command(
        commands, "new", "write a study file with comments, as a starting point", EXAMPLES, run_new
    )
    new.add_argument("file", metavar="FILE", help="study file to write (.yaml)")
    _option(new, "title", "title of the report", metavar="TITLE")
    families = list(_OUTCOMES)
    _option(
        new, "family", f"family of the outcome: {_or(families)}", choices=families, metavar="FAMILY"
    )
    _option(
        new,
        "backend",
        f"engine of the multiple-membership model: {_or(BACKENDS)}",
        choices=BACKENDS,
        metavar="ENGINE",
    )
    _option(new, "effect", "true coefficient of the member covariate x", type=float, metavar="B")
    _option(new, "replications", "data sets per scenario", type=int, metavar="N")
    _option(new, "seed", "seed of all random numbers", type=int, metavar="N")
    made = new.add_argument_group("options for simulated memberships")
    _option(made, "groups", "number of groups", type=int, metavar="N")
    _option(
        made,
        "members",
        "number of different members, in all groups together",
        type=int,
        metavar="N",
    )
    _option(made, "size", "members per group", type=int, metavar="N")
    real = new.add_argument_group("options for memberships from your own table")
    what = "table with one row per membership: .csv, .parquet or .rda"
    _option(real, "data", what, metavar="TABLE")
    _option(real, "member", "column with the ids of the members", metavar="COLUMN")
    _option(real, "group", "column with the ids of the groups", metavar="COLUMN")


def _or(names: Sequence[str]) -> str:
    """Names as a list that ends in "or"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _option(parser: Any, name: str, what: str = "", **more: Any) -> None:
    """An option that is absent where it was not given: then `DEFAULTS` or an answer has it."""
    default = "" if DEFAULTS[name] is None else f"default: {DEFAULTS[name]}"
    help_text = "; ".join(part for part in (what, default) if part)
    parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=help_text, **more)


def run_new(options: argparse.Namespace) -> int:
    """`rmm study new`: write the file, check it, say what comes next."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study import load_study

    path = Path(options.file)
    if path.suffix not in (".yaml", ".yml"):
        raise StudyError(f"{path}: the name of a study file must end in .yaml.")
    if path.exists():
        raise StudyError(_THERE.format(path=path))
    given = {name: value for name, value in vars(options).items() if name in DEFAULTS}
    if not given and sys.stdin.isatty() and sys.stdout.isatty():
        # Late: `rmm --help` needs no libraries.
        from rmm.cli.asking import new_study

        try:
            given = new_study(DEFAULTS, list(_OUTCOMES), BACKENDS)
        except (EOFError, KeyboardInterrupt):
            print("\nNothing was written.")
            return 1
    settings = argparse.Namespace(**{**DEFAULTS, **given})
    filled = text(settings)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(filled)
    except FileExistsError:
        raise StudyError(_THERE.format(path=path)) from None
    try:
        load_study(path)
    except Exception:
        path.unlink()
        raise
    print(
        f"{path} was written, and it is valid. Edit it as you like. Then:\n"
        f"    rmm study check {quote(str(path))}\n"
        f"    rmm study run {quote(str(path))} --cores 2"
    )
    return 0


def text(options: argparse.Namespace) -> str:
    """The study file; names and titles are quoted, so that YAML takes them as they are."""
    try:
        # Late: the extra `study` may be absent.
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise StudyError(
            "rmm study new needs the package jinja2, which is not installed. "
            f"{how_to_install('jinja2', 'study')}"
        ) from error
    environment = Environment(
        loader=PackageLoader("rmm.cli", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = json.dumps
    outcome, own = _OUTCOMES[options.family]
    names = {} if options.data else {"member": "member", "group": "group"}
    filled = environment.get_template("new_study.yaml.j2").render(
        {**vars(options), **names},
        outcome=outcome,
        own=own,
        confirming=_confirming(options),
        few=min(_CONFIRMED, options.replications),
    )
    return _with_comments(filled)


def _confirming(options: argparse.Namespace) -> str:
    """The engine that confirms the fast one: JAGS where it is quick, and needs no compiler."""
    from rmm.backends import find_backend  # an engine imports SciPy: not for `rmm --help`

    if not find_backend(options.backend).weighted_draws:
        return ""
    return "jags" if options.family in ("gaussian", "binomial") else "stan"


def _with_comments(lines: str) -> str:
    """Comments after a tab below each other, in every block of lines that have some."""
    blocks = re.split(r"((?:^[^\n]*\t# [^\n]*\n)+)", lines, flags=re.MULTILINE)
    for place in range(1, len(blocks), 2):
        rows = [line.split("\t") for line in blocks[place].splitlines()]
        width = max(len(code) for code, _ in rows)
        blocks[place] = "".join(f"{code.ljust(width)}  {comment}\n" for code, comment in rows)
    return "".join(blocks)
