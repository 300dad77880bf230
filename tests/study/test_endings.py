"""A signal ends a job, whatever a library makes of the exception that it raises."""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from rmm.errors import RmmError
from rmm.study.files.end_signals import ended_by_signals, leave_if_ended
from rmm.study.methods import fit_task as fitting
from rmm.study.methods.task import Task
from rmm.study.run.log import logged
from rmm.study.run.replicate import make_task
from tests.kills import load

SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGINT]


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """`nohup`, and shells that start us in the background, let us ignore some of them."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def made_into(kind: type[Exception], number: int) -> None:
    """As a compiled module does that is imported while the signal comes."""
    try:
        os.kill(os.getpid(), number)
    except SystemExit as error:
        raise kind("initialization failed") from error


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", [ImportError, SystemError, RmmError])
def test_an_exception_made_of_a_signal_is_the_signal(
    tmp_path: Path, number: int, kind: type[Exception]
) -> None:
    with pytest.raises(SystemExit, match=f"^{128 + number}$"), logged(tmp_path / "log"):
        made_into(kind, number)
    text = (tmp_path / "log").read_text()
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert text.startswith(f"Ended by {name}. What is finished is kept")
    assert "Traceback" not in text
    assert f"On the way out: {kind.__name__}: initialization failed" in text


@pytest.mark.parametrize("kind", [ImportError, RmmError])
def test_no_fit_that_a_signal_broke_off_is_a_failed_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    study = load(tmp_path)
    task = make_task(study, study.scenarios[0], study.methods[0], 1)

    def broken_off(_: Task) -> None:
        made_into(kind, signal.SIGTERM)

    monkeypatch.setattr(fitting, "_fit_of", lambda _: broken_off)
    with pytest.raises(SystemExit, match=r"^143$"), ended_by_signals():
        fitting.fit_task(task)


def test_a_signal_in_a_callback_ends_the_job_before_the_next_fit(tmp_path: Path) -> None:
    """Python drops exceptions there; the import of a module has such callbacks."""

    class Object:
        pass

    def drop() -> None:
        here = Object()
        reference = weakref.ref(here, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del here
        assert reference() is None

    with pytest.raises(SystemExit, match=r"^143$"), logged(tmp_path / "log"):
        drop()
        leave_if_ended()
        raise AssertionError("the job goes on")
    text = (tmp_path / "log").read_text()
    assert text.startswith("Ended by SIGTERM. What is finished is kept")
    assert "Traceback" not in text


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """After a job its handlers are gone, and later errors are errors."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit, match=r"^143$"), logged(tmp_path / "log"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    leave_if_ended()
    with pytest.raises(ImportError, match=r"^a later error$"), ended_by_signals():
        raise ImportError("a later error")


@pytest.mark.parametrize("kind", [MemoryError, pa.ArrowMemoryError])
def test_too_little_memory_is_a_message(tmp_path: Path, kind: type[Exception]) -> None:
    with pytest.raises(SystemExit, match=r"^1$"), logged(tmp_path / "log"):
        raise kind("malloc of size 64 failed")
    text = (tmp_path / "log").read_text()
    assert text.startswith("The job ran out of memory. Give it more")
    assert "Traceback" not in text


def test_a_log_that_is_a_link_does_not_empty_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "log").symlink_to(tmp_path / "mine")
    with logged(tmp_path / "log"):
        os.write(1, b"a line\n")
    assert (tmp_path / "log").read_text() == "a line\n"
    assert (tmp_path / "mine").read_text() == "mine"
