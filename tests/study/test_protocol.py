"""The protocol of a study, against the study file it is written from."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import pytest
import yaml

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import load_study
from rmm.study.files.parquet import STATUSES
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.score_cells import POLICIES
from rmm.study.planning.preregistration import QUESTIONS, protocol
from tests import ROOT
from tests.kills import load as load_kills
from tests.kills import whole

QUICKSTART = ROOT / "config/studies/quickstart.yaml"


@pytest.fixture(scope="module")
def text() -> str:
    return protocol(load_study(QUICKSTART))


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def cells(text: str) -> list[list[str]]:
    """Rows of the first table of a section, without its heads."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def test_parts_stand_in_the_order_of_ademp(text: str) -> None:
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == [
        "Aims",
        "Data-generating mechanisms",
        "Estimands",
        "Methods",
        "Performance measures",
        "Replications and Monte Carlo errors",
        "Seeds and scenarios",
        "What counts as converged",
        "Failures",
        "Known values and criteria",
        "Before the study",
        "Versions",
    ]


def test_it_names_the_file_by_its_content(text: str) -> None:
    assert hashlib.sha256(QUICKSTART.read_bytes()).hexdigest() in text


def test_same_file_same_text(text: str) -> None:
    assert protocol(load_study(QUICKSTART)) == text


def test_every_scenario_method_and_seed_is_named(text: str) -> None:
    study = load_study(QUICKSTART)
    rows = cells(section(text, "Seeds and scenarios"))
    assert [row[0].strip("`") for row in rows] == [s.id for s in study.scenarios]
    assert str(study.seed) in section(text, "Seeds and scenarios")
    rows = cells(section(text, "Methods"))
    assert [row[-1].strip("`") for row in rows] == [m.id for m in study.methods]
    for row, method in zip(rows, study.methods, strict=True):
        assert row[2].strip("`") == method.formula(study.scenarios[0].recipe)


def test_expected_errors_are_those_of_proportions(text: str) -> None:
    said = yaml.safe_load(QUICKSTART.read_text())
    rows = cells(section(text, "Replications and Monte Carlo errors"))
    for row, method in zip(rows, said["methods"], strict=True):
        n = method.get("replications", said["replications"])
        assert int(row[1].replace(",", "")) == n
        assert float(row[2]) == pytest.approx(math.sqrt(0.05 * 0.95 / n), abs=5e-5)
        assert float(row[3]) == pytest.approx(0.5 / math.sqrt(n), abs=5e-5)


def test_convergence_says_each_gate(text: str) -> None:
    said = section(text, "What counts as converged")
    for method in yaml.safe_load(QUICKSTART.read_text())["methods"]:
        (line,) = [x for x in said.splitlines() if x.startswith(f"* `{method['name']}`:")]
        if method.get("backend") == "ols":
            assert "no sampler" in line
            continue
        if method["backend"] == "laplace":  # the defaults of the gate
            assert "importance weights is at least 200, their Pareto k at most min(1 - " in line
            assert "R-hat" not in line
            continue
        wanted = method["gate"]["ess_per_chain"] * method["sampler"]["chains"]
        assert f"at most {method['gate']['rhat']:g} " in line
        assert f"at least {wanted};" in line
        assert f"at most {method['gate'].get('divergences', 0)} divergent" in line


def test_failures_name_every_status_and_both_policies(text: str) -> None:
    said = section(text, "Failures")
    assert all(f"`{name}`" in said for name in (*STATUSES, *POLICIES))


def test_every_measure_has_its_formula(text: str) -> None:
    rows = cells(section(text, "Performance measures"))
    assert [row[0].strip("`") for row in rows] == list(MEASURES)
    assert all(len(row) == 4 and all(row) for row in rows)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "config/studies").glob("*.yaml")), ids=lambda f: f.stem
)
def test_shipped_studies_have_protocols(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["study", "preregister", str(file)])
    captured = capsys.readouterr()
    if code == 2 and "shared/data" in captured.err:
        pytest.skip("the study's data are not beside the project")
    assert code == 0
    assert captured.out.count("\n## ") == 12


def test_a_file_that_does_not_check_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(QUICKSTART.read_text().replace("replications: 1000", "replications: none"))
    out = tmp_path / "protocol.md"
    assert main(["study", "preregister", str(bad), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "replications" in said and "found:   'none'" in said
    assert not out.exists()


def test_it_is_written_to_a_file_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "preregister", str(QUICKSTART), "--out", "kept/protocol.md"]) == 0
    assert Path("kept/protocol.md").read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_names_of_the_file_are_text(tmp_path: Path) -> None:
    said = yaml.safe_load(QUICKSTART.read_text())
    said["title"] = "<script>alert(1)</script> | *x*"
    said["aims"] = "# no heading\n<img src=x>"
    said["vary"] = {"a|b`c": said["vary"]["overlap"]}
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump({**said, "report": {}}))
    text = protocol(load_study(file, root=ROOT))
    assert "<script>" not in text and "<img" not in text
    assert "\\# no heading" in text
    rows = cells(section(text, "Data-generating mechanisms").partition("Factors;")[2])
    assert rows == [["a\\|b\\`c", "`membership.overlap`", "0.4, 0.7, 1.0"]]


@pytest.mark.parametrize(
    ("aims", "said"),
    [
        (None, "is missing"),
        (" ... ", r"is '\.\.\.': a text that is still to be written"),
        ("TODO", "is 'TODO'"),
        ("The research question of this study, in one or two\n sentences.", "is 'The research"),
    ],
)
def test_a_protocol_needs_a_research_question(tmp_path: Path, aims: str | None, said: str) -> None:
    study = load_kills(tmp_path, **({} if aims is None else {"aims": aims}))
    with pytest.raises(StudyError, match=rf"(?s)aims.*research question {said}"):
        protocol(study)


def test_a_new_file_has_the_aims_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    assert main(["study", "new", str(file), "--groups", "60", "--members", "20"]) == 0
    with pytest.raises(StudyError, match="still to be written"):
        protocol(load_study(file))


def test_answers_stand_in_the_protocol_and_missing_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"expected": "<b>Least squares</b> rejects too often.", "pilot": " "}
    study = load_kills(tmp_path, aims="Does it reject?", preregistration=given)
    said = section(protocol(study), "Before the study")
    assert r"&lt;b&gt;Least squares&lt;/b&gt; rejects too often." in said
    assert "What was run before: not stated (key `preregistration.pilot`)." in said
    assert len(said.strip().splitlines()) == len(QUESTIONS)
    found = ["study", "preregister", str(study.file), "--results", str(tmp_path)]
    assert main(found) == 0
    out, err = capsys.readouterr()
    assert "when its results folder had no fits" in out
    assert "preregistration.rationale" in err and "preregistration.expected" not in err
    whole(study, tmp_path / study.name)
    assert main(found) == 0
    out, err = capsys.readouterr()
    assert "when 12 of its fits had been run: not in advance" in out
    assert "This study has results already: 12 fits." in err
