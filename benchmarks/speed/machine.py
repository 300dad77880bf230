"""The machine: one core, CPU seconds of child processes, versions of what is measured."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Libraries of linear algebra use one thread.
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
PACKAGES = ("numpy", "scipy", "pandas", "snakemake")


def use_one_core() -> None:
    """Keep this process and its children on one core, where the system can do so."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def environment(checkout: Path = ROOT) -> dict[str, str]:
    """Return the variables of child processes: a checkout's package, bytecode, one thread."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **ONE_THREAD, "PYTHONPATH": f"{checkout}{os.pathsep}{ROOT}"}


def python_of(checkout: Path) -> str:
    """Return the Python of a checkout's own environment; of this one, the running Python."""
    return sys.executable if checkout == ROOT else str(checkout / ".venv" / "bin" / "python")


def cpu_of_children() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_module(module: str, *words: object, checkout: Path = ROOT) -> str:
    """Run a module of this benchmark, with the package of a checkout, and return its last line."""
    command = [python_of(checkout), "-m", f"benchmarks.speed.{module}", *map(str, words)]
    done = subprocess.run(
        command,
        cwd=checkout,
        env=environment(checkout),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def commit(checkout: Path = ROOT) -> str:
    """Return the last commit that changed the package; a plus sign marks changes since then."""
    paths = ("--", "rmm", "workflow")
    log = ["git", "log", "-1", "--abbrev=10", "--format=%h", *paths]
    changed = _output(["git", "status", "--porcelain", *paths], checkout)
    return (_output(log, checkout) or "no git") + ("+" if changed else "")


def versions(others: Sequence[str] = ()) -> str:
    """Return the processor and the versions of Python, its packages and other programs."""
    packages = [f"{name} {version(name)}" for name in PACKAGES]
    return ", ".join([_processor(), f"Python {platform.python_version()}", *packages, *others])


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _output(command: list[str], checkout: Path) -> str:
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip()
