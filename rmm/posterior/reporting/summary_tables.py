"""Summaries with other intervals and columns, as LaTeX or Markdown.

Both texts are written here: pandas needs Jinja2 for LaTeX and tabulate for Markdown, which a fit by
itself does not need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from rmm.arguments import shortened
from rmm.errors import BackendError, unknown_name
from rmm.posterior.diagnostics.summary import QUANTILES, quantiles
from rmm.posterior.reporting.fit_text import formatted
from rmm.tables.read import Array

_PROB = QUANTILES[-1] - QUANTILES[0]  # of the columns q2.5 and q97.5
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
} | {c: f"\\{c}" for c in "&%$#_{}"}


def summary_table(
    table: pd.DataFrame, ordered: Array, prob: float, columns: str | Sequence[str] | None
) -> pd.DataFrame:
    """A summary with the limits of another interval, and some of its columns.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns ``q2.5`` and ``q97.5``.
    ordered : (parameters, S) array
        Draws of its rows in ascending order.
    prob : float
    columns : str, sequence of str or None
        None for all.

    Raises
    ------
    BackendError
        For a probability that is none, or an unknown column.
    """
    if isinstance(prob, bool) or not isinstance(prob, int | float) or not 0 < prob < 1:
        raise BackendError(f"`prob` must be a number between 0 and 1, not {shortened(prob)}.")
    if abs(prob - _PROB) > 1e-12:
        sides = ((1 - prob) / 2, (1 + prob) / 2)
        new = {
            old: (f"q{100 * p:.4g}", values)
            for old, p, values in zip(
                ("q2.5", "q97.5"), sides, quantiles(ordered, sides), strict=True
            )
        }
        table = pd.DataFrame(
            {new[n][0] if n in new else n: new[n][1] if n in new else table[n] for n in table},
            index=table.index,
        )
    if columns is None:
        return table.copy()
    wanted = [columns] if isinstance(columns, str) else columns
    if not isinstance(wanted, Iterable) or isinstance(wanted, bytes | Mapping):
        raise BackendError(f"`columns` must be names of columns, not {shortened(columns)}.")
    wanted = list(wanted)
    for name in wanted:
        if name not in list(table.columns):
            raise BackendError(unknown_name(name, "a column of this summary", table.columns))
    return table[wanted].copy()


def written(table: pd.DataFrame, to: str, sd: pd.Series) -> str:
    """A summary as text.

    Parameters
    ----------
    table : pandas.DataFrame
    to : {"latex", "markdown"}
    sd : pandas.Series
        Posterior sd of each row, which decides how many digits are shown. Effective sample sizes
        are whole numbers.

    Raises
    ------
    BackendError
        For another `to`.
    """
    if to not in _WRITERS:
        raise BackendError(unknown_name(to, "a format of a summary", [*_WRITERS, None]))
    cells = formatted(table if "sd" in table else table.assign(sd=sd))
    for name in cells.columns.intersection(["ess_bulk", "ess_tail"]):
        cells[name] = [f"{v:.0f}" for v in table[name]]
    return _WRITERS[to](cells[[name for name in table if name in cells]])


def _latex(cells: pd.DataFrame) -> str:
    """A `tabular` with the rules of the package booktabs."""
    head = ["", *(_quantile_name(str(name)) for name in cells)]
    lines = [f"\\begin{{tabular}}{{l{'r' * cells.shape[1]}}}", "\\toprule"]
    lines += [" & ".join(head) + r" \\", "\\midrule"]
    for name, row in zip(cells.index, cells.to_numpy(), strict=True):
        numbers = [f"${v}$" if v.startswith("-") else v for v in row]
        lines.append(" & ".join([latex_text(str(name)), *numbers]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def latex_text(text: str) -> str:
    """Text with all characters that mean something to LaTeX escaped; blanks for unprintable."""
    return "".join(_LATEX.get(c, c if c.isprintable() else " ") for c in text)


def _quantile_name(name: str) -> str:
    match = re.fullmatch(r"q([0-9.]+)", name)
    return f"{match[1]}\\%" if match else latex_text(name)


def _markdown(cells: pd.DataFrame) -> str:
    """A pipe table; names of parameters are code, so that nothing in them is markup."""
    rows = [["parameter", *map(str, cells.columns)]]
    rows += [
        [_code(str(name)), *row] for name, row in zip(cells.index, cells.to_numpy(), strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def _code(text: str) -> str:
    """A code span of a table's cell: more backticks than the text has, pipes escaped."""
    text = "".join(c if c.isprintable() else " " for c in text)  # a line end would end the row
    longest = max((len(m) for m in re.findall("`+", text)), default=0)
    ticks, pad = "`" * (longest + 1), " " if longest else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", "\\|")


_WRITERS: Mapping[str, Callable[[pd.DataFrame], str]] = {"latex": _latex, "markdown": _markdown}


def decimals_of(error: float) -> int:
    """Decimals to report for a number with a Monte Carlo error.

    As many as make steps of at least half the error.
    """
    if not (np.isfinite(error) and error > 0):
        return 2
    return int(np.clip(np.floor(-np.log10(error / 2)), 0, 8))
