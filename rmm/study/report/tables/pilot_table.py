"""The table of chain lengths that pilot fits determined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.study.methods.pilot_fits import LEAST_WARMUP, WARMUP, fit_length
from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import StudyResults
from rmm.study.report.tables.measure_tables import Cell, Table

_HEADS = (
    "Pilot draws",
    "Warm-up",
    "Draws",
    "Aim: ESS",
    "Slowest parameter",
    "ESS in the pilot",
)
_PLAIN = ("pilot", "warmup", "draws", "ess", "slowest", "pilot_ess")


def pilot_table(results: StudyResults) -> list[Table]:
    """One row per scenario and method with `ess`; no table without such methods."""
    records = results.scenarios.to_dict("records")
    asked = [
        (record, method.name)
        for record in records
        for method in results.study.methods
        if (record["scenario"], method.name) in results.pilots
        and _sizes_chains(_config(results, record, method.name))
    ]
    if not asked:
        return []
    return [
        Table(
            "pilots",
            "computation",
            "Chain lengths, determined by pilot fits",
            "Per chain: draws of the pilot fit, and warm-up and draws of all other fits of the "
            "scenario. The pilot fit has a data set of its own. The draws are as many as give the "
            "slowest parameter of the gate the effective sample size (ESS, all chains) that the "
            "study asks for, on the data of the pilot; other data sets need more or fewer. The "
            f"warm-up is {WARMUP} times the iterations per effective draw of the slowest of all "
            f"structural parameters, and at least {LEAST_WARMUP}.",
            tuple((h, 1) for h in (*map(readable, results.factors), "Method", *_HEADS)),
            (*results.factors, "method", *_PLAIN),
            tuple(
                _row(
                    results,
                    record,
                    name,
                    _config(results, record, name)["sampler"],
                    *results.pilots[record["scenario"], name],
                )
                for record, name in asked
            ),
            tuple(
                (results.filters.method(name), *results.filters.scenario(record))
                for record, name in asked
            ),
        )
    ]


def _config(results: StudyResults, record: Mapping[Any, Any], name: str) -> Mapping[str, Any]:
    """Settings of a method in a scenario."""
    return results.study.method_in(results.study.scenario(record["scenario"]), name).config


def _sizes_chains(config: Mapping[str, Any]) -> bool:
    return "ess" in config["sampler"]


def _row(
    results: StudyResults,
    record: Mapping[Any, Any],
    name: str,
    sampler: Mapping[str, Any],
    found: Mapping[str, Any],
    message: str,
) -> tuple[Cell, ...]:
    warmup, draws = fit_length(sampler, found)
    slowest, ess = found.get("slowest", ""), found.get("ess")
    cells = [Cell(compact(record[f]), record[f], "factor") for f in results.factors]
    cells.append(Cell(name, name, "method"))
    numbers = (sampler["pilot"], warmup, draws, sampler["ess"])
    cells += [Cell(f"{n:,}" if isinstance(n, int) else compact(n), n, "count") for n in numbers]
    cells.append(Cell(slowest or message, slowest or message, "alarm" if message else "count"))
    cells.append(Cell("" if ess is None else f"{ess:,.0f}", ess, "count"))
    return tuple(cells)
