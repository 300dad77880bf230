"""Tables of a report: the same content as HTML, CSV and LaTeX (`table_files`)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.errors import counted
from rmm.study.report.data.format_numbers import MISSING, compact, decimals_for, fixed, uncertainty
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import Results
from rmm.study.report.figures.rank_ecdf import rank_table

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
    "contraction": Measure("Contraction of the prior"),
    "ess_per_second": Measure("ESS per second", 1),
    "median": Measure("Median estimate"),
    "median_bias": Measure("Median bias"),
    "trimmed_bias": Measure("Trimmed bias"),
    "winsorised_bias": Measure("Winsorised bias"),
    "mean_absolute_error": Measure("Mean absolute error"),
    "mean_variance": Measure("Mean SE²"),
    "median_variance": Measure("Median SE²"),
    "interval_score": Measure("Interval score"),
    "crps": Measure("CRPS"),
}

#: Columns of the tables of one parameter: (part of the report, heading, measures).
GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("tests", "Tests and intervals",
     ("rejection", "coverage", "be_coverage", "interval_width", "size_adjusted_power", "type_s")),
    ("estimates", "Estimates and standard errors",
     ("bias", "relative_bias", "empirical_se", "model_se", "relative_error_se", "rmse")),
    ("differences", "Differences from {baseline}, on the same data",
     ("difference_rejection", "difference_coverage", "difference_bias", "difference_mse",
      "difference_width")),
    ("computation", "Further measures, convergence and time",
     ("mean", "mse", "relative_precision", "exaggeration", "contraction", "convergence",
      "seconds", "ess_per_second")),
)  # fmt: skip


#: Columns of the performance that a cell may show.
_READ = ("value", "mcse", "lower", "upper", "n", "n_failed", "n_not_converged")

#: A larger share of failed and unconverged fits is marked.
ALARM = 0.05


@dataclass(frozen=True)
class Cell:
    """A cell: text as shown, the number behind it (for CSV), and its kind for the layout."""

    text: str
    value: Any = None
    kind: str = "text"
    new_block: bool = False

    @property
    def html_class(self) -> str:
        """Its class in the page; plain counts, the most frequent cells, have none."""
        name = _CLASSES.get(self.kind, self.kind)
        return f' class="{name}"' if name else ""


#: Kinds of cells -> classes: one letter each, as large studies have many cells.
_CLASSES = {
    "factor": "f",
    "factor again": "f g",
    "method": "m",
    "number": "v",
    "error": "e",
    "count": "",
}


@dataclass(frozen=True)
class Table:
    """A table: `columns` are headings; a heading that spans its error column counts as two.

    `section` is the part of the report it stands in (`sections.SECTIONS`), `where` holds the
    classes of the filters for each row.
    """

    name: str
    section: str
    title: str
    caption: str
    columns: tuple[tuple[str, int], ...]
    plain_columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    where: tuple[tuple[str, ...], ...]

    @property
    def heads(self) -> int:
        """How many columns say which row it is."""
        return sum(c.kind.split()[0] in ("factor", "method") for c in self.rows[0])


#: Further columns in reports of tables of estimates.
ROBUST: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("scores", "Robust measures and proper scores",
     ("median_bias", "trimmed_bias", "winsorised_bias", "mean_absolute_error", "median_variance",
      "interval_score", "crps")),
)  # fmt: skip


def measure_tables(
    results: Results,
    policy: str = "per_method",
    groups: Sequence[tuple[str, str, tuple[str, ...]]] = GROUPS,
) -> list[Table]:
    """One table per parameter and group of measures; a measure without numbers is left out."""
    tables = []
    for parameter in results.parameters:
        rows = results.performance
        rows = rows[(rows["policy"] == policy) & _belongs(rows["parameter"], parameter)]
        for section, words, measures in groups:
            heading = words.replace("{baseline}", results.study.baseline_of(parameter))
            chosen = _with_numbers(rows, measures)
            if chosen:
                tables.append(_measure_table(results, rows, parameter, section, heading, chosen))
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
    section: str,
    heading: str,
    chosen: Sequence[tuple[str, float]],
) -> Table:
    found = _by_address(rows[rows["measure"].isin([measure for measure, _ in chosen])])
    of_pair: defaultdict[tuple[str, float | None], list[Mapping[str, Any]]] = defaultdict(list)
    for key, scored in found.items():
        of_pair[key[2:]].append(scored)
    decimals = {pair: _decimals(of_pair[_key(pair)], pair) for pair in chosen}
    methods = [
        m
        for m in results.methods
        if section != "differences" or m != results.study.baseline_of(parameter)
    ]
    body, where = [], []
    for record in results.scenarios.to_dict("records"):
        here = results.filters.scenario(record)
        for number, method in enumerate(methods):
            cells = _head_cells(results, record, method, first=number == 0)
            scores = [found.get((record["scenario"], method, *_key(pair))) for pair in chosen]
            counts: Mapping[Any, Any] = next((row for row in scores if row), {})
            for pair, row in zip(chosen, scores, strict=True):
                cells += _value_cells(row, decimals[pair], counts.get("n"))
            body.append((*cells, *_count_cells(counts)))
            where.append((results.filters.method(method), *here))
    several = {m for m, _ in chosen if sum(m == other for other, _ in chosen) > 1}
    head = [(readable(f), 1) for f in results.factors] + [("Method", 1)]
    head += [(_label(measure, alpha, measure in several), 2) for measure, alpha in chosen]
    plain = [*results.factors, "method"]
    for measure, alpha in chosen:
        column = f"{measure}_{alpha:g}" if measure in several else measure
        plain += [column, f"{column}_mcse"]
    return Table(
        f"{results.file_names[parameter]}_{section}",
        section,
        f"{parameter}: {heading[0].lower()}{heading[1:]}",
        _caption(results, parameter),
        (*head, *((c, 1) for c in ("n", "not converged", "failed"))),
        (*plain, "n", "n_not_converged", "n_failed"),
        tuple(body),
        tuple(where),
    )


def _head_cells(
    results: Results, record: Mapping[Any, Any], method: str, *, first: bool
) -> list[Cell]:
    """Levels and method; the levels are said again in each row, as rows above may be hidden."""
    kind = "factor" if first else "factor again"
    return [
        *(Cell(compact(record[f]), record[f], kind, first) for f in results.factors),
        Cell(method, method, "method", first),
    ]


def _caption(results: Results, parameter: str) -> str:
    truths = {results.truth(str(s), parameter) for s in results.scenarios["scenario"]}
    known = sorted(t for t in truths if not math.isnan(t))
    text = (
        "In parentheses: Monte Carlo standard errors. In brackets: 95% intervals (Wilson) of rates "
        "of 0 and 1. n: usable fits. Counts of other fits are marked where they are more than "
        f"{100 * ALARM:g}%."
    )
    if known:
        values = ", ".join(compact(float(t)) for t in known)
        text = f"True value {values}. {text}"
    scales = [f"{m} ({scale})" for m, scale in results.other_scales(parameter).items()]
    if scales:
        text += f" On another scale than the truth, and not compared with it: {', '.join(scales)}."
    return text


def _by_address(rows: pd.DataFrame) -> dict[tuple[Any, ...], dict[Any, Any]]:
    alphas = {alpha: _alpha_key(alpha) for alpha in rows["alpha"].dropna().unique()}
    keys = zip(
        rows["scenario"].tolist(),
        rows["method"].tolist(),
        rows["measure"].tolist(),
        [alphas.get(alpha) for alpha in rows["alpha"].tolist()],
        strict=True,
    )
    values = zip(*(rows[name].tolist() for name in _READ), strict=True)
    return {key: dict(zip(_READ, row, strict=True)) for key, row in zip(keys, values, strict=True)}


def _alpha_key(alpha: float) -> float | None:
    return None if alpha is None or math.isnan(alpha) else round(float(alpha), 10)


def _key(pair: tuple[str, float]) -> tuple[str, float | None]:
    return pair[0], _alpha_key(pair[1])


def _decimals(mine: Sequence[Mapping[str, Any]], pair: tuple[str, float]) -> int:
    most = MEASURES[pair[0]].digits_at_most
    return decimals_for([_error(r) for r in mine], [r["value"] for r in mine], most)


def _error(row: Mapping[Any, Any]) -> float:
    """The Monte Carlo error; of rates of 0 and 1 what it would be by the width of the interval."""
    mcse = float(row["mcse"])
    return (float(row["upper"]) - float(row["lower"])) / 4 if math.isnan(mcse) else mcse


def _value_cells(row: Mapping[Any, Any] | None, decimals: int, usual: Any) -> list[Cell]:
    """A value and its error; measures of other fits than the row's others (`usual`) say their n."""
    value, mcse, lower, upper = (
        math.nan if row is None else float(row[c]) for c in ("value", "mcse", "lower", "upper")
    )
    error = uncertainty(mcse, lower, upper, decimals)
    if row is not None and not math.isnan(value) and row["n"] != usual:
        error = f"{error} n {int(row['n']):,}".strip()
    return [Cell(fixed(value, decimals), value, "number"), Cell(error, mcse, "error")]


