"""Parquet schemas of a study's output, and writing that survives a kill."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rmm.errors import StudyError
from rmm.study.files import seals
from rmm.study.files.disks import writing

if TYPE_CHECKING:
    import pandas as pd

OK, NOT_CONVERGED, FAILED, TIMEOUT = "ok", "not_converged", "failed", "timeout"
STATUSES = (OK, NOT_CONVERGED, FAILED, TIMEOUT)

#: Columns that may differ between two runs of the same study; all others are reproducible.
RUN_COLUMNS = ("seconds", "rmm_version", "engine")

#: One row per fit and parameter. A fit that failed has one row per estimand, without estimates.
ESTIMATES = pa.schema(
    [
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("replication", pa.int32(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("backend", pa.string(), nullable=False),
        pa.field("parameter", pa.string(), nullable=False),
        ("truth", pa.float64()),
        ("mean", pa.float64()),
        ("median", pa.float64()),
        ("sd", pa.float64()),
        ("lower", pa.float64()),  # 95% interval: confidence, or equal-tailed credible
        ("upper", pa.float64()),
        ("lower90", pa.float64()),
        ("upper90", pa.float64()),
        ("lower99", pa.float64()),
        ("upper99", pa.float64()),
        ("df", pa.float64()),  # of a t reference distribution; null for Bayesian fits
        ("null", pa.float64()),  # the value that p_value tests
        ("p_value", pa.float64()),  # two-sided; Bayesian: 2 min(P(> null), P(< null))
        ("rhat", pa.float64()),
        ("ess_bulk", pa.float64()),
        ("ess_tail", pa.float64()),
        ("mcse", pa.float64()),  # Monte Carlo error of `mean` within the fit
        (
            "contraction",
            pa.float64(),
        ),  # 1 - var(posterior) / var(prior); see rmm.posterior.diagnostics.contraction
        ("rank", pa.int32()),  # of a truth drawn from a prior, among 99 draws: 0 to 99
        ("divergences", pa.int32()),
        ("seconds", pa.float64()),  # of the whole fit; the same in all rows of a fit
        pa.field("status", pa.string(), nullable=False),
        ("message", pa.string()),
        ("seed", pa.int64()),  # of the method's chains
        ("method_id", pa.string()),  # content hash of the method
        ("rmm_version", pa.string()),
        ("engine", pa.string()),
    ]
)

#: Columns that files of earlier versions lack; read as null.
LATER = ("mcse", "contraction", "rank")

#: `method` and `parameter` are never null; `alpha` is null for measures that have none.
PERFORMANCE = pa.schema(
    [
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("parameter", pa.string(), nullable=False),  # "" for convergence and seconds
        pa.field("measure", pa.string(), nullable=False),
        ("alpha", pa.float64()),
        pa.field(
            "policy", pa.string(), nullable=False
        ),  # per_method | complete_case | lower_bound | upper_bound
        ("value", pa.float64()),
        ("mcse", pa.float64()),  # null for rates of 0 and 1
        ("lower", pa.float64()),  # 95% Monte Carlo interval; Wilson's for rates
        ("upper", pa.float64()),
        ("n", pa.int64()),  # usable fits that the value rests on
        ("n_failed", pa.int64()),  # failed and timed out
        ("n_not_converged", pa.int64()),
        ("reference", pa.float64()),  # closed form or published value
        ("reference_source", pa.string()),
    ]
)

#: Rows of a collected file that are in memory at a time when it is written.
GROUP_ROWS = 100_000

ESTIMATES_ORDER = ("scenario", "method", "replication", "parameter")


def estimates_table(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str]) -> pa.Table:
    """Rows of estimates as an Arrow table; columns not given are null.

    `metadata` (study seed, method id, ...) is kept in the file, so that collection can refuse
    results that another study made.
    """
    schema = ESTIMATES.with_metadata({f"rmm.{k}": v for k, v in metadata.items()})
    columns = {name: [row.get(name) for row in rows] for name in ESTIMATES.names}
    arrays = [pa.array(columns[f.name], type=f.type, from_pandas=True) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def performance_table(frame: pd.DataFrame) -> pa.Table:
    """A frame of `performance` as an Arrow table with the columns of `PERFORMANCE`."""
    whole = frame.copy()
    for name in PERFORMANCE.names:
        if name not in whole:
            whole[name] = None
    return pa.Table.from_pandas(whole[PERFORMANCE.names], schema=PERFORMANCE, preserve_index=False)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table so that `path` holds all of it or does not exist."""
    write_whole(path, lambda temporary: _write(temporary, table))


def _write(path: Path, table: pa.Table) -> None:
    with _sealed(path, table.schema) as writer:
        writer.write_table(table)


