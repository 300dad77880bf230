"""The index of finished batches saves time and never changes an answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rmm.study import Study, load_study, plan, run_batch, status
from rmm.study.files.parquet import read_estimates, write_parquet
from rmm.study.run import batch_index
from rmm.study.run.batch_index import BatchIndex

STUDY = """\
seed: 1
replications: 6
batch: 2
membership: {kind: synthetic, groups: 20, members: 10, size: 3, overlap: 1.0}
covariates:
  x: {level: member}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)
  parameters: {"b_l2[Intercept]": 0, "b_l1[x]": 0, sigma_l1: 1, sigma_l2: 1}
methods:
  - {name: aggregation, kind: aggregation}
  - {name: mm, kind: mm, backend: fake, sampler: {chains: 2, warmup: 10, draws: 50}}
estimands:
  - {parameter: "b_l1[x]"}
"""


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Study, Path]:
    """A study of which four of six batches are done."""
    file = tmp_path / "indexed.yaml"
    file.write_text(STUDY)
    study, folder = load_study(file), tmp_path / "results" / "indexed"
    for job in [job for job in plan(study) if job.last < 6]:
        run_batch(study, job.scenario, job.method, job.first, job.last, folder / job.path)
    return study, folder


def facts(study: Study, folder: Path) -> dict[str, Any]:
    batch_index._loaded.cache_clear()
    return status(study, folder)


def test_batches_are_counted_without_opening_them(
    fitted: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = fitted
    with monkeypatch.context() as patched:
        patched.setattr(batch_index, "read_batches", None)
        patched.setattr(batch_index, "stored_metadata", None)
        found = facts(study, folder)
    assert (found["jobs"], found["done"], len(found["missing"])) == (6, 4, 2)
    assert sum(found["fits"].values()) == 8
    (folder / "logs" / "batches.jsonl").unlink()
    assert facts(study, folder) == found
    assert (folder / "logs" / "batches.jsonl").is_file()
    assert facts(study, folder) == found


@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: text.replace('"ok"', "7")]
)
def test_a_damaged_index_is_not_believed(fitted: tuple[Study, Path], damage: Any) -> None:
    study, folder = fitted
    wanted, index = facts(study, folder), folder / "logs" / "batches.jsonl"
    index.write_text(damage(index.read_text()))
    assert facts(study, folder) == wanted


def test_a_file_that_was_written_again_is_read_again(fitted: tuple[Study, Path]) -> None:
    study, folder = fitted
    job = next(job for job in plan(study, folder) if job.method == "aggregation")
    table, metadata = read_estimates(folder / job.path)
    failed = pa.array(["failed"] * len(table))
    table = table.set_column(table.schema.get_field_index("status"), "status", failed)
    schema = table.schema.with_metadata({f"rmm.{k}": v for k, v in metadata.items()})
    write_parquet(table.cast(schema), folder / job.path)
    assert facts(study, folder)["fits"]["failed"] == 2
    os.unlink(folder / job.path)
    assert facts(study, folder)["done"] == 3


def test_an_index_that_is_a_link_is_not_written(fitted: tuple[Study, Path], tmp_path: Path) -> None:
    study, folder = fitted
    wanted, index = facts(study, folder), folder / "logs" / "batches.jsonl"
    index.unlink()
    (tmp_path / "mine").write_text("mine")
    index.symlink_to(tmp_path / "mine")
    assert facts(study, folder) == wanted
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_only_slower(
    fitted: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = fitted
    wanted = facts(study, folder)
    (folder / "logs" / "batches.jsonl").unlink()

    def refuse(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(batch_index.os, "open", refuse)
    assert facts(study, folder) == wanted
    assert BatchIndex(folder).batch("estimates/s/none/00001-00002.parquet") is None
