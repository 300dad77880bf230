"""Memory that Parquet takes, counted before it is taken."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from rmm.errors import DataError
from rmm.tables.memory_limits import memory_limit
from rmm.tables.parquet_limits import decoded_size, read_bounded


def written(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, **options)
    return buffer.getvalue()


def need(content: bytes) -> int:
    return decoded_size(io.BytesIO(content), 1 << 62)[0]


def mixed(rows: int) -> pa.Table:
    draw = np.random.default_rng(1)
    return pa.table(
        {
            "x": draw.normal(size=rows),
            "n": draw.integers(0, 9, rows),
            "text": pa.array([f"group {i % 7}" for i in range(rows)]),
            "yes": draw.random(rows) < 0.5,
            "gap": pa.array([None if i % 3 else float(i) for i in range(rows)]),
        }
    )


def equal_texts() -> pa.DictionaryArray:
    """10,000 times the same megabyte, which is in memory once."""
    return pa.DictionaryArray.from_arrays(np.zeros(10_000, dtype=np.int32), ["x" * 1_000_000])


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}])
@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_what_is_counted_is_what_is_taken(compression: str, options: dict[str, Any]) -> None:
    """At least what Arrow takes, and not more than twice what pandas takes; several groups."""
    table = mixed(30_000)
    content = written(table, compression=compression, row_group_size=7_000, **options)
    taken = table.to_pandas().memory_usage(deep=True).sum()
    assert table.nbytes <= need(content) <= 2 * taken
    assert read_bounded(content, 1 << 40).to_pydict() == table.to_pydict()


def test_a_bomb_is_counted_and_refused() -> None:
    """Five million equal values in some kilobytes; a text of a megabyte in every row."""
    zeros = pa.table({"x": np.zeros(5_000_000)})
    content = written(zeros)
    assert len(content) < 30_000
    with pytest.raises(DataError, match=r"needs \d+ MB of memory \(allowed: 10 MB; `max_memory`"):
        read_bounded(content, 10_000_000)
    content = written(pa.table({"t": equal_texts()}))
    table = read_bounded(content, 10_000_000)  # the text is in memory once
    assert table.nbytes < 2_000_000
    assert len(table) == 10_000


def test_a_page_larger_than_its_footer_says_is_counted(tmp_path: Path) -> None:
    """The header of a page counts, whatever the footer says of the column."""
    content = written(pa.table({"t": ["a" * 1_000_000]}), use_dictionary=False, compression="zstd")
    assert len(content) < 3_000
    with pytest.raises(DataError, match=r"needs 1\.0 MB"):
        read_bounded(content, 500_000)


def test_intervals_are_counted_and_read() -> None:
    """Arrow keeps an interval as a structure of two numbers."""
    table = pa.Table.from_pandas(
        pd.DataFrame({"i": pd.interval_range(0.0, periods=1000), "x": range(1000)})
    )
    content = written(table)
    assert table.nbytes <= need(content) <= 4 * table.nbytes
    assert read_bounded(content, 1 << 30).to_pandas().equals(table.to_pandas())


def test_a_text_of_a_name_with_a_dot_is_in_memory_once() -> None:
    content = written(pa.table({"t.a": equal_texts()}))
    assert read_bounded(content, 10_000_000).nbytes < 2_000_000


NESTED = {
    "list": pa.table({"x": [[1, 2], [3]]}),
    "structure of texts": pa.table({"x": [{"a": "b"}]}),
    "second field is a text": pa.table({"x": [{"a": 1, "b": "c"}], "y": [1]}),
    "structure of structures": pa.table({"x": [{"a": {"b": 1}}]}),
    "structure of lists": pa.table({"x": [{"a": [1]}]}),
}


@pytest.mark.parametrize("table", NESTED.values(), ids=NESTED)
def test_nested_columns_are_refused(table: pa.Table) -> None:
    with pytest.raises(DataError, match="nested column"):
        read_bounded(written(table), 1 << 40)


def test_encodings_that_unfold_are_refused() -> None:
    """Each text may share its beginning with the one before: small pages of long texts."""
    content = written(
        pa.table({"t": ["a" * 1000] * 1000}),
        use_dictionary=False,
        column_encoding={"t": "DELTA_BYTE_ARRAY"},
    )
    with pytest.raises(DataError, match="encoding 7, which is not read"):
        read_bounded(content, 1 << 40)


def test_flipped_bits_give_no_other_error() -> None:
    """500 random bits: an error of the reader's kind, or a table; never more than the limit."""
    content = written(mixed(200), compression="zstd")
    draw = random.Random(3)
    for _ in range(500):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        try:
            read_bounded(bytes(changed), 1_000_000)
        except (DataError, OSError, pa.ArrowException, ValueError):
            continue


@pytest.mark.parametrize("value", [0, -5, 1.5, "1GB", True])
def test_a_bad_limit_gets_a_message(value: Any) -> None:
    with pytest.raises(DataError, match="`max_memory` must be a number of bytes above 0"):
        memory_limit(value)


def test_the_default_is_a_part_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmm.tables.memory_limits.available_memory", lambda: 1000)
    assert memory_limit() == 500
    assert memory_limit(7) == 7
    monkeypatch.setattr("rmm.tables.memory_limits.available_memory", lambda: None)
    assert memory_limit() > 1 << 60
