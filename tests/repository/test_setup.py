"""The set-up scripts and the Makefile, on a copy with a made-up PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

FILES = (
    "CMakeLists.txt",
    "Makefile",
    "pyproject.toml",
    "requirements.lock",
    "requirements-uv.lock",
)
# What the scripts call; nothing else is on the made-up PATH.
PROGRAMS = (
    "sh",
    "make",
    "cat",
    "dirname",
    "basename",
    "rm",
    "mkdir",
    "sleep",
    "chmod",
    "mktemp",
    "find",
    "awk",
    "sed",
)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what sets the project up, in a folder with an unusual name."""
    folder = tmp_path / "a user's project (ä)"
    (folder / "config" / "studies").mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "tools", folder / "tools")
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None, f"{name} is not on PATH"
        (tmp_path / "bin" / name).symlink_to(found)
    return folder


def put_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(project: Path, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    home = project.parent / "home"
    environment = {"PATH": str(project.parent / "bin"), "HOME": str(home), **extra}
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=120
    )


def complete(project: Path) -> Path:
    """Mark the copy's .venv as complete; gives the path for its python."""
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (project / ".venv" / ".complete").write_text(f"{project.resolve()}\n")
    return python


def test_no_python_at_all_is_told(project: Path) -> None:
    result = run(project, "make", "env")
    assert result.returncode != 0
    assert "rmm needs Python 3.12, 3.13 or 3.14" in result.stderr
    assert "nothing is there" in result.stderr
    assert "make env PYTHON=" in result.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("target", ["study", "test", "lint"])
def test_every_target_sets_up_first(project: Path, target: str) -> None:
    result = run(project, "make", target)
    assert result.returncode != 0
    assert "rmm needs Python" in result.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("echo '3.9 old'", "Python 3.9"),
        ("echo '3.16 new'", "Python 3.16"),
        ("echo '3.12 bare'", "Python 3.12, but without its venv module"),
        ("exit 127", "does not start"),
    ],
)
def test_unfit_python_is_named_with_its_fault(project: Path, answer: str, said: str) -> None:
    put_script(project.parent / "bin" / "python3", answer)
    result = run(project, "make", "env")
    assert result.returncode != 0
    assert f"python3: {said}" in result.stderr
    assert "pyenv install 3.13" in result.stderr


def test_first_fit_python_is_taken(project: Path) -> None:
    put_script(project.parent / "bin" / "python3", "echo '3.11 old'")
    (project.parent / "bin" / "python3.12").symlink_to(sys.executable)
    result = run(project, "tools/set-up", "--find-python")
    assert (result.returncode, result.stdout.strip()) == (0, "python3.12")


def test_python_of_pyenv_is_found(project: Path) -> None:
    python = project.parent / "home" / ".pyenv" / "versions" / "3.13.1" / "bin" / "python3"
    put_script(python, f'exec "{sys.executable}" "$@"')
    result = run(project, "tools/set-up", "--find-python")
    assert (result.returncode, result.stdout.strip()) == (0, str(python))


def test_python_named_by_the_user_is_the_only_candidate(project: Path) -> None:
    (project.parent / "bin" / "python3.13").symlink_to(sys.executable)
    result = run(project, "make", "env", PYTHON="no/such/python")
    assert result.returncode != 0
    assert "Looked at (no/such/python): nothing is there" in result.stderr


def test_a_linked_environment_of_another_folder_is_not_touched(project: Path) -> None:
    other = project.parent / "other"
    (other / "bin").mkdir(parents=True)
    (other / ".complete").write_text("/somewhere/else\n")
    (project / ".venv").symlink_to(other)
    put_pretender(project)
    result = run(project, "make", "env")
    assert result.returncode != 0
    assert f".venv is a link to {other}" in result.stderr
    assert "rm .venv" in result.stderr
    assert (other / ".complete").read_text() == "/somewhere/else\n"
    assert not (other / "bin" / "python").exists()


def put_pretender(project: Path, pip_status: int = 0) -> None:
    """A Python 3.13 that makes a .venv whose own python does nothing and exits with a status."""
    inner = (
        f'printf "#!/bin/sh\\nexit {pip_status}\\n" >.venv/bin/python; chmod +x .venv/bin/python; '
        'printf "#!/bin/sh\\n" >.venv/bin/cmake; chmod +x .venv/bin/cmake'
    )
    put_script(
        project.parent / "bin" / "python3",
        f'case "$*" in -) echo "3.13 ok";; *venv*) mkdir -p .venv/bin; {inner};; esac',
    )


def test_failed_installation_leaves_no_marker_and_says_so(project: Path) -> None:
    put_pretender(project, pip_status=1)
    result = run(project, "make", "env")
    assert result.returncode != 0
    assert "trying pip" in result.stderr
    assert "could not be installed" in result.stderr
    assert not (project / ".venv" / ".complete").exists()


def installs(project: Path) -> subprocess.CompletedProcess[str]:
    put_pretender(project)
    return run(project, "make", "env")


def test_missing_compiler_is_told_and_stops_nothing(project: Path) -> None:
    result = installs(project)
    assert result.returncode == 0, result.stderr
    assert "no C++ compiler" in result.stderr
    assert "apt-get install g++" in result.stderr
    assert (project / ".venv" / ".complete").read_text().strip() == str(project.resolve())


def test_a_compiler_is_not_remarked_upon(project: Path) -> None:
    put_script(project.parent / "bin" / "clang++", "exit 0")
    assert "compiler" not in installs(project).stderr


def test_set_up_runs_again_only_when_the_lock_changes(project: Path) -> None:
    assert "Done" in installs(project).stderr
    assert installs(project).stderr == ""
    lock = project / "requirements.lock"
    later = (project / ".venv" / ".complete").stat().st_mtime + 10
    os.utime(lock, (later, later))
    assert "The lock or pyproject.toml has changed" in installs(project).stderr


def test_moved_folder_is_set_up_anew(project: Path) -> None:
    installs(project)
    (project / ".venv" / ".complete").write_text("/elsewhere\n")
    assert "Setting up .venv" in installs(project).stderr


def test_study_is_run_by_rmm(project: Path) -> None:
    """What it says is tested with `rmm study run`."""
    complete(project)
    put_script(project / ".venv" / "bin" / "rmm", 'echo "asked: $*"')
    result = run(project, "make", "study", "STUDY=mine", "CORES=3")
    assert result.returncode == 0, result.stderr
    assert "asked: study run mine --cores 3 --size full" in result.stdout


def test_failed_study_fails(project: Path) -> None:
    (project / "config" / "studies" / "mine.yaml").write_text("")
    complete(project)
    put_script(project / ".venv" / "bin" / "rmm", "exit 1")
    result = run(project, "make", "study", "STUDY=mine")
    assert result.returncode != 0
    assert "Report:" not in result.stdout


def test_help_names_the_two_commands(project: Path) -> None:
    result = run(project, "make")
    assert result.returncode == 0
    assert "make study" in result.stdout
    assert "make test" in result.stdout
    assert not (project / ".venv").exists()
