"""Small files that claim much memory are refused before they take it, whatever their type."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from rmm.cli import main
from rmm.errors import DataError
from rmm.tables.memory_limits import memory_limit
from rmm.tables.read import read_table

LIMIT = 50_000_000
TEXT = b"y,g\n" + b"1,2\n" * 5_000_000


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", data)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def rows_of(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def sequence(count: float) -> bytes:
    """An .rda file of version 3 with `x`, R's sequence of `count` whole numbers from 1."""

    def whole(number: int) -> bytes:
        return struct.pack(">i", number)

    def text(content: bytes) -> bytes:
        return whole(0x00040009) + whole(len(content)) + content

    def symbol(content: bytes) -> bytes:
        return whole(1) + text(content)

    kind = whole(2) + symbol(b"compact_intseq") + whole(2) + symbol(b"base")
    kind += whole(2) + whole(13) + whole(1) + whole(13) + whole(254)
    state = whole(14) + whole(3) + struct.pack(">ddd", count, 1.0, 1.0)
    pairs = whole(0x402) + symbol(b"x") + whole(238) + kind + state + whole(254) + whole(254)
    head = whole(3) + whole(0x00040100) + whole(0x00030500) + whole(5) + b"UTF-8"
    return b"RDX3\nX\n" + head + pairs


def sheet(data: bytes) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame({"y": [1, 2]}).to_excel(buffer, index=False)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/picture.bin", data)
    return buffer.getvalue()


def long_texts() -> bytes:
    """300 texts of a megabyte in some kilobytes."""
    part = pa.table({"y": pa.array(["x" * 1_000_000] * 100)})
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, part.schema) as writer:
        for _ in range(3):
            writer.write_table(part)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "text.csv.gz": lambda: gzip.compress(TEXT),
    "text.csv.bz2": lambda: bz2.compress(TEXT),
    "text.csv.xz": lambda: lzma.compress(TEXT, preset=0),
    "text.csv.zip": lambda: zipped(TEXT),
    "text.csv.zst": lambda: zstd(TEXT),
    "text.csv": lambda: TEXT,
    "zeros.parquet": lambda: rows_of(pa.table({"y": np.zeros(20_000_000)})),
    "texts.parquet": long_texts,
    "nested.parquet": lambda: rows_of(pa.table({"y": pa.array([[0.0] * 100_000] * 100)})),
    "zeros.rda": lambda: gzip.compress(bytes(40_000_000)),
    "twice.rda": lambda: gzip.compress(gzip.compress(bytes(40_000_000))),
    "sequence.rda": lambda: sequence(1e12),
    "packed.xlsx": lambda: sheet(bytes(20_000_000)),
    "numbers.dta": lambda: bytes(60_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    if path.suffix == ".rda":
        pytest.importorskip("rdata")
    if path.suffix == ".xlsx":
        pytest.importorskip("openpyxl")
    path.write_bytes(BOMBS[name]())
    monkeypatch.setenv("RMM_MAX_MEMORY", str(LIMIT))
    with pytest.raises(DataError, match=f"(?s){name}: the file is too large .* RMM_MAX_MEMORY"):
        read_table(path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="free memory is read from /proc")
def test_a_sequence_that_no_machine_holds_is_refused_without_a_setting(tmp_path: Path) -> None:
    pytest.importorskip("rdata")
    (tmp_path / "x.rda").write_bytes(sequence(1e15))
    with pytest.raises(DataError, match=r"its sequences need 8000 TB, but at most"):
        read_table(tmp_path / "x.rda")


def test_the_sequence_is_one_of_r(tmp_path: Path) -> None:
    """The bomb fails for its size, not for its form."""
    rdata = pytest.importorskip("rdata")
    found = rdata.read_rda(io.BytesIO(sequence(4)))
    assert found["x"].tolist() == [1, 2, 3, 4]


def test_tables_within_the_limit_are_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts with and without categories, missing values, an index, nested columns."""
    frame = pd.DataFrame(
        {
            "text": ["a", "b", None, "a"],
            "kind": pd.Categorical(["u", "v", "u", None], ["v", "u"], ordered=True),
            "x": [1.5, np.nan, 2.0, 3.0],
        },
        index=[3, 4, 5, 6],
    )
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    wanted = parquet.read_table(path).to_pandas(integer_object_nulls=True).reset_index(drop=True)
    monkeypatch.setenv("RMM_MAX_MEMORY", "100000")
    pd.testing.assert_frame_equal(read_table(path), wanted)
    large = pa.table({"t": pa.array(["a", None], pa.large_string()), "n": [[1], [2, 3]]})
    parquet.write_table(large, path)
    assert read_table(path)["t"].tolist()[0] == "a"
    assert [list(v) for v in read_table(path)["n"]] == [[1], [2, 3]]


@pytest.mark.parametrize("value", ["0", "-1", "2 GB", "1e9", "١"])
def test_a_limit_is_a_number_of_bytes(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMM_MAX_MEMORY", value)
    with pytest.raises(DataError, match="RMM_MAX_MEMORY must be a number of bytes above 0"):
        memory_limit()
    assert memory_limit(5) == 5


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["look"], ["--id", "m,g"]),
        (["study", "score"], ["--estimate", "y", "--truth", "0"]),
        (["fit"], ["y ~ 1 + mm(id(m, g), RE = TRUE)"]),
    ],
)
def test_commands_refuse_by_a_message(
    words: list[str],
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("y,m,g\n" + "1,2,3\n" * 1000)
    monkeypatch.setenv("RMM_MAX_MEMORY", "1000")
    assert main([*words, str(path), *more]) == 2
    assert "t.csv: the file is too large for the memory" in capsys.readouterr().err
