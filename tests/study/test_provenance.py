"""What results say about where they come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import rmm
from rmm.study import load_study
from rmm.study.run.provenance import begin_run, commit, end_run, last_run, provenance
from tests import ROOT


def test_a_record_names_study_code_and_versions() -> None:
    study = load_study(ROOT / "config" / "studies" / "quickstart.yaml")
    found = provenance(study)
    assert (found["study"], found["seed"]) == ("quickstart", study.seed)
    assert found["rmm"] == rmm.__version__
    assert {"numpy", "statsmodels", "snakemake"} <= set(found["packages"])
    assert found["lock"] is not None
    assert len(found["lock"]) == 64
    assert set(found["engines"]) == {"jags", "laplace"}
    assert all(found["engines"].values())


def test_a_run_leaves_its_start_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(ROOT / "config" / "studies" / "quickstart.yaml")
    assert last_run(tmp_path) == {}
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    record = begin_run(study, tmp_path)
    found = last_run(tmp_path)
    assert found["seed"] == study.seed
    assert found["compiler"] is None
    assert (found["ended"], found["outcome"]) == (None, None)
    end_run(record, "complete")
    ended = last_run(tmp_path)
    assert ended["outcome"] == "complete"
    assert ended["started"] == found["started"] <= ended["ended"]
    record.write_text("{")  # a full disk, an old version
    assert last_run(tmp_path) == {}


def test_a_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    assert commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    clean = commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == f"{clean}+changes"
