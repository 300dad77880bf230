"""Stan programs made into executables, kept in the user's cache.

Executables are kept by the hash of the program's tokens (no comments, no blank space), one folder
per Stan version, kind of processor, flags and C++ compiler. A folder appears by renaming, when it
is complete, and contains the digest of the executable: one that has changed is compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from rmm.backends.child_processes import end_group, finish_group, run_group, start_group
from rmm.backends.stan import cpu as processor
from rmm.backends.stan.install import (
    ENGINE_REMEDY,
    CmdStan,
    check_writers,
    compiler,
    find_cmdstan,
    installed_cmdstan,
    make_folder,
    wheel,
)
from rmm.backends.stan.precompiled import header_for, shared_header
from rmm.backends.stan.program_text import moved_positions, token_hash
from rmm.cache import cache_dir
from rmm.errors import BackendError, ProgramError


def compile_program(program: str) -> Path:
    """The executable of a Stan program, from the cache or compiled now (20 to 40 seconds).

    Parameters
    ----------
    program : str
        Text of a Stan program.

    Returns
    -------
    Path
        The executable; CmdStan's command language drives it.

    Raises
    ------
    ProgramError
        If Stan's compiler refuses the program; shows the line and the compiler's sentence.
    BackendError
        If Stan, a C++ compiler or make is missing, the cache cannot be written, or another user
        could have written the executable.
    """
    return _executable(program)


def compile_programs(programs: Iterable[str]) -> list[Path]:
    """The executables of several programs, as `compile_program` returns them.

    If many must be compiled, they share a precompiled header (`rmm.backends.stan.precompiled`).
    """
    texts = list(programs)
    with shared_header(len({program_key(text) for text in texts if _kept(text) is None})):
        return [_executable(text) for text in texts]


@dataclass(frozen=True)
class Maker:
    """What made an executable.

    Attributes
    ----------
    version : str
        Version of Stan.
    processor : str
        What it was made for, see `rmm.backends.stan.cpu`.
    built : bool
        Whether its runner is the one of `rmm`.
    """

    version: str
    processor: str
    built: bool


def maker(executable: Path) -> Maker:
    """Read off the cache folder that an executable of `compile_program` lies in."""
    kind, version, *more = executable.parents[2].name.split("-")
    return Maker(version, more[-2] if len(more) > 1 else "unknown", built=kind == "stan")


# Executables that this process was told to use, by the key of their program.
_told: dict[str, Path] = {}


def use_executables(executables: Iterable[Path]) -> list[Path]:
    """Let the fits of this process run these, whichever compiler there is here.

    Parameters
    ----------
    executables : iterable of Path
        What `compile_program` gave, perhaps on another machine with the same cache. The caller
        knows that they have not been changed.

    Returns
    -------
    list of Path
        Those that cannot be used: they are not here, were made for another kind of processor or
        do not start. Their programs are compiled when a fit asks for them.
    """
    unfit = []
    for executable in executables:
        if _starts(executable):
            _told[executable.parent.name] = executable
        else:
            unfit.append(executable)
    return unfit


def _starts(executable: Path) -> bool:
    """Whether it runs here, as far as asking what it is can show."""
    if not executable.is_file() or not processor.runs_here(maker(executable).processor):
        return False
    try:
        code, _ = run_group([str(executable), "info"], cwd=executable.parent)
    except OSError:
        return False
    return code == 0


# Better memory layouts: 1.6 to 2 times the speed on these programs, same posterior.
STANC_FLAGS = ("--O1",)


def program_key(program: str) -> str:
    """Hash of what a program does: its tokens, without comments and blank space.

    Models that differ in the names of variables alone differ in comments alone, and share an
    executable.
    """
    return token_hash(program, *STANC_FLAGS)


def message_converter(executable: Path, program: str) -> Callable[[str], str]:
    """A function that converts the executable's messages so that positions are those of `program`.

    The executable may have been compiled from a text with other comments or line breaks.
    """
    try:
        compiled = (executable.parent / "program.stan").read_text(encoding="utf-8")
    except OSError:  # an executable from elsewhere
        return str
    return moved_positions(compiled, program)


def _kept(program: str) -> Path | None:
    """The executable of a program if there is one that this process can use."""
    key = program_key(program)
    if key in _told:
        return _told[key]
    try:
        cmdstan = find_cmdstan()
        found = [cmdstan.path / "programs" / key / "program"] if cmdstan.built else []
        found.append(cmdstan.store / key / "program")
    except BackendError:
        # Compute nodes often lack a compiler: what a login node compiled runs there as well.
        found = sorted(cache_dir().glob(f"*stan-*-*-*/programs*/{key}/program"))
        found = [path for path in found if processor.runs_here(maker(path).processor)]
    for path in found:
        if path.is_file():
            check_writers(path, levels=4)
            if _is_intact(path):
                return path
    return None


_DIGEST = "program.sha256"


def _is_intact(executable: Path) -> bool:
    """Whether an executable is the file that was compiled; those of before have no digest."""
    try:
        wanted = executable.with_name(_DIGEST).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return executable.is_file()
    except OSError:
        return False
    try:
        found = executable.stat()
        return _digest(executable, found.st_size, found.st_mtime_ns, found.st_ino) == wanted
    except FileNotFoundError:  # another process has just removed it, to compile it again
        return False


@functools.lru_cache(maxsize=256)
def _digest(path: Path, *state: int) -> str:
    """SHA-256 of a file; its state only tells when to read it again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _executable(program: str) -> Path:
    kept = _kept(program)
    if kept is not None:
        return kept
    cmdstan, key = find_cmdstan(), program_key(program)
    executable = cmdstan.store / key / "program"
    make_folder(cmdstan.store)
    with _lock(cmdstan.store / f"{key}.lock"):
        if not executable.is_file() or not _is_intact(executable):
            shutil.rmtree(executable.parent, ignore_errors=True)
            _compile(program, cmdstan, executable.parent)
    return executable


