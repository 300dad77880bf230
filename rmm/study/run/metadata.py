"""What a file of estimates was made with, kept in the file, and refused where it is another.

The metadata hold the study's seed, the values that are tested and the whole content of the
method, so that a refusal can show the difference key by key.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from rmm.errors import StudyError
from rmm.simulation.schema import schema
from rmm.study.design.estimand import sd_of
from rmm.study.files import seeds
from rmm.study.files.checked_yaml import with_defaults
from rmm.study.files.parquet import UNREADABLE, metadata_of_schema
from rmm.study.files.seals import is_intact
from rmm.study.methods.method import KINDS, said

if TYPE_CHECKING:
    from rmm.study.design.study import Study
    from rmm.study.methods.method import Method

_SAID = {
    "seed": "another study seed",
    "method_id": "other settings of the method",
    "nulls": "other null values",
}

#: What `check_metadata` reads of the metadata of a file.
SETTINGS = ("scenario", "method", *_SAID, "variances", "content")


def metadata_of(
    study: Study, scenario: str, method: Method, first: int, last: int
) -> dict[str, str]:
    """What is kept in the file of a batch; the method has the settings of the scenario."""
    nulls = {e.parameter: e.null for e in study.estimands if e.null}
    return {
        "seed": str(study.seed),
        "scenario": scenario,
        "method": method.name,
        "method_id": method.id,
        "content": _content(method),
        "nulls": seeds.canonical(nulls),
        "variances": seeds.canonical(_variances(study)),
        "first": str(first),
        "last": str(last),
    }


def _variances(study: Study) -> list[str]:
    """Estimands that fits compute only where they are asked for: ``sigma_l1^2``, ready ones."""
    asked = (e for e in study.estimands if e.ready or sd_of(e.parameter) is not None)
    return sorted(e.parameter for e in asked)


@lru_cache(maxsize=1024)
def _content(method: Method) -> str:
    return seeds.canonical(method_content(method))


def method_content(method: Method) -> dict[str, Any]:
    """What a method's id is the hash of: its settings without those at their defaults."""
    content = said(method.config, method.kind)
    return {k: v for k, v in content.items() if k not in ("name", "replications")}


@lru_cache(maxsize=65536)
def stored_metadata(path: str, changed: int) -> tuple[tuple[str, str], ...]:
    """Metadata of a file of estimates; none for a file that is not as it was written.

    `changed` is the file's time of change, so that what is remembered is of this file.
    """
    try:
        if is_intact(Path(path)) is False:
            return ()
        with open(path, "rb") as file:  # Arrow takes every path to be UTF-8
            found = metadata_of_schema(pq.read_schema(file))
    except UNREADABLE:
        return ()
    # Interned, as thousands of files of a method say the same.
    return tuple((key, sys.intern(value)) for key, value in found.items())


def check_metadata(
    study: Study, method: Method, path: Path, stored: Iterable[tuple[str, str]]
) -> None:
    """Refuse results of a method that another version of the study file made.

    Raises
    ------
    StudyError
        With what is different, key by key where the file tells it.
    """
    found = dict(stored)
    if not {"scenario", "method", "first", "last"} <= found.keys():
        raise StudyError(
            f"{path} is not a complete file of estimates.\n"
            "  Run the study again: it sets the file aside, and only this batch is recomputed."
        )
    ends = int(found["first"]), int(found["last"])
    wanted = metadata_of(study, found["scenario"], method, *ends)
    if changed_source(found, wanted):
        raise StudyError(
            f"{path} was made with another version of {method.config[method.kind.source]}.\n"
            "  Run the study: it makes these fits again, and keeps the old ones in the folder "
            "`replaced`. Or undo the change."
        )
    for key, words in _SAID.items():
        if found.get(key) != wanted[key]:
            raise StudyError(
                f"{path} was made with {words}:\n"
                + "".join(f"  {line}\n" for line in _lines(key, found, wanted, study.file))
                + "  Undo the change, or give the changed method or study a new name, or delete "
                f"{_made_of(path)} to fit again."
            )
    missing = set(_variances(study)) - set(json.loads(found.get("variances", "[]")))
    if missing:
        raise StudyError(
            f"{path} has no {', '.join(sorted(missing))}: this was not an estimand in {study.file} "
            f"when the file was made.\n  Delete {_made_of(path)} to fit again, or remove the "
            "estimand."
        )


def changed_source(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether fits differ from those of a batch in the file of an own method, and in nothing else.

    Parameters
    ----------
    found, wanted : mapping
        Metadata of batches.
    """
    if any(found.get(key) != wanted[key] for key in ("seed", "scenario", "method", "nulls")):
        return False
    there, here = (json.loads(one.get("content", "{}")) for one in (found, wanted))
    files = there.pop("sha256", None), here.pop("sha256", None)
    return None not in files and files[0] != files[1] and there == here


def made_alike(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether fits with the metadata `found` are those that a batch with `wanted` would make."""
    same = all(found.get(key) == wanted[key] for key in ("scenario", "method", *_SAID))
    variances = (set(json.loads(m.get("variances", "[]"))) for m in (wanted, found))
    return same and next(variances) <= next(variances)


def _lines(
    key: str, found: Mapping[str, str], wanted: Mapping[str, str], file: Path
) -> Iterator[str]:
    there: Any = {key: found.get(key)}
    here: Any = {key: wanted[key]}
    if key == "method_id" and "content" in found:
        there, here = (_said(source["content"]) for source in (found, wanted))
    elif key == "nulls":
        there, here = (_nulls(source.get("nulls", "{}")) for source in (found, wanted))
    lines = list(differences(there, here, str(file)))
    # Contents that are equal with all defaults said: a default has changed with the version.
    return iter(lines or [f"{key}: {found.get(key)} in the results, {wanted[key]} in {file}"])


def _said(content: str) -> Any:
    found = json.loads(content)
    found.setdefault("errors", KINDS[found["kind"]].errors)
    return with_defaults(found, schema()["$defs"]["method"])


def _nulls(text: str) -> dict[str, Any]:
    return {f"null of {name}": value for name, value in json.loads(text).items()}


def differences(there: Any, here: Any, file: str, key: str = "") -> Iterator[str]:
    """Lines such as ``draws: 500 in the results, 1000 in FILE``, one per key that differs."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in dict.fromkeys([*there, *here]):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(there.get(name), here.get(name), file, inner)
    elif there != here:
        yield f"{key}: {_shown(there)} in the results, {_shown(here)} in {file}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)


def _made_of(path: Path) -> str:
    """The batches of a method, and the table of all batches, without which they are missed."""
    return f"{path.parent} and {path.parents[3] / 'estimates.parquet'}"
