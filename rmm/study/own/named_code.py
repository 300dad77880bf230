"""Code that a study file names: `my_methods.py:fit_gee`, read and checked without running it."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmm.errors import StudyError
from rmm.study.files.messages import StudyFileErrors

_FUNCTION = re.compile(r"([^:\\]+\.py):([A-Za-z_]\w*)")
#: Bytes of a file of code; larger ones are no code that somebody wrote.
_MOST_BYTES = 1_000_000
_RELATIVE = "Files are in the folder of the study file, or below it: `my_methods.py:fit`."

ALLOW = "`--allow-code` (rmm), or `--config allow_code=true` (Snakemake)"


def environment() -> dict[str, str]:
    """Environment variables of a process that runs a user's code.

    Modules of the run itself are safe from the present folder; what a user's code starts may need
    modules that lie there.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}


@dataclass(frozen=True)
class NamedCode:
    """A Python function, or an R script, that a study file names.

    Attributes
    ----------
    path : Path
        Its file.
    name : str
        Of the function; "" for a script.
    written : str
        As the study file has it.
    sha256 : str
        Of the file's bytes. Other files that it reads are not part of it.
    allowed : bool
        Whether it may run.
    arguments : mapping
        Further keyword arguments of the function.
    timeout : float
        Seconds that one call may take.
    """

    path: Path
    name: str
    written: str
    sha256: str
    allowed: bool
    arguments: Mapping[str, Any]
    timeout: float

    def check_allowed(self) -> None:
        """Raise unless the code may run.

        Raises
        ------
        StudyError
        """
        if not self.allowed:
            raise StudyError(
                f"The study names code, {self.written}, which has not been allowed to run.\n"
                f"  Read it first. Then allow it with {ALLOW}."
            )


def read_function(
    key: str, config: Mapping[str, Any], folder: Path, allowed: bool, file_errors: StudyFileErrors
) -> NamedCode:
    """The function that `config["function"]` names; its file defines it.

    Raises
    ------
    StudyError
        If the file is outside the folder, does not exist, is no Python, or has no such function.
    """
    key, written = f"{key}.function", str(config["function"])
    match = _FUNCTION.fullmatch(written)
    if match is None:
        advice = "Write it as FILE.py:NAME, such as my_methods.py:fit."
        raise file_errors.about(key, f"{written!r} does not name a function.", advice)
    path = _file_inside(key, match[1], folder, file_errors)
    text = _text(key, path, file_errors)
    known = _defined(key, path, text, file_errors)
    if match[2] not in known:
        raise file_errors.name(key, f"a function of {match[1]}", match[2], known)
    return _named(path, match[2], written, text, config, allowed)


def read_script(
    key: str, config: Mapping[str, Any], folder: Path, allowed: bool, file_errors: StudyFileErrors
) -> NamedCode:
    """The R script that `config["script"]` names.

    Raises
    ------
    StudyError
        If the file is outside the folder or does not exist.
    """
    key, written = f"{key}.script", str(config["script"])
    if not written.lower().endswith(".r"):
        raise file_errors.about(
            key, f"{written!r} is not the name of an R script.", "It must end in .R."
        )
    path = _file_inside(key, written, folder, file_errors)
    return _named(path, "", written, _text(key, path, file_errors), config, allowed)


def _named(
    path: Path, name: str, written: str, text: bytes, config: Mapping[str, Any], allowed: bool
) -> NamedCode:
    sha256 = hashlib.sha256(text).hexdigest()
    return NamedCode(
        path, name, written, sha256, allowed, config["arguments"], float(config["timeout"])
    )


def path_inside(key: str, written: str, folder: Path, file_errors: StudyFileErrors) -> Path:
    """The path of a file in the folder of the study file, or below it.

    Raises
    ------
    StudyError
        If it is outside.
    """
    folder = folder.resolve()
    try:
        path = (folder / written).resolve()
        inside = path.is_relative_to(folder) and not Path(written).is_absolute()
    except (OSError, ValueError):
        inside = False
    if not inside:
        found = f"{written!r} is not inside the folder of the study file."
        raise file_errors.about(key, found, _RELATIVE)
    return path


def _file_inside(key: str, written: str, folder: Path, file_errors: StudyFileErrors) -> Path:
    """`path_inside` of a file that must be there."""
    path = path_inside(key, written, folder, file_errors)
    if not path.is_file():
        raise file_errors.about(
            key, f"The file {written!r} does not exist.", f"Searched in: {folder.resolve()}."
        )
    return path


def _text(key: str, path: Path, file_errors: StudyFileErrors) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise file_errors.about(key, f"{path.name} cannot be read: {error.strerror}.") from error
    if len(text) > _MOST_BYTES:
        raise file_errors.about(key, f"{path.name} has more than {_MOST_BYTES:,} bytes.")
    return text


def _defined(key: str, path: Path, text: bytes, file_errors: StudyFileErrors) -> list[str]:
    """Names that a Python file defines at its top level; parsed, not run."""
    try:
        tree = ast.parse(text, filename=path.name)
    except SyntaxError as error:
        found = f"{path.name}, line {error.lineno}: this is not valid Python: {error.msg}."
        raise file_errors.about(key, found) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise file_errors.about(key, f"{path.name} cannot be parsed: {error}.") from error
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [t.id for t in targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return names
