"""What may go wrong around a study: no finished fit is lost, and each fault names what to do.

Mishaps of engines come from the fake engine, whose children really crash; `backends/test_jags.py`
and `backends/test_stan.py` kill those of the real ones. Kills at many random moments are in
`test_faults_long.py` (`make test-faults`).
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rmm.backends import fake
from rmm.cli.run_command import environment_with_cache
from rmm.errors import BackendError, StudyError
from rmm.study import Study, status
from rmm.study.run import checkpoint as checkpoints
from rmm.study.run import progress
from rmm.study.run.claim import NOTE
from rmm.study.run.log import logged
from tests.disks import fill, mounted
from tests.kills import content, kill_rounds, load, only, parts, start, whole
from tests.projects import FAKED, ROOT, Project, lay_out_environment, without_timings

#: Neither terminal nor files are UTF-8, and Python may not help itself.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def faked(folder: Path, **changes: Any) -> Study:
    sampler = {"timeout": 0.5, **FAKED["sampler"]}
    method = {**FAKED, "sampler": sampler}
    return load(folder, methods=[method], **{"replications": 4, "batch": 4, **changes})


def rows(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(only(out), partitioning=None).to_pylist()


# -- engines ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """Estimates of four fits of the fake engine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    whole(faked(folder), folder / "out")
    return means(folder / "out")


def means(out: Path) -> dict[int, float]:
    return {r["replication"]: r["mean"] for r in rows(out) if r["parameter"] == "b_l1[x]"}