@contextlib.contextmanager
def _lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock between processes; gives whether it was got (always, with `wait`)."""
    lock = filelock.FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _compile(program: str, cmdstan: CmdStan, folder: Path) -> None:
    """Compile in a folder of its own beside `folder`, then rename it."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cmdstan.store) as beside:
        work = Path(beside) / folder.name
        work.mkdir()
        (work / "program.stan").write_text(program, encoding="utf-8")
        _translate(program, cmdstan, work)
        if cmdstan.built:
            target = f"{cmdstan.store.name}/{Path(beside).name}/{folder.name}/program"
            with _runner_made(cmdstan):
                _make_object(cmdstan, f"{target}.o")
            _make(cmdstan, target)
        else:
            _make_elsewhere(cmdstan, work)
        (work / _DIGEST).write_text(_digest(work / "program"), encoding="ascii")
        for by_product in ("program.o", "program.hpp", "program.d"):
            (work / by_product).unlink(missing_ok=True)
        try:
            work.rename(folder)
        except OSError as problem:
            raise BackendError(
                f"The compiled Stan program cannot be put into the folder {folder}: "
                f"{problem.strerror}. What is there cannot be used, or was removed only in part. "
                "Remove that folder, or set RMM_CACHE to a folder that you can write to."
            ) from None


def _translate(program: str, cmdstan: CmdStan, work: Path) -> None:
    """Stan to C++ (0.1 s), apart from make, for the sake of its messages."""
    command = [cmdstan.stanc, *STANC_FLAGS, "--filename-in-msg=program.stan"]
    command += [f"--o={work / 'program.hpp'}", work / "program.stan"]
    code, output = run_group([str(part) for part in command], cwd=cmdstan.path)
    if code != 0:
        raise refusal(program, output)


def check_syntax(program: str) -> None:
    """Let Stan's compiler read a program without compiling it (0.1 s; needs no C++ compiler).

    Raises
    ------
    ProgramError
        If it refuses the program.
    BackendError
        If Stan is not installed.
    """
    own, package = installed_cmdstan(), wheel()
    if own is None and package is None:
        raise BackendError(f"Stan is not installed here. {ENGINE_REMEDY}")
    stanc = own / "bin" / "stanc" if own else package / "stanc"  # type: ignore[operator]
    with tempfile.TemporaryDirectory(prefix="rmm-stanc-") as folder:
        source = Path(folder) / "program.stan"
        source.write_text(program, encoding="utf-8")
        command = [str(stanc), "--filename-in-msg=program.stan", f"--o={folder}/out.hpp"]
        code, output = run_group([*command, str(source)], cwd=Path(folder))
    if code != 0:
        raise refusal(program, output)


