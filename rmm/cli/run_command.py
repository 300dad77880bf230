"""`rmm study init` and `rmm study run`: Snakemake runs a study with the package's own workflow."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import command
from rmm.cli.run_output import RunOutput
from rmm.errors import StudyError, counted, how_to_install

if TYPE_CHECKING:
    from rmm.study import Study

_INIT = """\
examples:
  rmm study init "my study"
  cd "my study"
  rmm study run quickstart --cores 2
The folder gets a small study (config/studies/quickstart.yaml), the settings of the workflow
(config/config.yaml), profiles for one machine and for clusters with Slurm, LSF or PBS (profiles/),
and a Snakefile, so that Snakemake can also be called directly. No existing file is changed. You do
not need such a folder: `rmm study run FILE` works in any folder.
"""
_RUN = """\
examples:
  rmm study run mine.yaml --cores 4
  rmm study run quickstart                      # the file config/studies/quickstart.yaml
  rmm study run mine.yaml --size smoke          # a few replications, to try it
  rmm study run mine.yaml -- --dry-run          # options of Snakemake come after --
  rmm study run mine.yaml -- --workflow-profile profiles/slurm
Snakemake runs the study in the present folder: results go to results/NAME, and the last lines show
the path of the report. If a run was interrupted, use the same command again: finished fits are
kept. `rmm study status FILE` counts them.
"""
_SNAKEFILE = """\
# Snakemake reads this file: snakemake --cores 2 --config study=quickstart
# The rules are those of the installed package rmm. Rules of your own can follow.
from rmm.study import snakefile


include: snakefile()


localrules:
    study,


# What runs without a target: Snakemake takes it from this file, never from an included one.
rule study:
    default_target: True
    input:
        rules.all.input,
"""
#: Files of the workflow, and of its configuration, that a project gets copies of.
_PROFILES = tuple(f"profiles/{name}/config.yaml" for name in ("default", "slurm", "lsf", "pbs"))
_CONFIGS = ("config.yaml", "studies/quickstart.yaml")
#: Options of Snakemake that say how many jobs run at the same time, or that a profile may say it.
_CORES = ("--cores", "-c", "--jobs", "-j", "--profile", "--workflow-profile", "--executor", "-e")


def add_init(commands: Any) -> None:
    """Declare `rmm study init`."""
    what = "make a project folder with a small study"
    init = command(commands, "init", what, _INIT, run_init)
    init.add_argument("folder", metavar="FOLDER", help="folder to make")


def add_run(commands: Any) -> None:
    """Declare `rmm study run`."""
    run = command(commands, "run", "run a study, or resume it", _RUN, run_study)
    run.usage = f"{run.prog} FILE [options] [-- OPTIONS OF SNAKEMAKE]"
    run.add_argument(
        "file",
        metavar="FILE",
        help="study file (.yaml), or the name of a file in config/studies, such as quickstart",
    )
    run.add_argument(
        "--cores",
        metavar="N",
        help="fits that run at the same time: a number, or all; default: all, or what the options "
        "of Snakemake say",
    )
    run.add_argument(
        "--size",
        choices=("full", "smoke"),
        metavar="SIZE",
        help="full or smoke: a few replications, in results/NAME_smoke; default: that of "
        "config/config.yaml if there is one, otherwise full",
    )
    run.add_argument(
        "--results",
        metavar="FOLDER",
        help="folder for the results of all studies; default: that of config/config.yaml if there "
        "is one, otherwise results",
    )
    run.add_argument(
        "--allow-code",
        action="store_true",
        help="let functions and scripts that the study file names run, with your rights",
    )
    run.set_defaults(snakemake=[])


def run_init(options: argparse.Namespace) -> int:
    """`rmm study init`: write the files of a project, and say what comes next."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.files.workflow_files import config_folder, workflow_folder

    folder, workflow, config = Path(options.folder), workflow_folder(), config_folder()
    texts = {"Snakefile": _SNAKEFILE}
    texts |= {name: (workflow / name).read_text("utf-8") for name in _PROFILES}
    texts |= {f"config/{name}": (config / name).read_text("utf-8") for name in _CONFIGS}
    there = [name for name in texts if (folder / name).exists()]
    if there:
        raise StudyError(
            f"{folder / there[0]}: this file exists already, and nothing was written. Give another "
            "folder."
        )
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    print(f"{folder} has a study, {Path('config') / _CONFIGS[1]}. Next:")
    if folder.resolve() != Path.cwd():
        print(f"    cd {shlex.quote(str(folder))}")
    print("    rmm study run quickstart --cores 2")
    return 0


