"""Command lines in documents, help texts and comments: their commands, options and files exist.

Command lines are parsed by the parser of their program, and not run.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from rmm.cli import parser
from rmm.cli.run_command import check_profile
from rmm.errors import StudyError
from tests import ROOT

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "config/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*/*.md")),
]
#: Files whose comments show commands.
COMMENTED = [
    *sorted((ROOT / "config").rglob("*.yaml")),
    *sorted((ROOT / "workflow").rglob("*.yaml")),
    *sorted((ROOT / "workflow").rglob("*.smk")),
    ROOT / "workflow" / "Snakefile",
    ROOT / "Snakefile",
]
#: Programs of the shell, and of others.
OTHERS = {"cd", "ls", "echo", "grep", "head", "tail", "pip", "Rscript", "R", ".", "git", "tmux"}
#: Words that stand for something of the reader's, and abbreviations.
PLACEHOLDER = re.compile(r"\.\.\.|\b[A-Z][A-Z_]{2,}\b|[<>…]|/path/to")
_PROGRAM = r"(?:\.venv/bin/)?(?:rmm|snakemake|make|python)"


def blocks(text: str) -> Iterator[str]:
    """Commands of the blocks of a document in the language of the shell."""
    for found in re.finditer(r"^ *```(?:sh|bash|console)\n(.*?)^ *```", text, re.DOTALL | re.M):
        lines = re.sub(r"\\\n\s*", "", found[1])
        lines = re.sub(r'(echo "[^"]*")', lambda m: m[1].replace("\n", " "), lines)
        yield from (line.strip() for line in lines.splitlines() if line.strip())


def inline(text: str) -> Iterator[str]:
    """Commands within sentences."""
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.M)
    for found in re.finditer(r"`([^`]+)`", outside):
        code = " ".join(found[1].split())
        if re.match(rf"{_PROGRAM} \S", code):
            yield code


def in_comments(text: str) -> Iterator[str]:
    comments = "\n".join(re.findall(r"#\s?(.*)", text))
    comments = re.sub(r"\\\n\s*", "", comments)
    yield from inline(comments)
    for line in comments.splitlines():
        if re.match(rf"\s+{_PROGRAM} \S", line):
            yield line.strip()


def subparsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from subparsers(below)


def examples() -> Iterator[str]:
    """Command lines below `examples:` of each help text."""
    for one in subparsers(parser()):
        text = (one.epilog or "").partition("examples:\n")[2]
        text = re.sub(r"\\\n\s*", "", text)
        lines = (re.split(r"\s{3,}", line.strip())[0] for line in text.splitlines())
        yield from (line for line in lines if line.startswith("rmm "))


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without comments, redirections and variables."""
    words: list[str] = []
    line = re.sub(r"\d?>&\d", "", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    skip = False
    for word in lexer:
        if set(word) <= set("|&;"):
            yield words
            words = []
        elif set(word) == {">"}:
            skip = True
        elif skip:
            skip = False
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):  # VARIABLE=VALUE before a command
            words.append(word)
    yield words


def check(line: str, *, complete: bool) -> None:
    """Parse a line; one that is not complete has only options that its command has."""
    for words in filter(None, commands(line)):
        program, *rest = words
        program = program.removeprefix(".venv/bin/")
        if program == "python" and rest[:2] == ["-m", "rmm"]:
            program, rest = "rmm", rest[2:]
        if program == "rmm":
            check_rmm(rest, complete=complete)
        elif program == "make":
            check_make(rest)
        elif program == "snakemake":
            check_snakemake(rest)
        elif program in ("bash", "python"):
            check_script(rest)
        elif program.startswith("python3"):
            assert rest[:2] == ["-m", "venv"], line
        else:
            assert program in OTHERS, f"{program!r} in {line!r}"


