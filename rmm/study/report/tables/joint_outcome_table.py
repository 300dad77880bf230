"""Joint outcomes of a method and the baseline: who covers where the other does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rmm.study.design.estimand import Estimand
from rmm.study.measures.joint_outcomes import OUTCOMES, joint_outcomes_of
from rmm.study.report.data.format_numbers import compact, fixed, p_text, uncertainty
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import Results
from rmm.study.report.data.table_results import TableResults
from rmm.study.report.tables.measure_tables import MEASURES, Cell, Table

_CAPTION = (
    "Shares of the data sets of which both methods have a usable fit. First: {baseline}; second: "
    "the method of the row. In parentheses: Monte Carlo standard errors; in brackets: 95% "
    "intervals (Wilson) of shares of 0 and 1. p: McNemar’s exact test that both have the same "
    "rate (no p if they never differ). Other pairs and estimands: rmm.study.joint_outcomes in "
    "Python."
)


def joint_outcome_table(results: Results) -> list[Table]:
    """One table of the main estimand; none for one method, or data sets without numbers."""
    estimand = results.study.estimands[0]
    baseline = results.study.baseline_of(estimand.parameter)
    others = [name for name in results.methods if name != baseline]
    if not _paired(results) or baseline not in results.methods or not others:
        return []
    rows = _rows(results, estimand)
    tested = () if estimand.tested else (estimand.parameter,)
    joint = [
        joint_outcomes_of(
            rows,
            baseline,
            other,
            alpha=estimand.alpha,
            usable=results.usable,
            untested=tested,
            other_scales=results.scales,
        )
        for other in others
    ]
    found = pd.concat(joint, ignore_index=True)
    cells = {
        (str(s), str(m), str(measure), alpha): part.to_dict("records")
        for (s, m, measure, alpha), part in found[found["n"] > 0].groupby(
            ["scenario", "second", "measure", "alpha"], sort=False
        )
    }
    body, where = [], []
    for record in results.scenarios.to_dict("records"):
        for (scenario, method, measure, alpha), outcomes in cells.items():
            if scenario == str(record["scenario"]):
                name = f"{MEASURES[measure].label}, α = {alpha:g}"
                body.append(_row(results, record, method, name, outcomes))
                where.append((results.filters.method(method), *results.filters.scenario(record)))
    if not body:
        return []
    heads = [*(readable(f) for f in results.factors), "Method", "Outcome"]
    shares = ["Both", f"Only {baseline}", "Only the method", "Neither"]
    return [
        Table(
            f"{results.file_names[estimand.parameter]}_joint",
            "differences",
            f"{estimand.parameter}: the same data sets by two methods",
            _CAPTION.replace("{baseline}", baseline),
            (*((h, 1) for h in heads), *((s, 2) for s in shares), ("n", 1), ("p", 1)),
            (
                *(*results.factors, "method", "outcome"),
                *(name for outcome in OUTCOMES for name in (outcome, f"{outcome}_mcse")),
                *("n", "p_value"),
            ),
            tuple(body),
            tuple(where),
        )
    ]


def _paired(results: Results) -> bool:
    """Whether it is known which estimates are of the same data set."""
    return not isinstance(results, TableResults) or results.table.replications is not None


def _rows(results: Results, estimand: Estimand) -> pd.DataFrame:
    """Estimates of the estimand, with its null value and the truth of today's study file."""
    table = results.estimates[results.estimates["parameter"] == estimand.parameter]
    texts = {c: "str" for c in ("scenario", "method", "parameter", "status") if c in table}
    table = table.astype(texts)
    known = {s: results.truth(s, estimand.parameter) for s in table["scenario"].unique()}
    truth = table["scenario"].map(known).to_numpy(dtype=float)
    own = table["truth"].to_numpy(dtype=float)
    table = table.assign(truth=np.where(np.isnan(truth), own, truth))
    return table if "null" in table else table.assign(null=estimand.null)


def _row(
    results: Results,
    record: Mapping[Any, Any],
    method: str,
    name: str,
    outcomes: list[dict[Any, Any]],
) -> tuple[Cell, ...]:
    cells = [Cell(compact(record[f]), record[f], "factor") for f in results.factors]
    cells += [Cell(method, method, "method"), Cell(name, name, "factor")]
    for row in outcomes:
        error = uncertainty(row["mcse"], row["lower"], row["upper"], 3)
        cells += [Cell(fixed(row["share"], 3), row["share"], "number")]
        cells += [Cell(error, row["mcse"], "error")]
    n, p = int(outcomes[0]["n"]), float(outcomes[0]["p_value"])
    return (*cells, Cell(f"{n:,}", n, "count"), Cell(p_text(p), p, "count"))
