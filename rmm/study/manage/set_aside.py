"""Fits by code, or from a table, whose file has changed: kept elsewhere, and made again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rmm.errors import counted
from rmm.study.design.study import Study
from rmm.study.files.disks import writing
from rmm.study.manage.jobs import BATCH_FILE
from rmm.study.run.metadata import changed_source, metadata_of, stored_metadata

if TYPE_CHECKING:
    from rmm.study.methods.method import Method

FOLDER = "replaced"


def set_aside(study: Study, folder: str | Path) -> list[str]:
    """Move fits of own methods whose file has changed out of the way.

    Nothing else may differ: other changes of a method are refused by `plan`.

    Parameters
    ----------
    study : Study
    folder : path
        Its results.

    Returns
    -------
    list of str
        A line about each method whose fits are made again.
    """
    folder = Path(folder)
    lines = []
    for method in study.methods:
        if method.kind.own:
            moved = list(_moved(study, method, folder))
            if moved:
                source = method.config[method.kind.source]
                fits = counted(sum(moved), "fit")
                are, old = ("is", "one is") if sum(moved) == 1 else ("are", "ones are")
                lines.append(
                    f"{source} has changed, so {fits} of method {method.name} {are} made again. "
                    f"The old {old} in {folder / FOLDER}."
                )
    return lines


def _moved(study: Study, method: Method, folder: Path) -> Iterator[int]:
    """Fits in each folder of a scenario that was moved."""
    fitted = {place for place, name in study.fits if name == method.name}
    for scenario in map(study.scenario, sorted(fitted)):
        here = folder / "estimates" / scenario.id / method.name
        wanted = metadata_of(study, scenario.id, study.method_in(scenario, method.name), 1, 1)
        old, fits = "", 0
        for path in sorted(here.glob("*.parquet")):
            stored = dict(stored_metadata(str(path), path.stat().st_mtime_ns))
            if BATCH_FILE.fullmatch(path.name) and changed_source(stored, wanted):
                old = json.loads(stored["content"])["sha256"][:12]
                fits += int(stored["last"]) - int(stored["first"]) + 1
        if old:
            _move(here, folder / FOLDER / old / scenario.id / method.name)
            yield fits


def _move(here: Path, there: Path) -> None:
    number, free = 1, there
    while free.exists():
        number += 1
        free = there.with_name(f"{there.name}-{number}")
    with writing(free):
        free.parent.mkdir(parents=True, exist_ok=True)
        here.rename(free)
