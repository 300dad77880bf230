"""Estimates that another program made of a study's data sets, as a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.errors import BackendError, DataError, unknown_name
from rmm.study.files import seeds
from rmm.study.files.messages import StudyFileErrors
from rmm.study.own.answers import FIELDS, SAID

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("scenario", "replication", "parameter")
#: Digest of a file that is not there yet: its estimates are still to be made.
MISSING = "missing"
_LARGEST = 2**31


def digest_of(path: Path) -> str:
    """SHA-256 of a table of estimates; `MISSING` where it is not there yet."""
    return seeds.file_digest(path) if path.is_file() else MISSING


def rows_of_fit(path: Path, sha256: str, scenario: str, replication: int) -> list[dict[str, Any]]:
    """Rows of one data set; none where the table has none.

    Raises
    ------
    BackendError
        If the table cannot be read, or is another one than when the study was read.
    """
    return _by_fit(path, sha256).get((scenario, replication), [])


@lru_cache(maxsize=8)
def _by_fit(path: Path, sha256: str) -> Mapping[tuple[str, int], list[dict[str, Any]]]:
    if sha256 == MISSING:
        raise BackendError(f"{path.name} is not there.")
    if seeds.file_digest(path) != sha256:
        raise BackendError(f"{path.name} was changed while the study was running; start it again.")
    try:
        table = _read(path)
    except DataError as error:
        raise BackendError(f"{path.name} cannot be read: {error}") from None
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        key = (str(row.pop("scenario")), int(row.pop("replication")))
        rest = {str(k): None if v != v else v for k, v in row.items()}
        found.setdefault(key, []).append(rest)
    return found


def _read(path: Path) -> pd.DataFrame:
    # Late: reading a study file needs no pandas.
    from rmm.tables.read import read_table

    return read_table(path, text=("scenario", "parameter", *SAID))


def check_table(
    key: str,
    path: Path,
    scenarios: Mapping[str, int],
    estimands: Collection[str],
    file_errors: StudyFileErrors,
) -> None:
    """Check a table of estimates before anything is read from it.

    Parameters
    ----------
    key : str
        Path of the key that names the file.
    scenarios : mapping
        Id -> number of replications.
    estimands : collection of str
        Names that an estimate may have.

    Raises
    ------
    StudyError
        If the file is not there or cannot be read; for columns, scenarios, parameters that are
        not known; for a replication that is no whole number, or a fit with two rows for one
        parameter.
    """
    if not path.is_file():
        raise file_errors.about(
            key,
            f"The file {path.name!r} does not exist.",
            "Write the data with `keep: data` and `snakemake simulate`, fit them with the other "
            "program, and put its estimates into this file.",
        )
    try:
        table = _read(path)
    except DataError as error:
        raise file_errors.about(key, str(error)) from None
    problem = _problem(table, scenarios, estimands)
    if problem:
        raise file_errors.about(key, f"{path.name}: {problem}")


def _problem(table: pd.DataFrame, scenarios: Mapping[str, int], estimands: Collection[str]) -> str:
    """What is wrong with a table, and in which row (counted from 1); "" for nothing."""
    allowed = (*_KEYS, *FIELDS, *SAID)
    for column in table.columns:
        if column not in allowed:
            return unknown_name(column, "a column of a table of estimates", allowed)
    missing = [name for name in _KEYS if name not in table]
    if missing:
        return f"The column {missing[0]!r} is missing. Columns: {', '.join(table.columns)}."
    for number, row in enumerate(table[list(_KEYS)].itertuples(index=False, name=None), 1):
        scenario, replication, parameter = row
        if scenario not in scenarios:
            return f"Row {number}: " + unknown_name(scenario, "a scenario", scenarios)
        if parameter != parameter or parameter not in estimands:
            return f"Row {number}: " + unknown_name(parameter, "an estimand", estimands)
        whole = isinstance(replication, int | float) and float(replication).is_integer()
        if not whole or not 1 <= replication < _LARGEST:
            return f"Row {number}: replication {replication!r} is not a whole number from 1."
    twice = table.duplicated(list(_KEYS))
    if twice.any():
        place = int(twice.to_numpy().argmax())
        first = table.iloc[place]
        return (
            f"Row {place + 1}: scenario {first['scenario']}, replication "
            f"{first['replication']} has {first['parameter']} a second time."
        )
    return ""
