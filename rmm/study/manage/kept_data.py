"""Data sets of a study as Parquet, for other programs: `keep: data`, `snakemake simulate`.

``data/<scenario>/<first>-<last>.parquet`` has the rows of some replications one after the other,
with a column `replication`; beside it ``<first>-<last>.truth.parquet`` has their true values, and
``<first>-<last>.<table>.parquet`` each further table of a user's data function.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rmm.errors import BackendError, StudyError
from rmm.study.design.study import Study
from rmm.study.files.parquet import readable_file, write_parquet
from rmm.study.manage.jobs import BATCH_FILE, Job, gaps
from rmm.study.own.given_data import GivenData
from rmm.study.own.process_pool import end_all
from rmm.study.run.replicate import draw_replication

if TYPE_CHECKING:
    import pandas as pd

#: Replications of a file.
TOGETHER = 100
NUMBER = "replication"
_TRUTH = pa.schema(
    [
        pa.field(NUMBER, pa.int32(), nullable=False),
        pa.field("parameter", pa.string(), nullable=False),
        pa.field("truth", pa.float64()),
    ]
)
#: Names of further tables in names of files.
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class DataJob:
    """Data sets `first` to `last` (from 1, both included) of one scenario."""

    scenario: str
    first: int
    last: int

    @property
    def path(self) -> str:
        """Relative path: ``data/<scenario>/<first>-<last>.parquet``."""
        return f"data/{self.scenario}/{self.first:05d}-{self.last:05d}.parquet"


def missing_data(study: Study, folder: str | Path) -> list[DataJob]:
    """Files of data sets that are not there yet; those that are there are kept.

    Parameters
    ----------
    study : Study
    folder : path
        Its results.

    Raises
    ------
    StudyError
        If a file there was made with another seed.
    """
    found = []
    sizes: dict[str, int] = {}
    for scenario in study.scenarios:  # those that differ in keys of methods have the same data
        known = sizes.get(scenario.data_id, 0)
        sizes[scenario.data_id] = max(known, scenario.replications)
    for scenario_id, size in sizes.items():
        here = _existing(study, scenario_id, Path(folder))
        for first, last in gaps(here, size, TOGETHER, ()):
            found.append(DataJob(scenario_id, first, last))
    return found


def _existing(study: Study, scenario: str, folder: Path) -> list[Job]:
    found = []
    for path in sorted((folder / "data" / scenario).glob("*.parquet")):
        match = BATCH_FILE.fullmatch(path.name)
        if match is None:
            continue
        with readable_file(path, "only these data sets are drawn again"), path.open("rb") as file:
            said = pq.read_schema(file).metadata or {}
        seed = said.get(b"rmm.seed", b"").decode()
        if seed != str(study.seed):
            raise StudyError(
                f"{path} was made with seed {seed or 'unknown'}, but {study.file} has "
                f"{study.seed}.\n  Undo the change, or delete {folder / 'data'}."
            )
        found.append(Job(scenario, "", int(match[1]), int(match[2])))
    return found


def write_data(study: Study, scenario_id: str, first: int, last: int, path: str | Path) -> None:
    """Draw some data sets of a scenario and write them, with their true values.

    A data set that cannot be drawn is left out; its fits have failed.

    Parameters
    ----------
    study : Study
    scenario_id : str
    first, last : int
        Replications, from 1, both included.
    path : path
        The Parquet file of the main table.

    Raises
    ------
    StudyError
        If a file cannot be written, or the data come from code that may not run.
    """
    scenario, path = study.scenario(scenario_id), Path(path)
    tables: dict[str, list[pa.Table]] = {"data": []}
    truths: list[dict[str, Any]] = []
    try:
        for replication in range(first, last + 1):
            try:
                drawn = draw_replication(study.seed, scenario, replication)
            except BackendError:
                continue
            frames = drawn.tables if isinstance(drawn, GivenData) else {"data": drawn.frame()}
            _add(tables, frames, replication)
            known = study.truth_of(scenario, drawn.truth.parameters)
            truths += [{NUMBER: replication, "parameter": k, "truth": v} for k, v in known.items()]
    finally:
        end_all()
    metadata = {"rmm.seed": str(study.seed), "rmm.scenario": scenario_id}
    truth = pa.Table.from_pylist(truths, schema=_TRUTH)
    write_parquet(truth, path.with_suffix(".truth.parquet"))
    for name, parts in tables.items():
        whole = pa.concat_tables(parts, promote_options="permissive") if parts else truth[:0]
        end = "" if name == "data" else f".{name}"
        write_parquet(whole.replace_schema_metadata(metadata), path.with_suffix(f"{end}.parquet"))


def _add(
    tables: dict[str, list[pa.Table]], frames: Mapping[str, pd.DataFrame], replication: int
) -> None:
    for name, frame in frames.items():
        if not _NAME.fullmatch(name) or name == "truth":
            raise StudyError(f"The table {name!r} of a data function cannot be the name of a file.")
        if NUMBER in frame:
            raise StudyError(
                f"A data set has a column {NUMBER!r}, which kept data have for their number.\n"
                "  Give the column another name."
            )
        numbered = frame.assign(**{NUMBER: replication})[[NUMBER, *frame.columns]]
        part = pa.Table.from_pandas(numbered, preserve_index=False).replace_schema_metadata(None)
        tables.setdefault(name, []).append(part)
