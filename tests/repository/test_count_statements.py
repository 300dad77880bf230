"""tools/count-statements counts logical statements without docstrings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import ROOT

TOOL = ROOT / "tools" / "count-statements"
SOURCE = '''"""A module."""

import os


def call(
    value: int,
) -> int:
    """Say nothing."""
    "kept: no docstring"
    if value:
        return 1; os
    return (
        2
    )
'''


def count(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_statements_are_counted_by_package(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text(SOURCE)
    (tmp_path / "inner" / "b.py").write_text("x = 1\n" * 1000)
    done = count(tmp_path)
    assert done.returncode == 0
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    inner = str(tmp_path / "inner")
    assert lines == [["7", str(tmp_path)], ["1,000", inner], ["1,007", "in all"]]
    assert count(tmp_path / "a.py").stdout.splitlines()[-1].split() == ["7", "in", "all"]


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = count(tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr == f"There is no {tmp_path / 'none'}.\n"
