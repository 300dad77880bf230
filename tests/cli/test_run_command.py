"""`rmm study init` and `rmm study run`: what is written, what Snakemake is asked, what is said."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from rmm.backends.base import Availability
from rmm.cli import main, run_command
from rmm.study import load_study, snakefile
from rmm.study.files import workflow_files
from tests import ROOT
from tests.projects import STUDY

pytest.importorskip("snakemake", reason="the extra `study` is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A present folder with a blank in its name, with the study `tiny`."""
    here = tmp_path / "my studies (ä)"
    here.mkdir()
    (here / "tiny.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Programs that would have been run; each writes a report."""
    found: list[list[str]] = []

    def wait(words: Any, environment: Any, *output: Any) -> int:
        found.append([str(word) for word in words])
        if "snakemake" in words:
            report = Path("results/tiny/report/index.html")
            report.parent.mkdir(parents=True, exist_ok=True)
            if not report.exists():
                report.touch()
        return 0

    monkeypatch.setattr(run_command, "_wait", wait)
    return found


def test_a_project_has_what_a_study_needs(
    folder: Path, capsys: pytest.CaptureFixture[str], called: list[list[str]]
) -> None:
    assert main(["study", "init", "a project"]) == 0
    assert "    cd 'a project'\n    rmm study run quickstart --cores 2\n" in capsys.readouterr().out
    made = {p.relative_to("a project").as_posix() for p in Path("a project").rglob("*")}
    assert {
        "Snakefile",
        "config/config.yaml",
        "config/studies/quickstart.yaml",
        "profiles/default/config.yaml",
        "profiles/slurm/config.yaml",
        "profiles/lsf/config.yaml",
        "profiles/pbs/config.yaml",
    } <= made
    os.chdir("a project")
    assert load_study("config/studies/quickstart.yaml").name == "quickstart"
    own = ROOT / "config" / "studies" / "quickstart.yaml"
    assert Path("config/studies/quickstart.yaml").read_text() == own.read_text()


def test_no_file_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p" / "config").mkdir(parents=True)
    (folder / "p" / "config" / "config.yaml").write_text("mine")
    assert main(["study", "init", "p"]) == 2
    assert "p/config/config.yaml: this file exists already" in capsys.readouterr().err
    assert [p.name for p in (folder / "p").rglob("*") if p.is_file()] == ["config.yaml"]


def test_snakemake_gets_the_study_and_the_options(
    folder: Path, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cores", "3", "--size", "full", "--results", "results", "--allow-code"]
    assert main(["study", "run", "tiny.yaml", *words]) == 0
    (run,) = called
    config = ["study=tiny.yaml", "size=full", "results=results", "allow_code=true"]
    workflow = ["--snakefile", str(ROOT / "workflow" / "Snakefile")]
    assert run == [
        sys.executable, "-m", "snakemake", "--nolock", *workflow, "--cores", "3", "--config",
        *config,
    ]  # fmt: skip
    report = folder / "results" / "tiny" / "report" / "index.html"
    said = capsys.readouterr().out
    assert said == f"Report: results/tiny/report/index.html\n        {report.resolve().as_uri()}\n"
    (report.parent / "headline.txt").write_text("All is well.\n")
    assert main(["study", "run", "tiny.yaml"]) == 0
    again = capsys.readouterr()
    assert "Nothing to do: the study 'tiny' is complete" in again.out
    assert "\nAll is well.\n" in again.out
    assert again.err == "Study tiny: 1 scenario, 1 method. Results: results/tiny\n"


@pytest.mark.parametrize(
    ("cores", "own", "found"),
    [
        (None, [], ["--cores", "all", "--config", "a=1"]),
        ("2", ["-n"], ["--cores", "2", "-n", "--config", "a=1"]),
        (None, ["--jobs", "9"], ["--jobs", "9", "--config", "a=1"]),
        (None, ["-j9"], ["-j9", "--config", "a=1"]),
        (None, ["--workflow-profile=p"], ["--workflow-profile=p", "--config", "a=1"]),
        ("1", ["--config", "b=2", "-n"], ["--cores", "1", "--config", "a=1", "b=2", "-n"]),
        ("1", ["simulate"], ["--cores", "1", "simulate", "--config", "a=1"]),
    ],
)
def test_options_of_snakemake(cores: str | None, own: list[str], found: list[str]) -> None:
    assert run_command.snakemake_options(cores, own, ["a=1"]) == found


def test_what_comes_after_dashes_is_snakemakes(
    folder: Path, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "run", "tiny.yaml", "--cores", "1", "--", "-n", "--quiet"]) == 0
    assert "Report: results/tiny/report/index.html" in capsys.readouterr().out, "it is new"
    assert called[0][6:] == ["--cores", "1", "-n", "--quiet", "--config", "study=tiny.yaml"]
    called.clear()
    assert main(["study", "run", "tiny.yaml", "--", "--directory", "else"]) == 0
    assert capsys.readouterr().out == "", "nothing was written"
    assert called[0][-1] == f"study={folder.resolve() / 'tiny.yaml'}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workflow-profile", "profiles/nowhere"], "The profile profiles/nowhere does not exist"),
        (
            ["-n", "--workflow-profile=nowhere"],
            "nowhere/config.yaml, profiles/nowhere/config.yaml, /.*/nowhere/",
        ),
        (["--executor", "cloud"], "pip install snakemake-executor-plugin-cloud"),
        (["-e", "slurm"], r'pip install snakemake-executor-plugin-slurm.*"\.\[slurm\]"'),
        (["--workflow-profile", "mine"], "The executor slurm needs the package"),
    ],
)
def test_a_profile_or_an_executor_that_is_not_there_stops_the_run(
    words: list[str],
    message: str,
    folder: Path,
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Snakemake would ignore the profile, and run a study for a cluster on this computer."""
    installed = run_command.util.find_spec
    monkeypatch.setattr(
        run_command.util, "find_spec", lambda n: None if "executor" in n else installed(n)
    )
    (folder / "mine").mkdir()
    (folder / "mine" / "config.yaml").write_text("executor: slurm\n")
    assert main(["study", "run", "tiny.yaml", "--", *words]) == 2
    assert called == []
    assert re.search(message, capsys.readouterr().err, re.DOTALL)


def test_a_profile_beside_the_snakefile_is_found(folder: Path) -> None:
    """As Snakemake finds it, in a folder without profiles."""
    assert not (folder / "profiles").exists()
    run_command.check_profile(["--workflow-profile", "default"])


@pytest.mark.parametrize("words", [["-e", "local"], ["--workflow-profile", "none"], ["-n"], ["-e"]])
def test_other_profiles_and_executors_are_snakemakes(words: list[str]) -> None:
    run_command.check_profile(words)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("tiny", "There is no study file config/studies/tiny.yaml in .*rmm study new"),
        ("no.yaml", "no.yaml: this file does not exist"),
        ("../../x", "x: this file does not exist"),
    ],
)
def test_a_study_that_is_not_there(
    folder: Path, called: list[list[str]], named: str, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["study", "run", named]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert called == []


def test_names_are_those_of_config_studies(
    folder: Path, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config" / "studies").mkdir(parents=True)
    shutil.move("tiny.yaml", "config/studies/tiny.yaml")
    assert main(["study", "run", "tiny"]) == 0
    assert called[0][-1] == "study=config/studies/tiny.yaml"
    assert main(["study", "status", "tiny"]) == 0
    assert main(["study", "run", "other"]) == 2
    assert "Studies in config/studies: tiny." in capsys.readouterr().err


def test_an_engine_that_is_missing_is_named_before_the_run(
    folder: Path,
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method = {"kind": "mm", "backend": "jags"}
    methods = [*STUDY["methods"], {"name": "one", **method}, {"name": "two", **method}]
    Path("tiny.yaml").write_text(yaml.safe_dump({**STUDY, "methods": methods}))
    absent = Availability(False, "pyjags is not installed", "pip install pyjags")
    monkeypatch.setattr(
        "rmm.backends.find_backend", lambda name: SimpleNamespace(available=lambda: absent)
    )
    notes = list(run_command.missing_engines(load_study("tiny.yaml")))
    assert notes == [
        "Note: the engine jags does not run here (pyjags is not installed), so all fits of one, "
        "two will fail. To repair it: pip install pyjags"
    ]


def test_without_snakemake_it_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_command.util, "find_spec", lambda name: None)
    assert main(["study", "run", "tiny.yaml"]) == 2
    assert "needs the package snakemake" in capsys.readouterr().err


def test_a_failed_run_has_its_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_command, "_wait", lambda *_: 1)
    assert main(["study", "run", "tiny.yaml"]) == 1
    assert "Report" not in capsys.readouterr().out


def test_an_interrupted_program_may_end_by_itself(tmp_path: Path) -> None:
    """Ctrl-C goes to both: the program writes its last words, and they are waited for."""
    code = (
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "def leave(*_):\n"
        f"    time.sleep(0.3); Path({str(tmp_path / 'done')!r}).touch(); sys.exit(7)\n"
        "signal.signal(signal.SIGINT, leave)\n"
        f"Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    outer = (
        "import os, sys\nfrom rmm.cli.run_command import _wait\n"
        f"sys.exit(_wait([sys.executable, '-c', {code!r}], dict(os.environ)))"
    )
    run = subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT, start_new_session=True)
    until = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)  # `_wait` sets its handlers directly after the start
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) == 7
    assert (tmp_path / "done").exists()


def test_the_next_steps_of_a_new_study_work_where_it_was_written(
    folder: Path, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "new", "my study.yaml", "--replications", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [shlex.split(line, comments=True) for line in lines[1:]] == [
        ["rmm", "study", "check", "my study.yaml"],
        ["rmm", "study", "run", "my study.yaml", "--cores", "2"],
    ]
    assert main(["study", "check", "my study.yaml"]) == 0


def test_status_says_where_it_looked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "status", "tiny.yaml"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"tiny in {folder.resolve() / 'results' / 'tiny'}\n")
    assert (
        "This folder does not exist: the study was not run here. `rmm study run tiny.yaml`" in said
    )
    batch = Path("results/tiny/estimates/s0123456789/aggregation/00001-00003.parquet")
    batch.parent.mkdir(parents=True)
    batch.touch()
    Path("results/tiny_smoke").mkdir()
    assert main(["study", "status", "tiny.yaml"]) == 0
    said = capsys.readouterr().out
    assert "1 more batch of scenarios and methods that tiny.yaml does not have" in said
    assert f"Results of size smoke are in {folder.resolve() / 'results' / 'tiny_smoke'}." in said
    assert "does not exist" not in said


# --- where the workflow is ------------------------------------------------------------------------


def test_the_workflow_of_a_clone_and_of_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert snakefile() == ROOT / "workflow" / "Snakefile"
    assert workflow_files.config_folder() == ROOT / "config"
    package = tmp_path / "site-packages" / "rmm"
    (package / "workflow" / "config").mkdir(parents=True)
    (package / "workflow" / "Snakefile").touch()
    monkeypatch.setattr(workflow_files.rmm, "__file__", str(package / "__init__.py"))
    assert snakefile() == package / "workflow" / "Snakefile"
    assert workflow_files.config_folder() == package / "workflow" / "config"
    (package / "workflow" / "Snakefile").unlink()
    with pytest.raises(workflow_files.StudyError, match="The workflow of rmm is missing"):
        snakefile()


def snakemake(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


MODULE = """\
import rmm.study


module studies:
    snakefile:
        str(rmm.study.snakefile())
    config:
        {"study": "tiny.yaml"}


use rule * from studies as studies_*


rule mine:
    default_target: True
    input:
        "results/tiny/performance.parquet",
    output:
        "mine.txt",
    shell:
        "echo yes > {output:q}"
"""


@pytest.mark.thorough
def test_the_workflow_is_a_module_of_another(folder: Path) -> None:
    """With a prefix, several methods in one job, and decisions (checkpoints)."""
    second = {"name": "copies", "kind": "disaggregation", "backend": "ols"}
    target = {"measure": "bias", "parameter": "b_l1[x]", "mcse": 1e-6}
    changes = {
        "methods": [*STUDY["methods"], second],
        "stopping": {"minimum": 3, "step": 3, "targets": [target]},
    }
    Path("tiny.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))
    Path("Snakefile").write_text(MODULE)
    said = snakemake("--cores", "2")
    assert "studies_fit_0_1" in said
    assert Path("mine.txt").read_text() == "yes\n"


@pytest.mark.thorough
def test_the_workflow_has_no_lint_and_runs_with_options(folder: Path) -> None:
    assert main(["study", "init", "p"]) == 0
    os.chdir("p")
    assert "your workflow is in a good condition" in snakemake("--lint")
    shutil.move("../tiny.yaml", "config/studies/tiny.yaml")
    with Path("Snakefile").open("a") as file:
        file.write("rule mine:\n    output: 'mine.txt'\n    shell: 'touch {output}'\n")
    told = snakemake("-n", "--cores", "1", "--config", "study=tiny")
    assert re.search(r"^report +1$", told, flags=re.MULTILINE)
    assert "mine" not in told
    assert main(["study", "run", "tiny", "--cores", "2"]) == 0
    assert Path("results/tiny/report/index.html").is_file()
    assert "Nothing to be done" in snakemake("-n", "--cores", "1", "--config", "study=tiny")


@pytest.mark.thorough
def test_a_project_finds_the_commands_of_slurm(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the workflow come before the cluster's own, wherever the Snakefile is."""
    (folder / "bin").mkdir()
    (folder / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (folder / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("RMM_SLURM_PATH", raising=False)
    assert main(["study", "init", "p"]) == 0
    with Path("p/Snakefile").open("a") as file:
        file.write('import os\nprint("FOUND", os.environ["PATH"].split(":")[:2])\n')
    os.chdir("p")
    said = snakemake("-n", "--cores", "1", "--config", "study=../tiny.yaml")
    assert f"FOUND {[str(ROOT / 'workflow' / 'slurm'), str(folder / 'bin')]}" in said
