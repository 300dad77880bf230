"""`rmm study explain`: which factors explain the differences of measures between scenarios."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import plain
from rmm.cli.run_command import find_study_file
from rmm.cli.score_options import add_table_options, arguments_of, given_table_options
from rmm.errors import StudyError, counted
from rmm.tables.printed_table import table_lines

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from rmm.study.report import Results

EXPLAIN = """\
examples:
  rmm study explain config/studies/quickstart.yaml
  rmm study explain config/studies/quickstart.yaml --measures coverage rmse
  rmm study explain relhaz.dta --by n baseline --method model --replication dataset \\
      --estimate theta --se se --truth -0.5
  rmm study explain my_study.yaml --measures coverage --surface groups overlap
An analysis of variance of the measures over the scenarios. The command prints which share of the
differences between scenarios each factor and each pair of factors explains, with a Monte Carlo
standard error in parentheses. The Monte Carlo noise is subtracted from all shares, and has a row of
its own. Shares are estimated without bias, so that a share of nothing can be below 0.
With --surface, the command fits a smooth surface over two numeric factors, and prints its values:
one surface for each combination of levels of the other factors.
"""
_MEASURES = ("bias", "coverage", "rejection")
_GRID = 5


def explain_options(parser: Any) -> None:
    """Options of `rmm study explain`."""
    parser.add_argument("file", metavar="FILE", help="study file (.yaml), or table of estimates")
    parser.add_argument(
        "--results",
        default="results",
        metavar="FOLDER",
        help="of a study: folder with a subfolder of results for each study; default: %(default)s",
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        default=list(_MEASURES),
        metavar="NAME",
        help=f"names of measures; default: {' '.join(_MEASURES)}",
    )
    parser.add_argument(
        "--estimand", metavar="NAME", help="parameter (estimand); default: the first"
    )
    parser.add_argument(
        "--surface",
        nargs=2,
        metavar="FACTOR",
        help="two numeric factors: print a smooth surface of each measure instead; default: none",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(figure=None)
    add_table_options(parser)


def run_explain(options: argparse.Namespace, read_study: Callable[[], Results]) -> int:
    """`rmm study explain`."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.report.data.explained import explained

    results = _results(options, read_study)
    estimand = _estimand(results, options.estimand)
    if options.surface:
        return _run_surface(results, options, estimand)
    found = explained(results, options.measures, estimand)
    if options.json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        print(json.dumps(plain({"rows": rows}), indent=2))
        return 0
    print(*_share_lines(found, estimand), sep="\n")
    return 0


def _results(options: argparse.Namespace, read_study: Callable[[], Results]) -> Results:
    if find_study_file(options.file).suffix.lower() in (".yaml", ".yml"):
        wrong = given_table_options(options)
        if wrong:
            raise StudyError(
                f"{wrong[0]} is an option of tables of estimates, but {options.file} is a study "
                "file."
            )
        return read_study()
    # Late: `rmm --help` needs no libraries.
    from rmm.study.estimate_tables.score_table import read_table_of
    from rmm.study.estimate_tables.table_options import split_arguments
    from rmm.study.report.data.table_results import table_results

    columns, scoring = split_arguments(arguments_of(options))
    table = read_table_of(options.file, columns, scoring)
    return table_results(table, scoring, Path(options.file).stem)


def _estimand(results: Results, name: str | None) -> str:
    # Late: `rmm --help` needs no libraries.
    from rmm.errors import unknown_name

    known = [e.parameter for e in results.study.estimands]
    if name is not None and name not in known:
        raise StudyError("--estimand: " + unknown_name(name, "an estimand", known))
    return name or known[0]


