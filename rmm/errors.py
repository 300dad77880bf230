"""Errors and warnings. Messages are short and never contain an engine traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST_LINE, _LONGEST = 1000, 4000
_LONGEST_NAME = 100
#: Names that a message lists; study files have 40 measures and keys.
_MOST_NAMES = 30


class RmmError(Exception):
    """Base class of every error that `rmm` raises on purpose.

    Messages quote their subject, which may come from an untrusted file: a long line loses its
    middle, and what a terminal would obey (escape sequences, other control characters) becomes `?`.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(shortened_lines(p) if isinstance(p, str) else p for p in parts))


def shortened_lines(text: str) -> str:
    """Text as it may be shown: printable, and not too long."""
    lines = (_without_middle(line, _LONGEST_LINE) for line in printable(text).split("\n"))
    return _without_middle("\n".join(lines), _LONGEST)


def printable(text: str) -> str:
    """Text with `?` for what cannot be printed; line ends and tabulators stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _without_middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = most // 4
    return f"{text[: most - tail - 5]} ... {text[-tail:]}"


def unknown_name(
    name: object,
    kind: str,
    allowed: Iterable[object],
    meant: Iterable[object] = (),
    label: str = "Allowed",
) -> str:
    """Sentences about a name that is not valid: ``'jgs' is not a backend. Did you mean ...``.

    Parameters
    ----------
    name : object
        What was found.
    kind : str
        What the name should be, with its article: ``"a backend"``.
    allowed : iterable
        Names that are allowed; a long list is cut.
    meant : iterable
        Further names that may have been meant, such as the ones of R.
    label : str
        The word before the list.
    """
    names = list(dict.fromkeys(str(a) for a in allowed))
    listed = ", ".join(names[:_MOST_NAMES]) or "none"
    if len(names) > _MOST_NAMES:
        listed += f", ... ({len(names)} in all)"
    near = [*names, *map(str, meant)] if isinstance(name, str) else []
    found = did_you_mean(str(name), near, quote="'")
    return f"{name!r} is not {kind}.{found} {label}: {listed}."


def did_you_mean(name: str, known: Iterable[str], most: int = 1, quote: str = "`") -> str:
    """``" Did you mean `x`?"``, with up to `most` names; nothing if no known name is close."""
    names = list(known)
    close = [k for k in names if k.lower() == name.lower()][:1] or close_names(name, names, most)
    return f" Did you mean {' or '.join(f'{quote}{c}{quote}' for c in close)}?" if close else ""


def close_names(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that are most like one that is unknown; none of a page of text.

    The comparison takes the square of the names' lengths, and names may be untrusted.
    """
    short = [k for k in known if len(k) <= _LONGEST_NAME]
    return difflib.get_close_matches(name, short, n=most) if len(name) <= _LONGEST_NAME else []


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def first_row(number: int, row: int) -> str:
    """``, in row 3``, or, of several, ``; the first is in row 3``; rows are counted from 1."""
    return f"{', in row' if number == 1 else '; the first is in row'} {row} (counted from 1)"


def quoted(label: object) -> str:
    """An id as a message shows it: text in quotes, so that group 'a' is not read as an article."""
    return f"'{label}'" if isinstance(label, str) else str(label)


def such_cases(number: int) -> str:
    """Sentence on how often something was found."""
    return "This is the only such case." if number == 1 else f"There are {number:,} such cases."


def how_to_install(package: str, extra: str) -> str:
    """Sentence on a package that is missing."""
    return (
        f"Install it with `pip install {package}`, or, in the folder of the clone of rmm, with "
        f'`pip install ".[{extra}]"`.'
    )


class FormulaError(RmmError):
    """A formula or weight function cannot be read.

    Parameters
    ----------
    problem : str
        What was found.
    text : str, optional
        The text in which it was found; shown with a caret below the place.
    position : int, optional
        0-based offset of the problem in `text`.
    length : int
        Number of carets.
    hint : str, optional
        What is allowed or what to do.
    """

    def __init__(
        self,
        problem: str,
        text: str | None = None,
        position: int | None = None,
        length: int = 1,
        hint: str | None = None,
    ) -> None:
        self.problem, self.text, self.position, self.hint = problem, text, position, hint
        lines = [problem]
        if text is not None and position is not None:
            lines += _pointed(text, position, max(1, length))
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines))


_WIDEST = 100


def _pointed(text: str, position: int, length: int) -> list[str]:
    """The line of `text` that holds `position`, and carets below it."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)]
    column = position - start
    if len(line) > _WIDEST:  # a window around the place: a page of text hides the caret
        left = max(0, min(column - _WIDEST // 2, len(line) - _WIDEST))
        right = left + _WIDEST
        before, after = "... " * (left > 0), " ..." * (right < len(line))
        line, column = before + line[left:right] + after, column - left + len(before)
    return ["    " + line, "    " + " " * column + "^" * min(length, max(1, len(line) - column))]


class DataError(RmmError):
    """The data do not fit the model: missing, infinite, varying within a group, duplicated, ..."""


class PriorError(RmmError):
    """A prior cannot be read, or names a parameter that the model does not have."""


class ProgramError(RmmError):
    """An engine refused a program; the message shows the program's line."""


class BackendError(RmmError):
    """An engine is missing, crashed, timed out or returned something unusable."""


class PlotError(RmmError):
    """A plot was asked for that this fit cannot give, or matplotlib is missing."""


class BackendTimeout(BackendError):
    """A fit took longer than its time limit; the engine's processes have been ended."""


class StudyError(RmmError):
    """A study file or a table of estimates is wrong.

    The message names the file, the key path or the column, and what is allowed.
    """

    #: Line of the file; 0 where it is not known.
    line = 0


class ConvergenceWarning(UserWarning):
    """The draws of a fit must not be trusted yet."""


class SpecificationWarning(UserWarning):
    """The model runs, but a part of it does not mean what it seems to mean."""
