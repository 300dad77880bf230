"""Jobs of a workflow check the model that they fit, and no other; the run has checked all."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml

from rmm.backends import BACKENDS, find_backend
from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.design import check_methods, scenarios
from rmm.study.design.study import load_checked
from rmm.study.methods.method import COMPILED
from tests import ROOT

STUDIES = [
    path
    for path in sorted((ROOT / "config" / "studies").glob("*.yaml"))
    if not path.stem.startswith(("calibration", "parity"))
]
FORMULA = "y ~ 1 + mm(id(member, group), vars(x), RE = TRUE)"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """36 scenarios by 6 methods, one of which states its formula."""
    methods = [
        {"name": "aggregation", "kind": "aggregation"},
        {"name": "robust", "kind": "aggregation", "errors": "robust"},
        {"name": "copied", "kind": "disaggregation"},
        {"name": "stated", "kind": "aggregation", "formula": "y ~ 1 + x"},
        {"name": "mm", "kind": "mm", "backend": "jags"},
        {"name": "written", "kind": "mm", "backend": "jags", "formula": FORMULA},
    ]
    study = {
        "seed": 1,
        "replications": 4,
        "membership": {"kind": "synthetic", "groups": 30, "members": 15, "size": 3},
        "covariates": {"x": {"level": "member"}},
        "truth": {
            "formula": FORMULA,
            "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1, "sigma_l2": 1},
        },
        "vary": {
            "effect": {"path": "truth.parameters.b_l1[x]", "values": [0, 0.2, 0.5, 1]},
            "size": {"path": "membership.size", "values": [2, 3, 5]},
            "members": {"path": "membership.members", "values": [15, 30, 60]},
        },
        "methods": methods,
        "estimands": [{"parameter": "b_l1[x]"}],
    }
    path = tmp_path / "many.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many scenarios were prepared, how many formulas of methods were checked."""
    counts: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        call = getattr(module, name)

        def counted(*arguments: Any) -> Any:
            counts[name] += 1
            return call(*arguments)

        monkeypatch.setattr(module, name, counted)

    count(scenarios, "prepare")
    count(check_methods, "_check_formula")
    return counts


def job(file: Path, out: Path, script: str, **wildcards: str) -> None:
    """Run a script of the workflow as Snakemake does."""
    facts = SimpleNamespace(
        log=[str(out.parent / "job.log")],
        config={"study": str(file), "size": "full"},
        wildcards=SimpleNamespace(**wildcards, get=wildcards.get),
        params={},
        input=[],
        output=[str(out)],
    )
    path = ROOT / "workflow" / "scripts" / f"{script}.py"
    runpy.run_path(str(path), init_globals={"snakemake": facts})


def test_the_run_checks_all_and_a_job_what_it_fits(
    file: Path, checks: Counter[str], tmp_path: Path
) -> None:
    study = load_study(file)
    # Four formulas follow from the truth's, which is the same in all scenarios; two are stated.
    assert checks == {"prepare": 36, "_check_formula": 4 + 2 * 36}
    for method in ("stated", "robust"):
        checks.clear()
        scenario, out = study.scenarios[-1].id, tmp_path / f"{method}.parquet"
        job(file, out, "fit", scenario=scenario, method=method, first="1", last="2")
        assert checks == {"prepare": 1, "_check_formula": 1}
        table = pd.read_parquet(out)
        assert set(table["scenario"]) == {scenario} and set(table["status"]) == {"ok"}


def test_other_jobs_check_nothing(file: Path, checks: Counter[str]) -> None:
    study = load_checked(file)
    assert len(study.scenarios) == 36 and len(study.methods) == 6
    assert not checks


def test_a_job_reports_a_mistake_in_what_it_fits_only(file: Path) -> None:
    study = load_study(file)
    first, last = study.scenarios[0].id, study.scenarios[-1].id
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("formula: y ~ 1 + x\n", "formula: y ~ 1 + z\n"), encoding="utf-8")
    for scenario in (first, last):
        assert load_checked(file, scenario, "mm").method("stated").name == "stated"
        with pytest.raises(StudyError, match=r"methods\[3\].formula.*\n.*'z' is not a covari"):
            load_checked(file, scenario, "stated")


def described(study: Study) -> dict[str, Any]:
    """All that results depend on, and what is shown of a study."""
    return {
        "name": study.name,
        "config": study.config,
        "scenarios": [
            (s.id, s.digest, s.fixed_digests, s.factors, s.content, s.replications)
            for s in study.scenarios
        ],
        "methods": [(m.id, m.digest, m.name, m.backend) for m in study.methods],
        "estimands": study.estimands,
        "truth": [study.truth_of(s) for s in study.scenarios],
        "rules": (study.stopping, study.power, study.baseline, study.measures, study.reference),
    }


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
@pytest.mark.parametrize("size", ["full", "smoke"])
def test_a_job_has_the_study_that_was_checked(path: Path, size: str) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    data = config["membership"].get("file")
    if data and not (ROOT / data).is_file():
        pytest.skip(f"{data} is not here")
    assert described(load_checked(path, size=size)) == described(load_study(path, size=size))


def test_methods_know_which_engines_compile() -> None:
    assert {name for name in BACKENDS if find_backend(name).compiler} == set(COMPILED)


def test_the_workflow_names_no_engine() -> None:
    files = [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    files += (ROOT / "workflow").rglob("*.py")
    engine = re.compile(rf"\b({'|'.join(BACKENDS)})\b", re.IGNORECASE)
    assert len(files) > 10
    assert {file.name: engine.findall(file.read_text(encoding="utf-8")) for file in files} == {
        file.name: [] for file in files
    }
