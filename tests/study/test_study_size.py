"""What `rmm study check` says about studies of many fits."""

from __future__ import annotations

import re

import pytest

from rmm.study.planning import study_size
from rmm.study.planning.study_size import size_notes
from tests import ROOT

GB = 10**9


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_size, "available_memory", lambda: 8 * GB)


def measured(step: str, size: str) -> tuple[float, float]:
    """Seconds and bytes of a step, by the kept benchmark."""
    lines = (ROOT / "benchmarks" / "scale.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    cell = next(row for row in rows if row[0] == step)[rows[0].index(f"{size} fits")]
    found = re.fullmatch(r"([\d.]+) \([\d.]+\) s, (\d+) MB", cell)
    assert found
    return float(found[1]), float(found[2]) * 1e6


@pytest.mark.parametrize(("size", "fits"), [("100,000", 100_000), ("1,000,000", 1_000_000)])
def test_rates_are_those_of_the_benchmark(size: str, fits: int) -> None:
    """Within a third: they are rates for batches of 100 fits, on a machine with other work."""
    seconds, room = measured("`snakemake -n`, nothing there", size)
    batches = fits // 100
    told = study_size.LEAST_SECONDS + study_size.START_SECONDS * batches
    assert told == pytest.approx(seconds, rel=1 / 3)
    assert study_size.LEAST_BYTES + study_size.START_BYTES * batches == pytest.approx(room, rel=0.5)
    if size == "1,000,000":
        steps = [measured(step, size) for step in ("collection", "measures", "report")]
        told = study_size.LEAST_SECONDS + study_size.END_SECONDS * fits
        assert told == pytest.approx(sum(seconds for seconds, _ in steps), rel=1 / 3)
        most = max(room for _, room in steps)
        told = study_size.LEAST_BYTES + study_size.END_BYTES * fits
        assert told == pytest.approx(most, rel=1 / 3)


def test_small_studies_need_no_word() -> None:
    assert size_notes(4_999, 499_999) == []


def test_a_large_study_is_told_what_it_needs() -> None:
    (note,) = size_notes(10_000, 1_000_000)
    assert "about 30,000 files; each start takes about 12 s and 395 MB of memory" in note
    assert "about 74 s and 1.6 GB" in note


def test_a_study_that_does_not_fit_is_told_what_to_do() -> None:
    size, batches, memory = size_notes(1_000_000, 100_000_000)
    assert "3,000,000 files" in size
    assert "with a `batch` 10 times as large, there are 100,000" in batches
    assert "8.0 GB of memory free" in memory
    assert "several study files, with the same `seed`" in memory


def test_memory_that_is_not_known_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_size, "available_memory", lambda: None)
    assert len(size_notes(100_000, 100_000_000)) == 1
