"""A study on a real Slurm: one node, started and stopped here (`make test-slurm`).

One run of Snakemake with the profile for Slurm has it all: jobs that exceed their memory, one that
is cancelled, and a controller that is away for a minute. Its results must be those of a local run.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.workflow.test_workflow import ROOT, STUDY, lay_out, wait_for, without_timings

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `slurm` is not installed")
# On a busy machine; alone it takes minutes.
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(2400)]

LAB = ROOT.parent / "shared" / "slurm"
AWAY = 60  # seconds that the controller is stopped
# What a job's own `srun` says when it starts in that time; the job fails, and is run again.
NO_ANSWER = "Unable to contact slurm controller"
# Of a fit in MB: too little at first for the last batches of each scenario, then plenty.
MEMORY = "90 if wildcards.last == '00006' and attempt == 1 else 900 * attempt"


def why_not() -> str | None:
    """Say why Slurm cannot be had here, or None."""
    if not (LAB / "slurm-up").is_file():
        return "no Slurm: what starts one is not beside the project (../shared/slurm)"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    needed = ("slurmctld", "slurmd", "sbatch", "munged")
    missing = [name for name in needed if shutil.which(name, path=path) is None]
    if missing:
        return f"no Slurm: {', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return None if getpass.getuser() == "root" else "no Slurm: its daemons are started as root"


@dataclass(frozen=True)
class Job:
    """A line of squeue."""

    number: str
    state: str
    memory: str
    what: str


@dataclass(frozen=True)
class Cluster:
    """A running Slurm and the environment of those who use it."""

    environment: dict[str, str]

    def start(self) -> None:
        """Start what is not running."""
        subprocess.run([LAB / "slurm-up"], env=self.environment, check=True, capture_output=True)

    def stop_controller(self) -> None:
        state = Path(self.environment["SLURMLAB_STATE"])
        number = int((state / "run" / "slurmctld").read_text().split()[0])
        os.kill(number, 15)
        wait_for(
            lambda: (
                not Path(f"/proc/{number}").exists()
                or "Z (zombie)" in Path(f"/proc/{number}/status").read_text()
            )
        )

    def lose_node(self) -> None:
        """End everything on the node at once, as a power cut does, and let the controller know."""
        state = Path(self.environment["SLURMLAB_STATE"])
        daemon = psutil.Process(int((state / "run" / "slurmd").read_text().split()[0]))
        # The steps' processes are not the daemon's children, but have its environment.
        owner = f"SLURMLAB_OWNER={state}\0".encode()
        steps = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "slurmstepd"]
        mine = [p for p in steps if owner in Path(f"/proc/{p.pid}/environ").read_bytes()]
        gone = [daemon, *mine, *(child for p in mine for child in p.children(recursive=True))]
        for process in gone:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(gone, timeout=60)
        node = self.ask("sinfo", "--noheader", "--Node", "--format=%N").split()[0]
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def jobs(self, folder: Path) -> list[Job]:
        """All jobs that were ever submitted from a folder, in order."""
        said = self.ask(
            "squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%m|%k|%Z"
        )
        lines = [line.split("|") for line in said.splitlines()]
        return [Job(*line[:4]) for line in lines if line[4] == str(folder)]


@contextmanager
def cluster_with(*settings: str) -> Iterator[Cluster]:
    """Start a Slurm with lines of its configuration, and stop it."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    state = Path(tempfile.mkdtemp(prefix="rmm-slurm-"))
    (state / "extra.conf").write_text("".join(f"{line}\n" for line in settings))
    environment = {
        **os.environ,
        "SLURMLAB_STATE": str(state),
        "SLURMLAB_MEM_MB": "8000",
        "SLURMLAB_EXTRA": str(state / "extra.conf"),
        "SLURM_CONF": str(state / "slurm.conf"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{state / 'bin'}:{os.environ['PATH']}",
    }
    found = Cluster(environment)
    try:
        found.start()
        yield found
    finally:
        subprocess.run([LAB / "slurm-down", "--purge"], env=environment, check=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Jobs that end while the controller is away cannot say so at once; the node is not to blame.
    with cluster_with("UnkillableStepTimeout=600") as found:
        yield found


def snakemake(*more: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *more, "--config", "study=tiny"]


def with_slurm() -> list[str]:
    """The documented command; it asks more often after its jobs than it would for days."""
    return snakemake(
        "--workflow-profile",
        "workflow/profiles/slurm",
        "--default-resources",
        "slurm_partition=main",
        "--slurm-init-seconds-before-status-checks",
        "2",
        "--seconds-between-status-checks",
        "2",
        "--latency-wait",
        "10",
    )


@dataclass
class Story:
    """What happened to a study, and what it left."""

    results: Path
    jobs: list[Job] = field(default_factory=list)
    said: str = ""
    cancelled: str = ""
    cut_off: set[str] = field(default_factory=set)  # jobs that failed for want of the controller
    files_before: int = 0  # batches that were complete when the controller stopped
    away: float = 0.0
    local: Path = Path()


@pytest.fixture(scope="module")
def story(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = lay_out(tmp_path_factory.mktemp("slurm"), STUDY)
    profile = folder / "workflow" / "profiles" / "slurm" / "config.yaml"
    text = profile.read_text()
    assert "mem_mb: 1500 * attempt" in text
    profile.write_text(text.replace("mem_mb: 1500 * attempt", f"mem_mb: {MEMORY}"))
    told = Story(folder / "results" / "tiny")
    with (folder / "said.txt").open("w") as said:
        run = subprocess.Popen(
            with_slurm(),
            cwd=folder,
            env=cluster.environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            live(run, told, cluster, folder, tmp_path_factory.mktemp("local"))
            assert run.wait(timeout=1500) == 0, (folder / "said.txt").read_text()
        finally:
            if run.poll() is None:
                os.killpg(run.pid, 9)
                run.wait()
    told.jobs, told.said = cluster.jobs(folder), (folder / "said.txt").read_text()
    logs = (folder / ".snakemake" / "slurm_logs").rglob("*.log")  # of failed jobs
    told.cut_off = {log.stem for log in logs if NO_ANSWER in log.read_text()}
    yield told


def live(
    run: subprocess.Popen[bytes], told: Story, cluster: Cluster, folder: Path, local: Path
) -> None:
    """Cancel a job, then stop the controller; meanwhile the same study runs without Slurm."""

    def running(what: str) -> list[Job]:
        assert run.poll() is None, (folder / "said.txt").read_text()
        return [j for j in cluster.jobs(folder) if j.state == "RUNNING" and what in j.what]

    wait_for(lambda: running("00001_00003"))
    told.cancelled = running("00001_00003")[0].number
    cluster.ask("scancel", told.cancelled)
    wait_for(lambda: any(told.results.glob("estimates/*/*/*.parquet")) and running("rule_fit"))
    told.files_before = len(list(told.results.glob("estimates/*/*/*.parquet")))
    cluster.stop_controller()
    began = time.monotonic()
    lay_out(local, STUDY.replace("batch: 3", "batch: 6"))
    subprocess.run(
        snakemake("--cores", "1", "results/tiny/performance.parquet"),
        cwd=local,
        env=cluster.environment,
        check=True,
        capture_output=True,
    )
    time.sleep(max(0, AWAY - (time.monotonic() - began)))
    told.away, told.local = time.monotonic() - began, local / "results" / "tiny"
    assert run.poll() is None, (folder / "said.txt").read_text()
    cluster.start()


def test_all_work_goes_through_slurm(story: Story) -> None:
    completed = [job.what.split("_wildcards")[0] for job in story.jobs if job.state == "COMPLETED"]
    assert sorted(completed) == sorted(
        ["rule_fit"] * 4 + ["rule_collect", "rule_performance", "rule_report"]
    )
    assert (story.results / "report" / "index.html").is_file()


def test_what_exceeds_its_memory_is_run_again_with_more(story: Story) -> None:
    hungry = {job.what for job in story.jobs if job.what.endswith("_00006")}
    assert len(hungry) == 2
    for what in hungry:
        first, *cut_off, last = (job for job in story.jobs if job.what == what)
        assert first.memory == "90M"
        assert first.state in ("OUT_OF_MEMORY", "FAILED", "CANCELLED")
        assert {job.number for job in cut_off} <= story.cut_off
        assert (last.state, last.memory) == ("COMPLETED", f"{900 * (2 + len(cut_off))}M")


def test_a_cancelled_job_is_run_again(story: Story) -> None:
    (cancelled,) = (job for job in story.jobs if job.number == story.cancelled)
    assert cancelled.state == "CANCELLED"
    *cut_off, last = (j for j in story.jobs if j.what == cancelled.what and j != cancelled)
    assert {job.number for job in cut_off} <= story.cut_off
    assert (last.state, last.memory) == ("COMPLETED", f"{900 * (2 + len(cut_off))}M")


def test_a_controller_that_is_away_for_a_minute_costs_nothing(story: Story) -> None:
    assert story.away >= AWAY
    assert 1 <= story.files_before < 4
    # Besides the three that were made to fail, and those that took up work while nobody answered,
    # each job ran once.
    made_to_fail = {j.number for j in story.jobs if j.memory == "90M"} | {story.cancelled}
    assert len(made_to_fail) == 3
    assert len(story.jobs) == 7 + len(made_to_fail | story.cut_off)


@pytest.mark.parametrize("name", ["estimates", "performance"])
def test_results_are_those_of_a_local_run(story: Story, name: str) -> None:
    there, here = (
        without_timings(folder / f"{name}.parquet") for folder in (story.results, story.local)
    )
    assert len(here) > 0
    pd.testing.assert_frame_equal(there, here)


def test_a_lock_stays_while_slurm_has_a_job_of_the_folder(cluster: Cluster, tmp_path: Path) -> None:
    folder = lay_out(tmp_path, STUDY)
    (folder / ".snakemake" / "locks").mkdir(parents=True)
    (folder / ".snakemake" / "locks" / "0.output.lock").write_text("results/tiny/x.parquet\n")
    job = cluster.ask(
        "sbatch",
        "--parsable",
        f"--chdir={folder}",
        "--mem=50",
        "--output=/dev/null",
        "--comment=rule_fit",
        "--wrap",
        "sleep 600",
    ).strip()
    unlock = [sys.executable, "workflow/scripts/unlock.py"]
    done = subprocess.run(
        unlock, cwd=folder, env=cluster.environment, capture_output=True, text=True, check=False
    )
    cluster.ask("scancel", job)
    assert done.returncode == 1
    assert f"Slurm's job {job}" in done.stderr
    assert "scancel" in done.stderr
    done = subprocess.run(
        unlock, cwd=folder, env=cluster.environment, capture_output=True, text=True, check=False
    )
    assert job not in done.stderr, "a job that has ended holds nobody up"
