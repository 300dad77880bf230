"""Whether a folder of results belongs to a study file, and what is different if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rmm.errors import StudyError, counted
from rmm.study.design.estimand import label_of
from rmm.study.design.study import Study
from rmm.study.manage.jobs import BATCH_FILE
from rmm.study.run.metadata import check_metadata, differences, stored_metadata

#: Lists of the study file whose entries have a name.
_NAMED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "methods": lambda entry: str(entry.get("name")),
    "estimands": label_of,
}


@dataclass(frozen=True)
class Belonging:
    """What a comparison found.

    Attributes
    ----------
    batches, fits : int
        That belong to the file.
    asked : int
        Fits that the file asks for.
    refused : tuple of str
        Why batches do not belong to it, each reason once.
    changed : tuple of str
        Keys of the study file that are different from the file that the results were made with.
    """

    batches: int
    fits: int
    asked: int
    refused: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def belongs(self) -> bool:
        """Whether every batch there is one of the file's."""
        return not self.refused


def compare(study: Study, folder: Path) -> Belonging:
    """Hold the batches of a results folder, and the study file kept there, against a study.

    Raises
    ------
    StudyError
        If there are no results in the folder.
    """
    files = sorted((folder / "estimates").glob("*/*/*.parquet"))
    if not files:
        raise StudyError(
            f"{folder} has no results: there are no files of estimates below estimates/.\n"
            "  Give the folder of a study that has run, such as results/NAME."
        )
    scenarios = {scenario for scenario, _ in study.fits}
    methods = {method.name for method in study.methods}
    refused: dict[str, str] = {}
    not_in_file: Counter[str] = Counter()
    batches = fits = 0
    for path in files:
        if BATCH_FILE.fullmatch(path.name) is None:
            continue
        scenario, method = path.parts[-3:-1]
        if scenario not in scenarios:
            not_in_file[f"scenario {scenario}"] += 1
        elif method not in methods:
            not_in_file[f"method {method}"] += 1
        elif (scenario, method) not in study.fits:
            not_in_file[f"scenario {scenario} by method {method}"] += 1
        elif problem := _problem(study, path, scenario, method):
            refused.setdefault(_kind_of(problem, path, method), problem)
        else:
            batches += 1
            first, last = map(int, path.stem.split("-"))
            fits += last - first + 1
    unknown = [
        f"{folder} has {counted(n, 'batch', 'batches')} of {what}, which {study.file} does not "
        "have."
        for what, n in not_in_file.items()
    ]
    asked = sum(study.fits.values())
    return Belonging(batches, fits, asked, (*refused.values(), *unknown), _changed(study, folder))


def _problem(study: Study, path: Path, scenario: str, name: str) -> str | None:
    method = study.method_in(study.scenario(scenario), name)
    try:
        check_metadata(study, method, path, stored_metadata(str(path), path.stat().st_mtime_ns))
    except StudyError as error:
        return str(error)
    return None


def _kind_of(problem: str, path: Path, method: str) -> str:
    """The same for all batches of a method that are refused for the same reason."""
    return f"{method} {problem.replace(str(path), '').replace(str(path.parent), '')}"


def _changed(study: Study, folder: Path) -> tuple[str, ...]:
    try:
        kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, yaml.YAMLError) as error:
        return (f"{folder / 'config.yaml'} cannot be read: {' '.join(str(error).split())}",)
    if not isinstance(kept, Mapping):
        return (f"{folder / 'config.yaml'} is not a study file",)
    # The name is that of the file, which may have been copied.
    there, here = (
        {k: v for k, v in _by_name(c).items() if k != "name"} for c in (kept, study.config)
    )
    return tuple(differences(there, here, str(study.file)))


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of named entries as mappings, so that a difference is shown where it is."""
    out = dict(config)
    for key, name in _NAMED.items():
        entries = out.get(key)
        if isinstance(entries, (list, tuple)) and all(isinstance(e, Mapping) for e in entries):
            out[key] = {name(entry): dict(entry) for entry in entries}
    return out
