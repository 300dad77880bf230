"""Weights of the members within some groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from rmm.errors import PlotError
from rmm.posterior.plots import check_name
from rmm.posterior.plots.figure import Sheet, in_style, short, shortened
from rmm.posterior.plots.style import INK, LOOKS, RULE
from rmm.posterior.plots.weight_function import weight_table

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

_MOST = 24
_COLUMNS = 3


@in_style
def draw(fit: FitTables, groups: Any = None, block: int = 1) -> Sheet:
    """Posterior mean and 95% interval of each member's weight, a panel per group.

    Parameters
    ----------
    groups : label or sequence of labels, optional
        At most 24; default: the six groups whose weights are farthest from 1/n (dotted line).
    block : int
        Number of the `mm()` block.
    """
    table = weight_table(fit, block)
    names = _chosen(table, groups)
    columns = min(_COLUMNS, len(names))
    parts = [table[table["group"].map(str) == name] for name in names]
    rows = math.ceil(len(parts) / columns)
    tall = [max(len(p) for p in parts[r * columns : (r + 1) * columns]) for r in range(rows)]
    size = (2.9 * columns + 0.4, sum(0.19 * t + 0.45 for t in tall) + 0.5)
    sheet = Sheet(figsize=size, layout="constrained")
    cells = sheet.subplots(
        rows, columns, squeeze=False, sharex=True, height_ratios=[0.19 * t + 0.3 for t in tall]
    )
    for number, cell in enumerate(cells.reshape(-1)):
        cell.set_visible(number < len(parts))
        if number < len(parts):
            _panel(cell, names[number], parts[number], tall[number // columns])
            cell.tick_params(labelbottom=number + columns >= len(parts))
    low = min(0.0, *(float(p["q2.5"].min()) for p in parts))
    high = max(float(p["q97.5"].max()) for p in parts)
    cells[0, 0].set_xlim(low, high + 0.03 * (high - low))  # shared by all panels
    sheet.supxlabel("weight (dotted: 1/n)", fontsize=8)
    return sheet


def _chosen(table: pd.DataFrame, groups: Any) -> list[str]:
    """Labels of the groups to show, as text."""
    labels = table["group"].map(str)
    if groups is None:
        away = (table["mean"] - 1 / table["n"]).abs().groupby(labels).max()
        return [str(g) for g in away.sort_values(ascending=False, kind="stable").index[:6]]
    listed = groups if isinstance(groups, Sequence) and not isinstance(groups, str) else [groups]
    names = list(dict.fromkeys(str(g) for g in listed))
    if not 1 <= len(names) <= _MOST:
        raise PlotError(f"`groups` must name 1 to {_MOST} groups, not {len(names)}.")
    known = list(dict.fromkeys(labels))
    for name in names:
        check_name("a group", name, known)
    return names


def _panel(cell: Any, name: str, part: pd.DataFrame, tall: int) -> None:
    part = part.sort_values("mean", ascending=False, kind="stable")
    at = range(len(part))
    colour = LOOKS[0].colour
    cell.axvline(1 / len(part), color=RULE, lw=1.0, ls=(0, (1, 1.5)), zorder=1)
    cell.hlines(at, part["q2.5"], part["q97.5"], color=colour, lw=1.4)
    cell.plot(part["mean"], at, "o", color="white", mec=INK, mew=0.9, ms=4.2, zorder=3)
    cell.set_yticks(list(at), shortened(part["member"].tolist(), 24))
    cell.set_ylim(tall - 0.4, -0.6)  # the same distance between members in all panels of a row
    cell.tick_params(axis="y", length=0)
    cell.spines["left"].set_visible(False)
    cell.locator_params(axis="x", nbins=5)
    cell.set_title(short(name, 34), loc="left", fontweight="bold", color=INK)
