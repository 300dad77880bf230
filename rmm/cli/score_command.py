"""`rmm study score`: performance measures of any table of estimates."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import plain, table_lines
from rmm.errors import StudyError

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
    table_options(parser)


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
        print(write_table_report(results, out, _again(options)))
    elif options.out is None:
        raise StudyError(
            f"--figure needs a file, such as --out {options.figure}.svg (or .html, .pdf, .png)."
        )
    else:
        print(write_table_figure(results, options.figure, options.out))
    return 0


def _again(options: argparse.Namespace) -> str:
    """The command with the options that were given."""
    parts = ["rmm", "study", "report", str(options.file)]
    for name in _TABLE_OPTIONS:
        given = getattr(options, name)
        values = given if isinstance(given, list) else [given]
        if given is not None and given != _DEFAULT.get(name):
            parts += [
                f"--{name.replace('_', '-')}",
                *(f"{v:g}" if isinstance(v, float) else v for v in values),
            ]
    return shlex.join(map(str, parts))


def given_table_options(options: argparse.Namespace) -> list[str]:
    """Options of tables that were given, as they are written."""
    given = [n for n in _TABLE_OPTIONS if getattr(options, n) not in (None, _DEFAULT.get(n))]
    return [f"--{name.replace('_', '-')}" for name in (*given, *["figure"] * bool(options.figure))]


_DEFAULT: dict[str, Any] = {
    "alpha": [0.05],
    "test": "auto",
    "mcse": "normal",
    "missing_se": "keep",
    "max_estimate": 10.0,
    "max_se": 100.0,
    "usable": ["ok"],
}
_PLAIN = (
    "by", "method", "parameter", "replication", "estimate", "se", "variance", "lower", "upper",
    "p_value", "status", "na", "alpha", "baseline", "methods", "parameters", "test", "mcse",
    "missing_se", "dropbig", "max_estimate", "max_se", "usable",
)  # fmt: skip
_VALUES = ("df", "truth", "null")
_TABLE_OPTIONS = (*_PLAIN, *_VALUES, "statuses")


def table_options(parser: Any) -> None:
    """Options that say what the columns of a table hold, and how it is scored."""
    columns = parser.add_argument_group("columns of the table")
    for name, metavar, text in (
        (
            "by",
            "COLUMN",
            "factors; each combination of values is a scenario; default: `scenario`, if there",
        ),
        (
            "method",
            "COLUMN",
            "method; with several columns, each combination is one; default: `method`, if there",
        ),
    ):
        columns.add_argument(f"--{name}", nargs="+", metavar=metavar, help=text)
    for name, text in (
        ("parameter", "parameter (estimand); default: `parameter`, if there"),
        (
            "replication",
            "number or name of the simulated data set; default: `replication`, if there; else "
            "methods are not compared on the same data",
        ),
        ("estimate", "estimate; default: `mean`"),
        ("se", "standard error; default: none"),
        ("variance", "squared standard error, instead of --se; default: none"),
        ("lower", "lower bound of the interval; default: from estimate, --se and --df"),
        ("upper", "upper bound of the interval; default: from estimate, --se and --df"),
        ("p-value", "p value; default: none"),
        (
            "status",
            "how the fit ended: ok, not_converged, failed or timeout; default: `status`, if there",
        ),
    ):
        columns.add_argument(f"--{name}", metavar="COLUMN", help=text)
    for name, text in (
        ("df", "degrees of freedom: a column or a number; default: none, normal intervals"),
        (
            "truth",
            "true value: a number, a column, or PARAMETER=NUMBER for each parameter; default: none",
        ),
        ("null", "value that is tested, as --truth; default: 0"),
    ):
        columns.add_argument(f"--{name}", nargs="+", metavar="VALUE", help=text)
    columns.add_argument(
        "--statuses",
        nargs="+",
        metavar="WORD=STATUS",
        help="what other words in the column of statuses mean, such as converged=ok error=failed; "
        "default: none",
    )
    columns.add_argument(
        "--na",
        nargs="*",
        metavar="TEXT",
        help="texts in a text file that mean a missing value; default: the empty cell, and NA "
        "and the like in columns of numbers",
    )
    scoring = parser.add_argument_group("how it is scored")
    scoring.add_argument(
        "--alpha",
        nargs="+",
        type=float,
        default=[0.05],
        metavar="LEVEL",
        help="level of tests, and one minus the level of intervals; default: 0.05",
    )
    scoring.add_argument(
        "--baseline", metavar="METHOD", help="method to compare with; default: the first"
    )
    scoring.add_argument(
        "--methods", nargs="+", metavar="NAME", help="methods to score; default: all"
    )
    scoring.add_argument(
        "--parameters", nargs="+", metavar="NAME", help="parameters to score; default: all"
    )
    scoring.add_argument(
        "--usable",
        nargs="+",
        default=["ok"],
        metavar="STATUS",
        help="statuses of fits that count, such as ok not_converged; default: ok",
    )
    scoring.add_argument(
        "--test",
        default="auto",
        metavar="HOW",
        help="test of the null value by p (value), interval, z or t; default: by the p value if "
        "there is one, else by the interval",
    )
    scoring.add_argument(
        "--mcse",
        default="normal",
        metavar="HOW",
        help="Monte Carlo errors of empirical standard errors: normal (estimates are normal) or "
        "robust (by their kurtosis); default: %(default)s",
    )
    scoring.add_argument(
        "--missing-se",
        default="keep",
        metavar="HOW",
        help="an estimate without standard error: keep (for measures that need none) or fail "
        "(failed fit); default: %(default)s",
    )
    scoring.add_argument(
        "--dropbig",
        nargs="?",
        const="robust",
        metavar="HOW",
        help="leave out outliers, found by medians and interquartile ranges (robust, the default) "
        "or by means and standard deviations (sd); default: they are only counted",
    )
    scoring.add_argument(
        "--max-estimate",
        type=float,
        default=10.0,
        metavar="X",
        help="an estimate farther than X of these units from the others is an outlier; default: 10",
    )
    scoring.add_argument(
        "--max-se", type=float, default=100.0, metavar="X", help="same for standard errors; "
        "default: 100",
    )  # fmt: skip


def score_options(parser: Any) -> None:
    """Options of `rmm study score`."""
    parser.add_argument("table", metavar="TABLE", help=".csv, .parquet, .dta, .rda and others")
    table_options(parser)
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


def run_score(options: argparse.Namespace) -> int:
    """`rmm study score`."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.files.parquet import write_text
    from rmm.study.measures.score_cells import POLICIES, measures_named

    if options.policy not in POLICIES:
        raise StudyError(f"--policy must be {' or '.join(POLICIES)}, not {options.policy!r}.")
    out = Path(options.out) if options.out else None
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise StudyError(f"--out must be a file that ends in .csv or .parquet, not {str(out)!r}.")
    named = options.measures if options.measures != ["all"] else None
    measures_named(named)
    found = scored(options, named)
    if out is not None and out.suffix == ".csv":
        write_text(found.to_csv(index=False, lineterminator="\n"), out)
    elif out is not None:
        _write_parquet(found, out)
    if options.json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        print(json.dumps(plain({**found.attrs, "rows": rows}), indent=2))
        return 0
    shown = found[found["policy"] == options.policy]
    if options.measures is None:
        shown = shown[shown["measure"].isin(PRINTED)]
    _print_scores(shown, options.policy)
    for note in found.attrs["notes"]:
        print(f"Note. {note}")
    if found.attrs["outliers"]:
        print("Left out as outliers:" if options.dropbig else "Outliers, which are not left out:")
        print(*(f"    {line}" for line in found.attrs["outliers"]), sep="\n")
    if out is not None:
        print(f"written to {out}")
    return 0


