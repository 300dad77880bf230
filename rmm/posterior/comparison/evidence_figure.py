"""Log Bayes factors of models over the scale of a prior."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rmm.posterior.plots.figure import Sheet, in_style
from rmm.posterior.plots.style import RULE, looks_of


@in_style
def draw(parameter: str, table: pd.DataFrame) -> Sheet:
    """A line per model: its log evidence less that of the first at the present prior."""
    models = list(dict.fromkeys(table.columns.get_level_values(0)))
    scale = table.index.to_numpy(dtype=float)
    present = int(np.argmin(np.abs(np.log(scale))))
    level = table[models[0], "log_evidence"].iloc[present]
    sheet = Sheet(figsize=(5.2, 3.2), layout="constrained")
    cell = sheet.subplots()
    cell.axvline(1.0, color=RULE, linewidth=0.8, linestyle=":")
    for model, look in looks_of(models).items():
        values = table[model, "log_evidence"].to_numpy() - level
        cell.errorbar(
            scale,
            values,
            yerr=2 * table[model, "mcse"].to_numpy(),
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            label=model,
        )
    cell.set_xscale("log")
    cell.set_xticks(scale, [f"{s:g}" for s in scale], minor=False)
    cell.minorticks_off()
    cell.set_xlabel(f"scale of the prior of {parameter}, relative to that of the fit")
    cell.set_ylabel(f"log evidence less that of\n{models[0]} at 1")
    sheet.legend(loc="outside upper center", ncols=2, frameon=False)
    return sheet
