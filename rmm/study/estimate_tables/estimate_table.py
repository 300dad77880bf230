"""A user's table of estimates in the layout of studies, checked: `EstimateTable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, StudyError, counted
from rmm.study.estimate_tables.column_roles import (
    CONSTANTS,
    DEFAULTS,
    TableColumns,
    check_columns,
)
from rmm.study.estimate_tables.fit_status import fail_without_numbers, read_status
from rmm.study.estimate_tables.label_columns import Labels, blank_parts, combine, read_labels
from rmm.study.estimate_tables.number_columns import (
    Array,
    check_bounds,
    check_truths,
    constant_values,
    read_numbers,
)
from rmm.study.estimate_tables.wide_columns import is_wide, stack
from rmm.study.files.parquet import OK
from rmm.study.measures.score_cells import bounds_of
from rmm.tables.data_files import is_text_file
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import read_table

#: Where a table has no column of a label.
ALL, THETA = "all", "theta"
_KEY = ("by", "method", "parameter", "replication")


@dataclass(frozen=True, eq=False)
class EstimateTable:
    """Estimates of a user's table.

    Attributes
    ----------
    frame : pandas.DataFrame
        In the layout of studies, sorted by scenario, method, parameter and replication. Scenarios
        are numbered; methods and parameters are called as `str` of their labels; replications are
        numbered. `row` holds the user's row, from 0.
    columns : TableColumns
        The columns that were used.
    scenarios : tuple of tuples
        Labels of each scenario in the columns `columns.by`; ``(("all",),)`` without them.
    methods, parameters : dict
        Name in the frame -> the user's label, a tuple where several columns make a method.
    replications : tuple or None
        Labels of replications; None where the table has no such column.
    notes : tuple of str
        What was found that is no error.
    """

    frame: pd.DataFrame
    columns: TableColumns
    scenarios: tuple[tuple[Any, ...], ...]
    methods: Mapping[str, Any]
    parameters: Mapping[str, Any]
    replications: tuple[Any, ...] | None
    notes: tuple[str, ...]

    def describe(self, place: int) -> str:
        """A row of the frame by its labels: ``n = 50, method CC, replication 3``."""
        row = self.frame.iloc[place]
        parts = [
            f"{name} = {label}"
            for name, label in zip(
                self.columns.by or (), self.scenarios[int(row["scenario"])], strict=False
            )
        ]
        parts.append(f"method {method_name(self.methods[row['method']])}")
        if len(self.parameters) > 1:
            parts.append(f"parameter {self.parameters[row['parameter']]}")
        if self.replications is not None:
            parts.append(f"replication {self.replications[int(row['replication'])]}")
        return ", ".join(parts)


def method_name(label: Any) -> str:
    """A method's label as text; those of several columns with commas, without empty parts."""
    if not isinstance(label, tuple):
        return str(label)
    return ", ".join(str(part) for part in label if part != "")


def read_estimate_table(
    table: Any,
    columns: TableColumns,
    *,
    statuses: Mapping[Any, str],
    usable: Sequence[str] = (OK,),
    se_needed: bool = False,
    alpha: float = 0.05,
    parameters: Sequence[Any] | None = None,
    na: Sequence[str] | None = None,
) -> EstimateTable:
    """Read and check a table of estimates; parameters as of `rmm.study.performance.performance`.

    Parameters
    ----------
    table : frame, table, mapping or path
    columns : TableColumns
    statuses : mapping
        Word of the status column -> status of studies.
    usable : sequence of str
        Statuses of fits that count.
    se_needed : bool
        Whether a fit without standard error has failed.
    alpha : float
        One minus the level of the intervals in the columns that are named for them.
    parameters : sequence, optional
        Parameters that are scored; all by default.
    na : sequence of str, optional
        Texts that mean a missing value in a text file.

    Raises
    ------
    StudyError
        For whatever is wrong with the table.
    """
    # Bounds in the columns of the layout of studies are of 95% intervals.
    level = alpha if columns.lower is not None else 0.05
    try:
        frame = read_table(table, ids=columns.ids, na=na)
        if is_wide(columns):
            frame, columns = stack(frame, columns)
        given, columns = columns, columns.with_defaults(frame.columns)
        check_columns(columns, frame)
        used = [name for names in columns.named().values() for name in names]
        ids = [n for a in _KEY for n in columns.named().get(a, ())]
        frame = simplify_columns(frame, used, ids)
    except DataError as error:
        raise StudyError(str(error)) from None
    labels = _read_all_labels(frame, columns, text_file=is_text_file(table), na=na)
    _check_keys(frame, columns, labels)
    numbers = _read_all_numbers(frame, columns, labels["parameter"], level, parameters)
    status, notes = _read_statuses(frame, columns, numbers, statuses, usable, se_needed)
    notes = [*_columns_by_default(given, columns), *notes]
    return _assembled(frame, columns, labels, numbers, status, notes)


