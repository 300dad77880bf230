"""What a text stands for: a number, nearly a number, a date, or a name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

#: Texts that mean a missing value in a column of a text file that otherwise holds numbers.
MISSING_NUMBERS = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None", ".", "#N/A")

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?|[+-]?(inf|Inf|INF|infinity|Infinity)"
)
_COMMA = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_GROUPED = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u202f]\d{3})+")
_NEARLY = re.compile(
    r"[<>≤≥~≈]?=?\s*[$€£¥]?\s*[+\-\u2212]?\d[\d.,'\s\u00a0\u202f]*([eE][+-]?\d+)?\s*[%‰$€£¥*]?"
)
_DATES = (
    re.compile(r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ]\d{1,2}:\d{2}.*)?"),  # 2020-02-29, 2020-02
    re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([T ,]+\d{1,2}:\d{2}.*)?"),  # 29.2.2020
    re.compile(r"\d{1,2}[- .]*[A-Za-z]{3,9}[- .,]*(\d{4}|\d{2})"),  # 29feb2020, 29 Feb 2020
    re.compile(r"[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"),  # Feb 29, 2020
    re.compile(r"\d{4}[- ]?[QqWw]\d{1,2}"),  # 2020Q1, 2020-W09
    re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"),  # 14:30
)
_MONTHS = re.compile(r"jan|feb|mar|apr|ma[yi]|jun|jul|aug|sep|o[ck]t|nov|de[cz]", re.IGNORECASE)


def is_number(text: str) -> bool:
    """Whether a text is a number with a decimal point, blanks around it apart."""
    return _NUMBER.fullmatch(text.strip()) is not None


def is_comma_number(text: str) -> bool:
    """Whether a text is a number with a decimal comma, or a whole number."""
    return _COMMA.fullmatch(text.strip()) is not None


def is_whole(text: str) -> bool:
    """Whether a text is a whole number as Python prints it: no leading zeros, no ``+``."""
    return _WHOLE.fullmatch(text) is not None and text != "-0"


def is_grouped(text: str) -> bool:
    """Whether a text may be a number with separated thousands, such as ``1,234``."""
    return _GROUPED.fullmatch(text.strip()) is not None


def is_date(text: str) -> bool:
    """Whether a text looks like a date or a time of day."""
    text = text.strip()
    if not any(pattern.fullmatch(text) for pattern in _DATES):
        return False
    letters = re.sub(r"[^A-Za-z]", "", re.split(r"[T ]\d{1,2}:", text)[0])
    return len(letters) < 3 or _MONTHS.match(letters) is not None


def is_nearly_number(text: str) -> bool:
    """Whether a text is a number that no parser takes: ``1,5``, ``1 234``, ``12%``, ``<5``."""
    return not is_number(text) and _NEARLY.fullmatch(text.strip()) is not None


def describe_texts(texts: Iterable[str]) -> str:
    """What the distinct texts of a column look like, if not like names of categories.

    Returns
    -------
    str
        Such as ``"numbers written as text, such as '1'"``; ``""`` for names.
    """
    found = sorted(set(texts))
    dates = [t for t in found if is_date(t)]
    if dates and len(dates) >= len(found) / 2:
        return f"dates written as text, such as {dates[0]!r}"
    plain = [t for t in found if is_number(t)]
    nearly = [t for t in found if is_nearly_number(t)]
    if (not plain and not nearly) or len(plain) + len(nearly) < len(found) / 2:
        return ""
    rest = [t for t in found if t not in nearly and not is_number(t)]
    if not nearly and not rest:
        return f"numbers written as text, such as {plain[0]!r}"
    odd = nearly[0] if nearly else rest[0]
    beside = f"{plain[0]!r}, but also " if plain else ""
    return f"numbers written as text, such as {beside}{odd!r}{_explain(odd)}"


def _explain(text: str) -> str:
    """What hinders the reading of a text as a number, in brackets."""
    text = text.strip()
    if text.endswith("%"):
        return " (a percent sign)"
    if is_grouped(text):
        return (
            " (the comma may separate thousands or decimals)"
            if "," in text
            else " (separated thousands)"
        )
    return " (a decimal comma)" if is_comma_number(text) else ""


def look_alike(labels: Iterable[str]) -> tuple[str, str] | None:
    """Two labels that differ in blanks or in the Unicode form of a character only, or None."""
    seen: dict[str, str] = {}
    for label in labels:
        plain = unicodedata.normalize("NFC", label)
        plain = "".join(c for c in plain if unicodedata.category(c) != "Cf")  # zero width
        key = " ".join(plain.split())
        if key in seen and seen[key] != label:
            return seen[key], label
        seen[key] = label
    return None
