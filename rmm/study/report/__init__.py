"""The report of a study: one self-contained HTML page, its figures and its tables as files."""

from __future__ import annotations

import shutil
from pathlib import Path

from rmm.errors import StudyError
from rmm.posterior.plots.style import looks_of
from rmm.study.design.study import Study
from rmm.study.report.data.results import Results, read_results
from rmm.study.report.figures.chart import save
from rmm.study.report.figures.registry import charts
from rmm.study.report.page.page import render
from rmm.study.report.tables.agreement_table import confirmation_table
from rmm.study.report.tables.bounds_table import bounds_table
from rmm.study.report.tables.measure_tables import calibration_table, measure_tables
from rmm.study.report.tables.pilot_table import pilot_table
from rmm.study.report.tables.table_files import performance_csv, write_table

_OURS = '<meta name="generator" content="rmm">'

__all__ = ["Results", "read_results", "write_report"]


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
        Of `index.html`. Beside it: `figures/*.svg`, `figures/*.pdf`, `tables/*.csv`,
        `tables/*.tex`. The same results give the same bytes.

    Raises
    ------
    StudyError
        Where a file of the results is missing, the results are those of another version of the
        study, or `out` has folders `figures` or `tables` that are no report's.
    """
    folder = Path(folder)
    results = read_results(study, folder)
    target = Path(out) if out is not None else folder / "report"
    if out is not None:
        _check_ours(target)
    figures, tables = _empty(target / "figures"), _empty(target / "tables")
    looks = looks_of(results.methods)
    drawn = [save(chart, looks, figures) for chart in charts(results)]
    made = [
        *calibration_table(results),
        *measure_tables(results),
        *bounds_table(results),
        *confirmation_table(results),
        *pilot_table(results),
    ]
    for table in made:
        write_table(table, tables)
    (tables / "performance.csv").write_text(performance_csv(results), encoding="utf-8")
    index = target / "index.html"
    partial = index.with_suffix(".partial")
    partial.write_text(render(results, drawn, made, looks), encoding="utf-8")
    partial.replace(index)
    return index


def _check_ours(target: Path) -> None:
    """Folders that are emptied must be those of a report."""
    index = target / "index.html"
    if index.is_file() and _OURS in index.read_text(encoding="utf-8", errors="replace"):
        return
    for name in ("figures", "tables"):
        if (target / name).exists():
            raise StudyError(
                f"{target} contains a folder `{name}` that was not written by rmm, and a report "
                "would replace it. Give another folder."
            )


def _empty(folder: Path) -> Path:
    """An empty folder: figures and tables of an older report must not stay behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
