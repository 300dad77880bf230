"""The figure of the kept results: CPU time of a fit, relative to lme4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from benchmarks.speed.problems import PROBLEMS
from benchmarks.speed.records import ratios
from benchmarks.speed.tables import RUNS, number
from rmm.posterior.plots.style import INK, LOOKS, RULE, SETTINGS

mpl.use("Agg")

#: Part, program, weights -> label of a row in the panel of the gaussian problem.
GAUSSIAN_ROWS = {
    ("fit", "SciPy REML", "fixed"): "REML in SciPy\nweights known, point estimate",
    ("fit", "rmm", "fixed"): "rmm\nweights known, posterior",
    ("fit", "rmm", "estimated"): "rmm\nweights estimated, posterior",
    ("workflow", "rmm", "fixed"): "rmm, weights known\nper fit of a study, all included",
    ("workflow", "rmm", "estimated"): "rmm, weights estimated\nper fit of a study, all included",
}
PANELS = {
    "gaussian": "Gaussian, 120 groups of 3 from 30 members: CPU time per fit, lmer = 1",
    "others": "100 groups of 3 from 40 members, rmm with estimated weights: glmer (binomial) = 1",
}
#: Before a change: open; after it: filled.
EARLIER = "speed_before"


def rows_of(panel: str, table: pd.DataFrame) -> dict[str, pd.Series]:
    """Return label -> row of the ratios that a panel shows, in order."""
    ours = table["program"] != "lme4"
    if panel == "gaussian":
        found = table[ours & (table["problem"] == "gaussian")]
        rows = {(r["part"], r["program"], r["weights"]): r for _, r in found.iterrows()}
        return {label: rows[key] for key, label in GAUSSIAN_ROWS.items() if key in rows}
    found = table[ours & (table["problem"] != "gaussian") & (table["weights"] == "estimated")]
    return {PROBLEMS[r["problem"]].title.replace(", ", ",\n", 1): r for _, r in found.iterrows()}


def draw(runs: dict[str, pd.DataFrame]) -> Any:
    """Return the figure: one panel per unit, one mark per program and run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    tables = {name: ratios(table) for name, table in runs.items()}
    tables = {name: table for name, table in tables.items() if table["ratio"].notna().any()}
    contents = {p: {n: rows_of(p, t) for n, t in tables.items()} for p in PANELS}
    labels = {
        p: list(dict.fromkeys(k for rows in c.values() for k in rows)) for p, c in contents.items()
    }
    heights = [len(labels[p]) + 0.9 for p in PANELS]
    figure = Figure(figsize=(7.4, 0.42 * sum(heights) + 1.5), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
    for axis, panel in zip(axes, PANELS, strict=True):
        _panel(axis, contents[panel], labels[panel])
        axis.set_title(PANELS[panel], color=INK, pad=16, x=0, fontweight="bold")
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(axis="x", color="#e6e6e6", lw=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
    low, high = axes[0].get_xlim()
    axes[0].set_xlim(min(low, 0.08), max(high * 1.5, 12))
    for axis in axes:
        axis.annotate(
            "faster than lme4  ",
            (1, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=RULE,
        )
        axis.annotate(
            "  slower",
            (1, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left",
            fontsize=8,
            color=RULE,
        )
    axes[-1].set_xlabel("CPU time, relative to lme4 in the same run (logarithmic axis)")
    if len(tables) > 1:
        handles = [_handle(name) for name in tables]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(handles), frameon=False
        )
    return figure


def _panel(axis: Any, runs: dict[str, dict[str, pd.Series]], labels: list[str]) -> None:
    axis.axvline(1, color=INK, lw=1.2, zorder=1)
    for name, rows in runs.items():
        look = LOOKS[0]
        for label, row in rows.items():
            place, colour = (
                labels.index(label),
                LOOKS[4].colour if row["program"] != "rmm" else look.colour,
            )
            axis.plot(
                [row["low"], row["high"]], [place] * 2, color=colour, lw=2.5, alpha=0.5, zorder=2
            )
            axis.plot(
                row["ratio"],
                place,
                "o",
                ms=8,
                mec=colour,
                mew=1.6,
                zorder=3,
                mfc="white" if name == EARLIER else colour,
            )
            axis.annotate(
                number(row["ratio"]),
                (row["ratio"], place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK,
            )
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.75)


def _handle(name: str) -> Any:
    from matplotlib.lines import Line2D

    colour = LOOKS[0].colour
    return Line2D(
        [],
        [],
        marker="o",
        ls="none",
        ms=8,
        mec=colour,
        mew=1.6,
        label=RUNS[name],
        mfc="white" if name == EARLIER else colour,
    )


def write(runs: dict[str, pd.DataFrame], path: Path) -> None:
    """Save the figure."""
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": "speed"}):
        draw(runs).savefig(
            path,
            dpi=150,
            metadata={"Software": None}
            if path.suffix == ".png"
            else {"Date": None, "Creator": None},
        )
