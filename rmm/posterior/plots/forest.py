"""Estimates with 50% and 95% intervals, by level; coefficients and scales on axes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.posterior.plots.figure import Drawn, Sheet, chosen, in_style, shortened
from rmm.posterior.plots.style import INK, LOOKS, RULE

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

_MOST = 120
_ROW = 0.2  # inches


@dataclass(frozen=True)
class Band:
    """Rows with a heading: parameters of one level."""

    heading: str
    rows: list[Drawn]


# Parameter's beginning -> panel and heading, in the order in which they are shown.
_PLACES: tuple[tuple[str, str, str], ...] = (
    ("b_l1", "coefficients", "members (level 1)"),
    ("b_l2", "coefficients", "groups (level 2)"),
    ("b_l3", "coefficients", "nesting units (level 3)"),
    ("b_w", "weight coefficients", "weights"),
    ("b_sigma", "log of the residual sd", "log of the residual standard deviation"),
    ("sigma", "standard deviations", "standard deviations"),
    ("u_l1", "effects", "member effects"),
    ("u_l3", "effects", "effects of nesting units"),
    ("", "other parameters", "other parameters"),
)
_FROM_ZERO = ("standard deviations",)


@in_style
def draw(
    fit: FitTables, parameters: str | Sequence[str] | None = None, intercept: bool = False
) -> Sheet:
    """Posterior means with 50% (thick) and 95% (thin) intervals.

    Parameters
    ----------
    parameters : str or sequence of str, optional
        Elements (``b_l1[x]``) or whole vectors (``b_l1``); default: all of the summary.
    intercept : bool
        Whether the default shows the intercept beside other coefficients; it often lies so far
        out that nothing else can be read.
    """
    shown = chosen(fit, parameters, _MOST)
    if parameters is None and not intercept:
        rest = [one for one in shown if one.name != "b_l2[Intercept]"]
        shown = rest if any(one.name.startswith("b_l") for one in rest) else shown
    panels = _panels(shown)
    heights = [_height(bands) for bands in panels.values()]
    size = (6.4, _ROW * sum(heights) + 0.55 * len(panels) + 0.1)
    sheet = Sheet(figsize=size, layout="constrained")
    cells = sheet.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for cell, (name, bands) in zip(cells, panels.items(), strict=True):
        _panel(cell, name, bands)
    sheet.align_ylabels()
    return sheet


def _panels(shown: list[Drawn]) -> dict[str, list[Band]]:
    panels: dict[str, list[Band]] = {}
    left = list(shown)
    for start, panel, heading in _PLACES:
        rows = [one for one in left if one.name.startswith(start)]
        left = [one for one in left if not one.name.startswith(start)]
        if rows:
            panels.setdefault(panel, []).append(Band(heading, rows))
    return panels


def _height(bands: list[Band]) -> float:
    """Rows of a panel: parameters, headings where there are several, and margins."""
    return sum(len(band.rows) + (len(bands) > 1) for band in bands) + 0.6


def _panel(cell: Any, name: str, bands: list[Band]) -> None:
    at, places, rows = 0.0, [], []
    heads: list[tuple[float, str]] = []
    for band in bands:
        if len(bands) > 1:
            heads.append((at, band.heading))
            at += 1
        for one in band.rows:
            places.append(at)
            rows.append(one)
            at += 1
    inner = [one.name.partition("[")[2][:-1] or one.name for one in rows]
    full = len(bands) == 1 or len(set(inner)) < len(inner)
    labels = shortened(
        [one.name if full else text for one, text in zip(rows, inner, strict=True)], 40
    )
    intervals(cell, places, [one.flat for one in rows])
    cell.set_yticks([*places, *(y for y, _ in heads)], [*labels, *(text for _, text in heads)])
    for tick in cell.get_yticklabels()[len(places) :]:
        tick.set_fontweight("bold")
    cell.set_ylim(at - 0.3, -0.7)
    cell.set_title(name, loc="left", fontweight="bold", color=INK)
    if name in _FROM_ZERO:
        cell.set_xlim(left=0)
    else:
        cell.axvline(0, color=RULE, lw=0.8, zorder=0)


def intervals(cell: Any, places: Sequence[float], draws: Sequence[Any]) -> None:
    """Mean, 50% and 95% interval of each set of draws, at heights `places`; no tick marks."""
    colour = LOOKS[0].colour
    for y, values in zip(places, draws, strict=True):
        low, first, third, high = np.quantile(values, [0.025, 0.25, 0.75, 0.975])
        cell.plot([low, high], [y, y], color=colour, lw=1.0, solid_capstyle="butt")
        cell.plot([first, third], [y, y], color=colour, lw=2.8, solid_capstyle="butt")
        cell.plot([float(np.mean(values))], [y], "o", color="white", mec=INK, mew=0.9, ms=4.2)
    cell.tick_params(axis="y", length=0)
    cell.spines["left"].set_visible(False)
    cell.grid(axis="x", color="#eeeeee", lw=0.6)
    cell.set_axisbelow(True)