def _write_parquet(found: pd.DataFrame, out: Path) -> None:
    # Late: `rmm --help` needs no libraries.
    import pyarrow as pa

    # Late: as pyarrow.
    from rmm.study.files.parquet import write_parquet

    write_parquet(pa.Table.from_pandas(found, preserve_index=False), out)


def scored(options: argparse.Namespace, measures: Sequence[str] | None) -> pd.DataFrame:
    """The performance of the table that the options describe."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.performance import performance

    return performance(options.table, **arguments_of(options), measures=measures)


def arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `performance` from the options of `table_options`."""
    found = {name: getattr(options, name) for name in _PLAIN}
    found |= {name: _value(getattr(options, name), name) for name in _VALUES}
    return found | {"statuses": _pairs(options.statuses, "statuses")}


def _value(given: Sequence[str] | None, name: str) -> Any:
    """A number, a column, or numbers of parameters."""
    if given is None:
        return None
    if len(given) == 1:
        number = _number(given[0])
        if number is not None:
            return number
        if "=" not in given[0] or _number(given[0].rpartition("=")[2]) is None:
            return given[0]
    values = {key: _number(text) for key, text in _pairs(given, name).items()}
    for key, value in values.items():
        if value is None:
            raise StudyError(f"--{name}: the value of {key} is not a number.")
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _pairs(given: Sequence[str] | None, name: str) -> dict[str, str]:
    pairs = [one.rpartition("=") for one in given or ()]
    wrong = [f"{a}{b}{c}" for a, b, c in pairs if not a]
    if wrong:
        raise StudyError(f"--{name}: {wrong[0]!r} must have the form NAME=VALUE.")
    return {a: c for a, _, c in pairs}


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
            print(f"and {len(blocks) - number:,} more scenarios and parameters (all with --out)")
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
