"""The whole study: its design as files, all batches in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from rmm.errors import StudyError, counted
from rmm.study.design.study import Study
from rmm.study.evaluate.stopping_decision import Standing, standing, stopping_table
from rmm.study.files.disks import writing
from rmm.study.files.environment import together
from rmm.study.files.parquet import (
    ESTIMATES,
    ESTIMATES_ORDER,
    of_scenario,
    read_batches,
    read_estimates,
    write_groups,
    write_parquet,
    write_text,
)
from rmm.study.run.metadata import check_metadata, stored_metadata

if TYPE_CHECKING:
    from rmm.study.design.scenarios import Scenario

_ORDER = [(name, "ascending") for name in ESTIMATES_ORDER]


def write_design(study: Study, folder: str | Path) -> None:
    """Write ``config.yaml`` (resolved) and ``scenarios.parquet`` into the results folder.

    Parameters
    ----------
    study : Study
    folder : path
    """
    folder = Path(folder)
    write_text(
        yaml.safe_dump(dict(study.config), sort_keys=False, allow_unicode=True),
        folder / "config.yaml",
    )
    write_parquet(pa.table(study.scenario_columns()), folder / "scenarios.parquet")


def collect(study: Study, paths: Iterable[str | Path], out: str | Path) -> None:
    """All batches in one file, sorted, so that batch sizes and the order of jobs do not show.

    One batch is in memory at a time, and the rows of one group of rows of the file: a million
    fits need no more than ten thousand. A study with `stopping` gets ``stopping.parquet`` beside
    it: where each scenario ended; it reads a scenario at a time.

    Parameters
    ----------
    study : Study
    paths : iterable of paths
        The files of its jobs.
    out : path
        The Parquet file to be written.

    Raises
    ------
    StudyError
        If a file was made by another version of the study, or a replication is missing.
    """
    sources, ran_on = _sources(study, map(Path, paths))
    ended = _ended(study, sources)
    schema = ESTIMATES.with_metadata({f"rmm.{name}": value for name, value in ran_on.items()})
    write_groups(Path(out), schema, _wanted(study, sources, ended))
    ends = Path(out).with_name("stopping.parquet")
    if ended:
        write_parquet(stopping_table(ended.values()), ends)
    else:
        with writing(ends):
            ends.unlink(missing_ok=True)  # of an earlier version of the study


@dataclass(frozen=True, order=True)
class _Source:
    """A file of estimates, and what it says that it holds."""

    scenario: str
    method: str
    first: int
    last: int
    path: Path


def _sources(study: Study, paths: Iterable[Path]) -> tuple[list[_Source], dict[str, str]]:
    """The files in the order of their rows, and what they ran on; only metadata are read."""
    found, said = [], []
    for path in paths:
        stored = stored_metadata(str(path), path.stat().st_mtime_ns if path.exists() else 0)
        if not stored:
            read_estimates(path)  # says what is wrong with it
        metadata = dict(stored)
        fitted = study.scenario(metadata["scenario"])
        check_metadata(study, study.method_in(fitted, metadata["method"]), path, stored)
        said.append(metadata)
        found.append(
            _Source(
                metadata["scenario"],
                metadata["method"],
                int(metadata["first"]),
                int(metadata["last"]),
                path,
            )
        )
    return sorted(found), together(said)


def _ended(study: Study, sources: Sequence[_Source]) -> dict[str, Standing]:
    """Where each scenario ended; empty without `stopping`."""
    if study.stopping is None:
        return {}
    ended = {}
    for scenario in study.scenarios:
        here = read_batches(
            [
                one.path
                for one in sources
                if one.scenario == study.fitted_in(scenario, one.method).id
            ]
        )
        ended[scenario.id] = standing(study, scenario, here.to_pandas())
        if not ended[scenario.id].decided:
            raise StudyError(
                f"{study.file}: Scenario {scenario.id} has not reached its stopping targets. It "
                f"needs {counted(ended[scenario.id].replications, 'replication')} next (at most "
                f"{ended[scenario.id].maximum:,}). Run the study again; finished fits are kept."
            )
    return ended


def _wanted(
    study: Study, sources: Sequence[_Source], ended: Mapping[str, Standing]
) -> Iterator[pa.Table]:
    """Rows that the study asks for, in order: files may hold more replications than it does now.

    Sources are in order and so are their rows, but where two batch sizes met in one run: the
    first file has the rows, as in `plan`.
    """
    wanted = {
        (s.id, m.name): _count(study, s, m, ended) for s in study.scenarios for m in study.methods
    }
    found, taken = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for scenario, source in _by_scenario(study, sources):
        cell = (scenario, source.method)
        table, _ = read_estimates(source.path)
        if scenario != source.scenario:
            table = of_scenario(table, scenario)
        number = table["replication"]
        kept = table.filter(
            pc.and_(pc.less_equal(number, wanted.get(cell, 0)), pc.greater(number, taken[cell]))
        )
        taken[cell] = max(taken[cell], source.last)
        found[cell] += pc.count_distinct(kept["replication"]).as_py()
        yield kept.replace_schema_metadata(None).sort_by(_ORDER)
    for (scenario, method), count in wanted.items():
        if found[scenario, method] != count:
            raise StudyError(
                f"{study.file}: Scenario {scenario}, method {method}: "
                f"{found[scenario, method]} of {count} replications are finished. Run the study "
                "again; finished fits are kept."
            )


def _by_scenario(study: Study, sources: Sequence[_Source]) -> list[tuple[str, _Source]]:
    """Sources with the scenarios whose fits they have, in the order of the rows of all."""
    pairs = [
        (scenario.id, source)
        for source in sources
        for scenario in study.sharers(study.scenario(source.scenario), source.method)
    ]
    return sorted(pairs, key=lambda pair: (pair[0], *astuple(pair[1])[1:]))


def _count(study: Study, scenario: Scenario, method: Any, ended: Mapping[str, Standing]) -> int:
    count = study.replications_of(scenario, method)
    return min(count, ended[scenario.id].replications) if ended else count