def _columns_by_default(given: TableColumns, used: TableColumns) -> list[str]:
    """A note on columns that are used for what they are called, in a table of another layout."""
    named = [f"`{n[0]}`" for argument, n in used.named().items() if argument not in given.named()]
    if given.estimate is None or not named:
        return []
    return [
        f"Used by {'its name' if len(named) == 1 else 'their names'}, as no other column is "
        f"given: {', '.join(named)}."
    ]


def _read_all_labels(
    frame: pd.DataFrame, columns: TableColumns, *, text_file: bool, na: Sequence[str] | None
) -> dict[str, Labels]:
    """Labels of the scenarios, methods, parameters and replications; tuples for the first two."""
    named = columns.named()
    found: dict[str, Labels] = {}
    for argument in _KEY:
        names = named.get(argument, ())
        blanks: Sequence[Array | None] = [None] * len(names)
        if argument == "method" and len(names) > 1:
            blanks = blank_parts([frame[name] for name in names], text_file)
        parts = [
            read_labels(frame[name], argument, from_text=text_file and na is None, blank=blank)
            for name, blank in zip(names, blanks, strict=True)
        ]
        if argument in ("by", "method"):
            found[argument] = combine(parts) if parts else _single(frame, (ALL,))
        elif argument == "parameter":
            found[argument] = parts[0] if parts else _single(frame, _only_parameter(columns))
        elif parts:
            found[argument] = parts[0]
        else:
            found[argument] = Labels(np.arange(len(frame)), tuple(range(1, len(frame) + 1)))
    return found


def _only_parameter(columns: TableColumns) -> str:
    """The parameter of a table without names: `theta`, or a column of another name than usual."""
    name = columns.estimate or DEFAULTS["estimate"]
    return THETA if name == DEFAULTS["estimate"] or "{" in name else name


def _single(frame: pd.DataFrame, label: Any) -> Labels:
    return Labels(np.zeros(len(frame), dtype=np.int64), (label,))


def _check_keys(frame: pd.DataFrame, columns: TableColumns, labels: Mapping[str, Labels]) -> None:
    """Raise `StudyError` for two rows of the same scenario, method, parameter and replication."""
    if columns.replication is None:
        return
    codes = pd.DataFrame({argument: labels[argument].codes for argument in _KEY})
    repeated = codes.duplicated().to_numpy()
    if not repeated.any():
        return
    second = int(np.argmax(repeated))
    first = int(np.argmax((codes == codes.iloc[second]).all(axis=1).to_numpy()))
    named = columns.named()
    key = ", ".join(
        f"{name} = {frame[name].iloc[second]}" for a in _KEY for name in named.get(a, ())
    )
    rows = [int(frame.index[i]) + 1 for i in (first, second)]
    used = {name for names in named.values() for name in names}
    differing = [
        c
        for c in frame.columns
        if c not in used and _differ(frame[c].iloc[first], frame[c].iloc[second])
    ]
    if differing:
        shown = ", ".join(f"`{c}`" for c in differing[:5])
        what = (
            f"The rows differ in {shown}, which {'is' if len(differing) == 1 else 'are'} not used. "
            f"If one of these is a factor of the simulation, add it to `by`, for example "
            f"by={[*(columns.by or ()), differing[0]]!r}; if it is the method or the parameter, "
            "name it as `method` or `parameter`."
        )
    else:
        what = "Remove the rows that were added twice."
    raise StudyError(
        f"Rows {rows[0]} and {rows[1]} (counted from 1) have the same key: {key}. "
        f"{counted(int(repeated.sum()), 'row repeats', 'rows repeat')} an earlier key. {what}"
    )


