"""A collected file of estimates, read in parts: what is in memory does not grow with the study."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from rmm.study.results import all_columns, check_columns, letter


class EstimatesFile:
    """A collected file of estimates, to be read in parts.

    Raises
    ------
    StudyError
        If it is no whole Parquet file of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with letter(path):
            self._data = dataset.dataset(path, format="parquet")
        check_columns(path, self._data.schema)

    def scenarios(self) -> list[str]:
        """Ids of its scenarios, in the order of the rows."""
        return [str(row[0]) for row in self._distinct(["scenario"])]

    def pairs(self) -> set[tuple[str, str, bool]]:
        """(method, parameter, whether there is an estimate), each once."""
        columns = {"method": pc.field("method"), "parameter": pc.field("parameter"),
                   "there": pc.is_valid(pc.field("mean"))}  # fmt: skip
        return {(str(m), str(p), bool(t)) for m, p, t in self._distinct(columns)}

    def _distinct(self, columns: Any) -> list[tuple[Any, ...]]:
        found: dict[tuple[Any, ...], None] = {}
        with letter(self.path):
            for batch in self._data.to_batches(columns=columns):
                names = batch.schema.names
                # One thread: the order is that of the rows.
                once = pa.Table.from_batches([batch]).group_by(names, use_threads=False)
                rows = once.aggregate([]).select(names).to_pydict()
                found |= dict.fromkeys(zip(*(rows[name] for name in names), strict=True))
        return list(found)

    def rows(self, scenarios: Collection[str]) -> pa.Table:
        """The rows of some scenarios, in the order of the file."""
        wanted = pc.field("scenario").isin(pa.array(sorted(scenarios), pa.string()))
        with letter(self.path):
            return all_columns(self._data.to_table(filter=wanted, use_threads=False))