@pytest.mark.parametrize(
    ("mishap", "found", "words"),
    [
        ("crash", "failed", "crashed"),
        ("segfault", "failed", "killed by SIGSEGV"),
        ("memory", "failed", "MemoryError"),
        ("hang", "timeout", "hung for 0.5 s"),
        ("nan", "failed", "Draws of b_l1 are not finite numbers (1 in all)"),
        ("shape", "failed", "returned b_l1 with shape (1, 2) instead of (1,)"),
    ],
)
def test_a_mishap_of_the_engine_is_a_row(
    mishap: str,
    found: str,
    words: str,
    tmp_path: Path,
    undisturbed: dict[int, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One fit has it; the fits before and after are those of an undisturbed run."""
    fits, original = itertools.count(1), fake._mishaps

    def third(address: str) -> set[str]:
        return original(address) if next(fits) == 3 else set()

    monkeypatch.setattr(fake, "_mishaps", third)
    monkeypatch.setenv(fake.SWITCH, mishap)
    whole(faked(tmp_path), tmp_path / "out")
    hit = [row for row in rows(tmp_path / "out") if row["replication"] == 3]
    assert [(row["parameter"], row["status"]) for row in hit] == [("b_l1[x]", found)]
    assert words in hit[0]["message"]
    assert hit[0]["mean"] is None
    assert hit[0]["seconds"] > 0
    assert means(tmp_path / "out") == {**undisturbed, 3: None}


@pytest.mark.thorough
@pytest.mark.jags
def test_jags_out_of_memory_is_a_row_and_the_next_fit_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's limit for the process of the engine, not a message that pretends."""
    resource = pytest.importorskip("resource", reason="limits of memory need a POSIX system")
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limits of another process can be set on Linux only")
    from rmm.backends.jags import worker_pool as jags_pool

    sampler = {"chains": 1, "warmup": 10, "draws": 100_000}
    method = {"name": "mm", "kind": "mm", "sampler": sampler, "gate": FAKED["gate"]}
    study = load(tmp_path, methods=[method], replications=3, batch=3)
    original, fits = jags_pool.acquire, itertools.count(1)

    def starved(count: int) -> list[jags_pool.Worker]:
        if next(fits) != 2:
            return original(count)
        jags_pool.shutdown()  # a process that has fitted before still has what that took
        workers = original(count)
        for worker in workers:
            resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (4096, 4096))
        return workers

    monkeypatch.setattr(jags_pool, "acquire", starved)
    whole(study, tmp_path / "out")
    found = {row["replication"]: (row["status"], row["message"]) for row in rows(tmp_path / "out")}
    assert found[2][0] == "failed"
    assert re.search(r"JAGS ran out of memory in chain 1\b.*Monitor fewer variables", found[2][1])
    assert {found[1][0], found[3][0]} <= {"ok", "not_converged"}


# -- disks -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    with mounted(tmp_path / "small disk", "size=256k") as folder:
        yield folder


def test_a_full_disk_loses_the_fit_under_way_alone(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    from rmm.study.run import batch as batches

    study, out, done = load(tmp_path), small_disk / "results", itertools.count(1)
    monkeypatch.setattr(checkpoints, "LONG", -1.0)
    original = batches.fit_task

    def filling(task: Any) -> Any:
        if next(done) == 8:
            fill(small_disk)
        return original(task)

    monkeypatch.setattr(batches, "fit_task", filling)
    with pytest.raises(SystemExit, match="1"), logged(out / "log"):
        whole(study, out)
    # The log is on the same disk: the message is on the terminal.
    said = capfd.readouterr().err
    assert "cannot be written: No space left on device" in said
    assert f"The disk at {small_disk} has 0 bytes of 256 kB free. Make room there, and run" in said
    assert "finished fits are kept" in said
    assert "Traceback" not in said
    (part,) = parts(out)
    left = pq.read_table(part, partitioning=None)["replication"].unique().to_pylist()
    assert left == list(range(1, 8))
    (small_disk / "filling").unlink()
    monkeypatch.setattr(batches, "fit_task", original)
    assert "7 of replications 1-12" in whole(study, out)[0]
    whole(study, tmp_path / "undisturbed")
    assert content(only(out)) == content(only(tmp_path / "undisturbed"))


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StudyError, match=r"Not a directory.\n +Make the folder .* writable"):
        whole(load(tmp_path / "study"), tmp_path / "out")


# -- clocks ----------------------------------------------------------------------------------


def test_a_clock_that_jumps_back_changes_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back, in the middle of a batch and between batches."""
    study = faked(tmp_path, batch=2)
    whole(study, tmp_path / "undisturbed")
    clock = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    out = tmp_path / "out"
    from rmm.study import plan

    watch = progress.Watch(plan(study, out), out)
    watch.begin()
    whole(study, out)
    for path in (tmp_path / "undisturbed").rglob("*.parquet"):
        here = out / path.relative_to(tmp_path / "undisturbed")
        assert content(here) == content(path)
        assert min(pq.read_table(here, partitioning=None)["seconds"].to_pylist()) > 0
    assert watch.line() == "fits 4 of 4 (100%)"
    os.utime(here, (1, 1))
    assert status(study, out)["fits"] == {"ok": 4}


# -- the workflow ----------------------------------------------------------------------------


def turkish(folder: Path) -> dict[str, str]:
    """A Turkish locale, where the lower-case of I is no i; made here, as systems lack it."""
    made = subprocess.run(
        ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")],
        capture_output=True,
        text=True,
        check=False,
    )
    if not (folder / "tr_TR.UTF-8").is_dir():
        pytest.skip(f"localedef makes no Turkish locale here: {made.stderr.strip()[:200]}")
    return {"LOCPATH": str(folder), "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}


@pytest.mark.thorough
@pytest.mark.parametrize("place", ["turkish", "far away"])
def test_locale_and_time_zone_change_no_numbers(place: str, tmp_path: Path) -> None:
    study, out = load(tmp_path / "größe und ç"), tmp_path / "größe und ç" / "out"
    whole(study, tmp_path / "undisturbed")
    changed = {"TZ": "Pacific/Kiritimati"}
    changed |= turkish(tmp_path) if place == "turkish" else ASCII
    # In the second, NumPy cannot be imported from a folder whose name is not ASCII: links to it.
    python = lay_out_environment(tmp_path / "environment")
    (tmp_path / "project").symlink_to(ROOT)
    job = start(study, out, python=python, PYTHONPATH=str(tmp_path / "project"), **changed)
    _, said = job.communicate()
    assert job.returncode == 0, said + (out / "log").read_text()
    assert content(only(out)) == content(only(tmp_path / "undisturbed"))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write to, root included."""
    with mounted(tmp_path / "read-only", "ro") as folder:
        yield folder


def test_a_run_needs_no_cache_that_can_be_written(
    read_only: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What Snakemake caches goes elsewhere; where Stan's programs are looked for stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RMM_CACHE", raising=False)
    for cache in (read_only, tmp_path / "writable"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        found = environment_with_cache()
        said = capsys.readouterr().out
        if cache == read_only:
            assert f"{cache} cannot be written" in said
            assert found["XDG_CACHE_HOME"] == str(tmp_path / ".snakemake" / "cache")
            assert found["RMM_CACHE"] == str(cache / "rmm")
        else:
            assert said == ""
            assert found["XDG_CACHE_HOME"] == str(cache)
            assert "RMM_CACHE" not in found
        (Path(found["XDG_CACHE_HOME"]) / "proof").touch()


@pytest.mark.thorough
@pytest.mark.stan
def test_stan_runs_from_a_cache_that_is_read_only(
    read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that are there run; one that is not there is a message, with what to do."""
    from rmm.backends.stan.compile import compile_program, program_key
    from rmm.backends.stan.install import find_cmdstan
    from rmm.cache import cache_dir

    program = "parameters { real x; } model { x ~ normal(0, 1); }"
    home = find_cmdstan()
    if not home.built:
        pytest.skip("a CmdStan of the user's own is in use, not the engine from the wheel")
    name = home.path.name
    whole_cache = tmp_path / "cache"
    made = whole_cache / name / "programs" / program_key(program)
    made.mkdir(parents=True)
    (made / "program").write_text("compiled")
    for part in ("makefile", "include"):
        (whole_cache / name / part).symlink_to(cache_dir() / name / part)
    bind = ["mount", "--bind", "-o", "ro", str(whole_cache), str(read_only)]
    subprocess.run(bind, check=True)
    try:
        monkeypatch.setenv("RMM_CACHE", str(read_only))
        assert compile_program(program).read_text() == "compiled"
        with pytest.raises(BackendError, match=r"cannot write there: Read-only.*\n?.*RMM_CACHE"):
            compile_program(program.replace("real x", "real y").replace("x ~", "y ~"))
    finally:
        subprocess.run(["umount", "-l", str(read_only)], check=True)


@pytest.mark.thorough
def test_two_runs_at_once_in_a_folder_of_any_name(tmp_path: Path) -> None:
    """The second waits and says for whom, the first is not disturbed; both end well.

    In a path with blanks and letters beyond ASCII, and in the locale C, which Python takes to be
    UTF-8. The first run's fit waits until somebody reads the journal, a named pipe.
    """
    project = Project(
        tmp_path / "größe und ç" / "Ordner 2", methods=[FAKED], replications=1, title="Größe ≥ 1"
    )
    target, journal = str(project.results / "estimates.parquet"), tmp_path / "pipe"
    os.mkfifo(journal)
    first = project.start(target, LC_ALL="C", RMM_FAKE_JOURNAL=str(journal))
    second = None
    try:
        until = time.monotonic() + 300
        while not list(project.results.rglob("fit/**/*.log")) and first.poll() is None:
            assert time.monotonic() < until, "no fit began"
            time.sleep(0.05)
        unlocking = project.script("workflow/scripts/unlock.py")
        assert unlocking.returncode == 1
        assert re.search(rf"process {first.pid}: .*snakemake", unlocking.stderr)
        assert "Wait for them or end them" in unlocking.stderr
        second = project.start("--nolock", target, LC_ALL="C")
        assert second.stdout is not None
        lines = iter(second.stdout.readline, "")
        waiting = next(line for line in lines if "Waiting for it to end" in line)
        assert f"tiny is in use by another run: process {first.pid} on this host" in waiting
        assert journal.read_text().count("\n") == 1
        said, _ = first.communicate()
        assert first.returncode == 0, said
        said = second.stdout.read()
        assert second.wait() == 0, said
        assert "Nothing to be done" in said
    finally:
        for run in (first, second):
            if run is not None and run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.communicate()
    assert "Traceback" not in said + project.logs()
    assert set(project.estimates()["status"]) == {"ok"}
    assert not (project.results / NOTE).exists()


@pytest.mark.thorough
def test_two_studies_at_once_in_one_clone(tmp_path: Path) -> None:
    """Neither waits for the other, whichever command started them; a lock left behind included."""
    project = Project(tmp_path / "project", methods=[FAKED], replications=1)
    file = project.file.with_name("other.yaml")
    file.write_text(project.file.read_text())
    journal = tmp_path / "pipe"
    os.mkfifo(journal)
    first = project.start("--until", "collect", RMM_FAKE_JOURNAL=str(journal))
    try:
        until = time.monotonic() + 300
        while not list(project.results.rglob("fit/**/*.log")) and first.poll() is None:
            assert time.monotonic() < until, "no fit began"
            time.sleep(0.05)
        words = [sys.executable, "-m", "rmm", "study", "run", "other", "--cores", "1"]
        done = subprocess.run(
            [*words, "--", "--until", "performance"],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Waiting" not in done.stdout + done.stderr
        other = project.results.with_name("other")
        assert (other / "performance.parquet").is_file()
        records = [path.name.partition("-")[2] for path in (other / "steps").iterdir()]
        assert not [name for name in records if name.startswith("again")]
        assert first.poll() is None
        assert journal.read_text().count("\n") == 1
        said, _ = first.communicate()
        assert first.returncode == 0, said
    finally:
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
            first.communicate()
    assert project.estimates().equals(without_timings(other / "estimates.parquet"))


# -- kills -----------------------------------------------------------------------------------


@pytest.mark.thorough
def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Five rounds; `make test-faults` has 50, and 50 of whole workflows."""
    kill_rounds(tmp_path, rounds=5, seed=20)
