"""Rules for all tests: in CI, a skip for a missing engine is a failure.

Elsewhere a test of a backend may be skipped where its engine is absent. In CI everything is
installed from the lock, so such a skip would hide a broken set-up.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Generator

import pytest

from tests.coalitions import coalitions  # noqa: F401  (a fixture for all tests)

# What reasons of such skips speak of; "could not import" is what `importorskip` says.
ENGINE = re.compile(
    r"jags|stan\b|cmdstan|laplace|engine|backend|compiler|g\+\+|could not import|not installed",
    re.IGNORECASE,
)
# Markers of tests that run an engine; the marker is the backend's name.
ENGINE_MARKERS = ("jags", "stan")
# What neither `make test` nor `make test-all` runs: each has a target or a command of its own.
LONG = {"slow", "parity", "calibration", "recovery", "closed_forms"}
LONG |= {"slurm", "docs", "packaging", "fuzz", "faults"}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(mark.name in LONG for mark in item.iter_markers()):
            item.add_marker("long")


@functools.cache
def why_absent(backend: str) -> str | None:
    """Say why an engine cannot run here, or None; asked once per process."""
    from rmm.backends import find_backend

    found = find_backend(backend).available()
    return None if found.available else f"backend {backend} cannot run: {found.what}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for backend in ENGINE_MARKERS:
        reason = why_absent(backend) if item.get_closest_marker(backend) else None
        if reason is not None:
            pytest.skip(reason)


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def missing_engine(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Give the reason of a skip that CI does not accept, or None."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    where = report.longrepr
    reason = str(where[2] if isinstance(where, tuple) else where)
    return reason if ENGINE.search(reason) else None


def fail_if_engine_is_missing(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = missing_engine(report) if in_ci() else None
    if reason is not None:
        report.outcome = "failed"
        report.longrepr = f"In CI every engine must be there, but this was to be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_engine_is_missing(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_engine_is_missing(report)
    return report
