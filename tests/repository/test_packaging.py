"""What users install: wheel and sdist as `python -m build` makes them, the wheel in an empty venv.

Slow, and the environment's packages come from the index that pip is set up with.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.projects import STUDY
from tests.repository.test_typed import check_script

pytestmark = pytest.mark.packaging

#: Without an engine, a plotting library or a reader of R's files.
USE = """
import importlib.util, rmm
for name in ("pyjags", "cmdstanpy", "httpstan", "matplotlib", "snakemake"):
    assert importlib.util.find_spec(name) is None, name
data = rmm.datasets.load("coalitions").query("government <= 60")
formula = "days ~ 1 + mm(id(party, government), vars(finance), fn(w ~ 1/n), RE = TRUE)"
print(rmm.fit(formula, data, backend="laplace", seed=1, progress=False).summary().shape[0])
for backend in ("jags", "stan"):
    try:
        rmm.fit(formula, data, backend=backend, seed=1, progress=False)
    except rmm.BackendError as error:
        print(backend, error)
"""


def run(
    *command: str | Path, cwd: Path = ROOT, timeout: int = 800, **changes: str
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CMDSTAN")}
    environment |= changes
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel that was made from the sdist beside it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"warning|deprecat", done.stdout + done.stderr, re.IGNORECASE)
    return folder


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def tracked(folder: str) -> set[str]:
    listing = run("git", "ls-files", folder)
    if listing.returncode or not listing.stdout:
        pytest.skip("this is no clone: what belongs to the package is not known")
    return set(listing.stdout.splitlines())


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    package = {name for name in names if ".dist-info/" not in name}
    assert "rmm/py.typed" in package
    kernels = {name for name in package if name.endswith(".native")}
    source = {name for name in tracked("rmm") if name.endswith((".cpp", ".hpp"))}
    workflow = {f"rmm/{name}" for name in tracked("workflow") if "study.schema" not in name}
    workflow |= {
        f"rmm/workflow/config/{name}" for name in ("config.yaml", "studies/quickstart.yaml")
    }
    assert package - kernels == tracked("rmm") - source | workflow
    if shutil.which("g++"):
        assert "rmm/backends/laplace/kernels/kernels_base.native" in kernels
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_sdist_can_be_worked_with_and_holds_no_results(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = ("Makefile", "requirements.lock", "workflow/Snakefile", "config/config.yaml")
    assert tracked("rmm") | tracked("tests") | {*files} <= names
    kept = {"results", "results/.gitkeep"}
    assert not [n for n in names - kept if n.startswith(("results/", ".ci/", ".venv/"))]
    assert not [name for name in names if name.endswith((".parquet", ".rda", ".pyc"))]


def test_the_wheel_works_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """`import rmm` needs no engine; an engine that is asked for and absent is named."""
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    done = run(python, "-m", "pip", "install", "-q", only(built, "*.whl"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    version = run(python, "-c", "import rmm; print(rmm.__version__, rmm.__file__)", cwd=tmp_path)
    assert version.returncode == 0, version.stderr
    assert str(tmp_path / "empty") in version.stdout
    # A program that other tests have compiled would run without the packages.
    used = run(python, "-c", USE, cwd=tmp_path, RMM_CACHE=str(tmp_path / "cache"))
    assert used.returncode == 0, used.stderr
    assert re.search(r"^jags .*\n?.*pip install pyjags", used.stdout, re.MULTILINE), used.stdout
    assert re.search(r"^stan .*pip install httpstan cmdstanpy", used.stdout, re.MULTILINE)
    help_text = run(tmp_path / "empty" / "bin" / "rmm", "--help", cwd=tmp_path)
    assert help_text.returncode == 0, help_text.stderr
    check = run(python, "-m", "pip", "check", cwd=tmp_path)
    assert check.returncode == 0, check.stdout


@pytest.mark.timeout(2400)
def test_a_study_runs_from_the_wheel(built: Path, tmp_path: Path) -> None:
    """Without a clone; the names of environment, project and study have blanks."""
    folder = tmp_path / "somebody's folder (ä)"
    venv.create(folder / "my env", with_pip=True)
    programs = folder / "my env" / "bin"
    wheel = f"{only(built, '*.whl')}[study]"
    done = run(programs / "python", "-m", "pip", "install", "-q", wheel, cwd=folder, timeout=1500)
    assert done.returncode == 0, done.stderr
    made = run(programs / "rmm", "study", "init", "a project", cwd=folder)
    assert made.returncode == 0, made.stderr
    project = folder / "a project"
    (project / "my study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    ran = run(programs / "rmm", "study", "run", "my study.yaml", "--cores", "2", cwd=project)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Report: results/my study/report/index.html" in ran.stdout
    assert (project / "results" / "my study" / "report" / "index.html").is_file()
    again = run(programs / "snakemake", "-n", "--config", "study=my study.yaml", cwd=project)
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr
    linted = run(programs / "snakemake", "--lint", cwd=project)
    assert "in a good condition" in linted.stdout + linted.stderr
    asked = run(programs / "rmm", "study", "status", "my study.yaml", cwd=project)
    assert "done:    6 of 6 fits" in asked.stdout, asked.stdout


def test_type_checkers_know_the_installed_package(built: Path, tmp_path: Path) -> None:
    """`py.typed` is there, and no public name is unknown or of type Any by accident."""
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    checkers = ("mypy", "basedpyright", "pandas-stubs")
    done = run(python, "-m", "pip", "install", "-q", only(built, "*.whl"), *checkers, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "script"
    script.mkdir()
    check_script(script, str(python), "-m", "mypy", "--strict")
    rules = "typeCheckingMode = 'standard'\nreportPrivateImportUsage = 'error'\n"
    (script / "pyproject.toml").write_text(f"[tool.basedpyright]\n{rules}")
    check_script(script, str(python), "-m", "basedpyright", "--pythonpath", str(python))
