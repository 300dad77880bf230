"""Saved fits and Parquet tables from others: damaged, and small files that claim to be large."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pyarrow as pa

import rmm
from rmm.tables.parquet_limits import read_bounded
from rmm.tables.read import read_table
from tests.attack import Attack, Cases, flipped, truncated
from tests.attack.damaged_results import Change
from tests.coalitions import made_up_coalitions
from tests.posterior.test_saved_fits import BOMBS, FORMULA
from tests.tables.test_memory_of_files import BOMBS as TABLE_BOMBS
from tests.tables.test_memory_of_files import LIMIT as TABLE_LIMIT
from tests.tables.test_parquet_limits import mixed, written

#: Bytes that a refusal may take, whatever the file claims.
_LITTLE = 200_000_000


def _saved(folder: Path) -> tuple[Path, pd.DataFrame]:
    options: Any = {"chains": 2, "warmup": 10, "draws": 20, "seed": 1, "progress": False}
    fit = rmm.fit(FORMULA, made_up_coalitions(30, 12), backend="fake", **options)
    return fit.save(folder / "fit.nc"), fit.summary()


def _answer(path: Path, wanted: pd.DataFrame) -> str:
    try:
        found = rmm.load(path).summary()
    except rmm.DataError as error:
        return "" if str(path) in str(error) else f"an error without the file: {error}"
    except Exception as error:  # noqa: BLE001  what the attack looks for
        return f"{type(error).__name__}: {error}"
    return "" if found.equals(wanted) else "another summary"


def _damaged(change: Change) -> Cases:
    def cases(draw: random.Random, folder: Path) -> Iterator[str]:
        path, wanted = _saved(folder)
        content = path.read_bytes()
        while True:
            path.write_bytes(change(content, draw))
            yield _answer(path, wanted)

    return cases


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def _bombs(draw: random.Random, folder: Path) -> Iterator[str]:
    path, _ = _saved(folder)
    content = path.read_bytes()
    while True:
        name = draw.choice(sorted(BOMBS))
        path.write_bytes(content)
        with h5py.File(path, "a") as file:
            BOMBS[name][0](file)
        before = _resident()
        try:
            rmm.load(path, max_memory=500_000_000)
            yield f"{name} was loaded"
        except rmm.DataError:
            taken = _resident() - before
            yield "" if taken < _LITTLE else f"{name} took {taken:,} bytes"
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{name}: {type(error).__name__}: {error}"


def _tables(draw: random.Random, folder: Path) -> Iterator[str]:
    """Small tables of every type that claim to be large; limits at random."""
    content = {name: make() for name, make in TABLE_BOMBS.items()}
    while True:
        name, limit = draw.choice(sorted(content)), draw.randrange(1_000_000, TABLE_LIMIT)
        path = folder / name
        path.write_bytes(content[name])
        os.environ["RMM_MAX_MEMORY"] = str(limit)
        before = _resident()
        try:
            read_table(path)
            yield f"{name} was read within {limit:,} bytes"
        except rmm.DataError as error:
            taken = _resident() - before
            fits = taken < _LITTLE and str(path) in str(error)
            yield "" if fits else f"{name} took {taken:,} bytes: {error}"
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{name}: {type(error).__name__}: {error}"
        finally:
            del os.environ["RMM_MAX_MEMORY"]


def _parquet(draw: random.Random, folder: Path) -> Iterator[str]:
    """A flipped table is read within the limit, or refused by an error of readers."""
    content = written(mixed(200), compression="zstd")
    while True:
        try:
            table = read_bounded(flipped(content, draw), 1_000_000)
            yield "" if table.nbytes <= 1_000_000 else f"{table.nbytes:,} bytes"
        except (rmm.DataError, OSError, ValueError, pa.ArrowException):
            yield ""
        except Exception as error:  # noqa: BLE001  what the attack looks for
            yield f"{type(error).__name__}: {error}"


ATTACKS = (
    Attack("flipped bits of saved fits", 2_000, _damaged(flipped)),
    Attack("truncated saved fits", 500, _damaged(truncated)),
    Attack("bombs in saved fits", 100, _bombs),
    Attack("bombs in tables", 200, _tables),
    Attack("flipped bits of Parquet tables", 2_000, _parquet),
)
