"""How a study is described in its report: truth, methods, and the settings as they were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from rmm.errors import counted
from rmm.study.methods.method import CLASSICAL, REML, Method
from rmm.study.methods.own_methods import own_settings
from rmm.study.planning.mechanism import look, number, span
from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import StudyResults

#: Kind of method -> its description.
DESCRIPTIONS = {
    "aggregation": "one row per group, member covariates summarised",
    "disaggregation": "one row per membership, the group’s outcome copied",
    "adjusted_means": "one row per group, Croon and van Veldhoven’s adjusted means",
    "mm": "multiple membership, weights given",
    "mmmm": "multiple membership, weights estimated",
    "python": "a Python function of the study's author",
    "rscript": "an R script of the study's author",
    "external": "estimates of another program",
    "choice": "candidates, the largest leave-one-out elpd is chosen",
    "average": "candidates combined by stacking, evidence or selection",
}


def method_rows(results: StudyResults) -> list[dict[str, str]]:
    """One row per method: name, what it is, formula, backend and its settings."""
    return [
        {
            "name": method.name,
            "kind": method.kind.name,
            "what": DESCRIPTIONS[method.kind.name] + _confirms(method),
            "formula": results.study.formula_of(method),
            "backend": method.backend,
            "settings": _settings(method) + _varied_keys(results, method),
        }
        for method in results.study.methods
    ]


def _varied_keys(results: StudyResults, method: Method) -> str:
    """Keys that factors change; the settings are those under `methods`."""
    keys = results.study.varied_keys(method.name)
    return f"; factors change {', '.join(keys)}" if keys else ""


def _confirms(method: Method) -> str:
    """What a method confirms, and on how many data sets of a scenario."""
    other, number = method.config.get("confirms"), method.replications
    if other is None:
        return ""
    if number is None:
        return f"; confirms {other} by another engine"
    first = counted(number, "data set")
    return f"; confirms {other} by another engine on the first {first} of each scenario"


def _settings(method: Method) -> str:
    """What matters for the kind of backend: standard errors, or the sampler."""
    config = method.config
    if method.kind.own:
        return own_settings(method)
    scaled = "; coefficients of members × mean size of groups" * ("rescale" in config)
    if method.backend == REML:
        return f"{config['tests']} tests"
    if method.backend in CLASSICAL:
        clusters = ", ".join(config.get("cluster") or [])
        errors = f"{config['errors'].replace('_', ' ')} errors"
        return errors + f", clusters: {clusters}" * bool(clusters) + scaled
    settings = ", ".join(f"{k} {compact(v)}" for k, v in method.sampler_settings.items())
    sized = "; pilot fits determine chain lengths, see “Convergence and time”"
    other = f"; fallback: {method.fallback.backend}" if method.fallback else ""
    by = f"; by {config['by']}" if method.kind.name == "average" else ""
    return settings + sized * ("ess" in config["sampler"]) + by + other + scaled


def truth_rows(results: StudyResults) -> list[tuple[str, str]]:
    """True parameter values; priors they are drawn from; what a factor sets is said to vary."""
    varied = _varied(results)
    return [
        (str(name), "varies, see the factors" if str(name) in varied else _true_value(value))
        for name, value in results.study.config["truth"]["parameters"].items()
    ]


def _true_value(value: Any) -> str:
    return f"drawn from {value['prior']}" if isinstance(value, Mapping) else compact(value)


def _varied(results: StudyResults) -> set[str]:
    """Parameters of the truth that a factor sets."""
    paths: list[str] = []
    for factor in results.study.config["vary"].values():
        paths.append(str(factor.get("path", "")))
        paths += [str(p) for level in factor.get("levels", {}).values() for p in level]
    start = "truth.parameters."
    return {path.removeprefix(start) for path in paths if path.startswith(start)}


def factor_rows(results: StudyResults) -> list[dict[str, str]]:
    """One row per factor: its name, what it sets in the study file, its levels."""
    rows = []
    for factor in results.factors:
        settings = results.study.config["vary"][factor.removeprefix("factor.")]
        path = str(settings.get("path") or "several keys")
        levels = ", ".join(map(compact, results.filters.levels[factor]))
        rows.append({"name": readable(factor), "path": path, "levels": levels})
    return rows


def scenario_rows(results: StudyResults) -> list[dict[str, Any]]:
    """One row per scenario: its id and its levels."""
    return [
        {
            "id": str(row["scenario"]),
            "levels": [compact(row[f]) for f in results.factors],
        }
        for row in results.scenarios.to_dict("records")
    ]


#: Scenarios beyond which a report does not simulate data to describe them, and data sets of each.
_FEW_SCENARIOS, _DRAWS = 100, 10


def realised(results: StudyResults) -> dict[str, Any] | None:
    """What simulated data are like beside what the file asks for; None of many scenarios, and of
    data that a function of the author draws.
    """
    study = results.study
    if "data" in study.config or len(study.scenarios) > _FEW_SCENARIOS:
        return None
    found = look(study, _DRAWS)
    return {
        "draws": _DRAWS,
        "rows": [
            (what, span(f.target for f in facts), span(f.mean for f in facts))
            for what, facts in found.by_property().items()
        ],
        "off": [
            f"{f.what} in {f.scenario}: {number(f.mean)} instead of {number(f.target or 0)}"
            for f in found.off()
        ],
    }


def blocks(results: StudyResults) -> list[tuple[str, str]]:
    """Parts of the study file that describe the simulated data, as YAML."""
    shown = []
    own = "data" in results.study.config
    for key in ("data", "membership", "covariates", "truth", "vary", "exclude"):
        part: Any = results.study.config.get(key)
        if own and key == "truth":
            continue  # the model of the methods, shown under `data`
        if isinstance(part, Mapping | list) and part:
            text = yaml.safe_dump(part, sort_keys=False, allow_unicode=True, width=96)
            shown.append((key, text))
    return shown
