"""The decision at one stage of a scenario, as a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.evaluate.stopping_decision import decision
from rmm.study.files import seeds
from rmm.study.files.parquet import read_batches
from rmm.study.files.records import read_record, write_record
from rmm.study.manage.jobs import jobs_of
from rmm.study.manage.steps import digest_of_batches

FOLDER = "stopping"


def write_decision(
    study: Study, scenario_id: str, stage: int, paths: Iterable[str | Path], out: Path
) -> str:
    """Decide at one stage of a scenario, write it as JSON, say it in words.

    Parameters
    ----------
    study : Study
    scenario_id : str
    stage : int
        Replications.
    paths : iterable of paths
        The batches of the scenario up to this stage, by all methods.
    out : Path
        ``RESULTS/stopping/SCENARIO/STAGE.json``.
    """
    scenario = study.scenario(scenario_id)
    files = [Path(path) for path in paths]
    found = decision(study, scenario, read_batches(files).to_pandas(), stage)
    facts = {
        "scenario": scenario_id,
        "replications": stage,
        "decided": found.decided,
        "words": found.words(),
        "rule": rule_digest(study),
        "batches": digest_of_batches(out.parents[2], files),
    }
    write_record(facts, out)
    return f"{scenario.label}: {found.words()}"


def rule_digest(study: Study) -> str:
    """Digest of what a decision depends on besides the estimates."""
    keys = ("stopping", "estimands", "baseline")
    return seeds.digest([study.config.get(key) for key in keys])


def outdated_decisions(study: Study, folder: str | Path) -> list[Path]:
    """Decisions that another rule has made, or from other batches than there are now.

    Parameters
    ----------
    study : Study
    folder : path
        Its results.
    """
    return [path for s in study.scenarios for path in _outdated(study, s, Path(folder))]


def _outdated(study: Study, scenario: Scenario, folder: Path) -> Iterator[Path]:
    valid: list[dict[str, Any] | None] = []
    for path in sorted((folder / FOLDER / scenario.id).glob("*.json")):
        record = read_record(path)
        if record is not None and _holds(study, scenario, folder, path, record):
            valid.append(record)
        else:
            yield path
    last = folder / FOLDER / f"{scenario.id}.json"
    if last.is_file() and read_record(last) not in valid:
        yield last


def _holds(
    study: Study, scenario: Scenario, folder: Path, path: Path, record: dict[str, Any]
) -> bool:
    if record.get("rule") != rule_digest(study) or path.stem != str(record["replications"]):
        return False
    jobs = jobs_of(study, scenario, record["replications"], folder)
    batches = [folder / job.path for job in jobs]
    return bool(record["batches"] == digest_of_batches(folder, batches))
