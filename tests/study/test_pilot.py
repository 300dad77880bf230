"""Pilot fits: an address of their own, kept beside the results, the same whatever runs first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from rmm.errors import BackendTimeout, StudyError
from rmm.study import Study, keep_replay, load_study, run_batch
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.methods import bayesian
from rmm.study.methods.task import Task
from rmm.study.run.pilot import FILE, make_piloted_task

SAMPLER = {"chains": 2, "warmup": 100, "draws": 200}
PILOTED = {**SAMPLER, "pilot": 400}
ADAPTED = {"program": "k", "metric": "diag_e", "step_size": 0.5, "inverse_metric": [1.0]}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return load()


def load(sampler: dict[str, Any] = PILOTED, seed: int = 8, **method: Any) -> Study:
    mm = {"name": "mm", "kind": "mm", "backend": "stan", "sampler": sampler, **method}
    config = {
        "seed": seed,
        "replications": 4,
        "membership": {"kind": "synthetic", "groups": 120, "members": 30, "size": 3, "overlap": 1},
        "covariates": {"x": {"level": "member"}, "z": {"level": "group"}},
        "truth": {
            "formula": "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
            "parameters": {
                "b_l2[Intercept]": 0,
                "b_l2[z]": 0.5,
                "b_l1[x]": 0,
                "sigma_l1": 1,
                "sigma_l2": 1,
            },
        },
        "methods": [{**mm, "gate": {"rhat": 2, "ess_per_chain": 1}}],
    }
    Path("one.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study("one.yaml")


@pytest.fixture
def pilots(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks of pilot fits, which are not run."""
    seen: list[Task] = []

    def adapt(task: Task) -> dict[str, Any]:
        seen.append(task)
        return ADAPTED

    monkeypatch.setattr(bayesian, "adapt", adapt)
    return seen


def piloted(study: Study, replication: int, folder: Path | None) -> Task:
    return make_piloted_task(study, study.scenarios[0], study.methods[0], replication, folder)


def test_a_pilot_is_fitted_once_on_data_of_its_own(study: Study, pilots: list[Task]) -> None:
    tasks = [piloted(study, replication, Path("batches")) for replication in (3, 1, 2)]
    assert [task.adaptation for task in tasks] == [ADAPTED] * 3
    (pilot,) = pilots
    assert pilot.seed not in {task.seed for task in tasks}
    outcomes = {task.drawn.frame()["y"].to_numpy().tobytes() for task in (pilot, *tasks)}
    assert len(outcomes) == 4
    again = piloted(study, 1, None)
    assert again.adaptation == ADAPTED
    assert pilots[1].seed == pilot.seed
    assert pilots[1].drawn.frame().equals(pilot.drawn.frame())


def test_the_pilot_follows_from_seed_scenario_and_method(study: Study, pilots: list[Task]) -> None:
    for other in (study, load(seed=9), load({**PILOTED, "draws": 300})):
        piloted(other, 1, Path("batches"))  # of another address: fitted again
    assert len({task.seed for task in pilots}) == 3
    assert len(pilots) == 3
    piloted(load({**PILOTED, "timeout": 900}), 1, Path("other"))
    assert pilots[3].seed == pilots[0].seed


@pytest.mark.parametrize("fault", ["altered", "cut off", "not JSON", "a list"])
def test_a_file_that_was_altered_is_made_again(
    fault: str, study: Study, pilots: list[Task]
) -> None:
    piloted(study, 1, Path("batches"))
    path = Path("batches") / FILE
    text = path.read_text()
    assert json.loads(text)["adaptation"] == ADAPTED
    path.write_text(
        {
            "altered": text.replace("0.5", "0.6"),
            "cut off": text[:-20],
            "not JSON": "",
            "a list": "[1]",
        }[fault]
    )
    assert piloted(study, 1, Path("batches")).adaptation == ADAPTED
    assert len(pilots) == 2
    assert path.read_text() == text


def test_without_the_key_there_is_no_pilot(study: Study, pilots: list[Task]) -> None:
    assert piloted(load(SAMPLER), 1, Path("batches")).adaptation == {}
    assert pilots == []
    assert load(SAMPLER).methods[0].id != study.methods[0].id


def test_a_pilot_that_fails_is_kept_with_its_reason(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: Task) -> dict[str, Any]:
        raise ValueError("no valid\ninitial values")

    monkeypatch.setattr(bayesian, "adapt", fail)
    assert piloted(study, 1, Path("batches")).adaptation == {}
    kept = json.loads((Path("batches") / FILE).read_text())
    assert kept["message"] == "no valid initial values"


def test_a_pilot_past_its_time_limit_stops_the_batch(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(task: Task) -> dict[str, Any]:
        raise BackendTimeout("Stan did not finish.")

    monkeypatch.setattr(bayesian, "adapt", late)
    with pytest.raises(StudyError, match=r"pilot fit of method mm did not.*\n.*sampler.timeout"):
        piloted(study, 1, Path("batches"))
    assert not (Path("batches") / FILE).exists()


@pytest.mark.parametrize(
    "method",
    [
        {"backend": "jags"},
        {"kind": "choice", "candidates": {"a": "w ~ 1/n", "b": "w ~ n"}},
    ],
)
def test_other_engines_and_choices_have_no_pilot(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="`pilot` cannot be used with kind"):
        load(**method)


@pytest.mark.stan
@pytest.mark.thorough
def test_estimates_do_not_depend_on_batches(study: Study) -> None:
    scenario = study.scenarios[0].id

    def estimates(folder: str, *batches: tuple[int, int]) -> list[dict[str, Any]]:
        rows = []
        for first, last in batches:
            path = Path(folder) / "estimates" / scenario / "mm" / f"{first}-{last}.parquet"
            run_batch(study, scenario, "mm", first, last, path)
            rows += pq.read_table(path, partitioning=None).drop(list(RUN_COLUMNS)).to_pylist()
        return sorted(rows, key=lambda row: (row["replication"], row["parameter"]))

    once = estimates("a", (1, 4))
    assert {row["status"] for row in once} == {"ok"}
    assert estimates("b", (3, 4), (1, 2)) == once
    kept = (Path("a/estimates") / scenario / "mm" / FILE).read_bytes()
    assert (Path("b/estimates") / scenario / "mm" / FILE).read_bytes() == kept
    (Path("b/estimates") / scenario / "mm" / FILE).unlink()
    assert keep_replay(study, scenario, 2, "mm", "kept", "b")[1] == "same"
    assert (Path("b/estimates") / scenario / "mm" / FILE).read_bytes() == kept
    assert keep_replay(study, scenario, 3, "mm", "kept", "a")[1] == "same"
