"""Times of files that are anything: nothing is out of date, and nothing is lost."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from rmm.study.files.file_times import date_back
from rmm.study.manage.damage import damaged_files
from tests.attack import Attack
from tests.results import finished

_YEAR = 365 * 24 * 3600.0


def _set_times(folder: Path, draw: random.Random) -> None:
    """Each file and folder has another time, from 30 years ago to 30 years ahead."""
    for path in folder.rglob("*"):
        moment = time.time() + draw.uniform(-30, 30) * _YEAR
        os.utime(path, (moment, moment))


def _times(draw: random.Random, folder: Path) -> Iterator[str]:
    results = finished(folder)
    content = {path: path.read_bytes() for path in results.folder.rglob("*.*") if path.is_file()}
    while True:
        _set_times(results.folder, draw)
        outdated, damaged = results.outdated(), damaged_files(results.folder)
        date_back(content)
        late = [path.name for path in content if path.stat().st_mtime > time.time()]
        kept = all(path.read_bytes() == was for path, was in content.items())
        yield "" if not (outdated or damaged or late) and kept else f"{outdated} {damaged} {late}"


ATTACKS = (Attack("times of all files", 200, _times),)
