"""Damaged files of results: named, set aside, and never another number."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmm.errors import StudyError
from rmm.study import plan, status, write_performance
from rmm.study.files import seals
from rmm.study.files.estimates import EstimatesFile
from rmm.study.files.parquet import (
    ESTIMATES,
    estimates_table,
    read_estimates,
    write_groups,
    write_parquet,
)
from rmm.study.files.records import write_record
from rmm.study.manage import damage
from rmm.study.manage.damage import damaged_files, set_damaged_aside
from rmm.study.manage.kept_data import missing_data, write_data
from rmm.study.measures.read_performance import read_performance
from rmm.study.run.batch_index import BatchIndex
from rmm.study.run.checkpoint import Journal, read_journal
from tests.results import Results, finished


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return finished(tmp_path_factory.mktemp("original"))


@pytest.fixture
def results(original: Results, tmp_path: Path) -> Results:
    shutil.copytree(original.folder, tmp_path / "tiny")
    return Results(original.study, tmp_path / "tiny")


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# -- the digest in a file --------------------------------------------------------------------


def test_every_flipped_bit_and_every_truncation_of_a_sealed_file_is_found(tmp_path: Path) -> None:
    """All bits of a small file, those of the digest's own entry as well."""
    path = tmp_path / "t.parquet"
    write_parquet(pa.table({"x": [1.5, 2.5]}), path)
    content = path.read_bytes()
    assert seals.is_intact(path) is True
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        assert seals.is_intact(path) is False, bit
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert seals.is_intact(path) is not True, length


def test_files_of_many_groups_and_of_others_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_groups(path, ESTIMATES, [estimates_table([], {})] * 2)
    assert seals.is_intact(path) is True
    pq.write_table(pa.table({"x": [1]}), path)
    assert seals.is_intact(path) is None
    path.write_text("a text that is long enough")
    assert seals.is_intact(path) is False


def test_text_like_the_entry_in_the_data_does_not_mislead(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"x": [seals.KEY + "\x18\x40" + "0" * 64]})
    write_parquet(table.replace_schema_metadata({"a": seals.KEY + "\x18\x40" + "0" * 64}), path)
    assert seals.is_intact(path) is True


# -- batches ---------------------------------------------------------------------------------


def refused(path: Path) -> bool:
    """Whether a file cannot be read as estimates; the message must name it."""
    try:
        read_estimates(path)
    except StudyError as error:
        return str(path) in str(error)
    return False


def test_flips_in_batches_are_found_or_harmless(results: Results) -> None:
    """300 random bits: each is named before the plan is made, and by whatever reads the file."""
    path = results.batches[0]
    content = path.read_bytes()
    draw = random.Random(1)
    for _ in range(300):
        path.write_bytes(flipped(content, draw.randrange(8 * len(content))))
        assert list(damaged_files(results.folder)) == [path]
        assert refused(path)


def test_truncated_batches_are_found(results: Results) -> None:
    path = results.batches[0]
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 11, 12, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert list(damaged_files(results.folder)) == [path]


def test_the_same_size_and_time_do_not_hide_damage(results: Results) -> None:
    """The index knows the batch by size and time; the content is read."""
    import os

    path = results.batches[0]
    index = BatchIndex(results.folder)
    index.batch(path.relative_to(results.folder).as_posix())
    index.save()
    moment = path.stat().st_mtime_ns
    path.write_bytes(flipped(path.read_bytes(), 5000))
    os.utime(path, ns=(moment, moment))
    assert list(damaged_files(results.folder)) == [path]


@pytest.mark.parametrize("rewrite", ["pandas", "polars"])
def test_a_batch_that_another_program_rewrote_is_set_aside(results: Results, rewrite: str) -> None:
    path = results.batches[0]
    WRITERS[rewrite](path)
    assert list(damaged_files(results.folder)) == [path]


def test_a_batch_of_an_earlier_version_is_kept(results: Results) -> None:
    """It has no digest, but all metadata and readable pages."""
    path = results.batches[0]
    pq.write_table(pq.read_table(path, partitioning=None), path)
    assert seals.is_intact(path) is None
    assert damaged_files(results.folder) == {}


def test_what_is_damaged_is_set_aside_and_planned_again(results: Results) -> None:
    path, other = results.batches
    for number in range(2):
        path.write_bytes(b"PAR1" + bytes([number]) * 50 + b"PAR1")
        with pytest.raises(StudyError, match=r"00003.parquet is not a complete file of estimates"):
            plan(results.study, results.folder)
        (line,) = set_damaged_aside(damaged_files(results.folder), results.folder)
        assert line.startswith(f"{path} is damaged. It is set aside as ")
        assert not path.exists()
        assert status(results.study, results.folder)["done"] == 1
    kept = sorted(p.name for p in results.folder.glob("damaged/estimates/*/*/*"))
    assert kept == ["00001-00003.parquet.damaged", "00001-00003.parquet.damaged-2"]
    assert other.is_file()


