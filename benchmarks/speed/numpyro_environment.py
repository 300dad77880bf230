"""Runs the NumPyro program (`numpyro_style.py`) in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.speed import bml_style
from benchmarks.speed.machine import ROOT, environment
from rmm.backends.base import Settings

REQUIREMENTS = ROOT / "benchmarks" / "requirements-peers.txt"
FOLDER = ROOT / "build" / "benchmark-peers"
#: What bml_style.data has for JAGS alone, by family.
FOR_JAGS = {
    "weibull": ("t", "limit", "censored"),
    "cox": ("n.times", "at.risk", "dN", "guess"),
}


def python() -> Path:
    """Return the Python of the environment, which is built at the first call."""
    found = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    marker = FOLDER / "complete"
    if not marker.exists() or marker.read_text() != REQUIREMENTS.read_text():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", str(FOLDER)], check=True)
        install = ["pip", "install", "--quiet", "--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run([*uv, *install, "--python", str(found)], check=True)
        marker.write_text(REQUIREMENTS.read_text())
    return found


def data(family: str, weights: str, table: pd.DataFrame) -> dict[str, Any]:
    """Return the arrays of the program; rows of `table` are sorted by gid."""
    found = bml_style.data(family, weights, table)
    for name in FOR_JAGS.get(family, ()):
        del found[name]
    groups = table.drop_duplicates("gid")
    found["group"] = pd.factorize(table["gid"])[0]
    if family in FOR_JAGS:
        time = groups["dur_wkb"].to_numpy(float)
        found["event"] = groups["event_wkb"].to_numpy(float)
        found |= {"time": time} if family == "weibull" else _risk_sets(time)
    return found


def _risk_sets(time: Any) -> dict[str, Any]:
    """Return the groups' order, latest first, and the last place with the same or a later time."""
    order = np.argsort(-time, kind="stable")
    last = np.searchsorted(-time[order], -time, side="right") - 1
    return {"latest_first": order, "last_at_risk": last}


def fit(
    family: str, weights: str, table: pd.DataFrame, settings: Settings, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the program prints, and its draws: name -> (chains, draws)."""
    np.savez(folder / "data.npz", **data(family, weights, table))
    program = Path(__file__).with_name("numpyro_style.py")
    files = [str(folder / "data.npz"), str(folder / "draws.npz")]
    lengths = [str(settings.warmup), str(settings.draws)]
    done = subprocess.run(
        [str(python()), "-P", str(program), family, *files, *lengths],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    with np.load(folder / "draws.npz") as draws:
        found = {name: draws[name] for name in draws.files}
    return json.loads(done.stdout.splitlines()[-1]), found
