"""Tables of a report: the same content as HTML, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.study.report.figures import readable
from rmm.study.report.numbers import MINUS, MISSING, compact, decimals_for, fixed
from rmm.study.report.results import Results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measure:
    """How a measure is headed, and how often it is multiplied for reading."""

    label: str
    digits_at_most: int = 4


MEASURES: dict[str, Measure] = {
    "mean": Measure("Mean estimate"),
    "bias": Measure("Bias"),
    "relative_bias": Measure("Relative bias"),
    "empirical_se": Measure("Empirical SE"),
    "mse": Measure("MSE"),
    "rmse": Measure("RMSE"),
    "model_se": Measure("Model SE"),
    "relative_error_se": Measure("Error of model SE, %", 1),
    "relative_precision": Measure("Relative precision, %", 1),
    "coverage": Measure("Coverage", 3),
    "be_coverage": Measure("Bias-eliminated coverage", 3),
    "interval_width": Measure("Interval width"),
    "rejection": Measure("Rejection rate", 3),
    "type_s": Measure("Type S error", 3),
    "exaggeration": Measure("Exaggeration"),
    "size_adjusted_power": Measure("Size-adjusted power", 3),
    "convergence": Measure("Converged", 3),
    "difference_bias": Measure("Bias"),
    "difference_mse": Measure("MSE"),
    "difference_coverage": Measure("Coverage", 3),
    "difference_rejection": Measure("Rejection rate", 3),
    "difference_width": Measure("Interval width"),
    "selection": Measure("Selected", 3),
    "seconds": Measure("Seconds per fit", 2),
    "ess_per_second": Measure("ESS per second", 1),
}

#: Columns of the tables of one parameter: (short name, heading, measures).
GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("tests", "Tests and intervals",
     ("rejection", "coverage", "be_coverage", "interval_width", "size_adjusted_power", "type_s")),
    ("estimates", "Estimates and standard errors",
     ("bias", "relative_bias", "empirical_se", "model_se", "relative_error_se", "rmse")),
    ("differences", "Differences from {baseline}, on the same data",
     ("difference_rejection", "difference_coverage", "difference_bias", "difference_mse",
      "difference_width")),
    ("more", "Further measures",
     ("mean", "mse", "relative_precision", "exaggeration", "convergence", "seconds",
      "ess_per_second")),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A cell: text as shown, the number behind it (for CSV), and its kind for the layout."""

    text: str
    value: Any = None
    kind: str = "text"
    new_block: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `columns` are headings; a heading that spans its error column counts as two."""

    name: str
    title: str
    caption: str
    columns: tuple[tuple[str, int], ...]
    plain_columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def measure_tables(results: Results, policy: str = "per_method") -> list[Table]:
    """One table per parameter and group of measures; a measure without numbers is left out."""
    tables = []
    for parameter in results.parameters:
        rows = results.performance
        rows = rows[(rows["policy"] == policy) & _belongs(rows["parameter"], parameter)]
        for name, words, measures in GROUPS:
            heading = words.format(baseline=results.baseline)
            chosen = _with_numbers(rows, measures)
            if chosen:
                tables.append(_measure_table(results, rows, parameter, name, heading, chosen))
    return tables


def _belongs(column: pd.Series[Any], parameter: str) -> pd.Series[Any]:
    """Measures of whole fits (convergence, seconds) may carry no parameter: they go with all."""
    return (column == parameter) | column.isna() | (column == "")


def _with_numbers(rows: pd.DataFrame, measures: Sequence[str]) -> list[tuple[str, float]]:
    """(measure, alpha) pairs that have a number; alpha is nan where it plays no part."""
    found = []
    for measure in measures:
        mine = rows[(rows["measure"] == measure) & rows["value"].notna()]
        alphas = sorted(set(mine["alpha"].dropna().tolist()))
        found += [(measure, alpha) for alpha in alphas]
        if not alphas and not mine.empty:
            found.append((measure, math.nan))
    return found


def _measure_table(
    results: Results,
    rows: pd.DataFrame,
    parameter: str,
    name: str,
    heading: str,
    chosen: Sequence[tuple[str, float]],
) -> Table:
    factors = results.factors
    several = len({a for m, a in chosen if m == "rejection"}) > 1
    found = _by_address(rows)
    decimals = {pair: _decimals(found, pair) for pair in chosen}
    body = []
    for record in results.scenarios.to_dict("records"):
        scenario = str(record["scenario"])
        first = True
        for method in results.methods:
            cells = [
                Cell(compact(record[f]) if first else "", record[f], "factor", first)
                for f in factors
            ] + [Cell(method, method, "method", first)]
            counts: Mapping[str, Any] = {}
            for pair in chosen:
                row = found.get((scenario, method, *_key(pair)))
                cells += _value_cells(row, decimals[pair], first)
                counts = row or counts
            body.append((*cells, *_count_cells(counts, first)))
            first = False
    labels = [_label(measure, alpha, several) for measure, alpha in chosen]
    head = [(readable(f), 1) for f in factors] + [("Method", 1)] + [(x, 2) for x in labels]
    plain = [*factors, "method"]
    for (measure, alpha), _ in zip(chosen, labels, strict=True):
        column = f"{measure}_{alpha:g}" if several and measure == "rejection" else measure
        plain += [column, f"{column}_mcse"]
    counted = ("n", "not converged", "failed")
    return Table(
        f"{_file_name(parameter)}_{name}",
        f"{parameter}: {heading[0].lower()}{heading[1:]}",
        _caption(results, parameter),
        (*head, *((c, 1) for c in counted)),
        (*plain, "n", "n_not_converged", "n_failed"),
        tuple(body),
    )


def _caption(results: Results, parameter: str) -> str:
    truths = {results.truth(str(s), parameter) for s in results.scenarios["scenario"]}
    known = sorted(t for t in truths if not math.isnan(t))
    text = "Monte Carlo standard errors in parentheses; n: usable fits."
    if known:
        values = ", ".join(compact(float(t)) for t in known)
        text = f"True value {values}. {text}"
    return text


def _by_address(rows: pd.DataFrame) -> dict[tuple[Any, ...], dict[Any, Any]]:
    return {
        (r["scenario"], r["method"], r["measure"], _alpha_key(r["alpha"])): r
        for r in rows.to_dict("records")
    }


def _alpha_key(alpha: float) -> float | None:
    return None if alpha is None or math.isnan(alpha) else round(float(alpha), 10)


def _key(pair: tuple[str, float]) -> tuple[str, float | None]:
    return pair[0], _alpha_key(pair[1])


def _decimals(found: Mapping[tuple[Any, ...], Mapping[Any, Any]], pair: tuple[str, float]) -> int:
    mine = [r for key, r in found.items() if key[2:] == _key(pair)]
    most = MEASURES[pair[0]].digits_at_most
    return decimals_for([r["mcse"] for r in mine], [r["value"] for r in mine], most)


def _value_cells(row: Mapping[Any, Any] | None, decimals: int, first: bool) -> list[Cell]:
    value = math.nan if row is None else float(row["value"])
    mcse = math.nan if row is None else float(row["mcse"])
    error = "" if math.isnan(mcse) else f"({fixed(mcse, decimals)})"
    return [
        Cell(fixed(value, decimals), value, "number", first),
        Cell(error, mcse, "error", first),
    ]


def _count_cells(row: Mapping[str, Any], first: bool) -> list[Cell]:
    names = ("n", "n_not_converged", "n_failed")
    values = [row.get(name) for name in names]
    shown = [MISSING if v is None or v != v else f"{int(v):,}" for v in values]
    return [
        Cell(t, v, "count alarm" if k and t not in ("0", MISSING) else "count", first)
        for k, (t, v) in enumerate(zip(shown, values, strict=True))
    ]


def _label(measure: str, alpha: float, several: bool) -> str:
    label = MEASURES[measure].label
    return f"{label}, α = {alpha:g}" if several and measure == "rejection" else label


def _file_name(parameter: str) -> str:
    """`b_l1[x]` -> `b_l1_x`."""
    kept = "".join(c if c.isalnum() else "_" for c in parameter)
    return "_".join(part for part in kept.split("_") if part)


def write_table(table: Table, folder: Path) -> None:
    """Write `NAME.csv` (full precision) and `NAME.tex` (booktabs) into `folder`."""
    (folder / f"{table.name}.csv").write_text(as_csv(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(as_latex(table), encoding="utf-8")


def as_csv(table: Table) -> str:
    """The table with unrounded numbers; missing values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.plain_columns)
    for row in table.rows:
        writer.writerow([_plain(cell.value) for cell in row])
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    MINUS: "$-$", MISSING: "--", "α": r"$\alpha$", "≤": r"$\le$", "×": r"$\times$",
    "[": "{[}", "]": "{]}",
}  # fmt: skip


