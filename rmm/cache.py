"""Where compiled programs and downloaded data are kept."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """``RMM_CACHE``, else the user's cache folder of `rmm`."""
    chosen = os.environ.get("RMM_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("rmm"))


def make_cache_folder(folder: Path) -> None:
    """Make a folder below `cache_dir`; a new cache is readable for its user only.

    Raises
    ------
    OSError
    """
    cache = cache_dir()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        cache.mkdir(mode=0o700)
    folder.mkdir(parents=True, exist_ok=True)


def other_writer(path: Path, levels: int) -> str:
    """Who besides this user could have written a file of the cache.

    Parameters
    ----------
    path : Path
    levels : int
        How many folders above `path` belong to the cache.

    Returns
    -------
    str
        Such as ``"/shared/rmm belongs to another user (1001)"``; "" if only this user, its group or
        the administrator can write the file, and for a file that is missing.
    """
    if not hasattr(os, "geteuid"):  # Windows
        return ""
    for one in (path, *path.parents[:levels]):
        try:
            found = one.stat()
        except OSError:
            continue
        if found.st_uid not in (0, os.geteuid()):
            return f"{one} belongs to another user ({found.st_uid})"
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return f"all users can write to {one}"
    return ""
