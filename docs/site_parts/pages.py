"""Run the code of a page, block by block, as a reader would.

    python -m site_parts.pages docs/tutorials/space.md     (in docs/; writes what the code prints)

* ``python`` blocks share a namespace, ``sh`` blocks run in the same folder.
* A ``text`` block directly after one of them shows its output.
* Comments above a block change how it is handled: ``<!-- file: NAME -->`` writes it to a file,
  ``<!-- raises: CLASS -->`` and ``<!-- warns: CLASS -->`` expect an error or a warning,
  ``<!-- not run: REASON -->`` skips the block.
* ``<!-- long -->`` at the top of a page: its test has the marker `docs`.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LENT = ("config", "workflow")  # copied into the folder of a page

_FENCE = re.compile(
    r"(?:^<!-- (?P<key>[a-z ]+): (?P<value>[^\n]*?) -->\n+)?"
    r"^(?P<fence>```+)(?P<language>[a-z]+)\n(?P<code>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?|[-+]?\.\d+", re.IGNORECASE)


class PageError(AssertionError):
    """A block of a page fails, or does not raise or warn as its comment expects."""


@dataclass(frozen=True)
class Block:
    """A code block: language, text, comment above it, and position in the page."""

    language: str
    code: str
    key: str
    value: str
    start: int
    end: int


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page, in order, without directives."""
    return [
        Block(m["language"], m["code"], m["key"] or "", m["value"] or "", m.start(), m.end())
        for m in _FENCE.finditer(text)
    ]


def is_long(text: str) -> bool:
    """Return whether the page is marked as long."""
    return bool(re.search(r"^<!-- long -->$", text, re.MULTILINE))


def run(path: Path, folder: Path) -> Iterator[tuple[Block, str, Block | None]]:
    """Run a page in `folder`. Yield each block that runs, its output, and the block shown.

    Raises
    ------
    PageError
        If a block fails, or does not raise or warn as its comment expects.
    """
    text = path.read_text(encoding="utf-8")
    found, names = blocks(text), {"__name__": "__main__"}
    _lend(folder)
    for number, block in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else None
        shown = after if after and after.language == "text" and not after.key else None
        if shown and text[block.end : shown.start].strip():
            shown = None
        if block.key == "file":
            (folder / block.value).write_text(block.code, encoding="utf-8")
        elif block.key != "not run" and block.language in ("python", "sh"):
            with chdir(folder):
                yield block, _printed(block, names, path), shown


def _lend(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in LENT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder / name)


def _printed(block: Block, names: dict[str, Any], path: Path) -> str:
    return _shell(block, path) if block.language == "sh" else _python(block, names, path)


def _shell(block: Block, path: Path) -> str:
    here = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["sh", "-e", "-c", block.code], capture_output=True, text=True, env=environment, check=False
    )
    wanted = int(block.value) if block.key == "exit code" else 0
    if done.returncode != wanted:
        raise PageError(f"{path}: exit code {done.returncode} of\n{block.code}\n{done.stderr}")
    return done.stdout if wanted == 0 else done.stdout + done.stderr


def _python(block: Block, names: dict[str, Any], path: Path) -> str:
    out = io.StringIO()
    code = compile(block.code, f"{path.name}", "exec")
    with redirect_stdout(out), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            exec(code, names)  # noqa: S102  (our own documentation)
        except Exception as error:
            if block.key != "raises" or type(error).__name__ != block.value:
                raise PageError(f"{path}: {error!r} in\n{block.code}") from error
            return f"{out.getvalue()}{block.value}: {error}\n"
    if block.key == "raises":
        raise PageError(f"{path}: no {block.value} is raised by\n{block.code}")
    ours = [w for w in heard if type(w.message).__module__.startswith("rmm")]
    if block.key == "warns":
        said = [w for w in ours if w.category.__name__ == block.value]
        if not said:
            raise PageError(f"{path}: no {block.value} is given by\n{block.code}")
        return f"{out.getvalue()}{block.value}: {said[0].message}\n"
    if ours:
        raise PageError(f"{path}: unexpected warning: {ours[0].message}\nin\n{block.code}")
    return out.getvalue()


def differences(printed: str, shown: str) -> str:
    """Describe the differences between an output and the block of a page that shows it.

    The text is empty if there are none. Words must be the same. Numbers may differ by 0.05 or 20%,
    to allow for rounding, times and speed of other machines; other tests check results of models. A
    line of dots matches any lines.
    """
    if "\n...\n" in shown:
        head, _, tail = shown.partition("\n...\n")
        lines = printed.splitlines()
        cut = [*lines[: len(head.splitlines())], *lines[len(lines) - len(tail.splitlines()) :]]
        return differences("\n".join(cut), f"{head}\n{tail}")
    words = [" ".join(_NUMBER.sub("0", text).split()) for text in (printed, shown)]
    if words[0] != words[1]:
        return f"The page shows\n{shown}\nbut the code prints\n{printed}"
    for ours, theirs in zip(_NUMBER.findall(printed), _NUMBER.findall(shown), strict=True):
        one, other = (float(n.replace(",", "")) for n in (ours, theirs))
        if abs(one - other) > max(0.05, 0.2 * abs(other)):
            return f"The page shows {theirs} where the code prints {ours}:\n{printed}"
    return ""


def rewrite(path: Path, figures: Path) -> None:
    """Write the output of the code into the page, and its figures into `figures`."""
    text, changes = path.read_text(encoding="utf-8"), []
    with tempfile.TemporaryDirectory() as folder:
        for _, printed, shown in run(path, Path(folder)):
            if shown and "\n...\n" not in shown.code:
                lines = [line.rstrip() for line in printed.rstrip().splitlines()]
                fresh = "\n".join(["```text", *lines, "```"])
                changes.append((shown.start, shown.end, fresh))
        for figure in Path(folder).glob("*.svg"):
            (figures / figure.name).write_bytes(figure.read_bytes())
    for start, end, fresh in reversed(changes):
        text = text[:start] + fresh + text[end:]
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name).resolve(), ROOT / "docs" / "figures")
