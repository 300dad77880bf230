"""A digest of all bytes of a Parquet file, kept in the file itself.

The footer has the entry ``rmm.sha256``: the SHA-256 of the file with 64 zeros in its place. So any
changed bit is found before the file is parsed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

KEY = "rmm.sha256"
#: What is in the place of the digest while it is computed.
BLANK = "0" * 64
_ENTRY = KEY.encode() + b"\x18\x40"  # Thrift: a text of 64 bytes follows
_LIKE_ENTRY = re.compile(rb"(?s)(?=(.{%d})[0-9a-f]{64})" % len(_ENTRY))
_MAGIC = b"PAR1"
_PART = 1 << 20


def seal(path: Path) -> None:
    """Put the digest into a file that was written with `BLANK` as its entry `KEY`."""
    with path.open("rb+") as file:
        place = _place(file)
        assert place is not None, path
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def is_intact(path: Path) -> bool | None:
    """Whether a file has the bytes that were written; None for a file without a digest.

    Files without one are of earlier versions, or were written by other programs.

    Raises
    ------
    OSError
    """
    with path.open("rb") as file:
        if not _is_parquet(file):
            return False
        place = _place(file)
        if place is None:  # the footer's length, or the name of the entry, may be damaged
            return False if _has_damaged_entry(_end(file)) else None
        file.seek(place)
        return file.read(len(BLANK)) == _digest(file, place)


def _is_parquet(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(0)
    if size < 12 or file.read(4) != _MAGIC:
        return False
    file.seek(size - 8)
    return int.from_bytes(file.read(4), "little") <= size - 12 and file.read(4) == _MAGIC


def _place(file: BinaryIO) -> int | None:
    """Where the digest begins: in the footer, whose length is before the last four bytes."""
    size = file.seek(0, 2)
    file.seek(size - 8)
    start = size - 8 - int.from_bytes(file.read(4), "little")
    file.seek(start)
    found = file.read(size - 8 - start).rfind(_ENTRY)
    return None if found < 0 else start + found + len(_ENTRY)


def _has_damaged_entry(content: bytes) -> bool:
    """Whether a digest follows something that differs from the entry in two bytes at most."""
    return any(
        sum(a != b for a, b in zip(found[1], _ENTRY, strict=True)) <= 2
        for found in _LIKE_ENTRY.finditer(content)
    )


def _end(file: BinaryIO) -> bytes:
    file.seek(max(0, file.seek(0, 2) - _PART))
    return file.read()


def _digest(file: BinaryIO, place: int) -> bytes:
    sha = hashlib.sha256()
    file.seek(0)
    left = place
    while left and (part := file.read(min(_PART, left))):
        sha.update(part)
        left -= len(part)
    sha.update(BLANK.encode())
    file.seek(place + len(BLANK))
    while part := file.read(_PART):
        sha.update(part)
    return sha.hexdigest().encode()
