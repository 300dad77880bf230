"""Whether results belong to a study file: `rmm study check FILE --against FOLDER`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import Study, load_study, plan, write_design
from rmm.study.files.parquet import estimates_table, write_parquet
from rmm.study.manage.compare_results import compare
from rmm.study.run.metadata import metadata_of

STUDY = """\
seed: 1
replications: 4
batch: 2
membership: {kind: synthetic, groups: 30, members: 10, size: 2}
covariates:
  x: {level: member}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)
  parameters: {"b_l2[Intercept]": 0, "b_l1[x]": 0.5, sigma_l1: 1, sigma_l2: 1}
methods:
  - {name: means, kind: aggregation, errors: classical}
  - {name: mm, kind: mm, backend: fake, sampler: {draws: 100}}
estimands:
  - {parameter: "b_l1[x]"}
"""


def study(folder: Path, *changes: tuple[str, str]) -> Study:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one.yaml").write_text(text)
    return load_study(folder / "one.yaml")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Batches without rows: what they belong to stands in their metadata."""
    made = study(tmp_path / "made")
    for job in plan(made):
        facts = metadata_of(made, job.scenario, made.method(job.method), job.first, job.last)
        write_parquet(estimates_table([], facts), tmp_path / "results" / job.path)
    write_design(made, tmp_path / "results")
    return tmp_path / "results"


def test_results_belong_to_the_file_that_made_them(tmp_path: Path, results: Path) -> None:
    found = compare(study(tmp_path / "same"), results)
    assert (found.belongs, found.batches, found.fits, found.asked) == (True, 4, 8, 8)
    assert found.changed == ()


def test_more_replications_and_another_title_are_said_and_belong(
    tmp_path: Path, results: Path
) -> None:
    found = compare(
        study(tmp_path / "more", ("replications: 4", "title: T\nreplications: 6")), results
    )
    assert (found.belongs, found.fits, found.asked) == (True, 8, 12)
    file = tmp_path / "more" / "one.yaml"
    assert set(found.changed) == {
        f"replications: 4 in the results, 6 in {file}",
        f"title: nothing in the results, T in {file}",
    }


def test_another_method_is_refused_once_with_the_difference(tmp_path: Path, results: Path) -> None:
    changed = study(tmp_path / "other", ("draws: 100", "draws: 200"))
    found = compare(changed, results)
    assert (found.belongs, found.batches) == (False, 2)
    (reason,) = found.refused
    assert "other settings of the method" in reason
    assert "sampler.draws: 100 in the results, 200 in" in reason
    line = f"methods.mm.sampler.draws: 100 in the results, 200 in {changed.file}"
    assert found.changed == (line,)


def test_another_seed_scenario_or_name_is_refused(tmp_path: Path, results: Path) -> None:
    seed = compare(study(tmp_path / "seed", ("seed: 1", "seed: 2")), results)
    assert len(seed.refused) == 2  # once per method
    assert "another study seed" in seed.refused[0]
    scenario = compare(study(tmp_path / "scenario", ("groups: 30", "groups: 31")), results)
    assert (scenario.batches, scenario.belongs) == (0, False)
    assert "4 batches of scenario s" in scenario.refused[0]
    name = compare(study(tmp_path / "name", ("name: mm", "name: other")), results)
    assert name.batches == 2
    assert "2 batches of method mm" in name.refused[0]


def test_a_truncated_batch_is_named(tmp_path: Path, results: Path) -> None:
    broken = sorted(results.glob("estimates/*/mm/*.parquet"))[0]
    broken.write_bytes(broken.read_bytes()[:100])
    found = compare(study(tmp_path / "same"), results)
    assert (found.belongs, found.batches) == (False, 3)
    assert str(broken) in found.refused[0]


def test_the_command_says_it_by_words_and_exit_code(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = study(tmp_path / "same").file
    assert main(["study", "check", str(same), "--against", str(results)]) == 0
    assert "match" in capsys.readouterr().out
    other = study(tmp_path / "other", ("seed: 1", "seed: 2")).file
    assert main(["study", "check", str(other), "--against", str(results)]) == 1
    said = capsys.readouterr().out
    assert "do NOT match" in said
    assert f"seed: 1 in the results, 2 in {other}" in said
    assert main(["study", "check", str(same), "--against", str(tmp_path / "none")]) == 2
    assert "has no results" in capsys.readouterr().err


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has no results"):
        compare(study(tmp_path), tmp_path)