def _count_cells(row: Mapping[Any, Any]) -> list[Cell]:
    values = [row.get(name) for name in ("n", "n_not_converged", "n_failed")]
    shown = [MISSING if v is None or v != v else f"{int(v):,}" for v in values]
    many = ALARM * sum(float(v) for v in values if v is not None and v == v)
    return [
        Cell(t, v, "alarm" if k and v is not None and v > many else "count")
        for k, (t, v) in enumerate(zip(shown, values, strict=True))
    ]


def _label(measure: str, alpha: float, several: bool) -> str:
    label = MEASURES[measure].label
    return f"{label}, α = {alpha:g}" if several else label


def calibration_table(results: Results) -> list[Table]:
    """P values of the ranks' ECDF, if the study has ranks."""
    rows = rank_table(results)
    if not rows:
        return []
    body, where = [], []
    for row in rows:
        record, method = row["scenario"], row["method"]
        cells = [Cell(compact(record[f]), record[f], "factor") for f in results.factors]
        cells += [
            Cell(row["parameter"], row["parameter"], "factor"),
            Cell(method, method, "method"),
        ]
        cells += [
            Cell(f"{row['n']:,}", row["n"], "count"),
            Cell(fixed(row["p"], 4), row["p"], "count"),
        ]
        body.append(tuple(cells))
        where.append((results.filters.method(method), *results.filters.scenario(record)))
    caption = (
        f"P value of the largest deviation of the ranks’ ECDF from the uniform one; "
        f"{counted(len(rows), 'test')}, so the smallest of calibrated methods is about "
        f"{1 / (len(rows) + 1):.2g}."
    )
    heads = [*(readable(f) for f in results.factors), "Parameter", "Method", "data sets", "p"]
    plain = (*results.factors, "parameter", "method", "n", "ecdf_p")
    return [
        Table(
            "calibration",
            "calibration",
            "Uniformity of ranks",
            caption,
            tuple((h, 1) for h in heads),
            plain,
            tuple(body),
            tuple(where),
        )
    ]
