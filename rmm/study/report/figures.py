"""Which figures a report holds: one row of FIGURES each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.study.report.charts import Axis, Band, Chart, Line, Panel
from rmm.study.report.numbers import acceptance_band, compact, wilson
from rmm.study.report.results import Results

if TYPE_CHECKING:
    import pandas as pd

#: More panels than this are a wall, not a figure; the tables hold them all.
MOST_PANELS = 12


@dataclass(frozen=True)
class Figure:
    """What a figure shows of which measure, and how to read it.

    `scenarios` says which scenarios belong in it: "null" (truth = null value), "effect" or
    "all".
    """

    name: str
    measure: str
    title: str
    y: str
    caption: str
    proportion: bool = False
    scenarios: str = "all"
    target: Callable[[Mapping[str, Any]], float] | None = None
    target_name: str = ""


FIGURES: tuple[Figure, ...] = (
    Figure(
        "type1_error", "rejection", "Rejection of a true null hypothesis", "Rejection rate",
        "Share of replications that reject a true null hypothesis at α = {alpha:g}. Vertical bars: "
        "95% Monte Carlo intervals (Wilson). Grey: where 95% of studies of this size would "
        "find a test of exactly the nominal level. Dotted: "
        "Bradley’s liberal criterion, 0.5α to 1.5α.",
        proportion=True, scenarios="null", target=lambda e: float(e["alpha"]),
        target_name="nominal level",
    ),
    Figure(
        "power", "rejection", "Power", "Rejection rate",
        "Share of replications that reject a false null hypothesis at α = {alpha:g}, with 95% "
        "Monte Carlo intervals (Wilson). Power of a method whose Type-I error is above α is no "
        "merit.",
        proportion=True, scenarios="effect",
    ),
    Figure(
        "bias", "bias", "Bias", "Bias (mean estimate − truth)",
        "Mean of estimate minus truth, with 95% Monte Carlo intervals (± 1.96 MCSE). "
        "Zero is no bias.",
        target=lambda e: 0.0,
    ),
    Figure(
        "coverage", "coverage", "Coverage of the intervals", "Coverage",
        "Share of {percent} intervals that hold the truth, with 95% Monte Carlo intervals "
        "(Wilson). Grey: where 95% of studies of this size would find an interval of exactly "
        "the nominal coverage.",
        proportion=True, target=lambda e: 1 - float(e["alpha"]), target_name="nominal coverage",
    ),
    Figure(
        "relative_error_se", "relative_error_se", "Error of the standard errors",
        "Relative error of model SE (%)",
        "100 × (mean model standard error / standard deviation of the estimates − 1): below zero, "
        "a method claims more precision than it has. Bars: ± 1.96 MCSE.",
        target=lambda e: 0.0,
    ),
)  # fmt: skip


def charts(results: Results) -> list[Chart]:
    """All figures of FIGURES that this study has numbers for, the first being the headline."""
    made = [chart for figure in FIGURES if (chart := _chart(figure, results)) is not None]
    return made


def _chart(figure: Figure, results: Results) -> Chart | None:
    rows = results.measure(figure.measure)
    if rows.empty:
        return None
    table = rows.merge(results.scenarios, on="scenario", how="left")
    axis = x_axis(results)
    parts = [(e, _of_estimand(table, e, figure, results)) for e in results.estimands]
    parts = [(e, here) for e, here in parts if here["value"].notna().any()]
    if not parts:
        return None
    several = len(parts) > 1
    panels = [
        panel
        for estimand, here in parts
        for panel in _panels(figure, here, estimand, axis, results, several)
    ]
    first = parts[0][0]
    alpha = float(first["alpha"])
    caption = figure.caption.format(alpha=alpha, percent=f"{100 * (1 - alpha):g}%")
    caption += _caption_end(panels)
    title = figure.title if several else f"{figure.title}, {first['parameter']}"
    return Chart(
        figure.name, title, caption, figure.y, axis, tuple(panels[:MOST_PANELS]),
        figure.proportion, figure.target_name,
    )  # fmt: skip


def _caption_end(panels: Sequence[Panel]) -> str:
    end = ""
    if any(line.reference for panel in panels for line in panel.lines):
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
    levels = list(dict.fromkeys(results.scenarios[factor].tolist()))
    numeric = is_numeric(levels)
    if numeric:
        levels = sorted(levels)
    even = not numeric or _uneven(levels)
    at = tuple(float(i) if even else float(v) for i, v in enumerate(levels))
    return Axis(readable(factor), at, tuple(compact(v) for v in levels), nominal=not numeric)


def is_numeric(levels: Sequence[Any]) -> bool:
    """Whether the levels of a factor are numbers, so that lines between them mean something."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)


