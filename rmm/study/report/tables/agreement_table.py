"""The table of methods and the ones that confirm them by another engine, on the same data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rmm.study.evaluate.engine_agreement import (
    ALPHA,
    LEAST,
    LEVEL,
    RATIO_MARGIN,
    SHIFT_MARGIN,
    TOO_FEW,
    study_confirmations,
)
from rmm.study.report.data.format_numbers import (
    compact,
    decimals_for,
    fixed,
    rate_known_to,
    uncertainty,
)
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import StudyResults
from rmm.study.report.tables.measure_tables import Cell, Table

#: Column -> (heading, most digits).
_SHOWN = {"shift": ("Difference of means, in sds", 3), "sd_ratio": ("Ratio of sds", 3)}
_RATES = {"rejections": "Rejects", "confirming_rejections": "(confirming)"}


def confirmation_table(results: StudyResults) -> list[Table]:
    """One row per scenario, estimand and pair; no table where no method confirms another."""
    found = study_confirmations(results.study, results.estimates)
    if not found:
        return []
    decimals = {
        name: max(
            2,
            decimals_for(
                [(r[f"{name}_upper"] - r[f"{name}_lower"]) / 4 for r in found],
                [r[name] for r in found],
                most,
            ),
        )
        for name, (_, most) in _SHOWN.items()
    }
    records = {record["scenario"]: record for record in results.scenarios.to_dict("records")}
    heads = [*(readable(f) for f in results.factors), "Parameter", "Method", "Confirmed by"]
    columns = [(h, 1) for h in (*heads, "data sets", "dropped")]
    for heading, _ in _SHOWN.values():
        columns += [(heading, 2), ("verdict", 1)]
    plain = [*results.factors, "parameter", "method", "confirming", "n", "dropped"]
    for name in _SHOWN:
        plain += [name, f"{name}_interval", f"{name}_verdict"]
    return [
        Table(
            "confirmation",
            "confirmation",
            "Posteriors of two engines, on the same data",
            _caption(found),
            (*columns, *((h, 1) for h in _RATES.values())),
            (*plain, *_RATES),
            tuple(_row(results, records[r["scenario"]], r, decimals) for r in found),
            tuple(
                (
                    results.filters.method(r["method"]),
                    *results.filters.scenario(records[r["scenario"]]),
                )
                for r in found
            ),
        )
    ]


def _row(
    results: StudyResults,
    record: Mapping[Any, Any],
    row: Mapping[Any, Any],
    decimals: Mapping[str, int],
) -> tuple[Cell, ...]:
    cells = [Cell(compact(record[f]), record[f], "factor") for f in results.factors]
    cells += [Cell(row["parameter"], row["parameter"], "factor")]
    cells += [Cell(row[name], row[name], "method") for name in ("method", "confirming")]
    cells += [
        Cell(f"{row['n']:,} of {row['asked']:,}", row["n"], "count"),
        Cell(f"{100 * row['dropped']:.0f}%", row["dropped"], "count"),
    ]
    for name in _SHOWN:
        cells += _difference_cells(name, row, decimals[name])
    for name in _RATES:
        share, low, high = (float(row[f"{name}_{part}"]) for part in ("rate", "lower", "upper"))
        text = "" if math.isnan(share) else rate_known_to(share, low, high)
        cells.append(Cell(text, share, "count"))
    return tuple(cells)


def _difference_cells(name: str, row: Mapping[Any, Any], decimals: int) -> list[Cell]:
    """An estimate with its interval and the verdict; no numbers of too few data sets."""
    words = row[f"{name}_verdict"]
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_lower", "_upper"))
    if words == TOO_FEW:
        return [Cell("", value, "number"), Cell("", "", "error"), Cell(words, words, "count")]
    interval = uncertainty(math.nan, low, high, decimals)
    return [
        Cell(fixed(value, decimals), value, "number"),
        Cell(interval, f"[{low!r}, {high!r}]", "error"),
        Cell(words, words, "alarm" if words == "differ" else "count"),
    ]


def _caption(found: Sequence[Mapping[Any, Any]]) -> str:
    counts = Counter(row[f"{name}_verdict"] for row in found for name in _SHOWN)
    words = ", ".join(f"{n} {v}" for v, n in sorted(counts.items()))
    return (
        "Posterior means: paired differences in posterior standard deviations of the confirming "
        "engine. Posterior standard deviations: geometric mean of their ratio. In brackets: "
        f"{100 * LEVEL:g}% t intervals over data sets. “Agree”: the interval lies inside "
        f"±{SHIFT_MARGIN:g} or 1/{RATIO_MARGIN:g} to {RATIO_MARGIN:g}; “differ”: the estimate lies "
        f"outside and p is below {ALPHA:g} after Holm’s correction, which happens in at most "
        f"{100 * ALPHA:g} of 100 reports on equal engines; “undecided” otherwise. No verdict below "
        f"{LEAST} data sets. Dropped: data sets for which one of the two fits is not usable. "
        f"Rejects: tests at 5%. Comparisons: {words}."
    )
