"""Rates under two policies, and their bounds over all fits, where a method has lost fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rmm.study.measures.measures import MEASURES as REGISTRY
from rmm.study.measures.score_cells import COMPLETE_CASE, LOWER, PER_METHOD, UPPER
from rmm.study.report.data.format_numbers import compact, fixed
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import Results
from rmm.study.report.tables.measure_tables import MEASURES, Cell, Table

if TYPE_CHECKING:
    pass

_POLICIES = {
    PER_METHOD: "usable fits",
    COMPLETE_CASE: "complete cases",
    LOWER: "lower bound",
    UPPER: "upper bound",
}
_CAPTION = (
    "Methods and scenarios with fits that failed or did not converge. Usable fits: those of the "
    "method. Complete cases: data sets in which all methods have a usable fit. Lower and upper "
    "bound: over all fits, if none of the lost ones had rejected (covered the truth, ...), or if "
    "all had (Pawel, Bartos, Siepe & Lohmann 2026)."
)


def bounds_table(results: Results) -> list[Table]:
    """One table for all rates, if any method has lost fits."""
    table = results.performance
    rates = [name for name, row in REGISTRY.items() if row.hits is not None]
    rows = table[table["measure"].isin(rates) & (table["policy"].isin(list(_POLICIES)))]
    rows = rows[rows["n_failed"] + rows["n_not_converged"] > 0]
    if not (rows["policy"] == UPPER).any():
        return []
    keys = ["scenario", "method", "parameter", "measure", "alpha"]
    found: dict[tuple[Any, ...], dict[str, Mapping[Any, Any]]] = {}
    for row in rows.to_dict("records"):
        key = tuple(None if row[k] != row[k] else row[k] for k in keys)
        found.setdefault(key, {})[row["policy"]] = row
    scenarios = results.scenarios.set_index("scenario", drop=False).to_dict("index")
    body, where = [], []
    for key, policies in found.items():
        upper = policies.get(UPPER)
        if upper is None or upper["value"] != upper["value"]:
            continue
        record = scenarios[key[0]]
        body.append(_row(results, record, key, policies))
        where.append((results.filters.method(key[1]), *results.filters.scenario(record)))
    if not body:
        return []
    return [_table(results, body, where)]


def _row(
    results: Results,
    record: Mapping[Any, Any],
    key: tuple[Any, ...],
    policies: Mapping[str, Mapping[Any, Any]],
) -> tuple[Cell, ...]:
    _, method, parameter, measure, alpha = key
    label = MEASURES[measure].label if measure in MEASURES else readable(measure)
    name = label if alpha is None else f"{label}, α = {alpha:g}"
    values = [float(policies[p]["value"]) if p in policies else float("nan") for p in _POLICIES]
    count, lost = int(policies[UPPER]["n"]), int(policies[UPPER]["n"])
    lost -= int(policies[PER_METHOD]["n"])
    share = Cell(f"{100 * lost / count:.1f}", lost / count, "count")
    return (
        *(Cell(compact(record[f]), record[f], "factor") for f in results.factors),
        Cell(method, method, "method"),
        Cell(parameter, parameter, "text"),
        Cell(name, f"{measure}{'' if alpha is None else f'_{alpha:g}'}", "text"),
        share,
        *(Cell(fixed(v, 3), v, "count") for v in values),
    )


def _table(results: Results, body: list[tuple[Cell, ...]], where: list[tuple[str, ...]]) -> Table:
    heads = [*(readable(f) for f in results.factors), "Method", "Parameter", "Rate", "lost, %"]
    return Table(
        "bounds",
        "computation",
        "Rates and what lost fits could change",
        _CAPTION,
        tuple((name, 1) for name in (*heads, *_POLICIES.values())),
        (*results.factors, "method", "parameter", "measure", "lost", *_POLICIES),
        tuple(body),
        tuple(where),
    )
