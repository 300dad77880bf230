"""`rmm study new`: a commented study file to start from."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from rmm.cli.common import command
from rmm.errors import StudyError

EXAMPLES = """\
examples:
  rmm study new mine.yaml            # asks for what follows, in a terminal
  rmm study new mine.yaml --groups 200 --members 50 --size 3 --effect 0.3 --replications 1000
  rmm study new mine.yaml --data coalitions.csv --member party --group government
  rmm study new mine.yaml --family binomial --backend stan
Every key of the file has a comment. Runs nothing, and never writes over a file.
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
    "gaussian": ("y", "sigma_l2: 1\t# sd of groups\n"),
    "binomial": ("y", ""),
    "weibull": ("Surv(time, event)", "shape: 1.5\t# above 1: ends become more likely\n"),
}
_SYNTHETIC = """\
membership:
  kind: synthetic
  groups: {groups}\t# on which the outcome is measured
  members: {members}\t# in the pool that groups share; fewer are shared more
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
  power: {level: membership}\t# what the weights depend on
"""
_FROM_TABLE = """\
covariates:\t# drawn; {column: NAME} instead of {level: ...} takes one from the table
  x: {level: member}\t# a property of members, the same in all their groups
  power: {level: membership}\t# what the weights depend on
"""
_REST = """\

# What is true. b_w[b1] = 0 would mean that all members count the same.
truth:
  formula: >-
    {outcome} ~ 1
    + mm(id({member}, {group}), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE)
  family: {family}
  parameters:
    b_l2[Intercept]: 0
    b_l1[x]: {effect}\t# the effect that is looked for; 0 gives the Type-I error
    b_w[b1]: 1
    sigma_l1: 1\t# sd of what members differ in for other reasons
    {own}
# Every combination of these is a scenario.
vary:
  effect: {{path: "truth.parameters.b_l1[x]", values: [0, {effect}]}}

# All are fitted to the same data sets.
methods:
  - {{name: aggregation, kind: aggregation}}\t# members averaged, an ordinary regression
  - name: mmmm\t# weights estimated, as in the truth
    kind: mmmm
    backend: {backend}
    sampler: {{chains: 2, draws: 500}}
    gate: {{ess_per_chain: 50}}\t# when a fit counts as converged
{confirmation}
estimands:
  - {{parameter: "b_l1[x]"}}
"""

_CONFIRMATION = """\
  # The fast engine is confirmed by MCMC on the first data sets; the report compares them.
  - name: mmmm_{engine}
    kind: mmmm
    backend: {engine}
    confirms: mmmm
    replications: {few}
    sampler: {{chains: 2, warmup: 500, draws: 1000}}
    gate: {{rhat: 1.05, ess_per_chain: 50}}
"""
_THERE = "{path}: this file exists already. Give another name."
_CONFIRMED = 20  # data sets of each scenario


def add_new(commands: Any) -> None:
    """Declare `rmm study new`."""
    new = command(commands, "new", "write a commented study file to start from", EXAMPLES, run_new)
    new.add_argument("file", metavar="FILE", help="where to write it (.yaml)")
    _option(new, "title")
    _option(new, "family", "of the outcome", choices=list(_OUTCOMES))
    _option(new, "backend", "engine of the model", choices=BACKENDS)
    _option(new, "effect", "of x", type=float)
    _option(new, "replications", type=int)
    _option(new, "seed", type=int)
    made = new.add_argument_group("memberships that are made up")
    for name in ("groups", "members", "size"):
        _option(made, name, type=int)
    real = new.add_argument_group("memberships of a table")
    _option(real, "data", ".csv, .parquet or .rda", metavar="TABLE")
    _option(real, "member", metavar="COLUMN")
    _option(real, "group", metavar="COLUMN")


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
        f"{path} is written, and in order. Change it where it is not what you mean; then, in the "
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
        "aims: What is to be found out, in a sentence or two.\n"
        f"seed: {options.seed}\t# every random number follows from it\n"
        f"replications: {options.replications}\t# data sets per scenario; more may come later\n"
        "\n# Who belongs to whom.\n"
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
