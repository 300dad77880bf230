"""Tables and figure of docs/studies/honest-errors.md from the kept measures of four studies.

usage: .venv/bin/python benchmarks/flagship_errors.py

Draws docs/figures/honest_errors.svg, and writes the tables of the page between their marks,
`<!-- table: NAME -->` and `<!-- end of table -->`. The memberships of the real designs are read
from ../shared/data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import flagship_pages
import matplotlib as mpl
import numpy as np
import pandas as pd
from flagship_pages import FIGURES, KEPT, PAGES, ROOT
from scipy import sparse

from rmm.posterior.plots.style import INK, SETTINGS, looks_of
from rmm.study import load_study
from rmm.study.design.closed_forms import SharedMembersEffect, shared_members_effect
from rmm.study.design.scenarios import Scenario
from rmm.study.measures.proportions import acceptance_band, wilson
from rmm.study.run.replicate import draw_replication

mpl.use("Agg")

FIGURE = FIGURES / "honest_errors.svg"
PAGE = PAGES / "honest-errors.md"

SYNTHETIC, RULE = "honest_errors", "honest_errors_rule"
COALITIONS, SCHOOLS = "honest_errors_coalitions", "honest_errors_schools"
#: Studies of the rule of thumb -> their words.
STUDIES = {RULE: "synthetic", COALITIONS: "coalitions", SCHOOLS: "schools"}
#: Method -> its words, in the order of tables.
METHODS = {
    "least_squares": "least squares on averages",
    "hc3": "the same, HC3 errors",
    "shared_members": "the same, errors robust to shared members",
    "cluster_country": "the same, errors clustered by country",
    "cluster_group": "copied outcome, errors clustered by group",
    "cluster_member": "copied outcome, errors clustered by member",
    "two_way": "copied outcome, clustered by group and member",
    "wild_bootstrap": "copied outcome, wild bootstrap by member",
    "gee": "copied outcome, GEE by member",
    "reml_z": "multiple membership, REML, z test",
    "reml_t": "multiple membership, REML, t test",
    "mm": "multiple membership, Bayesian, weights 1/n",
    "mmmm": "multiple membership, Bayesian, estimated weights",
}
PARAMETER = "b_l1[x]"
#: The line of designs that the figure shows, over numbers of members.
LINE = {"groups": 200, "activity": 0, "sd": 1, "effect": 0}
_DRAWS = 20  # of memberships, for the mean of the rule


def measured(study: str, measure: str, folder: Path = KEPT) -> pd.DataFrame:
    """Rows of one measure of the slope, with the factors of the scenarios."""
    return flagship_pages.measured(study, measure, PARAMETER, folder).assign(study=study)


def rates_at_null(folder: Path = KEPT) -> pd.DataFrame:
    """Rejection rates of a true null hypothesis: all studies, scenarios and methods."""
    found = pd.concat([measured(study, "rejection", folder) for study in (SYNTHETIC, *STUDIES)])
    return found[found["effect"].isin([0, np.nan])].reset_index(drop=True)


def on_line(rates: pd.DataFrame) -> pd.DataFrame:
    """Rows of the line of designs over numbers of members."""
    return rates[(rates[list(LINE)] == pd.Series(LINE)).all(axis=1)]


# -- the rule of thumb -------------------------------------------------------------------------


def effect_of(seed: int, scenario: Scenario, replication: int) -> tuple[SharedMembersEffect, float]:
    """Design effect of the memberships of one data set, and its groups per member."""
    drawn = draw_replication(seed, scenario, replication)
    m, b = drawn.memberships, drawn.truth.parameters
    members = len(np.unique(m.member))
    shares = sparse.csr_array((1 / m.size[m.group], (m.group, m.member)))
    return shared_members_effect(shares, b["sigma_l1"] / b["sigma_l2"]), len(m.size) / members


@cache
def rule(name: str) -> pd.DataFrame:
    """Scenario -> what the rule expects of least squares, without any fit.

    `size` is the rejection rate by the design effect, `simple` that by 1 + icc x groups / members.
    Means over data sets where memberships are drawn for each.
    """
    study = load_study(ROOT / "config" / "studies" / f"{name}.yaml")
    rows = []
    for scenario in study.scenarios:
        draws = _DRAWS if name == RULE else 1
        found = [effect_of(study.seed, scenario, r) for r in range(1, draws + 1)]
        simple = [SharedMembersEffect(0, e.icc, 1 + e.icc * ratio) for e, ratio in found]
        rows.append(
            {
                "scenario": scenario.id,
                "icc": np.mean([e.icc for e, _ in found]),
                "per_member": np.mean([ratio for _, ratio in found]),
                "effective": np.mean([e.effective_members for e, _ in found]),
                "design_effect": np.mean([e.design_effect for e, _ in found]),
                "size": np.mean([e.size() for e, _ in found]),
                "simple": np.mean([e.size() for e in simple]),
            }
        )
    return pd.DataFrame(rows)


def rule_and_rates(folder: Path = KEPT) -> pd.DataFrame:
    """Rates of least squares, and of errors clustered by member, beside those of the rule."""
    rates = rates_at_null(folder)
    rates = rates[rates["study"] != SYNTHETIC]
    clustered = rates[rates["method"] == "cluster_member"].set_index(["study", "scenario"])
    rates = rates[rates["method"] == "least_squares"].join(
        clustered[["value", "mcse"]].add_prefix("member_"), on=["study", "scenario"]
    )
    rules = pd.concat([rule(name).assign(study=name) for name in STUDIES])
    return rates.merge(rules, on=["study", "scenario"])


# -- tables ------------------------------------------------------------------------------------


def number(value: float, error: float) -> str:
    """Such as ``.174 (.011)``; a rate of 0 or 1 has no error."""
    if np.isnan(value):
        return "–"
    text = f"{value:.3f}".removeprefix("0")
    return text if np.isnan(error) else f"{text} ({f'{error:.3f}'.removeprefix('0')})"


def column(rows: pd.DataFrame) -> dict[str, str]:
    """Method -> its rate, with the share of data sets that it lost where that is 1% or more."""
    cells = {}
    for row in rows.itertuples():
        lost = (row.n_failed + row.n_not_converged) / (row.n + row.n_failed + row.n_not_converged)
        note = f", {100 * lost:.0f}% lost" if lost >= 0.01 else ""
        cells[row.method] = number(row.value, row.mcse) + note
    return cells


def methods_table(columns: dict[str, dict[str, str]]) -> str:
    """A row for each method."""
    lines = [f"| analysis | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for method, words in METHODS.items():
        if any(method in cells for cells in columns.values()):
            cells = " | ".join(one.get(method, "–") for one in columns.values())
            lines.append(f"| {words} | {cells} |")
    return "\n".join(lines)


def members_table(folder: Path = KEPT) -> str:
    """Type-I error over numbers of members, with skewed activity, and in the real designs."""
    rates = rates_at_null(folder)
    columns = {
        f"{int(members)} members": column(rows)
        for members, rows in on_line(rates).groupby("members")
    }
    skewed = rates[(rates["study"] == SYNTHETIC) & (rates["activity"] == 1)]
    for members, rows in skewed.groupby("members"):
        columns[f"{int(members)}, skewed activity"] = column(rows)
    for study in (COALITIONS, SCHOOLS):
        columns[STUDIES[study]] = column(rates[rates["study"] == study])
    return methods_table(columns)


def power_table(folder: Path = KEPT) -> str:
    """Power and size-adjusted power, and in brackets their Monte Carlo errors."""
    columns = {}
    for study in (SYNTHETIC, COALITIONS):
        for measure, words in (("rejection", "power"), ("size_adjusted_power", "size-adjusted")):
            found = measured(study, measure, folder)
            rows = found[found["effect"] != 0]
            members = int(rows["members"].iloc[0]) if study == SYNTHETIC else 0
            name = f"{members} members" if members else "coalitions"
            columns[f"{name}: {words}"] = column(rows)
    return methods_table(columns)


def design_words(row: Any) -> str:
    """A scenario in a few words."""
    if row.study != RULE:
        return f"{STUDIES[row.study]}, sd {row.sd:g}"
    return (
        f"{int(row.members)} members, {int(row.groups)} groups, activity {row.activity:g}, "
        f"sd {row.sd:g}"
    )


def rule_table(folder: Path = KEPT) -> str:
    """The rule beside simulated rates."""
    lines = [
        "| design | ICC | G/M | effective members | design effect | rule | short form | "
        "least squares | clustered by member |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found = rule_and_rates(folder)
    for row in found.sort_values(["members", "groups", "activity", "sd"]).itertuples():
        cells = [
            design_words(row),
            f"{row.icc:.2f}".removeprefix("0"),
            f"{row.per_member:.1f}",
            f"{row.effective:,.0f}",
            f"{row.design_effect:.2f}",
            number(row.size, np.nan),
            number(row.simple, np.nan),
            number(row.value, row.mcse),
            number(row.member_value, row.member_mcse),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


#: Tables of the page by name.
TABLES: dict[str, Callable[[], str]] = {
    "members": members_table,
    "power": power_table,
    "rule": rule_table,
}


# -- figure ------------------------------------------------------------------------------------

#: Panels over the members: heading, largest rate, methods.
PANELS = (
    (
        "ignore members, or sum over all pairs",
        ("least_squares", "hc3", "cluster_group", "shared_members"),
    ),
    (
        "cluster by member, or model the members",
        ("cluster_member", "two_way", "wild_bootstrap", "reml_z", "reml_t", "mm", "mmmm"),
    ),
)


def draw(folder: Path = KEPT) -> Any:
    """Type-I error over the members in two panels, and the rule beside simulated rates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.3), layout="constrained")
    axes = figure.subplots(1, 3)
    rates = rates_at_null(folder)
    line = on_line(rates)
    looks = looks_of(list(METHODS))
    for one, (heading, methods) in zip(axes, PANELS, strict=False):
        _band(one, int(line[line["method"].isin(methods)]["n"].min()))
        for place, method in enumerate(methods):
            rows = line[line["method"] == method].sort_values("members")
            at = rows["members"] * 1.03 ** (place - len(methods) / 2)
            look = looks[method]
            ends = [wilson(p, n) for p, n in zip(rows["value"], rows["n"], strict=True)]
            bars = np.abs(np.transpose(ends) - rows["value"].to_numpy())
            one.errorbar(
                at,
                rows["value"],
                yerr=bars,
                color=look.colour,
                marker=look.marker,
                ls=look.line,
                lw=1,
                ms=5,
                elinewidth=0.8,
                label=METHODS[method].replace("the same, ", "").replace("copied outcome, ", ""),
            )
        one.set_xscale("log")
        ticks = sorted(line["members"].unique())
        one.set_xticks(ticks, [f"{int(k)}" for k in ticks])
        one.minorticks_off()
        one.set_xlabel("members (200 groups of three)")
        one.set_ylim(0, None)
        one.set_title(heading)
        one.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=7.5)
    axes[0].set_ylabel("a true null hypothesis is rejected")
    _draw_rule(axes[2], rule_and_rates(folder))
    return figure


