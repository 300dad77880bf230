"""Saved fits from anyone: memory is counted before it is taken, and a changed bit is found."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import rmm
from rmm.errors import DataError
from tests.coalitions import made_up_coalitions
from tests.disks import fill, mounted, remount

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"


@pytest.fixture(scope="module")
def fit() -> rmm.Fit:
    data = made_up_coalitions(30, 12)
    return rmm.fit(
        FORMULA, data, backend="fake", chains=2, warmup=10, draws=20, seed=1, progress=False
    )


@pytest.fixture
def saved(fit: rmm.Fit, tmp_path: Path) -> Path:
    return fit.save(tmp_path / "fit.nc")


def summary(fit: rmm.Fit) -> pd.DataFrame:
    return fit.summary()


def with_text(file: h5py.File) -> None:
    """A small file that would unpack to texts of 300 GB: one fill value for all elements."""
    kind = h5py.string_dtype()
    file["rmm"].create_dataset(
        "draws_text", shape=(2, 20, 10**7), chunks=(1, 1, 1000), dtype=kind, fillvalue="x" * 1000
    )


def with_fill_values(file: h5py.File) -> None:
    file["rmm"].create_dataset(
        "draws_b_l9", shape=(2, 20, 10**9), chunks=(1, 1, 1000), dtype="f8", fillvalue=1.5
    )


def with_a_chunk(file: h5py.File) -> None:
    """A chunk of 3.2 GB, of which the array uses a little."""
    file["rmm"].create_dataset(
        "draws_b_l9",
        shape=(2, 20, 1),
        maxshape=(None, None, None),
        chunks=(2, 20, 10**7),
        dtype="f8",
    )


def with_rows(file: h5py.File) -> None:
    """A table of some kilobytes that unpacks to 640 MB."""
    buffer = io.BytesIO()
    schema = pa.schema([("y", pa.float64())])
    with parquet.ParquetWriter(buffer, schema) as writer:
        group = pa.table({"y": np.zeros(2_000_000)})
        for _ in range(40):
            writer.write_table(group)
    del file["rmm"]["table"]
    file["rmm"]["table"] = np.frombuffer(buffer.getvalue(), dtype="u1")


def with_settings(file: h5py.File, **changes: Any) -> None:
    attributes = file["rmm"].attrs
    about = json.loads(attributes["about"])
    about["settings"].update(changes)
    attributes["about"] = json.dumps(about)


BOMBS = {
    "texts": (with_text, "`draws_text` does not consist of numbers"),
    "fill values": (with_fill_values, "It would need 320 GB of memory"),
    "chunk": (with_a_chunk, "It would need 3.2 GB of memory"),
    "rows": (with_rows, "Its table needs [0-9]+ MB of memory"),
    "chains": (
        lambda f: with_settings(f, chains=10**12),
        "0 chains of 20 draws, but",
    ),
    "draws": (lambda f: with_settings(f, draws=10**12), "2 chains of 1,000,000,000,000 draws"),
    "warmup": (lambda f: with_settings(f, warmup="x" * 100), "Its setting warmup is"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_unpacks(name: str, saved: Path) -> None:
    """Under a limit of 500 MB; nothing of what a file claims is allocated."""
    act, match = BOMBS[name]
    with h5py.File(saved, "a") as file:
        act(file)
    assert saved.stat().st_size < 3_000_000
    with pytest.raises(rmm.DataError, match=match):
        rmm.load(saved, max_memory=500_000_000)


def test_a_limit_is_kept(saved: Path, fit: rmm.Fit) -> None:
    with pytest.raises(rmm.DataError, match=r"bytes of memory \(allowed: 1,000 bytes"):
        rmm.load(saved, max_memory=1000)
    pd.testing.assert_frame_equal(summary(rmm.load(saved, max_memory=10_000_000)), summary(fit))


def test_only_variables_of_a_fit_are_read(saved: Path, fit: rmm.Fit) -> None:
    """Others do not count: they take no memory."""
    with h5py.File(saved, "a") as file:
        file["rmm"].create_dataset("other", shape=(10**12,), chunks=(1000,), dtype="f8")
        file["posterior"].create_dataset("more", shape=(10**12,), chunks=(1000,), dtype="f8")
    pd.testing.assert_frame_equal(summary(rmm.load(saved)), summary(fit))


def test_flips_and_truncations_are_found(saved: Path, fit: rmm.Fit) -> None:
    """60 random bits and 20 lengths: an error that names the file, or the same numbers."""
    content, wanted = saved.read_bytes(), summary(fit)
    draw = random.Random(4)
    changes = [(draw.randrange(len(content)), 1 << draw.randrange(8)) for _ in range(60)]
    refused = 0
    for place, bit in changes:
        changed = bytearray(content)
        changed[place] ^= bit
        saved.write_bytes(bytes(changed))
        refused += is_refused(saved, wanted)
    assert refused >= 58  # but for bits of the mark of the digest, 11 bytes of the file
    for _ in range(20):
        saved.write_bytes(content[: draw.randrange(len(content) - 80)])
        assert is_refused(saved, wanted)


def is_refused(path: Path, wanted: pd.DataFrame) -> bool:
    try:
        found = rmm.load(path)
    except rmm.DataError as error:
        assert str(path) in str(error)
        return True
    pd.testing.assert_frame_equal(summary(found), wanted)
    return False


def test_a_saved_fit_is_a_netcdf_file_for_others(saved: Path, tmp_path: Path) -> None:
    """The digest after its end is ignored; a file without it, of before, is read."""
    import xarray

    with xarray.open_datatree(saved, engine="h5netcdf") as tree:
        assert "b_l2" in tree["posterior"].data_vars
    shutil.copyfile(saved, tmp_path / "old.nc")
    with (tmp_path / "old.nc").open("rb+") as file:
        file.truncate(saved.stat().st_size - 75)
    rmm.load(tmp_path / "old.nc")


def test_a_full_or_read_only_disk_is_a_message(fit: rmm.Fit, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        filling = fill(disk, free=50_000)
        with pytest.raises(DataError, match=r"fit.nc cannot be written: the fit needs .* are free"):
            fit.save(disk / "fit.nc")
        assert list(disk.iterdir()) == [filling]
        filling.unlink()
        size = fit.save(disk / "fit.nc").stat().st_size
        taken = sum(node.nbytes for node in fit.draws.subtree)
        assert size < taken + 200_000, "what is asked for is enough"
        before = (disk / "fit.nc").read_bytes()
        remount(disk, "ro")
        with pytest.raises(DataError, match="cannot be written: Read-only file system"):
            fit.save(disk / "fit.nc")
        assert (disk / "fit.nc").read_bytes() == before
