"""The whole study: its design as files, all batches in one table, how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from rmm.errors import StudyError
from rmm.study.batches import plan, standing_of
from rmm.study.config import Study
from rmm.study.host import together
from rmm.study.metadata import check_metadata
from rmm.study.results import (
    ESTIMATES,
    ESTIMATES_ORDER,
    read_batches,
    read_estimates,
    write_parquet,
    write_text,
)
from rmm.study.stopping import Standing, standing, stopping_table

if TYPE_CHECKING:
    from rmm.study.scenarios import Scenario


_COUNTED = ["scenario", "method", "replication", "status", "seconds"]


def write_design(study: Study, folder: str | Path) -> None:
    """Write ``config.yaml`` (resolved) and ``scenarios.parquet`` into the results folder."""
    import yaml

    folder = Path(folder)
    write_text(yaml.safe_dump(dict(study.config), sort_keys=False, allow_unicode=True),
               folder / "config.yaml")  # fmt: skip
    columns: dict[str, list[Any]] = {"scenario": [s.id for s in study.scenarios]}
    for factor in study.factors:
        columns[factor] = _cells([s.factors[factor] for s in study.scenarios])
    write_parquet(pa.table(columns), folder / "scenarios.parquet")


def _cells(values: list[Any]) -> list[Any]:
    """Levels of one factor as one type: numbers, else booleans, else text."""
    if all(isinstance(v, bool) for v in values):
        return values
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return [float(v) for v in values] if any(isinstance(v, float) for v in values) else values
    return [str(v) for v in values]


def collect(study: Study, paths: Iterable[str | Path], out: str | Path) -> None:
    """All batches in one file, sorted, so that batch sizes and the order of jobs do not show.

    A study with `stopping` gets ``stopping.parquet`` beside it: where each scenario ended.

    Raises
    ------
    StudyError
        If a file was made by another version of the study, or a replication is missing.
    """
    tables, said = [], []
    for path in map(Path, paths):
        table, metadata = read_estimates(path)
        said.append(metadata)
        check_metadata(study, path, tuple(metadata.items()))
        tables.append(table.replace_schema_metadata(None))
    whole = pa.concat_tables(tables) if tables else ESTIMATES.empty_table()
    order = [(name, "ascending") for name in ESTIMATES_ORDER]
    whole = whole.sort_by(order)
    ended = _ended(study, whole)
    if ended:
        write_parquet(stopping_table(ended.values()), Path(out).with_name("stopping.parquet"))
    ran_on = {f"rmm.{name}": value for name, value in together(said).items()}
    write_parquet(_wanted(study, whole, ended).replace_schema_metadata(ran_on), Path(out))


def _ended(study: Study, table: pa.Table) -> dict[str, Standing]:
    """Where each scenario ended; empty without `stopping`."""
    if study.stopping is None:
        return {}
    ended = {}
    for scenario in study.scenarios:
        here = table.filter(pc.equal(table["scenario"], scenario.id)).to_pandas()
        ended[scenario.id] = standing(study, scenario, here)
        if not ended[scenario.id].decided:
            raise StudyError(
                f"{study.file}: scenario {scenario.id} {ended[scenario.id].words()}. "
                "Run the study again; what exists is kept."
            )
    return ended


def _wanted(study: Study, table: pa.Table, ended: Mapping[str, Standing]) -> pa.Table:
    """Rows that the study asks for: files may hold more replications than it does now."""
    wanted = {(s.id, m.name): _count(study, s, m, ended) for s in study.scenarios
              for m in study.methods}  # fmt: skip
    scenarios, methods = table["scenario"].to_pylist(), table["method"].to_pylist()
    limits = [wanted.get(pair, 0) for pair in zip(scenarios, methods, strict=True)]
    kept = table.filter(pc.less_equal(table["replication"], pa.array(limits, pa.int32())))
    fits = kept.select(["scenario", "method", "replication"])
    counts = fits.group_by(["scenario", "method"]).aggregate([("replication", "count_distinct")])
    found = {(r["scenario"], r["method"]): r["replication_count_distinct"]
             for r in counts.to_pylist()}  # fmt: skip
    for (scenario, method), count in wanted.items():
        if found.get((scenario, method), 0) != count:
            raise StudyError(
                f"{study.file}: scenario {scenario}, method {method}: "
                f"{found.get((scenario, method), 0)} of {count} replications are there. Run the "
                "study again; what exists is kept."
            )
    return kept


def _count(study: Study, scenario: Scenario, method: Any, ended: Mapping[str, Standing]) -> int:
    count = study.replications_of(scenario, method)
    return min(count, ended[scenario.id].replications) if ended else count


def status(study: Study, folder: str | Path) -> dict[str, Any]:
    """How far a study is.

    Returns
    -------
    dict
        jobs, done, missing (list of Job), fits (status -> number of fits in finished files),
        seconds (of these fits), seconds_left (missing replications at the mean of each
        method; None for a method without a finished fit) and, with `stopping`, standings
        (where each scenario stands; jobs are then those up to its next decision).
    """
    folder = Path(folder)
    jobs = plan(study, folder)
    there = {j: (folder / j.path).is_file() for j in jobs}
    missing = [j for j in jobs if not there[j]]
    done = read_batches([folder / j.path for j in jobs if there[j]], _COUNTED)
    fits, spent = _one_row_each(done)
    todo: Counter[str] = Counter()
    for job in missing:
        todo[job.method] += job.last - job.first + 1
    left: dict[str, float | None] = {}
    for name in (m.name for m in study.methods):
        seconds, number = spent.get(name, (0.0, 0))
        left[name] = 0.0 if not todo[name] else todo[name] * seconds / number if number else None
    found: dict[str, Any] = {
        "jobs": len(jobs),
        "done": len(jobs) - len(missing),
        "missing": missing,
        "fits": fits,
        "seconds": sum(seconds for seconds, _ in spent.values()),
        "seconds_left": left,
    }
    if study.stopping is not None:
        found["standings"] = [standing_of(study, s, folder) for s in study.scenarios]
    return found


def _one_row_each(table: pa.Table) -> tuple[dict[str, int], dict[str, tuple[float, int]]]:
    """Fits by status, and (seconds, fits) by method: a fit has a row per parameter."""
    one = table.group_by(_COUNTED[:3], use_threads=False)
    one = one.aggregate([("status", "first"), ("seconds", "first")])
    fits = Counter(one["status_first"].to_pylist())
    spent = one.group_by("method").aggregate([("seconds_first", "sum"), ("seconds_first", "count")])
    return dict(fits), {
        r["method"]: (r["seconds_first_sum"] or 0.0, r["seconds_first_count"])
        for r in spent.to_pylist()
    }
