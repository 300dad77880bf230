"""Flipped bits and truncations of all files of a results folder, and foreign rewrites."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from rmm.errors import StudyError
from rmm.study import write_performance
from rmm.study.files.estimates import EstimatesFile
from rmm.study.files.parquet import read_estimates
from rmm.study.files.records import read_record
from rmm.study.manage.damage import damaged_files
from rmm.study.measures.read_performance import read_performance
from rmm.study.run.batch_index import BatchIndex
from rmm.study.run.checkpoint import Journal, read_journal
from tests.attack import Attack, Cases, flipped, truncated
from tests.results import Results, finished
from tests.study.test_damage import WRITERS

Change = Callable[[bytes, random.Random], bytes]
Read = Callable[[Path], Any]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    return bool(one == other)


def _cases(
    path: Path, content: bytes, change: Change, read: Read, draw: random.Random
) -> Iterator[str]:
    """A changed file is refused by its name, or has the content of before."""
    path.write_bytes(content)
    wanted = read(path)
    while True:
        path.write_bytes(changed := change(content, draw))
        try:
            found = read(path)
            yield "" if _same(found, wanted) else f"{path.name}: another content is read"
        except StudyError as error:
            yield "" if str(path) in str(error) else f"an error without the file: {error}"
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{path.name}, {len(changed)} bytes: {type(error).__name__}: {error}"


def _batch(change: Change) -> Cases:
    def cases(draw: random.Random, folder: Path) -> Iterator[str]:
        results = finished(folder)
        path = results.batches[0]

        def read(path: Path) -> Any:
            table, metadata = read_estimates(path)
            if damaged_files(results.folder):
                raise StudyError(f"{path} is damaged")
            return table.to_pydict(), metadata

        yield from _cases(path, path.read_bytes(), change, read, draw)

    return cases


def _table(name: str, change: Change, read: Read) -> Cases:
    def cases(draw: random.Random, folder: Path) -> Iterator[str]:
        path = finished(folder).folder / name
        yield from _cases(path, path.read_bytes(), change, read, draw)

    return cases


def _estimates(path: Path) -> Any:
    file = EstimatesFile(path)
    return file.rows([name for names in file.portions() for name in names]).to_pandas()


def _records(draw: random.Random, folder: Path) -> Iterator[str]:
    """A record counts as missing, or has what was written."""
    results = finished(folder)
    (path,) = (results.folder / "steps").glob("collect-*.json")

    def read(path: Path) -> Any:
        if (record := read_record(path)) is None:
            raise StudyError(f"{path} is missing")
        return record

    yield from _cases(path, path.read_bytes(), flipped, read, draw)


def _index(draw: random.Random, folder: Path) -> Iterator[str]:
    """The index is only a help: what it does not hold is read from the batches."""
    results = finished(folder)
    batch = results.batches[0].relative_to(results.folder).as_posix()

    def read(path: Path) -> Any:
        metadata, summary = BatchIndex(results.folder).batch(batch) or ({}, None)
        return dict(metadata), summary

    path = results.folder / "logs" / "batches.jsonl"
    yield from _cases(path, path.read_bytes(), flipped, read, draw)


def _journal(draw: random.Random, folder: Path) -> Iterator[str]:
    """Fits in a journal are those that were written, or none."""
    journal = Journal(folder / "journal.jsonl")
    texts = {"scenario": "s1", "method": "m", "backend": "b", "parameter": "x", "status": "ok"}
    rows = [[{**texts, "replication": n, "mean": draw.gauss(0, 1)}] for n in range(1, 20)]
    for row in rows:
        journal.add(row)
    content = journal.path.read_bytes()
    while True:
        journal.path.write_bytes(flipped(content, draw))
        try:
            wrong = [row for row in read_journal(journal.path) if row not in rows]
            yield f"fits that were not written: {wrong}" if wrong else ""
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{type(error).__name__}: {error}"


def _rewritten(draw: random.Random, folder: Path) -> Iterator[str]:
    """A table of estimates that another program wrote scores as before."""
    results = finished(folder)
    table, out = results.folder / "estimates.parquet", folder / "again.parquet"
    wanted = read_performance(results.folder / "performance.parquet")
    content = table.read_bytes()
    while True:
        for name, write in WRITERS.items():
            table.write_bytes(content)
            write(table)
            yield _scored(results, table, out, wanted, name)


def _scored(results: Results, table: Path, out: Path, wanted: pd.DataFrame, name: str) -> str:
    try:
        write_performance(results.study, table, out)
        return "" if read_performance(out).equals(wanted) else f"{name}: other measures"
    except Exception as error:  # noqa: BLE001  what the attack looks for
        return f"{name}: {type(error).__name__}: {error}"


ATTACKS = (
    Attack("flipped bits of batches", 10_000, _batch(flipped)),
    Attack("truncated batches", 1_000, _batch(truncated)),
    Attack("flipped bits of estimates", 5_000, _table("estimates.parquet", flipped, _estimates)),
    Attack("truncated estimates", 500, _table("estimates.parquet", truncated, _estimates)),
    Attack(
        "flipped bits of measures",
        2_000,
        _table("performance.parquet", flipped, read_performance),
    ),
    Attack("flipped bits of records of steps", 1_000, _records),
    Attack("flipped bits of the index of batches", 500, _index),
    Attack("flipped bits of journals of fits", 500, _journal),
    Attack("tables rewritten by other programs", 40, _rewritten),
)
