"""A study's estimates -> ``performance.parquet``, with closed forms and published values beside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rmm.study.design.closed_forms import CLOSED_FORMS
from rmm.study.design.known_values import holds
from rmm.study.design.scale_notes import other_scales
from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.files import seeds
from rmm.study.files.estimates import EstimatesFile
from rmm.study.files.parquet import performance_table, write_parquet
from rmm.study.measures.score_cells import having_of, score_estimates
from rmm.study.run.replicate import draw_replication

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["scenario", "method", "parameter", "measure"]


def write_performance(study: Study, estimates: str | Path, out: str | Path) -> pd.DataFrame:
    """Score the collected estimates of a study and write the table of `results.PERFORMANCE`.

    Scenarios are read and scored in portions, with those that size-adjusted power compares them
    with.

    Parameters
    ----------
    study : Study
    estimates : path
        What `collect` wrote.
    out : path
        The Parquet file to be written.

    Returns
    -------
    pandas.DataFrame
        One row per scenario, method, parameter, measure and policy.
    """
    file = EstimatesFile(Path(estimates))
    having, null = having_of(file.pairs()), null_scenarios(study)
    parts = []
    for scenarios in file.portions():
        here = set(scenarios)
        beside = {there for (scenario, _), there in null.items() if scenario in here}
        table = file.rows(here | beside).to_pandas()
        parts.append(_scored(study, table, null, having, scenarios))
    if not parts:
        parts = [_scored(study, file.rows(()).to_pandas(), null)]  # says that there are no rows
    frame = pd.concat(parts, ignore_index=True)
    # As of one table: first what is about parameters, then what is about fits.
    frame = frame.sort_values("parameter", key=lambda p: p == "", kind="stable", ignore_index=True)
    frame = _with_references(study, frame)
    write_parquet(performance_table(frame), Path(out))
    return frame


def score(study: Study, estimates: pd.DataFrame) -> pd.DataFrame:
    """Performance of a study's estimates, with the columns `reference` and `reference_source`."""
    return _with_references(study, _scored(study, estimates, null_scenarios(study)))


def _scored(
    study: Study,
    estimates: pd.DataFrame,
    null: Mapping[tuple[str, str], str],
    having: Collection[tuple[str, str]] | None = None,
    scenarios: Collection[str] | None = None,
) -> pd.DataFrame:
    return score_estimates(
        estimates.assign(truth=current_truth(study, estimates)),
        alpha={e.parameter: e.alpha for e in study.estimands},
        measures=study.measures,
        parameters=[e.parameter for e in study.estimands],
        baseline={e.parameter: study.baseline_of(e.parameter) for e in study.estimands},
        null_scenarios=null,
        untested=[e.parameter for e in study.estimands if not e.tested],
        having=having,
        scenarios=scenarios,
        other_scales=other_scales(study),
    )


def _with_references(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    found = references(study)
    keys = list(zip(*(frame[k] for k in _KEYS), strict=True))
    values = [_lookup(found, key, alpha) for key, alpha in zip(keys, frame["alpha"], strict=True)]
    frame["reference"] = [v[0] for v in values]
    frame["reference_source"] = [v[1] for v in values]
    return frame


def current_truth(study: Study, estimates: pd.DataFrame) -> list[float]:
    """Truth of each row by the study file as it is now; the row's own where it was drawn.

    `truth` in the table says what it was at the fit, so that estimands can be changed without
    fitting again; a truth that each data set draws from a prior, or a ready estimand's, is known
    there alone.
    """
    there = set(estimates["scenario"].unique())
    scenarios = [scenario for scenario in study.scenarios if scenario.id in there]
    known = {s.id: study.truth_of(s) for s in scenarios}
    drawn = {s.id: s.truth_varies for s in scenarios}
    columns = (estimates[c] for c in ("scenario", "parameter", "truth"))
    return [
        known[scenario].get(name, own if drawn[scenario] or name in study.ready else float("nan"))
        for scenario, name, own in zip(*columns, strict=True)
    ]


_Found = dict[tuple[str, str, str, str], list[tuple[float | None, float, str]]]


def _lookup(found: _Found, key: Any, alpha: float) -> tuple[float, str | None]:
    for level, value, source in found.get(key, []):
        if level is None or level == alpha:
            return value, source
    return float("nan"), None


def references(study: Study) -> _Found:
    """Known values: (scenario, method, parameter, measure) -> (alpha or None, value, source)."""
    out: _Found = {}
    for one in study.reference:
        for scenario in study.scenarios:
            for measure, alpha, value, source in _values(study, one, scenario):
                key = (scenario.id, one["method"], one["parameter"], measure)
                out.setdefault(key, []).append((alpha, value, source))
    return out


def _values(
    study: Study, one: Any, scenario: Scenario
) -> list[tuple[str, float | None, float, str]]:
    if one.get("closed_form") is None:
        return [
            (one["measure"], None, float(v["value"]), one.get("source", "published"))
            for v in one["values"]
            if all(scenario.factors[f] == level for f, level in v["where"].items())
        ]
    if not holds(one, scenario) or one["method"] in scenario.settings:
        return []
    form = CLOSED_FORMS[one["closed_form"]]
    alphas = [a for e in study.estimands if e.parameter == one["parameter"] for a in e.alpha]
    drawn = draw_replication(study.seed, scenario, 1)
    return [
        (
            form.measure,
            a if form.measure == "rejection" else None,
            form.value(scenario.content, drawn, one["parameter"], a),
            form.source,
        )
        for a in alphas
    ]


def null_scenarios(study: Study) -> dict[tuple[str, str], str]:
    """(scenario, parameter) -> the scenario that differs in this parameter alone, at its null.

    A scenario where the null hypothesis holds has none: it has no power.
    """
    out: dict[tuple[str, str], str] = {}
    for estimand in study.estimands:
        name = estimand.parameter
        at_null: dict[str, str] = {}
        rest: dict[str, str] = {}
        for scenario in study.scenarios:
            if name in scenario.content["truth"]["parameters"]:
                settings = {m: one.changes for m, one in scenario.settings.items()}
                rest[scenario.id] = seeds.digest([_without(scenario.content, name), settings])
                if scenario.content["truth"]["parameters"][name] == estimand.null:
                    at_null[rest[scenario.id]] = scenario.id
        for scenario_id, key in rest.items():
            if at_null.get(key, scenario_id) != scenario_id:
                out[scenario_id, name] = at_null[key]
    return out


def _without(content: Any, parameter: str) -> dict[str, Any]:
    truth = dict(content["truth"])
    truth["parameters"] = {k: v for k, v in truth["parameters"].items() if k != parameter}
    return {**content, "truth": truth}
