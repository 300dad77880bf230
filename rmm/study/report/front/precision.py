"""What correct answers cost: widths of intervals and errors of estimates, method by method.

Narrow intervals are no merit where they miss the truth, so the numbers of such methods are pale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmm.study.report.data.format_numbers import decimals_for, fixed
from rmm.study.report.front.question import Question, by_method

#: Measure -> heading of its column.
_COLUMNS = {"interval_width": "Interval width", "rmse": "RMSE"}


@dataclass(frozen=True)
class MethodPrecision:
    """A method's row.

    Attributes
    ----------
    label : str
    values : tuple of str
        A number, or its range over the scenarios; by column.
    pale : bool
        Whether coverage or the level of the test fails in some scenario.
    """

    label: str
    values: tuple[str, ...]
    pale: bool


@dataclass(frozen=True)
class Precision:
    """A table of the methods that estimate on the scale of the truth.

    Attributes
    ----------
    note : str
    headings : tuple of str
    rows : tuple of MethodPrecision
    """

    note: str
    headings: tuple[str, ...]
    rows: tuple[MethodPrecision, ...]


def precision(question: Question) -> Precision | None:
    """Widths and errors for the first estimand; None where no two methods can be compared."""
    estimand = question.estimand
    found = {name: _by_method(question.values(name, estimand)) for name in _COLUMNS}
    found = {name: rows for name, rows in found.items() if rows}
    methods = [m for m in question.methods if any(m in rows for rows in found.values())]
    if len(methods) < 2:
        return None
    decimals = {name: _decimals(rows) for name, rows in found.items()}
    null = question.rejections(estimand, question.null_scenarios(estimand))
    judged = by_method([*question.coverages(estimand), *null])
    faulty = {m for m, every in judged.items() if any(one.verdict.fault for one in every)}
    rows = [
        MethodPrecision(
            question.labels.method(m) + "*" * (m in faulty),
            tuple(_span(rows.get(m, []), decimals[name]) for name, rows in found.items()),
            m in faulty,
        )
        for m in methods
    ]
    headings = tuple(_COLUMNS[name] for name in found)
    return Precision(_note(question, methods, faulty), headings, tuple(rows))


def _note(question: Question, methods: Sequence[str], faulty: set[str]) -> str:
    several = len(question.results.scenarios) > 1
    estimand = question.estimand
    parts = [
        f"Mean width of {100 * (1 - estimand.alpha[0]):g}% intervals and root mean squared error "
        f"(RMSE) of {question.labels.parameter(estimand.parameter)}"
    ]
    parts[0] += ", from the smallest to the largest of all scenarios." if several else "."
    if faulty & set(methods):
        parts.append(
            "*: its intervals miss the truth, or its test misses its level, more than chance "
            "explains in some scenario, so that narrow intervals are no merit."
        )
    other = question.results.other_scales(estimand.parameter)
    left = [m for m in question.methods if m not in methods and m in other]
    if left:
        names = ", ".join(question.labels.method(m) for m in left)
        parts.append(f"Not shown, as estimates have another scale: {names}.")
    return " ".join(parts)


def _by_method(rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Mapping[Any, Any]]]:
    out: dict[str, list[Mapping[Any, Any]]] = {}
    for row in rows:
        out.setdefault(str(row["method"]), []).append(row)
    return out


def _decimals(rows: Mapping[str, Sequence[Mapping[Any, Any]]]) -> int:
    every = [row for mine in rows.values() for row in mine]
    return decimals_for((row["mcse"] for row in every), (row["value"] for row in every), most=3)


def _span(rows: Sequence[Mapping[Any, Any]], decimals: int) -> str:
    values = sorted(float(row["value"]) for row in rows)
    if not values:
        return fixed(None, decimals)
    low, high = fixed(values[0], decimals), fixed(values[-1], decimals)
    return low if low == high else f"{low} to {high}"
