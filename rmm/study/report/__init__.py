"""The report of a study: one self-contained HTML page, its figures and its tables as files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rmm.study.report.charts import save
from rmm.study.report.figures import charts, readable
from rmm.study.report.numbers import compact
from rmm.study.report.results import Results, read_results
from rmm.study.report.tables import measure_tables, performance_csv, write_table
from rmm.style import looks_of

__all__ = ["Results", "read_results", "write_report"]


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a finished study.

    Parameters
    ----------
    folder : path
        The results folder, `results/NAME`: `config.yaml`, `scenarios.parquet`,
        `estimates.parquet`, `performance.parquet`.
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
        Where a file of the results is missing.
    """
    folder = Path(folder)
    results = read_results(folder)
    target = Path(out) if out is not None else folder / "report"
    figures, tables = _empty(target / "figures"), _empty(target / "tables")
    looks = looks_of(results.methods)
    drawn = [(chart, save(chart, looks, figures)) for chart in charts(results)]
    made = measure_tables(results)
    for table in made:
        write_table(table, tables)
    (tables / "performance.csv").write_text(performance_csv(results), encoding="utf-8")
    index = target / "index.html"
    partial = index.with_suffix(".partial")
    partial.write_text(_render(results, drawn, made), encoding="utf-8")
    partial.replace(index)
    return index


def _empty(folder: Path) -> Path:
    """An empty folder: figures and tables of an older report must not stay behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _render(results: Results, drawn: list[Any], tables: list[Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from rmm.study.report import design, words

    environment = Environment(
        loader=PackageLoader("rmm.study.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        results=results,
        config=results.config,
        title=results.config.get("title") or results.name,
        findings=words.findings(results),
        facts=words.run_facts(results),
        fits=words.fit_rows(results),
        messages=words.messages(results),
        references=words.reference_rows(results),
        policy_note=words.policy_note(results),
        methods=design.method_rows(results),
        truth=design.truth_rows(results),
        blocks=design.blocks(results),
        factors=[
            (readable(f), [compact(v) for v in dict.fromkeys(results.scenarios[f].tolist())])
            for f in results.factors
        ],
        figures=drawn,
        tables=tables,
    )
