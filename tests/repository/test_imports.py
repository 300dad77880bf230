"""What is imported for what: modules are counted, as seconds depend on the machine.

`python -m benchmarks.overhead` measures the seconds.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

STUDY = f"load_study({str(ROOT / 'config' / 'studies' / 'quickstart.yaml')!r})"
#: What takes a tenth of a second and more.
HEAVY = (
    "pandas",
    "scipy.stats",
    "scipy.optimize",
    "scipy.sparse",
    "xarray",
    "arviz_base",
    "arviz_stats",
    "statsmodels",
    "matplotlib",
    "snakemake",
    "pyjags",
    "cmdstanpy",
    "polars",
)


def imported(code: str) -> set[str]:
    show = "import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "not_even"),
    [
        ("import rmm", ("numpy", "scipy", "pyarrow")),
        ("from rmm.cli import parser; parser().format_help()", ("numpy", "scipy", "pyarrow")),
        (f"from rmm.study import load_study, run_batch; {STUDY}", ("rmm.study.methods.bayesian",)),
    ],
    ids=["rmm", "rmm --help", "a study file"],
)
def test_nothing_heavy_is_imported_before_it_is_used(code: str, not_even: tuple[str, ...]) -> None:
    assert imported(code) & {*HEAVY, *not_even} == set()


def test_a_regression_needs_no_engine_and_an_engine_no_regression() -> None:
    """A job of a study imports what its own method needs."""
    fit = (
        "from rmm.study import load_study\n"
        "from rmm.study.run.replicate import make_task\n"
        "from rmm.study.methods.fit_task import fit_task\n"
        f"study = {STUDY}\n"
        "task = make_task(study, study.scenarios[0], study.method({!r}), 1)\n"
        "assert fit_task(task).status == 'ok', fit_task(task).message"
    )
    classical = imported(fit.format("aggregation"))
    assert "statsmodels" in classical
    assert (
        classical & {"arviz_stats", "xarray", "rmm.fitting.pipeline", "snakemake", "matplotlib"}
        == set()
    )


def test_a_job_of_an_engine_does_without_what_others_need(tmp_path: Path) -> None:
    text = (ROOT / "config" / "studies" / "quickstart.yaml").read_text()
    (tmp_path / "one.yaml").write_text(text.replace("backend: laplace", "backend: fake"))
    job = imported(
        "from rmm.study import load_study, run_batch\n"
        f"study = load_study({str(tmp_path / 'one.yaml')!r})\n"
        f"path = {str(tmp_path / 'r/estimates/s/m/1-1.parquet')!r}\n"
        "run_batch(study, study.scenarios[0].id, 'mmmm', 1, 1, path)"
    )
    assert not {"arviz_stats", "scipy.stats"} & job, "half of a second that no fit needs"
    assert "pandas" in job
    assert job & {"statsmodels", "matplotlib", "snakemake", "polars", "pyjags"} == set()


def test_a_fit_by_laplace_needs_no_scipy_stats() -> None:
    assert "scipy.stats" not in imported(
        "import rmm\n"
        "from tests.coalitions import made_up_coalitions as table\n"
        "text = 'y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)'\n"
        "rmm.fit(text, table(), backend='laplace', progress=False).summary()"
    )


def late_imports(path: Path) -> list[tuple[int, str]]:
    """Line and text of the first of each run of imports that stand inside a function."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {
        node.lineno: node.end_lineno or node.lineno
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    ends = set(found.values())
    return [(line, lines[line - 1]) for line in sorted(found) if line - 1 not in ends]


def test_an_import_inside_a_function_has_its_reason_beside_it() -> None:
    """In its line, or in the comment directly above: an absent extra, or time at the start."""
    number, without = 0, []
    for path in sorted((ROOT / "rmm").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for line, text in late_imports(path):
            number += 1
            if "#" not in text and not lines[line - 2].strip().startswith("#"):
                without.append(f"{path.relative_to(ROOT)}:{line}")
    assert number > 20, "the search finds the imports"
    assert without == []
