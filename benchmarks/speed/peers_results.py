"""The kept results of `peers`: table, Markdown and figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.speed.records import RESULTS

MARKS = {"bml style": "x", "jags": "o", "stan": "s", "numpyro": "^", "laplace": "D"}


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
    """`ratio` to the program in bml's style, same data, family and weights, and `at_least`."""
    same = ["groups", "family", "weights"]
    base = table[table["program"] == "bml style"].set_index(same)
    keys = pd.MultiIndex.from_frame(table[same])
    speed = table["ess_per_cpu_second"]
    return table.assign(
        ratio=speed / base["ess_per_cpu_second"].reindex(keys).to_numpy(),
        at_least=speed / base["at_most"].reindex(keys).to_numpy(),
    )


def as_markdown(table: pd.DataFrame) -> str:
    """The table as it is quoted."""
    lines = [
        "| groups | family | weights | program | CPU s | min. ESS (of) | R-hat | Pareto k "
        "| ESS / CPU s | ratio |",
        "|--:|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        ratio = "" if np.isnan(row["ratio"]) else f"{row['ratio']:.3g}"
        if ratio and row["at_least"] < row["ratio"] and row["program"] != "bml style":
            ratio += f" (at least {row['at_least']:.2g})"
        k = "" if np.isnan(row["pareto_k"]) else f"{row['pareto_k']:.2f}"
        lines.append(
            f"| {row['groups']:,} | {row['family']} | {row['weights']} | {row['program']} "
            f"| {row['cpu_seconds']:.1f} | {row['min_ess']:.0f} ({row['of']}) "
            f"| {row['max_rhat']:.3f} | {k} | {row['ess_per_cpu_second']:.3g} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw effective draws per CPU second, a line per model, a mark per program."""
    from matplotlib.figure import Figure

    columns = ["groups", "family", "weights"]
    models = list(dict.fromkeys(table[columns].itertuples(index=False, name=None)))
    figure = Figure(figsize=(7, 0.5 * len(models) + 1.3), layout="constrained")
    axes = figure.subplots()
    for program, mark in MARKS.items():
        rows = table[(table["program"] == program)]
        place = [models.index(m) for m in rows[columns].itertuples(index=False, name=None)]
        axes.plot(rows["ess_per_cpu_second"], place, mark, label=program)
    axes.set_yticks(range(len(models)), [f"{n:,} groups, {f}, {w} weights" for n, f, w in models])
    axes.set(xscale="log", xlabel="smallest ESS (b_l1, sigma_l1, b_w) per CPU second")
    axes.margins(y=0.3 / max(1, len(models) - 1))
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
