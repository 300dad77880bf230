"""The table of which factors explain the differences between scenarios."""

from __future__ import annotations

from typing import Any

from rmm.errors import StudyError
from rmm.study.measures.variance_shares import NOISE, TOTAL
from rmm.study.report.data.explained import SCENARIOS, explained
from rmm.study.report.data.format_numbers import MISSING, fixed, p_text
from rmm.study.report.data.labels import source_label
from rmm.study.report.data.results import Results
from rmm.study.report.tables.measure_tables import MEASURES, Cell, Table

_CAPTION = (
    "Analysis of variance of the measures of {n} scenarios (Skrondal 2000). Share: of the mean "
    "squared difference from the mean over the scenarios; the Monte Carlo noise, known from the "
    "Monte Carlo standard errors, is subtracted and has a row of its own. In parentheses: Monte "
    "Carlo standard errors of the shares. SD: square root of what the source explains, in units of "
    "the measure. Estimates are unbiased, so that a share of nothing can be below 0. Higher "
    "order: what factors and their two-way interactions leave. p: the source explains nothing."
)
_HEADS = ("Method", "Measure", "Source", "df", "Share, %", "SD", "p")


def explained_table(results: Results) -> list[Table]:
    """One table of the main estimand, where two factors vary over six scenarios or more."""
    if len(results.scenarios) not in SCENARIOS:
        return []
    try:
        found = explained(results)
    except StudyError:  # one factor, or measures without numbers
        return []
    estimand = results.study.estimands[0].parameter
    rows = found.to_dict("records")
    return [
        Table(
            f"{results.file_names[estimand]}_factors",
            "factors",
            f"{estimand}: shares of factors in the differences between scenarios",
            _CAPTION.replace("{n}", str(int(found["scenarios"].max()))),
            tuple((head, 2 if head.startswith("Share") else 1) for head in _HEADS),
            ("method", "measure", "source", "df", "share", "share_mcse", "sd", "p_value"),
            tuple(_row(row) for row in rows),
            tuple((results.filters.method(row["method"]),) for row in rows),
        )
    ]


def _row(row: dict[Any, Any]) -> tuple[Cell, ...]:
    label, alpha = MEASURES[row["measure"]].label, row["alpha"]
    name = label if alpha != alpha else f"{label}, α = {alpha:g}"
    source = source_label(row["source"])
    sd = max(float(row["variance"]), 0.0) ** 0.5
    error = "" if row["source"] == TOTAL else f"({_error(100 * row['share_mcse'])})"
    df = MISSING if row["source"] == NOISE else f"{int(row['df'])}"
    return (
        Cell(str(row["method"]), row["method"], "method"),
        Cell(name, row["measure"], "factor"),
        Cell(source, row["source"], "factor"),
        Cell(df, int(row["df"]), "count"),
        Cell(fixed(100 * row["share"], 1), row["share"], "number"),
        Cell(error, row["share_mcse"], "error"),
        Cell(fixed(sd, 4), sd, "count"),
        Cell(p_text(row["p_value"]), row["p_value"], "count"),
    )


def _error(percent: float) -> str:
    """A Monte Carlo error with one decimal, never a zero."""
    return "<0.1" if percent < 0.05 else fixed(percent, 1)
