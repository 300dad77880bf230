"""The README's fit runs as printed and gives the printed result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def means(table: str) -> dict[str, float]:
    rows = re.findall(r"^((?:b|sigma)_\S+) +(-?[\d.]+)", table, re.MULTILINE)
    return {name: float(mean) for name, mean in rows}


def test_the_fit_of_the_readme(tmp_path: Path) -> None:
    """Means to 0.04, five Monte Carlo errors: other processors may round otherwise."""
    script = tmp_path / "readme.py"
    script.write_text(block("python"), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr
    shown, printed = means(run.stdout), means(block("text"))
    assert len(printed) == 6
    assert shown == pytest.approx(printed, abs=0.04)
