"""The workflow: what runs, what does not run again, and that a kill changes nothing.

A study of least-squares fits, so that no engine is needed; each test starts Snakemake as a user
does, in a copy of the workflow.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from rmm.study import load_study, plan
from tests import ROOT
from tests.projects import lay_out_environment

pytest.importorskip("snakemake", reason="the extra `study` is not installed")

TIMINGS = ("seconds", "ess_per_second")
STUDY = """\
title: Tiny
aims: To see the workflow.
seed: 1
replications: 6
batch: 3
membership: {kind: synthetic, groups: 40, members: 20, size: 3, overlap: 1.0}
covariates:
  x: {level: member}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)
  parameters: {"b_l2[Intercept]": 0, "b_l1[x]": 0, sigma_l1: 1, sigma_l2: 1}
vary:
  overlap: {path: membership.overlap, values: [0.0, 1.0]}
methods:
  - {name: aggregation, kind: aggregation, backend: ols}
estimands:
  - {parameter: "b_l1[x]"}
report: {x: overlap}
"""
ADDED = "  - {name: disaggregation, kind: disaggregation, backend: ols}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(tmp_path, STUDY)


def lay_out(folder: Path, study: str) -> Path:
    """The workflow without results, and a study named `tiny`."""
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, symlinks=False)
    (folder / "profiles").symlink_to("workflow/profiles")
    (folder / "config" / "studies" / "tiny.yaml").write_text(study)
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", *more, "--config", "study=tiny"]


def snakemake(folder: Path, *more: str) -> str:
    done = subprocess.run(
        command(*more), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def on_a_terminal(folder: Path) -> str:
    """What Snakemake prints where standard error is a terminal."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        command(), cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the terminal is closed: the run has ended
            part = b""
        if not part:
            break
        said += part
    os.close(ours)
    assert run.wait() == 0, said.decode()
    return said.decode()


def jobs(said: str) -> dict[str, int]:
    """Rule -> number of jobs in the table that a dry run prints."""
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", said, flags=re.MULTILINE)}


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "config" / "studies" / "tiny.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def batches(folder: Path) -> dict[str, tuple[int, bytes]]:
    parts = sorted((folder / "results" / "tiny" / "estimates").glob("*/*/*.parquet"))
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in parts}


