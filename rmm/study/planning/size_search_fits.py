"""A study's own fits for `search`: at any size, in several processes, kept with its estimates."""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rmm._version import __version__
from rmm.errors import StudyError, counted
from rmm.study.design.power_rule import Search
from rmm.study.design.scenarios import Scenario, build_scenarios
from rmm.study.design.study import Study, load_checked
from rmm.study.evaluate.power import at_null, power_of
from rmm.study.files import seeds
from rmm.study.files.messages import StudyFileErrors
from rmm.study.files.parquet import read_batches, write_text
from rmm.study.manage.jobs import Job, method_jobs
from rmm.study.measures.score_cells import score_estimates
from rmm.study.planning.size_search import Found, Round, search_size, shown
from rmm.study.run.batch import run_batch
from rmm.study.run.progress import words

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def search_study(
    study: Study, folder: str | Path, *, cores: int = 1, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Search the size for the target power, per method and combination of the other factors.

    Fits are kept below ``folder/estimates`` like those of the study, the answer is written to
    ``folder/search.json`` after each method.

    Parameters
    ----------
    cores : int
        Processes; they change no number.
    say : callable
        Is told how far the search is, a line per round.

    Returns
    -------
    dict
        What is written.

    Raises
    ------
    StudyError
        If the study has no `power.search`.
    """
    power, search = power_of(study), search_of(study)
    folder = Path(folder)
    facts: dict[str, Any] = {
        "study": study.name,
        "parameter": power.parameter,
        "alpha": power.alpha,
        "target": power.target,
        "size": power.size,
        "rmm_version": __version__,
        "results": [],
    }
    with _executor(study, cores) as executor:
        for setting in settings_of(study):
            for method in power.methods:
                fits = _Fits(study, folder, setting, method, executor, cores)
                found = _one(fits, search, power.target, say)
                facts["results"].append(
                    {"setting": dict(setting), "method": method, **shown(found)}
                )
                write_text(json.dumps(facts, indent=2) + "\n", folder / "search.json")
    return facts


def search_of(study: Study) -> Search:
    """How the study searches; `StudyError` if it does not say."""
    found = power_of(study).search
    if found is None:
        raise StudyError(
            f"{study.file}: power.search\n  `power.search` is missing. It is the range of sizes to "
            "try.\n  Add to `power` in the study file: search: {low: ..., high: ...}"
        )
    return found


def settings_of(study: Study) -> list[Mapping[str, Any]]:
    """Combinations of the factors besides the size, where the null is not true."""
    size = power_of(study).size
    found: dict[str, Mapping[str, Any]] = {}
    for scenario in study.scenarios:
        if not at_null(study, scenario):
            setting = {k: v for k, v in scenario.factors.items() if k != size}
            found[seeds.canonical(setting)] = setting
    return list(found.values())


def _one(fits: _Fits, search: Search, target: float, say: Callable[[str], None]) -> Found:
    label = ", ".join([fits.method, *(f"{k} {v}" for k, v in fits.setting.items())])

    def tell(found: Round) -> None:
        say(f"{label}: {round_words(found, search, fits.pace)}")

    found = search_size(fits, search, target, tell)
    say(f"{label}: {found.words}, {_REASONS[found.reason]}, {counted(found.last.fits, 'fit')}")
    return found


_REASONS = {
    "precise": "precise enough",
    "below": "smaller than the smallest size to try",
    "above": "larger than the largest size to try",
    "maximum": "largest number of fits reached",
}


def round_words(found: Round, search: Search, pace: float) -> str:
    """How far a search is after a round; `pace` is seconds per fit, nan if not known."""
    text = f"round {found.number}, {counted(found.fits, 'fit')}"
    if not math.isfinite(found.width):
        return f"{text}: size not bounded yet"
    text += f": {found.size:.0f} ({found.low:.0f} to {found.high:.0f}), "
    text += f"±{found.width:.1%} of ±{search.precision:.1%}"
    needed = found.fits * (found.width / search.precision) ** 2
    left = min(needed, search.maximum) - found.fits
    return f"{text}, about {words(left * pace)} left" if left > 0 and pace > 0 else text


class _Fits:
    """Rejections of one method in one setting at given sizes; fits what is not on disk."""

    def __init__(
        self,
        study: Study,
        folder: Path,
        setting: Mapping[str, Any],
        method: str,
        executor: Executor | None,
        cores: int,
    ) -> None:
        self.study, self.folder, self.setting, self.method = study, folder, setting, method
        self.executor, self.cores = executor, cores
        self.seconds, self.fitted = 0.0, 0

    @property
    def pace(self) -> float:
        """Seconds per fit so far, all processes together."""
        return self.seconds / self.fitted if self.fitted else math.nan

    def __call__(self, wanted: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        jobs = {size: self._jobs(size, count) for size, count in wanted.items()}
        missing = [
            (size, job)
            for size, found in jobs.items()
            for job in found
            if not (self.folder / job.path).is_file()
        ]
        started = time.monotonic()
        self._run(missing)
        self.seconds += time.monotonic() - started
        self.fitted += sum(job.last - job.first + 1 for _, job in missing)
        return {size: self._count(size, jobs[size], wanted[size]) for size in wanted}

    def _jobs(self, size: int, count: int) -> list[Job]:
        scenario = scenario_at(self.study, size, self.setting)
        cut = replace(self.study, batch=max(1, math.ceil(count / self.cores)))
        settled = self.study.method_in(scenario, self.method)
        fitted = scenario.with_settings(self.method)
        return method_jobs(cut, fitted, settled, count, self.folder)

    def _run(self, missing: list[tuple[int, Job]]) -> None:
        if self.executor is None:
            for size, job in missing:
                run_at(self.study, self.folder, size, self.setting, job)
            return
        running = [
            self.executor.submit(_work, self.folder, size, dict(self.setting), job)
            for size, job in missing
        ]
        for each in running:
            each.result()

    def _count(self, size: int, jobs: list[Job], count: int) -> tuple[int, int]:
        """Rejections and usable fits among the first `count` replications."""
        power = power_of(self.study)
        table = read_batches([self.folder / job.path for job in jobs]).to_pandas()
        table = table[table["replication"] <= count]
        scores = score_estimates(
            table, alpha=power.alpha, measures=["rejection"], parameters=[power.parameter]
        )
        row = scores[scores["policy"] == "per_method"].iloc[0]
        return (round(row["value"] * row["n"]), int(row["n"])) if row["n"] else (0, 0)


def run_at(study: Study, folder: Path, size: int, setting: Mapping[str, Any], job: Job) -> None:
    """Run a batch of a scenario that the study has at another size."""
    scenario = scenario_at(study, size, setting)
    here = replace(study, scenarios=(scenario,))
    run_batch(here, job.scenario, job.method, job.first, job.last, folder / job.path)


def scenario_at(study: Study, size: int, setting: Mapping[str, Any]) -> Scenario:
    """The scenario of a setting at a size; where the study has it, its address is the same."""
    return _scenarios_at(study, size)[seeds.canonical(dict(setting))]


@lru_cache(maxsize=256)
def _scenarios_at(study: Study, size: int) -> dict[str, Scenario]:
    name = power_of(study).size
    config = copy.deepcopy(dict(study.config))
    config["vary"][name]["values"] = [size]
    config["exclude"] = [e for e in config["exclude"] if name not in e]
    file_errors = StudyFileErrors(study.file, f"{name} = {size}")
    found = build_scenarios(config, study.root, file_errors, allow_code=study.code_allowed)
    return {seeds.canonical({k: v for k, v in s.factors.items() if k != name}): s for s in found}


# -- processes -------------------------------------------------------------------------------

_STUDY: Study | None = None


def _begin(file: Path, root: Path, allow_code: bool) -> None:
    global _STUDY
    _STUDY = load_checked(file, root=root, allow_code=allow_code)


def _work(folder: Path, size: int, setting: Mapping[str, Any], job: Job) -> None:
    assert _STUDY is not None
    run_at(_STUDY, folder, size, setting, job)


@contextmanager
def _processes(study: Study, cores: int) -> Iterator[Executor]:
    kept = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update({name: "1" for name in _THREADS if kept[name] is None})
    context = multiprocessing.get_context("spawn")
    try:
        arguments = (study.file, study.root, study.code_allowed)
        with ProcessPoolExecutor(
            cores, mp_context=context, initializer=_begin, initargs=arguments
        ) as executor:
            yield executor
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)


def _executor(study: Study, cores: int) -> Any:
    return nullcontext() if cores == 1 else _processes(study, cores)
