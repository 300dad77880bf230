"""Finished fits of a batch that did not end: kept, taken up, never mixed with those of others."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rmm.errors import StudyError
from rmm.study import Study, collect, plan, status, write_performance
from rmm.study.methods.task import Outcome, Task
from rmm.study.run import checkpoint as checkpoints
from rmm.study.run.checkpoint import Journal, discard
from tests.kills import content, lines, load, only, parts, start, whole
from tests.projects import FAKED


class Kill(BaseException):
    """What ends a batch in these tests: no error, so that no fit becomes a failed one."""


class Fits:
    """Counts the fits, and ends the batch before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, flush: bool = False) -> None:
        from rmm.study.run import batch as batches

        self.original, self.done, self.until = batches.fit_task, 0, 10**9
        monkeypatch.setattr(batches, "fit_task", self)
        monkeypatch.setattr(checkpoints, "LONG", -1.0)  # every fit counts as one that took long
        if not flush:  # SIGKILL: nothing is done on the way out
            monkeypatch.setattr(checkpoints.Checkpoint, "__exit__", lambda *_: None)

    def __call__(self, task: Task) -> Outcome:
        if self.done == self.until:
            raise Kill
        self.done += 1
        return self.original(task)

    def kill_after(self, fits: int) -> None:
        self.done, self.until = 0, fits

    def run_on(self) -> None:
        self.done, self.until = 0, 10**9


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    return Fits(monkeypatch)


def test_a_killed_batch_goes_on_where_it_was(tmp_path: Path, fits: Fits) -> None:
    study = load(tmp_path)
    whole(study, tmp_path / "undisturbed")
    out = tmp_path / "out"
    fits.kill_after(5)
    with pytest.raises(Kill):
        whole(study, out)
    table = pq.read_table(only(out), partitioning=None)
    assert table["replication"].unique().to_pylist() == [1, 2, 3, 4, 5]
    fits.kill_after(3)
    with pytest.raises(Kill):
        whole(study, out)
    fits.run_on()
    said = whole(study, out)
    assert fits.done == 12 - 5 - 3
    assert "8 of replications 1-12 were fitted before a kill" in said[0]
    assert content(only(out)) == content(only(tmp_path / "undisturbed"))
    assert not parts(out)


def test_another_batch_size_takes_up_what_it_can(tmp_path: Path, fits: Fits) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    fits.kill_after(7)
    with pytest.raises(Kill):
        whole(study, out)
    smaller = replace(study, batch=5)  # 1-5, 6-10, 11-12
    fits.run_on()
    whole(smaller, out)
    assert fits.done == 12 - 7
    whole(smaller, tmp_path / "undisturbed")
    for path in (tmp_path / "undisturbed").rglob("*.parquet"):
        assert content(out / path.relative_to(tmp_path / "undisturbed")) == content(path)
    discard(out)
    assert not parts(out)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"methods": [{"name": "agg", "kind": "aggregation", "errors": "robust"}]},
        {"estimands": [{"parameter": "b_l1[x]", "null": 0.5}]},
    ],
)
def test_fits_of_other_settings_are_not_taken_up(
    change: dict[str, Any], tmp_path: Path, fits: Fits
) -> None:
    study, other, out = load(tmp_path), load(tmp_path / "other", **change), tmp_path / "out"
    fits.kill_after(5)
    with pytest.raises(Kill):
        whole(study, out)
    fits.kill_after(2)
    with pytest.raises(Kill):
        whole(other, out)
    assert len(parts(out)) == 2
    fits.run_on()
    whole(study, out)  # the first file again: the other has not overwritten its fits
    assert fits.done == 12 - 5


def test_metadata_decide_and_not_the_name(tmp_path: Path, fits: Fits) -> None:
    study, other, out = load(tmp_path), load(tmp_path / "other", seed=6), tmp_path / "out"
    fits.kill_after(5)
    with pytest.raises(Kill):
        whole(other, out)
    (left,) = parts(out)
    fits.kill_after(1)
    with pytest.raises(Kill):
        whole(study, out)
    (own,) = (path for path in parts(out) if path != left)
    left.replace(own)
    fits.run_on()
    whole(study, out)
    assert fits.done == 12
    assert set(pq.read_table(only(out), partitioning=None)["seed"].to_pylist()) == {
        row["seed"] for row in _rows(study, tmp_path / "undisturbed")
    }


