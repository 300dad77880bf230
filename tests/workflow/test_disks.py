"""Disks that are full or read-only, at every step of a study; modes of the files it writes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rmm.cli import main, run_command
from rmm.errors import StudyError
from rmm.study import collect, plan, write_design, write_performance
from rmm.study.files.disks import check_room
from rmm.study.manage.damage import damaged_files
from rmm.study.manage.decide import write_decision
from rmm.study.manage.kept_data import missing_data, write_data
from rmm.study.report import write_report
from rmm.study.run.batch import run_batch
from rmm.study.run.claim import NOTE
from rmm.study.run.progress import Watch
from rmm.study.run.provenance import begin_run
from tests.disks import fill, mounted, remount
from tests.projects import FAKED, Project
from tests.results import Results, finished, load

Step = Callable[[Results], Any]
STOPPING = {
    "stopping": {
        "minimum": 3,
        "step": 3,
        "targets": [{"measure": "bias", "parameter": "b_l1[x]", "mcse": 0.06}],
    }
}


def _batch(results: Results) -> None:
    job = plan(results.study)[0]
    path = results.folder / job.path
    run_batch(results.study, job.scenario, job.method, job.first, job.last, path)


def _table(results: Results, name: str) -> Path:
    return results.folder / f"{name}.parquet"


def _data(results: Results) -> None:
    (job, *_) = missing_data(results.study, results.folder)
    write_data(results.study, job.scenario, job.first, job.last, results.folder / job.path)


#: All that writes into a results folder.
STEPS: dict[str, Step] = {
    "start": lambda r: check_room(r.folder),
    "progress": lambda r: Watch(plan(r.study), r.folder).begin(),
    "provenance": lambda r: begin_run(r.study, r.folder),
    "design": lambda r: write_design(r.study, r.folder),
    "batch": _batch,
    "data": _data,
    "collect": lambda r: collect(r.study, r.batches, _table(r, "estimates")),
    "measures": lambda r: write_performance(
        r.study, _table(r, "estimates"), _table(r, "performance")
    ),
    "record": lambda r: r.end("collect", r.batches),
    "report": lambda r: write_report(r.study, r.folder),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return finished(tmp_path_factory.mktemp("original"))


@pytest.fixture
def results(original: Results, tmp_path: Path) -> Iterator[Results]:
    """Complete results on a disk of 1 MB."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        folder = disk / "tiny"
        shutil.copytree(original.folder, folder)
        yield Results(original.study, folder)


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_a_message_and_costs_no_fit(
    step: str, results: Results, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in results.folder.rglob("*.parquet")}
    if step == "batch":
        results.batches[0].unlink()
    shutil.rmtree(results.folder / "steps")  # a record would be written in the place of the old one
    filling = fill(results.folder.parent)
    with pytest.raises(StudyError) as caught:
        STEPS[step](results)
    message = str(caught.value)
    assert str(results.folder) in message
    assert "cannot be written: No space left on device.\n" in message
    assert f"The disk at {results.folder.parent} has " in message
    assert "of 1 MB free. Make room there, and run the study again; finished fits are" in message
    assert not damaged_files(results.folder)
    kept = {path: path.read_bytes() for path in results.folder.rglob("*.parquet")}
    assert kept.items() <= before.items(), "a table is what it was, or is not there"
    assert not list(results.folder.rglob(".*.parquet.*")), "no part of a file is left"
    filling.unlink()
    STEPS[step](results)


@pytest.mark.parametrize("free", [4_000, 60_000, 200_000, 300_000])
def test_a_disk_that_runs_full_during_the_report(free: int, results: Results) -> None:
    filling = fill(results.folder.parent, free)
    with pytest.raises(StudyError, match=r"report\S* cannot be written: No space left"):
        write_report(results.study, results.folder)
    assert not list((results.folder / "report").glob("*.partial"))
    filling.unlink()
    write_report(results.study, results.folder)


@pytest.mark.parametrize("step", STEPS)
def test_a_read_only_folder_is_a_message(step: str, results: Results) -> None:
    if step == "batch":
        results.batches[0].unlink()
    remount(results.folder.parent, "ro")
    with pytest.raises(StudyError, match=r"Read-only file system.\n  Make the folder .* writable"):
        STEPS[step](results)


def test_a_decision_on_a_full_disk(results: Results, tmp_path: Path) -> None:
    scenario = results.study.scenarios[0].id
    out = results.folder / "stopping" / scenario / "3.json"
    fill(results.folder.parent)
    study = load(tmp_path / "stopping", **STOPPING)
    with pytest.raises(StudyError, match="No space left on device"):
        write_decision(study, scenario, 3, results.batches, out)
    assert not out.exists()


def test_a_full_folder_of_temporary_files_ends_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit has not failed: it is done again when there is room."""
    study = load(tmp_path, methods=[FAKED], replications=3)
    out = tmp_path / "results"
    with mounted(tmp_path / "disk", "size=64k") as disk:
        monkeypatch.setenv("RMM_FAKE_BACKEND", "crash")  # a child with temporary files
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        filling = fill(disk)
        job = plan(study)[0]
        path = out / job.path
        with pytest.raises(StudyError, match=r"temporary files cannot .*\n  The disk at .* Make"):
            run_batch(study, job.scenario, job.method, job.first, job.last, path)
        assert not path.exists()
        filling.unlink()
        run_batch(study, job.scenario, job.method, job.first, job.last, path)
    assert path.is_file()


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_the_users_umask_holds(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        results = finished(tmp_path)
        write_report(results.study, results.folder)
        Watch(plan(results.study), results.folder).begin()
        begin_run(results.study, results.folder)
    finally:
        os.umask(before)
    for path in [results.folder, *results.folder.rglob("*")]:
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_run_in_a_full_folder_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snakemake would end in a traceback: its records are in the present folder."""
    pytest.importorskip("snakemake", reason="the extra `study` is not installed")
    study = load(tmp_path)
    monkeypatch.setattr(run_command, "_wait", lambda *_: pytest.fail("Snakemake was started"))
    with mounted(tmp_path / "disk", "size=64k") as disk:
        fill(disk)
        monkeypatch.chdir(disk)
        assert main(["study", "run", str(study.file), "--results", str(tmp_path / "results")]) == 2
        monkeypatch.chdir(tmp_path)
    said = capsys.readouterr().err
    assert ".snakemake/files cannot be written: No space left on device." in said
    assert "of 64 kB free. Make room there, and run the study again; finished fits are" in said


@pytest.mark.thorough
def test_the_workflow_tells_of_a_full_disk_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("snakemake", reason="the extra `study` is not installed")
    with mounted(tmp_path / "disk", "size=4m") as disk:
        project = Project(tmp_path / "project", disk, methods=[FAKED], replications=2)
        target = str(project.results / "performance.parquet")
        filling = fill(disk)
        said = project.run(target, fails=True)
        assert "cannot be written: No space left on device" in said
        assert "Make room there" in said
        assert "Traceback" not in said
        filling.unlink()
        project.run(target)
        assert set(project.estimates()["replication"]) == {1, 2}
        assert not (project.results / NOTE).exists()
