"""A user's table of estimates -> performance, with the user's labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import StudyError, unknown_name
from rmm.study.estimate_tables.column_roles import TableColumns
from rmm.study.estimate_tables.estimate_table import EstimateTable, method_name, read_estimate_table
from rmm.study.estimate_tables.label_columns import find
from rmm.study.estimate_tables.outliers import find_outliers
from rmm.study.estimate_tables.table_options import ScoreOptions
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.score_cells import PER_METHOD, Rules, score_estimates

__all__ = ["ScoreOptions", "read_and_score"]

#: Outliers that are described one by one.
MOST_NAMED = 20


def read_and_score(
    table: Any, columns: TableColumns, options: ScoreOptions
) -> tuple[pd.DataFrame, EstimateTable]:
    """Performance as of `rmm.study.performance.performance`, and the table that was read."""
    read = read_table_of(table, columns, options)
    return labelled(score_table(read, options), read), read


def read_table_of(table: Any, columns: TableColumns, options: ScoreOptions) -> EstimateTable:
    """Read and check a table as its options say; of some methods, if they are named."""
    read = read_estimate_table(
        table,
        columns,
        statuses=options.statuses,
        usable=options.usable,
        se_needed=options.missing_se == "fail",
        alpha=options.levels()[0],
        parameters=options.parameters,
        na=options.na,
    )
    chosen = known_labels(options.methods, read.methods, "methods", "a method")
    if not chosen:
        return read
    frame = read.frame[read.frame["method"].isin(chosen)].reset_index(drop=True)
    methods = {name: label for name, label in read.methods.items() if name in chosen}
    return replace(read, frame=frame, methods=methods)


@dataclass(frozen=True, eq=False)
class Scored:
    """A scored table.

    Attributes
    ----------
    frame : pandas.DataFrame
        Estimates in the layout of studies, without those left out as outliers.
    performance : pandas.DataFrame
        As of a study, and `n_outliers`: scenarios, methods and parameters as in the frame.
    outliers : list of str
        Descriptions of outliers; of many, of the first.
    outlier_count : int
    """

    frame: pd.DataFrame
    performance: pd.DataFrame
    outliers: list[str]
    outlier_count: int


# Squares of estimates such as 1e200 are infinite, and measures with them not known.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def score_table(table: EstimateTable, options: ScoreOptions) -> Scored:
    """Score a table that was read; options as of `read_and_score`."""
    parameters = known_labels(options.parameters, table.parameters, "parameters", "a parameter")
    untested = known_labels(options.untested, table.parameters, "untested", "a parameter")
    outliers = _outliers(table, options)
    if parameters:
        outliers &= table.frame["parameter"].isin(parameters).to_numpy()
    frame = _without(table, outliers, options)
    scored = score_estimates(
        frame,
        alpha=known_alphas(options, table),
        measures=options.measures,
        parameters=parameters or None,
        baseline=baseline_of(table, options.baseline),
        null_scenarios=_null_scenarios(table, options.null_scenarios),
        usable=options.usable,
        untested=untested,
        rules=Rules(options.test, options.mcse, status_by_parameter=True),
    )
    if table.replications is None:
        paired = [name for name, measure in MEASURES.items() if measure.of == "pair"]
        scored = scored[(scored["policy"] == PER_METHOD) & ~scored["measure"].isin(paired)]
    scored = scored.assign(n_outliers=_counts(table, outliers, scored))
    performance = scored.reset_index(drop=True)
    return Scored(frame, performance, _named(table, outliers), int(outliers.sum()))


def without_outliers(table: EstimateTable, options: ScoreOptions) -> pd.DataFrame:
    """Estimates in the layout of studies; outliers are missing if `dropbig` says so."""
    return _without(table, _outliers(table, options), options)


def _without(
    table: EstimateTable, outliers: np.ndarray[Any, Any], options: ScoreOptions
) -> pd.DataFrame:
    frame = table.frame
    if options.dropbig is None:
        return frame
    return frame.assign(mean=frame["mean"].mask(outliers), sd=frame["sd"].mask(outliers))


def labelled(scored: Scored, table: EstimateTable) -> pd.DataFrame:
    """The performance as `rmm.study.performance.performance` returns it."""
    out = _with_labels(scored.performance, table)
    columns = table.columns.method or ()
    out.attrs["method_columns"] = list(columns) if len(columns) > 1 else []
    out.attrs["has_parameters"] = table.columns.parameter is not None
    out.attrs["notes"] = list(table.notes)
    out.attrs["outliers"] = scored.outliers
    return out


def known_labels(
    given: Sequence[Any] | None, names: Mapping[str, Any], argument: str, kind: str
) -> list[str]:
    """Names in the frame of labels that a user wrote."""
    found = []
    labels = list(names.values())
    for label in given or ():
        meant = names[label] if isinstance(label, str) and label in names else find(label, labels)
        if meant is None:
            shown = [method_name(one) for one in labels]
            raise StudyError(f"`{argument}`: " + unknown_name(label, kind, shown))
        found.append(next(name for name, one in names.items() if one is meant or one == meant))
    return found


def baseline_of(table: EstimateTable, given: Any) -> str:
    """The baseline's name in the frame: the first in the order of labels by default."""
    if given is None:
        return next(iter(table.methods))
    label = tuple(given) if isinstance(given, list) else given
    return known_labels([label], table.methods, "baseline", "a method")[0]


def known_alphas(options: ScoreOptions, table: EstimateTable) -> Any:
    if not isinstance(options.alpha, Mapping):
        return options.levels()
    names = known_labels(list(options.alpha), table.parameters, "alpha", "a parameter")
    levels = [np.atleast_1d(a).tolist() for a in options.alpha.values()]
    return dict(zip(names, levels, strict=True))


