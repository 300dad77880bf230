"""Where results come from: versions, machine, code and study, as one plain record."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rmm
from rmm.study import addresses

if TYPE_CHECKING:
    from rmm.study.config import Study

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


def provenance(study: Study) -> dict[str, Any]:
    """Everything about this machine and code that a reader of results may ask for.

    Returns
    -------
    dict
        study, seed, digest (of the resolved study file), rmm, commit (with ``+changes`` where
        files differ from it; None outside a checkout), lock (SHA-256 of requirements.lock; None
        without one), python, system, processor, packages (name -> version).
    """
    lock = study.root / _LOCK
    return {
        "study": study.name,
        "seed": study.seed,
        "digest": addresses.digest(dict(study.config)),
        "rmm": rmm.__version__,
        "commit": commit(study.root),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


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
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
