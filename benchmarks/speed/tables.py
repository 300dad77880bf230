"""The kept results as Markdown: ratios to lme4 of the same run, seconds beside them."""

from __future__ import annotations

import pandas as pd

from benchmarks.speed.growth import exponent
from benchmarks.speed.problems import PROBLEMS
from benchmarks.speed.records import heading, identity, ratios

PROGRAMS = {
    ("rmm", "fixed"): "rmm (laplace), weights known: posterior",
    ("rmm", "estimated"): "rmm (laplace), weights estimated: posterior",
    ("lme4", "fixed"): "lme4, weights known: point estimate",
    ("SciPy REML", "fixed"): "REML in SciPy, weights known: point estimate",
}


STRUCTURES = {"nations": "in nations of 20", "anywhere": "anywhere"}


def number(value: float) -> str:
    """Return a ratio with two significant digits, from ten on without decimals."""
    digits = 0 if value >= 9.95 else 1 if value >= 0.995 else 2
    return f"{value:.{digits}f}"


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
    """Return the table of fits, a column for each run.

    Parameters
    ----------
    runs : dict
        Name of the run -> its rows, from `records.read`.
    """
    columns = {name: ratios(table) for name, table in runs.items()}
    keys = ["problem", "program", "weights", "part"]
    order = pd.concat(columns.values()).drop_duplicates(keys)
    order = order.sort_values("problem", key=lambda c: c.map(list(PROBLEMS).index), kind="stable")
    lines = [
        "| data | program | " + " | ".join(heading(name) for name in columns) + " |",
        "|---|---|" + "--:|" * len(columns),
    ]
    for _, row in order.iterrows():
        if row["program"] == "lme4" and row["part"] == "workflow":
            continue
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
            f"{heading(name).capitalize()}: commit {who['commit']}, {rounds} rounds; "
            f"{who['versions']}."
        )
    return "\n\n".join(lines) + "\n"


def growth_table(table: pd.DataFrame) -> str:
    """Return CPU seconds and memory by size, and the powers that CPU time grows with."""
    lines = [
        "| family | members meet | groups | members | weight coefficients | CPU s | memory, MB "
        "| converged |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in table.itertuples():
        found = f"{row.cpu_seconds:.2f} | {row.memory_mb:.0f} | {'yes' if row.converged else 'no'}"
        if pd.isna(row.cpu_seconds):
            found = "refused: too large | |"
        lines.append(
            f"| {row.family} | {STRUCTURES[row.structure]} | {row.groups:,} | {row.members:,} | "
            f"{row.coefficients} | {found} |"
        )
    powers = [
        "| family | weights known | weights estimated |",
        "|---|--:|--:|",
        *(
            f"| {family} | {exponent(table, 0, family):.2f} | {exponent(table, 1, family):.2f} |"
            for family in dict.fromkeys(table["family"])
        ),
    ]
    head = "In nations, the power of the number of groups with which CPU time grows:"
    return "\n".join([*lines, "", head, "", *powers]) + "\n"


def page_part(runs: dict[str, pd.DataFrame], growth: dict[str, pd.DataFrame]) -> str:
    """Return what the documentation includes: fits, what was measured, growth with size."""
    parts = [fits_table(runs), footer(runs)]
    for name, table in growth.items():
        parts += [f"One fit of growing data, {heading(name)}:\n", growth_table(table)]
    return "\n".join(parts)
