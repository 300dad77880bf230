"""Results and reports that are links: what runs, and that nothing of a user's is deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rmm.errors import StudyError
from rmm.study.files.report_folder import MARK, check_linked, check_ours
from tests.projects import Project

pytest.importorskip("snakemake", reason="the extra `study` is not installed")

FILES = ["index.html", "numbers.html", "figures", "tables"]


def linked(folder: Path, target: Path) -> Path:
    """Results whose report is a link."""
    folder.mkdir()
    (folder / "report").symlink_to(target)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_something_of_the_users_is_refused(tmp_path: Path, name: str) -> None:
    results = linked(tmp_path / "tiny", tmp_path / "paper")
    with pytest.raises(StudyError, match="There is no such folder"):
        check_linked(results)
    (tmp_path / "paper").mkdir()
    check_linked(results)
    mine = tmp_path / "paper" / name
    mine.write_text("mine") if "." in name else mine.mkdir()
    with pytest.raises(StudyError, match=rf"/paper\. .* contains a \w+ `{name}` .* --out FOLDER"):
        check_linked(results)


def test_a_link_that_leads_to_itself_or_to_a_file_is_refused(tmp_path: Path) -> None:
    results = linked(tmp_path / "tiny", Path("report"))
    with pytest.raises(StudyError, match=r"is a link to report\. There is no such folder"):
        check_linked(results)
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="There is no such folder"):
        check_linked(linked(tmp_path / "other", tmp_path / "file"))


def test_any_page_of_a_report_shows_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "headline.txt").touch()
    (tmp_path / "numbers.html").write_text(f"<html>{MARK}</html>")
    check_ours(tmp_path)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(StudyError, match=r"a file `index\.html` that was not written by rmm"):
        check_ours(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.thorough
def test_a_run_replaces_a_linked_report_and_nothing_else(tmp_path: Path) -> None:
    """Results, and those of one study, are links to another disk; so is the report."""
    scratch, page = tmp_path / "scratch", tmp_path / "site"
    for made in (scratch / "study", page):
        made.mkdir(parents=True)
    project = Project(tmp_path / "project", replications=3)
    (project.folder / "results").symlink_to(scratch)
    (scratch / "tiny").symlink_to(scratch / "study")
    (page / "thesis.tex").write_text("mine")
    (scratch / "study" / "report").symlink_to(page)
    project.run()
    first = content(page)
    assert {"index.html", "numbers.html", "headline.txt", "thesis.tex"} <= set(first)

    # Again, also after a job that wrote one page before it was killed.
    (page / "index.html").unlink()
    project.run("--forcerun", "report")
    again = content(page)
    assert again["thesis.tex"] == b"mine"
    assert set(again) == set(first)

    # A folder of the user's: no file is deleted, and the message says what to do.
    mine = tmp_path / "paper"
    for name in ("figures/plot.pdf", "tables/table.csv", "index.html"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("mine")
    (scratch / "study" / "report").unlink()
    (scratch / "study" / "report").symlink_to(mine)
    said = project.run("--forcerun", "report", fails=True)
    assert f"results/tiny/report is a link to {mine}" in said
    assert "Traceback" not in said
    assert set(content(mine).values()) == {b"mine"} and len(content(mine)) == 3

    # Only the figures are linked: the link goes, what it leads to stays.
    (scratch / "study" / "report").unlink()
    (scratch / "study" / "report").mkdir()
    (scratch / "study" / "report" / "figures").symlink_to(mine / "figures")
    project.run("--forcerun", "report")
    assert (mine / "figures" / "plot.pdf").read_text() == "mine"
    assert not (scratch / "study" / "report" / "figures").is_symlink()

    shutil.rmtree(scratch / "study" / "report")
    (scratch / "study" / "report").symlink_to(tmp_path / "nowhere")
    assert "There is no such folder" in project.run(fails=True)