def test_a_file_of_another_user_is_not_damaged(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(damage, "is_intact", refused)
    with pytest.raises(
        StudyError, match=r"parquet may not be read by this user\. Make it readable"
    ):
        damaged_files(results.folder)


# -- other files -----------------------------------------------------------------------------


def test_altered_records_are_found(results: Results) -> None:
    record = next(iter((results.folder / "steps").glob("collect-*.json")))
    record.write_text(record.read_text().replace("estimates", "estimatez"))
    (results.folder / "runs").mkdir()
    (results.folder / "runs" / "old.json").write_text('{"of": "an earlier version"}')
    (results.folder / "runs" / "cut.json").write_text('{"of": "an ear')
    write_record({"fine": 1}, results.folder / "programs" / "m.json")
    assert set(damaged_files(results.folder)) == {record, results.folder / "runs" / "cut.json"}


def test_damaged_kept_data_are_drawn_again_with_all_their_tables(results: Results) -> None:
    (scenario,) = results.study.scenarios
    path = results.folder / "data" / scenario.id / "00001-00006.parquet"
    write_data(results.study, scenario.id, 1, 6, path)
    assert missing_data(results.study, results.folder) == []
    before = path.read_bytes()
    truth = path.with_suffix(".truth.parquet")
    truth.write_bytes(flipped(truth.read_bytes(), 3000))
    found = damaged_files(results.folder)
    assert found == {truth: "is damaged", path: "belongs to a damaged file"}
    set_damaged_aside(found, results.folder)
    (job,) = missing_data(results.study, results.folder)
    write_data(results.study, scenario.id, job.first, job.last, path)
    assert path.read_bytes() == before


def test_altered_lines_of_index_and_journal_do_not_count(results: Results, tmp_path: Path) -> None:
    """Each digit of the lines changed: never another count, never another estimate."""
    lines = results.folder / "logs" / "batches.jsonl"
    text = lines.read_text()
    wanted = status(results.study, results.folder)["fits"]
    for place in [i for i, letter in enumerate(text) if letter.isdigit()][::40]:
        lines.write_text(text[:place] + str(9 - int(text[place])) + text[place + 1 :])
        assert status(results.study, results.folder)["fits"] == wanted
    journal = Journal(tmp_path / "j.jsonl")
    row = {"replication": 3, "mean": 1.25, "scenario": "s1", "method": "m", "backend": "b"}
    row |= {"parameter": "b", "status": "ok"}
    journal.add([row])
    assert read_journal(journal.path) == [[row]]
    journal.path.write_text(journal.path.read_text().replace("1.25", "1.75"))
    assert read_journal(journal.path) == []


# -- tables that are read by hand ------------------------------------------------------------


def by_pandas(path: Path) -> None:
    pd.read_parquet(path, partitioning=None).to_parquet(path)


def by_polars(path: Path) -> None:
    pl.read_parquet(path).write_parquet(path)


def with_dictionaries(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    columns = [c.dictionary_encode() if pa.types.is_string(c.type) else c for c in table.columns]
    pq.write_table(pa.table(dict(zip(table.column_names, columns, strict=True))), path)


def with_large_text(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    fields = [
        f.with_type(pa.large_string()) if pa.types.is_string(f.type) else f for f in table.schema
    ]
    pq.write_table(table.cast(pa.schema(fields)), path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "pandas": by_pandas,
    "polars": by_polars,
    "dictionaries": with_dictionaries,
    "large text": with_large_text,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_table_that_another_program_rewrote_scores_as_before(
    results: Results, writer: str
) -> None:
    table = results.folder / "estimates.parquet"
    WRITERS[writer](table)
    out = results.folder / "again.parquet"
    write_performance(results.study, table, out)
    wanted = read_performance(results.folder / "performance.parquet")
    pd.testing.assert_frame_equal(read_performance(out), wanted)
    WRITERS[writer](out)
    pd.testing.assert_frame_equal(read_performance(out), wanted)


@pytest.mark.parametrize("name", ["estimates", "performance"])
def test_flips_in_tables_are_an_error_that_names_the_file(results: Results, name: str) -> None:
    path = results.folder / f"{name}.parquet"
    read = {
        "estimates": lambda: EstimatesFile(path).rows([results.study.scenarios[0].id]).to_pandas(),
        "performance": lambda: read_performance(path),
    }[name]
    wanted, content = read(), path.read_bytes()
    draw = random.Random(2)
    for _ in range(100):
        path.write_bytes(flipped(content, draw.randrange(8 * len(content))))
        try:
            pd.testing.assert_frame_equal(read(), wanted)
        except StudyError as error:
            assert str(path) in str(error)
