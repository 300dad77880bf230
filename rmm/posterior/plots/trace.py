"""Density and trace in one panel per parameter, after R rmm's `monetPlot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.posterior.diagnostics.summary import ESS_OF_WEIGHTS, ESS_PER_CHAIN, RHAT_LIMIT
from rmm.posterior.plots.figure import Drawn, Sheet, chosen, density, in_style, number, shortened
from rmm.posterior.plots.style import FILL, INK, LOOKS

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

_MOST = 60
_ONE_COLUMN = 8  # more parameters than this stand in two columns
_ROW, _WIDTH = 1.05, 6.4  # inches


@in_style
def draw(fit: FitTables, parameters: str | Sequence[str] | None = None) -> Sheet:
    """Density of the draws on the left, trace of the chains on the right, a row per parameter.

    Below each density: posterior mean and 95% interval. Each chain has its own thin line, so that
    chains that disagree are seen. R-hat above 1.01 and ESS below 100 per chain are in red.

    Parameters
    ----------
    parameters : str or sequence of str, optional
        Elements (``b_l1[x]``) or whole vectors (``u_l1``); default: all of the summary.
    """
    shown = chosen(fit, parameters, _MOST)
    columns = 1 if len(shown) <= _ONE_COLUMN else 2
    rows = math.ceil(len(shown) / columns)
    sheet = Sheet(figsize=(_WIDTH * columns, _ROW * rows + 0.45), layout="constrained")
    ratios = [1.0, 1.6] * columns
    cells = sheet.subplots(rows, 2 * columns, squeeze=False, width_ratios=ratios)
    positive = {p.name for p in fit.model.spec.parameters if p.support == "positive"}
    names = shortened([one.name for one in shown], 46)
    for place in range(rows * columns):
        column, row = divmod(place, rows)
        left, right = cells[row, 2 * column], cells[row, 2 * column + 1]
        if place >= len(shown):
            left.set_visible(False)
            right.set_visible(False)
            continue
        one = shown[place]
        last = row == rows - 1 or place == len(shown) - 1
        _density(left, one, 0.0 if one.name.partition("[")[0] in positive else None)
        _trace(right, one, last)
        _headline(left, right, names[place], one)
    return sheet


def _density(cell: Any, one: Drawn, low: float | None) -> None:
    grid, height = density(one.flat, low)
    cell.fill_between(grid, height, color=FILL, lw=0)
    top = float(height.max())
    for chain, look in zip(one.draws, _looks(len(one.draws)), strict=True):
        x, y = density(chain, low)
        cell.plot(x, y, color=look.colour, ls=look.line, lw=0.7)
        top = max(top, float(y.max()))
    at = -0.12 * top
    cell.plot(
        [one.row["q2.5"], one.row["q97.5"]], [at, at], color=INK, lw=1.6, solid_capstyle="butt"
    )
    cell.plot([one.row["mean"]], [at], "o", color=INK, ms=4.5)
    cell.set_ylim(-0.24 * top, 1.08 * top)
    cell.set_yticks([])
    cell.spines["left"].set_visible(False)
    cell.locator_params(axis="x", nbins=4)


def _trace(cell: Any, one: Drawn, last: bool) -> None:
    at = np.arange(1, one.draws.shape[1] + 1)
    for chain, look in zip(one.draws, _looks(len(one.draws)), strict=True):
        cell.plot(at, chain, color=look.colour, lw=0.45, alpha=0.75, rasterized=True)
    cell.set_xlim(1, max(2, len(at)))
    cell.locator_params(axis="y", nbins=3)
    cell.locator_params(axis="x", nbins=5)
    cell.tick_params(labelbottom=last)
    if last:
        cell.set_xlabel("kept draw")


def _looks(chains: int) -> list[Any]:
    return [LOOKS[i % len(LOOKS)] for i in range(chains)]


def _headline(left: Any, right: Any, name: str, one: Drawn) -> None:
    """Name on the left; mean, interval, R-hat and ESS on the right."""
    row = one.row
    left.set_title(name, loc="left", fontweight="bold", color=INK)
    ess = float(min(row["ess_bulk"], row["ess_tail"]))
    weighted = bool(np.isnan(row["rhat"]) and len(one.draws) > 1)  # of chains R-hat is known
    mixed = "" if weighted else f"R-hat {row['rhat']:.3f}   "
    wanted = ESS_OF_WEIGHTS if weighted else ESS_PER_CHAIN * len(one.draws)
    bad = not ((weighted or row["rhat"] <= RHAT_LIMIT) and ess >= wanted)
    right.set_title(
        f"{number(row['mean'])} [{number(row['q2.5'])}, {number(row['q97.5'])}]   "
        f"{mixed}ESS {ess:.0f}",
        loc="right",
        fontsize=7.5,
        color=LOOKS[1].colour if bad else INK,
        fontweight="bold" if bad else "normal",
    )