def _differ(one: Any, other: Any) -> bool:
    if not pd.api.types.is_scalar(one) or not pd.api.types.is_scalar(other):
        return repr(one) != repr(other)
    if pd.isna(one) or pd.isna(other):
        return bool(pd.isna(one) != pd.isna(other))
    return bool(one != other)


def _read_all_numbers(
    frame: pd.DataFrame,
    columns: TableColumns,
    parameters: Labels,
    alpha: float,
    wanted: Sequence[Any] | None,
) -> dict[str, Array]:
    """Columns of numbers by their names in the layout of studies."""
    low, high = bounds_of(alpha)
    names = DEFAULTS | {"variance": "sd", "lower": low, "upper": high}
    found: dict[str, Array] = {}
    for argument in ("estimate", "se", "variance", "lower", "upper", "p_value", *CONSTANTS):
        given = getattr(columns, argument)
        if given is None:
            continue
        if isinstance(given, str):
            values = read_numbers(frame[given], argument)
        else:
            values = constant_values(given, argument, parameters.codes, parameters.labels, wanted)
        found[names[argument]] = np.sqrt(values) if argument == "variance" else values
    for ours, name in columns.further.items():
        found[ours] = read_numbers(frame[name], ours)
    if columns.lower is not None and columns.upper is not None:
        check_bounds(frame[columns.lower], frame[columns.upper], found[low], found[high])
    found.setdefault("sd", np.full(len(frame), np.nan))
    return found


def _read_statuses(
    frame: pd.DataFrame,
    columns: TableColumns,
    numbers: Mapping[str, Array],
    statuses: Mapping[Any, str],
    usable: Sequence[str],
    se_needed: bool,
) -> tuple[Array, list[str]]:
    estimate, se = numbers["mean"], numbers["sd"]
    if columns.status is not None:
        status = read_status(frame[columns.status], statuses, estimate)
    elif statuses:
        raise StudyError("`statuses` is given, but `status` is not: name the column of statuses.")
    else:
        status = np.full(len(frame), OK, dtype=object)
    status, why = fail_without_numbers(status, estimate, se, tuple(usable), se_needed=se_needed)
    notes = [
        f"{counted(int(rows.sum()), 'row counts', 'rows count')} as failed because {reason}."
        for reason, rows in why.items()
    ]
    return status, notes


def _assembled(
    frame: pd.DataFrame,
    columns: TableColumns,
    labels: Mapping[str, Labels],
    numbers: dict[str, Array],
    status: Array,
    notes: list[str],
) -> EstimateTable:
    scenario, method, parameter, replication = (labels[argument] for argument in _KEY)
    methods = _names([m[0] if len(m) == 1 else m for m in method.labels])
    parameters = _names(parameter.labels)
    out = pd.DataFrame(
        {
            "scenario": scenario.codes,
            "method": np.array(list(methods), dtype=object)[method.codes],
            "parameter": np.array(list(parameters), dtype=object)[parameter.codes],
            "replication": replication.codes,
            "status": status,
            **numbers,
            "row": frame.index.to_numpy(),
        }
    )
    order = np.lexsort((replication.codes, parameter.codes, method.codes, scenario.codes))
    out = out.iloc[order].reset_index(drop=True)
    found = EstimateTable(
        out,
        columns,
        scenario.labels,
        methods,
        parameters,
        None if columns.replication is None else replication.labels,
        (),
    )
    if "truth" in out:
        cell = scenario.codes * len(parameters) + parameter.codes
        check_truths(out["truth"].to_numpy(), cell[order], found.describe)
    notes += _notes(found, frame)
    out["scenario"] = out["scenario"].astype(str)
    return EstimateTable(**{**vars(found), "notes": tuple(notes)})


