"""Effects of members or nesting units, sorted: a caterpillar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import PlotError
from rmm.posterior.diagnostics.summary import flatten
from rmm.posterior.plots import check_name
from rmm.posterior.plots.figure import Sheet, in_style, shortened
from rmm.posterior.plots.forest import intervals
from rmm.posterior.plots.style import RULE

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables


@in_style
def draw(fit: FitTables, effect: str | None = None, top: int = 40) -> Sheet:
    """Posterior mean, 50% and 95% interval of each unit's effect, largest first.

    Parameters
    ----------
    effect : str, optional
        Such as ``u_l1`` or ``u_l3``; default: the first that the model has.
    top : int
        With more units than this the `top` / 2 largest and the `top` / 2 smallest are shown.
    """
    posterior = fit.draws["posterior"].to_dataset()
    roles = fit.model.spec.unit_effects
    known = [str(name) for name in posterior.data_vars if name in roles]
    if not roles:
        raise PlotError("The model has no random effects of members or nesting units.")
    if not known:
        raise PlotError(
            "The fit kept no draws of random effects, because it was run with "
            'monitor="structural". Fit again with monitor="summary" (the default).'
        )
    name = known[0] if effect is None else effect
    check_name("a vector of effects", name, known)
    if isinstance(top, bool) or not isinstance(top, int) or top < 2:
        raise PlotError(f"`top` must be a whole number of at least 2, but is {top!r}.")
    labels, draws = flatten(posterior[name])
    units = [label.split("[", 1)[1][:-1] for label in labels]
    order, between = _order(draws.mean(axis=(0, 1)), top)
    places = [float(i) + (1.2 if between and i >= top // 2 else 0.0) for i in range(len(order))]
    sheet = Sheet(figsize=(5.6, 0.17 * (len(order) + 2) + 0.6), layout="constrained")
    cell = sheet.subplots()
    flat = draws.reshape(-1, draws.shape[2])
    intervals(cell, places, [flat[:, i] for i in order])
    cell.axvline(0, color=RULE, lw=0.8, zorder=0)
    cell.set_yticks(places, shortened([units[i] for i in order], 36))
    cell.set_ylim(places[-1] + 0.8, -0.8)
    cell.set_title(f"{name}: {_counted(len(units), between)}", loc="left", fontweight="bold")
    if between:
        _gap(cell, (places[top // 2 - 1] + places[top // 2]) / 2, between)
    return sheet


def _order(means: Any, top: int) -> tuple[list[int], int]:
    """Units from the largest mean down, without the middle ones, and how many those are."""
    order = np.argsort(-means, kind="stable").tolist()
    if len(order) <= top:
        return order, 0
    half = top // 2
    return [*order[:half], *order[-half:]], len(order) - 2 * half


def _counted(units: int, between: int) -> str:
    if not between:
        return f"{units} units"
    half = (units - between) // 2
    return f"the {half} largest and the {half} smallest of {units}"


def _gap(cell: Any, at: float, between: int) -> None:
    cell.axhline(at, color=RULE, lw=0.8, ls=(0, (1, 2)))
    cell.text(
        1.0,
        at,
        f"{between} between",
        transform=cell.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=7.5,
        bbox={"color": "white", "pad": 1.5},
    )
