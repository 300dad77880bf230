"""Usable estimates of the main estimand by scenario and method, of which figures are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rmm.study.report.data.levels import words
from rmm.study.report.data.results import Results
from rmm.study.report.figures.zip_plot import shown_scenarios

Array = np.ndarray[Any, Any]
#: Points drawn of one method in one scenario; of more, every so-manyth by replication.
MOST_POINTS = 300


@dataclass(frozen=True, eq=False)
class Estimates:
    """Usable fits of one method in one scenario, by replication.

    Attributes
    ----------
    replication, estimate, se : (n,) arrays
        Standard errors are nan where not known.
    truth : float
        nan where not known, or where it differs between data sets.
    place : str
        The scenario in words; empty if it is the only one.
    where : tuple of str
        Classes of the filters: the method's, then the scenario's.
    """

    method: str
    replication: Array
    estimate: Array
    se: Array
    truth: float
    place: str
    where: tuple[str, ...]


def usable_estimates(results: Results) -> Iterator[list[Estimates]]:
    """The methods of each scenario that is shown; those without usable fits are left out."""
    estimand = results.study.estimands[0]
    table = results.estimates
    counted = table["status"].isin(results.usable)
    rows = table[counted & (table["parameter"] == estimand.parameter)]
    rows = rows[rows["mean"].notna()]
    for scenario in shown_scenarios(results, estimand):
        here = rows[rows["scenario"].astype(str) == scenario]
        found = [one for m in results.methods if len((one := _of(results, here, scenario, m)).se)]
        if found:
            yield found


def _of(results: Results, here: Any, scenario: str, method: str) -> Estimates:
    rows = here[here["method"] == method].sort_values("replication")
    record = results.scenarios[results.scenarios["scenario"] == scenario].to_dict("records")[0]
    number = partial(np.asarray, dtype=float)
    return Estimates(
        method,
        rows["replication"].to_numpy(),
        number(rows["mean"]),
        number(rows["sd"]),
        results.truth(scenario, results.study.estimands[0].parameter),
        words(results, record),
        (results.filters.method(method), *results.filters.scenario(record)),
    )


def thinned(values: Array, most: int = MOST_POINTS) -> Array:
    """Positions of at most `most` values, evenly spaced."""
    if len(values) <= most:
        return np.arange(len(values))
    return ((np.arange(most) + 0.5) * len(values) / most).astype(int)


def title_of(parts: Sequence[str]) -> str:
    """What of a panel's title is there, with commas."""
    return ", ".join(part for part in parts if part)


def shown_words(results: Results, shown: int, points: bool = True) -> str:
    """The end of a caption: which scenarios and points are left out."""
    end = ""
    if shown < len(results.scenarios):
        end += " Scenarios: those with the lowest and the highest coverage of any method."
    if points and results.fits.groupby(["scenario", "method"]).size().max() > MOST_POINTS:
        end += f" At most {MOST_POINTS} points of a method are drawn."
    return end


def main_name(results: Results) -> str:
    """Name of the main estimand, for titles."""
    return results.study.estimands[0].parameter


def limits_of(values: Sequence[Array], far: float = 4.0) -> tuple[float, float]:
    """Limits of an axis: all values, but for those far outside the middle half of all."""
    every = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = np.quantile(every, [0.25, 0.75])
    reach = far * ((high - low) or 1.0)
    kept = every[(every >= low - reach) & (every <= high + reach)]
    margin = 0.05 * ((kept.max() - kept.min()) or 1.0)
    return float(kept.min() - margin), float(kept.max() + margin)
