"""Kinds of processors: what executables are made for, and where they run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rmm.backends.stan import cpu as processor

OLD = "processor : 0\nmodel name : An old one\nflags\t\t: sse2 fpu\n"
NEW = "processor : 0\nmodel name : A new one\nflags\t\t: fpu sse2 avx512f\n"
ARM = "processor : 0\nFeatures\t: fp asimd\n"


@pytest.fixture
def put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Make this machine one with another processor."""

    def put(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
        processor.this_kind.cache_clear()

    yield put
    monkeypatch.undo()
    processor.this_kind.cache_clear()


@pytest.mark.parametrize(
    ("flags", "tied"),
    [
        (("g++",), False),
        (("g++ -O3 -march=x86-64-v2", "CXXFLAGS += -mtune=generic"), False),
        (("g++ -march=native",), True),
        (("g++", "CXXFLAGS += -O3 -march=native -mtune=native\n"), True),
        (("clang++ -mcpu=native",), True),
        (("icpx -xHost",), True),
    ],
)
def test_only_native_flags_tie_to_a_processor(flags: tuple[str, ...], tied: bool) -> None:
    kind = processor.this_kind() if tied else processor.architecture()
    assert processor.made_for(*flags) == kind


def test_kinds_are_told_apart_by_their_instructions(put_in: object) -> None:
    kinds = []
    for text in (OLD, NEW, ARM, OLD.replace("sse2 fpu", "fpu sse2")):
        put_in(text)  # type: ignore[operator]
        kinds.append(processor.this_kind())
    assert len(set(kinds)) == 3
    assert kinds[3] == kinds[0], "the order of the flags means nothing"
    for kind in kinds:
        assert re.fullmatch(rf"{processor.architecture()}\.[0-9a-f]{{8}}", kind)


def test_what_was_made_for_one_kind_does_not_run_on_another(put_in: object) -> None:
    put_in(NEW)  # type: ignore[operator]
    tied, free = processor.made_for("g++ -march=native"), processor.made_for("g++")
    assert processor.runs_here(tied)
    assert processor.runs_here(free)
    put_in(OLD)  # type: ignore[operator]
    assert not processor.runs_here(tied)
    assert processor.runs_here(free)
    assert not processor.runs_here("sparc64")


def test_machines_without_proc_have_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "nothing")
    processor.this_kind.cache_clear()
    assert processor.this_kind().startswith(f"{processor.architecture()}.")
    processor.this_kind.cache_clear()
