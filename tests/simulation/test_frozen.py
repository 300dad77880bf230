"""What exists does not change: digests of the project's studies, and the data they stand for.

After a change that is meant (a line under "Changes results" in CHANGELOG.md) rewrite the file with
`python -m tests.simulation.test_frozen`; a new study adds its lines in the same way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tests
from rmm.study import load_study
from rmm.study.run.replicate import draw_replication
from tests import ROOT

GOLDEN = tests.GOLDEN / "simulated.json"
STUDIES = sorted((ROOT / "config" / "studies").glob("*.yaml"))


def content(path: Path) -> dict[str, Any] | None:
    """Facts by scenario; None where the table of a study is not here."""
    file = yaml.safe_load(path.read_text(encoding="utf-8"))["membership"].get("file")
    if file and not (ROOT / file).is_file():
        return None
    study = load_study(path)
    return {
        s.id: {
            "digest": s.digest,
            "fixed": dict(s.fixed_digests),
            "replication 2": facts(draw_replication(study.seed, s, 2).frame()),
        }
        for s in study.scenarios
    }


def facts(frame: Any) -> dict[str, list[float]]:
    """Column -> sums in which no value and no place can change unseen; labels of ids by rank."""
    place = np.cos(np.arange(len(frame)))
    values = {
        name: frame[name].to_numpy(dtype=float)
        if frame[name].dtype.kind in "iufb"
        else np.unique(frame[name].astype(str), return_inverse=True)[1]
        for name in frame
    }
    return {n: [float(v.sum()), float(v @ place), float(v @ v)] for n, v in values.items()}


def frozen() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", STUDIES, ids=[p.stem for p in STUDIES])
def test_digests_and_data_of_the_projects_studies_stay(path: Path) -> None:
    """Digests exactly; sums to 1e-8, since mathematical libraries differ in the last digit."""
    found = content(path)
    if found is None:
        pytest.skip("the table of this study is not here")
    assert path.stem in frozen(), "a new study: see the head of this file"
    expected = frozen()[path.stem]
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        data = found[name].pop("replication 2")
        wanted = one.pop("replication 2")
        assert found[name] == one
        assert list(data) == list(wanted)
        for column, sums in wanted.items():
            assert data[column] == pytest.approx(sums, rel=1e-8, abs=1e-8), column


if __name__ == "__main__":
    known = frozen() if GOLDEN.is_file() else {}
    new = {path.stem: content(path) or known.get(path.stem) for path in STUDIES}
    GOLDEN.write_text(json.dumps({k: v for k, v in new.items() if v}, indent=1) + "\n")
