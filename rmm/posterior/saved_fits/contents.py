"""What a saved fit holds, checked before any of it is read into memory.

An HDF5 file of a kilobyte may declare an array of any size, and name other files to be read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rmm.errors import DataError
from rmm.tables.memory_limits import bytes_text

Array = np.ndarray[Any, Any]

GROUPS = ("rmm", "sample_stats")
MATRIX = "cov_"  # before the names of covariance matrices
_DEEPEST = 4
_NUMBERS = "biuf"
#: Marks the digest after the end of the HDF5 file, which other readers ignore.
_MARK = b"rmm.sha256:"
_LENGTH = len(_MARK) + 64
_PART = 1 << 20


@dataclass(frozen=True)
class Contents:
    """The variables of a saved fit.

    Attributes
    ----------
    about : str
        JSON: formula, priors, settings, program.
    table : bytes
        The columns used, as Parquet.
    draws, sample_stats : mapping
        Name -> array, shape (chains, draws, *dims).
    matrices : mapping
        Name of a known covariance matrix -> Parquet.
    """

    about: str
    table: bytes
    draws: Mapping[str, Array]
    sample_stats: Mapping[str, Array]
    matrices: Mapping[str, bytes]


def seal(path: Path) -> None:
    """Append the digest of a file to it."""
    digest = _digest(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_MARK + digest)


def check_seal(path: Path) -> None:
    """Refuse a file whose digest is not that of its content; files of old versions have none.

    Raises
    ------
    DataError
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _LENGTH))
        end = file.read(_LENGTH)
    if end.startswith(_MARK) and end[len(_MARK) :] != _digest(path, size - _LENGTH):
        raise DataError("Its content has changed since it was saved.")


def _digest(path: Path, size: int) -> bytes:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(_PART, size))):
            sha.update(part)
            size -= len(part)
    return sha.hexdigest().encode()


def read_contents(path: Path, limit: int) -> Contents:
    """The variables of a file that `save` wrote; other variables are not read.

    Parameters
    ----------
    path : Path
    limit : int
        Bytes that they may take.

    Raises
    ------
    DataError
        If the file is altered, has links or refers to other files, or its variables are no
        numbers, or would need more memory.
    """
    check_seal(path)
    with h5py.File(os.fspath(path), "r") as file:
        _check_links(file, 0)
        groups = {name: _variables(file, name) for name in GROUPS}
        _check_size([v for found in groups.values() for v in found.values()], limit)
        table = groups["rmm"].pop("table", None)
        if table is None or table.dtype != np.uint8 or table.ndim != 1:
            raise DataError("It has no table.")
        matrices = {
            name.removeprefix(MATRIX): groups["rmm"].pop(name)
            for name in list(groups["rmm"])
            if name.startswith(MATRIX)
        }
        for name, matrix in matrices.items():
            if matrix.dtype != np.uint8 or matrix.ndim != 1:
                raise DataError(f"Its matrix `{name}` is damaged.")
        about = file["rmm"].attrs["about"]
        return Contents(
            about if isinstance(about, str) else bytes(about).decode(),
            table[()].tobytes(),
            {k.removeprefix("draws_"): v[()] for k, v in groups["rmm"].items()},
            {k: v[()] for k, v in groups["sample_stats"].items()},
            {k: v[()].tobytes() for k, v in matrices.items()},
        )


def _check_links(group: h5py.Group, depth: int) -> None:
    """No links, and nothing that lies in other files."""
    if depth > _DEEPEST:
        raise DataError("Its groups are nested too deeply.")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"In it, `{name}` is a link.")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_links(item, depth + 1)
        elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise DataError(f"In it, `{name}` is stored in another file.")


def _variables(file: h5py.File, group: str) -> dict[str, h5py.Dataset]:
    """Those of a group that are no coordinates; of `rmm` those that `save` writes."""
    found = {}
    for name, item in file[group].items():
        ours = group != "rmm" or name == "table" or name.startswith(("draws_", MATRIX))
        if ours and isinstance(item, h5py.Dataset) and not item.is_scale:
            if item.dtype.kind not in _NUMBERS:
                raise DataError(f"In it, `{name}` does not consist of numbers.")
            found[name] = item
    return found


def _check_size(variables: list[h5py.Dataset], limit: int) -> None:
    """Count what arrays take unpacked, and the largest chunk, which is unpacked as one piece."""
    total, chunk = 0, 0
    for variable in variables:
        size = variable.dtype.itemsize
        total += int(variable.size or 0) * size
        if variable.chunks:
            chunk = max(chunk, int(np.prod([int(n) for n in variable.chunks], dtype=object)) * size)
    if total + chunk > limit:
        raise DataError(
            f"It would need {bytes_text(total + chunk)} of memory (allowed: {bytes_text(limit)}; "
            "`max_memory` sets another limit)."
        )
