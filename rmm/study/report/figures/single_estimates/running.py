"""The running estimate: how the mean of the estimates settles over the replications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import DARK, Chart, Key, Pen, method_keys
from rmm.study.report.figures.single_estimates.usable_estimates import (
    Array,
    Estimates,
    main_name,
    shown_words,
    thinned,
    usable_estimates,
)

_STEPS = 150  # places of a line
_LEAST = 10  # replications of a line; before that it jumps


@dataclass(frozen=True, eq=False)
class Run:
    """The mean over the first k replications, and its Monte Carlo error, at some k."""

    method: str
    at: Array
    mean: Array
    error: Array
    where: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class RunningPanel:
    """One scenario."""

    title: str
    runs: tuple[Run, ...]
    truth: float
    where: tuple[str, ...]

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        for run in self.runs:
            look = pen.looks[run.method]
            band = cell.fill_between(
                run.at, run.mean - 1.96 * run.error, run.mean + 1.96 * run.error,
                color=look.colour, alpha=0.12, lw=0,
            )  # fmt: skip
            line = cell.plot(run.at, run.mean, color=look.colour, ls=look.line, lw=1.3)
            pen.tag([band, *line], run.where)
        if np.isfinite(self.truth):
            cell.axhline(self.truth, color=DARK, lw=0.8, zorder=1)
        cell.grid(axis="y", color="#e4e4e4", lw=0.6, zorder=0)


def running(results: Results) -> list[Chart]:
    """Running means of the main estimand; none of fewer than twenty replications."""
    scenarios = [
        [one for one in methods if len(one.estimate) >= 2 * _LEAST]
        for methods in usable_estimates(results)
    ]
    scenarios = [methods for methods in scenarios if methods]
    if not scenarios:
        return []
    panels = tuple(
        RunningPanel(m[0].place, tuple(map(_run, m)), m[0].truth, m[0].where[1:]) for m in scenarios
    )
    methods = [m for m in results.methods if any(r.method == m for p in panels for r in p.runs)]
    truth = (Key("line", "true value"),) if np.isfinite(panels[0].truth) else ()
    return [
        Chart(
            "running",
            f"Mean estimate over the replications, {main_name(results)}",
            "Mean of the estimates of the first k usable replications, from k = "
            f"{_LEAST}, with its 95% Monte Carlo band (± 1.96 MCSE). A line that still drifts at "
            "the end needs more replications." + shown_words(results, len(scenarios), points=False),
            "estimates",
            panels,
            "Number of replications",
            "Mean estimate",
            (*method_keys(methods), *truth),
        )
    ]


def _run(one: Estimates) -> Run:
    count = np.arange(1, len(one.estimate) + 1)
    # Around the first value, as sums of squares lose digits.
    moved = one.estimate - one.estimate[0]
    mean = np.cumsum(moved) / count
    variance = np.maximum(np.cumsum(moved**2) / count - mean**2, 0)
    error = np.sqrt(variance / np.maximum(count - 1, 1))
    kept = np.unique(np.append(thinned(count[_LEAST - 1 :], _STEPS) + _LEAST - 1, len(count) - 1))
    return Run(
        one.method,
        count[kept],
        mean[kept] + one.estimate[0],
        error[kept],
        one.where[:1],
    )
