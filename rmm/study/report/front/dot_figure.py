"""Figure 1: a number of each method as a dot with its interval, a facet for each scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rmm.errors import counted
from rmm.study.measures.proportions import acceptance_band
from rmm.study.report.data.format_numbers import fixed
from rmm.study.report.figures.chart import FORMATS, drawing, inline
from rmm.study.report.front.question import NULL, PARITY, POWER, Question
from rmm.study.report.front.verdicts import Judged, Verdict, keeps_level

#: More facets or methods are another figure.
MOST_FACETS, MOST_METHODS, COLUMNS = 8, 14, 4
#: Inches of the figure on wide screens, and on those of phones.
WIDE, NARROW = 8.6, 3.9
#: Inches of a method's row on both, and the height that a phone shows at once.
ROW, NARROW_ROW, HEIGHT_ON_PHONES = 0.34, 0.28, 7.0
#: Inches of a facet besides its rows.
_HEAD = 0.55
#: Values stand beside dots if there are no more of them.
MOST_VALUES = 24
#: Kind of method -> colour: regressions warm, membership models cool; 4.6:1 on white at least.
COLOURS = {
    "aggregation": "#B85C00",
    "disaggregation": "#8F3B8C",
    "adjusted_means": "#8A5A00",
    "mm": "#0B6E99",
    "mmmm": "#0A7A55",
    "average": "#3D5A98",
    "choice": "#3D5A98",
}
OTHER, FAULT, RULE, BAND = "#444444", "#A33200", "#6C757D", "#E4E7EB"


@dataclass(frozen=True)
class DotFigure:
    """The figure in two widths.

    Attributes
    ----------
    title, caption : str
    wide, narrow : str
        SVG for pages; `narrow` has its facets below each other.
    rest : str
        SVG of the facets that phones show on request only; empty if there are none.
    facets : int
        Of both.
    """

    title: str
    caption: str
    wide: str
    narrow: str
    rest: str
    facets: int


@dataclass(frozen=True)
class _Plan:
    """What is drawn: dots by scenario, in shown units, beside a target and its band."""

    question: Question
    found: Sequence[Judged]
    scenarios: Sequence[str]
    x: str
    factor: float
    target: float
    decimals: int
    zero: bool
    known: Mapping[tuple[str, str], float]

    def of(self, scenario: str) -> list[Judged]:
        """Numbers of one scenario."""
        return [one for one in self.found if one.scenario == scenario]

    def band(self, scenario: str) -> tuple[float, float] | None:
        """Where 95% of correct methods are, with the fewest data sets of a facet."""
        if self.question.kind != NULL:
            return None
        n = min(one.n for one in self.of(scenario))
        low, high = acceptance_band(self.question.estimand.alpha[0], n)
        return self.factor * low, self.factor * high


def dot_figure(question: Question, folder: Path) -> DotFigure | None:
    """The figure, its files in a folder; None where another figure shows more."""
    plan = _plan(question)
    if plan is None or len(plan.scenarios) > MOST_FACETS or len(question.methods) > MOST_METHODS:
        return None
    rows = math.ceil(len(plan.scenarios) / COLUMNS)
    wide = _draw(plan, math.ceil(len(plan.scenarios) / rows), WIDE)
    first, rest = _for_phones(plan)
    with drawing("figure_1"):
        for ending in (".svg", ".pdf"):
            FORMATS[ending](wide, folder / f"figure_1{ending}")
    title = _title(plan)
    return DotFigure(
        title,
        _caption(plan),
        inline(wide, title, "f1w"),
        inline(_draw(plan, 1, NARROW, first), title, "f1n"),
        inline(_draw(plan, 1, NARROW, rest), f"{title}: other scenarios", "f1r") if rest else "",
        len(plan.scenarios),
    )


def _for_phones(plan: _Plan) -> tuple[list[str], list[str]]:
    """Scenarios that phones show at once, those farthest from the target, and the others."""
    each = NARROW_ROW * len(_methods(plan)) + _HEAD
    count = max(1, int(HEIGHT_ON_PHONES / each))
    target = plan.target / plan.factor
    far = {s: max(abs(one.value - target) for one in plan.of(s)) for s in plan.scenarios}
    first = sorted(plan.scenarios, key=lambda s: -far[s])[:count]
    return [s for s in plan.scenarios if s in first], [s for s in plan.scenarios if s not in first]


def _methods(plan: _Plan) -> list[str]:
    return [m for m in plan.question.methods if any(o.method == m for o in plan.found)]


def _plan(question: Question) -> _Plan | None:
    estimand = question.estimand
    what = question.labels.parameter(estimand.parameter)
    if question.kind == NULL:
        scenarios = question.null_scenarios(estimand)
        found = question.rejections(estimand, scenarios)
        x, factor, target, zero = (
            "Data sets with a false positive (%)",
            100.0,
            estimand.alpha[0],
            True,
        )
        decimals, known = 1, question.known("rejection", estimand)
    elif question.kind in (POWER, PARITY):
        return None  # curves show more; parity has no truth to compare with
    else:
        found = question.biases(estimand)
        scenarios = list(dict.fromkeys(o.scenario for o in found))
        x, factor, target, zero = f"Bias of {what}, in standard deviations", 1.0, 0.0, False
        decimals, known = 2, _known_biases(question)
    found = [one for one in found if one.shown]
    scenarios = [s for s in scenarios if any(o.scenario == s for o in found)]
    if not found:
        return None
    return _Plan(question, found, scenarios, x, factor, factor * target, decimals, zero, known)


def _known_biases(question: Question) -> dict[tuple[str, str], float]:
    """In standard deviations of the estimates, as the biases."""
    sds = {
        (str(row["method"]), str(row["scenario"])): float(row["value"])
        for row in question.values("empirical_se", question.estimand)
    }
    known = question.known("bias", question.estimand)
    return {place: value / sds[place] for place, value in known.items() if sds.get(place, 0) > 0}


def _title(plan: _Plan) -> str:
    question = plan.question
    bad = [
        m for m in question.methods if any(o.method == m and o.verdict.fault for o in plan.found)
    ]
    what = question.labels.parameter(question.estimand.parameter)
    if question.kind == NULL:
        if not bad and keeps_level(plan.found, question.estimand.alpha[0]):
            return f"No method found effects of {what} too often"
        if not bad:  # too few data sets to be sure of all methods
            return f"False positives for {what}, by method"
        return f"{question.named(bad)} found effects of {what} that are not there"
    return f"Bias of {what}, by method"


def _caption(plan: _Plan) -> str:
    question = plan.question
    counts = sorted({o.n for o in plan.found})
    fewest = f"{counts[0]:,} to " if len(counts) > 1 else ""
    usable = f"{fewest}{counted(counts[-1], 'usable data set')} per scenario and method."
    if plan.known:
        usable = f"Diamonds: values known from theory or publications. {usable}"
    if question.kind == NULL:
        level = 100 * question.estimand.alpha[0]
        return (
            f"Share of data sets in which a {level:g}% test rejects "
            f"{question.estimand.parameter} = {question.estimand.null:g}, which is true. "
            "Bars: 95% Monte Carlo intervals (Wilson). "
            f"Line: {level:g}%. Grey: where 95% of correct tests would be with as many data sets. "
            f"{usable}"
        )
    return (
        "Mean estimate less the true value, divided by the standard deviation of the estimates. "
        f"Bars: 95% Monte Carlo intervals. {usable}"
    )


def _draw(plan: _Plan, columns: int, width: float, scenarios: Sequence[str] | None = None) -> Any:
    """Facets beside or below each other; methods are named once per row of facets."""
    shown, methods = scenarios or plan.scenarios, _methods(plan)
    rows = math.ceil(len(shown) / columns)
    height = (NARROW_ROW if width == NARROW else ROW) * len(methods) + _HEAD
    with drawing("figure_1"):
        figure = Figure(figsize=(width, rows * height + 0.35), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        cells = [cell for row in grid for cell in row]
        for number, (cell, scenario) in enumerate(zip(cells, shown, strict=False)):
            _facet(cell, plan, scenario, methods, named=number % columns == 0)
        for cell in cells[len(shown) :]:
            cell.set_visible(False)
        for cell in cells[max(0, len(shown) - columns) : len(shown)]:
            cell.tick_params(axis="x", labelbottom=True)  # nothing may be below
        _limits(cells[0], plan)
        figure.supxlabel(plan.x, fontsize=9)
    return figure


def _facet(cell: Any, plan: _Plan, scenario: str, methods: Sequence[str], *, named: bool) -> None:
    """One scenario."""
    question = plan.question
    band = plan.band(scenario)
    if band is not None:
        cell.axvspan(*band, color=BAND, lw=0, zorder=0)
    cell.axvline(plan.target, color=RULE, lw=1.0, zorder=1)
    few = len(plan.found) <= MOST_VALUES
    for place, method in enumerate(methods):
        one = next((o for o in plan.found if (o.method, o.scenario) == (method, scenario)), None)
        if one is None:
            continue
        colour = COLOURS.get(question.kind_of(method), OTHER)
        value, low, high = (plan.factor * v for v in (one.value, one.low, one.high))
        cell.plot([low, high], [place, place], color=colour, lw=1.8, zorder=3)
        cell.plot([value], [place], "o", color=colour, ms=5.5, zorder=4)
        known = plan.known.get((method, scenario))
        if known is not None:  # above the others: agreement is what is looked for
            cell.plot(
                [plan.factor * known],
                [place],
                "D",
                mfc="none",
                mec="#111111",
                mew=1.1,
                ms=8,
                zorder=5,
            )
        if few:
            fault = one.verdict in (Verdict.HIGH, Verdict.LOW)
            cell.annotate(
                fixed(value, plan.decimals),
                (max(high, value), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=FAULT if fault else "#222222",
                fontweight="bold" if fault else "normal",
                bbox={"boxstyle": "square,pad=0.08", "fc": "white", "ec": "none", "alpha": 0.8},
                annotation_clip=False,
            )
    title = question.place(scenario, plan.scenarios).replace(", ", ",\n")
    cell.set_title(title, fontsize=9, fontweight="bold", loc="left")
    cell.set_ylim(len(methods) - 0.4, -0.6)
    cell.set_yticks(range(len(methods)), [question.labels.method(m) for m in methods])
    cell.tick_params(axis="y", length=0, labelleft=named)
    if named:
        for label, method in zip(cell.get_yticklabels(), methods, strict=True):
            label.set_color(COLOURS.get(question.kind_of(method), OTHER))
            label.set_fontweight("bold")
    for side in ("left", "top", "right"):
        cell.spines[side].set_visible(False)


def _limits(cell: Any, plan: _Plan) -> None:
    """The same axis in all facets, with room for the numbers beside the dots."""
    ends = [plan.factor * e for o in plan.found for e in (o.low, o.high)] + [plan.target]
    ends += [plan.factor * value for value in plan.known.values()]
    low, high = min(ends), max(ends)
    room = 0.16 * (high - low if high > low else 1.0)
    cell.set_xlim(0 if plan.zero else low - room, high + room)
