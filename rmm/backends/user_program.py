"""A user's own program in place of the generated one: read, and checked before an engine starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rmm.backends.base import Language
from rmm.errors import ProgramError

ENDINGS = (".txt", ".jags", ".bug", ".stan")
_SHOWN = 6  # names in a message


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
                "this file does not exist"
                if not os.path.isfile(path)
                else f"this file cannot be read: {error}"
            )
            raise ProgramError(
                f"`program`: {path}: {why}. Paths are relative to {Path.cwd()}."
            ) from None
    elif isinstance(program, str):
        text = program
    else:
        raise ProgramError(
            "`program` must be the text of a program or the path of a file, not of type "
            f"{type(program).__name__}."
        )
    if not text.strip():
        raise ProgramError(
            "`program` is empty. Start from `rmm.program(formula, family, backend)`."
        )
    return text


def language_of(program: Any, text: str, languages: Sequence[Language]) -> Language:
    """The language that a program is written in: by the ending of its file, else by its blocks.

    Parameters
    ----------
    program : str or path
        As the user gave it.
    text : str
    languages : sequence of Language
        In the order in which they are tried; the last one takes what no other does.
    """
    if isinstance(program, Path) or _is_path(str(program)):
        ending = Path(program).suffix.lower()
        for language in languages:
            if ending in language.endings:
                return language
    return next(known for known in languages if re.search(known.mark, _code(text, known)))


def _is_path(text: str) -> bool:
    return "\n" not in text.strip() and text.strip().lower().endswith(ENDINGS)


def check_variables(text: str, language: Language, names: Iterable[str]) -> None:
    """Raise `ProgramError` if a program lacks variables that are to be kept."""
    code = _code(text, language)
    if language.include and re.search(language.include, code):
        raise ProgramError(
            "The program contains `#include`, which cannot be used. Replace it by the text of that "
            "file."
        )
    words = set(re.findall(r"[A-Za-z][\w.]*", code))
    missing = [name for name in names if name not in words]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ProgramError(
            f"The fit must keep {listed}{more}, but the program has no such variable. Define it in "
            "the program (a constant is enough), or remove it from the formula or from `monitor`. "
            'With monitor="structural", random effects are not kept. rmm.program() shows the '
            "program of the formula."
        )


def drawn_only(text: str, language: Language, values: Mapping[str, Any]) -> dict[str, Any]:
    """Initial values of variables that the program draws (see `Language.starts`).

    What an edited program computes or leaves out has none.
    """
    code = _code(text, language)
    after = language.starts
    return {n: v for n, v in values.items() if re.search(rf"\b{re.escape(n)}{after}", code)}


def _code(text: str, language: Language) -> str:
    """The program without comments."""
    return re.sub(language.comment, " ", text, flags=re.DOTALL)
