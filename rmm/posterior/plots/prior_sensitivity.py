"""Sensitivity to priors and likelihood, and how far other priors move each mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter

from rmm.errors import PlotError
from rmm.posterior.plots import check_name
from rmm.posterior.plots.figure import Sheet, in_style, shortened
from rmm.posterior.plots.style import INK, LOOKS, RULE

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

_MOST, _ROW = 60, 0.24  # parameters; inches
_LEAST = 1e-3  # sensitivities below it are shown there


@in_style
def draw(
    fit: FitTables,
    parameters: str | Sequence[str] | None = None,
    priors: str | Sequence[str] | None = None,
    refit: bool = False,
) -> Sheet:
    """Left: sensitivity to the priors and to the likelihood, with the limit 0.05.

    Right: the posterior mean with the priors to the power 1/2 (weaker) and 2 (stronger), in
    posterior standard deviations from the mean of the fit. Missing where Pareto k is too large.

    Parameters
    ----------
    parameters : str or sequence of str, optional
        Elements (``b_l1[x]``) or vectors (``b_l1``) that are shown.
    priors, refit
        See `rmm.Fit.prior_sensitivity`.
    """
    found = fit.prior_sensitivity(priors, refit=refit)
    table = found.table
    names = _chosen([str(name) for name in table.index], parameters)
    table, sd = table.loc[names], fit.summary().loc[names, "sd"].to_numpy()
    sheet = Sheet(figsize=(7.2, _ROW * len(names) + 1.15), layout="constrained")
    left, right = sheet.subplots(1, 2, sharey=True)
    places = np.arange(len(names))
    for column, look in (("likelihood", LOOKS[1]), ("prior", LOOKS[0])):
        left.plot(
            np.maximum(table[column], _LEAST), places, look.marker, color=look.colour, ms=5,
            label=column,
        )  # fmt: skip
    left.set_xscale("log")
    largest = float(np.nanmax(table[["prior", "likelihood"]]))
    left.set_xlim(_LEAST / 1.3, max(1.5, 1.5 * largest))
    left.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1, 10]))
    left.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    left.axvline(found.threshold, color=RULE, lw=1.0, ls=(0, (4, 2)), zorder=0)
    left.set_yticks(places, shortened(names, 30))
    left.set_ylim(len(names) - 0.4, -0.6)
    left.set_title("sensitivity (dashed: 0.05)", loc="left", fontweight="bold", color=INK)
    for column, look in (("weaker", LOOKS[2]), ("stronger", LOOKS[3])):
        move = (table[column] - table["mean"]).to_numpy() / sd
        for at, x in zip(places, move, strict=True):
            right.plot([0, x], [at, at], color=look.colour, lw=1.2)
        right.plot(move, places, look.marker, color=look.colour, ms=5, label=f"{column} priors")
    for at, k, x in zip(places, table["k"], table["weaker"], strict=True):
        if np.isnan(x):
            right.text(0, at, f"  Pareto k {k:.2f}: refit", va="center", fontsize=7, color=INK)
    furthest = max(0.5, *(1.15 * abs(v) for v in right.get_xlim()))
    right.set_xlim(-furthest, furthest)
    right.axvline(0, color=RULE, lw=0.8, zorder=0)
    right.set_title("move of the mean (posterior sds)", loc="left", fontweight="bold", color=INK)
    for cell in (left, right):
        _finish(cell)
    sheet.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return sheet


def _finish(cell: Any) -> None:
    cell.tick_params(axis="y", length=0)
    cell.spines["left"].set_visible(False)
    cell.grid(axis="x", color="#eeeeee", lw=0.6)
    cell.set_axisbelow(True)


def _chosen(names: list[str], parameters: str | Sequence[str] | None) -> list[str]:
    """Rows of the summary that are shown.

    Raises
    ------
    PlotError
        For unknown names, or too many.
    """
    wanted = [parameters] if isinstance(parameters, str) else parameters
    if wanted is not None:
        vectors = list(dict.fromkeys(name.partition("[")[0] for name in names))
        for name in wanted:
            check_name("a parameter of the summary", name, [*names, *vectors])
        names = [n for n in names if n in wanted or n.partition("[")[0] in wanted]
    if not 0 < len(names) <= _MOST:
        raise PlotError(
            f"{len(names)} parameters do not make a figure. Name 1 to {_MOST} in `parameters`."
        )
    return names
