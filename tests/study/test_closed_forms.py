"""Closed forms 2, 3 and 4 come back from simulation, within 3 Monte Carlo standard errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rmm.study import collect, load_study, plan, run_batch, write_performance
from tests import ROOT

NAMES = (
    "closed_form_2_disaggregation",
    "closed_form_3_aggregation_bias",
    "closed_form_4_shared_members",
)
#: Values that are compared. At full replications a correct simulator has one of all 47 beyond 3
#: Monte Carlo standard errors in 12 of 100 tables; seeds were set before the first run. That run
#: had 10,000 replications throughout, and one cell of form 2 (n = 10, icc = 0) at .0417, -4.2
#: standard errors from .05; three other seeds gave .048, .051 and .051 there, so it was chance, and
#: the study was continued to 40,000.
CELLS = {NAMES[0]: 10, NAMES[1]: 32, NAMES[2]: 5}


def compared(name: str, folder: Path, replications: int | None = None) -> pd.DataFrame:
    """Simulated values and closed forms of a study."""
    study = load_study(ROOT / "config" / "studies" / f"{name}.yaml")
    if replications is not None:
        fewer = tuple(replace(s, replications=replications) for s in study.scenarios)
        study = replace(study, scenarios=fewer)
    paths = []
    for job in plan(study):
        paths.append(folder / job.path)
        run_batch(study, job.scenario, job.method, job.first, job.last, paths[-1])
    collect(study, paths, folder / "estimates.parquet")
    frame = write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    # What is printed in a paper was simulated there, with errors of its own.
    exact = frame["reference"].notna() & (frame["method"] != "adjusted")
    found = frame[exact & (frame["policy"] == "per_method")]
    return found.assign(distance=(found["value"] - found["reference"]) / found["mcse"])


@pytest.mark.closed_forms
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_closed_form_at_full_replications(name: str, tmp_path: Path) -> None:
    found = compared(name, tmp_path)
    assert len(found) == CELLS[name]
    assert (found["n"] >= 10_000).all()
    assert found["distance"].abs().max() < 3, found.to_string()


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_closed_form_at_few_replications(name: str, tmp_path: Path) -> None:
    """150 replications: the same comparison, fast enough for every run; seeds are fixed."""
    found = compared(name, tmp_path, replications=150)
    assert len(found) == CELLS[name]
    assert found["distance"].abs().max() < 3.5, found.to_string()
    assert found["reference_source"].notna().all()
