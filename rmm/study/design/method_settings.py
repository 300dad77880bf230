"""Keys of methods as factors: `methods.NAME.KEY` under `vary`, and what that gives in a scenario.

Data sets depend on the data part of a scenario alone. So scenarios that differ only in keys of
methods have the same data sets, and a fit has the address of the data and of the settings of its
own method: a method is fitted once for all scenarios that differ only in keys of other methods.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmm.simulation.schema import dereferenced, schema
from rmm.study.files.checked_yaml import without_defaults
from rmm.study.files.messages import StudyFileErrors
from rmm.study.methods.method import KINDS, said

#: First part of the paths of such keys.
METHODS = "methods"
#: Keys of a method that no factor can set, and what to do instead.
_ANOTHER = "Add another method under `methods`: all methods fit all data sets."
_FIXED = {
    "name": "A method has the same name in all scenarios.",
    **dict.fromkeys(("kind", "backend", "function", "script", "estimates"), _ANOTHER),
    "confirms": "Add a method that confirms the other one under `methods`.",
    "replications": "To use another number of data sets in some scenarios, use the path "
    "`replications`.",
}


@dataclass(frozen=True)
class MethodSettings:
    """What a factor makes of a method in a scenario.

    Attributes
    ----------
    entry : mapping
        The method as the study file would have it.
    changes : mapping
        Dotted key -> value, where it differs from the method under `methods`; None for a key
        that is left out. Addresses of fits are made from it.
    """

    entry: Mapping[str, Any]
    changes: Mapping[str, Any]


def is_of_method(path: str) -> bool:
    """Whether a path is that of a key of a method."""
    return path.partition(".")[0] == METHODS


def name_in(path: str, names: Sequence[str]) -> str:
    """Name of the method in a path, which may have dots itself; empty if there is none."""
    inside = [name for name in names if path.startswith(f"{METHODS}.{name}.")]
    return max(inside, key=len, default="")


def check_method_path(
    path: str,
    parts: Sequence[str],
    key: str,
    entries: Sequence[Mapping[str, Any]],
    file_errors: StudyFileErrors,
) -> None:
    """Check a path such as ``methods.mmmm.sampler.draws``.

    Parameters
    ----------
    parts : sequence of str
        Those after the name of the method.
    key : str
        Where the path is written.
    entries : sequence of mapping
        `methods` of the study file.

    Raises
    ------
    StudyError
    """
    names = [str(one.get("name")) for one in entries]
    place, name = f"{key} {path!r}", name_in(path, names)
    if not name:
        found = path.removeprefix(METHODS).removeprefix(".").partition(".")[0]
        if found in names:
            raise file_errors.about(
                place,
                f"The path ends with the method {found}.",
                f"Name a key of it, such as {METHODS}.{found}.priors.",
            )
        raise file_errors.name(place, "a method of this study", found, names)
    if parts[0] in _FIXED:
        raise file_errors.about(
            place, f"`{parts[0]}` of a method cannot be a factor.", _FIXED[parts[0]]
        )
    rule: Mapping[str, Any] = dereferenced(schema()["$defs"]["method"])
    value: Any = next(one for one in entries if one["name"] == name)
    for depth, part in enumerate(parts):
        allowed = [k for k in rule.get("properties", {}) if depth or k not in _FIXED]
        known = [*allowed, *(k for k in value if k not in allowed and depth)]
        if (
            allowed
            and part not in allowed
            and not isinstance(rule.get("additionalProperties"), dict)
        ):
            raise file_errors.name(place, "a key that is allowed here", part, known)
        if depth == len(parts) - 1:
            return
        inner = rule.get("properties", {}).get(part) or rule.get("additionalProperties") or {}
        rule = dereferenced(inner)
        value = value.get(part, {})
        types = rule.get("type", "object")
        if "object" not in types or not isinstance(value, Mapping):
            above = f"{METHODS}.{name}." + ".".join(parts[: depth + 1])
            raise file_errors.about(
                place,
                f"`{above}` has no keys of its own in this file.",
                f"Vary `{above}` as a whole.",
            )


def patched(
    entries: Sequence[Mapping[str, Any]], patch: Sequence[tuple[str, Sequence[str], Any]]
) -> list[dict[str, Any]]:
    """`methods` of a study file with some keys set.

    Parameters
    ----------
    patch : sequence of (str, sequence of str, object)
        Name of a method, path of a key in it, and its value.
    """
    found = [copy.deepcopy(dict(one)) for one in entries]
    by_name = {one["name"]: one for one in reversed(found)}
    for name, parts, value in patch:
        inside = by_name[name]
        for part in parts[:-1]:
            if not isinstance(inside.get(part), dict):
                inside[part] = {}
            inside = inside[part]
        inside[parts[-1]] = copy.deepcopy(value)
    return found


def settings_between(
    entries: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> dict[str, MethodSettings]:
    """The methods in which `others` differ from `entries`, by name."""
    found = {}
    for entry, other in zip(entries, others, strict=True):
        changes = dict(_changes(_content(entry), _content(other)))
        if changes:
            found[str(entry["name"])] = MethodSettings(other, changes)
    return found


def _content(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry without defaults, of which some depend on its kind."""
    kind = KINDS.get(str(entry.get("kind")))
    if kind is None:
        found: dict[str, Any] = without_defaults(dict(entry), schema()["$defs"]["method"])
        return found
    return said(entry, kind)


def _changes(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys whose values differ, with the new value."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in dict.fromkeys([*there, *here]):
            inner = f"{key}.{name}" if key else str(name)
            yield from _changes(there.get(name), here.get(name), inner)
    elif there != here:
        yield key, here
