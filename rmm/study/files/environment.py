"""What a batch ran on, as far as it may matter for its numbers and its time: no names of hosts."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

#: What is kept in the metadata of estimates, and how a report calls it.
FACTS = {
    "python": "Python",
    "system": "System",
    "packages": "Libraries",
    "started": "First batch started",
    "ended": "Last batch ended",
}
#: What a report says of the last run: `rmm.study.run.provenance`.
RUN_FACTS = {
    "commit": "Commit",
    "lock": "Lock (SHA-256 of requirements.lock)",
    "compiler": "Compiler",
    "engines": "Engines of the last run",
    "host": "Host of the last run",
}
_ENDS = {"started": min, "ended": max}
_PACKAGES = ("numpy", "scipy", "pandas", "statsmodels")


def running_on() -> dict[str, str]:
    """Python, kind of machine, and versions of the libraries whose numbers go into estimates."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": _packages(),
    }


@cache
def _packages() -> str:
    """Libraries and their versions; finding these takes 10 ms."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def now() -> str:
    """The time, in UTC and to the second, as it is kept: ``2026-03-01T12:00:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def together(batches: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What the metadata of many batches say, each different thing once; of times the ends."""
    kept: dict[str, set[str]] = {name: set() for name in FACTS}
    for metadata in batches:
        for name in FACTS:  # a batch that was killed and taken up elsewhere says several things
            kept[name].update(filter(None, metadata.get(name, "").split("; ")))
    said = {name: sorted(values) for name, values in kept.items() if values}
    return {
        name: _ENDS[name](values) if name in _ENDS else "; ".join(values)
        for name, values in said.items()
    }
