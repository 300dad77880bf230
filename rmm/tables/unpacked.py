"""Packed files: unpacked piece by piece, and no further than memory allows."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow

from rmm.errors import DataError
from rmm.tables.memory_limits import bytes_text

_PIECE = 1 << 20


def unpack(path: Path, open_packed: Callable[[], AbstractContextManager[Any]], most: int) -> bytes:
    """The unpacked content of a file.

    Parameters
    ----------
    path : Path
        For messages.
    open_packed : callable
        Opens a stream of the unpacked bytes.
    most : int
        Bytes.

    Raises
    ------
    DataError
        If there are more bytes.
    """
    pieces, size = [], 0
    with open_packed() as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > most:
                raise DataError(too_large(path, f"more than {bytes_text(most)} unpacked", most))
            pieces.append(piece)
    return b"".join(pieces)


def too_large(path: Path, size: str, most: int) -> str:
    """A message about a file that does not fit into memory; `size`: what it contains."""
    return (
        f"{path}: the file is too large for the memory that is free here: {size}, but at most "
        f"{bytes_text(most)} of such a file can be read. Use a computer with more memory, or a "
        "file with fewer rows or columns. The environment variable RMM_MAX_MEMORY (bytes) sets "
        "another limit."
    )


def check_size(path: Path, most: int) -> None:
    """Refuse a file that is larger than it may be, as it is on the disk.

    Raises
    ------
    DataError
    """
    size = path.stat().st_size
    if size > most:
        raise DataError(too_large(path, bytes_text(size), most))


def zip_entry(path: Path) -> AbstractContextManager[Any]:
    """The one file in an archive.

    Raises
    ------
    DataError
        If it has none, or several.
    """
    archive = zipfile.ZipFile(path)
    names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
    if len(names) != 1:
        archive.close()
        raise DataError(f"The archive contains {len(names)} files, but must contain one table.")
    return archive.open(names[0])


def check_sheets(path: Path, most: int) -> None:
    """Refuse an Excel file whose parts are larger than they may be; they are unpacked once more.

    Raises
    ------
    DataError
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > most:
        raise DataError(too_large(path, f"{bytes_text(size)} unpacked", most))


#: Ending of a packed text file -> a stream of the text.
OPENERS: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zip": zip_entry,
    ".zst": lambda path: pyarrow.input_stream(str(path), compression="zstd"),
}
