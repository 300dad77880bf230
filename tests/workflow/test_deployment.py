"""The workflow in a folder that snakedeploy writes, and profiles that are not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.workflow.test_workflow import STUDY, lay_out

#: As snakedeploy 0.17 writes it, but for the place of the repository, which is local here.
DEPLOYED = """\
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


module rmm:
    snakefile:
        gitfile({repository!r}, path="workflow/Snakefile", ref="main")
    config:
        config


use rule * from rmm
"""


def dry_run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *options]
    return subprocess.run(
        [*command, "--config", "study=tiny"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_catalog_finds_what_it_needs() -> None:
    """Standardized usage: these three files; the flags are what our configuration takes."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()
    found = re.fullmatch(r"--config study=(\w+)", usage["mandatory-flags"]["flags"])
    assert found
    study = found[1]
    assert (ROOT / "config" / "studies" / f"{study}.yaml").is_file()


def test_a_deployed_workflow_takes_its_rules_from_git(tmp_path: Path) -> None:
    """Rules, schemas and scripts come from a commit; the folder has configuration alone."""
    repository, folder = tmp_path / "repository", tmp_path / "deployed"
    shutil.copytree(ROOT / "workflow", repository / "workflow", symlinks=False)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(repository)]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    for name in ("config", "profiles"):  # what snakedeploy copies
        shutil.copytree(ROOT / name, folder / name)
    (folder / "config" / "studies" / "tiny.yaml").write_text(STUDY)
    (folder / "workflow").mkdir()
    (folder / "workflow" / "Snakefile").write_text(DEPLOYED.format(repository=str(repository)))
    done = dry_run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This was a dry-run" in done.stdout + done.stderr
    assert "results/tiny/report/index.html" in done.stdout


@pytest.mark.parametrize("name", ["nowhere", "profiles/nowhere"])
def test_a_profile_that_is_not_there_stops_snakemake(name: str, tmp_path: Path) -> None:
    """Snakemake ignores it, and would run a study for a cluster on this computer."""
    lay_out(tmp_path, STUDY)
    done = dry_run(tmp_path, "--workflow-profile", name)
    assert done.returncode != 0
    assert f"--workflow-profile {name}: there is no such profile" in done.stdout + done.stderr


def test_a_profile_has_a_path_or_a_name(tmp_path: Path) -> None:
    lay_out(tmp_path, STUDY)
    for named in ("own", "profiles/own"):
        (tmp_path / "profiles" / "own").mkdir(parents=True, exist_ok=True)
        (tmp_path / "profiles" / "own" / "config.yaml").write_text("keep-going: true\n")
        done = dry_run(tmp_path, "--workflow-profile", named)
        assert done.returncode == 0, done.stderr


def test_a_profile_lies_where_snakemake_was_started(tmp_path: Path) -> None:
    """Snakemake finds it before `--directory` takes it to another folder."""
    there = tmp_path / "there"
    there.mkdir()
    lay_out(there, STUDY)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.yaml").write_text("keep-going: true\n")
    file, words = there / "workflow" / "Snakefile", ["--directory", str(there)]
    done = dry_run(tmp_path, "-s", str(file), *words, "--workflow-profile", "own")
    assert done.returncode == 0, done.stderr
    assert "workflow specific profile own" in done.stderr
    done = dry_run(tmp_path, "-s", str(file), *words, "--workflow-profile", str(tmp_path / "no"))
    assert done.returncode != 0
    assert "there is no such profile" in done.stdout + done.stderr


#: A rule of the user's beside the rules of the package, and a script with a module of its own.
PLOTTED = """\
configfile: "config/config.yaml"


module rmm:
    snakefile:
        {snakefile!r}
    config:
        config


use rule * from rmm


rule plot:
    input:
        "results/tiny/config.yaml",
    output:
        "plot.txt",
    params:
        python={python!r},
    shell:
        "{{params.python:q}} -c 'import colours; print(colours.RED)' > {{output}}"
"""


@pytest.mark.parametrize("included", [True, False])
def test_rules_of_a_user_import_what_lies_in_their_folder(tmp_path: Path, included: bool) -> None:
    """Jobs of the package do not (`rmm.study.run.log`); other rules are the user's."""
    lay_out(tmp_path, STUDY)
    text = PLOTTED.format(snakefile=str(tmp_path / "workflow/Snakefile"), python=sys.executable)
    if included:
        text = 'include: "workflow/Snakefile"' + text[text.index("\n\n\nrule plot") :]
    (tmp_path / "Snakefile").write_text(text)
    (tmp_path / "colours.py").write_text("RED = 'red'\n")
    command = [sys.executable, "-m", "snakemake", "plot.txt", "--cores", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*command, "--config", "study=tiny"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "plot.txt").read_text() == "red\n"
