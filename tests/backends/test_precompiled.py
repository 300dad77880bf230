"""The precompiled header: when it is made, that it is shared and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rmm.backends.stan import precompiled
from rmm.backends.stan.compile import compile_program
from rmm.backends.stan.install import find_cmdstan, wheel
from rmm.backends.stan.precompiled import PAYS_FROM, shared_header
from rmm.errors import BackendError
from tests import ROOT

pytestmark = pytest.mark.skipif(wheel() is None, reason="the wheel httpstan is not installed")

# Stands for GCC: notes what it compiles, with `-I header-...` if there is one.
GCC = """\
#!/bin/sh
if [ "$1" = "--version" ]; then echo "gcc 1 Copyright (C) {owner}"; exit 0; fi
echo "$*" >> "{log}"
{then}
while [ $# -gt 0 ]; do if [ "$1" = "-o" ]; then out="$2"; fi; shift; done
printf '#!/bin/sh\\n' > "$out"
chmod +x "$out"
"""


@pytest.fixture
def gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """An empty cache; a function that makes `CXX` a script and returns the log of its calls."""
    monkeypatch.setenv("RMM_CACHE", str(tmp_path / "the cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CMDSTAN", "RMM_STAN_HEADER", "RMM_OPTIMIZE"):
        monkeypatch.delenv(name, raising=False)

    def install(owner: str = "Free Software Foundation, Inc.", then: str = ":") -> Path:
        log, script = tmp_path / "log", tmp_path / "fake"
        script.write_text(GCC.format(owner=owner, log=log, then=then))
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        log.write_text("")
        return log

    return install


def program(number: int) -> str:
    return f"parameters {{ real a; }} model {{ a ~ normal({number}, 1); }}"


def compiled_with_header(log: Path) -> list[bool]:
    """For each program in the log: whether a header was given."""
    lines = [line for line in log.read_text().splitlines() if line.endswith("program.hpp")]
    return ["-I header-" in line for line in lines]


def headers_made(log: Path) -> int:
    return log.read_text().count("-x c++-header")


def left_behind() -> list[str]:
    return [path.name for path in find_cmdstan().path.glob("header-*")]


def test_many_programs_share_a_header_that_is_removed(gcc: Callable[..., Path]) -> None:
    log = gcc()
    with shared_header(PAYS_FROM):
        with shared_header(PAYS_FROM):  # the one inside does nothing
            made = [compile_program(program(i)) for i in range(2)]
        made.append(compile_program(program(2)))
        assert left_behind()
    assert compiled_with_header(log) == [True] * 3
    assert headers_made(log) == 1
    assert left_behind() == []
    assert all(path.is_file() for path in made)
    compile_program(program(3))
    assert compiled_with_header(log)[3:] == [False]


def test_of_an_unknown_number_of_programs_the_third_makes_the_header(
    gcc: Callable[..., Path],
) -> None:
    log = gcc()
    with shared_header():
        for i in range(4):
            compile_program(program(i))
    assert compiled_with_header(log) == [False, False, True, True]
    assert headers_made(log) == 1


@pytest.mark.parametrize(
    ("owner", "programs", "free"),
    [
        ("Free Software Foundation", PAYS_FROM - 1, 10**12),
        ("Apple clang", PAYS_FROM, 10**12),
        ("Free Software Foundation", PAYS_FROM, 10**9),
    ],
)
def test_where_a_header_does_not_pay_there_is_none(
    owner: str,
    programs: int,
    free: int,
    gcc: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precompiled.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    log = gcc(owner)
    with shared_header(programs):
        compile_program(program(1))
    assert compiled_with_header(log) == [False]
    assert headers_made(log) == 0


def test_without_a_compiler_the_body_runs(
    gcc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gcc()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with shared_header():
        assert precompiled._VARIABLE not in os.environ


@pytest.mark.parametrize(
    "when", ["*c++-header*", "*header-*program.hpp*"], ids=["in the making", "in its use"]
)
def test_a_header_that_fails_stops_nothing(when: str, gcc: Callable[..., Path]) -> None:
    log = gcc(then=f'case "$*" in {when}) echo "error: disk full" >&2; exit 1;; esac')
    with shared_header(PAYS_FROM):
        assert compile_program(program(1)).is_file()
        assert compile_program(program(2)).is_file()
    assert compiled_with_header(log).count(False) == 2
    assert headers_made(log) == 1


def test_errors_of_programs_are_reported(gcc: Callable[..., Path]) -> None:
    gcc(then='case "$*" in *program.hpp*) echo "error: no such thing" >&2; exit 1;; esac')
    with shared_header(PAYS_FROM), pytest.raises(BackendError, match="no such thing"):
        compile_program(program(1))


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_header(number: int, gcc: Callable[..., Path]) -> None:
    log = gcc()
    body = "import time, signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    body += "from rmm.backends.stan.compile import compile_program\n"
    body += f"for i in range(3): compile_program({program(7)!r}.replace('7', str(i)))\n"
    body += "time.sleep(60)"
    command = [sys.executable, ROOT / "tools" / "compile-together", sys.executable, "-c", body]
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while compiled_with_header(log) != [False, False, True] and time.monotonic() < end:
            time.sleep(0.05)
        assert len(left_behind()) == 2  # folder and lock
        (os.kill if number == signal.SIGTERM else os.killpg)(running.pid, number)
        assert running.wait(timeout=30) == (-9 if number == signal.SIGKILL else 128 + number)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    if number == signal.SIGKILL:
        assert len(left_behind()) == 2
        compile_program(program(8))  # the next start
    assert left_behind() == []


@pytest.mark.thorough
def test_the_exit_code_is_that_of_the_command() -> None:
    command = [sys.executable, ROOT / "tools" / "compile-together", "sh", "-c", "exit 7"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 7
