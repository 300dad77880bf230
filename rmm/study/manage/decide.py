"""The decision at one stage of a scenario, as a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rmm.study.design.study import Study
from rmm.study.evaluate.stopping_decision import decision
from rmm.study.files.parquet import read_batches, write_text


def write_decision(
    study: Study, scenario_id: str, stage: int, paths: Iterable[str | Path], out: Path
) -> str:
    """Decide at one stage of a scenario, write it as JSON, say it in words."""
    scenario = study.scenario(scenario_id)
    table = read_batches([Path(path) for path in paths])
    found = decision(study, scenario, table.to_pandas(), stage)
    facts = {
        "scenario": scenario_id,
        "replications": stage,
        "decided": found.decided,
        "words": found.words(),
    }
    write_text(json.dumps(facts, indent=2) + "\n", out)
    return f"{scenario.label}: {found.words()}"
