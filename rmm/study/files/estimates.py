"""A collected file of estimates, read in parts: what is in memory does not grow with the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rmm.study.files.parquet import (
    ESTIMATES,
    GROUP_ROWS,
    all_columns,
    check_columns,
    readable_file,
    with_types,
)


class EstimatesFile:
    """A collected file of estimates; one of its groups of rows is in memory at a time.

    Raises
    ------
    StudyError
        If it is no whole Parquet file of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened(sealed=True) as file:
            schema, count = file.schema_arrow, file.num_row_groups
        check_columns(path, schema)
        # Rows of each scenario in each group, in the order of the rows.
        self._of_group = [
            {
                entry["values"]: entry["counts"]
                for entry in table["scenario"].value_counts().to_pylist()
            }
            for table in self._groups(range(count), ["scenario"])
        ]

    def portions(self, rows: int = GROUP_ROWS) -> list[list[str]]:
        """Ids of its scenarios, in the order of the rows, in lists that have about `rows` rows.

        A scenario with more rows is a list of its own.
        """
        counts: Counter[str] = Counter()
        for group in self._of_group:
            counts.update(group)
        found: list[list[str]] = []
        taken = 0
        for scenario, count in counts.items():
            if not found or taken + count > rows:
                found.append([])
                taken = 0
            found[-1].append(scenario)
            taken += count
        return found

    def pairs(self) -> set[tuple[str, str, bool]]:
        """(method, parameter, whether there is an estimate), each once."""
        found: set[tuple[str, str, bool]] = set()
        for table in self._groups(range(len(self._of_group)), ["method", "parameter", "mean"]):
            there = pc.is_valid(table["mean"])
            once = pa.table({"m": table["method"], "p": table["parameter"], "t": there})
            rows = once.group_by(["m", "p", "t"]).aggregate([]).to_pydict()
            found.update(zip(rows["m"], rows["p"], rows["t"], strict=True))
        return found

    def rows(self, scenarios: Collection[str]) -> pa.Table:
        """The rows of some scenarios, in the order of the file."""
        wanted = pa.array(sorted(scenarios), pa.string())
        groups = [i for i, there in enumerate(self._of_group) if there.keys() & set(scenarios)]
        tables = [
            all_columns(table.filter(pc.is_in(table["scenario"], wanted)))
            for table in self._groups(groups, None)
        ]
        empty = ESTIMATES.empty_table()
        return pa.concat_tables([empty, *(t.replace_schema_metadata(None) for t in tables)])

    def _groups(self, numbers: Sequence[int], columns: Sequence[str] | None) -> Iterator[pa.Table]:
        with self._opened() as file:
            for number in numbers:
                table = file.read_row_group(number, columns=columns, use_threads=False)
                yield with_types(table, ESTIMATES)

    @contextmanager
    def _opened(self, *, sealed: bool = False) -> Iterator[pq.ParquetFile]:
        with (
            readable_file(self.path, "collects it again, and repeats no fit", sealed=sealed),
            self.path.open("rb") as source,  # Arrow takes every path to be UTF-8
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            yield file
