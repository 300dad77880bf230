"""The folder of a report: whether what is in it may be replaced."""

from __future__ import annotations

import os
from pathlib import Path

from rmm.errors import StudyError

#: Where a report is, in the results of its study.
NAME = "report"
HEADLINE = "headline.txt"
#: What a page of ours has in its head.
MARK = '<meta name="generator" content="rmm">'
_PAGES = ("index.html", "numbers.html")
#: What a report replaces; the headline and the folders have no mark, and go with the pages.
_REPLACED = ("figures", "tables", *_PAGES, HEADLINE)


def check_ours(target: Path) -> None:
    """Folders that are emptied, and pages that are replaced, must be those of a report.

    An empty folder, or one with other files alone, is taken as well.

    Raises
    ------
    StudyError
        If a report in this folder would replace something else.
    """
    found = _not_ours(target)
    if found:
        raise StudyError(
            f"{target} contains {found} that was not written by rmm, and a report would replace "
            "it. Give another folder."
        )


def check_linked(folder: Path) -> None:
    """A `report` that is a link must lead to a report of ours, or to an empty folder.

    Snakemake removes the outputs of a job before it starts, also behind links: this is asked
    before the first job. What `report/figures` and the like link to, it leaves alone.

    Parameters
    ----------
    folder : Path
        Results of a study, `results/NAME`.

    Raises
    ------
    StudyError
        If what `report` leads to is no folder, or has files of the user's that would be replaced.
    """
    report = folder / NAME
    if not report.is_symlink():
        return
    found = _not_ours(report) if report.is_dir() else ""
    if found or not report.is_dir():
        why = "There is no such folder"
        if found:
            why = f"That folder contains {found} that was not written by rmm"
        raise StudyError(
            f"{report} is a link to {os.readlink(report)}. {why}, and the run would write its "
            f"report there. Remove the link {report} and run the study again; `rmm study report "
            "FILE --out FOLDER` writes a report to another folder."
        )


def _not_ours(target: Path) -> str:
    """What a report would replace that is none of ours, in words; "" if there is nothing."""
    ours = {name for name in _PAGES if _has_mark(target / name)}
    if ours:
        ours |= set(_REPLACED) - set(_PAGES)
    for name in _REPLACED:
        if name not in ours and (target / name).exists():
            return f"a {'file' if '.' in name else 'folder'} `{name}`"
    return ""


def _has_mark(page: Path) -> bool:
    try:
        return MARK in page.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it is not there, or a folder, or somebody else's
        return False
