"""Failed and unconverged fits: their share by method and scenario, and by the levels of factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rmm.study.measures.proportions import wilson
from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import is_numeric, readable
from rmm.study.report.data.levels import words
from rmm.study.report.data.results import FALLBACK, STATUSES, Results
from rmm.study.report.figures.chart import HATCHES, MOST_PANELS, Chart, Key, Pen
from rmm.study.report.figures.dots import Axis, Dot, DotPanel, Line, limits

if TYPE_CHECKING:
    import pandas as pd

MOST_BARS = 24
_WORDS = {
    "not_converged": "not converged",
    "failed": "failed",
    "timeout": "over the time limit",
    FALLBACK: "usable by the fallback",
}


@dataclass(frozen=True)
class Bar:
    """Per cent of fits by status, of one method in one scenario."""

    label: str
    shares: tuple[tuple[str, float], ...]
    where: tuple[str, ...]


@dataclass(frozen=True)
class BarPanel:
    """Bars below each other, each with its label above it."""

    bars: tuple[Bar, ...]
    title: str = ""
    where: tuple[str, ...] = ()

    def draw(self, cell: Any, pen: Pen) -> None:
        """Draw into matplotlib Axes."""
        for row, bar in enumerate(self.bars):
            left, made = 0.0, [cell.text(0, -row - 0.1, bar.label, fontsize=8, va="bottom")]
            for status, share in bar.shares:
                made += cell.barh([-row - 0.3], [share], 0.34, left=left, **HATCHES[status])
                left += share
            pen.tag(made, bar.where)
        most = max(sum(share for _, share in bar.shares) for bar in self.bars)
        cell.set_xlim(0, min(100.0, 1.1 * most))
        cell.set_ylim(-len(self.bars) + 0.3, 0.6)
        cell.set_yticks([])
        cell.grid(axis="x", color="#e4e4e4", lw=0.6, zorder=0)
        cell.set_axisbelow(True)


def endings(results: Results) -> list[Chart]:
    """The figure, if any fit failed or did not converge."""
    scenarios = results.scenarios.set_index("scenario", drop=False).to_dict("index")
    cells = results.fits.groupby(["scenario", "method"], sort=False)["answer"]
    counts = cells.value_counts().unstack(fill_value=0)
    totals = counts.sum(axis=1).to_dict()
    found: list[tuple[float, Bar]] = []
    rows: dict[Any, Any] = counts.to_dict("index")
    for (scenario, method), ended in rows.items():
        total = totals[scenario, method]
        shares = [(s, 100 * float(ended.get(s, 0)) / total) for s in (*STATUSES[1:], FALLBACK)]
        shown = tuple((status, share) for status, share in shares if share > 0)
        if shown:
            row = scenarios[scenario]
            place = words(results, row)
            where = (results.filters.method(str(method)), *results.filters.scenario(row))
            bar = Bar(f"{method}{', ' * bool(place)}{place}", shown, where)
            lost = sum(share for status, share in shown if status != FALLBACK)
            found.append((lost, bar))
    if not found:
        return []
    worst = [bar for _, bar in sorted(found, key=lambda pair: (-pair[0], pair[1].label))]
    return [_chart(worst)]


def who_fails_where(results: Results) -> list[Chart]:
    """Share of lost fits by the levels of each factor, of the methods that lose any."""
    fits = results.fits.merge(results.scenarios, on="scenario", how="left")
    fits["lost"] = fits["status"] != "ok"
    losing = [m for m in results.methods if fits.loc[fits["method"] == m, "lost"].any()]
    if not losing or not results.factors:
        return []
    panels = [_by_level(results, fits, factor, losing) for factor in results.factors]
    common = limits(panels, whole_unit=True)
    panels = [replace(panel, limits=common) for panel in panels[:MOST_PANELS]]
    return [
        Chart(
            "who_fails_where",
            "Who fails where",
            "Share of the data sets without a usable fit (failed, not converged or over the time "
            "limit, after any fallback) by the levels of each factor, over all levels of the "
            "others, with 95% Monte Carlo intervals (Wilson).",
            "computation",
            tuple(panels),
            "",
            "Share of data sets",
        )
    ]


def _by_level(
    results: Results, fits: pd.DataFrame, factor: str, methods: Sequence[str]
) -> DotPanel:
    levels = results.filters.levels[factor]
    places = [results.filters.place(factor, value) for value in levels]
    at = tuple(float(place) for place in places)
    axis = Axis(readable(factor), at, tuple(map(compact, levels)), nominal=not is_numeric(levels))
    shares = fits.groupby([factor, "method"], sort=False)["lost"].agg(["mean", "size"])
    lines = []
    for method in methods:
        dots = []
        for place, level in zip(at, levels, strict=True):
            if (level, method) in shares.index:
                share, n = map(float, shares.loc[(level, method)])
                where = (
                    (results.filters.level(factor, level),)
                    if factor in results.filters.chosen_by
                    else ()
                )
                dots.append(Dot(place, share, *wilson(share, n), where=where))
        lines.append(Line(method, tuple(dots), (results.filters.method(method),)))
    return DotPanel(readable(factor), tuple(lines), axis)


def _chart(bars: Sequence[Bar]) -> Chart:
    caption = "Per cent of the fits of a method in a scenario, the worst first."
    if any(status == FALLBACK for bar in bars for status, _ in bar.shares):
        caption += " Dotted: the first engine failed, and the fallback’s fit is used."
    if len(bars) > MOST_BARS:
        caption += f" The first {MOST_BARS} of {len(bars)}; the tables hold all."
    kept = tuple(bars[:MOST_BARS])
    statuses = [s for s in _WORDS if any(s == status for bar in kept for status, _ in bar.shares)]
    keys = tuple(Key(status, _WORDS[status]) for status in statuses)
    return Chart(
        "endings",
        "Failed and unconverged fits",
        caption,
        "computation",
        (BarPanel(kept),),
        "Per cent of fits",
        "",
        keys,
        (4.6, 0.6 + 0.36 * len(kept)),
        1,
    )