def find_study_file(named: str) -> Path:
    """The study file of a path, or of a name: ``quickstart`` is config/studies/quickstart.yaml.

    Raises
    ------
    StudyError
        If there is no such file.
    """
    path = Path(named)
    if path.suffix or path.exists() or len(path.parts) > 1:  # no name: its readers check it
        return path
    path = Path("config", "studies", f"{named}.yaml")
    if path.is_file():
        return path
    known = sorted(p.stem for p in Path("config", "studies").glob("*.yaml"))
    if known:
        hint = f"Studies in config/studies: {', '.join(known)}."
    else:
        hint = (
            "`rmm study new NAME.yaml` writes a study file, `rmm study init FOLDER` makes a folder "
            "with a small study."
        )
    raise StudyError(f"There is no study file {path} in {Path.cwd()}. {hint}")


def run_study(options: argparse.Namespace) -> int:
    """`rmm study run`: Snakemake on one study; the path of its report."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study import load_study
    from rmm.study.files.checked_yaml import read_yaml
    from rmm.study.files.disks import check_room
    from rmm.study.files.workflow_files import snakefile
    from rmm.study.run import progress

    if util.find_spec("snakemake") is None:
        raise StudyError(
            "rmm study run needs the package snakemake, which is not installed. "
            f"{how_to_install('snakemake', 'study')}"
        )
    check_profile(options.snakemake)
    path = find_study_file(options.file)
    if any(word.split("=")[0] in ("--directory", "-d") for word in options.snakemake):
        path = path.resolve()  # Snakemake reads it from there
    settings: dict[str, Any] = {"study": path.as_posix()}
    chosen = {"size": options.size, "results": options.results}
    settings |= {key: value for key, value in chosen.items() if value is not None}
    settings |= {"allow_code": "true"} if options.allow_code else {}
    defaults: Mapping[str, Any] = {}
    if Path("config/config.yaml").is_file():
        defaults = read_yaml(Path("config/config.yaml"))[0]
    size = str({**defaults, **settings}.get("size", "full"))
    study = load_study(path, size=size, allow_code=options.allow_code)
    for line in missing_engines(study):
        print(line, file=sys.stderr)
    folder = Path(str({**defaults, **settings}.get("results", "results"))) / study.name
    check_room(Path(".snakemake"))  # Snakemake keeps its records there
    pairs = [f"{key}={value}" for key, value in settings.items()]
    start = ["--snakefile", str(snakefile())]
    # Snakemake, and its jobs, import no module that lies in the present folder.
    environment = {**environment_with_cache(), "PYTHONSAFEPATH": "1"}
    before = _written(folder)
    words = snakemake_options(options.cores, options.snakemake, pairs)
    # The workflow itself lets one run write a results folder, wherever it was started; the lock of
    # Snakemake would outlive a killed run.
    asked = [sys.executable, "-m", "snakemake", "--nolock", *start, *words]
    report = folder / "report" / "index.html"
    if options.snakemake:  # these may ask for another target, or for no run at all
        code = _wait(asked, environment)
        new = not code and report.is_file() and _written(folder) != before
        return _tell(report, unchanged=False) if new else code
    print(f"Study {study.name}: {_size_of(study)}. Results: {folder}", file=sys.stderr)
    output = RunOutput(sys.stderr)
    code = _wait(asked, {**environment, progress.ALL_LINES: "1"}, output)
    if code:
        log = f"{output.log} (all of Snakemake's output), " * bool(output.log)
        print(f"The run has failed. Logs: {log}{folder / 'logs'} (of each job)", file=sys.stderr)
        return code
    return _tell(report, _written(folder) == before)


#: Executors that Snakemake has without a package of their own.
_BUILT_IN = ("local", "dryrun", "touch")


def check_profile(words: Sequence[str]) -> None:
    """Options of Snakemake name a profile that is there, and an executor that is installed.

    Snakemake ignores a profile that is not there, and would run a study meant for a cluster on this
    computer; an absent executor is a page of usage.

    Parameters
    ----------
    words : sequence of str

    Raises
    ------
    StudyError
    """
    # Late: `rmm --help` needs no libraries.
    from rmm.study.files.checked_yaml import read_yaml
    from rmm.study.files.workflow_files import workflow_folder

    executor = _value_of(words, "--executor", "-e")
    profile = _value_of(words, "--workflow-profile")
    if profile is not None and profile != "none":
        # As Snakemake does: a path, or a folder in profiles/, here or beside the Snakefile.
        places = (Path(), Path("profiles"), workflow_folder() / "profiles")
        files = [place / profile / "config.yaml" for place in places]
        file = next((f for f in files if f.is_file()), None)
        if file is None:
            looked = ", ".join(map(str, dict.fromkeys(files)))
            raise StudyError(
                f"The profile {profile} does not exist: there is none of the files {looked}. "
                f"`rmm study init FOLDER` makes a folder with {', '.join(_PROFILES)}."
            )
        found = read_yaml(file)[0]
        executor = executor or (found.get("executor") if isinstance(found, dict) else None)
    if executor is None or executor in _BUILT_IN:
        return
    package = f"snakemake-executor-plugin-{executor}"
    if util.find_spec(package.replace("-", "_")) is None:
        extra = how_to_install(package, "slurm") if executor == "slurm" else ""
        raise StudyError(
            f"The executor {executor} needs the package {package}, which is not installed. "
            f"{extra or f'Install it: pip install {package}'}"
        )


def _value_of(words: Sequence[str], *names: str) -> str | None:
    """The value of an option, written ``--option VALUE`` or ``--option=VALUE``."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(words[place + 1 :]), None)
    return None


