"""The line that counts fits while a study runs, and what it is read from."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from rmm.study.files.parquet import estimates_table, write_parquet
from rmm.study.manage import status as tallying
from rmm.study.manage.jobs import Job
from rmm.study.manage.shared_jobs import first_jobs
from rmm.study.run import progress
from rmm.study.run.batch_index import Reason, summarise_batch
from rmm.study.run.metadata import stored_metadata
from rmm.study.run.progress import UnderWay, Watch, follow

JOBS = [Job("s1", "fast", 1, 10), Job("s1", "fast", 11, 20), Job("s1", "slow", 1, 5)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def finish(folder: Path, job: Job, seconds: float, failed: int = 0, **more: str) -> None:
    facts = {"seconds": str(seconds), "failed": str(failed), **more}
    write_parquet(estimates_table([], facts), folder / job.path)


def test_fits_are_counted_with_failures_and_the_time_left(tmp_path: Path) -> None:
    watch = Watch(JOBS, tmp_path)
    watch.begin()
    assert watch.line() == "fits 0 of 25 (0%), time left not known yet"
    finish(tmp_path, JOBS[0], 100.0, failed=3)
    line = watch.line()
    assert line.startswith("fits 10 of 25 (40%), 3 failed, about")
    assert line.endswith(" left, and the fits of slow, which have not started")
    finish(tmp_path, JOBS[2], 50.0)
    # 150 s of work in 75 s: two at a time, and 10 fits of 10 s are left.
    line = watch.line(watch.started + 75.0)
    assert line == "fits 15 of 25 (60%), 3 failed, about 50 s left"
    finish(tmp_path, JOBS[1], 100.0)
    assert watch.line() == "fits 25 of 25 (100%), 3 failed"


def test_what_was_there_before_is_done_but_tells_no_pace(tmp_path: Path) -> None:
    finish(tmp_path, JOBS[0], 1e6, failed=10)
    watch = Watch(JOBS, tmp_path, at_most=True)
    assert watch.line() == "fits 10 of at most 25, time left not known yet"


def test_fits_of_a_batch_under_way_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    watch, said = Watch(JOBS, tmp_path), list[str]()
    batch = UnderWay(tmp_path / JOBS[0].path, 10, said.append)
    batch.count("ok", 1.0)
    batch.count("timeout", 1.0)
    batch.count("not_converged", 1.0)
    assert said[-1].startswith("fits 3 of 10 (30%), 1 failed, 1 not converged, about")
    assert watch.line().startswith("fits 3 of 25 (12%), 1 failed, 1 not converged, about")
    facts = batch.facts()
    assert (facts["failed"], facts["not_converged"]) == ("1", "1")
    assert facts["started"] <= facts["ended"]
    batch.end()
    assert watch.line().startswith("fits 0 of 25")


def test_the_first_fit_of_a_batch_tells_no_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads libraries: 20 s, and 3 fits of 1 s, leave 16 s for 16 fits."""
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    watch = Watch(JOBS[:2], tmp_path)
    batch = UnderWay(tmp_path / JOBS[0].path, 10, lambda line: None)
    batch.count("ok", 20.0)
    assert watch.line(watch.started + 20.0).endswith("about 6 min left")  # nothing better is known
    for _ in range(3):
        batch.count("ok", 1.0)
    assert watch.line(watch.started + 23.0) == "fits 4 of 20 (20%), about 16 s left"
    batch.end()
    finish(tmp_path, JOBS[0], 29.0)
    assert watch.line(watch.started + 29.0) == "fits 10 of 20 (50%), about 29 s left"


def test_a_new_run_forgets_batches_that_a_killed_one_had_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    UnderWay(tmp_path / JOBS[0].path, 10, lambda line: None).count("ok", 1.0)
    (tmp_path / "logs" / "running" / "half").write_text("{")
    watch = Watch(JOBS, tmp_path)
    watch.begin()
    assert watch.line().startswith("fits 0 of 25")


def test_a_new_run_deletes_no_files_behind_a_link(tmp_path: Path) -> None:
    running, mine = tmp_path / "logs" / "running", tmp_path / "mine"
    for folder in (mine, running.parent):
        folder.mkdir()
    (mine / "s1_m_1-3.json").write_text("mine")
    running.symlink_to(mine)
    Watch(JOBS, tmp_path).begin()
    assert (mine / "s1_m_1-3.json").read_text() == "mine"
    assert not running.exists()


def test_only_a_terminal_gets_lines(tmp_path: Path) -> None:
    quiet, terminal = io.StringIO(), Terminal()
    follow(Watch(JOBS, tmp_path), quiet)()
    assert quiet.getvalue() == ""
    stop = follow(Watch(JOBS, tmp_path), terminal, every=60)
    finish(tmp_path, JOBS[0], 1.0)
    stop()
    assert terminal.getvalue().startswith("fits 10 of 25 (40%), about")
    assert terminal.getvalue().count("\n") == 1


def test_the_rate_is_that_of_the_last_run(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "progress.json").write_text(json.dumps({"started": "2026-03-01T12:00:00Z"}))
    assert tallying._rate(tmp_path, []) is None
    finish(tmp_path, JOBS[0], 1.0, ended="2026-03-01T11:59:59Z")
    finish(tmp_path, JOBS[1], 1.0, ended="2026-03-01T12:00:20Z")
    finish(tmp_path, JOBS[2], 1.0, ended="2026-03-01T12:00:30Z")
    ended = [dict(stored_metadata(str(tmp_path / job.path), 0))["ended"] for job in JOBS]
    assert tallying._rate(tmp_path, zip(JOBS, ended, strict=True)) == 15 / 30


def test_messages_that_differ_in_numbers_are_one_reason(tmp_path: Path) -> None:
    common = {
        "scenario": "s1",
        "method": "m",
        "backend": "fake",
        "parameter": "b_l1[x]",
        "status": "not_converged",
        "seconds": 1.0,
    }
    rows = [
        {**common, "replication": r, "message": f"ESS {80 + r} of b_w[b1], 100 wanted"}
        for r in (4, 5, 6)
    ]
    summary = summarise_batch(estimates_table(rows, {}))
    assert summary.fits == {"not_converged": 3}
    assert (summary.seconds, summary.timed) == (3.0, 3)
    assert summary.reasons == (Reason("not_converged", "ESS … of b_w[b1], … wanted", 3, 4),)


def test_first_jobs_have_every_method_once() -> None:
    def job(first: int) -> Job:
        return Job("s1", "a", first, first + 9)

    together = {
        ("a", "b"): [job(11), job(21)],
        ("a", "b", "c"): [job(1)],
        ("c", "d"): [job(31)],
        ("b", "c"): [job(41)],
    }
    assert first_jobs(together) == {("a", "b", "c"): job(1), ("c", "d"): job(31)}
    assert first_jobs({}) == {}


def test_names_in_a_line_of_progress() -> None:
    assert progress._listed(["a"]) == "a"
    assert progress._listed(["a", "b", "c"]) == "a, b and c"
