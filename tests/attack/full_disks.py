"""Writes that fail, as on a full disk: finished fits are kept, and the numbers are the same."""

from __future__ import annotations

import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rmm.errors import StudyError
from rmm.study import collect, plan, write_design, write_performance
from rmm.study.files.parquet import RUN_COLUMNS, read_estimates
from rmm.study.manage.damage import damaged_files
from rmm.study.run.batch import run_batch
from rmm.study.run.progress import Watch
from tests.attack import Attack
from tests.results import Results, finished

#: Bytes up to which files are cut off; the largest table has 15 kB.
_LARGEST = 20_000


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """Let every write beyond some bytes of a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def steps_of(results: Results) -> Iterator[Callable[[], Any]]:
    """What a run of the study does that is not done."""
    folder, jobs = results.folder, plan(results.study, results.folder)
    yield Watch(jobs, folder).begin
    yield lambda: write_design(results.study, folder)
    yield lambda: results.end("design")
    for job in jobs:
        path = folder / job.path
        if not path.is_file():
            yield lambda job=job, path=path: run_batch(  # type: ignore[misc]
                results.study, job.scenario, job.method, job.first, job.last, path
            )
    yield lambda: collect(results.study, results.batches, folder / "estimates.parquet")
    yield lambda: results.end("collect", results.batches)
    tables = (folder / "estimates.parquet", folder / "performance.parquet")
    yield lambda: write_performance(results.study, *tables)
    yield lambda: results.end("performance")


def estimates_of(results: Results) -> dict[str, list[Any]]:
    table, _ = read_estimates(results.folder / "estimates.parquet")
    found: dict[str, list[Any]] = table.drop_columns(list(RUN_COLUMNS)).to_pydict()
    return found


def _broken(results: Results, wanted: dict[str, list[Any]], size: int) -> str:
    done = 0
    try:
        for step in steps_of(results):
            with _files_up_to(size):
                step()
            done += 1
    except StudyError as error:
        if "File too large" not in str(error) or str(results.folder) not in str(error):
            return f"step {done}, {size} bytes: an error without the file: {error}"
    except Exception as error:  # noqa: BLE001  what the attack looks for
        return f"step {done}, {size} bytes: {type(error).__name__}: {error}"
    if damaged := damaged_files(results.folder):
        return f"step {done}, {size} bytes: left {damaged}"
    kept = {path: path.stat().st_mtime_ns for path in results.batches if path.is_file()}
    for step in steps_of(results):
        step()
    if any(path.stat().st_mtime_ns != when for path, when in kept.items()):
        return f"step {done}, {size} bytes: fits were repeated"
    return "" if estimates_of(results) == wanted else f"step {done}, {size} bytes: other estimates"


def _full(draw: random.Random, folder: Path) -> Iterator[str]:
    results = finished(folder)
    wanted = estimates_of(results)
    while True:
        shutil.rmtree(results.folder)
        yield _broken(results, wanted, draw.randrange(_LARGEST))


ATTACKS = (Attack("writes that fail in a study", 500, _full),)
