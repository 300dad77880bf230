"""Time stamps in the future, of files that were copied from a machine whose clock is ahead."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

#: Clocks of the nodes of a cluster differ by less.
_EARLIER = 3600.0


def date_back(paths: Iterable[str | Path]) -> None:
    """Set the time of change of files that are dated in the future to an hour ago.

    Snakemake fails a job whose output is older than its input, and removes the output.

    Parameters
    ----------
    paths : iterable of paths
        Files that exist. One that belongs to another user is replaced by a copy.
    """
    now = time.time()
    for path in map(Path, paths):
        if path.lstat().st_mtime > now:
            try:
                os.utime(path, (now - _EARLIER, now - _EARLIER), follow_symlinks=False)
            except PermissionError:
                _replace_by_copy(path)
                os.utime(path, (now - _EARLIER, now - _EARLIER))


def _replace_by_copy(path: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    copy = Path(name)
    try:
        shutil.copyfile(path, copy)
        shutil.copymode(path, copy)
        copy.replace(path)
    finally:
        copy.unlink(missing_ok=True)