def latex(text: str) -> str:
    r"""Text safe inside a LaTeX table; brackets are guarded, as they follow `\\`."""
    return "".join(_LATEX.get(c, c) for c in text)


def as_latex(table: Table) -> str:
    r"""The table for `\input{}`; needs the package booktabs only."""
    layout = "".join(_LAYOUT[cell.kind.split()[0]] for cell in table.rows[0])
    heads = [
        latex(name) if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{latex(name)}}}"
        for name, span in table.columns
    ]
    lines = [rf"% {table.title}. {table.caption}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for number, row in enumerate(table.rows):
        if number and row[0].new_block:
            lines.append(r"\addlinespace")
        lines.append(" & ".join(latex(cell.text) for cell in row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


_LAYOUT = {"factor": "l", "method": "l", "text": "l", "number": "r", "error": "@{\\ }r",
           "count": "r"}  # fmt: skip


def performance_csv(results: Results) -> str:
    """Every measure, policy and alpha in one long table, with the scenarios' factors."""
    factors = [c for c in results.scenarios.columns if c != "scenario"]
    order = ["scenario", *factors]
    table = results.performance.merge(results.scenarios[order], on="scenario", how="left")
    columns = [*order, *(c for c in results.performance.columns if c != "scenario")]
    return str(table[columns].to_csv(index=False, lineterminator="\n"))
