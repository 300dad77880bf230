"""Where Stan is: the user's CmdStan, or a home for it laid out from a wheel.

A user's CmdStan is taken if there is one (``CMDSTAN``, ``~/.cmdstan``, conda). Otherwise a
*CmdStan home* is laid out in the user's cache from the wheel of httpstan, which carries Stan's
compiler, headers and libraries, but not CmdStan's thin command line: that is
``cmdstan_runner.cpp`` here. cmdstanpy accepts such a home as if it were CmdStan.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rmm.backends.stan.cpu import made_for
from rmm.cache import cache_dir, make_cache_folder, other_writer
from rmm.errors import BackendError

RUNNER_SOURCE = Path(__file__).with_name("cmdstan_runner.cpp")
MODEL_BASE = Path(__file__).with_name("model_base_crtp.hpp")
TOOLS_REMEDY = (
    "Install them: `apt-get install g++ make` (Debian, Ubuntu), `xcode-select --install` (macOS), "
    "or `conda install -c conda-forge cxx-compiler make`."
)
ENGINE_REMEDY = (
    "Install Stan with `pip install httpstan cmdstanpy`, or install CmdStan with "
    "`python -m cmdstanpy.install_cmdstan`, or set CMDSTAN to the folder of an installed CmdStan."
)

# -O1 for the runner: it only steps the sampler, the program's gradient takes the time. No
# -march=native: executables in a shared cache must run on every node, with the same draws.
_MAKEFILE = """\
# A CmdStan home made by rmm out of httpstan {httpstan}. See rmm/backends/stan/install.py.
CMDSTAN_VERSION := {stan}
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
# RMM_HEADER: a folder with a precompiled header, see rmm/backends/stan/precompiled.py.
INCLUDES := $(if $(RMM_HEADER),-I $(RMM_HEADER)) -I own -I include
CPPFLAGS := -D_REENTRANT -DBOOST_DISABLE_ASSERTS $(INCLUDES)
HEADER := stan/model/model_header.hpp
RMM_OPTIMIZE ?= -O3
WARNINGS := -Wno-sign-compare -Wno-ignored-attributes
FLAGS := -std=c++17 $(CPPFLAGS) $(WARNINGS)
SUNDIALS := -lsundials_cvodes -lsundials_idas -lsundials_kinsol -lsundials_nvecserial
LIBRARIES := -L lib -Wl,-rpath,"$(CURDIR)/lib" $(SUNDIALS) {tbb}

makefile main.cpp: ;

main.o: main.cpp
\t$(CXX) -O1 $(FLAGS) -c -o $@.$$$$ $< && mv -f $@.$$$$ $@

%.hpp.gch:
\t$(CXX) $(RMM_OPTIMIZE) $(FLAGS) -x c++-header -o $@.$$$$ include/$(HEADER) && mv -f $@.$$$$ $@

%.hpp: %.stan
\tbin/stanc $(STANCFLAGS) --o=$@ $<

%.o: %.hpp
\t$(CXX) $(RMM_OPTIMIZE) $(FLAGS) -x c++ -c -o $@ $<

%: %.o main.o
\t$(CXX) -O3 -o $@ $< main.o $(LIBRARIES)
"""


@dataclass(frozen=True)
class CmdStan:
    """A folder in which ``make path/of/program`` compiles a Stan program.

    Attributes
    ----------
    path : Path
        The folder, with ``makefile`` and ``bin/stanc``.
    version : str
        Version of Stan.
    store : Path
        Where executables made with it and the present C++ compiler are kept.
    built : bool
        Whether it was laid out here from the wheel; then its runner can leave out variables.
    """

    path: Path
    version: str
    store: Path
    built: bool

    @property
    def stanc(self) -> Path:
        """Stan's compiler: Stan to C++."""
        return self.path / "bin" / "stanc"


# --- finding ------------------------------------------------------------------------------------


