"""One precompiled header for many Stan programs: made when it pays off, removed afterwards.

Reading Stan's headers is a quarter of a compilation. A precompiled header saves that, but costs
as much as a compilation and needs 800 MB of disk. So it is made only while many programs are
compiled in one go: `shared_header`. It changes no executable.

A folder ``header-*`` in the CmdStan home contains it. Its owner holds a lock beside it; a folder
whose owner was killed is removed when the next program is compiled.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from rmm.backends.stan.install import CmdStan, command_words, compiler, find_cmdstan
from rmm.errors import BackendError

#: With fewer programs a header costs more than it saves.
PAYS_FROM = 5
#: If their number is unknown: programs compiled without a header before it is made.
_BEFORE = 2
#: Names the folder for this process and those that it starts.
_VARIABLE = "RMM_STAN_HEADER"
_HEADER = "stan/model/model_header.hpp.gch"
_BYTES = 2_000_000_000  # free disk that is wanted


@contextlib.contextmanager
def shared_header(programs: int | None = None) -> Iterator[None]:
    """Let the compilations in the body, and in processes that it starts, share a header.

    Does nothing with another compiler than GCC, with the user's own CmdStan, with little disk space
    or inside another `shared_header`.

    Parameters
    ----------
    programs : int, optional
        How many programs will be compiled. Below `PAYS_FROM` nothing is done. If it is not known,
        the header is made for the third program.
    """
    home = _home() if programs is None or programs >= PAYS_FROM else None
    if home is None:
        yield
        return
    folder = home / f"header-{secrets.token_hex(4)}"
    with _locked(_owner_lock(folder)):
        try:
            folder.mkdir()
            (folder / "before").write_text(str(_BEFORE if programs is None else 0))
            os.environ[_VARIABLE] = str(folder)
            yield
        finally:
            os.environ.pop(_VARIABLE, None)
            _remove(folder)


def header_for(cmdstan: CmdStan, make: Callable[[str], None]) -> str | None:
    """The folder of the header that a program is to be compiled with, or None.

    Parameters
    ----------
    cmdstan : CmdStan
    make : callable
        Makes a target in the folder of `cmdstan`; called if the header is wanted and not yet there.
    """
    remove_abandoned(cmdstan.path)
    named = os.environ.get(_VARIABLE)
    folder = Path(named) if named else None
    if folder is None or folder.parent != cmdstan.path or not folder.is_dir():
        return None
    with _locked(folder / "header.lock"):
        before = int((folder / "before").read_text())
        if before != 0:  # -1: it could not be made
            (folder / "before").write_text(str(max(-1, before - 1)))
            return None
        if not (folder / _HEADER).is_file():
            (folder / _HEADER).parent.mkdir(parents=True, exist_ok=True)
            try:
                make(f"{folder.name}/{_HEADER}")
            except BackendError:  # such as a disk that is full
                (folder / "before").write_text("-1")
                return None
    return folder.name


def remove_abandoned(home: Path) -> None:
    """Remove headers whose owner no longer runs."""
    for folder in home.glob("header-*/"):
        with contextlib.suppress(filelock.Timeout), _locked(_owner_lock(folder), timeout=0):
            _remove(folder)


def _home() -> Path | None:
    """Where a header is to be made; None where none can be, or one is in use."""
    if _VARIABLE in os.environ:
        return None
    try:
        cmdstan = find_cmdstan()
    except BackendError:
        return None
    remove_abandoned(cmdstan.path)
    home, enough = cmdstan.path, shutil.disk_usage(cmdstan.path).free >= _BYTES
    return home if cmdstan.built and enough and os.access(home, os.W_OK) and _is_gcc() else None


def _is_gcc() -> bool:
    command = [*command_words(compiler()), "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return "Free Software Foundation" in shown.stdout


def _locked(path: Path, timeout: float = -1) -> filelock.BaseFileLock:
    return filelock.FileLock(path, timeout=timeout)


def _owner_lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(folder: Path) -> None:
    """Called with the owner's lock."""
    shutil.rmtree(folder, ignore_errors=True)
    _owner_lock(folder).unlink(missing_ok=True)
