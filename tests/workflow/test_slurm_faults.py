"""Nodes that are lost and jobs that are preempted on a real Slurm: equal results at the end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.test_slurm import Cluster, cluster_with, snakemake, with_slurm
from tests.workflow.test_workflow import STUDY, lay_out, wait_for, without_timings

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `slurm` is not installed")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

#: A tenth of the kills of `make test-faults`; 5 by default.
LOSSES = max(1, int(os.environ.get("RMM_KILL_ROUNDS", "50")) // 10)


class Run:
    """A study on a cluster; whoever starts it looks after it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.started = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.started += 1
        with (self.folder / f"said{self.started}.txt").open("w") as said:
            return subprocess.Popen(
                with_slurm(), cwd=self.folder, env=self.cluster.environment, stdout=said,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        return (self.folder / f"said{self.started}.txt").read_text()

    def fitting(self) -> list[str]:
        """Numbers of jobs that fit; a run that gave up is started again, as its message says."""
        if self.process.poll() is not None:
            assert self.process.returncode != 0, "it ended before all was done to it"
            assert "Traceback" not in self.said()
            self.unlock()
            self.process = self._start()
        jobs = self.cluster.jobs(self.folder)
        return [j.number for j in jobs if j.state == "RUNNING" and j.what.startswith("rule_fit")]

    def unlock(self) -> None:
        subprocess.run(
            [sys.executable, "workflow/scripts/unlock.py"],
            cwd=self.folder, env=self.cluster.environment, check=True, capture_output=True,
        )  # fmt: skip

    def finish(self) -> None:
        """To its end, started again at most twice."""
        while self.process.wait(timeout=1500) != 0:
            assert self.started < LOSSES + 3, self.said()
            self.unlock()
            self.process = self._start()


@pytest.mark.parametrize("requeued", [True, False])
def test_lost_nodes_and_preempted_jobs_change_no_numbers(requeued: bool, tmp_path: Path) -> None:
    """With jobs that Slurm itself starts again, and where it does not."""
    draw, study = random.Random(6), STUDY.replace("batch: 3", "batch: 1")
    for name in ("slurm", "local"):
        (tmp_path / name).mkdir()
    there, here = lay_out(tmp_path / "slurm", study), lay_out(tmp_path / "local", STUDY)
    with cluster_with(f"JobRequeue={int(requeued)}") as cluster:
        run = Run(cluster, there)
        try:
            for loss in range(LOSSES):
                wait_for(run.fitting)
                time.sleep(draw.uniform(0, 5))
                if requeued and loss == 0:  # what preemption with PreemptMode=REQUEUE does
                    with suppress(subprocess.CalledProcessError):  # it has just ended
                        cluster.ask("scontrol", "requeue", run.fitting()[0])
                cluster.lose_node()
                cluster.start()
            run.finish()
        finally:
            if run.process.poll() is None:
                os.killpg(run.process.pid, 9)
                run.process.wait()
        lost = [job for job in cluster.jobs(there) if job.state == "NODE_FAIL"]
        assert requeued or lost, "no job was lost"
    subprocess.run(
        snakemake("--cores", "1", "results/tiny/performance.parquet"),
        cwd=here, env=cluster.environment, check=True, capture_output=True,
    )  # fmt: skip
    for name in ("estimates", "performance"):
        found, wanted = (
            without_timings(folder / "results" / "tiny" / f"{name}.parquet")
            for folder in (there, here)
        )
        assert len(wanted) > 0
        pd.testing.assert_frame_equal(found, wanted)
