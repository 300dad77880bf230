"""A results folder is written by one run at a time, from whichever clone or machine it started.

A run notes its host and process in the folder (`.running.json`) before it plans, and removes the
note when it ends. Runs of other studies, in the same clone or not, have folders of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from rmm.errors import StudyError
from rmm.study.files.disks import writing
from rmm.study.files.environment import now

NOTE = ".running.json"
#: Environment variable of all local processes of a run: the results folder that they write.
VARIABLE = "RMM_RESULTS"
_EVERY = 2.0  # seconds between two looks at the note of another run
_WRITTEN = 0.5  # seconds in which another run has written the note that it has made
_GUARDED = 60.0  # seconds after which nobody is at taking a note over
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def claim(folder: Path, say: Callable[[str], None], every: float = _EVERY) -> None:
    """Wait until no other run writes a results folder, and note that this process does.

    The note is removed when this process exits. One that a killed run has left does not count if
    the run was on this host and none of its jobs is left. A folder that cannot be written gets no
    note: nothing in it can be changed.

    Parameters
    ----------
    folder : Path
        Results of a study; made if it is missing.
    say : callable
        Gets a line when the wait begins, and when it ends.
    every : float
        Seconds between two attempts.

    Raises
    ------
    StudyError
        If jobs of a killed run are still at work, or the disk is full.
    """
    if os.access(folder, os.F_OK) and not os.access(folder, os.W_OK):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        if problem.errno in _REFUSED:  # said when there is something to write
            return
        with writing(folder):
            raise
    waiting = False
    while (other := _try(folder)) is not None:
        if other and not waiting:
            say(_waiting(folder, other))
        waiting = waiting or bool(other)
        time.sleep(every)
    if waiting:
        say(f"{folder} is free now.")
    os.environ[VARIABLE] = str(folder.resolve())
    atexit.register(_release, folder.resolve())


def _try(folder: Path) -> dict[str, Any] | None:
    """The note of another run at work, perhaps an empty one; None if this process has its own."""
    note, me = folder / NOTE, _me(folder)
    with writing(note):
        if _create(note, me):
            return None
        found = _counting(folder, me)
        if found is not None:
            return found
        return None if _take_over(folder, me) else {}


def _counting(folder: Path, me: dict[str, Any]) -> dict[str, Any] | None:
    """The note in a folder, if its run may be at work.

    Raises
    ------
    StudyError
        If the run is over, but jobs of it are still at work.
    """
    note = folder / NOTE
    found = _read(note)
    if found is None and note.exists():
        time.sleep(_WRITTEN)
        found = _read(note)
    if found is None:
        return None if note.exists() else {}  # damaged, or gone by now
    if found.get("folder") != me["folder"]:
        return None
    if not _is_over(found):
        return found
    _check_jobs(folder)
    return None


def _take_over(folder: Path, me: dict[str, Any]) -> bool:
    """Replace a note that does not count, one process at a time; there is a note at any moment."""
    guard, new = folder / f"{NOTE}.guard", folder / f"{NOTE}.{os.getpid()}"
    if not _create(guard, me):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - guard.stat().st_mtime > _GUARDED:  # of a run that was killed then
                guard.unlink()
        return False
    try:
        if _counting(folder, me) is not None:
            return False
        _create(new, me)
        new.replace(folder / NOTE)
    finally:
        new.unlink(missing_ok=True)
        guard.unlink(missing_ok=True)
    return True


def _create(path: Path, content: dict[str, Any]) -> bool:
    """Write a file that does not exist; False if it does."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(handle, json.dumps(content).encode())
    finally:
        os.close(handle)
    return True


def _me(folder: Path) -> dict[str, Any]:
    """The note of this process; one in a copy of the folder is about another folder."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": psutil.Process().create_time(),
        "folder": folder.stat().st_ino,
        "started": now(),
    }


def _read(note: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_over(found: dict[str, Any]) -> bool:
    """Whether a run was of this host and its process is gone, or is this one."""
    if found.get("host") != socket.gethostname():
        return False
    if found.get("pid") == os.getpid():
        return True
    try:
        process = psutil.Process(found.get("pid"))
        return bool(abs(process.create_time() - float(found.get("born", 0))) > 1)
    except (psutil.Error, TypeError, ValueError):
        return True


def _waiting(folder: Path, other: dict[str, Any]) -> str:
    host = other.get("host", "another host")
    here = host == socket.gethostname()
    line = (
        f"{folder} is in use by another run: process {other.get('pid')} on "
        f"{'this host' if here else host}, since {other.get('started')}. Waiting for it to end "
        "(Ctrl-C to stop)."
    )
    if not here:
        line += f" If it is known to be dead, delete {folder / NOTE}."
    return line


def _check_jobs(folder: Path) -> None:
    """Refuse to start beside the jobs of a killed run: they outlive it, and write.

    Raises
    ------
    StudyError
    """
    jobs = [*_processes(str(folder.resolve())), *jobs_in_slurm()]
    if jobs:
        raise StudyError(
            f"A run was killed, but jobs of it may still write to {folder}:\n"
            + "".join(f"    {job}\n" for job in jobs)
            + "Wait for them or end them (those of Slurm with scancel), and run the study again."
        )


def _processes(folder: str) -> list[str]:
    """Processes of this host, other than this one, that were started to write a results folder."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            words, given = process.cmdline(), process.environ().get(VARIABLE)
        except (psutil.Error, OSError):  # of another user
            continue
        if given == folder and process.pid not in own and any("snakemake" in w for w in words[:4]):
            found.append(f"process {process.pid}: {' '.join(words)[:100]}")
    return found


def jobs_in_slurm() -> list[str]:
    """Jobs of this user that Slurm has for the present folder, waiting or running."""
    if shutil.which("squeue") is None:
        return []
    asked = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i|%T|%k|%Z"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = []
    for line in asked.stdout.splitlines():
        job, state, what, folder = line.split("|", 3)
        if os.path.realpath(folder) == os.path.realpath("."):
            found.append(f"Slurm's job {job}, {state.lower()}: {what}")
    return found


def _release(folder: Path) -> None:
    """Remove the note of this process."""
    found = _read(folder / NOTE)
    if found is not None and (found.get("host"), found.get("pid")) == (
        socket.gethostname(),
        os.getpid(),
    ):
        try:
            (folder / NOTE).unlink(missing_ok=True)
        except OSError:  # a folder that is read-only by now: the process is gone, which counts
            return
