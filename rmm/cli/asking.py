"""Questions in a terminal: each with its answer if nothing is said, and again until it is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.prompt import InvalidResponse, PromptBase
from rich.text import Text

from rmm.errors import RmmError
from rmm.tables.read import read_table

Read = Callable[[str], Any]


def ask(text: str, default: Any, read: Read, answers: TextIO | None = None) -> Any:
    """One answer.

    Parameters
    ----------
    text : str
        The question.
    default : object
        What Enter stands for; it is shown.
    read : callable
        Answer -> value; a ValueError says what is wrong, and the question comes again.
    answers : file, optional
        Where answers come from; default: the terminal.

    Raises
    ------
    EOFError, KeyboardInterrupt
        Where the person leaves.
    """
    return Question(text, default, read)(default=default, stream=answers)


class Question(PromptBase[Any]):
    """A question whose answer is checked by a function."""

    response_type = object  # defaults of all types are shown

    def __init__(self, text: str, default: Any, read: Read) -> None:
        super().__init__(Text(text), show_default=default != "")
        self.default, self.read = default, read

    def render_default(self, default: Any) -> Text:
        """The default in brackets."""
        return Text(f"[{default}]")

    def process_response(self, value: str) -> Any:
        """The value of an answer."""
        answer = value.strip()
        try:
            return self.read(answer) if answer else self.default
        except ValueError as problem:
            raise InvalidResponse(str(problem)) from None

    def on_validate_error(self, value: str, error: InvalidResponse) -> None:
        """What is wrong, before the question comes again."""
        print(f"    {error.message}")


def whole(answer: str) -> int:
    """A number from 1 on."""
    if not answer.isascii() or not answer.isdigit() or int(answer) < 1:
        raise ValueError(f"{answer!r} is not a whole number of at least 1.")
    return int(answer)


def number(answer: str) -> float:
    """Any finite number."""
    try:
        value = float(answer)
    except ValueError:
        raise ValueError(f"{answer!r} is not a number. Write it like 0.5.") from None
    if not abs(value) < float("inf"):
        raise ValueError(f"{answer!r} is not a finite number.")
    return value


def one_of(allowed: Sequence[str]) -> Read:
    """One of some words."""

    def read(answer: str) -> str:
        if answer not in allowed:
            raise ValueError(
                f"{answer!r} is not possible here. Choose one of: {', '.join(allowed)}."
            )
        return answer

    return read


def table(answer: str) -> str:
    """The path of a table that can be read."""
    if not Path(answer).is_file():
        raise ValueError(f"There is no file {answer!r}.")
    try:
        read_table(answer)
    except RmmError as problem:
        raise ValueError(str(problem)) from None
    return answer


def new_study(
    defaults: Mapping[str, Any],
    families: Sequence[str],
    backends: Sequence[str],
    answers: TextIO | None = None,
) -> dict[str, Any]:
    """What `rmm study new` must know, by the names of its options."""
    print(
        "Press Enter to accept the value in brackets. You can change every value later in the "
        "file. Press Ctrl-C to stop.\n"
    )
    found: dict[str, Any] = {}

    def put(key: str, text: str, read: Read, default: Any = None) -> None:
        found[key] = ask(text, defaults[key] if default is None else default, read, answers)

    put("title", "Title of the study", str)
    put("data", "File with your own table of memberships (Enter: simulate them)", table, "")
    if found["data"]:
        columns = [str(name) for name in read_table(found["data"]).columns]
        print(f"    Its columns: {', '.join(columns)}")
        for key, text in (
            ("member", "Column with the ids of the members"),
            ("group", "Column with the ids of the groups"),
        ):
            put(key, text, one_of(columns), defaults[key] if defaults[key] in columns else "")
            while not found[key]:
                put(key, text, one_of(columns), "")
    else:
        del found["data"]
        put("groups", "Number of groups, on which the outcome is measured", whole)
        put("members", "Number of different members, in all groups together", whole)
        put("size", "Members per group", whole)
    put("family", f"Family of the outcome ({', '.join(families)})", one_of(families))
    put("effect", "True coefficient of the member covariate x", number)
    put("replications", "Data sets per scenario", whole)
    put("backend", f"Engine ({', '.join(backends)})", one_of(backends))
    return found