def check_rmm(words: list[str], *, complete: bool) -> None:
    place = words.index("--") if "--" in words else len(words)
    own, snakemake = words[:place], words[place + 1 :]
    if complete:
        try:
            parser().parse_args(own)
        except SystemExit:
            pytest.fail(f"rmm {shlex.join(own)} is not accepted")
    else:
        command = parser()
        for word in own:
            below = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
            if not below:
                break
            if word.startswith("-"):
                continue
            if PLACEHOLDER.search(word):
                return
            assert word in below[0].choices, f"rmm {shlex.join(own)}: there is no {word!r}"
            command = below[0].choices[word]
        known = command._option_string_actions
        absent = [w for w in own if w.startswith("--") and w.partition("=")[0] not in known]
        assert not absent, f"rmm {shlex.join(own)}"
    if snakemake:
        check_snakemake(snakemake)


def check_snakemake(words: list[str]) -> None:
    """As it is written in a clone, or in the folder of `rmm study init`."""
    cli = pytest.importorskip("snakemake.cli", reason="the extra `study` is not installed")
    words = [re.sub("^profiles/", "workflow/profiles/", word) for word in words]
    try:
        check_profile(words)
    except StudyError as error:
        if re.search(
            "needs the package snakemake-executor-plugin-(lsf|cluster-generic)", str(error)
        ):
            return  # not in the lock: its options are unknown here
        raise
    try:
        _, options = cli.parse_args(words)
    except SystemExit:
        pytest.fail(f"snakemake {shlex.join(words)} is not accepted")
    for pair in options.config or []:
        key, _, value = pair.partition("=")
        if key == "study" and not PLACEHOLDER.search(value) and "/" not in value:
            assert (ROOT / "config" / "studies" / f"{value}.yaml").is_file(), pair


def check_make(words: list[str]) -> None:
    known = set(re.findall(r"^([a-z][\w-]*)[^=\n]*:(?!=)", (ROOT / "Makefile").read_text(), re.M))
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    for target in words:
        if "=" not in target and not target.startswith("-") and not PLACEHOLDER.search(target):
            assert target in known, f"make {target}"
    study = variables.get("STUDY", "quickstart")
    if not PLACEHOLDER.search(study):
        assert (ROOT / "config" / "studies" / f"{study}.yaml").is_file(), words


def check_script(words: list[str]) -> None:
    file = next((word for word in words if not word.startswith("-")), None)
    if file is None or words[0] == "-m" or PLACEHOLDER.search(file):
        return
    assert (ROOT / file).exists(), words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_documents_are_accepted(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    text = path.read_text(encoding="utf-8")
    for line in blocks(text):
        check(line, complete=True)
    for line in inline(text):
        check(line, complete=False)


@pytest.mark.parametrize("path", COMMENTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_comments_are_accepted(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for line in in_comments(path.read_text(encoding="utf-8")):
        check(line, complete=False)


def test_examples_of_help_texts_are_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    lines = list(examples())
    assert len(lines) > 40
    for line in lines:
        check(line, complete=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rmm study chekc mine.yaml", "rmm study chekc mine.yaml is not accepted"),
        ("rmm study run mine.yaml --core 4 --fast", "is not accepted"),
        ("rmm fit data.csv", "is not accepted"),
        ("rmm study run mine.yaml -- --dry-runs", "snakemake --dry-runs is not accepted"),
        ("rmm study run a.yaml -- --workflow-profile profiles/x", "profiles/x does not exist"),
        ("make studies", "make studies"),
        ("make study STUDY=no_such_study", "STUDY=no_such_study"),
        (".venv/bin/snakemake --cores 4 --config study=none", "study=none"),
        (".venv/bin/python benchmarks/no_such_file.py", "no_such_file"),
        ("no_such_program | head", "'no_such_program' in"),
    ],
)
def test_wrong_commands_are_found(
    line: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, StudyError, pytest.fail.Exception), match=message):
        check(line, complete=True)


@pytest.mark.parametrize("line", ["rmm study chekc FILE", "rmm fit FILE --no-such-option"])
def test_wrong_commands_in_sentences_are_found(line: str) -> None:
    with pytest.raises(AssertionError, match=line):
        check(line, complete=False)
