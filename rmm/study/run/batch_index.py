"""An index of finished batches: what each file holds, without opening it.

``logs/batches.jsonl`` of the results has a line per batch: its path, size and time of change, its
metadata, and how its fits ended. A job appends its line when its batch is finished. An entry
counts only if size and time are those of the file, and the line has its own digest; every other
file is read. So the index may be
incomplete, damaged or deleted at any time: counting then takes longer, and its result is the same.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rmm.study.files import seeds
from rmm.study.files.disks import NO_LINK
from rmm.study.files.parquet import OK, read_batches
from rmm.study.run.metadata import stored_metadata

_INDEX = ("logs", "batches.jsonl")
_COUNTED = ("replication", "status", "seconds", "message")
# Numbers of a message, such as "ESS 87 of b_l1[x], 100 wanted": without them it is a reason.
_NUMBER = re.compile(r"(?<![\w\[])\d+(?:,\d{3})*(?:\.\d+)?(?![\w\]])")


@dataclass(frozen=True)
class Reason:
    """Why fits of a batch failed or did not converge: how many, and the first replication."""

    status: str
    message: str
    fits: int
    replication: int


@dataclass(frozen=True)
class BatchSummary:
    """How the fits of a batch ended.

    Attributes
    ----------
    fits : mapping
        Status -> number of fits.
    seconds : float
        Of the fits whose time is known.
    timed : int
        Number of these fits.
    reasons : tuple of Reason
        In the order of replications.
    """

    fits: Mapping[str, int]
    seconds: float
    timed: int
    reasons: tuple[Reason, ...]


def without_numbers(message: str) -> str:
    """A message with `…` for its numbers: what those of several fits have in common."""
    return _NUMBER.sub("…", message)


def summarise_batch(table: pa.Table) -> BatchSummary:
    """Count the fits of one batch by one method; a fit has a row per parameter.

    Parameters
    ----------
    table : pyarrow.Table
        Estimates; the columns replication, status, seconds and message are enough.

    Returns
    -------
    BatchSummary
    """
    _, rows = np.unique(table["replication"].to_numpy(), return_index=True)
    once = table.select(_COUNTED).take(pa.array(rows))
    columns = [once[name].to_pylist() for name in _COUNTED]
    fits = {row[0]: row[1:] for row in zip(*columns, strict=True)}
    known = [seconds for _, seconds, _ in fits.values() if seconds is not None]
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    for replication, (status, _, message) in fits.items():
        if status != OK:
            reason = (status, without_numbers(message or "no message"))
            counts[reason] += 1
            first.setdefault(reason, replication)
    return BatchSummary(
        dict(Counter(status for status, _, _ in fits.values())),
        float(sum(known)),
        len(known),
        tuple(Reason(*reason, counts[reason], number) for reason, number in first.items()),
    )


class BatchIndex:
    """The index of a results folder.

    Parameters
    ----------
    folder : path
        Results of a study.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._root = str(folder)
        self._known = _loaded(*_state(self.folder.joinpath(*_INDEX)))
        self._new: list[dict[str, Any]] = []

    def metadata(self, path: str) -> Mapping[str, str]:
        """The metadata of a batch file.

        Parameters
        ----------
        path : str
            Below the results folder.

        Returns
        -------
        mapping
            Empty for a file that is not complete.

        Raises
        ------
        FileNotFoundError
        """
        size, changed = _size_and_time(f"{self._root}/{path}")
        if entry := self._entry(path, size, changed):
            found: Mapping[str, str] = entry["metadata"]
            return found
        return dict(stored_metadata(f"{self._root}/{path}", changed))

    def batch(
        self, path: str, asked: int | None = None
    ) -> tuple[Mapping[str, str], BatchSummary] | None:
        """Metadata and summary of a batch file; a file that the index lacks is read, and noted.

        Parameters
        ----------
        path : str
            Below the results folder.
        asked : int, optional
            The last replication that counts; a file with further ones is read.

        Returns
        -------
        tuple of mapping and BatchSummary, or None
            None if there is no such file.

        Raises
        ------
        StudyError
            If the file cannot be read.
        """
        try:
            size, changed = _size_and_time(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        entry = self._entry(path, size, changed)
        if entry is None:
            file = self.folder / path
            table = read_batches([file], ("scenario", "method", *_COUNTED))
            metadata = dict(stored_metadata(str(file), changed))
            entry = _entry(path, size, changed, metadata, summarise_batch(table))
            self._known[path] = entry
            self._new.append(entry)
        metadata, summary = entry["metadata"], entry["summary"]
        if asked is not None and int(metadata.get("last", 0)) > asked:
            table = read_batches([self.folder / path], ("scenario", "method", *_COUNTED))
            summary = summarise_batch(table.filter(pc.less_equal(table["replication"], asked)))
        return metadata, summary

    def save(self) -> None:
        """Append the entries of files that were read; nothing where that is impossible."""
        _append(self.folder, self._new)
        self._new = []

    def _entry(self, path: str, size: int, changed: int) -> dict[str, Any] | None:
        entry = self._known.get(path)
        if entry is None or (entry["size"], entry["changed"]) != (size, changed):
            return None
        if not isinstance(entry["summary"], BatchSummary):
            summary = _summary(entry["summary"])
            if summary is None:
                return None
            entry["summary"] = summary
        return entry


def note_batch(path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Append a batch that was just written to the index of its results folder.

    Parameters
    ----------
    path : Path
        ``RESULTS/estimates/SCENARIO/METHOD/FIRST-LAST.parquet``.
    table : pyarrow.Table
        What was written.
    metadata : mapping
        Of the file, without the prefix of their names.
    """
    if len(path.parts) < 4 or path.parts[-4] != "estimates":
        return
    with suppress(OSError):
        size, changed = _size_and_time(str(path))
        inside = "/".join(path.parts[-4:])
        _append(path.parents[3], [_entry(inside, size, changed, metadata, summarise_batch(table))])


def _entry(
    path: str, size: int, changed: int, metadata: Mapping[str, str], summary: BatchSummary
) -> dict[str, Any]:
    return {
        "path": path,
        "size": size,
        "changed": changed,
        "metadata": dict(metadata),
        "summary": summary,
    }


def _size_and_time(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _state(path: Path) -> tuple[str, int, int]:
    try:
        return str(path), *_size_and_time(str(path))
    except OSError:
        return str(path), 0, 0


@lru_cache(maxsize=2)
def _loaded(path: str, size: int, changed: int) -> dict[str, dict[str, Any]]:
    """Path -> entry, the last one of each; the state of the file tells when to read it again."""
    if not size:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in text.split("\n"):
        try:
            digest, _, content = line.partition(" ")
            if digest != seeds.text_digest(content):
                continue
            entry = json.loads(content)
            key = entry["path"]
            # Interned, as thousands of files of a method say the same.
            entry["metadata"] = {sys.intern(k): sys.intern(v) for k, v in entry["metadata"].items()}
            if {"size", "changed", "summary"} <= entry.keys():
                found[key] = entry
        except (ValueError, TypeError, LookupError, AttributeError):
            continue  # two nodes have written at the same time; the file itself will be read
    return found


def _summary(found: Any) -> BatchSummary | None:
    """A summary as it was written; None if it is damaged."""
    try:
        reasons = tuple(Reason(**reason) for reason in found["reasons"])
        fits = {sys.intern(status): int(count) for status, count in found["fits"].items()}
        return BatchSummary(fits, float(found["seconds"]), int(found["timed"]), reasons)
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def _append(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write lines in one piece, so that those of other processes stay whole."""
    contents = (
        json.dumps({**entry, "summary": asdict(entry["summary"])}, separators=(",", ":"))
        for entry in entries
    )
    lines = [f"{seeds.text_digest(content)} {content}" for content in contents]
    if not lines:
        return
    path = folder.joinpath(*_INDEX)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK, 0o666)
        try:
            # The first newline ends a line that a kill has cut off.
            os.write(handle, ("\n" + "\n".join(lines) + "\n").encode())
        finally:
            os.close(handle)
