"""Methods that one process fits to the same data sets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rmm.study import Study, load_study, plan, run_batch
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.manage.jobs import Job
from rmm.study.manage.shared_jobs import missing_jobs, scenario_pattern, shared_jobs
from rmm.study.run import batch as batches
from rmm.study.run.batch import run_batches
from tests.study.test_batch_index import STUDY

JAGS = "  - {name: slow, kind: mm, backend: jags}\nestimands:"


class Kill(BaseException):
    """The end of a process."""


def load(folder: Path, text: str = STUDY) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "shared.yaml"
    file.write_text(text)
    return load_study(file)


def paths(study: Study, out: Path, last: int = 6) -> dict[str, Path]:
    job = plan(study)[0]
    return {m.name: out / Job(job.scenario, m.name, 1, last).path for m in study.methods}


def content(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path, partitioning=None)
    return table.drop_columns(list(RUN_COLUMNS)).to_pylist()


def alone(study: Study, out: Path, last: int = 6) -> dict[str, Path]:
    found = paths(study, out, last)
    for name, path in found.items():
        run_batch(study, study.scenarios[0].id, name, 1, last, path)
    return found


def test_estimates_are_those_of_methods_that_run_alone(tmp_path: Path) -> None:
    study = load(tmp_path)
    found = paths(study, tmp_path / "shared")
    run_batches(study, study.scenarios[0].id, found, 1, 6)
    for name, path in alone(study, tmp_path / "alone").items():
        assert content(found[name]) == content(path)


def test_data_are_simulated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, drawn = load(tmp_path), []
    real = batches.draw_replication

    def counted(seed: int, scenario: Any, replication: int) -> Any:
        drawn.append(replication)
        return real(seed, scenario, replication)

    monkeypatch.setattr(batches, "draw_replication", counted)
    run_batches(study, study.scenarios[0].id, paths(study, tmp_path / "out"), 1, 6)
    assert drawn == [1, 2, 3, 4, 5, 6]


def test_a_kill_loses_no_fit_of_any_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, fits = load(tmp_path), []
    real = batches.fit_task
    found = paths(study, tmp_path / "out")

    def counted(task: Any) -> Any:
        if len(fits) == 5:  # the second method has two of its six
            raise Kill
        fits.append(task.method.name)
        return real(task)

    with monkeypatch.context() as patched:
        patched.setattr(batches, "fit_task", counted)
        with pytest.raises(Kill):
            run_batches(study, study.scenarios[0].id, found, 1, 6)
    assert not any(path.exists() for path in found.values())
    said: list[str] = []
    run_batches(study, study.scenarios[0].id, found, 1, 6, said.append)
    assert [re.findall(r"(\w+): \w+, \w+: (\d) of", line) for line in said] == [
        [("aggregation", "3")],
        [("mm", "2")],
    ]
    for name, path in alone(study, tmp_path / "alone").items():
        assert content(found[name]) == content(path)


def test_a_method_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load(tmp_path)
    found = paths(study, tmp_path / "out")
    monkeypatch.setenv("RMM_FAKE_BACKEND", "crash")
    run_batches(study, study.scenarios[0].id, found, 1, 6)
    assert {row["status"] for row in content(found["mm"])} == {"failed"}
    assert {row["status"] for row in content(found["aggregation"])} == {"ok"}


def test_short_fits_of_the_same_replications_share_a_job(tmp_path: Path) -> None:
    study = load(tmp_path, STUDY.replace("estimands:", JAGS))
    out = tmp_path / "out"
    found = shared_jobs(study, plan(study))
    assert {names: len(jobs) for names, jobs in found.items()} == {
        ("aggregation", "mm"): 6,
        ("slow",): 3,
    }
    scenario = study.scenarios[0].id
    run_batch(study, scenario, "mm", 1, 2, out / Job(scenario, "mm", 1, 2).path)
    found = shared_jobs(study, missing_jobs(plan(study, out), out))
    assert {names: [j.first for j in jobs] for names, jobs in found.items()} == {
        ("aggregation",): [1],
        ("aggregation", "mm"): [3, 5, 3, 5],
        ("slow",): [1, 3, 5],
    }


def test_the_pattern_matches_these_jobs_and_no_others() -> None:
    jobs = [Job("sa", "m.1", 1, 2), Job("sa", "m.2", 1, 2), Job("sb", "m.1", 3, 4)]
    others = [Job("sb", "m.1", 1, 2), Job("sa", "mx1", 1, 2), Job("sab", "m.1", 3, 4)]
    path = re.compile(rf"estimates/(?P<scenario>{scenario_pattern(jobs)})/[^/]+/[^/]+")
    assert all(path.fullmatch(job.path) for job in jobs)
    assert not any(path.fullmatch(job.path) for job in others)
    assert not re.match(scenario_pattern([]), "sa/m.1/00001-00002.parquet")
