"""`rmm look`: what a table holds, before any model."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from rmm.cli.common import command, plain
from rmm.errors import DataError, PlotError, printable, unknown_name

_LOOK = """\
examples:
  rmm look coalitions.csv --id party,government
  rmm look coalitions.csv --id party,government --out network.png
  rmm look "my table.dta" --id "`name, first`,school"
  rmm look coalitions.csv --id party,government --json > facts.json
The table has one row per membership: one row for each member of each group. The command prints the
numbers of groups and members, how far groups share members, which variables belong to members, to
groups or to memberships, what can be estimated from the table, and what may be wrong with it. It
fits no model. --out writes a picture of the network of groups and members.
"""
_PICTURES = (".pdf", ".png", ".svg")
_NAME = r"\s*(?:`([^`]+)`|([^,`]+?))\s*"


def add_look(commands: Any) -> None:
    """Declare `rmm look`."""
    look = command(
        commands,
        "look",
        "print the groups, members and variables of a table, and what can be estimated from it",
        _LOOK,
        run_look,
    )
    look.add_argument(
        "data",
        metavar="TABLE",
        help="file with the table: .csv, .tsv, .txt (also compressed), .parquet, .rda, .dta, "
        ".sav, .sas7bdat, .xpt or .xlsx",
    )
    look.add_argument(
        "--id",
        metavar="MEMBER,GROUP",
        help="columns with the ids of members and of groups, as in id(member, group) of a formula. "
        "A name with a comma needs backticks; default: none, and a message lists the columns",
    )
    look.add_argument(
        "--na",
        action="append",
        metavar="TEXT",
        help="text that means a missing value, in all columns of a text file. Repeat the option "
        "for several texts; default: as `rmm fit`",
    )
    look.add_argument(
        "--out",
        metavar="FILE",
        help="picture of the membership network to write: .png, .svg or .pdf; default: no picture",
    )
    look.add_argument("--json", action="store_true", help="print the result as JSON")


def run_look(options: argparse.Namespace) -> int:
    """`rmm look`."""
    # Late: `rmm --help` needs no libraries.
    from rmm.fitting.table_look.look import look

    # Late: as above.
    from rmm.tables.read import read_table

    if options.id is None:
        names = ", ".join(map(str, read_table(options.data, na=options.na).columns))
        raise DataError(
            "Name the columns with the ids of members and of groups, such as --id party,government."
            f"\n  The columns of {options.data} are: {printable(names)}."
        )
    member, group = id_columns(options.id)
    if options.out and Path(options.out).suffix.lower() not in _PICTURES:
        found = unknown_name(Path(options.out).suffix, "an ending of a picture", _PICTURES)
        raise PlotError(f"--out {options.out}: {found}")
    seen = look(options.data, member, group, na=options.na)
    if options.json:
        print(json.dumps(plain(seen.as_dict()), indent=2))
    else:
        print(seen)
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        undated = {"Date": None} if options.out.lower().endswith(".svg") else None
        seen.plot().savefig(options.out, dpi=150, metadata=undated)
        if not options.json:
            print(f"\nPicture: {options.out}")
    return 0


def id_columns(text: str) -> tuple[str, str]:
    """The two columns that `--id` names."""
    found = re.fullmatch(f"{_NAME},{_NAME}", text)
    if found is None:
        raise DataError(
            f"--id must name two columns, the member id and the group id, separated by a comma, "
            f"such as --id party,government. It is {text!r}. A name with a comma needs backticks."
        )
    one, plain_one, other, plain_other = found.groups()
    return one or plain_one, other or plain_other
