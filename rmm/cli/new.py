"""`rmm study new`: a commented study file to start from."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmm.cli.common import command
from rmm.errors import StudyError

EXAMPLES = """\
examples:
  rmm study new mine.yaml            # in a terminal, asks for the value of each option
  rmm study new mine.yaml --groups 200 --members 50 --size 3 --effect 0.3 --replications 1000
  rmm study new mine.yaml --data coalitions.csv --member party --group government
  rmm study new mine.yaml --family binomial --backend stan
The file has a comment for every key. The command runs no fits and never overwrites a file.
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
_OUTCOMES = {
    "gaussian": ("y", "sigma_l2: 1\t# residual sd, between groups\n"),
    "binomial": ("y", ""),
    "weibull": ("Surv(time, event)", "shape: 1.5\t# above 1: the hazard increases with time\n"),
}
_SYNTHETIC = """\
membership:
  kind: synthetic
  groups: {groups}\t# number of groups; the outcome is measured on groups
  members: {members}\t# number of different members; with fewer, groups share more of them
  size: {size}\t# members per group; or {{distribution: uniform, low: 2, high: 5}}
"""
_EMPIRICAL = """\
membership:
  kind: empirical
  file: {file}\t# one row per membership; relative to the project's folder
  member: {member}
  group: {group}
"""
_DRAWN = """\
covariates:
  x: {level: member}\t# a property of members, the same in all their groups
  power: {level: membership}\t# the weights depend on it
"""
_FROM_TABLE = """\
covariates:\t# simulated; to use a column of the table: {column: NAME}
  x: {level: member}\t# a property of members, the same in all their groups
  power: {level: membership}\t# the weights depend on it
"""
_REST = """\

# The true model. With b_w[b1] = 0, all members of a group would have equal weights.
truth:
  formula: >-
    {outcome} ~ 1
    + mm(id({member}, {group}), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE)
  family: {family}
  parameters:
    b_l2[Intercept]: 0
    b_l1[x]: {effect}\t# the effect of interest; with 0, the study measures the Type I error
    b_w[b1]: 1
    sigma_l1: 1\t# sd of the random effects of members
    {own}
# Each combination of these values is a scenario.
vary:
  effect: {{path: "truth.parameters.b_l1[x]", values: [0, {effect}]}}

# All methods analyse the same data sets.
methods:
  - {{name: aggregation, kind: aggregation}}\t# ordinary regression on the averages of the members
  - name: mmmm\t# multiple-membership model with estimated weights
    kind: mmmm
    backend: {backend}
    sampler: {{chains: 2, draws: 500}}
    gate: {{ess_per_chain: 50}}\t# a fit counts as converged from this ESS per chain
{confirmation}
estimands:
  - {{parameter: "b_l1[x]"}}
"""

_CONFIRMATION = """\
  # The first data sets are also fitted by MCMC. The report compares both engines.
  - name: mmmm_{engine}
    kind: mmmm
    backend: {engine}
    confirms: mmmm
    replications: {few}
    sampler: {{chains: 2, warmup: 500, draws: 1000}}
    gate: {{rhat: 1.05, ess_per_chain: 50}}
"""
_THERE = "{path}: there is such a file already. Give another name."
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
        raise StudyError(f"{path}: a study file ends in .yaml.")
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
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text(settings))
    except FileExistsError:
        raise StudyError(_THERE.format(path=path)) from None
    try:
        load_study(path)
    except Exception:
        path.unlink()
        raise
    print(
        f"{path} was written, and it is valid. Edit it as you like. Then run, in the "
        "project's folder:\n"
        f"    rmm study check {path}\n"
        f"    snakemake --cores 2 --workflow-profile workflow/profiles/default "
        f"--config study={path}"
    )
    return 0


def text(options: argparse.Namespace) -> str:
    """The study file; names and titles are quoted, so that YAML takes them as they are."""
    outcome, own = _OUTCOMES[options.family]
    head = (
        "# A simulation study; all keys: docs/reference/study-file.md.\n"
        f"title: {json.dumps(options.title)}\n"
        "aims: The research question of this study, in one or two sentences.\n"
        f"seed: {options.seed}\t# seed of all random numbers\n"
        f"replications: {options.replications}\t# data sets per scenario; can be increased later\n"
        "\n# Memberships: which members belong to which groups.\n"
    )
    names = (
        {"member": options.member, "group": options.group}
        if options.data
        else {"member": "member", "group": "group"}
    )
    quoted = {key: json.dumps(value) for key, value in names.items()}
    if options.data:
        memberships = _EMPIRICAL.format(file=json.dumps(options.data), **quoted)
    else:
        memberships = _SYNTHETIC.format(
            groups=options.groups, members=options.members, size=options.size
        )
    covariates = _FROM_TABLE if options.data else _DRAWN
    rest = _REST.format(
        outcome=outcome,
        family=options.family,
        effect=options.effect,
        own=own,
        backend=options.backend,
        confirmation=_confirmation(options),
        **names,
    )
    return _with_comments(f"{head}{memberships}\n{covariates}{rest}")


def _confirmation(options: argparse.Namespace) -> str:
    """A method of MCMC beside the fast engine: JAGS where it is quick, and needs no compiler."""
    from rmm.backends import find_backend  # an engine imports SciPy: not for `rmm --help`

    if not find_backend(options.backend).weighted_draws:
        return ""
    engine = "jags" if options.family in ("gaussian", "binomial") else "stan"
    return _CONFIRMATION.format(engine=engine, few=min(_CONFIRMED, options.replications))


def _with_comments(lines: str) -> str:
    """Comments after a tab below each other, in every block of lines that have some."""
    blocks = re.split(r"((?:^[^\n]*\t# [^\n]*\n)+)", lines, flags=re.MULTILINE)
    for place in range(1, len(blocks), 2):
        rows = [line.split("\t") for line in blocks[place].splitlines()]
        width = max(len(code) for code, _ in rows)
        blocks[place] = "".join(f"{code.ljust(width)}  {comment}\n" for code, comment in rows)
    return "".join(blocks)
