"""The code of the README runs as printed and gives the printed result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(kind: str, heading: str = "## One fit") -> str:
    """The first block of a kind after a heading."""
    found = re.search(rf"^{heading}$.*?```{kind}\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def run(code: str, folder: Path) -> str:
    """What a script prints."""
    script = folder / "readme.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def means(table: str) -> dict[str, float]:
    rows = re.findall(r"^((?:b|sigma)_\S+) +(-?[\d.]+)", table, re.MULTILINE)
    return {name: float(mean) for name, mean in rows}


def test_the_fit_of_the_readme(tmp_path: Path) -> None:
    """Means to 0.04, five Monte Carlo errors: other processors may round otherwise."""
    shown, printed = means(run(block("python"), tmp_path)), means(block("text"))
    assert len(printed) == 6
    assert shown == pytest.approx(printed, abs=0.04)


def test_the_first_example_of_the_readme_converges(tmp_path: Path) -> None:
    printed = run(block("python", "## Try it"), tmp_path)
    assert "628 groups" in printed and ", converged (" in printed
    assert {"b_l1[finance]", "b_w[b1]", "sigma_l1", "sigma_l3"} <= set(means(printed))
