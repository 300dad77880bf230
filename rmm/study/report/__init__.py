"""The report of a study: one self-contained HTML page, its figures and its tables as files."""

from __future__ import annotations

import shutil
from pathlib import Path

from rmm.errors import StudyError, unknown_name
from rmm.posterior.plots.style import looks_of
from rmm.study.design.study import Study
from rmm.study.files.disks import writing
from rmm.study.files.parquet import write_text
from rmm.study.files.report_folder import HEADLINE, NAME, check_linked, check_ours
from rmm.study.report.data.results import Results, read_results
from rmm.study.report.data.table_results import TableResults
from rmm.study.report.figures.chart import FORMATS, draw_panels, save, save_whole
from rmm.study.report.figures.registry import charts, table_charts
from rmm.study.report.front.front import front
from rmm.study.report.front.headline import headline
from rmm.study.report.page.page import render, render_figure, render_numbers, render_table
from rmm.study.report.tables.agreement_table import confirmation_table
from rmm.study.report.tables.bounds_table import bounds_table
from rmm.study.report.tables.explained_table import explained_table
from rmm.study.report.tables.joint_outcome_table import joint_outcome_table
from rmm.study.report.tables.measure_tables import (
    GROUPS,
    ROBUST,
    Table,
    calibration_table,
    measure_tables,
)
from rmm.study.report.tables.pilot_table import pilot_table
from rmm.study.report.tables.table_files import performance_csv, write_table
from rmm.study.report.text.table_text import has_truths

__all__ = [
    "Results",
    "read_results",
    "write_report",
    "write_table_figure",
    "write_table_report",
]


def write_report(study: Study, folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a finished study.

    Parameters
    ----------
    study : Study
        As `load_study` gives it.
    folder : path
        Its results, `results/NAME`: `estimates.parquet` and `performance.parquet`.
    out : path, optional
        Where to write; `folder/report` if not given. An older report there is replaced.

    Returns
    -------
    Path
        Of `index.html`. Beside it: `numbers.html`, `headline.txt`, `figures/*.svg`,
        `figures/*.pdf`, `tables/*.csv`, `tables/*.tex`. The same results give the same bytes.

    Raises
    ------
    StudyError
        Where a file of the results is missing, the results are those of another version of the
        study, `out` has folders `figures` or `tables` that are no report's, `folder/report` is a
        link to something else than a report or an empty folder, or it cannot be written.
    """
    folder = Path(folder)
    results = read_results(study, folder)
    target = Path(out) if out is not None else folder / NAME
    if out is None:
        check_linked(folder)
    else:
        check_ours(target)
    with writing(target):
        figures, tables = _empty(target / "figures"), _empty(target / "tables")
        looks = looks_of(results.methods)
        drawn = [save(chart, looks, figures) for chart in charts(results)]
        made = [
            *calibration_table(results),
            *measure_tables(results),
            *joint_outcome_table(results),
            *explained_table(results),
            *bounds_table(results),
            *confirmation_table(results),
            *pilot_table(results),
        ]
        _write_tables(results, made, tables)
        opening = front(results, figures)
        page = render(results, opening.in_order(drawn), made, looks, opening)
        write_text(headline(opening), target / HEADLINE)
        numbers = render_numbers(results, opening.in_order(drawn), made, looks, opening)
        _write_page(numbers, target / "numbers.html")
        return _write_page(page, target / "index.html")


def write_table_report(results: TableResults, out: str | Path, command: str) -> Path:
    """Write the report of a table of estimates; files as of `write_report`.

    Parameters
    ----------
    results : TableResults
        As `table_results` gives it.
    out : path
        A folder. An older report there is replaced.
    command : str
        The command that writes the report, for the page.

    Raises
    ------
    StudyError
        If `out` has folders `figures` or `tables` that are no report's.
    """
    target = Path(out)
    check_ours(target)
    with writing(target):
        figures, tables = _empty(target / "figures"), _empty(target / "tables")
        looks = looks_of(results.methods)
        drawn = [save(chart, looks, figures) for chart in table_charts(results)]
        made = measure_tables(results, groups=(*GROUPS, *ROBUST))
        made += joint_outcome_table(results)
        made += explained_table(results)
        _write_tables(results, made, tables)
        opening = front(results, figures) if has_truths(results) else None
        shown = drawn if opening is None else opening.in_order(drawn)
        page = render_table(results, shown, made, looks, command, opening)
        numbers = render_numbers(results, shown, made, looks, opening)
        _write_page(numbers, target / "numbers.html")
        return _write_page(page, target / "index.html")


def write_table_figure(results: TableResults, name: str, out: str | Path) -> Path:
    """Write one figure of a table of estimates.

    Parameters
    ----------
    results : TableResults
    name : str
        Of the figure, as `rmm.study.report.figures.registry.table_charts` names it.
    out : path
        Ends in .html, .svg, .pdf or .png.

    Raises
    ------
    StudyError
        If the table has no such figure, or `out` another ending.
    """
    path, looks = Path(out), looks_of(results.methods)
    if path.suffix not in (".html", *FORMATS):
        raise StudyError(
            f"The file of a figure must end in .html, {', '.join(FORMATS)}, not {str(out)!r}."
        )
    found = {chart.name: chart for chart in table_charts(results)}
    if name not in found:
        raise StudyError(unknown_name(name, "a figure of this table", found))
    with writing(path):
        if path.suffix == ".html":
            page = render_figure(results, draw_panels(found[name], looks), looks)
            return _write_page(page, path)
        save_whole(found[name], looks, path)
        return path


def _write_tables(results: Results, made: list[Table], folder: Path) -> None:
    for table in made:
        write_table(table, folder)
    (folder / "performance.csv").write_text(performance_csv(results), encoding="utf-8")


def _write_page(text: str, path: Path) -> Path:
    write_text(text, path)
    return path


def _empty(folder: Path) -> Path:
    """An empty folder: figures and tables of an older report must not stay behind."""
    if folder.is_symlink():  # what it leads to stays as it is
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
