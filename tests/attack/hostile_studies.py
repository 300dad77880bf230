"""Study files whose names, keys and values are paths, commands, bombs or objects."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from rmm.cli import main
from tests.attack import Attack, unexpected
from tests.fuzzing import TooSlow, at_most
from tests.hostile import hostile_label
from tests.projects import STUDY

#: CPU seconds that `rmm study check` may take.
_SECONDS = 10.0
#: Characters of a message, see `rmm.errors.shortened_lines`.
_LONGEST = 5_000
#: Files that a study may name, and where a command would leave a trace.
_FILES = ("../x.csv", "/etc/passwd", "~/x.csv", "$(touch {0})", "`touch {0}`", "; touch {0}",
          "| touch {0}", "{{wildcards.x}}", "{{params}}", "/dev/zero", "/dev/stdin",
          "/proc/self/mem", "http://127.0.0.1/x.csv", "file:///etc/passwd", "s3://x/y.csv",
          ".", "..", "", "x\0.csv", "x" * 5000, "planted.py", "../planted.py", "planted.csv",
          "-rf", "//x/y.csv")  # fmt: skip
#: Lines of YAML that make objects, that grow, or that are given twice.
_LINES: tuple[Callable[[random.Random, Path], str], ...] = (
    lambda draw, trace: f"!!python/object/apply:os.system ['touch {trace}']",
    lambda draw, trace: f"!!python/object/apply:os.mkdir ['{trace}']",
    lambda draw, trace: f"!!python/object/new:subprocess.Popen [['touch', '{trace}']]",
    lambda draw, trace: "!!python/name:os.system",
    lambda draw, trace: "!!python/module:planted",
    lambda draw, trace: "!!binary aGk=",
    lambda draw, trace: f"!{draw.choice('abc')}",
    lambda draw, trace: "[" * draw.randrange(20, 20_000),
    lambda draw, trace: "{a: " * draw.randrange(20, 20_000),
    lambda draw, trace: "[" + "1," * draw.randrange(100, 60_000) + "]",
    lambda draw, trace: "9" * draw.randrange(20, 50_000),
    lambda draw, trace: "0x" + "f" * draw.randrange(20, 50_000),
    lambda draw, trace: "1" + ":59" * draw.randrange(3, 20_000),
    lambda draw, trace: f"1e{draw.randrange(-400, 400)}",
    lambda draw, trace: f"{10 ** draw.randrange(1, 30)}",
    lambda draw, trace: draw.choice((".nan", ".inf", "-.inf", "2020-02-31", "~", "<<", "*a", "&a")),
)


def _laughs(draw: random.Random) -> str:
    """Aliases of aliases."""
    width, kind = draw.randrange(2, 12), draw.choice(("[{}]", "{{k: [{}]}}"))
    lines = ["a0: &a0 " + kind.format(", ".join("x" * width))]
    for n in range(1, draw.randrange(3, 40)):
        lines.append(f"a{n}: &a{n} " + kind.format(", ".join([f"*a{n - 1}"] * width)))
    return "\n".join(lines) + "\n"


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    found = []
    for key, inner in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        found.append((tree, key))
        if isinstance(inner, dict | list):
            found += _places(inner)
    return found


_BASE: dict[str, Any] = {
    **STUDY,
    "vary": {"size": {"path": "membership.size", "values": [2, 3]}},
    "methods": [
        {"name": "agg", "kind": "aggregation", "backend": "ols"},
        {"name": "pick", "kind": "choice", "candidates": {"one": "w ~ 1/n", "two": "w ~ 1"}},
    ],
}


def _text(draw: random.Random, trace: Path) -> str:
    if draw.random() < 0.5:
        return draw.choice(_FILES).format(trace)
    return hostile_label(draw).replace("touch made", f"touch {trace}")


def _renamed(tree: Any, draw: random.Random, trace: Path) -> None:
    """A key, name or value is a hostile text."""
    container, key = draw.choice(_places(tree))
    if draw.random() < 0.5 and isinstance(container, dict):
        container[_text(draw, trace)] = container.pop(key)
    else:
        container[key] = _text(draw, trace)


def _named_file(tree: Any, draw: random.Random, trace: Path) -> None:
    """A file that the study reads, or code that it asks for."""
    name, file = _text(draw, trace), _text(draw, trace)
    if draw.random() < 0.3:
        name, file = "f", draw.choice(("planted.py", "./planted.py", "link.py", "../planted.py"))
    match draw.randrange(5):
        case 0:
            tree["membership"] = {"kind": "real", "file": file, "member": "a", "group": name}
        case 1:
            tree["methods"].append({"name": "own", "kind": "python", "function": f"{file}:{name}"})
        case 2:
            tree["methods"].append({"name": "own", "kind": "rscript", "script": file})
        case 3:
            tree["methods"].append({"name": "own", "kind": "external", "file": file})
        case _:
            tree["data"] = {"function": f"{file}:{name}"}


def _hostile(draw: random.Random, trace: Path) -> bytes:
    """The text of a study file."""
    tree = copy.deepcopy(_BASE)
    if draw.random() < 0.5:
        _named_file(tree, draw, trace)
    for _ in range(draw.randrange(3)):
        _renamed(tree, draw, trace)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=draw.random() < 0.5)
    if draw.random() < 0.2:
        text += _laughs(draw)
    if draw.random() < 0.4:
        lines = text.splitlines(keepends=True)
        place = draw.randrange(len(lines))
        line = draw.choice(_LINES)(draw, trace)
        kept = lines[place].split(":")[0]
        lines[place] = draw.choice((f"{kept}: {line}\n", f"{line}\n", f"{lines[place]}{kept}: 1\n"))
        text = "".join(lines)
    return text.encode("utf-8", "surrogatepass")


class _Watch:
    """What Python is about to do: processes that start, files that are written, sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on = str(folder), False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        name = event.partition(".")[0]
        if name in ("subprocess", "socket", "pickle", "ctypes") or event in _STARTS:
            self.seen.append(f"{event} {str(arguments)[:100]}")
        elif event in _CHANGES or (event == "open" and _writes(arguments)):
            self.seen.append(f"{event} {str(arguments[0])[:100]}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.seen, self.on = [], True
        try:
            yield
        finally:
            self.on = False


_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "os.startfile")
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.truncate", "shutil.rmtree", "shutil.copyfile", "shutil.move")  # fmt: skip


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    if str(path) == os.devnull:
        return False
    if isinstance(mode, str):
        return any(flag in mode for flag in "wax+")
    return bool(int(flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def _checked(file: Path, watch: _Watch) -> str:
    """What `rmm study check` did that it must not do."""
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        try:
            with watch.watching(), at_most(_SECONDS):
                code = main(["study", "check", str(file)])
        except (TooSlow, SystemExit) as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001  what the attack looks for
            return unexpected(error)
    if watch.seen:
        return f"it does {watch.seen[:3]}"
    text = said.getvalue() + told.getvalue()
    if odd := [c for c in text if not (c.isprintable() or c in "\n\t")]:
        return f"its answer contains {odd[0]!r}"
    if code == 2 and (len(told.getvalue()) > _LONGEST or "Traceback" in text):
        return f"a message of {len(told.getvalue())} characters"
    return "" if code in (0, 2) else f"exit code {code}"


def _studies(draw: random.Random, folder: Path) -> Iterator[str]:
    """`rmm study check` of hostile files answers soon; nothing is run, imported or written."""
    trace, here = folder / "trace", folder / "studies"
    here.mkdir()
    planted = f"import pathlib\npathlib.Path({str(trace)!r}).mkdir()\ndef f(*a, **k): ...\n"
    for path in (here / "planted.py", folder / "planted.py"):
        path.write_text(planted)
    (here / "planted.csv").write_text("a,f\n1,2\n")
    (here / "link.py").symlink_to(folder / "planted.py")
    file, watch = here / "study.yaml", _Watch(folder)
    before = _all(folder)
    file.write_bytes(yaml.safe_dump(_BASE).encode())
    _checked(file, watch)  # imports its modules, which may write their compiled files
    for number in count():
        content = _hostile(draw, trace)
        file.write_bytes(content)
        broken = _checked(file, watch)
        if made := _all(folder) - before - {file}:
            broken += f" files were made: {made}"
        yield f"case {number}: {broken}\n{content[:300]!r}" if broken else ""


def _all(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


ATTACKS = (Attack("hostile study files", 3_000, _studies),)
