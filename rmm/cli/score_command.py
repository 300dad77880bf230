"""`rmm study score`: performance measures of any table of estimates."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import in_options, plain
from rmm.cli.score_options import ARGUMENTS, add_table_options, arguments_of, command_again
from rmm.errors import StudyError, counted
from rmm.tables.printed_table import table_lines

if TYPE_CHECKING:
    import pandas as pd

SCORE = """\
examples:
  rmm study score MIsim.csv --method method --replication dataset --estimate b --se se --truth 0.5
  rmm study score relhaz.dta --by n baseline --method model --replication dataset \\
      --estimate theta --se se --truth -0.5 --baseline Cox --out relhaz.csv
  rmm study score frailty.rda --by fv_dist --method model --parameter par --replication i \\
      --estimate b --se se --truth trt=-0.5 fv=0.75
  rmm study score wide.parquet --replication id --estimate "b_{method}" --se "se_{method}" --truth 0
Each row of the table is one estimate: of a parameter, by a method, on one simulated data set
(replication), in one scenario (--by). The columns of a wide table have names such as b_ols and
b_mm: write b_{method}. An empty estimate is a failed fit.
The command prints each measure with its Monte Carlo standard error in parentheses. --out writes all
of them, with n, intervals and both policies, to a file. `rmm study report TABLE` with the same
options writes an HTML report with figures.
"""

#: Measures that are printed by default; --out has all.
PRINTED = (
    "mean", "bias", "relative_bias", "empirical_se", "relative_precision", "mse", "model_se",
    "relative_error_se", "coverage", "be_coverage", "rejection", "interval_width",
)  # fmt: skip
_MOST_BLOCKS = 50
_COUNTS = {
    "n": "fits used",
    "n_failed": "failed",
    "n_not_converged": "not converged",
    "n_outliers": "outliers",
}


def report_options(parser: Any) -> None:
    """Options of `rmm study report` that are about tables of estimates."""
    parser.add_argument(
        "--figure",
        metavar="NAME",
        help="of a table: write this figure only, to the file --out; default: the whole report",
    )
    add_table_options(parser)


def run_table_report(options: argparse.Namespace) -> int:
    """`rmm study report TABLE`."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.estimate_tables.score_table import read_table_of
    from rmm.study.estimate_tables.table_options import split_arguments
    from rmm.study.report import write_table_figure, write_table_report
    from rmm.study.report.data.table_results import table_results

    columns, scoring = split_arguments(arguments_of(options))
    name = Path(options.file).stem
    results = table_results(read_table_of(options.file, columns, scoring), scoring, name)
    if options.figure is None:
        out = Path(options.out or f"{name}-report")
        print(write_table_report(results, out, command_again(options)))
    elif options.out is None:
        raise StudyError(
            f"--figure needs a file, such as --out {options.figure}.svg (or .html, .pdf, .png)."
        )
    else:
        print(write_table_figure(results, options.figure, options.out))
    return 0


def score_options(parser: Any) -> None:
    """Options of `rmm study score`."""
    parser.add_argument("table", metavar="TABLE", help=".csv, .parquet, .dta, .rda and others")
    add_table_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--measures",
        nargs="+",
        metavar="NAME",
        help="names of measures, or `all`; default: print the usual ones, write all",
    )
    output.add_argument(
        "--policy",
        default="per_method",
        metavar="NAME",
        help="what is printed: per_method (all usable fits of each method) or complete_case "
        "(replications in which all methods have a usable fit); default: %(default)s",
    )
    output.add_argument(
        "--out", "--output", metavar="PATH", help="file to write: .csv or .parquet; default: none"
    )
    output.add_argument("--json", action="store_true", help="print all results as JSON")
    output.add_argument(
        "--joint",
        nargs=2,
        metavar="METHOD",
        help="instead of the measures: in how many data sets both of two methods cover and reject, "
        "one alone, or neither; --measures can be coverage, be_coverage and rejection; default: no "
        "methods",
    )


