"""Sizes of jobs where a study file gives none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rmm.study import load_study, plan
from tests.study.test_batch_index import STUDY

FAST = {"name": "mm", "kind": "mm", "backend": "laplace"}
SLOW = {"name": "mm_jags", "kind": "mm", "backend": "jags"}
LEAST = {"name": "aggregation", "kind": "aggregation"}


@pytest.mark.parametrize(
    ("replications", "methods", "wanted"),
    [
        (10_000, [FAST], {"mm": 625}),
        (1_000_000, [FAST], {"mm": 1000}),
        (1_000, [FAST], {"mm": 250}),
        (1_000, [FAST, LEAST, SLOW], {"mm": 125, "aggregation": 125, "mm_jags": 10}),
        (100, [SLOW], {"mm_jags": 10}),
    ],
)
def test_jobs_have_seconds_of_fits_and_cores_have_jobs(
    replications: int, methods: list[dict[str, str]], wanted: dict[str, int], tmp_path: Path
) -> None:
    config = yaml.safe_load(STUDY) | {"replications": replications, "methods": methods}
    del config["batch"]
    file = tmp_path / "sized.yaml"
    file.write_text(yaml.safe_dump(config))
    sizes = {job.method: job.last for job in plan(load_study(file)) if job.first == 1}
    assert sizes == wanted
    file.write_text(yaml.safe_dump({**config, "batch": 40}))
    sizes = {job.method: job.last for job in plan(load_study(file)) if job.first == 1}
    assert sizes == dict.fromkeys(wanted, 40)
