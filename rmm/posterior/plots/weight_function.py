"""Weights over a variable of the weight function, a panel per group size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.errors import PlotError
from rmm.posterior.plots import check_name
from rmm.posterior.plots.figure import Sheet, in_style
from rmm.posterior.plots.style import INK, LOOKS, RULE

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

_MOST_PANELS = 9


@in_style
def draw(fit: FitTables, block: int = 1, variable: str | None = None) -> Sheet:
    """Posterior mean and 95% interval of each weight over a weight variable.

    A panel per group size, the most frequent sizes where there are more than nine; the dotted
    line is 1/n, the weight of a plain mean.

    Parameters
    ----------
    block : int
        Number of the `mm()` block.
    variable : str, optional
        A column of the weight function; default: the first that varies within groups.
    """
    table = weight_table(fit, block)
    name = _variable(fit, block, variable)
    x = pd.to_numeric(fit.model.grouped.frame[name]).astype(float)
    table = table.assign(x=x.reindex(table.index))
    sizes = table["n"].value_counts()
    sizes = sizes[sizes.index > 1] if (sizes.index > 1).any() else sizes
    shown = sorted(sizes.index[:_MOST_PANELS])
    columns = min(2 if len(shown) == 4 else 3, len(shown))
    rows = math.ceil(len(shown) / columns)
    sheet = Sheet(figsize=(2.5 * columns + 0.6, 2.0 * rows + 0.6), layout="constrained")
    cells = sheet.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).reshape(-1)
    for cell in cells[len(shown) :]:
        cell.set_visible(False)
    for number, (cell, size) in enumerate(zip(cells, shown, strict=False)):
        _panel(cell, table[table["n"] == size], int(size))
        cell.tick_params(labelbottom=number + columns >= len(shown))
    sheet.supxlabel(name, fontsize=8)
    sheet.supylabel("weight", fontsize=8)
    note = "" if len(shown) == len(sizes) else f"; the {len(shown)} most frequent sizes"
    sheet.suptitle(
        f"Weights of {fit.model.spec.members[block - 1].weight.text}{note}",
        x=0.01,
        ha="left",
        fontsize=8.5,
        fontweight="bold",
        color=INK,
    )
    return sheet


def weight_table(fit: FitTables, block: int) -> pd.DataFrame:
    """`Fit.weights` with the group size `n`."""
    table = fit.weights(block)
    return table.assign(n=table.groupby("group")["member"].transform("size"))


def _variable(fit: FitTables, block: int, variable: str | None) -> str:
    weight = fit.model.spec.members[block - 1].weight
    if not weight.variables:
        raise PlotError(
            f"The weight function `{weight.text}` uses no column of the data, so there is nothing "
            'to plot the weights against. Plot the weights of the groups: plot_weights("groups").'
        )
    if variable is not None:
        check_name("a weight variable", variable, weight.variables)
        return variable
    frame = fit.model.grouped.frame
    code = fit.model.grouped.groups.code
    varying = [c for c in weight.variables if frame[c].groupby(code).nunique().max() > 1]
    return (varying or list(weight.variables))[0]


def _panel(cell: Any, part: pd.DataFrame, size: int) -> None:
    many = len(part)
    faint = float(np.clip(60 / many, 0.12, 0.8))
    colour = LOOKS[0].colour
    cell.axhline(1 / size, color=RULE, lw=1.0, ls=(0, (1, 1.5)), zorder=1)
    if (part["sd"] > 0).any():
        cell.vlines(part["x"], part["q2.5"], part["q97.5"], color=colour, lw=0.8, alpha=faint)
    cell.plot(
        part["x"],
        part["mean"],
        "o",
        color=colour,
        ms=2.6 if many > 60 else 3.6,
        mew=0,
        alpha=max(0.5, faint),
        zorder=3,
    )
    cell.set_title(f"{size} members ({many // size} groups)", loc="left", color=INK)
    cell.set_ylim(bottom=min(0.0, float(part["q2.5"].min())))
    cell.locator_params(axis="both", nbins=5)
