"""How much memory there is, and how much a file may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from rmm.errors import DataError

#: Part of the free memory that a file may take if no limit is given: what is computed from it
#: needs memory, too.
_PART = 0.5
_VARIABLE = "RMM_MAX_MEMORY"
_CGROUP = Path("/sys/fs/cgroup")


def memory_limit(max_memory: Any = None) -> int:
    """Bytes that the content of a file may take.

    Parameters
    ----------
    max_memory : int, optional
        Bytes; default: the environment variable ``RMM_MAX_MEMORY``, else half of the free memory.

    Raises
    ------
    DataError
        If it is not a whole number above 0.
    """
    if max_memory is None and (chosen := os.environ.get(_VARIABLE)):
        if not chosen.isascii() or not chosen.isdecimal() or int(chosen) <= 0:
            raise DataError(
                f"{_VARIABLE} must be a number of bytes above 0, such as 2000000000, not "
                f"{chosen[:60]!r}."
            )
        return int(chosen)
    if max_memory is None:
        free = available_memory()
        return int(_PART * free) if free is not None else 1 << 62
    whole = isinstance(max_memory, int | np.integer) and not isinstance(max_memory, bool)
    if not whole or max_memory <= 0:
        raise DataError(
            f"`max_memory` must be a number of bytes above 0, such as 2_000_000_000, not "
            f"{max_memory!r}."
        )
    return int(max_memory)


def bytes_text(count: int) -> str:
    """Bytes as people say them."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6)):
        if count >= 10**power:
            amount = count / 10**power
            return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f} {unit}"
    return f"{count:,} bytes"


def available_memory() -> int | None:
    """Bytes that are free here; None where that cannot be known."""
    found = [n for n in (_of_machine(), _of_container()) if n is not None]
    return min(found) if found else None


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no such thing on Windows
        return None


def _of_container() -> int | None:
    """What the limit of a container leaves (control groups, version 2)."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # no limit, or none that can be read
        return None
