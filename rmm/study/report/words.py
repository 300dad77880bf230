"""What a report says in words and small tables: findings, what was run, references, failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmm.study.report.figures import is_null, is_numeric, readable
from rmm.study.report.numbers import MISSING, acceptance_band, compact, duration, fixed, rate
from rmm.study.report.results import STATUSES, Results

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the estimates that say where they come from.
_PROVENANCE = {"rmm_version": "rmm", "engine": "Engines", "backend": "Backends"}


def findings(results: Results) -> list[tuple[str, str]]:
    """(method, what it does) per estimand: Type-I error against the nominal level."""
    said = []
    for estimand in results.estimands:
        rows = _rejections(results, estimand)
        rows = rows.loc[[is_null(results, str(s), estimand) for s in rows["scenario"]]]
        for method in results.methods:
            mine = rows[rows["method"] == method]
            if not mine.empty:
                said.append((method, _size_sentence(results, estimand, mine)))
    return said


def _rejections(results: Results, estimand: Mapping[str, Any]) -> pd.DataFrame:
    rows = results.measure("rejection")
    same = (rows["alpha"] - float(estimand["alpha"])).abs() < 1e-12
    return rows[same & (rows["parameter"] == estimand["parameter"])].dropna(subset=["value"])


def _size_sentence(results: Results, estimand: Mapping[str, Any], rows: pd.DataFrame) -> str:
    alpha = float(estimand["alpha"])
    records = rows.to_dict("records")
    bands = [acceptance_band(alpha, int(row["n"])) for row in records]
    pairs = list(zip(records, bands, strict=True))
    above = sum(row["value"] > band[1] for row, band in pairs)
    below = sum(row["value"] < band[0] for row, band in pairs)
    return (
        f"rejects the true null hypothesis {estimand['parameter']} = "
        f"{compact(float(estimand['null']))} at a rate of {_rates(results, records)}: "
        f"{_verdict(above, below, len(records))} the band of a correct test at level "
        f"{rate(alpha, 2)} ({_band_words(records, bands)})."
    )


def _rates(results: Results, records: Sequence[Mapping[Any, Any]]) -> str:
    """Each rate with its level of the one factor, or the range over many scenarios."""
    if len(records) == 1:
        return rate(float(records[0]["value"]))
    factor = results.factors[0]
    if (
        len(results.factors) == 1
        and len(records) <= 6
        and is_numeric(results.scenarios[factor].tolist())
    ):
        words = " / ".join(rate(float(row["value"])) for row in records)
        levels = dict(zip(results.scenarios["scenario"], results.scenarios[factor], strict=True))
        where = " / ".join(compact(levels[row["scenario"]]) for row in records)
        return f"{words} at {readable(factor)} {where}"
    values = [float(row["value"]) for row in records]
    return f"{rate(min(values))} to {rate(max(values))} over {len(values)} scenarios"


def _verdict(above: int, below: int, count: int) -> str:
    if not above and not below:
        return "within"
    if count == 1:
        return "above" if above else "below"
    parts = [f"{side} in {n}" for side, n in (("above", above), ("below", below)) if n]
    parts += [f"within in {count - above - below}"] if count > above + below else []
    return ", ".join(parts)


def _band_words(records: Sequence[Mapping[Any, Any]], bands: Sequence[tuple[float, float]]) -> str:
    """The band at the largest n; smaller n have wider ones."""
    at = max(range(len(records)), key=lambda i: records[i]["n"])
    fewest, most = min(int(r["n"]) for r in records), max(int(r["n"]) for r in records)
    size = f"n = {most:,}" if fewest == most else f"n = {most:,}, wider at n down to {fewest:,}"
    return f"{rate(bands[at][0])} to {rate(bands[at][1])} at {size}"


def run_facts(results: Results) -> list[tuple[str, str]]:
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
        ("Seed", compact(results.config.get("seed"))),
    ]
    return [*facts, *_provenance(results)]


def _status_words(done: Mapping[str, int]) -> str:
    words = {"not_converged": "not converged", "timeout": "over the time limit"}
    return ", ".join(f"{n:,} {words.get(s, s)}" for s, n in done.items() if n or s != "timeout")


def _provenance(results: Results) -> list[tuple[str, str]]:
    facts = []
    for column, name in _PROVENANCE.items():
        if column in results.estimates.columns:
            values = sorted(results.estimates[column].dropna().astype(str).unique())
            facts.append((name, ", ".join(v for v in values if v) or MISSING))
    return facts


def fit_rows(results: Results) -> list[dict[str, str]]:
    """One row per method: fits by status and their time."""
    rows = []
    for method in results.methods:
        mine = results.fits[results.fits["method"] == method]
        counts = mine["status"].value_counts()
        rows.append(
            {
                "method": method,
                "fits": f"{len(mine):,}",
                **{s: f"{int(counts.get(s, 0)):,}" for s in STATUSES},
                "median": duration(float(mine["seconds"].median())),
                "total": duration(float(mine["seconds"].sum())),
            }
        )
    return rows


def messages(results: Results, most: int = 12) -> list[dict[str, str]]:
    """The most frequent messages of fits that did not end well, with an address to replay."""
    fits = results.fits
    bad = fits[(fits["status"] != "ok") & fits["message"].notna() & (fits["message"] != "")]
    rows = []
    for (method, status, message), part in bad.groupby(["method", "status", "message"]):
        first = part.sort_values(["scenario", "replication"]).iloc[0]
        rows.append(
            {
                "method": str(method),
                "status": str(status).replace("_", " "),
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
    rows = []
    for row in table.to_dict("records"):
        difference = float(row["value"]) - float(row["reference"])
        mcse = float(row["mcse"])
        in_mcse = difference / mcse if mcse > 0 else math.nan
        rows.append(
            {
                "where": ", ".join(f"{readable(f)} {compact(row[f])}" for f in results.factors)
                or MISSING,
                "method": row["method"],
                "measure": f"{row['measure'].replace('_', ' ')} of {row['parameter']}",
                "ours": fixed(float(row["value"]), 4),
                "mcse": f"({fixed(mcse, 4)})",
                "reference": fixed(float(row["reference"]), 4),
                "difference": fixed(in_mcse, 1),
                "far": "far" if abs(in_mcse) > 3 else "",
                "source": str(row.get("reference_source") or ""),
            }
        )
    return rows


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
            "Scored on the replications for which every method has a usable fit, all rejection "
            "and coverage rates are the same."
        )
    worst = both.sort_values(["moved", *keys[:4]], ascending=[False] + [True] * 4).iloc[0]
    return (
        "Scored only on the replications for which every method has a usable fit, rates of "
        f"rejection and coverage move by at most {rate(float(worst['moved']))} "
        f"({worst['measure']} of {worst['parameter']}, {worst['method']}); "
        "tables/performance.csv holds both."
    )
