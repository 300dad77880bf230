"""Candidates for weights: evidence, model weights, and what members do under each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rmm.posterior.plots.figure import Sheet, in_style
from rmm.posterior.plots.style import FILL, INK, LOOKS, RULE

_ROW = 0.34  # inches


@in_style
def draw(table: pd.DataFrame) -> Sheet:
    """One row per candidate, the best evidence on top; one panel per question."""
    effects = [c for c in map(str, table) if c.startswith("effect[") and not c.endswith("_sd")]
    count = 2 + bool(effects)
    height = _ROW * len(table) + 1.1
    sheet = Sheet(figsize=(3.0 + 2.2 * count, height), layout="constrained")
    cells = sheet.subplots(1, count, sharey=True, squeeze=False)[0]
    at = np.arange(len(table))[::-1]
    _evidence(cells[0], at, table)
    _shares(cells[1], at, table)
    if effects:
        _effects(cells[2], at, table, effects)
    cells[0].set_yticks(at, table.index)
    cells[0].set_ylim(-0.6, len(table) - 0.4)
    for cell in cells:
        cell.tick_params(axis="y", length=0)
    return sheet


def _evidence(cell: Any, at: Any, table: pd.DataFrame) -> None:
    logs = table["log_evidence"] - table["log_evidence"].max()
    cell.axvline(0, color=RULE, linewidth=0.8)
    cell.errorbar(logs, at, xerr=2 * table["mcse"], fmt="o", color=LOOKS[0].colour)
    cell.set_title("Evidence")
    cell.set_xlabel("log Bayes factor against the best")


def _shares(cell: Any, at: Any, table: pd.DataFrame) -> None:
    cell.barh(at + 0.17, table["probability"], 0.32, color=LOOKS[0].colour, label="probability")
    cell.barh(at - 0.17, table["stacking"], 0.32, color=FILL, edgecolor=INK, label="stacking")
    cell.set_xlim(0, 1)
    cell.set_title("Weight of the model")
    cell.set_xlabel("by evidence (blue), by prediction (grey)")


def _effects(cell: Any, at: Any, table: pd.DataFrame, effects: list[str]) -> None:
    cell.axvline(0, color=RULE, linewidth=0.8)
    for k, (name, look) in enumerate(zip(effects, LOOKS, strict=False)):
        moved = at + 0.12 * (k - (len(effects) - 1) / 2)
        label = name.removeprefix("effect[").removesuffix("]")
        sd = 1.96 * table[f"{name}_sd"]
        cell.errorbar(table[name], moved, xerr=sd, fmt=look.marker, color=look.colour, label=label)
    cell.set_title("Effect of members")
    cell.set_xlabel("outcome per sd of the weighted sum")
    if len(effects) > 1:
        cell.legend(frameon=False, fontsize=7)
