"""Labels that are HTML, SVG, LaTeX, formulas of spreadsheets or commands: they stay labels."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import rmm
from rmm.study.estimate_tables.score_table import read_table_of
from rmm.study.estimate_tables.table_options import split_arguments
from rmm.study.report import write_report, write_table_report
from rmm.study.report.data.table_results import table_results
from rmm.study.report.tables.measure_tables import Cell, Table
from rmm.study.report.tables.table_files import write_table
from tests.attack import Attack, unexpected
from tests.coalitions import made_up_coalitions
from tests.hostile import (
    Elements,
    csv_faults,
    hostile_label,
    hostile_labels,
    latex_faults,
    page_faults,
    report_faults,
)
from tests.invented import write_study

#: A text for each place of a report: 2 factors, 4 levels, 2 methods, a parameter, a message, title.
Labels = list[str]
_HARMLESS: Labels = ["one", "two", "a", "b", "c", "d", "m1", "m2", "x", "why", "title", "aims"]


def _names_below(folder: Path) -> set[str]:
    """All files and folders, but those of cases."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _study_report(folder: Path, labels: Labels) -> Path:
    """A report of results all of whose labels are given."""
    first, second, *levels = labels[:6]
    factors = {first: levels[:2], second: levels[2:]}
    made = write_study(
        folder / "study",
        factors,
        labels[6:8],
        replications=20,
        parameter=f"b_l1[{labels[8]}]",
        title=labels[10],
        aims=labels[11],
    )
    table = pd.read_parquet(made.folder / "estimates.parquet")
    table.loc[table["status"] == "failed", "message"] = labels[9]
    table.to_parquet(made.folder / "estimates.parquet")
    return write_report(*made).parent


def _table_report(folder: Path, labels: Labels) -> Path:
    """A report of a table from elsewhere, whose columns have these names, too."""
    first, second, *levels = labels[:6]
    names = [first, second, labels[6] + "method", labels[8] + "parameter", "i"]
    parameters = [labels[8], labels[9]]
    values = [levels[:2], levels[2:], labels[6:8], parameters, range(20)]
    rows = pd.MultiIndex.from_product(values, names=names).to_frame(index=False)
    rng = np.random.default_rng(2)
    rows = rows.assign(b=rng.normal(0.5, 0.2, len(rows)), s=rng.gamma(40, 0.005, len(rows)))
    arguments: dict[str, Any] = {"by": names[:2], "method": names[2], "parameter": names[3]}
    arguments |= {"replication": "i", "estimate": "b", "se": "s", "truth": 0.5}
    columns, options = split_arguments(arguments)
    results = table_results(read_table_of(rows, columns, options), options, labels[10])
    return write_table_report(results, folder / "report", labels[11]).parent


def _reports(draw: random.Random, folder: Path) -> Iterator[str]:
    """Reports of studies and of tables, each with other labels; nothing is made beside them."""
    kinds: tuple[Callable[[Path, Labels], Path], ...] = (_study_report, _table_report)
    harmless = {}
    for number in count():
        write = kinds[number % 2]
        if write not in harmless:
            (start := folder / f"harmless {number}").mkdir()
            harmless[write] = write(start, _HARMLESS)
        here = folder / "case"
        here.mkdir()
        before = _names_below(folder)
        # A blank at an end may go: columns are found by the names that the user gives.
        labels = [f"{text}|" for text in hostile_labels(draw, len(_HARMLESS))]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of characters that fonts lack
                faults = list(report_faults(write(here, labels), harmless[write]))
            made = {name for name in _names_below(folder) - before if not name.startswith("case/")}
            faults += [f"files outside: {sorted(made)[:3]}"] * bool(made)
            yield f"{write.__name__} {labels}: {faults[:3]}" if faults else ""
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{write.__name__} {labels}: {unexpected(error)}"
        shutil.rmtree(here)


def _tables(draw: random.Random, folder: Path) -> Iterator[str]:
    """Tables of reports as CSV and LaTeX, every cell and heading a label."""
    while True:
        labels = [hostile_label(draw) for _ in range(8)]
        rows = tuple(
            tuple(Cell(text, text, kind) for text, kind in zip(three, _CELLS, strict=True))
            for three in (labels[:3], labels[3:6])
        )
        heads = tuple((text, 1) for text in labels[5:8])
        table = Table("t", "bias", labels[0], labels[1], heads, tuple(labels[5:8]), rows, ((), ()))
        write_table(table, folder)
        faults = [*csv_faults(folder / "t.csv"), *latex_faults(folder / "t.tex")]
        yield f"{labels}: {faults[:3]}" if faults else ""


_CELLS = ("factor", "method", "text")


def _fits(draw: random.Random, folder: Path) -> Iterator[str]:
    """Names of columns and of members in what a fit shows, as HTML, LaTeX, Markdown and text."""
    table, harmless = made_up_coalitions(30, 12), None
    while True:
        # No formula can name a column with these.
        names = ["x", "s", "pid", "gid"] if harmless is None else hostile_labels(draw, 4, "`\0")
        people = {n: hostile_label(draw, "\0") + str(n) for n in range(12)}
        given = table.rename(columns=dict(zip(("x", "s", "pid", "gid"), names, strict=True)))
        given[names[2]] = given[names[2]].map(people)
        quoted = [f"`{name}`" for name in names]
        formula = (
            f"y ~ 1 + mm(id({quoted[2]}, {quoted[3]}), vars({quoted[0]}), "
            f"fn(w ~ 1/n^exp(-(b1*{quoted[1]}))), RE=TRUE)"
        )
        options: Any = {"chains": 2, "warmup": 5, "draws": 10, "seed": 1, "progress": False}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = rmm.fit(formula, given, backend="fake", **options)
                page, latex = fit._repr_html_(), fit.summary(to="latex")
                rows = fit.summary(to="markdown").splitlines()
            harmless = harmless or Elements(page)
            file = folder / "t.tex"
            file.write_text(latex, encoding="utf-8", newline="")
            faults = [*page_faults(page, harmless, ()), *latex_faults(file)]
            faults += ["a broken Markdown table"] * (len(rows) != len(fit.summary()) + 2)
            yield f"{names}: {faults[:3]}" if faults else ""
        except rmm.RmmError as error:
            odd = [c for c in str(error) if not (c.isprintable() or c in "\n\t")]
            yield f"{names}: a message with {odd}" if odd else ""
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{names}: {unexpected(error)}"


ATTACKS = (
    Attack("hostile labels in reports", 20, _reports),
    Attack("hostile labels in tables of reports", 2_000, _tables),
    Attack("hostile labels in fits", 200, _fits),
)