def installed_cmdstan() -> Path | None:
    """The folder of the user's own CmdStan, as cmdstanpy finds it, or None.

    Raises
    ------
    BackendError
        If ``CMDSTAN`` names a folder that holds no complete CmdStan.
    """
    named = os.environ.get("CMDSTAN")
    if not named and not (Path.home() / ".cmdstan").is_dir():
        return None  # without importing cmdstanpy, which takes a second
    try:
        # Late: the extra `stan` may be absent.
        from cmdstanpy import cmdstan_path
        from cmdstanpy.utils.cmdstan import stanc_path

        path = Path(cmdstan_path())
        stanc_path()
    except (ImportError, ValueError) as problem:
        if not named:
            return None
        raise BackendError(
            f"CMDSTAN is {named!r}, but this folder does not contain a complete CmdStan: "
            f"{problem}\nSet CMDSTAN to a CmdStan that has been built. Or unset CMDSTAN: then the "
            "Stan of the package httpstan is used."
        ) from None
    return path


def wheel() -> Path | None:
    """The folder of the installed package httpstan, or None."""
    spec = importlib.util.find_spec("httpstan")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places and (Path(places[0]) / "stanc").is_file() else None


def compiler() -> str:
    """The C++ compiler: ``CXX``, else the first of g++, clang++, c++ on the PATH.

    Returns
    -------
    str
        As a shell takes it: a path with blanks is quoted, options may follow.

    Raises
    ------
    BackendError
        If there is none, or no make; the message says how to get them.
    """
    make = os.environ.get("MAKE", "make")
    chosen = os.environ.get("CXX")
    if chosen and shutil.which(chosen):
        chosen = shlex.quote(chosen)
    candidates = [chosen] if chosen else ["g++", "clang++", "c++"]
    found = next((name for name in candidates if shutil.which(command_words(name)[0])), None)
    absent = [] if found else [f"a C++ compiler ({' or '.join(candidates)})"]
    absent += [] if shutil.which(make) else [make]
    if absent:
        raise BackendError(
            f"Stan programs must be compiled, but {' and '.join(absent)} cannot be found on the "
            f"PATH.\n{TOOLS_REMEDY}"
        )
    assert found is not None
    return found


def command_words(command: str) -> list[str]:
    """The words of a compiler's command: the compiler, then its options."""
    try:
        return shlex.split(command) or [command]
    except ValueError:  # a quotation mark without its partner
        return command.split()


@functools.lru_cache(maxsize=8)
def _compiler_identity(name: str, path: str) -> str:
    """What the compiler says it is; `path` (the PATH variable) only keys the cache."""
    shown = subprocess.run(
        [*command_words(name), "--version"], capture_output=True, text=True, check=False
    )
    return f"{name} {shown.stdout.splitlines()[:1]} {platform.machine()}"


def find_cmdstan() -> CmdStan:
    """The user's CmdStan, else the home from the wheel (laid out now if it is not there yet).

    Raises
    ------
    BackendError
        If neither is installed, the C++ tools are missing, or the cache cannot be written.
    """
    own = installed_cmdstan()
    package = None if own else wheel()
    if own is None and package is None:
        raise BackendError(f"Stan is not installed here. {ENGINE_REMEDY}")
    name = compiler()
    identity = _compiler_identity(name, os.environ.get("PATH", ""))
    if own is None:
        assert package is not None
        return _home_from_wheel(package, identity, made_for(name))
    local = own / "make" / "local"
    flags = [local.read_text() if local.is_file() else "", os.environ.get("CXXFLAGS", ""), name]
    version = _version_in(own / "makefile")
    kept = _store_name("cmdstan", version, made_for(*flags), str(own), *flags, identity)
    return CmdStan(own, version, cache_dir() / kept / "programs", built=False)


def _store_name(kind: str, version: str, processor: str, *facts: str) -> str:
    """Folder of the cache; `rmm.backends.stan.compile.maker` reads it."""
    return f"{kind}-{version}-{processor}-{_digest(processor, *facts)}"


