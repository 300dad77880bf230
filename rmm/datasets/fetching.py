"""A published data set from the cache, where it comes by itself or is put by hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from rmm.cache import cache_dir, make_cache_folder
from rmm.datasets.content import checksum, plain
from rmm.errors import DataError
from rmm.tables.rdata import read_frames

if TYPE_CHECKING:
    import pandas as pd

    from rmm.datasets.sources import Source

_OFFLINE = 'rmm.datasets.load("coalitions") gives simulated coalitions and needs no network.'


def read_source(source: Source) -> pd.DataFrame:
    """The table of a source; its file is fetched unless it is in the cache.

    Raises
    ------
    DataError
        If the file cannot be fetched or read, or holds something else.
    """
    path = cached(source)
    fetched = not path.is_file()
    if fetched:
        fetch(source.address, path)
    try:
        return _checked(source, path)
    except DataError:
        if fetched:  # what a network put in the file's place must not stay
            path.unlink(missing_ok=True)
        raise


def cached(source: Source) -> Path:
    """Where the file of a source is, or will be."""
    return cache_dir() / "datasets" / source.file


def fetch(address: str, path: Path) -> None:
    """Fetch a file; there is a whole one at `path` or none.

    Raises
    ------
    DataError
    """
    try:
        make_cache_folder(path.parent)
    except OSError as problem:
        raise DataError(
            f"The folder of data sets, {path.parent}, cannot be created: "
            f"{problem.strerror or problem}.\nSet RMM_CACHE to a folder that you can write to."
        ) from None
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # it tells of every file without a checksum
    try:
        pooch.retrieve(
            address,
            known_hash=None,
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except (OSError, ValueError) as problem:  # what requests raises is an OSError
        raise DataError(
            f"The data set cannot be downloaded from\n  {address}\n({_reason(problem)}). "
            f"Download this file in another way, and save it as\n  {path}\n{_OFFLINE}"
        ) from None
    finally:
        logger.setLevel(level)


def _reason(problem: Exception) -> str:
    """One line of an error of the network, which quotes the errors below it in full."""
    response = getattr(problem, "response", None)
    if response is not None:
        return f"the server answers {response.status_code}"
    return type(problem).__name__ if len(str(problem)) > 100 else str(problem)


def _checked(source: Source, path: Path) -> pd.DataFrame:
    again = (
        f"Remove the file and load the data set again. It is downloaded from\n  {source.address}"
    )
    try:
        frames = read_frames(path)
    except DataError:  # names the package that reads such files
        raise
    except Exception as problem:
        raise DataError(f"{path} is not a data file of R: {problem}\n{again}") from problem
    if source.frame not in frames:
        held = ", ".join(frames) or "none"
        raise DataError(
            f"{path} must contain the data frame `{source.frame}`, but contains: {held}.\n{again}"
        )
    frame = frames[source.frame]
    missing = [name for name in source.columns if name not in frame]
    if missing:
        raise DataError(f"{path} has no column `{missing[0]}`.\n{again}")
    table = plain(frame[list(source.columns)])
    found = checksum(table)
    if found != source.content:
        raise DataError(
            f"The values in {path} ({len(table)} rows) are not the published ones: their checksum "
            f"starts with {found[:12]}, not with {source.content[:12]}.\n{again}"
        )
    return table
