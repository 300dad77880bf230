"""Symbolic links in a results folder that lead outside: what is there stays as it is."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from rmm.errors import RmmError, StudyError
from rmm.study import plan
from rmm.study.files.disks import writing
from rmm.study.manage.damage import damaged_files, set_damaged_aside
from rmm.study.report import write_report
from rmm.study.run.batch import run_batch
from rmm.study.run.checkpoint import discard
from rmm.study.run.claim import claim
from rmm.study.run.log import logged
from rmm.study.run.provenance import begin_run, end_run
from tests.attack import Attack, unexpected
from tests.attack.full_disks import estimates_of, steps_of
from tests.results import Results, finished

#: One report in so many cases: it takes a hundred times as long as all others.
_REPORTS = 60
#: Places in a results folder that a run writes to, besides those that are there.
_PLACES = ("report", "report/figures", "report/tables", "report/index.html", "logs", "steps",
           "logs/batches.jsonl", "logs/progress.json", "logs/progress", "logs/running", "runs",
           "logs/started.json", "logs/fit.log", "estimates", "damaged", "replaced", ".claim",
           "estimates.parquet", "performance.parquet", "stopping.parquet", "config.yaml",
           "programs", "stopping", "data", "pilot")  # fmt: skip


def _outside(folder: Path, results: Results) -> Path:
    """What a user has elsewhere: files of their own, and some with names that results have."""
    folder.mkdir()
    job = plan(results.study)[0]
    names = ["thesis.tex", "figures/mine.pdf", "tables/mine.csv", "mine.json", "index.html",
             "estimates.parquet", "mine.jsonl", job.path, f"{Path(job.path).name}", "notes.log",
             f"{job.scenario}/{job.method}/{Path(job.path).name}", "collect-mine.json",
             f"{job.scenario}_{job.method}_1-3.json", "1-3.abc.parquet",
             f".parts/{Path(job.path).name}"]  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}\n" * 20)
    return folder


def _link(results: Path, outside: Path, draw: random.Random) -> tuple[Path, str]:
    """Put a link in the place of a file or folder of the results."""
    there = sorted(results.rglob("*"))
    batch = next(path for path in there if path.parts[-4] == "estimates" and path.suffix)
    work = [batch.parent / ".parts", results / "logs" / "fit" / f"{batch.stem}.log", batch.parent]
    work += [results / name for name in _PLACES]
    place = draw.choice(there if draw.random() < 0.3 else work)
    files = [path for path in outside.rglob("*") if path.is_file()]
    target = draw.choice(
        (
            draw.choice(files),
            draw.choice(files),
            outside,
            draw.choice([path for path in outside.rglob("*") if path.is_dir()]),
            outside / "not there",
            place,
            outside / "not there" / "either",
        )
    )
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    return place, f"{place.relative_to(results)} -> {target.name}"


def _fits(results: Results) -> None:
    """The jobs of missing batches, as Snakemake starts them; each has its log."""
    odd: list[Exception] = []
    for job in plan(results.study, results.folder):
        path = results.folder / job.path
        if not path.is_file():
            log = results.folder / "logs" / "fit" / f"{path.stem}.log"
            with logged(log) as say:
                try:
                    run_batch(
                        results.study, job.scenario, job.method, job.first, job.last, path, say=say
                    )
                except RmmError:
                    raise
                except Exception as error:  # noqa: BLE001  a traceback in a log
                    odd.append(error)
            if odd:
                raise odd[0]


def _set_outdated_aside(results: Results) -> None:
    for one in results.outdated():
        set_damaged_aside(dict.fromkeys(one.altered, "was changed"), results.folder)
        with writing(one.record):
            one.record.unlink(missing_ok=True)


def _record(results: Results) -> None:
    end_run(begin_run(results.study, results.folder), "complete")


def _run(results: Results, report: bool) -> Iterator[Callable[[], Any]]:
    """What a run of the study does."""
    folder = results.folder
    yield lambda: claim(folder, lambda line: None)
    yield lambda: set_damaged_aside(damaged_files(folder), folder)
    yield lambda: discard(folder, unfinished=True)
    yield lambda: _record(results)
    yield lambda: _fits(results)
    yield lambda: _set_outdated_aside(results)
    yield from steps_of(results)
    if report:
        yield lambda: write_report(results.study, folder)


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _links(draw: random.Random, folder: Path) -> Iterator[str]:
    """A run with a link in its results; then, without the link, the numbers of before."""
    original = finished(folder / "original")
    wanted = estimates_of(original)
    results = Results(original.study, folder / "results" / "tiny")
    for number in count():
        shutil.rmtree(results.folder, ignore_errors=True)
        shutil.copytree(original.folder, results.folder)
        shutil.rmtree(folder / "outside", ignore_errors=True)
        outside = _outside(folder / "outside", results)
        before = _content(outside)
        batches = results.batches
        link, what = _link(results.folder, outside, draw)
        for path in draw.sample(batches, draw.randrange(len(batches) + 1)):
            if link not in path.parents:
                path.unlink(missing_ok=True)
        into_folder = link.is_dir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            broken = _ended(results, draw.randrange(_REPORTS) == 0)
        now = _content(outside)
        # In a folder that is linked to on purpose, such as one on a larger disk, files are made.
        aside = {*_content(results.folder / "damaged").values()}
        gone = {path: was for path, was in before.items() if now.get(path) != was}
        lost = [path.name for path, was in gone.items() if was not in aside]
        made = [path.name for path in now if path not in before and not into_folder]
        broken += f" outside, lost: {lost}" * bool(lost) + f" made: {made}" * bool(made)
        if link.is_symlink():
            link.unlink()
        broken = broken or _again(results, wanted)
        yield f"case {number}, {what}: {broken}" if broken else ""


def _ended(results: Results, report: bool) -> str:
    try:
        for step in _run(results, report):
            step()
    except StudyError as error:
        return "" if str(results.folder.name) in str(error) else f"no file is named: {error}"
    except SystemExit as error:
        return "" if error.code == 1 else f"exit code {error.code}"
    except Exception as error:  # noqa: BLE001  what the attack looks for
        return unexpected(error)
    return ""


def _again(results: Results, wanted: dict[str, list[Any]]) -> str:
    with suppress(FileNotFoundError):
        shutil.rmtree(results.folder / "steps")
    if broken := _ended(results, report=False):
        return f"afterwards: {broken}"
    return "" if estimates_of(results) == wanted else "afterwards: other estimates"


ATTACKS = (Attack("symbolic links in results", 250, _links),)