def _null_scenarios(table: EstimateTable, given: Mapping[Any, Any]) -> dict[tuple[str, str], str]:
    labels = list(table.scenarios)

    def scenario(label: Any) -> str:
        wanted = tuple(label) if isinstance(label, tuple | list) else (label,)
        meant = find(wanted, labels)
        if meant is None:
            shown = [", ".join(map(str, one)) for one in labels]
            raise StudyError("`null_scenarios`: " + unknown_name(label, "a scenario", shown))
        return str(labels.index(meant))

    found = {}
    for key, beside in given.items():
        if not isinstance(key, tuple) or len(key) != 2:
            raise StudyError(
                f"`null_scenarios` must map (scenario, parameter) to a scenario, but has the key "
                f"{key!r}."
            )
        parameter = known_labels([key[1]], table.parameters, "null_scenarios", "a parameter")[0]
        found[scenario(key[0]), parameter] = scenario(beside)
    return found


def _outliers(table: EstimateTable, options: ScoreOptions) -> np.ndarray[Any, Any]:
    """(rows,) usable fits far from the others of their scenario, method and parameter."""
    frame = table.frame
    usable = frame["status"].isin(options.usable)
    cell = frame.groupby(["scenario", "method", "parameter"], sort=False).ngroup()
    return find_outliers(
        frame["mean"].where(usable).to_numpy(),
        frame["sd"].where(usable).to_numpy(),
        cell.to_numpy(),
        options.dropbig or "robust",
        options.max_estimate,
        options.max_se,
    )


def _counts(
    table: EstimateTable, outliers: np.ndarray[Any, Any], scored: pd.DataFrame
) -> list[int]:
    """Outliers of each row of the performance; of a method for measures of fits."""
    found = table.frame[outliers]
    keys = ["scenario", "method", "parameter"]
    counts: dict[Any, int] = found.groupby(keys).size().to_dict()
    for (scenario, method, _), number in list(counts.items()):
        counts[scenario, method, ""] = counts.get((scenario, method, ""), 0) + number
    return [counts.get(key, 0) for key in scored[keys].itertuples(index=False, name=None)]


def _named(table: EstimateTable, outliers: np.ndarray[Any, Any]) -> list[str]:
    places = np.flatnonzero(outliers)
    frame = table.frame
    lines = [
        f"{table.describe(int(i))} (row {int(frame['row'].iloc[i]) + 1}): estimate "
        f"{frame['mean'].iloc[i]:g}, standard error {frame['sd'].iloc[i]:g}"
        for i in places[:MOST_NAMED]
    ]
    more = len(places) - MOST_NAMED
    return [*lines, f"and {more:,} more"] if more > 0 else lines


def _with_labels(scored: pd.DataFrame, table: EstimateTable) -> pd.DataFrame:
    """The performance with the user's columns of scenarios and methods."""
    labels = _scenario_labels(scored, table, _TAKEN)
    several = table.columns.method if len(table.columns.method or ()) > 1 else ()
    for place, name in enumerate(several or ()):
        values = [table.methods[m][place] for m in scored["method"]]
        labels[f"method.{name}" if name in _TAKEN or name in labels else name] = _column(values)
    labels["method"] = _method_labels(scored["method"], table)
    named = {**table.parameters, "": ""}
    if not all(isinstance(p, str) for p in table.parameters.values()):
        named[""] = None
    labels["parameter"] = _column([named[p] for p in scored["parameter"]])
    rest = scored.drop(columns=["scenario", "method", "parameter"])
    return pd.concat([pd.DataFrame(labels, index=scored.index), rest], axis=1)


def _scenario_labels(
    rows: pd.DataFrame, table: EstimateTable, taken: Sequence[str]
) -> dict[str, Any]:
    """The user's columns of scenarios, by their names in a table with the columns `taken`."""
    labels: dict[str, Any] = {}
    for place, name in enumerate(table.columns.by or ("scenario",)):
        values = [table.scenarios[int(i)][place] for i in rows["scenario"]]
        labels[f"factor.{name}" if name in taken else name] = _column(values)
    return labels


def _method_labels(names: Iterable[str], table: EstimateTable) -> Any:
    """The user's labels of methods; where several columns make one, its name."""
    several = len(table.columns.method or ()) > 1
    return _column([name if several else table.methods[name] for name in names])


def labelled_pairs(rows: pd.DataFrame, table: EstimateTable) -> pd.DataFrame:
    """Rows about pairs of methods, `first` and `second`, with the user's labels."""
    rest = rows.drop(columns=["scenario"])
    labels = _scenario_labels(rows, table, tuple(rest.columns))
    parameters = _column([table.parameters[p] for p in rows["parameter"]])
    named = {name: _method_labels(rows[name], table) for name in ("first", "second")}
    rest = rest.assign(parameter=parameters, **named)
    return pd.concat([pd.DataFrame(labels, index=rows.index), rest], axis=1)


#: Columns of the performance: a factor of this name is called `factor.NAME`.
_TAKEN = (
    "method", "parameter", "measure", "alpha", "policy", "value", "mcse", "lower", "upper", "n",
    "n_failed", "n_not_converged", "n_outliers",
)  # fmt: skip


def _column(values: list[Any]) -> Any:
    """Labels in one type: whole numbers stay whole where one is missing."""
    there = [v for v in values if v is not None]
    whole = bool(there) and all(type(v) is int and abs(v) < 2**63 for v in there)
    if whole and len(there) < len(values):
        return pd.array(values, dtype="Int64")
    return values
