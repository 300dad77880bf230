"""Modules and executables that somebody puts where a study runs: none of them is run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pandas as pd
import yaml

from rmm.backends.stan import compile as stan_compile
from rmm.backends.stan.compile import compile_program
from rmm.backends.stan.install import wheel
from rmm.errors import BackendError
from rmm.study import Study, load_study
from rmm.study.run.compile_programs import compile_method, use_compiled
from tests.attack import Attack, flipped, unexpected
from tests.fake_compiler import FAKE_COMPILER
from tests.projects import FAKED, STUDY

#: Names that Python, pytest or Snakemake look for by themselves, and those of our own.
_NAMES = ("sitecustomize", "usercustomize", "conftest", "rmm", "snakemake", "tests", "setup",
          "yaml", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "filelock", "pulp",
          "platformdirs", "h5py", "polars", "readline", "snakemake_executor_plugin_slurm",
          "snakemake_logger_plugin_rmm", "snakemake_interface_common", "pyjags")  # fmt: skip
_LEAVES_A_TRACE = """\
with open({trace!r}, "a") as file:
    file.write(__name__ + " from " + __file__ + "\\n")
"""
#: What a user types, and how often; a run starts Snakemake and its jobs.
_COMMANDS = {
    "check": (["study", "check", "{file}"], 6),
    "status": (["study", "status", "{file}", "--results", "{results}"], 4),
    "score": (["study", "score", "{table}", "--method", "m", "--estimate", "b", "--truth", "0"], 4),
    "run": (["study", "run", "{file}", "--results", "{results}", "--cores", "1"], 3),
}


def _modules() -> list[str]:
    """Names of modules that may be imported, those of the standard library included."""
    known = {name.partition(".")[0] for name in sys.modules}
    return sorted({*_NAMES, *(name for name in known if name.isidentifier() and name[0] != "_")})


def _plant(places: list[Path], names: list[str], trace: Path, draw: random.Random) -> None:
    """Modules and packages in some of the places."""
    for name in names:
        place = draw.choice(places)
        path = place / draw.choice((f"{name}.py", f"{name}/__init__.py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_LEAVES_A_TRACE.format(trace=str(trace)))


def _planted(draw: random.Random, folder: Path) -> Iterator[str]:
    """Commands in a folder of planted modules; the study, too, lies beside some."""
    modules, rmm = _modules(), Path(sys.executable).with_name("rmm")
    words, weights = zip(*_COMMANDS.values(), strict=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for number in count():
        here, trace = folder / f"case {number}", folder / f"trace {number}"
        untrusted, results = here / "untrusted", here / "results"
        untrusted.mkdir(parents=True)
        file = draw.choice((untrusted, here)) / "tiny.yaml"
        methods = [draw.choice(({**FAKED, "name": "one"}, STUDY["methods"][0]))]
        config = {**STUDY, "replications": 2, "batch": 2, "methods": methods}
        file.write_text(yaml.safe_dump(config))
        table = untrusted / "table.csv"
        pd.DataFrame({"m": list("abab"), "b": [0.1, 0.2, 0.3, 0.4]}).to_csv(table, index=False)
        places = [here, untrusted, results, results / "tiny", here / ".snakemake", here / "config"]
        some = draw.sample(modules, len(modules) // 3)
        _plant(places, list({*some, *draw.sample(_NAMES, 15)}), trace, draw)
        command = draw.choices(words, weights)[0]
        names = {"file": str(file), "results": str(results), "table": str(table)}
        done = subprocess.run(
            [rmm, *(word.format(**names) for word in command)],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        broken = ""
        if trace.exists():
            broken = f"imported: {trace.read_text(encoding='utf-8')[:300]}"
        elif done.returncode:
            broken = f"exit code {done.returncode}: {done.stderr[-400:]}"
        yield f"{command[:2]}: {broken}" if broken else ""
        shutil.rmtree(here)


# -- caches ----------------------------------------------------------------------------------

_STAN = {"name": "mm", "kind": "mm", "backend": "stan"}


def _compiled(folder: Path) -> tuple[Study, Path, Path]:
    """A study, the record of its program, and the executable, by a compiler that is made up."""
    script = folder / "fake-g++"
    script.write_text(FAKE_COMPILER.format(log=folder / "compiled.log", then=":"))
    script.chmod(0o755)
    os.environ.update(RMM_CACHE=str(folder / "cache"), CXX=str(script))
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "methods": [_STAN]}))
    study, marker = load_study(file), folder / "programs" / "mm.json"
    stan_compile._told.clear()
    compile_method(study, "mm", marker)
    (made,) = (folder / "cache").glob("*/programs/*/program")
    return study, marker, made


def _poison(made: Path, marker: Path, trace: Path, draw: random.Random) -> str:
    """Change the executable, its folders or the record of its digest; what was done."""
    evil = f"#!/bin/sh\ntouch '{trace}'\n".encode()
    kind = draw.choice(("replaced", "link", "folder", "bit", "record", "owner", "garbage"))
    open_to_all = draw.choice([made, *made.parents[:4]])
    match kind:
        case "replaced":
            made.write_bytes(evil)
        case "link":
            (other := trace.with_name("evil")).write_bytes(evil)
            other.chmod(0o755)
            made.unlink()
            made.symlink_to(other)
        case "folder":
            made.write_bytes(evil)
            open_to_all.chmod(draw.choice((0o777, 0o757)))
        case "bit":
            made.write_bytes(flipped(made.read_bytes(), draw))
        case "record":
            made.write_bytes(evil)
            marker.write_bytes(flipped(marker.read_bytes(), draw))
        case "owner":
            made.write_bytes(evil)
            os.chown(open_to_all, 1234, -1) if os.geteuid() == 0 else open_to_all.chmod(0o777)
        case _:
            made.write_bytes(draw.randbytes(draw.randrange(5_000)))
    return f"{kind}, {open_to_all.name}"


def _caches(draw: random.Random, folder: Path) -> Iterator[str]:
    """A study asks for its executable after somebody was at the cache."""
    before = dict(os.environ)
    try:
        yield from _poisoned(draw, folder)
    finally:
        os.environ.clear()
        os.environ.update(before)
        stan_compile._told.clear()


def _poisoned(draw: random.Random, folder: Path) -> Iterator[str]:
    if wheel() is None:
        while True:
            yield ""
    study, marker, made = _compiled(folder)
    program = (made.parent / "program.stan").read_text(encoding="utf-8")
    trace, kept = folder / "trace", folder / "kept"
    shutil.copytree(folder / "cache", kept, symlinks=True)
    record, content = marker.read_bytes(), made.read_bytes()
    for number in count():
        shutil.rmtree(folder / "cache")
        shutil.copytree(kept, folder / "cache", symlinks=True)
        marker.write_bytes(record)
        stan_compile._told.clear()
        what, broken = _poison(made, marker, trace, draw), ""
        try:
            use_compiled(study, study.scenarios[0].id, "mm", marker)
            if compile_program(program).read_bytes() != content:
                broken = "a fit runs what was changed"
        except BackendError as error:
            broken = "" if "RMM_CACHE" in str(error) else f"no remedy: {error}"
        except Exception as error:  # noqa: BLE001  what the attack looks for
            broken = unexpected(error)
        if trace.exists():
            broken += " it was run"
            trace.unlink()
        yield f"case {number}, {what}: {broken}" if broken else ""


ATTACKS = (
    Attack("planted modules", 40, _planted),
    Attack("poisoned caches", 200, _caches),
)
