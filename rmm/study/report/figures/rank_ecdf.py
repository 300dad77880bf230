"""Calibration: ECDF of ranks minus that of uniform ranks, with simultaneous bands.

Saeilynoja, Buerkner & Vehtari (2022), Statistics and Computing 32:32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy import stats

from rmm.errors import counted
from rmm.study.evaluate.criteria.calibration import ecdf_null, ecdf_p
from rmm.study.methods.ranks import KEPT
from rmm.study.report.data.levels import words
from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import GREY, Chart, Key, Pen, method_keys

if TYPE_CHECKING:
    import numpy as np

#: A model has this many parameters or fewer in most studies; more panels than that are cut.
MOST_PARAMETERS = 24


@dataclass(frozen=True)
class Steps:
    """ECDF difference of one method at the ranks 0 to 98, and the p value of its test."""

    method: str
    difference: tuple[float, ...]
    p: float
    where: tuple[str, ...]


@dataclass(frozen=True)
class RankPanel:
    """A parameter: methods with the same number of ranks, and their band (low, high)."""

    title: str
    steps: tuple[Steps, ...]
    band: tuple[tuple[float, ...], tuple[float, ...]]
    where: tuple[str, ...]

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        at = [(i + 1) / (KEPT + 1) for i in range(KEPT)]
        cell.fill_between(at, *self.band, color=GREY, lw=0, step="mid", zorder=0)
        cell.axhline(0, color="#555555", lw=0.8, zorder=1)
        for one in self.steps:
            look = pen.looks[one.method]
            made = cell.plot(
                at,
                one.difference,
                color=look.colour,
                ls=look.line,
                lw=1.3,
                zorder=3,
                drawstyle="steps-mid",
                marker=look.marker if len(pen.looks) > 1 else None,
                ms=3.5,
                markevery=(9, 18),
            )
            pen.tag(made, one.where)
        most = max(abs(v) for row in (*self.band, *(s.difference for s in self.steps)) for v in row)
        cell.set_ylim(-1.1 * most, 1.1 * most)
        cell.set_xlim(0, 1)
        cell.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        cell.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))


def rank_table(results: Results) -> list[dict[str, Any]]:
    """Ranks of each scenario, parameter and method with the p value of their ECDF."""
    table = results.estimates
    if "rank" not in table or table["rank"].isna().all():
        return []
    ranked = table[table["rank"].notna()]
    cells = ranked.groupby(["scenario", "parameter", "method"], sort=False)["rank"]
    found = {(str(s), str(p), str(m)): rows.to_numpy(dtype=int) for (s, p, m), rows in cells}
    scenarios = results.scenarios.to_dict("records")
    parameters = list(dict.fromkeys(ranked["parameter"]))
    wanted = ((row, p, m) for row in scenarios for p in parameters for m in results.methods)
    return [
        {
            "scenario": row,
            "parameter": p,
            "method": m,
            "ranks": ranks,
            "n": len(ranks),
            "p": ecdf_p(ranks, _null(len(ranks))),
        }
        for row, p, m in wanted
        if (ranks := found.get((str(row["scenario"]), p, m))) is not None
    ]


@functools.lru_cache(maxsize=16)
def _null(count: int) -> np.ndarray[Any, Any]:
    """`ecdf_null`, which is the same for all figures and tables."""
    return ecdf_null(count)


def simultaneous_band(
    count: int, level: float = 0.95
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where the ECDF difference of `count` uniform ranks stays, at all ranks at once.

    The binomial tail probability that an ECDF may reach at any rank is the one that uniform
    ranks reach with probability `1 - level`, as in `ecdf_p`: a line leaves
    the band just if that p value is at most `1 - level`.

    Returns
    -------
    (99,) array, (99,) array
        Lowest and highest difference inside.
    """
    null = np.sort(_null(count))
    reached = null[int(np.floor((1 - level) * (len(null) + 1))) - 1] * (1 + 1e-9)
    chance = np.arange(1, KEPT + 1) / (KEPT + 1)
    counts = np.arange(count + 1)[:, None]
    tail = np.minimum(
        stats.binom.cdf(counts, count, chance), stats.binom.sf(counts - 1, count, chance)
    )
    inside = tail > reached
    low = inside.argmax(axis=0)
    high = count - inside[::-1].argmax(axis=0)
    return low / count - chance, high / count - chance


def rank_plots(results: Results) -> list[Chart]:
    """One panel per scenario, parameter and number of ranks."""
    rows = rank_table(results)
    if not rows:
        return []
    panels = _panels(rows, results)
    caption = (
        "Each true value has a rank among 99 posterior draws; a calibrated method has all ranks "
        "equally often. Lines: share of data sets with at most this rank (the ECDF), minus that of "
        "a calibrated method. Inside the grey, a line shows nothing: a calibrated method stays "
        "inside everywhere with probability 95%, so 1 line in 20 leaves it by chance. Outside, "
        "above zero: estimates too high; below: too low; first above, then below: posteriors too "
        "narrow; first below, then above: too wide. Fits that did not converge count, too."
    )
    counts = {row["n"] for row in rows}
    if len(counts) == 1:
        caption += f" Each panel: {counted(counts.pop(), 'data set')}."
    if len(panels) > MOST_PARAMETERS:
        caption += f" The first {MOST_PARAMETERS} of {len(panels)} panels; the table contains all."
    panels = panels[:MOST_PARAMETERS]
    smallest = [min(one.p for one in panel.steps) for panel in panels]
    return [
        Chart(
            "calibration",
            "Calibration: ranks of the true values",
            caption,
            "calibration",
            tuple(panels),
            "Rank of the truth (0–1)",
            "ECDF − uniform",
            (
                Key("band", "95% of calibrated methods, all ranks at once"),
                *method_keys(list(dict.fromkeys(row["method"] for row in rows))),
            ),
            (2.3, 1.7),
            4,
            tuple(sorted(range(len(panels)), key=lambda i: smallest[i])),
        )
    ]


def _panels(rows: Sequence[dict[str, Any]], results: Results) -> list[RankPanel]:
    together: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        key = (str(row["scenario"]["scenario"]), row["parameter"], row["n"])
        together.setdefault(key, []).append(row)
    bands = {n: simultaneous_band(n) for n in sorted({n for _, _, n in together})}
    several = len(bands) > 1
    panels = []
    for (_, parameter, n), here in together.items():
        place = words(results, here[0]["scenario"])
        title = ", ".join(filter(None, (parameter, place, counted(n, "data set") * several)))
        steps = tuple(_steps(row, results) for row in here)
        low, high = bands[n]
        where = results.filters.scenario(here[0]["scenario"])
        panels.append(RankPanel(title, steps, (tuple(low), tuple(high)), where))
    return panels


def _steps(row: dict[str, Any], results: Results) -> Steps:
    counts = np.bincount(row["ranks"], minlength=KEPT + 1)
    chance = np.arange(1, KEPT + 1) / (KEPT + 1)
    difference = np.cumsum(counts)[:KEPT] / row["n"] - chance
    where = (results.filters.method(row["method"]),)
    return Steps(row["method"], tuple(map(float, difference)), row["p"], where)