def _uneven(levels: Sequence[float]) -> bool:
    """Levels like 5, 50, 500 would crowd on a linear axis: give them equal distances."""
    gaps = [b - a for a, b in itertools.pairwise(levels)]
    return bool(gaps) and max(gaps) > 4 * min(gaps)


def readable(factor: str) -> str:
    """`membership.overlap` -> `overlap`: the last part of a dotted path, in words."""
    return factor.rsplit(".", 1)[-1].replace("_", " ")


def _of_estimand(
    table: pd.DataFrame, estimand: Mapping[str, Any], figure: Figure, results: Results
) -> pd.DataFrame:
    """Rows of an estimand, at its alpha, in the scenarios that the figure is about."""
    here = table[table["parameter"] == estimand["parameter"]]
    here = here[here["alpha"].isna() | ((here["alpha"] - float(estimand["alpha"])).abs() < 1e-12)]
    if figure.scenarios == "all":
        return here
    true = here["scenario"].map(lambda s: is_null(results, str(s), estimand))
    return here[true == (figure.scenarios == "null")]


def is_null(results: Results, scenario: str, estimand: Mapping[str, Any]) -> bool:
    """Whether the null hypothesis of an estimand is true in a scenario."""
    return abs(results.truth(scenario, estimand["parameter"]) - float(estimand["null"])) < 1e-12


def _panels(
    figure: Figure,
    here: pd.DataFrame,
    estimand: Mapping[str, Any],
    axis: Axis,
    results: Results,
    several: bool,
) -> list[Panel]:
    """One panel per combination of the factors that are not on the x axis."""
    others = [f for f in results.factors[1:] if here[f].astype(str).nunique() > 1]
    target = figure.target(estimand) if figure.target else None
    panels = []
    for combination, part in _split(here, others, results):
        words = [estimand["parameter"]] if several else []
        words += [f"{readable(f)} {compact(v)}" for f, v in combination]
        lines = tuple(_lines(figure, part, axis, results))
        bands = _bands(figure, estimand, int(part["n"].max()))
        scale = "" if figure.proportion else estimand["parameter"]
        panels.append(Panel(", ".join(words), lines, bands, target, scale))
    return panels


def _split(
    here: pd.DataFrame, others: Sequence[str], results: Results
) -> list[tuple[list[tuple[str, Any]], pd.DataFrame]]:
    levels = [list(dict.fromkeys(results.scenarios[f].tolist())) for f in others]
    parts = []
    for values in itertools.product(*levels):
        part = here
        for factor, value in zip(others, values, strict=True):
            part = part[part[factor].astype(str) == str(value)]
        if not part.empty:
            parts.append((list(zip(others, values, strict=True)), part))
    return parts


def _bands(figure: Figure, estimand: Mapping[str, Any], n: int) -> tuple[Band, ...]:
    alpha = float(estimand["alpha"])
    if figure.name == "type1_error":
        low, high = acceptance_band(alpha, n)
        return (
            Band(0.5 * alpha, 1.5 * alpha, "Bradley’s liberal criterion", filled=False),
            Band(low, high, "95% of correct tests", n=n),
        )
    if figure.name == "coverage":
        low, high = acceptance_band(alpha, n)
        return (Band(1 - high, 1 - low, "95% of correct intervals", n=n),)
    return ()


def _lines(figure: Figure, part: pd.DataFrame, axis: Axis, results: Results) -> list[Line]:
    lines = []
    for number, method in enumerate(results.methods):
        mine = part[part["method"] == method]
        points = sorted(
            (_place(row, number, axis, results), *_interval(figure, row), _reference(row))
            for row in mine.to_dict("records")
            if not math.isnan(row["value"])
        )
        if points:
            at, value, low, high, reference = zip(*points, strict=True)
            known = tuple((x, r) for x, r in zip(at, reference, strict=True) if math.isfinite(r))
            lines.append(Line(method, at, value, low, high, known))
    return lines


def _place(row: Mapping[Any, Any], number: int, axis: Axis, results: Results) -> float:
    if axis.names_methods:
        return float(number)
    return axis.at[axis.labels.index(compact(row[results.factors[0]]))]


def _interval(figure: Figure, row: Mapping[Any, Any]) -> tuple[float, float, float]:
    value, mcse = float(row["value"]), float(row["mcse"])
    if figure.proportion:
        return (value, *wilson(value, float(row["n"])))
    half = 0.0 if math.isnan(mcse) else 1.959964 * mcse
    return value, value - half, value + half


def _reference(row: Mapping[Any, Any]) -> float:
    value = row.get("reference")
    return math.nan if value is None else float(value)