def without_timings(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
    return table[~table["measure"].isin(TIMINGS)] if "measure" in table else table


def test_without_a_target_snakemake_plans_the_whole_study(folder: Path) -> None:
    """Snakemake takes the rule for that from the Snakefile of the top folder only.

    And the profile from `profiles/`, beside this file.
    """
    said = snakemake(folder, "-n")
    assert "workflow specific profile profiles/default" in said
    planned = jobs(said)
    assert (planned["fit"], planned["report"]) == (4, 1)


@pytest.mark.thorough
def test_a_study_runs_once_and_grows_without_repeating(folder: Path) -> None:
    assert "fits 12 of 12 (100%)" in on_a_terminal(folder)
    results = folder / "results" / "tiny"
    assert (results / "report" / "index.html").is_file()
    (record,) = (results / "runs").iterdir()
    assert json.loads(record.read_text())["outcome"] == "complete"
    assert len(pd.read_parquet(results / "estimates.parquet")["replication"].unique()) == 6
    assert "Nothing to be done" in snakemake(folder)
    os.utime(folder / "config" / "studies" / "tiny.yaml")
    assert "Nothing to be done" in snakemake(folder)

    before = batches(folder)
    change(folder, "replications: 6", "replications: 8")
    change(folder, "batch: 3", "batch: 5")
    change(folder, "values: [0.0, 1.0]", "values: [0.0, 0.5, 1.0]")
    change(folder, "estimands:\n", ADDED + "estimands:\n")
    # Two old scenarios have two new replications, and a new method that is cut in fives; both
    # methods share the jobs of the new scenario.
    planned = jobs(snakemake(folder, "-n"))
    assert (planned["fit"], planned["fit_0_1"]) == (2 + 2 * 2, 2)
    assert not re.search(r"fits \d+ of", snakemake(folder))  # quiet off a terminal
    after = batches(folder)
    assert {path: after[path] for path in before} == before
    assert (
        len(
            pd.read_parquet(results / "estimates.parquet")[["scenario", "method"]].drop_duplicates()
        )
        == 6
    )


@pytest.mark.thorough
def test_a_job_on_a_cluster_does_not_read_the_batches_of_others(folder: Path) -> None:
    """An executor starts Snakemake for each job, which must not cost more the larger a study is.

    A batch of another file's stops a run, as it is planned from all batches; not a job.
    """
    study = load_study(folder / "config" / "studies" / "tiny.yaml")
    job, other = plan(study)[:2]
    results = folder / "results" / "tiny"
    (results / other.path).parent.mkdir(parents=True)
    (results / other.path).write_text("no batch")
    run = subprocess.run(
        command("-n"), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "not a complete file of estimates" in run.stdout + run.stderr
    wildcards = (
        f"fit:scenario={job.scenario},method={job.method},first={job.first:05d},last={job.last:05d}"
    )
    snakemake(
        folder,
        "--target-jobs",
        wildcards,
        "--allowed-rules",
        "fit",
        "--mode",
        "remote",
        "--nolock",
        "--ignore-incomplete",
        "--no-hooks",
    )
    assert (results / job.path).is_file()


@pytest.mark.thorough
def test_a_killed_study_ends_with_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    change(folder, "batch: 3", "batch: 1")
    run = subprocess.Popen(
        command(),
        cwd=folder,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(batches(folder)) >= 2 or run.poll() is not None)
    assert run.poll() is None, "the study ended before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = batches(folder)
    assert 2 <= len(kept) < 12
    unlock = [sys.executable, "workflow/scripts/unlock.py", "--config", "study=tiny"]
    done = subprocess.run(
        unlock, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no process of it is alive" in done.stdout
    snakemake(folder)
    killed = folder / "results" / "tiny"
    moved = killed.rename(tmp_path / "killed")
    change(folder, "batch: 1", "batch: 6")
    snakemake(folder)
    for name in ("scenarios", "estimates", "performance"):
        pd.testing.assert_frame_equal(
            without_timings(moved / f"{name}.parquet"),
            without_timings(killed / f"{name}.parquet"),
        )


@pytest.mark.thorough
@pytest.mark.jags
def test_cores_and_batch_size_change_nothing(folder: Path, tmp_path: Path) -> None:
    """1 and 2 cores, batches of 5 and 20, with least squares and an engine."""
    method = (
        "  - {name: mm, kind: mm, backend: jags, sampler: {chains: 2, warmup: 100, draws: 100}}\n"
    )
    change(folder, "replications: 6", "replications: 20")
    change(folder, "batch: 3", "batch: 5")
    change(folder, "values: [0.0, 1.0]", "values: [1.0]")
    change(folder, "estimands:\n", method + "estimands:\n")
    results, kept = folder / "results" / "tiny", []
    for cores in ("1", "2"):
        snakemake(folder, "--cores", cores)
        kept.append(results.rename(tmp_path / f"cores-{cores}"))
        if cores == "1":
            change(folder, "batch: 5", "batch: 20")
    for name in ("scenarios", "estimates", "performance"):
        one, two = (without_timings(path / f"{name}.parquet") for path in kept)
        pd.testing.assert_frame_equal(one, two)
    assert len(pd.read_parquet(kept[0] / "estimates.parquet")["replication"].unique()) == 20


def wait_for(ready: object, seconds: float = 480) -> None:
    until = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


@pytest.mark.thorough
@pytest.mark.parametrize("host", [None, "another-host"])
def test_a_lock_that_may_be_alive_stays(folder: Path, host: str | None) -> None:
    locks = folder / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/tiny/estimates.parquet\n")
    if host:
        owners = folder / ".snakemake" / "rmm_owners"
        owners.mkdir()
        (owners / "x.json").write_text(json.dumps({"host": host, "pid": 1}))
    done = subprocess.run(
        [sys.executable, "workflow/scripts/unlock.py"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (host or "snakemake --unlock") in done.stderr
    assert any(locks.iterdir())


def test_a_wrong_study_stops_before_the_first_job(folder: Path) -> None:
    change(folder, "kind: aggregation", "kind: agregation")
    done = subprocess.run(
        command(), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "methods[0].kind" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "results").exists()


@pytest.mark.slow
def test_methods_that_share_jobs_give_what_they_give_alone(folder: Path, tmp_path: Path) -> None:
    """Only what is missing is fitted, by whichever methods lack it."""
    change(folder, "estimands:\n", ADDED + "estimands:\n")
    assert jobs(snakemake(folder, "-n"))["fit_0_1"] == 4
    snakemake(folder)
    results = folder / "results" / "tiny"
    shared = without_timings(results / "estimates.parquet")
    assert len(list(results.glob("logs/fit/*/*.log"))) == 4
    lost = sorted(results.glob("estimates/*/aggregation/*.parquet"))[0]
    lost.unlink()
    (results / "estimates.parquet").unlink()
    planned = jobs(snakemake(folder, "-n"))
    assert planned["fit"] == 1
    assert "fit_0_1" not in planned
    snakemake(folder)
    pd.testing.assert_frame_equal(without_timings(results / "estimates.parquet"), shared)
    shutil.rmtree(results)
    change(folder, ADDED, "")  # one method after the other
    snakemake(folder)
    change(folder, "estimands:\n", ADDED + "estimands:\n")
    assert jobs(snakemake(folder, "-n"))["fit"] == 4
    snakemake(folder)
    pd.testing.assert_frame_equal(without_timings(results / "estimates.parquet"), shared)
    assert jobs(snakemake(folder, "-n", "--forcerun", "fit"))["fit"] == 8


@pytest.mark.thorough
def test_workflow_passes_snakemakes_own_lint(folder: Path) -> None:
    done = subprocess.run(
        command("--lint"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Congratulations" in done.stdout + done.stderr, done.stdout + done.stderr


def test_readme_explains_every_key() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    schema = json.loads((ROOT / "rmm" / "study" / "files" / "study.schema.json").read_text())
    for key, meaning in described(schema):
        assert f"| `{key}` | {meaning}"[:60] in text, key


def described(part: dict[str, object]) -> list[tuple[str, str]]:
    """(key, description) of every key of a schema, at any depth."""
    found = []
    for name, value in part.items():
        if name == "properties" and isinstance(value, dict):
            for key, rule in value.items():
                said = rule.get("description")
                if said and "enum" not in rule:
                    found.append((key, str(said)))
        if isinstance(value, dict):
            found += described(value)
    return found


STOPPING = """\
stopping:
  minimum: 10
  step: 10
  targets: [{measure: bias, parameter: "b_l1[x]", mcse: 0.12}]
"""


@pytest.mark.thorough
def test_a_study_stops_at_its_target_after_a_kill_too(folder: Path, tmp_path: Path) -> None:
    """The checkpoint adds batches stage by stage; a run without the rule tells where it ends."""
    change(folder, "replications: 6", "replications: 40")
    change(folder, "batch: 3", "batch: 20")
    change(folder, "values: [0.0, 1.0]", "values: [1.0]")
    change(folder, "estimands:\n", STOPPING + "estimands:\n")
    first = jobs(snakemake(folder, "-n"))
    assert (first["fit"], first["decide"], first["stopped"]) == (1, 1, 1)
    results = folder / "results" / "tiny"
    run = subprocess.Popen(
        command(),
        cwd=folder,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: any(results.glob("stopping/*/10.json")) or run.poll() is not None)
    assert run.poll() is None, "the study ended before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = batches(folder)
    snakemake(folder, "--unlock")
    said = snakemake(folder)
    assert {path: batches(folder)[path] for path in kept} == kept
    end = pd.read_parquet(results / "estimates.parquet")["replication"].max()
    assert re.search(rf"stopped at {end} of at most 40 replications: all targets reached", said)
    assert "Nothing to be done" in snakemake(folder)
    stopped = without_timings(results / "estimates.parquet")
    change(folder, STOPPING, "")
    assert set(jobs(snakemake(folder, "-n"))) == {  # the plan of a study without the rule
        "study",
        "collect",
        "design",
        "fit",
        "performance",
        "report",
        "total",
    }
    snakemake(folder)
    whole = without_timings(results / "estimates.parquet")
    means = whole[whole["parameter"] == "b_l1[x]"].set_index("replication")["mean"]
    errors = {n: means.loc[:n].std() / n**0.5 for n in (10, 20, 30, 40)}
    assert end == next(n for n, error in errors.items() if error <= 0.12)
    assert 10 < end < 40
    rest = whole[whole["replication"] <= end].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, stopped)


# --- folders with any name ------------------------------------------------------------------------


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="Python runs in no virtual environment")
@pytest.mark.parametrize(
    "place", [".venv", "../another user's environment (ö)"], ids=["inside", "beside"]
)
def test_a_path_may_hold_blanks_apostrophes_and_other_letters(tmp_path: Path, place: str) -> None:
    """Snakemake writes the path of Python into shell commands without quotes."""
    folder = tmp_path / "My user's files (ä)" / "rmm"
    folder.mkdir(parents=True)
    lay_out(folder, STUDY)
    python = lay_out_environment(folder / place)
    wanted = command("results/tiny/config.yaml")  # one script, which starts as all others do
    done = subprocess.run(
        [python, *wanted[1:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "results" / "tiny" / "config.yaml").is_file()


# --- kills between the end of a job and Snakemake's note of it ------------------------------------

#: What each step makes.
MADE = {
    "design": ["config.yaml", "scenarios.parquet", "steps/design-*"],
    "decide": ["stopping/*/*.json"],
    "stopped": ["stopping/*.json"],
    "collect": ["estimates.parquet", "stopping.parquet", "steps/collect-*"],
    "performance": ["performance.parquet", "steps/performance-*"],
    "report": ["report", "steps/report-*"],
}


@pytest.mark.thorough
def test_a_kill_before_snakemake_notes_a_job_costs_no_second_run(folder: Path) -> None:
    """Its files are there, the marks that it is at work are too, and what follows is missing.

    Snakemake 9.27 runs such a job again. It then leaves out what follows if all inputs that it
    has are `ancient`, and ends as if all were done.
    """
    from snakemake.persistence.file import FilePersistence

    change(folder, "estimands:\n", STOPPING.replace("10", "3") + "estimands:\n")
    results = folder / "results" / "tiny"
    snakemake(folder)
    wanted = without_timings(results / "performance.parquet")
    marks = FilePersistence(nolock=True, path=folder / ".snakemake")
    for step in list(MADE)[:-1]:
        later = list(MADE)[list(MADE).index(step) + 1 :] if step != "design" else ["report"]
        assert all(any(results.glob(name)) for name in MADE[step])
        for path in (p for one in later for name in MADE[one] for p in results.glob(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (p for name in MADE[step] for p in results.glob(name)):
            marks._mark_incomplete(str(path.relative_to(folder)), None)
        said = snakemake(folder)
        assert (results / "report" / "index.html").is_file(), (step, said)
        assert f"rule {step}:" in said or f"(Rule: {step})" in said, (step, said)
        pd.testing.assert_frame_equal(without_timings(results / "performance.parquet"), wanted)
        assert "Nothing to be done" in snakemake(folder)
