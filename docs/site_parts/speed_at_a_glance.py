"""Speed at a glance: one figure and one sentence a family, from kept benchmarks.

usage: PYTHONPATH=docs .venv/bin/python -m site_parts.speed_at_a_glance     (draws the figure)
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd

from rmm.posterior.plots.style import INK, RULE, SETTINGS, looks_of
from site_parts.pages import ROOT

RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "figures" / "speed_at_a_glance.svg"
FAMILIES = {
    "gaussian": "continuous (`gaussian`)",
    "binomial": "binary (`binomial`)",
    "weibull": "duration (`weibull`)",
    "cox": "duration (`cox`)",
    "condlogit": "choice (`condlogit`)",
}
PROGRAMS = {
    "laplace": "rmm, `laplace`",
    "numpyro": "NumPyro",
    "bml style": "JAGS, a program in the style of bml",
}


def fits() -> pd.DataFrame:
    """CPU seconds and effective draws of one fit to 628 real governments, by family and program."""
    found = pd.read_csv(RESULTS / "coalitions_peers.csv")
    found = found[(found["weights"] == "estimated") & found["program"].isin(list(PROGRAMS))]
    return found.set_index(["family", "program"])[["groups", "cpu_seconds", "min_ess", "max_rhat"]]


def largest() -> pd.DataFrame:
    """The largest measured fit of each family with one weight coefficient, members in nations."""
    found = pd.read_csv(RESULTS / "large_growth.csv")
    found = found[(found["structure"] == "nations") & (found["coefficients"] == 1)]
    return found.sort_values("groups").groupby("family").last()


def seconds(value: float) -> str:
    """Two digits: 0.072 s, 6.5 s, 139 s."""
    return f"{value:.0f} s" if value >= 10 else f"{value:#.2g} s"


def sentences() -> str:
    """One item of a list for each family."""
    found, large, lines = fits(), largest(), []
    for family, words in FAMILIES.items():
        others = []
        for program, label in PROGRAMS.items():
            row = found.loc[(family, program)]
            draws = f"{row['min_ess']:.0f} effective draws"
            lost = ", not converged" if row["max_rhat"] > 1.1 else ""
            name = label.split(",")[0]
            others.append(f"{name} {seconds(row['cpu_seconds'])} ({draws}{lost})")
        big = large.loc[family]
        lines.append(
            f"* **{words[0].upper()}{words[1:]}**: {'; '.join(others)}. With {big['groups']:,} "
            f"groups, `laplace` takes {seconds(big['cpu_seconds'])}."
        )
    return "\n".join(lines)


def draw() -> Any:
    """Seconds on a log scale: a row for each family, a mark for each program."""
    from matplotlib.figure import Figure

    found, looks = fits(), looks_of(list(PROGRAMS))
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    cell = figure.subplots()
    for place, family in enumerate(FAMILIES):
        times = found.loc[family]["cpu_seconds"]
        cell.plot([times.min(), times.max()], [place, place], color=RULE, lw=0.8, zorder=0)
        for program, look in looks.items():
            x = times[program]
            cell.plot(x, place, look.marker, color=look.colour, ms=7)
            cell.annotate(
                seconds(x), (x, place), xytext=(0, 7), textcoords="offset points",
                ha="center", size=8, color=INK,
            )  # fmt: skip
    for program, look in looks.items():
        label = PROGRAMS[program].replace("`", "")
        cell.plot([], [], look.marker, color=look.colour, label=label)
    cell.set_xscale("log")
    cell.set_xlim(0.04, 300)
    cell.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    cell.set_yticks(range(len(FAMILIES)), [w.replace("`", "") for w in FAMILIES.values()])
    cell.set_ylim(len(FAMILIES) - 0.5, -0.7)
    cell.set_xlabel("CPU seconds of one fit, 628 governments, estimated weights")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure


def write() -> None:
    """Write the figure as SVG."""
    mpl.use("Agg")
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": FIGURE.stem}):
        draw().savefig(FIGURE, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    write()
