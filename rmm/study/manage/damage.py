"""Files of a results folder that are not as they were written: kept elsewhere, and made again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rmm.errors import StudyError
from rmm.study.files.parquet import read_table, readable_by_user
from rmm.study.files.records import read_record
from rmm.study.files.seals import is_intact
from rmm.study.manage.jobs import BATCH_FILE
from rmm.study.run.metadata import stored_metadata

FOLDER = "damaged"
#: Folders and files of JSON that carry a digest.
_RECORDS = ("programs/*.json", "runs/*.json", "steps/*.json", "stopping/**/*.json")


def damaged_files(folder: str | Path) -> dict[Path, str]:
    """Batches, kept data and records whose content is not what was written.

    Every file is read, as a damaged disk leaves sizes and times as they were.

    Parameters
    ----------
    folder : path
        Results of a study.

    Returns
    -------
    dict
        File -> what is wrong with it.

    Raises
    ------
    StudyError
        If a file may not be read by this user.
    """
    folder = Path(folder)
    batches = sorted((folder / "estimates").glob("*/*/*.parquet"))
    data = sorted((folder / "data").glob("*/*.parquet"))
    records = sorted({path for pattern in _RECORDS for path in folder.glob(pattern)})
    checks = [
        *((_batch_is_damaged, path) for path in batches if BATCH_FILE.fullmatch(path.name)),
        *((_table_is_damaged, path) for path in data),
        *((_record_is_damaged, path) for path in records),
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda check: check[0](check[1]), checks))
    found = {path: "is damaged" for (_, path), bad in zip(checks, answers, strict=True) if bad}
    for path in data:  # the tables of some replications are drawn together
        main = path.with_name(f"{path.name.partition('.')[0]}.parquet")
        if path in found and main.is_file():
            found.setdefault(main, "belongs to a damaged file")
    return found


def set_damaged_aside(damaged: Mapping[Path, str], folder: str | Path) -> list[str]:
    """Move files to ``damaged/<path>.damaged`` below the results.

    Parameters
    ----------
    damaged : mapping
        File below `folder` -> what is wrong with it.
    folder : path
        Results of a study.

    Returns
    -------
    list of str
        A line about each file.

    Raises
    ------
    StudyError
        If a file cannot be moved.
    """
    folder = Path(folder)
    lines = []
    for path, why in damaged.items():
        there = _free(folder / FOLDER / f"{path.relative_to(folder).as_posix()}.damaged")
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            path.rename(there)
        except OSError as problem:
            raise StudyError(
                f"{path} {why}, and cannot be moved: {os.strerror(problem.errno or 0)}.\n"
                "  Make its folder writable, or delete the file, and run the study again."
            ) from problem
        lines.append(f"{path} {why}. It is set aside as {there}, and is made again.")
    return lines


def _free(path: Path) -> Path:
    """The path, or with a number if there is such a file."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _batch_is_damaged(path: Path) -> bool:
    intact = _intact(path)
    if intact is None:  # of an earlier version, without a digest, but with metadata
        return _unreadable(path) or not stored_metadata(str(path), path.stat().st_mtime_ns)
    return not intact


def _table_is_damaged(path: Path) -> bool:
    intact = _intact(path)
    return _unreadable(path) if intact is None else not intact


def _intact(path: Path) -> bool | None:
    try:
        with readable_by_user(path):
            return is_intact(path)
    except OSError:  # of the disk
        return False


def _unreadable(path: Path) -> bool:
    try:
        read_table(path)
    except StudyError:
        return True
    return False


def _record_is_damaged(path: Path) -> bool:
    if read_record(path) is not None:
        return False
    try:
        with readable_by_user(path):
            return "sha256" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return True
