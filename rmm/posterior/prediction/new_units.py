"""Members and nesting units of a new table that a fit does not know: new ones, or misspelt ids."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.design.prepare import Model
from rmm.errors import (
    DataError,
    SpecificationWarning,
    close_names,
    counted,
    quoted,
    unknown_name,
)
from rmm.posterior.prediction.new_groups import NewGroups
from rmm.tables.read import Array

#: Warnings point to the line that called the package.
_PACKAGE = str(Path(__file__).parents[2])
_SHOWN = 5
#: Pairs of a new and a known id that are compared character by character: a second or less.
_MOST_COMPARED = 20_000
_RULE = "`new` must be True, False, an id, or a list of ids"
_DRAWN = {
    "all": "is drawn from the distribution of these effects",
    "known": "is 0, its expected value",
}
#: Words of a sentence about one id, and about several.
_FORMS = {
    True: ("was", "this", "its id is", "it", "it is"),
    False: ("were", "each", "their ids are", "them", "they are"),
}


@dataclass(frozen=True)
class _Kind:
    """Units of one `mm()` or `hm()` block whose ids matter.

    Attributes
    ----------
    unit : str
        What one of them is called in messages.
    column : str
        With their ids.
    known, fresh : arrays
        Ids of the fit, and ids of the new table that are not among them.
    """

    unit: str
    column: str
    known: Array
    fresh: Array


def check_new_units(model: Model, new: NewGroups, effects: str, expected: Any) -> None:
    """Warn of ids that are not those of the fit, unless the call expects them.

    Ids do not matter, and are not checked, with ``effects="none"``, in blocks without random
    effects, and where the covariance of the effects is known: its matrix has all ids.

    Parameters
    ----------
    model : Model
        Of the fit.
    new : NewGroups
    effects : {"all", "known", "none"}
    expected : bool, id or collection of ids
        True: all; False: none.

    Raises
    ------
    DataError
        If an id that is expected to be new was in the data of the fit, or is not in the new table;
        if `expected` is neither a flag nor ids.

    Warns
    -----
    SpecificationWarning
        If the table has further new ids; with ids of the fit that are spelt alike.
    """
    named = _ids(expected)
    if named is None or effects == "none":
        return
    _refuse_others(named, model, new)
    for kind in _kinds(model, new):
        unexpected = [label for label in kind.fresh if label not in named]
        if unexpected:
            warnings.warn(
                _text(kind, unexpected, effects),
                SpecificationWarning,
                skip_file_prefixes=(_PACKAGE,),
            )


def _ids(expected: Any) -> set[Any] | None:
    """The ids of an argument: none, one, or several; None for all."""
    if expected is None or isinstance(expected, bool | np.bool_):
        return None if expected else set()
    if isinstance(expected, str) or not hasattr(expected, "__iter__"):
        found = [expected]
    elif isinstance(expected, Mapping) or hasattr(expected, "columns"):
        raise DataError(f"{_RULE}, not of type {type(expected).__name__}.")
    else:
        found = list(np.atleast_1d(expected) if isinstance(expected, np.ndarray) else expected)
    for label in found:
        single = isinstance(label, str) or not hasattr(label, "__iter__")
        if not single or not isinstance(label, Hashable):
            raise DataError(f"{_RULE}, but one entry is of type {type(label).__name__}.")
    return set(found)


def _kinds(model: Model, new: NewGroups) -> Iterator[_Kind]:
    recipe, spec = model.recipe, model.spec
    for part, codes, fresh in zip(spec.members, recipe.members, new.new_members, strict=True):
        if (part.random or part.slopes) and not (part.related or part.smooth):
            yield _Kind("member", part.block.member, codes.labels, fresh)
    for nest, codes, fresh in zip(spec.nestings, recipe.nestings, new.new_units, strict=True):
        if nest.random:
            yield _Kind("nesting unit", nest.block.unit, codes.labels, fresh)


def _refuse_others(named: set[Any], model: Model, new: NewGroups) -> None:
    """Ids that the call expects to be new, and that the fit has or the new table has not."""
    fresh = {label for labels in (*new.new_members, *new.new_units) for label in labels}
    recipe = model.recipe
    members = zip(model.spec.members, recipe.members, strict=True)
    # The members of a smooth term are its functions, whose numbers are no ids.
    units = [*(codes for part, codes in members if not part.smooth), *recipe.nestings]
    for label in sorted(named - fresh, key=str):
        if any(label in codes.places for codes in units):
            raise DataError(
                f"`new` has {quoted(label)}, which was in the data of the fit. List only ids that "
                "are new, or set new=True: then all ids are new that the fit does not have."
            )
        # Of averages, not every model has all kinds of units: an id may be in another column.
        if not _is_somewhere(new.table, label):
            raise DataError(
                f"`new` has {quoted(label)}, which is not in the new table. "
                + unknown_name(label, "a new id", fresh, label="New ids of the table")
            )


def _is_somewhere(table: pd.DataFrame, label: Any) -> bool:
    """Whether a column has the value, as text or as a number."""
    text = str(label)
    return any((table[name].drop_duplicates().astype(str) == text).any() for name in table)


def _text(kind: _Kind, fresh: list[Any], effects: str) -> str:
    alike = _alike(fresh, kind.known)
    # Stable: those that may be misspelt come first, however many are new.
    ordered = sorted(fresh, key=lambda label: label not in alike)
    shown = [quoted(label) + _similar(alike.get(label)) for label in ordered[:_SHOWN]]
    rest = f" and {len(fresh) - _SHOWN:,} more" if len(fresh) > _SHOWN else ""
    every = ", ".join(repr(i) if isinstance(i, str) else str(i) for i in ordered)
    argument = "new=True" if len(fresh) > _SHOWN else f"new=[{every}]"
    were, this, ids, them, are = _FORMS[len(fresh) == 1]
    return (
        f"The new table has {counted(len(fresh), kind.unit)} that {were} not in the data of the "
        f"fit (column `{kind.column}`): {', '.join(shown)}{rest}. The effect of {this} new "
        f"{kind.unit} {_DRAWN[effects]}. If {ids} misspelt, correct {them} in the table. If {are} "
        f"indeed new, set {argument}, to avoid this warning."
    )


def _similar(known: list[str] | None) -> str:
    return f" (similar in the fit: {', '.join(map(quoted, known))})" if known else ""


def _alike(fresh: list[Any], known: Array) -> dict[Any, list[str]]:
    """New ids that are texts -> ids of the fit that are spelt alike, the nearest first."""
    texts = [label for label in known if isinstance(label, str)]
    plain: dict[str, list[str]] = {}
    for text in texts:
        plain.setdefault(_letters(text), []).append(text)
    compared = len(fresh) * len(texts) <= _MOST_COMPARED
    found = {}
    for label in fresh:
        if isinstance(label, str):
            near = plain.get(_letters(label), [])[:1]
            near = near or (_close(label, texts) if compared else [])
            if near:
                found[label] = near
    return found


def _letters(text: str) -> str:
    """A text without what is easily mistyped: case, blanks, marks."""
    return re.sub(r"[\W_]", "", text).casefold() or text


def _close(label: str, texts: Collection[str]) -> list[str]:
    """Ids that are spelt alike, and do not just have other numbers, as P7 and P8 do."""
    close = close_names(label, texts, most=3)
    words = re.sub(r"\d", "", label)
    return [text for text in close if re.sub(r"\d", "", text) != words][:2]
