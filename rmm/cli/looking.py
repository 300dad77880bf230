"""`rmm study look`: what the simulated data are like, beside what the study file asks for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rmm.cli.common import plain
from rmm.errors import StudyError, counted
from rmm.tables.printed_table import table_lines

if TYPE_CHECKING:
    from rmm.study import Study
    from rmm.study.planning.mechanism import Mechanism

LOOK = """\
examples:
  rmm study look config/studies/quickstart.yaml
  rmm study look config/studies/quickstart.yaml --scenario s0123456789 --draws 200
  rmm study look config/studies/quickstart.yaml --json > facts.json
The command simulates the first data sets of each scenario and describes them: sizes, shared
members, covariates, shares of the variance, outcome. It runs no fits. Where the study file asks for
a value (an overlap, an intra-class correlation, a share of censored groups), the mean over the data
sets stands beside it, and a row is marked with ! if they differ by more than chance explains.
"""
#: Scenarios that have a column of their own.
_COLUMNS = 6


def look_options(parser: Any) -> None:
    """Options of `rmm study look`."""
    parser.add_argument(
        "--draws",
        type=int,
        default=50,
        metavar="N",
        help="data sets per scenario; default: %(default)s",
    )
    parser.add_argument("--scenario", metavar="ID", help="only this scenario; default: all")


def run_look(study: Study, options: argparse.Namespace) -> int:
    """`rmm study look`: facts about the data, per scenario."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.planning.mechanism import look

    if options.draws < 2:
        raise StudyError(f"--draws must be at least 2, not {options.draws}.")
    found = look(study, options.draws, options.scenario)
    if options.json:
        print(json.dumps(plain(_facts(found)), indent=2))
        return 0
    shown = {fact.scenario for fact in found.facts}
    labels = {s.id: _label(s.factors) or s.id for s in study.scenarios if s.id in shown}
    count = f"{len(labels):,} scenario{'s' * (len(labels) > 1)}"
    print(f"{study.name}: {count}, {counted(options.draws, 'data set')} each")
    print("\n".join(_table(found, labels)))
    print("\n".join(_marked(found, labels)))
    return 0


def _facts(found: Mechanism) -> dict[str, Any]:
    rows = [{**asdict(f), "distance": f.distance()} for f in found.facts]
    return {"limit": found.limit, "facts": rows}


def _table(found: Mechanism, labels: dict[str, str]) -> list[str]:
    """A row per property: a column per scenario, or ranges over many of them."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.planning.mechanism import number, span

    by_name = found.by_property()
    rows: list[tuple[str, ...]]
    if len(labels) > _COLUMNS:
        rows = [("", "asked for", "mean over data sets")]
        for name, facts in by_name.items():
            rows.append((name, span(f.target for f in facts), span(f.mean for f in facts)))
        note = f"Smallest and largest of {len(labels):,} scenarios; --scenario ID shows one."
        return [*table_lines(rows), "", note]
    rows = [("", "asked for", *labels.values())]
    for name, facts in by_name.items():
        own = {f.scenario: number(f.mean) + "!" * (f.distance() > found.limit) for f in facts}
        rows.append((name, span(f.target for f in facts), *(own.get(s, "-") for s in labels)))
    return table_lines(rows, "  " + "r" * len(labels))


def _label(factors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {level}" for name, level in factors.items())


def _marked(found: Mechanism, labels: dict[str, str]) -> list[str]:
    off = found.off()
    if not off:
        return ["", "No mean differs from what the file asks for by more than chance explains."]
    return [
        "",
        "These means differ from what the file asks for by more than chance explains:",
        *(
            f"    {labels[f.scenario]} ({f.scenario}): {f.what} is {f.mean:.4g}, asked for: "
            f"{f.target:.4g} ({f.distance():.1f} Monte Carlo errors)"
            for f in off
        ),
    ]
