"""What the report of a table of estimates says of the table."""

from __future__ import annotations

from collections.abc import Mapping

from rmm.errors import counted
from rmm.study.estimate_tables.column_roles import CONSTANTS
from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import FIT
from rmm.study.report.data.table_results import TableResults

_WORDS = {"by": "factors", "p_value": "p values", "se": "standard errors"}


def has_truths(results: TableResults) -> bool:
    """Whether the true value of any parameter is known: findings are about it."""
    frame = results.table.frame
    return "truth" in frame and bool(frame["truth"].notna().any())


def table_facts(results: TableResults) -> list[tuple[str, str]]:
    """What the table holds, as (what, how much)."""
    per = results.estimates.drop_duplicates(FIT).groupby(["scenario", "method"]).size()
    replications = f"{per.min():,}" if per.min() == per.max() else f"{per.min():,} to {per.max():,}"
    facts = [
        ("Estimates", counted(len(results.table.frame), "row")),
        ("Scenarios", f"{len(results.table.scenarios):,}"),
        *(
            (readable(factor), ", ".join(map(compact, results.filters.levels[factor])))
            for factor in results.factors
        ),
        ("Methods", ", ".join(results.methods)),
        ("Replications", f"{replications} per scenario and method"),
        ("Parameters", "; ".join(_parameter(results, p) for p in results.parameters)),
        ("Columns", _columns(results)),
    ]
    return [(name, value) for name, value in facts if value]


def _parameter(results: TableResults, parameter: str) -> str:
    """A parameter with its true values, if they are few."""
    truths = {results.truth(s.id, parameter) for s in results.study.scenarios}
    known = sorted(t for t in truths if t == t)
    if not known:
        return parameter
    shown = " / ".join(map(compact, known)) if len(known) <= 4 else "differs between scenarios"
    return f"{parameter} (true value {shown})"


def _columns(results: TableResults) -> str:
    """Which column was used for what."""
    used = results.table.columns
    parts = [f"{_WORDS.get(a, a)}: {', '.join(names)}" for a, names in used.named().items()]
    for name in CONSTANTS:
        given = getattr(used, name)
        if isinstance(given, Mapping):
            parts.append(f"{name}: {', '.join(f'{p} = {v:g}' for p, v in given.items())}")
        elif isinstance(given, int | float):
            parts.append(f"{name}: {given:g}")
    return "; ".join(parts)


def outlier_heading(results: TableResults) -> str:
    """Above the list of outliers."""
    number = int(results.scored.outlier_count)
    left = "left out" if results.options.dropbig else "not left out"
    return f"{counted(number, 'outlier')}, {left}"