def run_score(options: argparse.Namespace) -> int:
    """`rmm study score`."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.measures.score_cells import POLICIES, measures_named

    if options.policy not in POLICIES:
        raise StudyError(f"--policy must be {' or '.join(POLICIES)}, not {options.policy!r}.")
    out = Path(options.out) if options.out else None
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise StudyError(f"--out must be a file that ends in .csv or .parquet, not {str(out)!r}.")
    if options.joint:
        return _run_joint(options, out)
    named = options.measures if options.measures != ["all"] else None
    measures_named(named)
    found = scored(options, named)
    if out is not None:
        _write(found, out)
    if options.json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        print(json.dumps(plain({**found.attrs, "rows": rows}), indent=2))
        return 0
    _print_all(found, options)
    if out is not None:
        print(f"written to {out}")
    return 0


def _run_joint(options: argparse.Namespace, out: Path | None) -> int:
    """`rmm study score --joint A B`."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.estimate_tables.joint_table import joint_outcomes
    from rmm.study.estimate_tables.table_options import argument_names

    arguments = {k: v for k, v in arguments_of(options).items() if k in argument_names()}
    measures = options.measures or ["coverage", "rejection"]
    found = joint_outcomes(options.table, *options.joint, measures=measures, **arguments)
    if out is not None:
        _write(found, out)
    if options.json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        print(json.dumps(plain({"rows": rows}), indent=2))
        return 0
    _print_joint(found, arguments["parameter"] is not None)
    if out is not None:
        print(f"written to {out}")
    return 0


def _print_joint(found: pd.DataFrame, parameters: bool) -> None:
    """A block for each scenario and parameter: measures down, outcomes across."""
    factors = list(found.columns[: found.columns.get_loc("parameter")])
    found.attrs |= {"has_parameters": parameters}
    for key, block in found.groupby([*factors, "parameter"], sort=False):
        first, second = block["first"].iloc[0], block["second"].iloc[0]
        print(_heading(factors, key, found))
        heads = ["", "both", f"only {first}", f"only {second}", "neither", "data sets", "p"]
        lines = [heads, *_joint_cells(block)]
        print(*(f"    {line}" for line in table_lines(lines, "lrrrrrr")), "", sep="\n")


def _joint_cells(block: pd.DataFrame) -> Iterator[list[str]]:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.report.data.format_numbers import MISSING, p_text, uncertainty

    for (measure, alpha), part in block.groupby(["measure", "alpha"], sort=False):
        several = block.loc[block["measure"] == measure, "alpha"].nunique() > 1
        name = f"{measure}, alpha {alpha:g}" if several else str(measure)
        shares = [
            f"{row['share']:.3f} {uncertainty(row['mcse'], row['lower'], row['upper'], 3)}".strip()
            for row in part.to_dict("records")
        ]
        row = part.iloc[0]
        yield [name, *shares, f"{int(row['n']):,}", p_text(row["p_value"]).replace(MISSING, "-")]


def _print_all(found: pd.DataFrame, options: argparse.Namespace) -> None:
    shown = found[found["policy"] == options.policy]
    if options.measures is None:
        shown = shown[shown["measure"].isin(PRINTED)]
    _print_scores(shown, options.policy)
    for note in found.attrs["notes"]:
        print(f"Note. {in_options(note, options, ARGUMENTS)}")
    if found.attrs["outliers"]:
        print("Left out as outliers:" if options.dropbig else "Outliers, which are not left out:")
        print(*(f"    {line}" for line in found.attrs["outliers"]), sep="\n")


def _write(found: pd.DataFrame, out: Path) -> None:
    # Late: `rmm --help` needs no libraries.
    import pyarrow as pa

    # Late: as pyarrow.
    from rmm.study.files.parquet import write_parquet, write_text

    # Late: as pyarrow.
    from rmm.study.report.tables.table_files import no_formula

    if out.suffix == ".parquet":
        write_parquet(pa.Table.from_pandas(found, preserve_index=False), out)
        return
    safe = found.map(lambda cell: no_formula(cell) if isinstance(cell, str) else cell)
    safe.columns = safe.columns.map(no_formula)
    write_text(safe.to_csv(index=False, lineterminator="\n"), out)


