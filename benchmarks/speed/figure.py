"""The figure of the kept results: CPU time of a fit, relative to lme4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from benchmarks.speed.problems import PROBLEMS
from benchmarks.speed.records import heading, ratios
from benchmarks.speed.tables import number
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
    "gaussian": "Gaussian, 120 groups, 30 members",
    "others": "rmm, weights estimated, posterior; 100 groups, 40 members",
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
    for axis, program in zip(axes, ("lmer", "glmer"), strict=True):
        _note(axis, f"faster   |   slower than {program}")
    figure.supxlabel(
        "CPU time of a complete fit, divided by that of lme4's point estimate with known weights\n"
        "(gaussian: lmer on the same data; other families: glmer on the binomial data)",
        fontsize=9,
    )
    figure.suptitle(
        "CPU time of a fit relative to lme4 (lme4 = 1)", x=0.01, ha="left", fontweight="bold"
    )
    if tables:
        handles = [_handle(name) for name in tables]
        axes[0].legend(handles=handles, loc="upper right", frameon=False)
    return figure


def _note(axis: Any, text: str) -> None:
    """Write above a panel which side of the line is fast; the first bar is on the line."""
    before, after = text.split("|")
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
    axis.annotate(before, (1, 1), xytext=(-2, 2), ha="right", color=RULE, **place)
    axis.annotate(after, (1, 1), xytext=(2, 2), ha="left", color=RULE, **place)


def _panel(axis: Any, runs: dict[str, dict[str, pd.Series]], labels: list[str]) -> None:
    from matplotlib.patheffects import withStroke

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
            text = axis.annotate(
                number(row["ratio"]),
                (row["ratio"], place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK,
            )
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])
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
        label=heading(name),
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
