"""What a report says in small tables: what was run, references, failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rmm.errors import counted
from rmm.study.files.environment import FACTS, RUN_FACTS
from rmm.study.measures.measures import RATES
from rmm.study.report.data.format_numbers import (
    FEW,
    MISSING,
    duration,
    fixed,
    rate,
    uncertainty,
)
from rmm.study.report.data.labels import labels_of
from rmm.study.report.data.levels import words
from rmm.study.report.data.results import FALLBACK, STATUSES, Results, StudyResults

#: Columns of the estimates that say where they come from.
_PROVENANCE = {"rmm_version": "rmm", "engine": "Engines", "backend": "Backends"}


def run_facts(results: StudyResults) -> list[tuple[str, str]]:
    """What was run, as (what, how much)."""
    fits = results.fits
    counts = fits["status"].value_counts()
    done = {status: int(counts.get(status, 0)) for status in STATUSES}
    per = fits.groupby(["scenario", "method"])["replication"].nunique()
    replications = f"{per.min()}" if per.min() == per.max() else f"{per.min()} to {per.max()}"
    facts = [
        ("Scenarios", f"{results.scenarios['scenario'].nunique()}"),
        ("Methods", f"{len(results.methods)}, all on the same simulated data"),
        ("Replications", f"{replications} per scenario and method"),
        ("Fits", f"{len(fits):,}: {_status_words(done)}"),
        ("Time in fits", f"{duration(float(fits['seconds'].sum()))} in all"),
        ("Seed", str(results.study.seed)),
    ]
    return [*facts, *results.stopping, *_provenance(results)]


def _status_words(done: Mapping[str, int]) -> str:
    words = {"not_converged": "not converged", "timeout": "over the time limit"}
    return ", ".join(f"{n:,} {words.get(s, s)}" for s, n in done.items() if n or s != "timeout")


def _provenance(results: Results) -> list[tuple[str, str]]:
    facts = []
    for column, name in _PROVENANCE.items():
        if column in results.estimates.columns:
            values = sorted(map(str, results.estimates[column].dropna().unique()))
            facts.append((name, ", ".join(v for v in values if v)))
    facts = [fact for fact in facts if fact[1]]  # regressions have no engine
    names = {**FACTS, **RUN_FACTS}
    return facts + [(names[k], results.ran_on[k]) for k in names if k in results.ran_on]


def fit_rows(results: Results) -> list[dict[str, str]]:
    """One row per method: fits by status and their time."""
    fallbacks = {method.name for method in results.study.methods if method.fallback}
    labels = labels_of(results.study)
    rows = []
    for method in results.methods:
        mine = results.fits[results.fits["method"] == method]
        counts = mine["status"].value_counts()
        fell_back = int((mine["answer"] == FALLBACK).sum())
        rows.append(
            {
                "method": method,
                "label": labels.method(method),
                "fallback": f"{fell_back:,}" if method in fallbacks else "",
                "fits": f"{len(mine):,}",
                **{s: f"{int(counts.get(s, 0)):,}" for s in STATUSES},
                "median": duration(float(mine["seconds"].median())),
                "total": duration(float(mine["seconds"].sum())),
            }
        )
    return rows


def cost_note(results: Results) -> str:
    """Which methods have the shortest and the longest fits."""
    medians = results.fits.groupby("method")["seconds"].median().reindex(results.methods).dropna()
    if len(medians) < 2 or medians.min() <= 0:
        return "Time of the fits alone, on one core."
    labels = labels_of(results.study)
    shortest, longest = (labels.method(str(m)) for m in (medians.idxmin(), medians.idxmax()))
    return (
        f"Time of the fits alone, on one core. A fit by {longest} takes "
        f"{duration(float(medians.max()))}, one by {shortest} {duration(float(medians.min()))}."
    )


def messages(results: Results, most: int = 12) -> list[dict[str, str]]:
    """The most frequent messages of failed and unconverged fits, with one to replay.

    Fits by a fallback say why the first engine did not answer.
    """
    fits = results.fits
    bad = fits[(fits["answer"] != "ok") & fits["message"].notna() & (fits["message"] != "")]
    rows = []
    for (method, status, message), part in bad.groupby(["method", "answer", "message"]):
        first = part.sort_values(["scenario", "replication"]).iloc[0]
        rows.append(
            {
                "method": str(method),
                "status": "ok, by the fallback"
                if status == FALLBACK
                else str(status).replace("_", " "),
                "count": f"{len(part):,}",
                "message": str(message),
                "address": f"{first['scenario']}, replication {first['replication']}",
                "order": f"{-len(part):09d}",
            }
        )
    return sorted(rows, key=lambda r: (int(r["order"]), r["method"], r["message"]))[:most]


def reference_rows(results: Results) -> list[dict[str, str]]:
    """Ours beside published values and closed forms, with the difference in MCSEs."""
    table = results.performance
    if "reference" not in table.columns:
        return []
    table = table[table["reference"].notna() & (table["policy"] == "per_method")]
    table = table.merge(results.scenarios, on="scenario", how="left")
    return [_reference_row(results, row) for row in table.to_dict("records")]


def _reference_row(results: Results, row: Mapping[Any, Any]) -> dict[str, str]:
    mcse, value, known = (float(row[name]) for name in ("mcse", "value", "reference"))
    in_mcse = _distance(row, value, known, mcse)
    return {
        "where": words(results, row) or MISSING,
        "method": row["method"],
        "measure": f"{row['measure'].replace('_', ' ')} of {row['parameter']}",
        "ours": fixed(value, 4),
        "mcse": uncertainty(mcse, float(row["lower"]), float(row["upper"]), 4),
        "reference": fixed(known, 4),
        "difference": fixed(in_mcse, 1),
        "far": "alarm" if abs(in_mcse) > 3 else "",
        "source": str(row.get("reference_source") or ""),
    }


def _distance(row: Mapping[Any, Any], value: float, known: float, mcse: float) -> float:
    """Difference in Monte Carlo errors; nan with too few data sets for a verdict.

    A rate of 0 or 1 has no Monte Carlo error: the error is then that of the known value.
    """
    if row["n"] < FEW:
        return math.nan
    if row["measure"] in RATES and value in (0, 1) and 0 < known < 1:
        mcse = math.sqrt(known * (1 - known) / row["n"])
    return (value - known) / mcse if mcse > 0 else math.nan


def reference_note(rows: Sequence[Mapping[str, str]]) -> str:
    """How many of the distances are large, and how many would be by chance."""
    far = sum(bool(row["far"]) for row in rows)
    ours = f"{far or 'none'} of ours {'is' if far == 1 else 'are'}"
    return (
        f"{counted(len(rows), 'known value')}; {ours} more than 3 Monte Carlo standard errors "
        "away, where right ones are in about 1 of 370."
    )


def policy_note(results: Results) -> str:
    """How much it matters whether all usable fits or only complete cases are scored."""
    keys = ["scenario", "method", "parameter", "measure", "alpha"]
    left = results.performance[results.performance["policy"] == "per_method"]
    right = results.performance[results.performance["policy"] == "complete_case"]
    if right.empty:
        return ""
    both = left.merge(right, on=keys, suffixes=("", "_complete"))
    both = both[both["measure"].isin(["rejection", "coverage"])]
    both["moved"] = (both["value"] - both["value_complete"]).abs()
    if both.empty or both["moved"].max() == 0:
        return (
            "Without the replications in which some method has no usable fit, all rejection and "
            "coverage rates are the same."
        )
    worst = both.sort_values(["moved", *keys[:4]], ascending=[False] + [True] * 4).iloc[0]
    return (
        "Without the replications in which some method has no usable fit, rates of "
        f"rejection and coverage move by at most {rate(float(worst['moved']))} "
        f"({worst['measure']} of {worst['parameter']}, {worst['method']}); tables/performance.csv "
        "contains both."
    )