@contextmanager
def _sealed(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A file that gets the digest of its bytes when all has been written."""
    found = schema.metadata or {}
    schema = schema.with_metadata({k: v for k, v in found.items() if k != seals.KEY.encode()})
    with (
        path.open("wb") as file,  # Arrow takes every path to be UTF-8
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        yield writer
        writer.add_key_value_metadata({seals.KEY: seals.BLANK})
    seals.seal(path)


def write_groups(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables one after the other as one file; only the rows of one group are in memory.

    Groups have the same number of rows however the tables were cut, so that the file's bytes
    follow from its rows.
    """
    write_whole(path, lambda temporary: _write_groups(temporary, schema, tables))


def _write_groups(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    waiting = schema.empty_table()
    with _sealed(path, schema) as writer:
        for table in tables:
            waiting = pa.concat_tables([waiting, table.cast(schema)])
            while len(waiting) >= GROUP_ROWS:
                writer.write_table(waiting.slice(0, GROUP_ROWS).combine_chunks())
                waiting = waiting.slice(GROUP_ROWS)
        if len(waiting):
            writer.write_table(waiting.combine_chunks())


def write_text(text: str, path: Path) -> None:
    """Write a text file so that `path` holds all of it or keeps what it had."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Any) -> None:
    """Call `write(temporary)` and rename; the disk has the bytes before the name.

    Raises
    ------
    StudyError
        If the disk is full, cannot be written, ...; `path` is as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by `tempfile`, whose files only their owner may read, whatever the umask.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        _write_and_rename(temporary, path, write)


def _write_and_rename(temporary: Path, path: Path, write: Any) -> None:
    try:
        temporary.touch(exist_ok=False)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_estimates(path: Path) -> tuple[pa.Table, dict[str, str]]:
    """A file of estimates and the metadata written with it.

    Raises
    ------
    StudyError
        If it is no whole Parquet file of this schema.
    """
    table = _read(path)
    check_columns(path, table.schema)
    return all_columns(table), metadata_in(table)


#: What Arrow raises for files that are damaged or no Parquet.
UNREADABLE = (OSError, pa.ArrowException, ValueError, LookupError, OverflowError)
#: Bytes of a file that is read by one thread: more would only cost time.
_SMALL = 1 << 23


@contextmanager
def readable_file(
    path: Path, again: str = "only this batch is recomputed", *, sealed: bool = True
) -> Iterator[None]:
    """Refuse a file that is not as it was written, and say which one it is.

    Parameters
    ----------
    path : Path
    again : str
        What a run of the study does about it.
    sealed : bool
        Whether to compare its content with its digest.
    """
    try:
        if sealed and seals.is_intact(path) is False:
            raise OSError("its content is not what was written (a damaged disk or copy?)")
        yield
    except UNREADABLE as error:
        raise StudyError(
            f"{path} cannot be read: {_first_line(error)}\n"
            f"Run the study again. It sets the file aside, and {again}."
        ) from error


@contextmanager
def readable_by_user(path: Path) -> Iterator[None]:
    """Say that a file belongs to somebody else: it is not damaged.

    Raises
    ------
    StudyError
    """
    try:
        yield
    except PermissionError as error:
        raise StudyError(
            f"{path} may not be read by this user. Make it readable (chmod u+r), or take a copy."
        ) from error


def read_table(
    path: Path,
    columns: Sequence[str] | None = None,
    again: str = "it is computed again, and no fit repeated",
    schema: pa.Schema | None = None,
    texts: Sequence[str] = (),
) -> pa.Table:
    """A table of the results.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        Those to be read, where the file has them; default: all.
    again : str
        What a run of the study does about a file that cannot be read.
    schema : pyarrow.Schema, optional
        The types to give to columns.
    texts : sequence of str
        Columns in which values repeat; they are read as dictionaries.

    Raises
    ------
    StudyError
        If the file is missing, or not as it was written.
    """
    with (
        readable_file(path, again),
        path.open("rb") as source,  # Arrow takes every path to be UTF-8
    ):
        names = pq.read_schema(source).names
        repeated = [name for name in texts if name in names]
        there = None if columns is None else [name for name in columns if name in names]
        options = {"page_checksum_verification": True, "read_dictionary": repeated}
        with pq.ParquetFile(source, **options) as file:
            table = file.read(columns=there, use_threads=path.stat().st_size > _SMALL)
        return table if schema is None else with_types(table, schema)


def all_columns(table: pa.Table) -> pa.Table:
    """With the columns that files of earlier versions lack."""
    for name in LATER:
        if name not in table.schema.names:
            empty = pa.nulls(len(table), ESTIMATES.field(name).type)
            table = table.append_column(name, empty)
    return table.select(ESTIMATES.names)


def with_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With the types of `schema`; programs that rewrite a file have other types of texts.

    Raises
    ------
    pyarrow.ArrowInvalid
        If a value cannot have the type.
    """
    for place, field in enumerate(table.schema):
        if field.name in schema.names and field != (wanted := schema.field(field.name)):
            column = table[field.name].cast(wanted.type)
            if column.null_count and not wanted.nullable:
                raise pa.ArrowInvalid(f"the column {field.name} has missing values")
            table = table.set_column(place, wanted, column)
    return table


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Refuse columns that this version does not write; `StudyError` names them."""
    there = [name for name in schema.names if name not in LATER]
    if there != [name for name in ESTIMATES.names if name not in LATER]:
        raise StudyError(
            f"{path} was written by another version of rmm. These columns differ: "
            f"{', '.join(sorted(set(schema.names) ^ set(ESTIMATES.names)))}.\n"
            "Move the old results away, or use the version that wrote them."
        )


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    return read_table(path, columns, "only this batch is recomputed", ESTIMATES)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_batches(paths: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of several files of estimates, or some columns; those of none: an empty table."""
    tables = [_read(path, columns) if columns else read_estimates(path)[0] for path in paths]
    if not tables:
        return ESTIMATES.empty_table().select(columns or ESTIMATES.names)
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def of_scenario(table: pa.Table, scenario: str) -> pa.Table:
    """The same estimates as those of another scenario, which has the same fits."""
    place = table.schema.get_field_index("scenario")
    ids = pa.array([scenario] * len(table), pa.string())
    return table.set_column(place, table.schema.field(place), ids)


def metadata_in(table: pa.Table) -> dict[str, str]:
    """The metadata that a table of estimates was written with."""
    return metadata_of_schema(table.schema)


def metadata_of_schema(schema: pa.Schema) -> dict[str, str]:
    """What files of this package say besides their rows, without the digest of their bytes."""
    found = {k: v for k, v in (schema.metadata or {}).items() if k[:4] == b"rmm."}
    found.pop(seals.KEY.encode(), None)
    return {k[4:].decode(errors="replace"): v.decode(errors="replace") for k, v in found.items()}
