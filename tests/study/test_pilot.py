"""Pilot fits: an address of their own, kept beside the results, the same whatever runs first."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from rmm.errors import BackendTimeout, StudyError
from rmm.study import (
    Study,
    collect,
    keep_replay,
    load_study,
    plan,
    replay,
    run_batch,
    write_performance,
)
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.manage.check_models import check_models
from rmm.study.methods import bayesian
from rmm.study.methods.pilot_fits import chain_length, fit_length
from rmm.study.methods.task import Task
from rmm.study.report import write_report
from rmm.study.run.pilot import FILE, make_piloted_task

SAMPLER = {"chains": 2, "warmup": 100, "draws": 200}
PILOTED = {**SAMPLER, "pilot": 400}
SIZED = {"chains": 2, "pilot": 300, "ess": 200}
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
        "methods": [{"gate": {"rhat": 2, "ess_per_chain": 1}, **mm}],
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
        {"backend": "laplace"},
        {"kind": "choice", "candidates": {"a": "w ~ 1/n", "b": "w ~ n"}},
        {
            "kind": "choice",
            "backend": "jags",
            "candidates": {"a": "w ~ 1/n", "b": "w ~ n"},
            "sampler": SIZED,
        },
    ],
)
def test_other_engines_and_choices_have_no_pilot(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="`pilot` cannot be used with kind"):
        load(**method)


# -- chain lengths of JAGS ---------------------------------------------------------------------


def test_draws_follow_from_the_gate_and_warm_up_from_all_parameters() -> None:
    sampler = {"chains": 2, "pilot": 1000, "ess": 400, "thin": 1}
    ess = {"b_l1[x]": 1600.0, "b_w[b1]": 250.0, "sigma_l1": 50.0}
    found = chain_length(ess, ["b_l1[x]", "b_w[b1]"], sampler)
    # 2,000 draws were worth 250, so 400 take 3,200: 1,600 per chain. The slowest of all parameters
    # needs 40 iterations per effective draw.
    assert found == {"warmup": 400, "draws": 1600, "slowest": "b_w[b1]", "ess": 250.0}
    assert chain_length(ess, ["b_l1[x]"], sampler)["draws"] == 250
    thinned = chain_length(ess, ["b_l1[x]"], {**sampler, "thin": 5})
    assert (thinned["warmup"], thinned["draws"]) == (2000, 250)


def test_chain_lengths_have_limits() -> None:
    sampler = {"chains": 2, "pilot": 1000, "ess": 400, "thin": 1}
    independent = chain_length({"b_l1[x]": 2000.0}, ["b_l1[x]"], sampler)
    assert (independent["warmup"], independent["draws"]) == (120, 200)
    stuck = chain_length({"b_l1[x]": 0.5}, ["b_l1[x]"], sampler)
    assert (stuck["warmup"], stuck["draws"]) == (10_000, 10_000)


def test_a_pilot_determines_the_chains_of_jags(study: Study) -> None:
    study = load(SIZED, backend="jags")
    scenario = study.scenarios[0].id
    path = Path("results") / "estimates" / scenario / "mm" / "1-2.parquet"
    run_batch(study, scenario, "mm", 1, 2, path)
    kept = json.loads((path.parent / FILE).read_text())["adaptation"]
    assert kept["draws"] == 10 * math.ceil(20 * 300 / kept["ess"])
    fits = [replay(study, scenario, replication, "mm")[1].fit for replication in (1, 2)]
    assert {(fit.settings.warmup, fit.settings.draws) for fit in fits} == {
        (kept["warmup"], kept["draws"])
    }
    rows = pq.read_table(path, partitioning=None).to_pylist()
    sizes = [row["ess_bulk"] for row in rows]
    assert min(sizes) > 60  # of 200: of other data sets than the pilot's
    assert keep_replay(study, scenario, 2, "mm", "kept", "results")[1] == "same"


def test_without_a_converged_pilot_chains_are_as_long_as_its_own(study: Study) -> None:
    study = load(SIZED, backend="jags")
    impossible = load(SIZED, backend="jags", gate={"rhat": 1.000001, "ess_per_chain": 1})
    assert piloted(study, 1, Path("batches")).adaptation["draws"] > 0
    task = piloted(impossible, 1, Path("batches"))  # of another gate: fitted again
    assert task.adaptation == {}
    message = json.loads((Path("batches") / FILE).read_text())["message"]
    assert message.startswith("The pilot fit did not converge: R-hat")
    assert fit_length(impossible.methods[0].config["sampler"], task.adaptation) == (150, 300)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            {"backend": "jags", "sampler": {"chains": 2, "pilot": 400}},
            r"methods\[0\].sampler.pilot\n  `pilot` is given without `ess`.*\n  Give both",
        ),
        (
            {"backend": "jags", "sampler": {"chains": 2, "ess": 400}},
            r"methods\[0\].sampler.ess\n  `ess` is given without `pilot`.*\n  Give both",
        ),
        (
            {"backend": "jags", "sampler": {**SIZED, "draws": 900}},
            r"sampler.draws\n  `draws` is 900, but with `ess` the pilot.*\n  Remove `draws`",
        ),
        (
            {"backend": "jags", "sampler": {**SIZED, "warmup": 900}},
            r"sampler.warmup\n  `warmup` is 900, but with `ess` the pilot.*\n  Remove `warmup`",
        ),
        (
            {"backend": "stan", "sampler": SIZED},
            r"sampler.ess\n  `ess` cannot be used with backend stan.\n  It needs backend jags",
        ),
        (
            {"backend": "laplace", "sampler": {"ess": 400}},
            r"sampler.ess\n  `ess` cannot be used with backend laplace.\n  .*options: {ess: 500}",
        ),
        (
            {"backend": "jags", "sampler": {**SIZED, "ess": 5}},
            r"sampler.ess\n  found:   5\n  allowed: at least 50",
        ),
    ],
)
def test_mistakes_about_chain_lengths(
    method: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=message):
        load(**method)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            {"gate": {"ess_per_chain": 150}},
            r"sampler.ess \(method mm\)\n  The pilot fit aims.*100 per.*requires 150.*\n.*than 300",
        ),
        (
            {"sampler": {**SIZED, "options": {"adapt": 300}}},
            r"sampler.options \(method mm\)\n.*between 0 and `warmup` \(120\), but is 300",
        ),
    ],
)
def test_a_gate_or_an_option_that_no_such_chain_passes(
    method: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {"backend": "jags", "sampler": SIZED, **method}
    with pytest.raises(StudyError, match=message):
        check_models(load(**asked))


def test_the_report_shows_the_chain_lengths(study: Study) -> None:
    study = load(SIZED, backend="jags")
    folder = Path("results")
    paths = [folder / job.path for job in plan(study, folder)]
    for job, path in zip(plan(study, folder), paths, strict=True):
        run_batch(study, job.scenario, job.method, job.first, job.last, path)
    collect(study, paths, folder / "estimates.parquet")
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    written = write_report(study, folder)
    pages = (written, written.with_name("numbers.html"))
    page = "".join(one.read_text(encoding="utf-8") for one in pages)
    assert "Chain lengths, determined by pilot fits" in page
    assert "chains 2, pilot 300, ess 200, " in page  # and no draws, which do not apply
    assert "pilot fits determine chain lengths" in page
    kept = json.loads((paths[0].parent / FILE).read_text())["adaptation"]
    (row,) = list(csv.DictReader((folder / "report/tables/pilots.csv").open()))
    assert (row["warmup"], row["draws"]) == (str(kept["warmup"]), str(kept["draws"]))
    assert row["slowest"] == kept["slowest"]


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