def _version_in(makefile: Path) -> str:
    found = re.search(r"^CMDSTAN_VERSION := (\S+)", makefile.read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def stan_version(package: Path) -> str:
    """Version of Stan in httpstan's headers."""
    text = (package / "include" / "stan" / "version.hpp").read_text()
    return ".".join(
        re.search(rf"define STAN_{part} (\d+)", text)[1]  # type: ignore[index]
        for part in ("MAJOR", "MINOR", "PATCH")
    )


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


# --- laying out a home --------------------------------------------------------------------------


def _makefile(package: Path) -> str:
    tbb = "-ltbb -ltbbmalloc -ltbbmalloc_proxy" if platform.system() == "Darwin" else "-ltbb"
    httpstan = importlib.metadata.version("httpstan")
    return _MAKEFILE.format(httpstan=httpstan, stan=stan_version(package), tbb=tbb)


def _home_from_wheel(package: Path, compiler_identity: str, processor: str) -> CmdStan:
    """The home in the cache; made in a folder beside it and renamed, so it is never half there."""
    makefile = _makefile(package)
    version = _version_text(makefile)
    facts = (makefile, RUNNER_SOURCE.read_text(), MODEL_BASE.read_text(), compiler_identity)
    name = _store_name("stan", version, processor, *facts)
    path = cache_dir() / name
    if not (path / "makefile").is_file():
        make_folder(cache_dir())
        new = cache_dir() / f".{name}-{secrets.token_hex(8)}"
        try:
            _lay_out(new, package, makefile)
            with contextlib.suppress(OSError):  # another process was first, with the same content
                new.rename(path)
        except OSError as problem:
            raise BackendError(
                f"Stan cannot be set up in {path}: {problem.strerror or problem}.\n"
                "Make room on its disk, or set RMM_CACHE to a folder on another one."
            ) from None
        finally:
            shutil.rmtree(new, ignore_errors=True)
    check_writers(path, levels=1)
    _point(path / "include", package / "include")
    return CmdStan(path, version, path / f"programs{_optimization()}", built=True)


def _optimization() -> str:
    """``RMM_OPTIMIZE``: -O1 compiles in two thirds of the time, but sampling takes a third longer.

    Draws are the same. Executables are kept in a folder of their own. Empty by default (-O3).
    """
    chosen = os.environ.get("RMM_OPTIMIZE", "")
    if chosen not in ("", "-O1", "-O2", "-O3"):
        raise BackendError(f"RMM_OPTIMIZE must be -O1, -O2 or -O3, but is {chosen!r}.")
    return "" if chosen == "-O3" else chosen


def _version_text(makefile: str) -> str:
    return makefile.partition("CMDSTAN_VERSION := ")[2].splitlines()[0]


def _lay_out(home: Path, package: Path, makefile: str) -> None:
    """Everything but the headers (180 MB, pointed at) is copied: executables outlive the wheel."""
    home.mkdir()
    (home / "bin").mkdir()
    (home / "programs").mkdir()
    shutil.copy(package / "stanc", home / "bin" / "stanc")
    shutil.copytree(package / "lib", home / "lib")
    shutil.copyfile(RUNNER_SOURCE, home / "main.cpp")
    (home / "own" / "stan" / "model").mkdir(parents=True)
    shutil.copyfile(MODEL_BASE, home / "own" / "stan" / "model" / MODEL_BASE.name)
    (home / "makefile").write_text(makefile)


def _point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target` unless it leads to a folder already."""
    if link.is_dir():
        return
    new = link.with_name(f".{link.name}-{os.getpid()}")
    new.symlink_to(target)
    new.replace(link)


def check_writers(path: Path, levels: int) -> None:
    """Refuse to run what another user could have put into the cache.

    Parameters
    ----------
    path : Path
        An executable, or a folder that contains some.
    levels : int
        How many folders above it belong to the cache.

    Raises
    ------
    BackendError
    """
    if found := other_writer(path, levels):
        raise BackendError(
            f"rmm does not run programs that another user could have changed: {found}.\n"
            "Set RMM_CACHE to a folder of your own."
        )


def make_folder(path: Path) -> None:
    """Make a folder in the cache and prove that it can be written; else `BackendError`."""
    try:
        make_cache_folder(path)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as problem:
        raise BackendError(
            f"rmm keeps compiled Stan programs in {path}, but cannot write there: "
            f"{problem.strerror or problem}.\nSet RMM_CACHE to a folder that you can write to."
        ) from None
