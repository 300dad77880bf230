"""Kills at many random moments: `make test-faults` (two hours on two idle cores)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.kills import kill_rounds
from tests.projects import FAKED, Project, without_timings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(4 * 3600)]
ROUNDS = int(os.environ.get("RMM_KILL_ROUNDS", "50"))
#: The signal, and whether the whole group of processes gets it.
KILLS = [(signal.SIGKILL, True), (signal.SIGKILL, False)]
ENDINGS = [*KILLS, (signal.SIGTERM, True), (signal.SIGINT, False)]
CTRL_C = [(signal.SIGINT, True)]  # as a terminal sends it
CORES = 2
# Long enough that a finished fit is written at once (rmm.study.run.checkpoint.LONG); asleep.
FIT_SECONDS = "1.1"


def test_fifty_kills_of_a_batch(tmp_path: Path) -> None:
    kill_rounds(tmp_path, rounds=ROUNDS, seed=1)


class Killing:
    """One study that is killed and started again until it is complete, any number of times.

    Parameters
    ----------
    project : Project
        With the study.
    seed : int
        Of moments and endings.
    endings : list
        Of which each round draws one.
    journal : bool
        Whether the study has the fake engine alone, which takes `FIT_SECONDS` for a fit and
        writes down each.

    Attributes
    ----------
    complete : int
        How often it was completed.
    kills : int
        Since it was started afresh.
    """

    def __init__(
        self,
        project: Project,
        seed: int,
        endings: list[tuple[signal.Signals, bool]] = ENDINGS,
        *,
        journal: bool = True,
    ) -> None:
        self.project, self.endings = project, endings
        self.draw = random.Random(seed)
        self.journal = project.folder / "journal" if journal else None
        self.target = str(project.results / "performance.parquet")
        self.complete = self.kills = 0
        self.seen: set[tuple[str, int]] = set()

    def start(self) -> subprocess.Popen[str]:
        told = {"RMM_FAKE_SECONDS": FIT_SECONDS, "RMM_FAKE_JOURNAL": str(self.journal)}
        return self.project.start(self.target, **(told if self.journal else {}))

    def undisturbed(self, keep: Path) -> float:
        """Run it once; the seconds it took."""
        began = time.monotonic()
        run = self.start()
        said, _ = run.communicate()
        assert run.returncode == 0, said
        self.project.results.rename(keep)
        if self.journal:
            self.journal.unlink()
        return time.monotonic() - began

    def round(self, longest: float) -> None:
        """Start it, end it at a random moment in one of the ways, unlock its folder."""
        run = self.start()
        with suppress(subprocess.TimeoutExpired):
            run.wait(self.draw.uniform(0, longest))
        number, whole_group = self.draw.choice(self.endings)
        if run.poll() is None:
            self.kills += 1
            (os.killpg if whole_group else os.kill)(run.pid, number)
        said = run.communicate()[0]
        # Python and Snakemake start each job, and for a moment Ctrl-C ends those with a traceback.
        traced = said.partition("Traceback")[2]
        assert run.returncode == 0 or "rmm/study" not in traced, said
        self.wait_and_unlock()
        self.look()
        if run.returncode == 0:
            self.complete += 1

    def wait_and_unlock(self) -> None:
        """Jobs outlive a Snakemake that was killed alone: until they end the folder is locked."""
        until = time.monotonic() + 300
        while True:
            done = self.project.script(
                "workflow/scripts/unlock.py",
                "--config",
                "study=tiny",
                f"results={self.project.results.parent}",
            )
            if done.returncode == 0:
                return
            assert "may be at work in it" in done.stderr, done.stderr
            assert time.monotonic() < until, done.stderr
            time.sleep(1)

    def look(self) -> None:
        """All files can be read, and no fit has gone."""
        now = set()
        for path in (self.project.results / "estimates").rglob("[!.]*.parquet"):
            table = pq.read_table(path, partitioning=None).select(["method", "replication"])
            now |= {(row["method"], row["replication"]) for row in table.to_pylist()}
        assert now >= self.seen
        self.seen = now

    def finish(self, reference: Path) -> None:
        """The files are those of the undisturbed run; no more was lost than was in flight."""
        for name in ("estimates", "performance"):
            pd.testing.assert_frame_equal(
                without_timings(self.project.results / f"{name}.parquet"),
                without_timings(reference / f"{name}.parquet"),
            )
        if self.journal:
            fits = self.journal.read_text().splitlines()
            self.journal.unlink()
            assert len(set(fits)) == len(self.seen)
            assert len(fits) - len(set(fits)) <= CORES * self.kills
        assert not list(self.project.results.rglob(".parts"))
        shutil.rmtree(self.project.results)
        self.kills, self.seen = 0, set()


def test_fifty_kills_of_a_workflow(tmp_path: Path) -> None:
    """Killed until it is complete, and then anew: each time the same files."""
    project = Project(tmp_path / "p", methods=[FAKED], replications=24, batch=6)
    until_complete(Killing(project, seed=2), ROUNDS, tmp_path / "undisturbed")


@pytest.mark.jags
@pytest.mark.stan
@pytest.mark.parametrize(("endings", "rounds"), [(KILLS, 2 * ROUNDS), (CTRL_C, ROUNDS)])
def test_kills_of_the_three_engines(
    endings: list[tuple[signal.Signals, bool]], rounds: int, tmp_path: Path
) -> None:
    """Killed at any moment of a study of less than 20 s, 100 times; 50 times by Ctrl-C."""
    sampler = {"chains": 2, "warmup": 100, "draws": 100}
    engines = [{**FAKED, "name": n, "backend": n, "sampler": sampler} for n in ("jags", "stan")]
    engines.append({"name": "laplace", "kind": "mm", "backend": "laplace"})
    project = Project(tmp_path / "p", methods=engines, replications=12, batch=4)
    study = Killing(project, 3, endings, journal=False)
    until_complete(study, rounds, tmp_path / "undisturbed")


def until_complete(study: Killing, wanted: int, reference: Path) -> None:
    """Kill it again and again; each time that it is complete, compare it and start anew."""
    study.undisturbed(reference)  # compiles and imports, too
    shutil.rmtree(reference)
    longest = study.undisturbed(reference)
    rounds = 0
    while rounds < wanted:
        before = study.complete
        study.round(longest)
        rounds += 1
        if study.complete > before:
            study.finish(reference)
    run = study.start()
    said, _ = run.communicate()
    assert run.returncode == 0, said
    study.look()
    study.finish(reference)
