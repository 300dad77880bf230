"""`rmm study new`: a commented study file to start from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rmm.cli.common import command
from rmm.errors import StudyError

EXAMPLES = """\
examples:
  rmm study new mine.yaml
  rmm study new mine.yaml --groups 200 --members 50 --size 3 --effect 0.3 --replications 1000
  rmm study new mine.yaml --data coalitions.csv --member party --group government
  rmm study new mine.yaml --family binomial --backend stan
Every key of the file has a comment. Runs nothing, and never writes over a file.
"""
_OUTCOMES = {
    "gaussian": ("y", "sigma_l2: 1    # sd of groups\n"),
    "binomial": ("y", ""),
    "weibull": ("Surv(time, event)", "shape: 1.5         # above 1: ends become more likely\n"),
}
_SYNTHETIC = """\
membership:
  kind: synthetic
  groups: {groups}        # on which the outcome is measured
  members: {members}       # in the pool that groups share; fewer are shared more
  size: {size}            # members per group; or {{distribution: uniform, low: 2, high: 5}}
"""
_EMPIRICAL = """\
membership:
  kind: empirical
  file: {file}    # one row per membership; relative to the project's folder
  member: {member}
  group: {group}
"""
_DRAWN = """\
covariates:
  x: {level: member}           # a property of members, the same in all their groups
  power: {level: membership}   # what the weights depend on
"""
_FROM_TABLE = """\
covariates:      # drawn; {column: NAME} instead of {level: ...} takes one from the table
  x: {level: member}           # a property of members, the same in all their groups
  power: {level: membership}   # what the weights depend on
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
    b_l1[x]: {effect}        # the effect that is looked for; 0 gives the Type-I error
    b_w[b1]: 1
    sigma_l1: 1        # sd of what members differ in for other reasons
    {own}
# Every combination of these is a scenario.
vary:
  effect: {{path: "truth.parameters.b_l1[x]", values: [0, {effect}]}}

# All are fitted to the same data sets.
methods:
  - {{name: aggregation, kind: aggregation}}   # members averaged, an ordinary regression
  - name: mmmm                              # weights estimated, as in the truth
    kind: mmmm
    backend: {backend}
    sampler: {{chains: 2, draws: 500}}
    gate: {{ess_per_chain: 50}}               # when a fit counts as converged
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
_CONFIRMED = 20  # data sets of each scenario


def add_new(commands: Any) -> None:
    """Declare `rmm study new`."""
    new = command(commands, "new", "write a commented study file to start from", EXAMPLES, run_new)
    new.add_argument("file", metavar="FILE", help="where to write it (.yaml)")
    new.add_argument("--title", default="A new study", help="default: %(default)s")
    new.add_argument("--family", choices=list(_OUTCOMES), default="gaussian",
                     help="of the outcome; default: %(default)s")  # fmt: skip
    new.add_argument("--backend", choices=["laplace", "jags", "stan"], default="laplace",
                     help="engine of the model; default: %(default)s")  # fmt: skip
    new.add_argument("--effect", type=float, default=0.5, help="of x; default: %(default)s")
    new.add_argument("--replications", type=int, default=100, help="default: %(default)s")
    new.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    made = new.add_argument_group("memberships that are made up")
    made.add_argument("--groups", type=int, default=100, help="default: %(default)s")
    made.add_argument("--members", type=int, default=40, help="default: %(default)s")
    made.add_argument("--size", type=int, default=3, help="default: %(default)s")
    real = new.add_argument_group("memberships of a table")
    real.add_argument("--data", metavar="TABLE", help=".csv, .parquet or .rda")
    real.add_argument("--member", metavar="COLUMN", default="member", help="default: %(default)s")
    real.add_argument("--group", metavar="COLUMN", default="group", help="default: %(default)s")


def run_new(options: argparse.Namespace) -> int:
    """`rmm study new`: write the file, check it, say what comes next."""
    from rmm.study import load_study

    path = Path(options.file)
    if path.suffix not in (".yaml", ".yml"):
        raise StudyError(f"{path}: a study file ends in .yaml.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text(options))
    except FileExistsError:
        raise StudyError(f"{path}: there is such a file already. Give another name.") from None
    try:
        load_study(path)
    except Exception:
        path.unlink()
        raise
    print(f"{path} is written, and in order. Change it where it is not what you mean; then, in the "
          "project's folder:\n"
          f"    rmm study check {path}\n"
          f"    snakemake --cores 2 --workflow-profile workflow/profiles/default "
          f"--config study={path}")  # fmt: skip
    return 0


def text(options: argparse.Namespace) -> str:
    """The study file; names and titles are quoted, so that YAML takes them as they are."""
    outcome, own = _OUTCOMES[options.family]
    head = (
        "# A simulation study; all keys: docs/reference/study-file.md.\n"
        f"title: {json.dumps(options.title)}\n"
        "aims: What is to be found out, in a sentence or two.\n"
        f"seed: {options.seed}               # every random number follows from it\n"
        f"replications: {options.replications}     # data sets per scenario; more may come later\n"
        "\n# Who belongs to whom.\n"
    )
    names = {"member": options.member, "group": options.group} if options.data else {
        "member": "member", "group": "group"}  # fmt: skip
    quoted = {key: json.dumps(value) for key, value in names.items()}
    if options.data:
        memberships = _EMPIRICAL.format(file=json.dumps(options.data), **quoted)
    else:
        memberships = _SYNTHETIC.format(groups=options.groups, members=options.members,
                                        size=options.size)  # fmt: skip
    covariates = _FROM_TABLE if options.data else _DRAWN
    return head + memberships + "\n" + covariates + _REST.format(
        outcome=outcome, family=options.family, effect=options.effect, own=own,
        backend=options.backend, confirmation=_confirmation(options), **names,
    )  # fmt: skip


def _confirmation(options: argparse.Namespace) -> str:
    """A method of MCMC beside the fast engine: JAGS where it is quick, and needs no compiler."""
    if options.backend != "laplace":
        return ""
    engine = "jags" if options.family in ("gaussian", "binomial") else "stan"
    return _CONFIRMATION.format(engine=engine, few=min(_CONFIRMED, options.replications))
