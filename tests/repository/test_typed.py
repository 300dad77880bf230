"""The public names and their types, as users and their type checkers see them."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

SCRIPT = ROOT / "tests" / "typed_script.py"
#: Lines that a type checker must refuse, and what its message contains.
WRONG = {
    "rmm.fit(1, data)": "str",
    "rmm.nothing": "nothing",
    "fit.nothing": "nothing",
    "rmm.study.nothing": "nothing",
    "rmm.pool(fit)": "Fit",
    "number: int = rmm.compare({})": "DataFrame",
}


def written(folder: Path) -> tuple[Path, Path, int]:
    """The script, one with wrong lines, and where these start; in a folder of their own."""
    text = SCRIPT.read_text(encoding="utf-8")
    right, wrong = folder / "right.py", folder / "wrong.py"
    right.write_text(text, encoding="utf-8")
    wrong.write_text(text + "\n".join(["import rmm.study", *WRONG, ""]), encoding="utf-8")
    return right, wrong, text.count("\n") + 2


def refused(output: str, first: int) -> dict[int, str]:
    """Line, counted among the wrong ones -> message of an error."""
    found = re.findall(r"wrong\.py:(\d+):?\d*:? -? ?error: (.*)", output)
    return {int(line) - first: message for line, message in found}


def check_script(folder: Path, *checker: str) -> None:
    """Have a type checker check the script."""
    right, wrong, first = written(folder)

    def run(file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*checker, file.name], cwd=folder, capture_output=True, text=True, timeout=900
        )

    accepted = run(right)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    errors = refused(run(wrong).stdout, first)
    assert sorted(errors) == list(range(len(WRONG))), errors
    for message, words in zip(dict(sorted(errors.items())).values(), WRONG.values(), strict=True):
        assert words in message


@pytest.mark.thorough
def test_mypy_knows_the_public_names_from_outside(tmp_path: Path) -> None:
    check_script(tmp_path, sys.executable, "-m", "mypy", "--strict")


@pytest.mark.parametrize("name", ["rmm", "rmm.study"])
def test_dir_has_every_public_name_before_it_is_used(name: str) -> None:
    """In a process of its own: names that others have used are globals of the module."""
    code = f"import {name}; print(*dir({name})); print(*{name}.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, public = (line.split() for line in done.stdout.splitlines())
    assert listed == sorted(set(listed))
    assert set(public) <= set(listed)


@pytest.mark.parametrize("name", ["rmm", "rmm.study"])
def test_every_name_that_dir_has_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert set(module._LAZY) <= set(module.__all__)
    for each in dir(module):
        assert getattr(module, each) is not None or each == "__doc__"
