"""Figures of one measure by the levels of a factor: one row of MEASURED each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rmm.study.design.estimand import Estimand
from rmm.study.measures.proportions import acceptance_band
from rmm.study.report.data.format_numbers import FEW, compact
from rmm.study.report.data.labels import is_numeric, readable
from rmm.study.report.data.levels import is_null, split
from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import MOST_PANELS, Chart
from rmm.study.report.figures.dots import Axis, Band, Dot, DotPanel, Line, keys, limits, panel_size

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measured:
    """What a figure shows of which measure, and how to read it.

    `scenarios` says which scenarios belong in it: "null" (truth = null value), "effect" or
    "all".
    """

    name: str
    measure: str
    section: str
    title: str
    y: str
    caption: str
    proportion: bool = False
    scenarios: str = "all"
    target: Callable[[Estimand], float] | None = None
    target_name: str = ""


MEASURED: tuple[Measured, ...] = (
    Measured(
        "type1_error", "rejection", "tests", "Rejection of a true null hypothesis",
        "Rejection rate",
        "Share of replications that reject a true null hypothesis at α = {alpha:g}. Vertical bars: "
        "95% Monte Carlo intervals (Wilson). Grey: where 95% of studies of this size would "
        "find a test of exactly the nominal level. Dotted and dashed: "
        "Bradley’s (1978) liberal criterion, 0.5α to 1.5α, and stringent one, 0.9α to 1.1α.",
        proportion=True, scenarios="null", target=lambda e: e.alpha[0],
        target_name="nominal level",
    ),
    Measured(
        "power", "rejection", "tests", "Power", "Rejection rate",
        "Share of replications that reject a false null hypothesis at α = {alpha:g}, with 95% "
        "Monte Carlo intervals (Wilson). Power of a method whose Type-I error is above α is no "
        "merit.",
        proportion=True, scenarios="effect",
    ),
    Measured(
        "coverage", "coverage", "tests", "Coverage of the intervals", "Coverage",
        "Share of {percent} intervals that hold the truth, with 95% Monte Carlo intervals "
        "(Wilson). Grey: where 95% of studies of this size would find an interval of exactly the "
        "nominal coverage.",
        proportion=True, target=lambda e: 1 - e.alpha[0], target_name="nominal coverage",
    ),
    Measured(
        "bias", "bias", "estimates", "Bias", "Bias (mean estimate − truth)",
        "Mean of estimate minus truth, with 95% Monte Carlo intervals (± 1.96 MCSE). Zero is no "
        "bias.",
        target=lambda e: 0.0,
    ),
    Measured(
        "relative_error_se", "relative_error_se", "estimates", "Error of the standard errors",
        "Relative error of model SE (%)",
        "100 × (mean model standard error / standard deviation of the estimates − 1): below zero, "
        "a method claims more precision than it has. Bars: ± 1.96 MCSE.",
        target=lambda e: 0.0,
    ),
)  # fmt: skip


#: Columns of the performance that a panel reads.
_READ = ("method", "value", "lower", "upper", "reference", "n")


def by_factor(results: Results) -> list[Chart]:
    """All figures of MEASURED that this study has numbers for."""
    return [chart for row in MEASURED if (chart := _chart(row, results)) is not None]


def rows_of(measured: Measured, estimand: Estimand, results: Results) -> pd.DataFrame:
    """Rows of a measure and estimand at its first alpha, in the scenarios it is about."""
    here = results.measure(measured.measure)
    here = here[here["parameter"] == estimand.parameter]
    here = here[here["alpha"].isna() | ((here["alpha"] - estimand.alpha[0]).abs() < 1e-12)]
    if measured.scenarios != "all":
        null = {s: is_null(results, str(s), estimand) for s in here["scenario"].unique()}
        true = here["scenario"].map(null).astype(bool)
        here = here[true == (measured.scenarios == "null")]
    return here.merge(results.scenarios, on="scenario", how="left")


def read(measured: Measured, estimand: Estimand) -> str:
    """The caption of a measure for one estimand."""
    alpha = estimand.alpha[0]
    return measured.caption.format(alpha=alpha, percent=f"{100 * (1 - alpha):g}%")


def _chart(measured: Measured, results: Results) -> Chart | None:
    axis = x_axis(results)
    parts, left_out = _without_the_few(
        [(e, rows_of(measured, e, results)) for e in results.study.estimands]
    )
    parts = [(e, here) for e, here in parts if here["value"].notna().any()]
    if not parts:
        return None
    several = len(parts) > 1
    panels = [
        panel
        for estimand, here in parts
        for panel in _panels(measured, here, estimand, axis, results, several)
    ]
    if measured.proportion:
        common = limits(panels, whole_unit=True)
        panels = [replace(panel, limits=common) for panel in panels]
    first = parts[0][0]
    title = measured.title if several else f"{measured.title}, {first.parameter}"
    kept = tuple(panels[:MOST_PANELS])
    caption = read(measured, first) + _caption_end(panels, left_out)
    return Chart(
        measured.name,
        title,
        caption,
        measured.section,
        kept,
        axis.name,
        measured.y,
        keys(kept, measured.target_name),
        panel_size(len(results.methods), axis.names_methods) if len(kept) == 1 else (4.1, 2.75),
        order=tuple(sorted(range(len(kept)), key=lambda i: -kept[i].distance)),
    )


def _without_the_few(
    parts: Sequence[tuple[Estimand, pd.DataFrame]],
) -> tuple[list[tuple[Estimand, pd.DataFrame]], int]:
    """Values of next to no replications beside those of many are not drawn, and counted.

    Where nearly all fits of a method failed, the interval of the rest is most of the axis.
    """
    used = [here["n"].where(here["value"].notna()) for _, here in parts]
    most = max((n.max() for n in used), default=0)
    few = [(n < FEW) & (n < 0.05 * most) for n in used]
    drawn = [
        (estimand, here.assign(value=here["value"].mask(out)))
        for out, (estimand, here) in zip(few, parts, strict=True)
    ]
    return drawn, sum(int(out.sum()) for out in few)


def _caption_end(panels: Sequence[DotPanel], left_out: int) -> str:
    end = ""
    if left_out:
        end += f" Not drawn: {left_out} of fewer than {FEW} usable replications; see the tables."
    dots = (dot for panel in panels for line in panel.lines for dot in line.dots)
    if any(math.isfinite(dot.reference) for dot in dots):
        end += " Short black bars: closed form or published value of the method."
    if len(panels) > MOST_PANELS:
        end += f" The first {MOST_PANELS} of {len(panels)} panels; the tables hold all."
    return end


def x_axis(results: Results) -> Axis:
    """The factor on the x axis; numbers at their place, words in the order of the study file.

    A study without factors puts its methods there.
    """
    if not results.factors:
        at = tuple(float(i) for i in range(len(results.methods)))
        return Axis("", at, tuple(results.methods), True)
    factor = results.factors[0]
    levels = list(results.filters.levels[factor])
    numeric = is_numeric(levels)
    even = not numeric or _uneven(levels)
    at = tuple(float(i) if even else float(v) for i, v in enumerate(levels))
    return Axis(readable(factor), at, tuple(compact(v) for v in levels), nominal=not numeric)


def _uneven(levels: Sequence[float]) -> bool:
    """Levels like 5, 50, 500 would crowd on a linear axis: give them equal distances."""
    gaps = [b - a for a, b in itertools.pairwise(levels)]
    return bool(gaps) and max(gaps) > 4 * min(gaps)


def _panels(
    measured: Measured,
    here: pd.DataFrame,
    estimand: Estimand,
    axis: Axis,
    results: Results,
    several: bool,
) -> list[DotPanel]:
    """One panel per combination of the factors that are not on the x axis."""
    others = [f for f in results.factors[1:] if here[f].astype(str).nunique() > 1]
    target = measured.target(estimand) if measured.target else None
    panels = []
    # Plain objects: a large study has thousands of small parts.
    here = here.reindex(columns=[*results.factors, *_READ]).astype({"method": object})
    for combination, part in split(here, others, results):
        words = [estimand.parameter] if several else []
        words += [f"{readable(f)} = {compact(v)}" for f, v in combination]
        where = tuple(results.filters.level(f, v) for f, v in combination)
        lines = tuple(_lines(part, axis, results))
        bands = _bands(measured, estimand, int(part["n"].max()))
        panels.append(
            DotPanel(", ".join(words), lines, axis, bands, target, (0.0, 1.0), False, where)
        )
    common = limits(panels)
    return [replace(panel, limits=common) for panel in panels]


def _bands(measured: Measured, estimand: Estimand, n: int) -> tuple[Band, ...]:
    alpha = estimand.alpha[0]
    low, high = acceptance_band(alpha, n)
    if measured.name == "type1_error":
        return (
            Band(0.5 * alpha, 1.5 * alpha, "Bradley’s liberal criterion", "dotted"),
            Band(0.9 * alpha, 1.1 * alpha, "Bradley’s stringent criterion", "dashed"),
            Band(low, high, "95% of correct tests", n=n),
        )
    if measured.name == "coverage":
        return (Band(1 - high, 1 - low, "95% of correct intervals", n=n),)
    return ()


def _lines(part: pd.DataFrame, axis: Axis, results: Results) -> list[Line]:
    names = [*results.factors[:1], *_READ]
    records = [
        dict(zip(names, row, strict=True))
        for row in zip(*(part[name].tolist() for name in names), strict=True)
    ]
    lines = []
    for number, method in enumerate(results.methods):
        rows = [r for r in records if r["method"] == method and not math.isnan(r["value"])]
        dots = [
            Dot(
                _place(row, number, axis, results),
                *_interval(row),
                _reference(row),
                _on_axis(row, results),
            )
            for row in rows
        ]
        if dots:
            order = sorted(dots, key=lambda dot: dot.at)
            lines.append(Line(method, tuple(order), (results.filters.method(method),)))
    return lines


def _on_axis(row: Mapping[Any, Any], results: Results) -> tuple[str, ...]:
    """The class of the level on the x axis."""
    return tuple(results.filters.level(f, row[f]) for f in results.factors[:1])


def _place(row: Mapping[Any, Any], number: int, axis: Axis, results: Results) -> float:
    if axis.names_methods:
        return float(number)
    factor = results.factors[0]
    return axis.at[results.filters.place(factor, row[factor])]


def _interval(row: Mapping[Any, Any]) -> tuple[float, float, float]:
    """A value and its Monte Carlo interval; of no width where none is known."""
    value, low, high = (float(row[c]) for c in ("value", "lower", "upper"))
    return value, value if math.isnan(low) else low, value if math.isnan(high) else high


def _reference(row: Mapping[Any, Any]) -> float:
    value = row["reference"]
    return math.nan if value is None else float(value)
