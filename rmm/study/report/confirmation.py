"""The table of a method beside the one that confirms it, on the same data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rmm.study.confirming import confirmations
from rmm.study.report.levels import readable
from rmm.study.report.numbers import compact, decimals_for, fixed
from rmm.study.report.results import Results
from rmm.study.report.tables import Cell, Table

#: Standard errors beyond which a difference is marked.
_FAR = 3.0
#: Column -> (heading, what it is without a difference, most digits).
_SHOWN = {
    "shift": ("Mean, difference in sds", 0.0, 3),
    "sd_ratio": ("Sd, ratio", 1.0, 3),
    "rejection_shift": ("Rejection rate, difference", 0.0, 3),
}


def pairs_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(method, the one that confirms it) of a resolved study file."""
    return [(m["confirms"], m["name"]) for m in config["methods"] if m.get("confirms")]


def confirmation_table(results: Results) -> list[Table]:
    """One row per scenario, estimand and pair; no table where no method confirms another."""
    pairs = pairs_of(results.config)
    if not pairs:
        return []
    nulls = {e["parameter"]: float(e["null"]) for e in results.estimands}
    untested = [n for n, null in nulls.items() if n.startswith(("sigma", "shape")) and not null]
    found = confirmations(results.estimates, pairs, nulls, untested).to_dict("records")
    if not found:
        return []
    decimals = {
        name: decimals_for([r[f"{name}_mcse"] for r in found], [r[name] for r in found], most)
        for name, (_, _, most) in _SHOWN.items()
    }
    records = {record["scenario"]: record for record in results.scenarios.to_dict("records")}
    order = {scenario: i for i, scenario in enumerate(records)}
    found.sort(key=lambda r: (order[r["scenario"]], results.parameters.index(r["parameter"])))
    heads = [*(readable(f) for f in results.factors), "Parameter", "Method", "Confirmed by"]
    return [
        Table(
            "confirmation",
            "confirmation",
            "Posteriors of two engines, on the same data",
            _caption(found),
            (*((h, 1) for h in heads), ("data sets", 1), *((h, 2) for h, _, _ in _SHOWN.values()),
             ("Both rates", 1)),
            (*results.factors, "parameter", "method", "confirming", "n",
             *(c for name in _SHOWN for c in (name, f"{name}_mcse")), "rates"),
            tuple(_row(results, records[r["scenario"]], r, decimals) for r in found),
            tuple((results.filters.method(r["method"]),
                   *results.filters.scenario(records[r["scenario"]])) for r in found),
        )
    ]  # fmt: skip


def _row(
    results: Results,
    record: Mapping[Any, Any],
    row: Mapping[Any, Any],
    decimals: Mapping[str, int],
) -> tuple[Cell, ...]:
    cells = [Cell(compact(record[f]), record[f], "factor") for f in results.factors]
    cells += [Cell(row["parameter"], row["parameter"], "factor")]
    cells += [Cell(row[name], row[name], "method") for name in ("method", "confirming")]
    cells.append(Cell(f"{row['n']:,}", row["n"], "count"))
    for name in _SHOWN:
        value, mcse = float(row[name]), float(row[f"{name}_mcse"])
        error = "" if math.isnan(mcse) else f"({fixed(mcse, decimals[name])})"
        cells += [Cell(fixed(value, decimals[name]), value, "number"), Cell(error, mcse, "error")]
    rates = [float(row[name]) for name in ("rejection", "confirming_rejection")]
    words = "" if math.isnan(rates[0]) else " and ".join(fixed(rate, 3) for rate in rates)
    return (*cells, Cell(words, words, "count"))


def _caption(found: Sequence[Mapping[Any, Any]]) -> str:
    distances = [
        abs(row[name] - none) / row[f"{name}_mcse"]
        for row in found
        for name, (_, none, _) in _SHOWN.items()
        if row[f"{name}_mcse"] > 0
    ]
    far = sum(distance > _FAR for distance in distances)
    return (
        "Posterior means: difference in posterior standard deviations, averaged over data sets; "
        "posterior standard deviations: geometric mean of their ratio; rejection: tests at 5%. "
        "Standard errors over data sets in parentheses; they contain the "
        f"Monte Carlo errors of both engines. Of {len(distances)} comparisons {far or 'none'} "
        f"lie{'s' if far == 1 else ''} more than {_FAR:g} standard errors from no difference, "
        "where equal engines do so in about 1 of 370."
    )