def _rows(study: Study, out: Path) -> list[dict[str, Any]]:
    whole(study, out)
    return pq.read_table(only(out), partitioning=None).to_pylist()


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
def test_what_cannot_be_read_is_named_and_computed_again(
    damage: str, tmp_path: Path, fits: Fits
) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    fits.kill_after(5)
    with pytest.raises(Kill):
        whole(study, out)
    (path,) = parts(out)
    whole_bytes = path.read_bytes()
    path.write_bytes(spoilt(whole_bytes, damage))
    fits.run_on()
    said = whole(study, out)
    assert fits.done == 12
    assert str(path) in said[0]
    assert "cannot be read" in said[0]
    whole(study, tmp_path / "undisturbed")
    assert content(only(out)) == content(only(tmp_path / "undisturbed"))


def spoilt(whole_bytes: bytes, damage: str) -> bytes:
    if damage == "flipped":  # one byte of a page, far from the footer
        return whole_bytes[:60] + bytes([whole_bytes[60] ^ 255]) + whole_bytes[61:]
    return {
        "empty": b"",
        "truncated": whole_bytes[: len(whole_bytes) // 2],
        "text": b"PAR1 and no table PAR1",
    }[damage]


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
def test_a_damaged_batch_is_named_and_only_it_repeated(
    damage: str, tmp_path: Path, fits: Fits
) -> None:
    study, out = load(tmp_path, batch=6), tmp_path / "out"
    whole(study, out)
    first, second = (out / job.path for job in plan(study, out))
    good = content(first)
    first.write_bytes(spoilt(first.read_bytes(), damage))
    with pytest.raises(
        StudyError, match=r"00001-00006\.parquet.*\n *Run the study again.*only this batch"
    ):
        collect(study, [out / job.path for job in plan(study, out)], out / "all.parquet")
    with pytest.raises(
        StudyError, match=r"00001-00006\.parquet.*\n *Run the study again.*only this batch"
    ):
        status(study, out)
    first.unlink()
    before = second.stat().st_mtime_ns
    fits.run_on()
    whole(study, out)
    assert fits.done == 6
    assert second.stat().st_mtime_ns == before
    assert content(first) == good


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
def test_a_damaged_table_of_all_batches_is_named(damage: str, tmp_path: Path) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    whole(study, out)
    table = out / "all.parquet"
    collect(study, [out / job.path for job in plan(study, out)], table)
    write_performance(study, table, out / "performance.parquet")
    table.write_bytes(spoilt(table.read_bytes(), damage))
    with pytest.raises(
        StudyError, match=r"all\.parquet cannot be read.*\n *Run the.*collects it again"
    ):
        write_performance(study, table, out / "performance.parquet")


def test_a_batch_that_took_long_is_kept_until_it_is_collected(tmp_path: Path, fits: Fits) -> None:
    """Snakemake deletes the output of a job that it did not see end."""
    study, out = load(tmp_path), tmp_path / "out"
    whole(study, out, until_collected=True)
    (batch,) = (path for path in out.rglob("*.parquet") if ".parts" not in path.parts)
    before = batch.read_bytes()
    batch.unlink()
    fits.run_on()
    whole(study, out, until_collected=True)
    assert fits.done == 0
    assert batch.read_bytes() == before  # the seconds too
    discard(out)
    assert not parts(out)
    assert batch.read_bytes() == before


def test_short_fits_cost_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    original = checkpoints.write_parquet

    def counted(table: Any, path: Path) -> None:
        written.append(path)
        original(table, path)

    monkeypatch.setattr(checkpoints, "LONG", 60.0)  # whatever else this machine does
    monkeypatch.setattr(checkpoints, "EVERY", 60.0)
    monkeypatch.setattr(checkpoints, "write_parquet", counted)
    study, out = load(tmp_path), tmp_path / "out"
    whole(study, out, until_collected=True)
    assert written == [only(out)]


def test_short_fits_are_written_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    fits = Fits(monkeypatch)
    original = fits.original

    def slow(task: Task) -> Outcome:
        now[0] += 0.9
        return original(task)

    fits.original = slow
    monkeypatch.setattr(checkpoints, "LONG", 1.0)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    fits.kill_after(11)
    with pytest.raises(Kill):
        whole(load(tmp_path), tmp_path / "out")
    table = pq.read_table(only(tmp_path / "out"), partitioning=None)
    assert table["replication"].unique().to_pylist() == list(range(1, 7))  # 5.4 s, not 9.9


def test_short_fits_since_the_last_table_are_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of writing the fifth line: the fits before it are kept."""
    study = load(tmp_path)
    whole(study, tmp_path / "undisturbed")
    fits = Fits(monkeypatch)
    monkeypatch.setattr(checkpoints, "LONG", 60.0)
    monkeypatch.setattr(checkpoints, "EVERY", 60.0)
    out = tmp_path / "out"
    fits.kill_after(5)
    with pytest.raises(Kill):
        whole(study, out)
    (journal,) = out.rglob("*.jsonl")
    whole_lines = journal.read_text().splitlines(keepends=True)
    assert len(whole_lines) == 5
    journal.write_text("".join(whole_lines[:4]) + whole_lines[4][:100])
    fits.run_on()
    said = whole(study, out)
    assert fits.done == 12 - 4
    assert "4 of replications 1-12 were fitted before a kill" in said[0]
    assert content(only(out)) == content(only(tmp_path / "undisturbed"))
    assert not list(out.rglob(".parts/*.jsonl"))


def test_what_ends_a_batch_politely_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, study, out = Fits(monkeypatch, flush=True), load(tmp_path), tmp_path / "out"
    monkeypatch.setattr(checkpoints, "LONG", 60.0)
    fits.kill_after(9)
    with pytest.raises(Kill):
        whole(study, out)
    fits.run_on()
    whole(study, out)
    assert fits.done == 12 - 9


def test_machines_of_a_batch_that_moved_are_both_said(
    tmp_path: Path, fits: Fits, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    here = checkpoints.running_on()
    for number, python in enumerate(("3.0.1", "3.0.2")):
        facts = {**here, "python": python}
        monkeypatch.setattr(checkpoints, "running_on", lambda facts=facts: facts)
        fits.kill_after(3 + number)
        with pytest.raises(Kill):
            whole(study, out)
    monkeypatch.setattr(checkpoints, "running_on", lambda: here)
    fits.run_on()
    whole(study, out)
    metadata = pq.read_schema(only(out)).metadata
    assert metadata[b"rmm.python"].decode().split("; ") == ["3.0.1", "3.0.2", here["python"]]
    assert metadata[b"rmm.system"].decode() == here["system"]


def test_forcing_all_fits_forgets_what_killed_ones_left(tmp_path: Path, fits: Fits) -> None:
    study, out = load(tmp_path), tmp_path / "out"
    fits.kill_after(5)
    with pytest.raises(Kill):
        whole(study, out)
    discard(out)
    assert len(parts(out)) == 1
    discard(out, unfinished=True)
    assert not parts(out)


def test_what_cannot_be_removed_by_name_stays(tmp_path: Path, fits: Fits) -> None:
    """As files of NFS that are open elsewhere (.nfs...); here it is a folder."""
    study, out = load(tmp_path), tmp_path / "out"
    whole(study, out)
    (only(out).parent / ".parts" / ".nfs0001").mkdir(parents=True)
    discard(out, unfinished=True)
    assert (only(out).parent / ".parts" / ".nfs0001").is_dir()


def test_links_to_files_of_a_user_are_not_followed(tmp_path: Path) -> None:
    study, out, mine = load(tmp_path), tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (mine / "1-3.abc.parquet").write_text("mine")
    whole(study, out)
    (only(out).parent / ".parts").symlink_to(mine)
    discard(out, unfinished=True)
    assert (mine / "1-3.abc.parquet").read_text() == "mine"
    journal = Journal(tmp_path / "journal.jsonl")
    journal.path.symlink_to(mine / "1-3.abc.parquet")
    journal.add([{"replication": 1}])
    assert (mine / "1-3.abc.parquet").read_text() == "mine"


# -- a process of its own, killed for good ---------------------------------------------------


@pytest.mark.thorough
def test_sigterm_writes_what_is_done(tmp_path: Path) -> None:
    """Short fits are written after 5 s; a scheduler's SIGTERM may come before."""
    study, out = load(tmp_path, methods=[FAKED], replications=60, batch=60), tmp_path / "out"
    journal, until = tmp_path / "journal", time.monotonic() + 240
    job = start(study, out, RMM_FAKE_SECONDS="0.3")
    while lines(journal) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    log = (out / "log").read_text()
    assert "Ended by SIGTERM. What is finished is kept" in log
    assert "Traceback" not in log
    done = pq.read_table(only(out), partitioning=None)["replication"].unique().to_pylist()
    assert done == list(range(1, len(done) + 1))
    assert lines(journal) - 1 <= len(done) < 60  # the one in flight may be lost
    assert len(done) >= 1