def _share_lines(found: pd.DataFrame, estimand: str) -> Iterator[str]:
    """A block for each measure: sources down, methods across."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.measures.variance_shares import NOISE, TOTAL

    for (measure, alpha), rows in found.groupby(["measure", "alpha"], sort=False, dropna=False):
        level = "" if alpha != alpha else f", alpha {alpha:g}"
        yield (
            f"{measure}{level} of {estimand}, "
            f"{counted(int(rows['scenarios'].max()), 'scenario')}: share of the variance, %"
        )
        methods = list(dict.fromkeys(rows["method"]))
        lines = [["", "df", *map(str, methods)]]
        for source in dict.fromkeys(rows["source"]):
            cells = rows[rows["source"] == source].set_index("method").to_dict("index")
            df = "-" if source == NOISE else f"{max(int(c['df']) for c in cells.values())}"
            if source == TOTAL:
                known = (cells[m]["variance"] ** 0.5 if m in cells else math.nan for m in methods)
                lines.append(["sd between scenarios", df, *(_plain(sd, 3) for sd in known)])
            else:
                shares = [_share(cells[m]) if m in cells else "-" for m in methods]
                lines.append([str(source), df, *shares])
        yield from (f"    {line}" for line in table_lines(lines, "lr" + "r" * len(methods)))
        yield ""


def _share(cell: dict[Any, Any]) -> str:
    if cell["share"] != cell["share"]:
        return "-"
    return f"{_plain(100 * cell['share'], 1)} ({_plain(100 * cell['share_mcse'], 1)})"


def _plain(value: float, decimals: int) -> str:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.report.data.format_numbers import MINUS, MISSING, fixed

    return fixed(value, decimals).replace(MINUS, "-").replace(MISSING, "-")


# -- surfaces ----------------------------------------------------------------------------------


def _run_surface(results: Results, options: argparse.Namespace, estimand: str) -> int:
    """A grid of values with Monte Carlo errors for each measure and method."""
    # Late: `rmm --help` needs no libraries.
    import numpy as np

    # Late: as numpy.
    from rmm.study.measures.explain_scores import cells_of, check_columns, surface_of
    from rmm.study.measures.score_cells import PER_METHOD, measures_named

    measures_named(options.measures)
    rows = results.performance[results.performance["parameter"] == estimand]
    scores = rows.merge(results.scenarios, on="scenario")
    check_columns(scores, options.surface)
    factors: tuple[str, str] = (options.surface[0], options.surface[1])
    facts = []
    others = [name for name in results.factors if name not in factors]
    cells = cells_of(scores, options.measures, PER_METHOD)
    parts = ((key, levels, part) for key, cell in cells for levels, part in _apart(cell, others))
    for (method, _, measure, alpha), levels, part in parts:
        surface = surface_of(part, *factors, measure)
        x, y = (np.linspace(*ends, _GRID) for ends in surface.bounds)
        value, error = surface.at(*np.meshgrid(x, y))
        facts.append(
            {
                "method": method,
                "measure": measure,
                "alpha": alpha,
                "levels": levels,
                "degree": surface.degree,
                "lack_of_fit": surface.lack_of_fit,
                "inflation": surface.inflation,
                "scenarios": surface.scenarios,
                factors[0]: x.tolist(),
                factors[1]: y.tolist(),
                "value": value.tolist(),
                "mcse": error.tolist(),
            }
        )
        if not options.json:
            print(*_surface_lines(facts[-1], factors, x, y, value, error), "", sep="\n")
    if options.json:
        print(json.dumps(plain({"estimand": estimand, "surfaces": facts}), indent=2))
    return 0


def _apart(
    cell: pd.DataFrame, others: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Rows of each combination of levels of the other factors."""
    if not others:
        yield {}, cell
        return
    for levels, part in cell.groupby(list(others), sort=False):
        values = levels if isinstance(levels, tuple) else (levels,)
        yield dict(zip(others, values, strict=True)), part.reset_index(drop=True)


def _surface_lines(
    facts: dict[str, Any],
    factors: tuple[str, str],
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    value: np.ndarray[Any, Any],
    error: np.ndarray[Any, Any],
) -> Iterator[str]:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.report.data.format_numbers import decimals_for, p_text

    degree = {1: "plane", 2: "quadratic", 3: "cubic"}[facts["degree"]]
    p = "" if facts["lack_of_fit"] != facts["lack_of_fit"] else p_text(facts["lack_of_fit"])
    levels = "".join(f", {name} = {level}" for name, level in facts["levels"].items())
    yield (
        f"{facts['measure']}, {facts['method']}{levels}: {degree} surface of "
        f"{counted(facts['scenarios'], 'scenario')}" + f", lack of fit p {p}" * bool(p)
    )
    if facts["inflation"] > 1:
        yield (
            "    The scenarios differ from it by more than Monte Carlo errors: its errors are "
            f"multiplied by {facts['inflation'] ** 0.5:.2g}."
        )
    decimals = decimals_for(error.ravel(), value.ravel(), 6)
    lines = [[f"{factors[1]} \\ {factors[0]}", *(f"{v:g}" for v in x)]]
    for at, values, errors in zip(y, value, error, strict=True):
        cells = (
            f"{_plain(v, decimals)} ({_plain(e, decimals)})"
            for v, e in zip(values.tolist(), errors.tolist(), strict=True)
        )
        lines.append([f"{at:g}", *cells])
    yield from (f"    {line}" for line in table_lines(lines, "l" + "r" * len(x)))
