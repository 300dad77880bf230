"""Records of steps: content decides what is outdated, whatever the times of files are."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from rmm.study.files import file_times
from rmm.study.files.file_times import date_back
from rmm.study.files.records import read_record, write_record
from rmm.study.manage.steps import outdated_steps
from tests.results import Results, finished, load


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return finished(tmp_path_factory.mktemp("original"))


@pytest.fixture
def results(original: Results, tmp_path: Path) -> Results:
    """A copy whose files are all dated in the future, the last ones first."""
    shutil.copytree(original.folder, tmp_path / "tiny")
    for number, path in enumerate(sorted((tmp_path / "tiny").rglob("*"))):
        os.utime(path, (time.time() + 1e6 - number,) * 2)
    return Results(original.study, tmp_path / "tiny")


def steps(results: Results) -> list[str]:
    return [one.step for one in results.outdated()]


def test_a_copy_is_up_to_date(results: Results) -> None:
    assert steps(results) == []


def test_a_link_to_batches_is_up_to_date(results: Results, tmp_path: Path) -> None:
    batch = results.batches[0]
    batch.rename(tmp_path / "elsewhere")
    batch.symlink_to(tmp_path / "elsewhere")
    assert steps(results) == []


def test_another_description_outdates_all_steps(results: Results, tmp_path: Path) -> None:
    other = Results(load(tmp_path, title="Another title"), results.folder)
    assert steps(other) == ["design", "collect", "performance"]


def test_a_missing_or_another_batch_outdates_the_collection(results: Results) -> None:
    first, second = results.batches
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    assert [one.step for one in results.outdated()] == ["collect"]
    first.write_bytes(kept)
    assert steps(results) == []
    first.unlink()
    assert steps(results) == ["collect"]


def test_a_changed_table_is_named_and_outdates_what_reads_it(results: Results) -> None:
    table = results.folder / "estimates.parquet"
    table.write_bytes(table.read_bytes() + b"x")
    found = {one.step: one.altered for one in results.outdated()}
    assert found == {"collect": (table,), "performance": ()}
    table.unlink()
    assert {one.step: one.altered for one in results.outdated()} == {
        "collect": (),
        "performance": (),
    }


def test_a_file_beside_those_of_a_report_changes_nothing(results: Results) -> None:
    page = results.folder / "report" / "index.html"
    (results.folder / "report" / "figures").mkdir(parents=True)
    for path in (page, results.folder / "report" / "figures" / "bias.svg"):
        path.write_text("page")
    results.end("report")
    (results.folder / "report" / "figures" / "notes.txt").write_text("a user's")
    assert outdated_steps(["report"], results.folder, results.content, []) == []
    page.write_text("pane")
    (found,) = outdated_steps(["report"], results.folder, results.content, [])
    assert found.altered == (page,)


def test_a_step_leaves_one_record(results: Results) -> None:
    stale = results.folder / "steps" / "design-0123456789abcdef.json"
    write_record({"inputs": {}, "outputs": {}}, stale)
    results.end("design")
    assert len(list(results.folder.glob("steps/design-*.json"))) == 1
    assert steps(results) == []


def test_only_records_are_removed(results: Results) -> None:
    mine = results.folder / "steps" / "design-mine.json"
    mine.write_text("mine")
    results.end("design")
    assert mine.read_text() == "mine"


def test_an_altered_record_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record({"n": 12, "names": ["a", "b"]}, path)
    assert read_record(path) == {"n": 12, "names": ["a", "b"]}
    path.write_text(path.read_text().replace("12", "13"))
    assert read_record(path) is None
    for text in ("", "[1]", "{", '"x"', "\x00", '{"sha256": 1}'):
        path.write_text(text)
        assert read_record(path) is None


# -- time stamps -----------------------------------------------------------------------------


def test_only_files_of_the_future_are_dated_back(tmp_path: Path) -> None:
    now = time.time()
    paths = [tmp_path / name for name in ("past", "future", "link", "target")]
    for path in (paths[0], paths[1], paths[3]):
        path.write_text("content")
    paths[2].symlink_to(paths[3])
    os.utime(paths[0], (1000, 1000))
    os.utime(paths[1], (now + 1e6, now + 1e6))
    os.utime(paths[2], (now + 1e6, now + 1e6), follow_symlinks=False)
    date_back(paths[:3])
    assert paths[0].stat().st_mtime == 1000
    assert paths[1].stat().st_mtime < now
    assert paths[2].lstat().st_mtime < now
    assert paths[2].is_symlink()


def test_a_file_of_another_user_is_replaced_by_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, beside = tmp_path / "batch", tmp_path / "same file"
    path.write_text("content")
    os.utime(path, (time.time() + 1e6,) * 2)
    beside.hardlink_to(path)
    utime = os.utime

    def refused(there: Path, *arguments: object, **more: object) -> None:
        if more:  # the first attempt, on the file itself
            raise PermissionError
        utime(there, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(file_times.os, "utime", refused)
    date_back([path])
    assert path.read_text() == "content"
    assert path.stat().st_mtime < time.time() < beside.stat().st_mtime
    assert sorted(p.name for p in tmp_path.iterdir()) == ["batch", "same file"]
