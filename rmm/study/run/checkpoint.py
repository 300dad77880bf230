"""Finished fits of a batch that is still running, on disk: a kill loses the fit under way.

A batch keeps what it has in one file, ``.parts/<first>-<last>.<settings>.parquet`` beside its own:
rewritten after every fit that took long, and every few seconds where fits are short, always by
renaming, so that what is there can be read. Fits since then stand in a journal beside it, one line
each. A batch that starts takes up whatever of its replications such files hold, also those of
another batch size. The names hold the hash of seed and method, and the file its metadata: fits of
other settings are neither used nor overwritten.

Snakemake deletes the outputs of a job that it did not see end. So the file of a long batch stays
until its study has been collected.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from rmm.errors import StudyError
from rmm.study.files import seeds
from rmm.study.files.disks import NO_LINK, writing
from rmm.study.files.environment import running_on, together
from rmm.study.files.parquet import ESTIMATES, estimates_table, read_estimates, write_parquet
from rmm.study.run.metadata import made_alike

FOLDER = ".parts"
LONG = 1.0  # seconds of a fit that is not to be lost
EVERY = 5.0  # seconds of shorter fits that stand in the journal only
_SHARE = 20  # writing short fits takes at most this part of the time
_FILE = re.compile(r"(\d+)-(\d+)\.(\w+)\.(parquet|jsonl)")

Rows = Sequence[Mapping[str, Any]]


class Checkpoint:
    """The finished fits of one batch; leaving its context by any exception writes them.

    Parameters
    ----------
    path : path
        The batch's own file.
    metadata : mapping
        Of that file: `rmm.study.run.metadata.metadata_of`.
    warn : callable
        Is told of a file that cannot be read.
    facts : callable
        What its metadata say of the run so far, besides what it ran on.

    Attributes
    ----------
    kept : frozenset of int
        Replications that an earlier run has fitted.
    seconds : float
        That the earlier runs took.
    """

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, str],
        warn: Callable[[str], None],
        facts: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        settings = seeds.short_id("", [metadata[k] for k in ("seed", "method_id", "nulls")])
        self.path = path
        self.file = path.parent / FOLDER / f"{path.stem}.{settings}.parquet"
        self._metadata = metadata
        self._facts = facts
        self._settings = settings
        self._journal = Journal(self.file.with_suffix(".jsonl"))
        self._ran_on: list[Mapping[str, str]] = []
        self._tables: list[pa.Table] = []
        self._pending: list[Mapping[str, Any]] = []
        self._fits = 0
        self._long = False
        self._cost = 0.0
        self.kept = frozenset(self._take_up(warn))
        self.seconds = sum(float(found.get("seconds", 0)) for found in self._ran_on)
        self._began = self._saved = time.monotonic()

    @property
    def statuses(self) -> list[str]:
        """How the kept fits ended."""
        found: dict[int, str] = {}
        for table in self._tables:
            columns = (table[name].to_pylist() for name in ("replication", "status"))
            found.update(zip(*columns, strict=True))
        return [found[replication] for replication in sorted(self.kept)]

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._pending:
            with suppress(StudyError):  # a full disk: the reason to leave is told already
                self.save()

    def add(self, rows: Rows, seconds: float) -> None:
        """Take in a finished fit that took some seconds; written now or soon, by what a kill
        would lose.
        """
        self._pending += rows
        self._fits += 1
        now = time.monotonic()
        long = seconds > LONG
        # The first fit of a process also waits for imports.
        self._long = self._long or (long and self._fits > 1)
        if long or now - self._saved > max(EVERY, _SHARE * self._cost):
            self.save()
        else:
            self._journal.add(rows)

    def save(self) -> None:
        """Write all that there is.

        Raises
        ------
        StudyError
            If that is impossible, such as on a full disk.
        """
        began = time.monotonic()
        write_parquet(self._table(), self.file)
        self._journal.clear()
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def finish(self, *, until_collected: bool) -> pa.Table:
        """Write the batch's own file.

        Parameters
        ----------
        until_collected : bool
            Whether the checkpoint of a batch that took long stays until `discard`.

        Returns
        -------
        pyarrow.Table
            The estimates of the batch.
        """
        long = self._long or bool(self.kept) or time.monotonic() - self._began > EVERY
        table = self._table()
        if until_collected and long:
            write_parquet(table, self.file)
        write_parquet(table, self.path)
        self._journal.clear()
        if not (until_collected and long):
            self.file.unlink(missing_ok=True)
            _remove_if_empty(self.file.parent)
        return table

    def _table(self) -> pa.Table:
        """All fits in the order of replications."""
        if self._pending:
            self._tables.append(estimates_table(self._pending, {}))
            self._pending = []
        # The kept ones may lie anywhere among the others.
        whole = pa.concat_tables([ESTIMATES.empty_table(), *self._tables])
        order = np.argsort(whole["replication"].to_numpy(), kind="stable")
        whole = whole.take(pa.array(order)).combine_chunks()
        self._tables = [whole]
        return whole.replace_schema_metadata({f"rmm.{k}": v for k, v in self._said().items()})

    def _said(self) -> dict[str, str]:
        """The metadata: of a batch that was whole already, what they were."""
        if not self._fits and len(self._ran_on) == 1:
            (found,) = self._ran_on
            if all(found[key] == self._metadata[key] for key in ("first", "last")):
                return {**found, **self._metadata}
        here = self._facts()
        return {**self._metadata, **here, **together([*self._ran_on, {**here, **running_on()}])}

    def _take_up(self, warn: Callable[[str], None]) -> set[int]:
        """Fits of this batch in files that earlier runs left."""
        first, last = int(self._metadata["first"]), int(self._metadata["last"])
        done: set[int] = set()
        for path in sorted(self.file.parent.glob("*.*.*"), reverse=True):  # tables, then journals
            match = _FILE.fullmatch(path.name)
            if match is None or int(match[1]) > last or int(match[2]) < first:
                continue
            if match[4] == "jsonl":
                if match[3] == self._settings:
                    done |= self._take_up_journal(path, range(first, last + 1), done)
                continue
            try:
                table, found = read_estimates(path)
            except StudyError as error:
                reason = str(error).splitlines()[0]
                warn(f"{reason}\nThe file was a checkpoint; the fits in it are computed again.")
                continue
            if not made_alike(found, self._metadata):
                continue
            taken = [r for r in _replications(table) if first <= r <= last and r not in done]
            if taken:
                done.update(taken)
                self._ran_on.append(found)
                here = np.isin(table["replication"].to_numpy(), taken)
                self._tables.append(table.filter(pa.array(here)).replace_schema_metadata(None))
        return done

    def _take_up_journal(self, path: Path, mine: range, done: set[int]) -> set[int]:
        """Fits of this batch in a journal, those that a table has left out."""
        taken: set[int] = set()
        for rows in read_journal(path):
            replication = int(rows[0]["replication"])
            if replication in mine and replication not in done | taken:
                taken.add(replication)
                self._tables.append(estimates_table(rows, {}).replace_schema_metadata(None))
        return taken


class Journal:
    """Finished fits, a line with the digest and the JSON of each, written when they end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def add(self, rows: Rows) -> None:
        """Append a fit; where that is impossible, the next table will say so."""
        with suppress(OSError):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK
                self._file = os.fdopen(os.open(self.path, flags, 0o666), "a", encoding="utf-8")
            text = json.dumps(list(rows), default=lambda number: number.item())  # NumPy's
            self._file.write(f"{seeds.text_digest(text)} {text}\n")
            self._file.flush()

    def clear(self) -> None:
        """Forget all: a table has them."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)


def read_journal(path: Path) -> list[list[dict[str, Any]]]:
    """The fits of a journal; a line that a kill has cut off, or that was altered, is none."""
    fits = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        digest, _, text = line.removesuffix("\n").partition(" ")
        if digest != seeds.text_digest(text):
            continue
        try:
            rows: list[dict[str, Any]] = json.loads(text)
            estimates_table(rows, {})
            fits += [rows] * (int(rows[0]["replication"]) > 0)
        except (ValueError, TypeError, LookupError, AttributeError, pa.ArrowException):
            continue
    return fits


def _replications(table: pa.Table) -> list[int]:
    return [int(r) for r in np.unique(table["replication"].to_numpy())]


def discard(folder: str | Path, *, unfinished: bool = False) -> None:
    """Remove the checkpoints of batches that are there, and what killed writes left.

    Parameters
    ----------
    folder : path
        Results of a study of which no fit runs: it has been collected, or is about to start.
    unfinished : bool
        Whether to remove those of batches that are not there as well: all is to be fitted again.
    """
    for here in _method_folders(Path(folder)):
        with writing(here / FOLDER):
            _discard(here, unfinished=unfinished)


def _discard(here: Path, *, unfinished: bool) -> None:
    for path in here.glob(".*.parquet.*"):
        path.unlink(missing_ok=True)
    covered = _covered(here)
    if (here / FOLDER).is_symlink():  # what is there may be a user's
        (here / FOLDER).unlink()
    for path in (here / FOLDER).glob("*"):
        match = _FILE.fullmatch(path.name)
        if match is None:
            if path.name.startswith("."):  # what a killed write has left
                with suppress(OSError):  # NFS keeps what is open elsewhere (.nfs...)
                    path.unlink(missing_ok=True)
        elif unfinished or covered >= set(_between(match)):
            path.unlink(missing_ok=True)
    _remove_if_empty(here / FOLDER)


def _between(match: re.Match[str]) -> range:
    return range(int(match[1]), int(match[2]) + 1)


def _method_folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in (folder / "estimates").glob("*/*") if path.is_dir())


def _covered(here: Path) -> set[int]:
    """Replications that batches hold, by their names."""
    found: set[int] = set()
    for path in here.glob("*-*.parquet"):
        first, _, last = path.stem.partition("-")
        if first.isdigit() and last.isdigit():
            found.update(range(int(first), int(last) + 1))
    return found


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