def _band(axes: Any, n: int) -> None:
    low, high = acceptance_band(0.05, n)
    axes.axhspan(low, high, color="#dcdcdc", lw=0, zorder=0)
    axes.axhline(0.05, color="#555555", lw=0.8, zorder=1)


def _draw_rule(axes: Any, found: pd.DataFrame) -> None:
    """Simulated rates of least squares over those of the rule."""
    looks = looks_of(list(STUDIES))
    top = 1.1 * float(found[["size", "value"]].max().max())
    axes.plot([0, top], [0, top], color=INK, lw=0.8)
    for study, words in STUDIES.items():
        rows, look = found[found["study"] == study], looks[study]
        ends = [wilson(p, n) for p, n in zip(rows["value"], rows["n"], strict=True)]
        bars = np.abs(np.transpose(ends) - rows["value"].to_numpy())
        axes.errorbar(
            rows["size"],
            rows["value"],
            yerr=bars,
            color=look.colour,
            marker=look.marker,
            ls="none",
            ms=5,
            elinewidth=0.8,
            label=f"{words}, by effective members",
        )
        axes.plot(
            rows["simple"],
            rows["value"],
            ls="none",
            marker=look.marker,
            ms=5,
            mfc="none",
            color=look.colour,
            label=f"{words}, by groups per member",
        )
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("expected by the rule of thumb")
    axes.set_title("least squares: simulated and expected")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=7.5)


def main() -> None:
    """Draw the figure and write the tables."""
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": "honest errors"}):
        draw().savefig(FIGURE, metadata={"Date": None, "Creator": None})
    print(FIGURE)
    flagship_pages.write_tables(PAGE, TABLES)


if __name__ == "__main__":
    main()
