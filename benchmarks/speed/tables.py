"""The kept results as Markdown: ratios to lme4 of the same run, seconds beside them."""

from __future__ import annotations

import pandas as pd

from benchmarks.speed.problems import PROBLEMS
from benchmarks.speed.records import OTHER_UNIT, UNIT, identity, ratios

#: Results by name -> how their columns are headed. `make bench` writes "speed".
RUNS = {
    "speed_before": "before the compiled engine",
    "speed_after": "with the compiled engine",
    "speed": "latest run",
}
PROGRAMS = {
    ("rmm", "fixed"): "rmm (laplace), weights known: posterior",
    ("rmm", "estimated"): "rmm (laplace), weights estimated: posterior",
    ("lme4", "fixed"): "lme4, weights known: point estimate",
    ("SciPy REML", "fixed"): "REML in SciPy, weights known: point estimate",
}


def number(value: float) -> str:
    """Return a ratio with two significant digits, from ten on without decimals."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}" if value >= 0.995 else f"{value:.2f}"


def cell(row: pd.Series) -> str:
    """Return `ratio (lowest to highest round), seconds` of a program."""
    if pd.isna(row["ratio"]):
        return f"{row['seconds']:.3f} s"
    spread = f" ({number(row['low'])} to {number(row['high'])})" if row["low"] < row["high"] else ""
    return f"**{number(row['ratio'])}**{spread}, {row['seconds']:.3f} s"


def line_name(row: pd.Series) -> str:
    """Return program and part of a row of the table."""
    name = PROGRAMS[row["program"], row["weights"]]
    return name + ("; all of the workflow" if row["part"] == "workflow" else "")


def fits_table(runs: dict[str, pd.DataFrame]) -> str:
    """Return the table of fits, a column for each run that is kept.

    Parameters
    ----------
    runs : dict
        Name as in `RUNS` -> its rows, from `records.read`.
    """
    columns = {name: ratios(table) for name, table in runs.items()}
    keys = ["problem", "program", "weights", "part"]
    order = pd.concat(columns.values()).drop_duplicates(keys)
    order = order.sort_values("problem", key=lambda c: c.map(list(PROBLEMS).index), kind="stable")
    lines = [
        "| data | program | " + " | ".join(RUNS[name] for name in columns) + " |",
        "|---|---|" + "--:|" * len(columns),
    ]
    for _, row in order.iterrows():
        problem = PROBLEMS[row["problem"]]
        cells = []
        for table in columns.values():
            there = table[(table[keys] == row[keys]).all(axis=1)]
            cells.append(cell(there.iloc[0]) if len(there) else "")
        lines.append(
            f"| {problem.title}, {problem.groups} groups, {problem.members} members | "
            f"{line_name(row)} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def footer(runs: dict[str, pd.DataFrame]) -> str:
    """Return commit, versions and number of rounds of each run."""
    lines = []
    for name, table in runs.items():
        who = identity(table)
        rounds = int(table["round"].max())
        lines.append(
            f"{RUNS[name].capitalize()}: commit {who['commit']}, {rounds} rounds; "
            f"{who['versions']}."
        )
    return "\n\n".join(lines) + "\n"


def unit_of(problem: str) -> str:
    """Return the problem whose lme4 fit is the unit of another problem's ratios."""
    return UNIT.get(problem, OTHER_UNIT)
