"""The page of a report: what the template shows, its style and its only script."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from rmm._version import __version__
from rmm.posterior.plots.style import Look
from rmm.study.design.combinations import COMBINATIONS
from rmm.study.planning.preregistration import stated_aims
from rmm.study.report.data.results import Results, StudyResults
from rmm.study.report.data.table_results import TableResults
from rmm.study.report.figures.chart import Drawn
from rmm.study.report.figures.icons import Icons
from rmm.study.report.front.front import Front
from rmm.study.report.page.sections import LONG, sections
from rmm.study.report.tables.measure_tables import Table
from rmm.study.report.text import design_text as design
from rmm.study.report.text import facts as words
from rmm.study.report.text.lost_fits import lost_fit_findings
from rmm.study.report.text.table_text import outlier_heading, table_facts


def render(
    results: StudyResults,
    drawn: Sequence[Drawn],
    tables: Sequence[Table],
    looks: Mapping[str, Look],
    front: Front,
) -> str:
    """The page as HTML, without a script. All labels are escaped; it needs no other file."""
    known = words.reference_rows(results)
    return _template("page.html.j2").render(
        **_common(results, drawn, tables, looks, scripted=False),
        study=results.study,
        aims=stated_aims(results.study),
        again=again(results),
        title=results.study.config.get("title") or results.study.name,
        front=front,
        lost=lost_fits(results),
        facts=words.run_facts(results),
        fits=words.fit_rows(results),
        cost_note=words.cost_note(results),
        messages=words.messages(results),
        references=known,
        reference_note=words.reference_note(known),
        policy_note=words.policy_note(results),
        methods=design.method_rows(results),
        truth=design.truth_rows(results),
        factors=design.factor_rows(results),
        scenarios=design.scenario_rows(results),
        blocks=design.blocks(results),
        realised=design.realised(results),
        design=COMBINATIONS[results.study.config["design"]["kind"]].words,
    )


def render_table(
    results: TableResults,
    drawn: Sequence[Drawn],
    tables: Sequence[Table],
    looks: Mapping[str, Look],
    command: str,
    front: Front | None,
) -> str:
    """The page of a table of estimates; `command` writes it again."""
    return _template("table_page.html.j2").render(
        **_common(results, drawn, tables, looks, scripted=False),
        title=results.study.name,
        front=front,
        lost=lost_fits(results) if front else [],
        policy_note=words.policy_note(results),
        facts=table_facts(results),
        fits=words.fit_rows(results),
        notes=results.table.notes,
        outliers=results.scored.outliers,
        outlier_heading=outlier_heading(results),
        command=command,
        version=__version__,
    )


def render_numbers(
    results: Results,
    drawn: Sequence[Drawn],
    tables: Sequence[Table],
    looks: Mapping[str, Look],
    front: Front | None,
) -> str:
    """The page beside it with the figures and tables of every measure, and a filter of them."""
    config = getattr(results.study, "config", {})
    return _template("numbers.html.j2").render(
        **_common(results, drawn, tables, looks),
        title=config.get("title") or results.study.name,
        front=front,
    )


def lost_fits(results: Results) -> list[tuple[str, str]]:
    """Sentences on methods whose lost fits decide a verdict, of all estimands."""
    estimands = results.study.estimands
    return [said for estimand in estimands for said in lost_fit_findings(results, estimand)]


def render_figure(results: Results, drawn: Drawn, looks: Mapping[str, Look]) -> str:
    """A page with one figure."""
    return _template("figure_page.html.j2").render(
        **_common(results, [drawn], [], looks, files_beside=False), title=drawn.chart.title
    )


def again(results: StudyResults) -> list[str]:
    """Commands that run the study again, and one of its fits."""
    study = results.study
    commands = [study.run_command]
    if not study.is_smoke:  # replications of the small size are those of the full one
        where = f"--scenario {study.scenarios[0].id} --replication 1 --method {results.methods[0]}"
        file = shlex.quote(study.written_file)
        commands.append(f"rmm study replay {file} {where} --out replayed")
    return commands


def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("rmm.study.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _common(
    results: Results,
    drawn: Sequence[Drawn],
    tables: Sequence[Table],
    looks: Mapping[str, Look],
    *,
    files_beside: bool = True,
    scripted: bool = True,
) -> dict[str, Any]:
    """What all pages show: style, figures and tables; with a script, its filters."""
    script = _text("filter.js") if scripted else ""
    return {
        "results": results,
        "css": _text("page.css") + (results.filters.css if scripted else "") + "\n",
        "script": script,
        "policy": _policy(script),
        "icons": Icons(looks),
        "groups": results.filters.groups,
        "figures": drawn,
        "sections": sections(drawn, tables),
        "long": LONG,
        "files": files_beside,
    }


def _text(name: str) -> str:
    return (files("rmm.study.report.page") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Content Security Policy: at most this script, styles in the page, nothing from anywhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}'; " if script else ""
    return (
        f"default-src 'none'; {scripts}style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'"
    )
