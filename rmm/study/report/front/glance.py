"""The methods at a glance: one row for each, verdict marks beside the numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rmm.errors import counted
from rmm.study.design.estimand import Estimand
from rmm.study.report.data.format_numbers import fixed
from rmm.study.report.front.cells import EMPTY, MARKS, Cell, Column
from rmm.study.report.front.engine_pairs import (
    EngineModel,
    common_name,
    engine_models,
    pair_columns,
)
from rmm.study.report.front.question import CALIBRATION, Question, by_method
from rmm.study.report.front.verdicts import Judged, Verdict
from rmm.study.report.text.design_text import DESCRIPTIONS

#: Scenarios that have a column each; of more, the worst one is shown.
MOST_COLUMNS = 4
#: Estimands whose coverage is shown.
MOST_ESTIMANDS = 3
#: On a phone with more numbers than these, some methods are shown on request only.
MOST_ON_PHONES = 36


@dataclass(frozen=True)
class Glance:
    """The table: methods with what they are, and columns.

    Attributes
    ----------
    methods : tuple of (label, what it is, kind)
    columns : tuple of Column
    worst : bool
        Whether some column shows the worst of several scenarios.
    starred : bool
        Whether some power is pale, as another number of its method fails.
    """

    methods: tuple[tuple[str, str, str], ...]
    columns: tuple[Column, ...]
    worst: bool
    starred: bool

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings that span columns."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found

    @property
    def folded(self) -> frozenset[int]:
        """Numbers of the methods that a phone shows on request only: those without faults first."""
        rows = [[column.cells[i] for column in self.columns] for i in range(len(self.methods))]
        counts = [sum(not cell.empty for cell in row) for row in rows]
        order = sorted(range(len(rows)), key=lambda i: not any(c.fault for c in rows[i]))
        ends = itertools.accumulate(counts[i] for i in order)
        return frozenset(i for i, end in zip(order, ends, strict=True) if end > MOST_ON_PHONES)

    @property
    def marks(self) -> set[str]:
        """Marks that are in it."""
        return {cell.mark for column in self.columns for cell in column.cells if cell.mark}


def glance(question: Question) -> Glance:
    """The table of the study's methods."""
    if question.engine_pairs is not None:
        models = engine_models(question.results, question.engine_pairs)
        rows = tuple(_model(question, one) for one in models)
        return Glance(rows, tuple(pair_columns(question.results, models)), False, False)
    names = tuple(_named(question, m) for m in question.methods)
    columns: list[Column] = []
    estimands = list(question.results.study.estimands[:MOST_ESTIMANDS])
    null = question.null_scenarios(question.estimand)
    if null and question.kind != CALIBRATION:
        columns += _false_positives(question, question.estimand, null)
    else:
        columns += _worst_column(
            question, "Bias", _sds(question, question.estimand), question.biases(question.estimand)
        )
    for estimand in estimands:
        covers = question.coverages(estimand)
        level = 100 * (1 - estimand.alpha[0])
        heading = question.labels.short(estimand.parameter)
        columns += _rate_column(question, "Coverage, %", heading, f"target {level:g}", covers)
    where = null or [str(s) for s in question.results.scenarios["scenario"]]
    what = question.labels.short(question.estimand.parameter)
    errors = question.errors_of_se(question.estimand, where)
    # Standard errors that are too large make no false positives.
    columns += _worst_column(question, "Error of SE", f"{what}, %", errors, decimals=0, safe=1)
    columns += _power(question, estimands)
    columns.append(_used(question))
    many = len(question.results.scenarios) > 1
    return Glance(
        names,
        tuple(columns),
        many and any(c.group != "False positives, %" for c in columns),
        any(cell.pale for column in columns for cell in column.cells),
    )


def _sds(question: Question, estimand: Estimand) -> str:
    return f"{question.labels.short(estimand.parameter)}, in SDs"


def _named(question: Question, method: str) -> tuple[str, str, str]:
    kind = question.kind_of(method)
    return question.labels.method(method), DESCRIPTIONS.get(kind, ""), kind


def _model(question: Question, one: EngineModel) -> tuple[str, str, str]:
    """A model on several engines: the part that its names have in common."""
    kind = question.kind_of(one.methods[0])
    name = common_name([question.labels.method(m) for m in one.methods])
    return name, f"{DESCRIPTIONS.get(kind, '')}: {one.engines}", kind