def scored(options: argparse.Namespace, measures: Sequence[str] | None) -> pd.DataFrame:
    """The performance of the table that the options describe."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.performance import performance

    return performance(options.table, **arguments_of(options), measures=measures)


def _print_scores(found: pd.DataFrame, policy: str) -> None:
    """A block for each scenario and parameter: measures down, methods across."""
    if policy == "complete_case":
        print("Replications in which all methods have a usable fit.\n")
    factors = list(found.columns[: found.columns.get_loc("parameter")])
    factors = [name for name in factors if name != "method" and not _is_method_column(found, name)]
    of_fits = found["parameter"].isna() | (found["parameter"] == "")
    blocks = found[~of_fits].groupby([*factors, "parameter"], sort=False)
    for number, (key, block) in enumerate(blocks):
        if number == _MOST_BLOCKS:
            print(f"and {counted(len(blocks) - number, 'more table')} (all with --out)")
            break
        print(_heading(factors, key, found))
        print(*_block_lines(block), "", sep="\n")
    if of_fits.any():
        print(*_block_lines(found[of_fits].drop_duplicates()), "", sep="\n")


def _is_method_column(found: pd.DataFrame, name: str) -> bool:
    """Whether a column is one of several that make a method, which come right before it."""
    names = found.attrs.get("method_columns", [])
    return name in names


def _heading(factors: Sequence[str], key: tuple[Any, ...], found: pd.DataFrame) -> str:
    *labels, parameter = key
    parts = [
        f"{name.removeprefix('factor.')} = {label}"
        for name, label in zip(factors, labels, strict=True)
    ]
    if parts == ["scenario = all"]:
        parts = []
    if found.attrs["has_parameters"]:
        parts.append(f"parameter {parameter}")
    return ", ".join(parts) or "all estimates"


def _block_lines(block: pd.DataFrame) -> list[str]:
    methods = list(dict.fromkeys(block["method"]))
    rows = [["", *map(str, methods)]]
    used = {m: int(block.loc[block["method"] == m, "n"].max()) for m in methods}
    for (measure, alpha), part in block.groupby(["measure", "alpha"], sort=False, dropna=False):
        if part["value"].notna().any():
            several = block.loc[block["measure"] == measure, "alpha"].nunique() > 1
            name = f"{measure}, alpha {alpha:g}" if several else str(measure)
            rows.append([name, *_cells(part, methods, used)])
    counts = block.groupby("method", sort=False)[list(_COUNTS)].max()
    for column, words in _COUNTS.items():
        if column == "n" or counts[column].any():
            rows.append([words, *(f"{int(counts.loc[m, column]):,}" for m in methods)])
    return [f"    {line}" for line in table_lines(rows, "l" + "r" * len(methods))]


def _cells(part: pd.DataFrame, methods: Sequence[Any], used: Mapping[Any, int]) -> Iterator[str]:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.report.data.format_numbers import decimals_for, fixed, uncertainty

    width = (part["upper"] - part["lower"]) / 4  # as a Monte Carlo error, where there is none
    decimals = decimals_for(part["mcse"].fillna(width), part["value"], 6)
    by_method = {row["method"]: row for row in part.to_dict("records")}
    for method in methods:
        row = by_method.get(method)
        if row is None or math.isnan(row["value"]):
            yield "-"
            continue
        error = uncertainty(row["mcse"], row["lower"], row["upper"], decimals)
        own = f" n {int(row['n']):,}" if row["n"] != used[method] else ""
        text = f"{fixed(row['value'], decimals)} {error}{own}".strip()
        yield text.replace("\N{MINUS SIGN}", "-")
