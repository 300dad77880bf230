"""The kept results of `peers`: table, Markdown and figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.speed.records import RESULTS

#: R-hat up to which, and ESS from which, a number can be trusted.
CONVERGED, RELIABLE = 1.1, 100
#: What ratios are to, and how their columns end.
PEERS = {"bml style": "", "numpyro": "_numpyro"}
MARKS = {
    "bml style": "x",
    "jags": "o",
    "stan": "s",
    "numpyro": "^",
    "laplace": "D",
    "laplace, ess=4000": "*",
}


def write(table: pd.DataFrame, name: str) -> None:
    """Write NAME.csv and NAME.md; both are complete at every moment."""
    for file, text in (
        (f"{name}.csv", table.to_csv(index=False, float_format="%.6g")),
        (f"{name}.md", as_markdown(table)),
    ):
        beside = RESULTS / f".{file}.new"
        beside.write_text(text)
        beside.replace(RESULTS / file)


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Ratios to the program in bml's style and to NumPyro, and what they are at least.

    Same data, family and weights. Columns: `ratio`, `at_least`; `ratio_numpyro`,
    `at_least_numpyro`.
    """
    same = ["groups", "family", "weights"]
    keys = pd.MultiIndex.from_frame(table[same])
    speed = table["ess_per_cpu_second"]
    for program, end in PEERS.items():
        base = table[table["program"] == program].set_index(same)
        table = table.assign(
            **{
                f"ratio{end}": speed / base["ess_per_cpu_second"].reindex(keys).to_numpy(),
                f"at_least{end}": speed / base["at_most"].reindex(keys).to_numpy(),
            }
        )
    return table


def as_markdown(table: pd.DataFrame) -> str:
    """The table as it is quoted."""
    lines = [
        "| groups | family | weights | program | CPU s | min. ESS (of) | R-hat | Pareto k "
        "| ESS / CPU s | to bml style | to numpyro |",
        "|--:|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        k = "" if np.isnan(row["pareto_k"]) else f"{row['pareto_k']:.2f}"
        doubtful = row["max_rhat"] > CONVERGED or row["min_ess"] < RELIABLE
        mark = r" \*" if doubtful else ""
        lines.append(
            f"| {row['groups']:,} | {row['family']} | {row['weights']} | {row['program']} "
            f"| {row['cpu_seconds']:.3g} | {row['min_ess']:.0f} ({row['of']}){mark} "
            f"| {row['max_rhat']:.3f} | {k} | {row['ess_per_cpu_second']:.3g} "
            f"| {_ratio(row, 'bml style')} | {_ratio(row, 'numpyro')} |"
        )
    lines += [
        "",
        r"\* Too few for a reliable number, or R-hat above 1.1: see the ratios' lower bounds.",
    ]
    return "\n".join(lines) + "\n"


def _above(value: float, other: float) -> bool:
    """Whether a value is larger than another by more than the rounding of kept tables."""
    return value > 1.001 * other


def _ratio(row: dict[str, Any], program: str) -> str:
    """A ratio, and what it is at least where the program's own ESS is not reliable."""
    end = PEERS[program]
    ratio, least = row[f"ratio{end}"], row[f"at_least{end}"]
    if np.isnan(ratio) or row["program"] == program:
        return "" if np.isnan(ratio) else "1"
    return f"{ratio:.3g}" + (f" (at least {least:.2g})" if _above(ratio, least) else "")


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw effective draws per CPU second, a line per model, a mark per program."""
    from matplotlib.figure import Figure

    columns = ["groups", "family", "weights"]
    models = list(dict.fromkeys(table[columns].itertuples(index=False, name=None)))
    figure = Figure(figsize=(7, 0.5 * len(models) + 1.3), layout="constrained")
    axes = figure.subplots()
    for program, mark in MARKS.items():
        rows = table[table["program"] == program]
        if rows.empty:
            continue
        place = [models.index(m) for m in rows[columns].itertuples(index=False, name=None)]
        axes.plot(rows["ess_per_cpu_second"], place, mark, label=program)
    axes.set_yticks(range(len(models)), [f"{n:,} groups, {f}, {w} weights" for n, f, w in models])
    axes.set(xscale="log", xlabel="smallest ESS (b_l1, sigma_l1, b_w) per CPU second")
    axes.margins(y=0.3 / max(1, len(models) - 1))
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(MARKS), frameon=False)
    figure.savefig(path, dpi=150)
