"""Errors about a study file: file, key, line, what was found, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rmm.errors import RmmError, StudyError, unknown_name
from rmm.simulation import RecipeError


@dataclass(frozen=True)
class StudyFileErrors:
    """Writes errors about one file, and collects those after which checking can go on.

    Attributes
    ----------
    file : Path
    context : str
        Added to every error: the scenario in which the problem shows.
    lines : mapping
        Key path -> line of the file.
    found : dict
        Errors collected so far, by what they are about.
    """

    file: Path
    context: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    found: dict[tuple[str, ...], StudyError] = field(default_factory=dict)

    def within(self, context: str) -> StudyFileErrors:
        """The same with another context."""
        return replace(self, context=context)

    def about(self, key: str, problem: str, advice: str = "") -> StudyError:
        """An error about one key: the place, and below it what is wrong and what to do.

        Parameters
        ----------
        key : str
            Path of the key, such as ``methods[1].backend``.
        problem : str
            Sentences: what was found.
        advice : str
            Sentences: what to do.
        """
        line = self._line(key)
        place = f"{self.file}:{line}" if line else f"{self.file}"
        place += f": {key or 'the file'}" + (f" ({self.context})" if self.context else "")
        text = "\n".join(part for part in (problem, advice) if part)
        error = StudyError(f"{place}\n  " + text.replace("\n", "\n  "))
        error.line = line
        return error

    def value(self, key: str, found: object, allowed: str, advice: str = "") -> StudyError:
        """An error about a value that is not allowed; `allowed` has no full stop."""
        problem = f"found:   {shown(found)}\nallowed: {allowed}"
        return self.about(key, problem, advice)

    def name(self, key: str, kind: str, found: object, allowed: Collection[Any]) -> StudyError:
        """An error about an unknown name; `kind` has its article: ``"a measure"``."""
        return self.about(key, unknown_name(found, kind, allowed))

    def convert(self, key: str, error: RmmError) -> StudyError:
        """An error of the formula language or the simulator, with the file's name."""
        if isinstance(error, RecipeError):
            return self.about(error.key, error.problem, error.advice)
        return self.about(key, str(error))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep an error of the body for `raise_found`; what follows the body is checked too.

        Scenarios share most keys: the same error in another context is kept once.
        """
        try:
            yield
        except StudyError as error:
            place, *rest = str(error).split("\n")
            self.found.setdefault((re.sub(r" \(.*\)$", "", place), *rest), error)

    def raise_found(self) -> None:
        """Raise what was collected, in the order of the file.

        Raises
        ------
        StudyError
            If there was anything.
        """
        errors = sorted(self.found.values(), key=lambda error: error.line)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            texts = "\n".join(map(str, errors))
            raise StudyError(f"{self.file}: {len(errors)} mistakes\n{texts}")

    def _line(self, key: str) -> int:
        """The line of a key, or of the nearest key above it."""
        key = key.split(" ")[0]
        while key and key not in self.lines:
            key = re.sub(r"(\.?[^.\[]*|\[[^\[]*)$", "", key, count=1)
        return self.lines.get(key, 0)


def shown(value: Any) -> str:
    """A value of a YAML file in a message: short, and with its type where that matters."""
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    words = {bool: "true or false", str: "text", dict: "keys", list: "a list", type(None): "empty"}
    if isinstance(value, (dict, list)):
        return f"{words[type(value)]}: {text}"
    return f"{text} ({words[type(value)]})" if type(value) in words else text
