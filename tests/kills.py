"""A small batch, started, killed and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from rmm.study import Study, load_study, plan, run_batch
from rmm.study.run import checkpoint as checkpoints
from rmm.study.run.log import logged
from tests.projects import FAKED

CONFIG: dict[str, Any] = {
    "seed": 5,
    "replications": 12,
    "batch": 12,
    "membership": {"kind": "synthetic", "groups": 20, "members": 10, "size": 2},
    "covariates": {"x": {"level": "member"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0.4, "sigma_l1": 1, "sigma_l2": 1},
    },
    "methods": [{"name": "agg", "kind": "aggregation", "backend": "ols"}],
    "estimands": [{"parameter": "b_l1[x]"}],
}


def load(folder: Path, **changes: Any) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}, sort_keys=False))
    return load_study(path)


def whole(study: Study, out: Path, **options: Any) -> list[str]:
    """Run all that is missing; what was said."""
    said: list[str] = []
    for job in plan(study, out):
        if not (out / job.path).is_file():
            run_batch(
                study,
                job.scenario,
                job.method,
                job.first,
                job.last,
                out / job.path,
                say=said.append,
                **options,
            )
    return said


def content(path: Path) -> tuple[Any, Any]:
    """All of a batch but what clocks say."""
    table = pq.read_table(path, partitioning=None)
    clocks = (b"rmm.started", b"rmm.ended", b"rmm.seconds")
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k not in clocks}
    return table.drop_columns(["seconds"]).to_pydict(), metadata


def only(out: Path, pattern: str = "*.parquet") -> Path:
    (found,) = out.rglob(pattern)
    return found


def parts(out: Path) -> list[Path]:
    return sorted(out.rglob(".parts/*"))


def run_job(file: Path | str, out: Path | str, long: float | str) -> None:
    """Run the one batch of a study as a job does, with its log; see `start`."""
    study, out = load_study(file), Path(out)
    checkpoints.LONG = float(long)
    (job,) = plan(study, out)
    with logged(out / "log") as say:
        run_batch(study, job.scenario, job.method, job.first, job.last, out / job.path, say=say)


JOB = "import sys\nfrom tests.kills import run_job\nrun_job(*sys.argv[1:])\n"


def start(
    study: Study,
    out: Path,
    *,
    long: float = 1.0,
    python: Path | str = sys.executable,
    **changes: str,
) -> subprocess.Popen[str]:
    """Run the one batch of a study as a job does, in a process of its own.

    `long`: seconds of a fit that is written at once. Fits of the fake engine take 50 ms, and are
    noted in ``journal`` beside `out`.
    """
    environment = {
        "RMM_FAKE_SECONDS": "0.05",
        "RMM_FAKE_JOURNAL": str(out.with_name("journal")),
        "OPENBLAS_NUM_THREADS": "1",
        **changes,
    }
    out.mkdir(exist_ok=True)
    (out / "log").touch()
    return subprocess.Popen(
        [python, "-c", JOB, str(study.file), str(out), str(long)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(journal: Path) -> int:
    return len(journal.read_text().splitlines()) if journal.is_file() else 0


def kill_rounds(folder: Path, *, rounds: int, seed: int) -> None:
    """Kill a batch `rounds` times at random moments, by SIGKILL and SIGTERM in turn.

    After each kill everything on disk can be read, and no fit is gone that was there before; in
    the end no more than one fit per kill was done twice, and the batch is an undisturbed one.
    """
    draw = random.Random(seed)
    study = load(folder, methods=[FAKED], replications=4 * rounds, batch=4 * rounds)
    out, journal = folder / "out", folder / "journal"
    on_disk: set[int] = set()
    for number in range(rounds):
        ended = killed(start(study, out, long=-1.0), journal, draw, number)
        log = (out / "log").read_text()
        assert "Traceback" not in log, log
        assert ended in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), log
        now = {
            r
            for path in out.rglob("[!.]*.parquet")
            for r in pq.read_table(path, partitioning=None)["replication"].to_pylist()
        }
        assert now >= on_disk
        on_disk = now
    assert 0 < len(on_disk) < 4 * rounds
    ended_well = lines(journal)
    job = start(study, out, long=-1.0)
    assert job.wait() == 0, (out / "log").read_text()
    assert lines(journal) - ended_well == 4 * rounds - len(on_disk)
    assert ended_well - len(on_disk) <= rounds  # the fits in flight
    whole(study, folder / "undisturbed")
    assert content(only(out)) == content(only(folder / "undisturbed"))


def killed(job: subprocess.Popen[str], journal: Path, draw: random.Random, number: int) -> int:
    """End a job after 0 to 3 more fits, and a moment; its exit code."""
    fits, until = lines(journal) + draw.randrange(4), time.monotonic() + 800
    try:
        while lines(journal) < fits and job.poll() is None:
            assert time.monotonic() < until, "waited too long for a fit"
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.3))
    finally:
        job.send_signal((signal.SIGKILL, signal.SIGTERM)[number % 2])
        job.communicate()
    return job.returncode
