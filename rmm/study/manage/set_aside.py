"""What is out of date in a results folder by its content, whatever Snakemake's records say.

Fits by code, or from a table, whose file has changed: kept elsewhere, and made again. Tables that an
earlier version of the study file has left: collected and scored again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from rmm.study.design.study import Study
from rmm.study.files import seeds
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
                lines.append(
                    f"{source} has changed, so {sum(moved):,} fits of method {method.name} are "
                    f"made again. The old ones are in {folder / FOLDER}."
                )
    if lines:
        (folder / "estimates.parquet").unlink(missing_ok=True)  # it is collected again
    return lines


def mark_outdated(study: Study, folder: str | Path) -> bool:
    """Let the tables of an earlier version of the study file be made again, its fits be kept.

    Snakemake's records, which are not copied with a results folder, need not know of the change:
    more replications, other estimands. `config.yaml` in the folder does.

    Parameters
    ----------
    study : Study
    folder : path
        Its results.

    Returns
    -------
    bool
        Whether there was such a table.
    """
    kept, table = Path(folder) / "config.yaml", Path(folder) / "estimates.parquet"
    try:
        earlier = seeds.digest(yaml.safe_load(kept.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError, ValueError, TypeError, yaml.YAMLError):
        earlier = ""  # damaged: written again
    if earlier == seeds.digest(study.config):
        return False
    kept.unlink()
    if table.is_file():
        os.utime(table, (0, 0))  # older than any batch; nothing that was computed is lost
    return True


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
    free.parent.mkdir(parents=True, exist_ok=True)
    here.rename(free)
