"""Disks that are full or cannot be written: which one it is, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rmm.errors import StudyError

#: A flag of `os.open`: a link, which may lead out of the results, is an error. Not on Windows.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
#: No room, no room of this user's (a quota), a file beyond the limit of the system.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))
#: Bytes that a run, or the temporary files of a fit, need at least.
_PROBE = 1 << 16


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the disk in the body into a message about `path`, which the body writes.

    Raises
    ------
    StudyError
        If the disk is full, cannot be written, ...
    """
    try:
        yield
    except OSError as problem:
        raise StudyError(disk_message(path, problem)) from problem


def disk_message(path: Path, problem: OSError) -> str:
    """What is wrong with the disk of `path`, how much room there is, and what to do."""
    why = os.strerror(problem.errno) if problem.errno else str(problem)
    folder = _existing(path.parent)
    if problem.errno in _FULL:
        where = f"The disk at {_mount_point(folder)} has {_room(folder)}. Make room there"
    else:
        where = f"Make the folder {folder} writable"
    return (
        f"{path} cannot be written: {why}.\n"
        f"  {where}, and run the study again; finished fits are kept."
    )


def check_room(folder: Path) -> None:
    """Write a small file into a folder, and remove it; the folder is made if it is missing.

    Raises
    ------
    StudyError
        If that is impossible: what follows would lose work.
    """
    with writing(folder / "files"):
        folder.mkdir(parents=True, exist_ok=True)
        _probe(folder)


def _probe(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * _PROBE)


def full_temporary_folder(error: Exception) -> str:
    """A message if a fit has failed because temporary files had no room; "" if not.

    Engines write into files of their own, and remove them when they fail: either the error says
    what happened, or there is still no room.

    Parameters
    ----------
    error : Exception
        Of a fit, perhaps with the text of an engine in another process.
    """
    folder = Path(tempfile.gettempdir())
    words = [os.strerror(number) for number in _FULL] + ["(disk full?)"]
    problem = OSError(errno.ENOSPC, "")
    if not any(text in str(error) for text in words):
        try:
            _probe(folder)
        except OSError as found:
            problem = found
        else:
            return ""
    return disk_message(folder / "temporary files", problem)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = Path(os.path.abspath(folder))
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def _mount_point(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if os.path.ismount(one)), folder)


def _room(folder: Path) -> str:
    """How much of a disk is free; a quota, which is less, is not known here."""
    found = os.statvfs(folder)
    if found.f_files and not found.f_favail:
        return f"no room for further files (all of {found.f_files:,} are in use)"
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return f"{_size(free)} of {_size(total)} free"


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:,.3g} {name}"
    return f"{count} bytes"
