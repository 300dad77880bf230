"""Letters about a study file: file, key path, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmm.errors import RmmError, StudyError, close_names
from rmm.simulation import RecipeError


@dataclass(frozen=True)
class Letters:
    """Writes errors about one file.

    Attributes
    ----------
    file : Path
    context : str
        Added to every letter: the scenario in which the problem shows.
    """

    file: Path
    context: str = ""

    def about(self, key: str, found: str, allowed: str = "") -> StudyError:
        """An error about one key; `found` and `allowed` are sentences without full stop."""
        place = f"{self.file}: {key or 'the file'}"
        lines = [f"{place}{f' ({self.context})' if self.context else ''}"]
        lines += [f"  found:   {found}"]
        lines += [f"  allowed: {allowed}"] if allowed else []
        return StudyError("\n".join(lines))

    def name(self, key: str, what: str, found: object, known: Collection[Any]) -> StudyError:
        """An error about a name that no registry has."""
        text = found if isinstance(found, str) else ""
        close = close_names(text, [str(k) for k in known])
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        listed = ", ".join(str(k) for k in known) or "none"
        return self.about(key, f"{found!r}, which is no {what}{hint}", listed)

    def convert(self, key: str, error: RmmError) -> StudyError:
        """An error of the formula language or the simulator, with the file's name."""
        if isinstance(error, RecipeError):
            return self.about(error.key, error.problem, error.allowed.removeprefix("Allowed: "))
        text = str(error).replace("\n", "\n           ")
        return self.about(key, text)


def shown(value: Any) -> str:
    """A value of a YAML file in a message: short, and with its type where that matters."""
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    words = {bool: "true or false", str: "text", dict: "keys", list: "a list", type(None): "empty"}
    if isinstance(value, (dict, list)):
        return f"{words[type(value)]}: {text}"
    return f"{text} ({words[type(value)]})" if type(value) in words else text
