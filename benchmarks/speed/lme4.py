"""R's lme4 on the same data sets, if it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.speed.machine import ROOT, environment

#: What to tell where lme4 is missing.
MISSING = "R with its package lme4 is missing (Debian: r-base-core r-cran-lme4)."


def available() -> bool:
    """Return whether R is installed with lme4."""
    if shutil.which("Rscript") is None:
        return False
    return _run("-e", "suppressPackageStartupMessages(library(lme4))").returncode == 0


def versions() -> list[str]:
    """Return the versions of R and lme4."""
    text = 'cat(sprintf("R %s, lme4 %s", getRversion(), packageVersion("lme4")))'
    return _run("-e", text).stdout.split(", ")


def measure(family: str, folder: Path) -> dict[str, Any]:
    """Return CPU seconds per fit of the data sets in a folder; all are fitted by one process."""
    done = _run(str(Path(__file__).with_suffix(".R")), family, str(folder))
    if done.returncode:
        raise RuntimeError(f"lme4.R has failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "fits": found["fits"],
        "cpu_seconds": found["fit"],
        "note": f"mean sigma_l1 {found['means'][-1]:.4f}; "
        f"{1000 * found['prepare']:.1f} ms for the membership matrix are not counted",
    }


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["Rscript", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