def refusal(program: str, output: str) -> ProgramError:
    """Stanc's complaint as a letter: kind, line of the program, stanc's own sentence."""
    found = re.search(r"(\w+) error in '[^']*', line (\d+), column (\d+)[^\n]*", output)
    if found is None:
        return ProgramError(f"Stan cannot compile the program:\n{output.strip()}")
    kind, line, column = found[1].lower(), int(found[2]), int(found[3])
    said = re.split(r"\n\s*-{5,}\n", output)[-1].strip()
    text = program.splitlines()[line - 1] if line <= program.count("\n") + 1 else ""
    return ProgramError(
        f"Stan cannot compile the program, because of a {kind} error in line {line}:\n    "
        f"{text}\n    {' ' * column}^\n{said}"
    )


@contextlib.contextmanager
def _runner_made(cmdstan: CmdStan) -> Iterator[None]:
    """While the body compiles a program, the runner compiles beside it, if it is not there yet.

    One process makes it; another one that comes meanwhile waits for it at the end.
    """
    if (cmdstan.path / "main.o").is_file():
        yield
        return
    with _lock(cmdstan.path / "runner.lock", wait=False) as mine:
        if mine:
            process = start_group(_make_command(cmdstan, "main.o"), cmdstan.path)
            try:
                yield
            except BaseException:
                end_group(process)
                raise
            _check_made(finish_group(process))
            return
    yield
    with _lock(cmdstan.path / "runner.lock"):
        pass


def _make_object(cmdstan: CmdStan, target: str) -> None:
    """Compile a program, with a precompiled header if there is one."""
    header = header_for(cmdstan, lambda wanted: _make(cmdstan, wanted))
    if header is not None:
        # If it fails, the header may be the reason: removed by another machine, for example.
        with contextlib.suppress(BackendError):
            _make(cmdstan, target, f"RMM_HEADER={header}")
            return
    _make(cmdstan, target)


def _make(cmdstan: CmdStan, target: str, *variables: str) -> None:
    """``make target`` in the folder of CmdStan."""
    _check_made(run_group(_make_command(cmdstan, target, *variables), cmdstan.path))


def _make_command(cmdstan: CmdStan, target: str, *variables: str) -> list[str]:
    chosen = [f"CXX={compiler()}"] if cmdstan.built else []
    flags = f"STANCFLAGS={' '.join(STANC_FLAGS)}"
    return [os.environ.get("MAKE", "make"), "-s", flags, *chosen, *variables, target]


def _check_made(ended: tuple[int, str]) -> None:
    if ended[0] != 0:
        raise BackendError(_why_make_failed(ended[1]))


def _why_make_failed(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines
    shown = "\n".join("    " + line[:300] for line in telling[:4])
    message = f"The C++ compiler could not make an executable of the Stan program:\n{shown}"
    if re.search(r"[Kk]illed|out of memory|cannot allocate", output):
        message += "\nThe machine ran out of memory. A compilation needs about 2 GB."
    return message


# Blanks, quotes, parentheses and others that mean something to make or to a shell.
_UNFIT_FOR_MAKE = re.compile(r"[^\w@+,./-]")


def _make_elsewhere(cmdstan: CmdStan, work: Path) -> None:
    """With the user's CmdStan: make and its recipes take the complete path, without quotes."""
    place = work
    with contextlib.ExitStack() as stack:
        if _UNFIT_FOR_MAKE.search(str(work)):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rmm-stan-")))
            shutil.copy(work / "program.stan", place)
        for path in (place, cmdstan.path):
            found = _UNFIT_FOR_MAKE.search(str(path))
            if found:
                raise BackendError(
                    f"CmdStan cannot be used with paths that contain {found[0]!r}: {path}.\n"
                    "Set TMPDIR to a folder whose path has only letters, digits and _ - + . in it, "
                    "and keep CmdStan in such a folder. Or unset CMDSTAN: then the Stan of the "
                    "package httpstan is used, which works with every path."
                )
        _make(cmdstan, str(place / "program"))
        if place != work:
            shutil.copy(place / "program", work / "program")