def _false_positives(
    question: Question, estimand: Estimand, scenarios: Sequence[str]
) -> list[Column]:
    level = f"target {100 * estimand.alpha[0]:g}"
    group = f"False positives for {question.labels.short(estimand.parameter)}, %"
    found = question.rejections(estimand, scenarios)
    if len(scenarios) > MOST_COLUMNS:
        return _rate_column(question, group, f"worst of {len(scenarios)}", level, found, high=True)
    return [
        Column(
            group,
            question.place(scenario, scenarios),
            level,
            tuple(
                _rate_cell(
                    next((o for o in found if (o.method, o.scenario) == (m, scenario)), None)
                )
                for m in question.methods
            ),
        )
        for scenario in scenarios
    ]


def _rate_column(
    question: Question,
    group: str,
    heading: str,
    target: str,
    found: Sequence[Judged],
    *,
    high: bool = False,
) -> list[Column]:
    """Of each method the rate that is farthest on the wrong side."""
    every = by_method([one for one in found if one.shown])
    if not every:
        return []
    side = 1 if high else -1
    cells = (
        _rate_cell(max(every.get(m, []), key=lambda one: side * one.value, default=None))
        for m in question.methods
    )
    return [Column(group, heading, target, tuple(cells))]


def _rate_cell(one: Judged | None) -> Cell:
    if one is None:
        return EMPTY
    if not one.shown:
        return Cell("too few", words=f"{counted(one.n, 'usable fit')}")
    text = fixed(100 * one.value, 2 if one.n >= 10_000 else 1)
    if one.value in (0, 1):  # no Monte Carlo error: what it may be
        text += (
            f" (≤{fixed(100 * one.high, 1)})"
            if one.value == 0
            else f" (≥{fixed(100 * one.low, 1)})"
        )
    return _marked(text, one.verdict)


def _marked(text: str, verdict: Verdict) -> Cell:
    return Cell(text, MARKS.get(verdict, ""), verdict.value, verdict.fault)


def _worst_column(
    question: Question,
    group: str,
    heading: str,
    found: Sequence[Judged],
    decimals: int = 2,
    safe: int = 0,
) -> list[Column]:
    """Of each method the number that is farthest from 0; those above (`safe` 1) are no faults."""
    every = by_method([one for one in found if one.shown])
    if not every:
        return []
    cells = []
    for method in question.methods:
        mine = every.get(method)
        if not mine:
            cells.append(EMPTY)
            continue
        worst = max(mine, key=lambda one: (one.verdict.fault, abs(one.value)))
        text = fixed(worst.value, decimals)
        sign = "+" if worst.value > 0 and float(text) else ""
        cell = _marked(f"{sign}{text}", worst.verdict)
        cells.append(replace(cell, fault=cell.fault and not safe * worst.value > 0))
    return [Column(group, heading, "target 0", tuple(cells))]


def _power(question: Question, estimands: Sequence[Estimand]) -> list[Column]:
    """The lowest power; pale where coverage or level of the same parameter fails."""
    columns = []
    for estimand in estimands:
        every = by_method([one for one in question.powers(estimand) if one.shown])
        if not every:
            continue
        null = question.rejections(estimand, question.null_scenarios(estimand))
        faulty = {o.method for o in (*question.coverages(estimand), *null) if o.verdict.fault}
        cells = []
        for method in question.methods:
            if method not in every:
                cells.append(EMPTY)
                continue
            worst = min(every[method], key=lambda one: one.value)
            pale = method in faulty
            text = fixed(100 * worst.value, 1) + "*" * pale
            cells.append(Cell(text, words="not comparable" * pale, pale=pale))
        name = question.labels.short(estimand.parameter)
        columns.append(Column("Power, %", name, "lowest" * _several(every), tuple(cells)))
    return columns[:2]


def _several(every: dict[str, list[Judged]]) -> bool:
    return any(len(found) > 1 for found in every.values())


def _used(question: Question) -> Column:
    """Usable fits of those that were run."""
    fits = question.results.fits
    cells = []
    for method in question.methods:
        mine = fits[fits["method"] == method]
        usable = int(mine["status"].isin(question.results.usable).sum())
        cells.append(Cell(f"{usable:,} of {len(mine):,}"))
    return Column("Fits used", "", "of those run", tuple(cells))
