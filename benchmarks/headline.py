"""Draw the README's figure from the kept measures of the study `three_way_contrast`.

usage: .venv/bin/python benchmarks/headline.py [OUT.svg]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from rmm.posterior.plots.style import SETTINGS, looks_of
from rmm.study.measures.proportions import acceptance_band, wilson

mpl.use("Agg")

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "reference" / "three_way_contrast"
OUT = ROOT / "docs" / "figures" / "three_way_contrast.svg"
SAID = {
    "aggregation": "aggregation: members averaged",
    "disaggregation": "disaggregation: outcome copied",
    "mmmm": "multiple membership",
}
PARAMETER, ALPHA = "b_l1[x]", 0.05


def rejections() -> pd.DataFrame:
    """Family, method, value, mcse and n of the rejections of the true null hypothesis."""
    table = pd.read_parquet(KEPT / "performance.parquet")
    scenarios = pd.read_parquet(KEPT / "scenarios.parquet")
    kept = table[
        (table["parameter"] == PARAMETER)
        & (table["measure"] == "rejection")
        & (table["policy"] == "per_method")
        & ((table["alpha"] - ALPHA).abs() < 1e-9)
    ]
    # In the order of the study file.
    return scenarios.merge(kept, on="scenario")[["family", "method", "value", "mcse", "n"]]


def draw(table: pd.DataFrame) -> Any:
    """Rates with Wilson intervals, by family; the band of a correct test."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    families, looks = list(dict.fromkeys(table["family"])), looks_of(list(SAID))
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    cell = figure.subplots()
    low, high = acceptance_band(ALPHA, int(table["n"].min()))
    cell.axhspan(low, high, color="#dcdcdc", lw=0, zorder=0)
    cell.axhline(ALPHA, color="#555555", lw=0.8, zorder=1)
    for number, (method, label) in enumerate(SAID.items()):
        rows = table[table["method"] == method].set_index("family").loc[families]
        at = [k + 0.27 * (number - 1) for k in range(len(families))]
        look = looks[method]
        ends = [wilson(p, n) for p, n in zip(rows["value"], rows["n"], strict=True)]
        bars = np.abs(np.transpose(ends) - rows["value"].to_numpy())
        cell.errorbar(
            at,
            rows["value"],
            yerr=bars,
            color=look.colour,
            marker=look.marker,
            ms=6,
            ls="none",
            capsize=3,
            label=label,
        )
        for x, value in zip(at, rows["value"], strict=True):
            text = cell.annotate(
                f"{value:.3f}".lstrip("0"),
                (x, value),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            if abs(value - ALPHA) < 0.005:  # the line would strike it out
                text.set_path_effects([withStroke(linewidth=3, foreground="#dcdcdc")])
    cell.set_xticks(range(len(families)), families)
    cell.set_xlim(-0.5, len(families) - 0.4)
    cell.set_ylim(0, None)
    cell.set_ylabel("a true null hypothesis is rejected")
    at = (-0.46, ALPHA)
    cell.annotate(
        f"nominal {ALPHA:g}",
        at,
        ha="left",
        va="bottom",
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=8,
        color="#555555",
    )
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8, handletextpad=0.3)
    return figure


def main(out: Path) -> None:
    """Write the figure."""
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": "headline"}):
        figure = draw(rejections())
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, metadata={"Date": None, "Creator": None})
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
