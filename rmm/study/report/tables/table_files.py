"""Tables as files: CSV with all digits, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from pandas.api.types import is_numeric_dtype

from rmm.errors import printable
from rmm.study.report.data.format_numbers import MINUS, MISSING
from rmm.study.report.data.results import Results
from rmm.study.report.tables.measure_tables import Table


def write_table(table: Table, folder: Path) -> None:
    """Write `NAME.csv` (full precision) and `NAME.tex` (booktabs) into `folder`."""
    (folder / f"{table.name}.csv").write_text(as_csv(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(as_latex(table), encoding="utf-8")


def as_csv(table: Table) -> str:
    """The table with unrounded numbers; missing values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([no_formula(name) for name in table.plain_columns])
    for row in table.rows:
        writer.writerow([_plain(cell.value) for cell in row])
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return no_formula(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


def no_formula(text: str) -> str:
    """Text that a spreadsheet takes for text: a label may be untrusted, such as `=1+1`.

    An apostrophe before it is what spreadsheets themselves write; numbers never get one.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    MINUS: "$-$", MISSING: "--", "α": r"$\alpha$", "≤": r"$\le$", "×": r"$\times$",
    "[": "{[}", "]": "{]}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "\n": " ", "\r": " ", "\N{INFINITY}": r"$\infty$", "’": "'",
}  # fmt: skip


@lru_cache(maxsize=65536)
def latex(text: str) -> str:
    r"""Text safe inside a LaTeX table; brackets are guarded, as they follow `\\`."""
    return "".join(_LATEX.get(c, c if c.isprintable() else " ") for c in text)


def as_latex(table: Table) -> str:
    r"""The table for `\input{}`; needs the package booktabs only."""
    layout = "".join(_LAYOUT[cell.kind.split()[0]] for cell in table.rows[0])
    heads = [
        latex(name) if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{latex(name)}}}"
        for name, span in table.columns
    ]
    lines = [
        f"% {printable(' '.join(f'{table.title}. {table.caption}'.split()))}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
    ]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for number, row in enumerate(table.rows):
        if number and row[0].new_block:
            lines.append(r"\addlinespace")
        shown = ("" if cell.kind == "factor again" else latex(cell.text) for cell in row)
        lines.append(" & ".join(shown) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


_LAYOUT = {
    "factor": "l",
    "method": "l",
    "text": "l",
    "number": "r",
    "error": "@{\\ }r",
    "count": "r",
    "alarm": "r",
}


def performance_csv(results: Results) -> str:
    """Every measure, policy and alpha in one long table, with the scenarios' factors."""
    factors = [c for c in results.scenarios.columns if c != "scenario"]
    order = ["scenario", *factors]
    table = results.performance.merge(results.scenarios[order], on="scenario", how="left")
    columns = [*order, *(c for c in results.performance.columns if c != "scenario")]
    table = table[columns].copy()
    for name in columns:
        if not is_numeric_dtype(table[name]):
            safe = {v: no_formula(v) for v in table[name].unique() if isinstance(v, str)}
            table[name] = [safe.get(v, v) for v in table[name].tolist()]
    table.columns = table.columns.map(no_formula)
    return str(table.to_csv(index=False, lineterminator="\n"))
