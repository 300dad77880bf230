"""The workflow in a folder of its own, for tests that start it as a user does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests import ROOT

#: What clocks say, which differs between two runs.
TIMINGS = ("seconds", "ess_per_second")
STUDY: dict[str, Any] = {
    "title": "Tiny",
    "seed": 1,
    "replications": 6,
    "batch": 3,
    "membership": {"kind": "synthetic", "groups": 20, "members": 10, "size": 2},
    "covariates": {"x": {"level": "member"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1, "sigma_l2": 1},
    },
    "methods": [{"name": "aggregation", "kind": "aggregation", "backend": "ols"}],
    "estimands": [{"parameter": "b_l1[x]"}],
}
#: A method of the fake engine, which never converges badly.
FAKED: dict[str, Any] = {
    "name": "faked",
    "kind": "mm",
    "backend": "fake",
    "sampler": {"chains": 2, "warmup": 5, "draws": 20},
    "gate": {"rhat": 9, "ess_per_chain": 0},
}


class Project:
    """A copy of the workflow and one study, `tiny`.

    Parameters
    ----------
    folder : path
        Where; made if it is not there.
    study : mapping
        What differs from `STUDY`.
    results : path, optional
        Where results go; default: in the folder.
    """

    def __init__(self, folder: Path, results: Path | None = None, **study: Any) -> None:
        self.folder = folder
        self.file = folder / "config" / "studies" / "tiny.yaml"
        self.results = (results or folder / "results") / "tiny"
        self.file.parent.mkdir(parents=True)
        for name in ("Snakefile", "pyproject.toml", "config/config.yaml"):
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / "workflow", folder / "workflow")
        (folder / "profiles").symlink_to("workflow/profiles")
        self.file.write_text(yaml.safe_dump({**STUDY, **study}, sort_keys=False))

    def command(self, *more: str) -> list[str]:
        """A Snakemake on the study; `more`: targets and options."""
        found = [sys.executable, "-m", "snakemake", "--cores", "2", *more, "--config", "study=tiny"]
        return [*found, f"results={self.results.parent}"]

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        """Start a run as the leader of a process group, its output in one pipe."""
        return subprocess.Popen(
            self.command(*more),
            cwd=self.folder,
            env=_env(environment),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def run(self, *more: str, fails: bool = False, **environment: str) -> str:
        """Run the study to its end; what was said."""
        run = self.start(*more, **environment)
        said, _ = run.communicate()
        assert (run.returncode != 0) == fails, said
        return said

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a Python file of the workflow."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=_env({}),
            capture_output=True,
            text=True,
            check=False,
        )

    def batches(self) -> list[Path]:
        """Files of finished batches."""
        return sorted((self.results / "estimates").glob("*/*/*.parquet"))

    def estimates(self) -> pd.DataFrame:
        """The collected estimates, without timings."""
        return without_timings(self.results / "estimates.parquet")

    def logs(self) -> str:
        """All logs of jobs, one after the other."""
        return "\n".join(p.read_text() for p in sorted((self.results / "logs").rglob("*.log")))


def _env(changes: dict[str, str]) -> dict[str, str]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, "PYTHONPATH": str(ROOT), **single, **changes}


def without_timings(path: Path) -> pd.DataFrame:
    """A table of results without what clocks say."""
    table = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
    return table[~table["measure"].isin(TIMINGS)] if "measure" in table else table


def lay_out_environment(folder: Path) -> Path:
    """A virtual environment with the packages of this one; returns its Python."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    python = folder / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    return python
