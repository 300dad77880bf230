"""Where results come from: versions, machine, code and study, as one plain record."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm._version import __version__
from rmm.backends import find_backend
from rmm.backends.stan import install as cmdstan_home
from rmm.errors import BackendError
from rmm.study.files import seeds
from rmm.study.files.environment import now
from rmm.study.files.records import read_record, write_record
from rmm.study.methods.method import WITHOUT_ENGINE
from rmm.study.own.rscript import PROGRAM

if TYPE_CHECKING:
    from rmm.study.design.study import Study

#: Packages whose version can change a number or a page.
PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "arviz",
    "statsmodels",
    "pyjags",
    "cmdstanpy",
    "httpstan",
    "snakemake",
)
_LOCK = "requirements.lock"
_RUNS = "runs"


def provenance(study: Study) -> dict[str, Any]:
    """Everything about this machine and code that a reader of results may ask for.

    Returns
    -------
    dict
        study, seed, digest (of the resolved study file), rmm, commit (with ``+changes`` where
        files differ from it; None outside a checkout), lock (SHA-256 of requirements.lock; None
        without one), python, system, processor, cores, packages (name -> version), engines
        (backend of the study -> what it says of itself), code (what the user's code is for ->
        its name and the SHA-256 of its file), compiler (the first line of its
        ``--version``; None without one).
    """
    lock = study.root / _LOCK
    return {
        "study": study.name,
        "seed": study.seed,
        "digest": seeds.digest(dict(study.config)),
        "rmm": __version__,
        "commit": commit(study.root),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "engines": _engines(study),
        "code": {what: f"{c.written} {c.sha256}" for what, c in study.code.items()},
        "compiler": compiler(),
    }


def begin_run(study: Study, folder: Path) -> Path:
    """Write what a run of a study starts with into its results: ``runs/<start>.json``."""
    started = now()
    path = folder / _RUNS / f"{started.replace(':', '')}.json"
    record = {**provenance(study), "started": started, "ended": None, "outcome": None}
    write_record(record, path)
    return path


def end_run(path: Path, outcome: str) -> None:
    """Add when and how a run ended; a run that was killed has no end in its record."""
    record = read_record(path) or {}
    write_record({**record, "ended": now(), "outcome": outcome}, path)


def last_run(folder: Path) -> dict[str, Any]:
    """The record of the last run of a study; empty where there is none, or it was altered."""
    records = sorted((folder / _RUNS).glob("*.json"))
    return (read_record(records[-1]) or {}) if records else {}


def _engines(study: Study) -> dict[str, str]:
    attempts = [one for method in study.methods for one in method.attempts]
    names = dict.fromkeys(m.backend for m in attempts if m.backend not in WITHOUT_ENGINE)
    found = {name: find_backend(name).available().what for name in names}
    if any(m.backend == "rscript" for m in study.methods):
        found["rscript"] = _said(PROGRAM, "--version") or "not installed"
    return found


def compiler() -> str | None:
    """The C++ compiler that Stan programs are compiled with: the first line it says of itself."""
    try:
        command = cmdstan_home.compiler()
    except BackendError:
        return None
    lines = (_said(*cmdstan_home.command_words(command), "--version") or "").splitlines()
    return lines[0] if lines else command


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit(folder: Path) -> str | None:
    """The commit that a folder is checked out at, and whether tracked files differ from it."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+changes" if changes else head


def _git(folder: Path, *words: str) -> str | None:
    return _said("git", "-C", str(folder), *words)


def _said(*words: str) -> str | None:
    """What a command prints; None where there is none, or it fails."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
