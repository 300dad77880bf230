"""A user's own program in place of the generated one: read, and checked before an engine starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rmm.errors import ProgramError

ENDINGS = (".txt", ".jags", ".bug", ".stan")
_COMMENTS = {"jags": r"#[^\n]*|/\*.*?\*/", "stan": r"//[^\n]*|/\*.*?\*/"}
_LANGUAGES = {".stan": "stan", ".jags": "jags", ".bug": "jags"}  # .txt says nothing
_SHOWN = 6  # names in a letter


def read_program(program: Any) -> str:
    """The text of a program: given itself, or as a path that ends in .txt, .jags, .bug or .stan.

    Raises
    ------
    ProgramError
        If it is neither, empty, or cannot be read.
    """
    if isinstance(program, Path) or (isinstance(program, str) and _is_path(program)):
        path = Path(program)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # no such path, no UTF-8
            why = (
                "there is no such file"
                if not os.path.isfile(path)
                else f"it cannot be read: {error}"
            )
            raise ProgramError(f"`program`: {path}: {why} (looked from {Path.cwd()}).") from None
    elif isinstance(program, str):
        text = program
    else:
        raise ProgramError(
            f"`program` must be a program's text or the path of a file, not "
            f"{type(program).__name__}."
        )
    if not text.strip():
        raise ProgramError(
            "`program` is empty. Start from `rmm.program(formula, family, backend)`."
        )
    return text


def language_of(program: Any, text: str) -> str:
    """The language that a program is written in: by the ending of its file, else by its blocks.

    Parameters
    ----------
    program : str or path
        As the user gave it.
    text : str
    """
    if isinstance(program, Path) or _is_path(str(program)):
        ending = Path(program).suffix.lower()
        if ending in _LANGUAGES:
            return _LANGUAGES[ending]
    return "stan" if re.search(r"\bparameters\s*\{", _code(text, "stan")) else "jags"


def _is_path(text: str) -> bool:
    return "\n" not in text.strip() and text.strip().lower().endswith(ENDINGS)


def check_variables(text: str, language: str, names: Iterable[str]) -> None:
    """Raise `ProgramError` if a program lacks variables that are to be kept."""
    if language not in _COMMENTS:
        raise ProgramError(
            f"An engine of language {language!r} runs no program text: leave out "
            "`program=`, and monitor parameters only."
        )
    code = _code(text, language)
    if language == "stan" and re.search(r"#\s*include\b", code):
        raise ProgramError(
            "The program has an `#include`: write the text of that file in its place. Compiled "
            "programs are kept by their text, which must be whole."
        )
    words = set(re.findall(r"[A-Za-z][\w.]*", code))
    missing = [name for name in names if name not in words]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ProgramError(
            f"The program has no variable {listed}{more}, which the fit keeps. Define what is "
            "missing (a constant will do), take it out of the formula, or take it out of "
            '`monitor=`; monitor="structural" keeps no effects of units. '
            "`rmm.program` shows the program of the formula."
        )


def drawn_only(text: str, language: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Initial values of variables that the program draws.

    JAGS refuses those of others: what an edited program computes or leaves out has none. Stan
    ignores what it does not know.
    """
    code = _code(text, language)
    after = r"\s*(\[[^\]]*\])?\s*~" if language == "jags" else r"\b"
    return {n: v for n, v in values.items() if re.search(rf"\b{re.escape(n)}{after}", code)}


def _code(text: str, language: str) -> str:
    """The program without comments."""
    return re.sub(_COMMENTS[language], " ", text, flags=re.DOTALL)
