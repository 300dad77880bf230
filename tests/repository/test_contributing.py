"""To add something is a file and a row: done here in a copy of the package, for toys."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package that can be changed."""
    shutil.copytree(ROOT / "rmm", tmp_path / "rmm", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def insert(file: Path, before: str, text: str) -> None:
    """Put a row into a registry."""
    source = file.read_text(encoding="utf-8")
    assert source.count(before) == 1, f"{before!r} in {file}"
    file.write_text(source.replace(before, text + before), encoding="utf-8")


def run(folder: Path, code: str) -> str:
    """What code prints with the copy of the package."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_family_is_a_file_and_a_row(copied: Path) -> None:
    families = copied / "rmm" / "families"
    source = (families / "gaussian.py").read_text(encoding="utf-8")
    toy = source.replace("GAUSSIAN = Family(", "TOY = Family(").replace('"gaussian"', '"toy"')
    (families / "toy.py").write_text(toy, encoding="utf-8")
    insert(
        families / "__init__.py",
        "from rmm.families.weibull import",
        "from rmm.families.toy import TOY\n",
    )
    insert(families / "__init__.py", "        GAUSSIAN,\n", "        TOY,\n")
    said = run(
        copied,
        "import rmm\n"
        "data = {'y': [1.0, 2.0, 3.0, 4.0, 6.0], 'x': [0.0, 1.0, 2.0, 3.0, 4.0]}\n"
        "fits = [rmm.fit('y ~ 1 + x', data, family, backend='laplace', seed=1)\n"
        "        for family in ('toy', 'gaussian')]\n"
        "assert fits[0].summary().equals(fits[1].summary())\n"
        "print(rmm.program('y ~ 1 + x', 'toy', 'jags'), rmm.program('y ~ 1 + x', 'toy', 'stan'))",
    )
    assert "toy outcome" in said
    assert "y ~ normal(eta, sigma_l2);" in said


def test_a_measure_is_a_row(copied: Path) -> None:
    insert(
        copied / "rmm" / "study" / "measures" / "measures.py",
        'Measure(\n        "convergence",',
        'Measure("toy", ("Toy", "mean(T)", "none"), False, "sample",'
        " lambda s: Value(s.estimate.mean(), 0.0, 0.0, 0.0)),\n    ",
    )
    said = run(
        copied,
        "import pandas as pd\n"
        "from rmm.study import performance\n"
        "table = pd.DataFrame({'scenario': 's', 'method': 'm', 'replication': range(1, 5),\n"
        "    'parameter': 'b', 'truth': 1.0, 'mean': [1.0, 2.0, 3.0, 6.0], 'sd': 1.0,\n"
        "    'lower': 0.0, 'upper': 9.0, 'p_value': 0.5, 'status': 'ok', 'seconds': 1.0})\n"
        "print(performance(table, measures=['toy'], baseline='m')['value'].iloc[0])",
    )
    assert float(said) == 3.0


def test_a_kind_of_method_is_a_row(copied: Path) -> None:
    insert(
        copied / "rmm" / "study" / "methods" / "method.py",
        '"choice": Kind(',
        '"toy": Kind("toy", "groups", _ANY, _flat, _MODEL, by_family=True),\n    ',
    )
    source = (ROOT / "config" / "studies" / "quickstart.yaml").read_text(encoding="utf-8")
    (copied / "toy.yaml").write_text(source.replace("kind: aggregation", "kind: toy"))
    said = run(
        copied,
        "from rmm.study import load_study, replay\n"
        "study = load_study('toy.yaml')\n"
        "method = next(m for m in study.methods if m.kind.name == 'toy')\n"
        "print(replay(study, study.scenarios[0].id, 1, method.name)[1].status)",
    )
    assert said.strip() == "ok"


def test_a_function_of_weights_is_a_row(copied: Path) -> None:
    insert(
        copied / "rmm" / "formula" / "functions.py",
        '"sqrt": Function(',
        '"toy": Function(1, lambda x: 2 * x, "(2 * {0})", "(2 * {0})"),\n    ',
    )
    said = run(
        copied,
        "import rmm\n"
        "formula = 'y ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(b1 * toy(z))), RE = FALSE)'\n"
        "print(rmm.program(formula, 'gaussian', 'jags'))\n"
        "print(rmm.program(formula, 'gaussian', 'stan'))",
    )
    assert said.count("(2 * ") >= 2
