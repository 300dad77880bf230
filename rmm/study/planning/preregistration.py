"""A preregistration document from a study file: ADEMP, in Markdown, before anything runs.

The text is in ``protocol.md.j2``; here are the rows of its tables.

Order and questions: Morris, White & Crowther (2019), Statistics in Medicine 38:2074-2102; Siepe et
al. (2024), Psychological Methods, for what a protocol of a simulation study should fix.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rmm._version import __version__
from rmm.backends import find_backend
from rmm.backends.convergence import PARETO_K_LIMIT
from rmm.posterior.diagnostics.summary import INNER_LIMIT
from rmm.study.design.combinations import COMBINATIONS
from rmm.study.design.scenarios import PARTS
from rmm.study.design.study import Study
from rmm.study.files import seeds
from rmm.study.files.environment import running_on
from rmm.study.files.messages import StudyFileErrors
from rmm.study.measures.measures import MEASURES
from rmm.study.methods.method import CLASSICAL, REML, WITHOUT_ENGINE, Method
from rmm.study.methods.own_methods import own_settings

#: Keys of `preregistration`, and what each answers (Siepe and others 2024, ADEMP-PreReg).
QUESTIONS = {
    "rationale": "Why these factors and levels",
    "expected": "Expected results",
    "smallest_difference": "The smallest difference that matters",
    "nonconvergence": "Fits that fail or do not converge",
    "pilot": "What was run before",
    "seen": "Who has seen which data and results",
}
#: Words that stand for a text that is still to be written.
_TO_BE_WRITTEN = re.compile(r"^\W*(todo|tbd|fixme|to be (written|done|decided))\b", re.IGNORECASE)
#: The aims of a new study file (`rmm study new`).
PLACEHOLDER = "The research question of this study, in one or two sentences."


def protocol(study: Study, finished: int = 0) -> str:
    """The document. The same study file and the same versions give the same text.

    Parameters
    ----------
    study : Study
        As `load_study` gives it: checked, with all defaults said.
    finished : int
        Fits of this study that have been run.

    Returns
    -------
    str
        Markdown; names and free text of the file are escaped.

    Raises
    ------
    StudyError
        If the file states no aims, or those of a new file.
    """
    _check_aims(study)
    answers = study.config["preregistration"]
    environment = Environment(
        loader=PackageLoader("rmm.study.planning", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": _text, "code": _code, "digest": seeds.file_digest}
    heads, replications = _replications(study)
    return environment.get_template("protocol.md.j2").render(
        study=study,
        table=_table,
        truths=_truths(study),
        count=_count(study),
        design=COMBINATIONS[study.config["design"]["kind"]].words,
        factors=_factors(study),
        settings=_yaml({part: study.config[part] for part in _parts(study)}),
        data_file=_data_file(study),
        estimands=_estimands(study),
        methods=_methods(study),
        measures=_measures(study),
        replication_heads=heads,
        replications=replications,
        fits=sum(study.fits.values()),
        scenario_heads=("scenario", *map(_cell, study.factors)),
        scenarios=_scenarios(study),
        finished=finished,
        questions=[(QUESTIONS[key], key, answers.get(key)) for key in QUESTIONS],
        gates=[(method.name, _gate(method)) for method in study.methods],
        versions=_versions(study),
    )


def unanswered(study: Study) -> list[str]:
    """Keys below `preregistration` that a study file does not have."""
    found = study.config["preregistration"]
    return [key for key in QUESTIONS if not str(found.get(key, "")).strip()]


def stated_aims(study: Study) -> str:
    """The research question of a study file; empty if it is still to be written."""
    text = (study.config.get("aims") or "").strip()
    aims = " ".join(text.split())
    written = re.sub(r"\W", "", aims) and aims != PLACEHOLDER and not _TO_BE_WRITTEN.match(aims)
    return text if written else ""


def _check_aims(study: Study) -> None:
    aims = " ".join((study.config["aims"] or "").split())
    if stated_aims(study):
        return
    found = f"is {aims!r}: a text that is still to be written" if aims else "is missing"
    raise StudyFileErrors(study.file).about(
        "aims",
        f"The research question {found}.",
        "A protocol fixes the question in advance. State it under `aims`.",
    )


# -- data-generating mechanisms --------------------------------------------------------------


def _parts(study: Study) -> list[str]:
    """Keys that describe the data."""
    return ["data"] if "data" in study.config else [p for p in PARTS if study.config.get(p)]


def _data_file(study: Study) -> str | None:
    """The file that empirical memberships come from: its name is not enough."""
    file = study.config["membership"].get("file")
    return str(file) if file and (study.root / file).is_file() else None


def _count(study: Study) -> str:
    left_out = len(study.config["exclude"])
    count = len(study.scenarios)
    words = f"{count} scenario{'s' * (count != 1)}"
    return words + f" after {left_out} exclusion rule{'s' * (left_out != 1)}" * bool(left_out)


def _truths(study: Study) -> list[tuple[str, str]]:
    """Values over all scenarios; priors where each data set draws its own."""
    rows = []
    for name in dict.fromkeys(n for s in study.scenarios for n in s.recipe.truth.names):
        found: dict[str, None] = {}
        for scenario in study.scenarios:
            truth = scenario.recipe.truth
            if name in truth.priors:
                prior = truth.priors[name]
                found[f"drawn from {prior.family}({', '.join(f'{v:g}' for v in prior.values)})"] = (
                    None
                )
            elif name in truth.parameters:
                found[f"{truth.parameters[name]:g}"] = None
        rows.append((_code(name), ", ".join(found)))
    return rows


def _factors(study: Study) -> list[tuple[str, str, str]]:
    rows = []
    for name, said in study.config["vary"].items():
        levels = list(dict.fromkeys(str(s.factors[name]) for s in study.scenarios))
        path = said.get("path")
        sets = _code(path) if path else _code("; ".join(dict.fromkeys(_paths(said))))
        rows.append((_cell(name), sets, _cell(", ".join(levels))))
    return rows


def _paths(factor: Mapping[str, Any]) -> Iterable[str]:
    return (str(path) for level in factor["levels"].values() for path in level)


# -- estimands, methods, measures ------------------------------------------------------------


def _estimands(study: Study) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for estimand in study.estimands:
        values = (study.truth_of(s).get(estimand.parameter) for s in study.scenarios)
        true = _span([value for value in values if value is not None])
        levels = ", ".join(f"{alpha:g}" for alpha in estimand.alpha)
        rows.append(
            (
                _code(estimand.parameter),
                f"{estimand.null:g}",
                levels,
                true or "drawn for each data set",
            )
        )
    return rows


def _methods(study: Study) -> list[tuple[str, ...]]:
    return [
        (
            _cell(method.name),
            _code(method.kind.name),
            _code(study.formula_of(method)),
            _code(method.backend),
            _cell(_settings(method) + _varied_keys(study, method)),
            f"`{method.id}`",
        )
        for method in study.methods
    ]


def _varied_keys(study: Study, method: Method) -> str:
    keys = study.varied_keys(method.name)
    return f"; factors change {', '.join(keys)}" if keys else ""


def _settings(method: Method) -> str:
    config = method.config
    if method.kind.own:
        return own_settings(method)
    scaled = "; coefficients of members times the mean size of groups" * ("rescale" in config)
    if method.backend == REML:
        return f"{config['tests']} tests"
    if method.backend in CLASSICAL:
        clusters = ", ".join(config.get("cluster") or [])
        return f"{config['errors']} standard errors" + f" by {clusters}" * bool(clusters) + scaled
    words = [", ".join(f"{k} {v}" for k, v in m.sampler_settings.items()) for m in method.attempts]
    other = f"; fallback {method.fallback.backend}: {words[1]}" if method.fallback else ""
    return f"priors {config['priors']}; {words[0]}{other}{scaled}"


def _measures(study: Study) -> list[tuple[str, ...]]:
    return [
        (f"`{name}`", *(_cell(text) for text in MEASURES[name].formula)) for name in study.measures
    ]


# -- replications ----------------------------------------------------------------------------


def _replications(study: Study) -> tuple[list[str], list[tuple[str, ...]]]:
    """Heads and rows of the table of replications and Monte Carlo errors."""
    alphas = dict.fromkeys(a for e in study.estimands for a in e.alpha)
    rates = [f"rate at {a:g} or {1 - a:g}" for a in alphas]
    rows: list[tuple[str, ...]] = []
    for method in study.methods:
        sizes = [study.replications_of(s, method) for s in study.scenarios]
        errors = [_mcse_span(rate, sizes) for rate in (*alphas, 0.5)]
        rows.append((_cell(method.name), _span(sizes), *errors))
    return ["method", "replications", *rates, "rate at 0.5"], rows


def _mcse_span(rate: float, sizes: Sequence[int]) -> str:
    ends = dict.fromkeys((max(sizes), min(sizes)))
    return " to ".join(f"{math.sqrt(rate * (1 - rate) / n):.4f}" for n in ends)


def _scenarios(study: Study) -> list[tuple[str, ...]]:
    return [
        (f"`{s.id}`", *(_cell(str(s.factors[f])) for f in study.factors)) for s in study.scenarios
    ]


def _gate(method: Method) -> str:
    """When a fit of a method counts as converged; what its fallback is for."""
    if method.fallback is not None:
        first, second = map(_own_gate, method.attempts)
        return f"{first} If not, {method.fallback.backend} fits the data set: {second}"
    return _own_gate(method)


def _own_gate(method: Method) -> str:
    """When a fit of a method counts as converged."""
    if method.kind.own:
        return (
            "as it says itself; an exception, a missing estimate or an unusable answer is `failed`."
        )
    if method.backend in CLASSICAL:
        return (
            "no sampler; an error of the regression (collinear regressors, separation, an estimate "
            "that is not finite) makes the fit `failed`."
        )
    gate, chains = method.config["gate"], method.config["sampler"]["chains"]
    wanted = f"{gate['ess_per_chain'] * chains:g}"
    if find_backend(method.backend).weighted_draws:
        return (
            f"the effective sample size of the importance weights is at least {wanted}, their "
            f"Pareto k at most min(1 - 1/log10(S), {PARETO_K_LIMIT:g}) at S points, and the "
            f"variance of the log weights of the effects at most {INNER_LIMIT:g}."
        )
    of = "all structural parameters" if gate["parameters"] == "all" else "the estimands"
    return (
        f"of {of}, every R-hat is at most {gate['rhat']:g} and every bulk and tail effective "
        f"sample size at least {wanted}; at most {gate['divergences']} divergent transitions."
    )


def _versions(study: Study) -> list[tuple[str, str]]:
    found = running_on()
    rows = [("rmm", __version__), ("Python", found["python"]), ("System", found["system"])]
    rows += [("Libraries", found["packages"]), *_engines(study)]
    return [(name, _cell(version)) for name, version in rows]


def _engines(study: Study) -> list[tuple[str, str]]:
    attempts = [one for method in study.methods for one in method.attempts]
    names = dict.fromkeys(m.backend for m in attempts if m.backend not in WITHOUT_ENGINE)
    return [(f"Engine {name}", find_backend(name).available().what) for name in names]


# -- Markdown --------------------------------------------------------------------------------


def _span(values: Sequence[float]) -> str:
    ends = dict.fromkeys((min(values), max(values))) if values else {}
    return " to ".join(f"{v:,}" if isinstance(v, int) else f"{v:g}" for v in ends)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Free text of the file as text: neither HTML nor Markdown."""
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", html.escape(text, quote=False))


def _cell(text: str) -> str:
    return " ".join(_text(text).split())


def _code(text: str) -> str:
    """A name or formula as code, whatever it holds; `|` would end a cell of a table."""
    plain = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    room = " " if "`" in plain else ""
    return f"{fence}{room}{plain}{room}{fence}"


def _yaml(value: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=92)
    return "\n".join(f"    {line}" for line in text.splitlines())