def _size_of(study: Study) -> str:
    scenarios = counted(len(study.scenarios), "scenario")
    return f"{scenarios}, {counted(len(study.methods), 'method')}"


def missing_engines(study: Study) -> Iterator[str]:
    """A line for each engine of a study that does not run here: all its fits will fail."""
    # Late: `rmm --help` needs no libraries.
    from rmm.backends import BACKENDS, find_backend

    methods: dict[str, list[str]] = {}
    for method in study.methods:
        if method.backend in BACKENDS:
            methods.setdefault(str(method.backend), []).append(method.name)
    for backend, names in methods.items():
        found = find_backend(backend).available()
        if not found.available:
            yield (
                f"Note: the engine {backend} does not run here ({found.what}), so all fits of "
                f"{', '.join(names)} will fail. To repair it: {found.remedy}"
            )


def snakemake_options(cores: str | None, own: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Options of Snakemake: the user's, with our settings where they have `--config`.

    Parameters
    ----------
    cores : str or None
        Of `--cores`; by default all, unless the user's options say it.
    own : sequence of str
        The user's, from after ``--``.
    settings : sequence of str
        ``KEY=VALUE`` for `--config`.
    """
    words = list(own)
    said = any(word.split("=")[0] in _CORES or word[:2] in ("-c", "-j") for word in words)
    first = ["--cores", cores or "all"] if cores or not said else []
    for name in ("--config", "-C"):
        if name in words:  # the last one of several counts
            place = words.index(name) + 1
            return [*first, *words[:place], *settings, *words[place:]]
    return [*first, *words, "--config", *settings]


def environment_with_cache() -> dict[str, str]:
    """Environment variables, with a cache that Snakemake can write to: without, it does not start.

    Compiled Stan programs may well be in one that is read-only, so these stay where they are.
    """
    environment = dict(os.environ)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = cache / "snakemake"
    try:
        own.mkdir(parents=True, exist_ok=True)
        writable = os.access(own, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        here = Path.cwd() / ".snakemake" / "cache"
        here.mkdir(parents=True, exist_ok=True)
        print(f"{cache} cannot be written; Snakemake keeps its cache in .snakemake/cache.")
        environment.setdefault("RMM_CACHE", str(cache / "rmm"))
        environment["XDG_CACHE_HOME"] = str(here)
    return environment


def _wait(
    words: Sequence[str], environment: Mapping[str, str], output: RunOutput | None = None
) -> int:
    """Run a program to its end, its stderr shown as `output` does; its exit code.

    Ctrl-C reaches it as it reaches us, and it ends by itself; a SIGTERM for us is passed on.
    """
    sys.stdout.flush()
    where = None if output is None else subprocess.PIPE
    child = subprocess.Popen(words, env=environment, stderr=where, text=True, errors="replace")
    reader = threading.Thread(daemon=True)  # does nothing, unless it has something to follow
    if output is not None and child.stderr is not None:
        reader = threading.Thread(target=output.follow, args=[child.stderr], daemon=True)
    reader.start()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, ended)
    reader.join(timeout=5)  # a job that outlives its killed run has the pipe, too
    return code if code >= 0 else 128 - code


def _written(folder: Path) -> dict[Path, int]:
    """Files of results, without logs, and when they were written."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and "logs" not in path.relative_to(folder).parts
    }


def _tell(report: Path, unchanged: bool) -> int:
    """Say where the report is."""
    if not report.is_file():
        raise StudyError(f"The study has run, but wrote no {report}.")
    if unchanged:
        print(f"Nothing to do: the study {report.parents[1].name!r} is complete and up to date.")
    headline = report.with_name("headline.txt")
    if headline.is_file():
        print(f"\n{headline.read_text('utf-8')}")
    print(f"Report: {report}\n        {report.resolve().as_uri()}")
    return 0