def _names(labels: Sequence[Any]) -> dict[str, Any]:
    """Name -> label; labels of several columns that read alike get their place."""
    found: dict[str, Any] = {}
    for label in labels:
        name = method_name(label)
        while name in found:
            name += "'"
        found[name] = label
    return found


def _notes(table: EstimateTable, given: pd.DataFrame) -> list[str]:
    """What a user should know of a valid table; `given` holds its columns as they were."""
    notes = []
    frame = table.frame
    if table.replications is None:
        columns = _like_replications(table, given)
        notes.append(
            "No column of replications is named, so that each row is a data set of its own: "
            "methods are not compared on the same data, and complete cases are not scored."
            + (
                f" It may be `{columns[0]}`: then give replication={columns[0]!r}."
                if columns
                else ""
            )
        )
    else:
        notes += _absent_rows(table)
    if "truth" not in frame or frame["truth"].isna().all():
        notes.append(
            "No true value is given, so that bias, mean squared error and coverage are not known. "
            "Give `truth`: a number, a column, or a number for each parameter."
        )
    lacking = _without_error(frame)
    if lacking:
        notes.append(
            f"{counted(lacking, 'row has', 'rows have')} an estimate, but no standard error: "
            "coverage, rejection and other measures that need it leave them out. To count them as "
            "failed fits: missing_se='fail'."
        )
    if table.columns.se is None and table.columns.variance is None:
        notes.append("No standard errors are given (`se`): measures that need them are missing.")
    return notes


def _without_error(frame: pd.DataFrame) -> int:
    """Rows with an estimate, but without its error and interval, in a table that has errors."""
    given = [name for name in ("sd", "lower", "upper") if name in frame]
    if not given or frame[given].isna().to_numpy().all():
        return 0
    return int((frame["mean"].notna() & frame[given].isna().all(axis=1)).sum())


def _like_replications(table: EstimateTable, given: pd.DataFrame) -> list[str]:
    """Columns that are not used and whose values occur once in each cell, and in several cells."""
    used = {name for names in table.columns.named().values() for name in names}
    frame = table.frame
    cell = frame.groupby(["scenario", "method", "parameter"], sort=False).ngroup().to_numpy()
    rows = given.index.get_indexer(pd.Index(frame["row"])) if given.index.is_unique else None
    found = []
    for name in given.columns:
        if name in used or rows is None or pd.api.types.is_float_dtype(given[name].dtype):
            continue
        values = given[name].iloc[rows]
        texts = values.astype(str).to_numpy()
        several = not values.isna().any() and len(set(texts)) < len(texts)
        if several and not pd.DataFrame({"cell": cell, "value": texts}).duplicated().any():
            found.append(str(name))
    return found


def _absent_rows(table: EstimateTable) -> list[str]:
    """Replications of a scenario that some methods have no row for."""
    frame = table.frame
    every = frame.groupby("scenario")["replication"].nunique()
    cells = frame.groupby(["scenario", "method", "parameter"], sort=False)["replication"].nunique()
    absent = every.loc[cells.index.get_level_values(0)].to_numpy() - cells.to_numpy()
    if not absent.any():
        return []
    scenario, method, _ = cells.index[int(np.argmax(absent > 0))]
    where = ""
    if table.columns.by:
        pairs = zip(table.columns.by, table.scenarios[int(scenario)], strict=True)
        where = f" with {', '.join(f'{n} = {v}' for n, v in pairs)}"
    return [
        f"{counted(int(absent.sum()), 'row is', 'rows are')} absent: method {method} has no row "
        f"for {counted(int(absent[absent > 0][0]), 'replication')}{where} that other methods "
        "have. Absent rows do not count as failures. If these fits failed, add their rows "
        "without estimate."
    ]
