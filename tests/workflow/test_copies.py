"""Results that were copied: content decides what runs again, whatever time stamps say."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.projects import Project

pytest.importorskip("snakemake", reason="the extra `study` is not installed")

pytestmark = pytest.mark.thorough
NOTHING = "Nothing to be done"
AHEAD = 40 * 24 * 3600.0


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished study."""
    project = Project(tmp_path_factory.mktemp("original"), estimands=ESTIMANDS[:1])
    project.run()
    return project


ESTIMANDS = [{"parameter": "b_l1[x]"}, {"parameter": "b_l2[Intercept]"}]


def ahead(folder: Path) -> None:
    """Times of a machine whose clock is ahead, each file's another one."""
    for number, path in enumerate(sorted(folder.rglob("*"))):
        moment = time.time() + AHEAD - 1000 * number
        os.utime(path, (moment, moment))


def copied(here: Path, there: Path) -> None:
    """As by ``cp -r``: all files are new, in some order."""
    shutil.copytree(here, there, copy_function=shutil.copyfile)
    for number, path in enumerate(sorted(there.rglob("*"), reverse=True)):
        os.utime(path, (1_000_000_000 + 1000 * number,) * 2)


def synchronised(here: Path, there: Path) -> None:
    """As by ``rsync -a`` from a machine whose clock is ahead."""
    shutil.copytree(here, there)
    ahead(there)


def linked(here: Path, there: Path) -> None:
    """A link to results of another folder, written by a machine whose clock is ahead."""
    beside = there.with_name("elsewhere")
    synchronised(here, beside)
    there.symlink_to(beside)


def copy_of(
    original: Project, folder: Path, way: Callable[[Path, Path], None], *, records: bool = False
) -> Project:
    copy = Project(folder, estimands=ESTIMANDS[:1])
    copy.results.parent.mkdir()
    way(original.results, copy.results)
    if records:
        shutil.copytree(original.folder / ".snakemake", copy.folder / ".snakemake")
    return copy


@pytest.mark.parametrize("records", [False, True], ids=["results only", "with .snakemake"])
@pytest.mark.parametrize("way", [copied, synchronised, linked])
def test_a_copy_is_complete(
    original: Project, tmp_path: Path, way: Callable[[Path, Path], None], records: bool
) -> None:
    copy = copy_of(original, tmp_path, way, records=records)
    assert NOTHING in copy.run("-n")


@pytest.mark.parametrize("way", [copied, synchronised, linked])
def test_a_copy_grows(original: Project, tmp_path: Path, way: Callable[[Path, Path], None]) -> None:
    """More replications and another estimand: finished fits stay, the rest is that of a new run."""
    copy = copy_of(original, tmp_path / "copy", way)
    before = {path.name: path.read_bytes() for path in copy.batches()}
    grow(copy)
    planned = copy.run("-n")
    assert {"fit    1", "collect    1", "performance    1", "report    1"} <= {
        "    ".join(line.split()) for line in planned.splitlines()
    }
    copy.run()
    after = {path.name: path.read_bytes() for path in copy.batches()}
    assert before.items() <= after.items()
    table = copy.estimates()
    assert table["replication"].max() == 8
    assert set(table["parameter"]) >= {"b_l1[x]", "b_l2[Intercept]"}
    measures = pd.read_parquet(copy.results / "performance.parquet")
    assert "b_l2[Intercept]" in set(measures["parameter"])
    assert (copy.results / "report" / "index.html").stat().st_mtime < time.time() + 1
    assert NOTHING in copy.run("-n")


def grow(project: Project) -> None:
    text = project.file.read_text().replace("replications: 6", "replications: 8")
    project.file.write_text(text + "- parameter: b_l2[Intercept]\n")


def test_a_batch_of_another_machine_is_collected_though_its_time_is_old(
    original: Project, tmp_path: Path
) -> None:
    """The same fits, but another time was measured: the table has what the batches have."""
    copy = copy_of(original, tmp_path / "copy", synchronised, records=True)
    other = Project(tmp_path / "other", estimands=ESTIMANDS[:1])
    other.run("--until", "fit")
    here, there = copy.batches()[0], other.batches()[0]
    assert here.name == there.name
    shutil.copyfile(there, here)
    os.utime(here, (1_000_000_000, 1_000_000_000))
    planned = copy.run("-n")
    assert "collect" in planned
    assert "fit " not in planned


def test_a_lost_batch_is_fitted_again(original: Project, tmp_path: Path) -> None:
    copy = copy_of(original, tmp_path, synchronised)
    copy.batches()[0].unlink()
    planned = copy.run("-n")
    assert "fit " in planned
    assert "collect" in planned


STOPPING = {
    "replications": 40,
    "batch": 10,
    "stopping": {
        "minimum": 10,
        "step": 10,
        "targets": [{"measure": "bias", "parameter": "b_l1[x]", "mcse": 0.12}],
    },
}


def test_decisions_to_stop_belong_to_their_rule(tmp_path: Path) -> None:
    """A stricter rule, in a copy without records of Snakemake, whose clock is ahead."""
    first = Project(tmp_path / "first", **STOPPING)
    first.run()
    ends = first.estimates()["replication"].max()
    copy = Project(tmp_path / "copy", **STOPPING)
    copy.results.parent.mkdir()
    synchronised(first.results, copy.results)
    assert NOTHING in copy.run("-n")
    copy.file.write_text(copy.file.read_text().replace("mcse: 0.12", "mcse: 0.0001"))
    assert "decide" in copy.run("-n")
    copy.run()
    assert ends < copy.estimates()["replication"].max() == 40
    assert NOTHING in copy.run("-n")
