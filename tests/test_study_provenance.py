"""What results say about where they come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import rmm
from rmm.study import load_study
from rmm.study.provenance import commit, provenance

ROOT = Path(__file__).parents[1]


def test_a_record_names_study_code_and_versions() -> None:
    study = load_study(ROOT / "config" / "studies" / "quickstart.yaml")
    found = provenance(study)
    assert (found["study"], found["seed"]) == ("quickstart", study.seed)
    assert found["rmm"] == rmm.__version__
    assert {"numpy", "statsmodels", "snakemake"} <= set(found["packages"])
    assert found["lock"] is not None
    assert len(found["lock"]) == 64


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
