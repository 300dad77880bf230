"""One run at a time in a results folder: who waits, for whom, and what is left by a killed run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil", reason="the extra `study` is not installed")

from rmm.errors import StudyError
from rmm.study.run import claim as claims
from rmm.study.run.claim import NOTE, VARIABLE, claim
from tests import ROOT

#: A process that claims a folder, says so, and ends when its input does.
RUN = """
import sys
from pathlib import Path
from rmm.study.run.claim import claim
claim(Path(sys.argv[1]), print, 0.05)
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of this process are removed by the tests, not when Python exits."""
    monkeypatch.setattr(claims.atexit, "register", lambda *_: None)
    monkeypatch.setenv(VARIABLE, "")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    runs: list[subprocess.Popen[str]] = []

    def started(folder: Path) -> subprocess.Popen[str]:
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        runs.append(run)
        return run

    yield started
    for run in runs:
        run.kill()
        run.communicate()


def line(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline().strip()


def written(folder: Path, **changes: Any) -> Path:
    """The note of this process, with something else in it."""
    folder.mkdir(exist_ok=True)
    note = folder / NOTE
    note.write_text(json.dumps({**claims._me(folder), **changes}))
    return note


def test_the_second_of_two_runs_waits(
    start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = start(tmp_path / "a")
    assert line(first) == "claimed"
    assert line(start(tmp_path / "b")) == "claimed", "results of another study"
    second = start(tmp_path / "a")
    said = line(second)
    assert f"a is in use by another run: process {first.pid} on this host, since 2" in said
    assert "Waiting for it to end (Ctrl-C to stop)." in said
    assert "delete" not in said
    first.communicate("")
    assert line(second) == f"{tmp_path / 'a'} is free now."
    assert line(second) == "claimed"
    second.communicate("")
    assert not (tmp_path / "a" / NOTE).exists()


def test_a_killed_run_holds_up_nobody(
    start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = start(tmp_path / "a")
    assert line(first) == "claimed"
    first.kill()
    first.wait()
    assert (tmp_path / "a" / NOTE).exists()
    assert line(start(tmp_path / "a")) == "claimed"


def test_jobs_of_a_killed_run_hold_up_the_next(tmp_path: Path) -> None:
    """They would write the same files."""
    folder = tmp_path / "a"
    note = written(folder, pid=2**22 + 1)
    environment = {**os.environ, VARIABLE: str(folder.resolve())}
    job = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", "snakemake"], env=environment
    )
    try:
        with pytest.raises(StudyError, match=f"(?s)A run was killed, but .*process {job.pid}: "):
            claim(folder, print)
        assert note.exists()
        written(tmp_path / "b", pid=2**22 + 1)
        claim(tmp_path / "b", print)
    finally:
        job.kill()
        job.wait()
    claim(folder, print)
    assert json.loads(note.read_text())["pid"] == os.getpid()


def test_a_run_on_another_machine_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, said, naps = written(tmp_path / "a", host="node7", pid=5), [], []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            note.unlink()

    monkeypatch.setattr(time, "sleep", sleep)
    claim(tmp_path / "a", said.append)
    assert naps == [2.0, 2.0, 2.0]
    assert "process 5 on node7" in said[0]
    assert said[0].endswith(f"If it is known to be dead, delete {note}.")
    assert json.loads(note.read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"host": 1}', '{"folder": 1, "host": "x"}']
)
def test_a_damaged_note_does_not_count(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_WRITTEN", 0.0)
    (tmp_path / NOTE).write_text(content)
    claim(tmp_path, print)
    assert json.loads((tmp_path / NOTE).read_text())["pid"] == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == [NOTE]


def test_a_copy_of_results_is_another_folder(tmp_path: Path) -> None:
    written(tmp_path / "a", host="node7")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    said: list[str] = []
    claim(tmp_path / "b", said.append)
    assert said == []


def test_a_process_of_another_time_is_not_the_run(tmp_path: Path) -> None:
    """Numbers of processes are used again."""
    written(tmp_path / "a", pid=os.getppid(), born=1.0)
    claim(tmp_path / "a", print)


def test_one_process_at_a_time_takes_a_note_over(tmp_path: Path) -> None:
    written(tmp_path, pid=2**22 + 1)
    guard = tmp_path / f"{NOTE}.guard"
    guard.touch()
    assert claims._try(tmp_path) == {}, "another one is at it"
    os.utime(guard, (1, 1))
    assert claims._try(tmp_path) == {}
    assert not guard.exists(), "of a process that was killed then"
    assert claims._try(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [NOTE]


#: A process that works in a folder for a moment, and notes begin and end.
WORK = """
import sys, time
from pathlib import Path
from rmm.study.run.claim import claim
folder = Path(sys.argv[1])
sys.stdin.readline()
claim(folder, lambda line: None, 0.001)
with (folder / "work").open("a") as file:
    file.write("begin ")
    file.flush()
    time.sleep(0.02)
    file.write("end ")
"""


@pytest.mark.thorough
def test_ten_runs_at_once_work_one_after_the_other(tmp_path: Path) -> None:
    """All start at the same moment, beside the note of a killed run."""
    written(tmp_path / "a", pid=2**22 + 1)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path / "a")],
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(10)
    ]
    time.sleep(5)
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    for run in runs:
        run.communicate()
        assert run.returncode == 0
    assert (tmp_path / "a" / "work").read_text() == "begin end " * 10
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["work"]
