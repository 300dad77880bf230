"""The CmdStan home and the cache of executables; nothing here needs a real C++ compiler."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rmm.backends.stan import compile as stan_compile
from rmm.backends.stan import cpu as processor
from rmm.backends.stan import install as cmdstan_home
from rmm.backends.stan.compile import (
    check_syntax,
    compile_program,
    maker,
    use_executables,
)
from rmm.backends.stan.install import (
    TOOLS_REMEDY,
    find_cmdstan,
    installed_cmdstan,
    stan_version,
    wheel,
)
from rmm.backends.stan.run import available
from rmm.cache import cache_dir
from rmm.errors import BackendError, ProgramError
from tests import ROOT
from tests.fake_compiler import FAKE_COMPILER

PROGRAM = "parameters {\n  real a;\n}\nmodel {\n  a ~ normal(0, 1);\n}\n"

pytestmark = pytest.mark.skipif(wheel() is None, reason="the wheel httpstan is not installed")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no CmdStan of the user's."""
    monkeypatch.setenv("RMM_CACHE", str(tmp_path / "the cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CMDSTAN", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("RMM_OPTIMIZE", raising=False)
    return tmp_path / "the cache"


@pytest.fixture
def fake_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make `CXX` a script that takes an instant; returns the log of what it compiled."""

    def install(then: str = ":", name: str = "fake-g++") -> Path:
        log, script = tmp_path / "compiled.log", tmp_path / name
        script.write_text(FAKE_COMPILER.format(log=log, then=then))
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return log

    return install


def without_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *kept: str) -> None:
    """A PATH on which only the tools `kept` exist."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in kept:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.stan
def test_home_from_the_wheel(cache: Path) -> None:
    package = wheel()
    assert package is not None
    home = find_cmdstan()
    assert home.built
    assert home.version == stan_version(package)
    assert home.path.parent == cache
    assert home.stanc.is_file()
    assert (home.path / "include" / "stan" / "version.hpp").is_file()
    assert f"CMDSTAN_VERSION := {home.version}\n" in (home.path / "makefile").read_text()
    assert find_cmdstan() == home
    assert [p.name for p in cache.iterdir()] == [home.path.name], "something was left behind"


@pytest.mark.stan
def test_cmdstanpy_takes_the_home_for_cmdstan(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cmdstanpy = pytest.importorskip("cmdstanpy")
    home = find_cmdstan()
    monkeypatch.setenv("CMDSTAN", str(home.path))
    assert cmdstanpy.cmdstan_version() == tuple(int(x) for x in home.version.split(".")[:2])
    assert installed_cmdstan() == home.path
    assert not find_cmdstan().built


@pytest.mark.stan
def test_headers_of_a_removed_wheel_are_found_again(cache: Path) -> None:
    link = find_cmdstan().path / "include"
    link.unlink()
    link.symlink_to("/nowhere")
    find_cmdstan()
    assert (link / "stan" / "version.hpp").is_file()


@pytest.mark.thorough
def test_two_processes_at_once_make_one_home(cache: Path) -> None:
    code = "from rmm.backends.stan.install import find_cmdstan; print(find_cmdstan().path)"
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    assert [str(path) for path in cache.iterdir()] == [said[0]]


@pytest.mark.parametrize(
    ("kept", "absent"),
    [((), r"a C\+\+ compiler .* and make cannot"), (("g++",), "compiled, but make cannot")],
)
def test_missing_tools_are_named(
    kept: tuple[str, ...],
    absent: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_tools(tmp_path, monkeypatch, *kept)
    with pytest.raises(BackendError, match=absent) as caught:
        compile_program(PROGRAM)
    assert TOOLS_REMEDY in str(caught.value)
    assert not available().available
    assert available().remedy == TOOLS_REMEDY


def test_executables_run_where_the_compiler_is_gone(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[[str], Path],
) -> None:
    fake_compiler(":")
    made = compile_program(PROGRAM)
    monkeypatch.delenv("CXX")
    without_tools(tmp_path, monkeypatch)
    assert compile_program(PROGRAM) == made
    with pytest.raises(BackendError, match="compiler"):
        compile_program(PROGRAM.replace("0, 1", "0, 2"))


def another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "this_kind", lambda: f"{processor.architecture()}.0ther000")


def test_native_executables_are_kept_apart_for_each_kind_of_processor(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[[str], Path],
) -> None:
    log = fake_compiler(":")
    plain = compile_program(PROGRAM)
    monkeypatch.setenv("CXX", f"{os.environ['CXX']} -march=native")
    native = compile_program(PROGRAM)
    assert maker(plain).processor == processor.architecture()
    assert maker(native).processor == processor.this_kind()
    another_processor(monkeypatch)
    there = compile_program(PROGRAM)
    assert len({plain, native, there}) == 3
    assert log.read_text().count("program.hpp") == 3

    # Without a compiler: only what can run on this kind of processor.
    monkeypatch.delenv("CXX")
    without_tools(tmp_path, monkeypatch)
    assert compile_program(PROGRAM) in (plain, there)
    for made in (plain, there):
        made.unlink()
    with pytest.raises(BackendError, match="compiler"):
        compile_program(PROGRAM)


def test_a_process_runs_the_executables_that_it_was_told(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[[str], Path],
) -> None:
    monkeypatch.setattr(stan_compile, "_told", {})
    log = fake_compiler(":")
    made = compile_program(PROGRAM)
    monkeypatch.setenv("CXX", f"{os.environ['CXX']} -O2")  # another node, another compiler
    assert use_executables([made]) == []
    assert compile_program(PROGRAM) == made
    assert log.read_text().count("program.hpp") == 1
    assert compile_program(PROGRAM.replace("0, 1", "0, 2")) != made


@pytest.mark.parametrize("fault", ["gone", "native", "broken", "foreign"])
def test_executables_that_cannot_run_here_are_not_run(
    fault: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[[str], Path],
) -> None:
    monkeypatch.setattr(stan_compile, "_told", {})
    fake_compiler(":")
    if fault == "native":
        monkeypatch.setenv("CXX", f"{os.environ['CXX']} -march=native")
    made = compile_program(PROGRAM)
    if fault == "gone":
        made.unlink()
    elif fault == "native":
        another_processor(monkeypatch)
    elif fault == "broken":  # such as one that wants a newer C library
        made.write_text("#!/bin/sh\nexit 127\n")
    else:
        made.write_bytes(b"\x7fELF of another architecture")
    assert use_executables([made]) == [made]
    assert stan_compile._told == {}


def test_neither_engine_nor_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmdstan_home.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install httpstan"):
        find_cmdstan()


def test_cmdstan_variable_that_leads_nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMDSTAN", str(cache / "nothing"))
    with pytest.raises(BackendError, match=r"CMDSTAN is .*does not contain a complete CmdStan"):
        find_cmdstan()
    assert not available().available


@pytest.mark.stan
def test_cache_that_cannot_be_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RMM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BackendError, match="Set RMM_CACHE to a folder"):
        compile_program(PROGRAM)


def test_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RMM_CACHE", raising=False)
    assert cache_dir().name == "rmm"


def test_a_program_is_compiled_once(cache: Path, fake_compiler: Callable[[str], Path]) -> None:
    log = fake_compiler(":")
    made = compile_program(PROGRAM)  # in a path with a space
    assert subprocess.run([made], capture_output=True, text=True, check=True).stdout == (
        "made by fake\n"
    )
    assert (made.parent / "program.stan").read_text() == PROGRAM
    assert maker(made).built
    assert compile_program(PROGRAM) == made
    assert compile_program(PROGRAM.replace("0, 1", "0, 2")) != made
    assert compile_program(PROGRAM.replace("a;", "a;  // the mean\n\n")) == made
    said = log.read_text()
    assert said.count("main.cpp") == 1
    assert said.count("program.hpp") == 2


def test_an_executable_that_has_gone_is_not_intact(
    cache: Path, fake_compiler: Callable[[str], Path]
) -> None:
    """As another process removes it, to compile it again."""
    fake_compiler(":")
    made = compile_program(PROGRAM)
    assert stan_compile._is_intact(made)
    made.unlink()
    assert not stan_compile._is_intact(made)


def test_a_damaged_executable_that_cannot_be_removed_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, fake_compiler: Callable[[str], Path]
) -> None:
    fake_compiler(":")
    made = compile_program(PROGRAM)
    made.write_text("damaged")
    monkeypatch.setattr(stan_compile, "shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
    with pytest.raises(BackendError, match=r"folder .*: Directory not empty") as error:
        compile_program(PROGRAM)
    assert str(made.parent) in str(error.value)


def test_quickly_compiled_programs_are_kept_apart(
    cache: Path, monkeypatch: pytest.MonkeyPatch, fake_compiler: Callable[[str], Path]
) -> None:
    log = fake_compiler(":")
    monkeypatch.setenv("RMM_OPTIMIZE", "-O1")
    quick = compile_program(PROGRAM)
    assert compile_program(PROGRAM) == quick
    assert maker(quick).built
    monkeypatch.delenv("RMM_OPTIMIZE")
    full = compile_program(PROGRAM)
    assert full != quick
    monkeypatch.setenv("RMM_OPTIMIZE", "-O1")
    assert compile_program(PROGRAM) == full  # as good, and faster
    lines = [line for line in log.read_text().splitlines() if line.endswith("program.hpp")]
    assert [line.split()[0] for line in lines] == ["-O1", "-O3"]
    monkeypatch.setenv("RMM_OPTIMIZE", "-Ofast")  # other draws
    with pytest.raises(BackendError, match="RMM_OPTIMIZE must be -O1, -O2 or -O3, but is '-Ofast'"):
        compile_program(PROGRAM.replace("0, 1", "0, 2"))


@pytest.mark.thorough
def test_two_processes_compile_a_program_once(
    cache: Path, fake_compiler: Callable[[str], Path]
) -> None:
    log = fake_compiler(":")
    code = (
        f"from rmm.backends.stan.compile import compile_program;print(compile_program({PROGRAM!r}))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    assert Path(said[0]).is_file()
    assert log.read_text().count("program.hpp") == 1
    assert not list(Path(said[0]).parents[1].glob(".new-*"))


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("echo 'x.cpp:3: error: no such thing' >&2; exit 1", "no such thing"),
        ("echo 'fatal error: Killed signal terminated program cc1plus'; exit 1", "about 2 GB"),
    ],
)
def test_a_failing_compiler_is_quoted_and_leaves_nothing(
    then: str, message: str, cache: Path, fake_compiler: Callable[[str], Path]
) -> None:
    fake_compiler(then)
    with pytest.raises(BackendError, match=message):
        compile_program(PROGRAM)
    kept = [p for p in (find_cmdstan().store).iterdir() if p.suffix != ".lock"]
    assert kept == []


@pytest.mark.parametrize(
    ("old", "new", "kind", "line", "said"),
    [
        ("a ~", "b ~", "semantic", 5, 'Identifier "b" not in scope'),
        ("real a;", "real a", "syntax", 3, r"Expected .*;"),
    ],
)
def test_refused_programs_show_their_line(
    old: str,
    new: str,
    kind: str,
    line: int,
    said: str,
    cache: Path,
    fake_compiler: Callable[[str], Path],
) -> None:
    fake_compiler(":")
    wrong = PROGRAM.replace(old, new)
    for check in (check_syntax, compile_program):
        with pytest.raises(ProgramError, match=f"{kind} error in line {line}:") as caught:
            check(wrong)
        assert wrong.splitlines()[line - 1] in str(caught.value)
        caught.match(said)
        assert str(cache) not in str(caught.value), "paths of temporary files help nobody"


def test_a_users_cmdstan_compiles_outside_its_folder(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[[str], Path],
) -> None:
    fake_compiler(":")
    home = find_cmdstan().path
    own = tmp_path / "cmdstan-2.39.0"
    own.symlink_to(home)
    monkeypatch.setenv("CMDSTAN", str(own))
    made = compile_program(PROGRAM)
    assert not maker(made).built
    assert maker(made).version == stan_compile.find_cmdstan().version
    assert made.is_relative_to(cache)
    assert os.access(made, os.X_OK)


@pytest.mark.parametrize("options", ["", " -g"])
def test_paths_of_cache_and_compiler_may_hold_anything(
    options: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[..., Path],
) -> None:
    log = fake_compiler(":", "a user's g++ (ä)")
    if options:
        monkeypatch.setenv("CXX", shlex.quote(os.environ["CXX"]) + options)
    odd = cache / "My user's files (ä)"
    monkeypatch.setenv("RMM_CACHE", str(odd))
    made = compile_program(PROGRAM)
    assert made.is_relative_to(odd)
    assert subprocess.run([made], capture_output=True, text=True).stdout == "made by fake\n"
    assert len(log.read_text().splitlines()) == 2  # the program and its runner


def test_a_users_cmdstan_in_a_folder_that_make_cannot_work_on(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_compiler: Callable[[str], Path],
) -> None:
    fake_compiler(":")
    own = tmp_path / "a user's cmdstan-2.39.0"
    own.symlink_to(find_cmdstan().path)
    monkeypatch.setenv("CMDSTAN", str(own))
    with pytest.raises(BackendError, match="cannot be used with paths that contain ' '") as caught:
        compile_program(PROGRAM)
    assert str(own) in str(caught.value)
    caught.match("unset CMDSTAN")
