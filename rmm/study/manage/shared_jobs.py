"""Jobs that fit several methods to the same data sets, in one process.

Data are simulated once, and the libraries are imported once. Each method keeps its own file of
estimates and its own checkpoint, as in a job of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rmm.study.design.study import Study
from rmm.study.manage.jobs import Job

Methods = tuple[str, ...]


def missing_jobs(jobs: Iterable[Job], folder: str | Path) -> list[Job]:
    """Those of `jobs` that have no file in the results `folder`."""
    return [job for job in jobs if not (Path(folder) / job.path).is_file()]


def shared_jobs(study: Study, jobs: Iterable[Job]) -> dict[Methods, list[Job]]:
    """Jobs by the methods that one process fits.

    Methods share a process where they have the same replications to fit in a scenario and their
    fits are short (`Method.shares_jobs`).

    Parameters
    ----------
    study : Study
    jobs : iterable of Job

    Returns
    -------
    dict
        Names of methods, in the order of the study -> jobs of these methods. A method that fits
        alone is a tuple of one name.
    """
    together: defaultdict[tuple[str, int, int], list[str]] = defaultdict(list)
    found: defaultdict[Methods, list[Job]] = defaultdict(list)
    jobs = list(jobs)
    sharing = {
        (scenario, name)
        for scenario, name in {(job.scenario, job.method) for job in jobs}
        if study.method_in(study.scenario(scenario), name).shares_jobs
    }
    for job in jobs:
        if (job.scenario, job.method) in sharing:
            together[job.scenario, job.first, job.last].append(job.method)
    order = {method.name: number for number, method in enumerate(study.methods)}
    for job in jobs:
        names = together.get((job.scenario, job.first, job.last), [])
        key = (
            sorted(names, key=order.__getitem__)
            if (job.scenario, job.method) in sharing
            else [job.method]
        )
        found[tuple(key)].append(job)
    return dict(found)


def first_jobs(together: Mapping[Methods, Sequence[Job]]) -> dict[Methods, Job]:
    """A job of some sets of methods, so that each method has fits as soon as possible.

    Parameters
    ----------
    together : mapping
        Methods that share jobs -> these jobs; one method may be in several sets.
    """
    seen: set[str] = set()
    first: dict[Methods, Job] = {}
    for names in sorted(together, key=len, reverse=True):
        if not seen.issuperset(names):
            first[names] = together[names][0]
            seen.update(names)
    return first


def scenario_pattern(jobs: Iterable[Job]) -> str:
    """A regular expression for the scenario in paths of batches that matches `jobs` only.

    It looks ahead at the method and the replications, ``SCENARIO/METHOD/FIRST-LAST.parquet``, so
    that Snakemake has one rule for each file, and none for those that exist.

    Parameters
    ----------
    jobs : iterable of Job

    Returns
    -------
    str
        Matches nothing if there are no jobs.
    """
    ranges: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for job in jobs:
        ranges[job.scenario][job.method].add(f"{job.first:05d}-{job.last:05d}")
    scenarios: defaultdict[str, list[str]] = defaultdict(list)
    for scenario, methods in ranges.items():
        scenarios[_alternatives(methods)].append(scenario)
    parts = [
        f"(?:{_one_of(names)})(?=/(?:{ahead})\\.parquet$)" for ahead, names in scenarios.items()
    ]
    return "|".join(parts) or "(?!)"


def _one_of(names: Iterable[str]) -> str:
    """Names by their first characters: thousands are not compared one after the other."""
    ends: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        ends[name[:3]].append(re.escape(name[3:]))
    return "|".join(f"{re.escape(start)}(?:{'|'.join(rest)})" for start, rest in ends.items())


def _alternatives(methods: dict[str, set[str]]) -> str:
    """``METHOD/(?:RANGE|RANGE)`` of each method; methods with the same replications together."""
    names: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for method, found in sorted(methods.items()):
        names[tuple(sorted(found))].append(re.escape(method))
    return "|".join(f"(?:{'|'.join(m)})/(?:{'|'.join(found)})" for found, m in names.items())
