"""A preregistration document from a study file: ADEMP, in Markdown, before anything runs.

Order and questions: Morris, White & Crowther (2019), Statistics in Medicine 38:2074-2102; Siepe et
al. (2024), Psychological Methods, for what a protocol of a simulation study should fix.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rmm._version import __version__
from rmm.backends import find_backend
from rmm.backends.convergence import PARETO_K_LIMIT
from rmm.posterior.diagnostics.summary import INNER_LIMIT
from rmm.study.design.scenarios import PARTS
from rmm.study.design.study import Study
from rmm.study.files import seeds
from rmm.study.files.environment import running_on
from rmm.study.measures.measures import MEASURES
from rmm.study.methods.method import CLASSICAL, Method


def protocol(study: Study) -> str:
    """The document. The same study file and the same versions give the same text.

    Parameters
    ----------
    study : Study
        As `load_study` gives it: checked, with all defaults said.

    Returns
    -------
    str
        Markdown; names and free text of the file are escaped.
    """
    parts = [_head(study), *(f"## {title}\n\n{write(study)}" for title, write in _PARTS)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _head(study: Study) -> str:
    digest = seeds.file_digest(study.file)
    return (
        f"# Protocol: {_text(study.config.get('title') or study.name)}\n\n"
        f"Written by `rmm study preregister` from the study file {_code(study.file.name)} before "
        "any replication was run. The file, whose SHA-256 is "
        f"`{digest}`, belongs to this protocol: it holds every setting, and a changed file has "
        "another digest. Any later departure is to be reported as such."
    )


def _aims(study: Study) -> str:
    aims = str(study.config.get("aims") or "").strip()
    return _text(aims) if aims else "The study file states no aims."


# -- data-generating mechanisms --------------------------------------------------------------


def _mechanisms(study: Study) -> str:
    truth = study.config["truth"]
    lines = [
        f"Outcomes of family {_code(truth['family'])} are drawn from {_code(truth['formula'])}.",
        "Every method is fitted to the same data sets.",
        "",
        "True values:",
        "",
        _table(("parameter", "true value"), _truths(study)),
        "",
    ]
    if study.factors:
        lines += [f"Factors; their full grid has {_count(study)}:", "", _factors(study), ""]
    else:
        lines += [f"There are no factors: {_count(study)}.", ""]
    lines += ["Settings that the factors start from, defaults included:", ""]
    lines.append(_yaml({part: study.config[part] for part in PARTS if study.config.get(part)}))
    return "\n".join([*lines, *_data_file(study)])


def _data_file(study: Study) -> list[str]:
    """Which file empirical memberships come from: its name is not enough."""
    file = study.config["membership"].get("file")
    if not file or not (study.root / file).is_file():
        return []
    digest = seeds.file_digest(study.root / file)
    return ["", f"SHA-256 of {_code(file)}: `{digest}`."]


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


def _factors(study: Study) -> str:
    rows = []
    for name, said in study.config["vary"].items():
        levels = list(dict.fromkeys(str(s.factors[name]) for s in study.scenarios))
        path = said.get("path")
        sets = _code(path) if path else _code("; ".join(dict.fromkeys(_paths(said))))
        rows.append((_cell(name), sets, _cell(", ".join(levels))))
    return _table(("factor", "sets", "levels"), rows)


def _paths(factor: Mapping[str, Any]) -> Iterable[str]:
    return (str(path) for level in factor["levels"].values() for path in level)


# -- estimands, methods, measures ------------------------------------------------------------


def _estimands(study: Study) -> str:
    rows = [
        (
            _code(e.parameter),
            f"{e.null:g}",
            ", ".join(f"{a:g}" for a in e.alpha),
            _span(
                [
                    v
                    for s in study.scenarios
                    if (v := study.truth_of(s).get(e.parameter)) is not None
                ]
            )
            or "drawn for each data set",
        )
        for e in study.estimands
    ]
    return (
        _table(("parameter", "null value", "α", "true value"), rows)
        + "\n\nA test rejects if its p value is below α; p of a Bayesian fit is 2 min(P(> null), "
        "P(< null)) of the posterior. Intervals have level 1 − α: confidence intervals, or "
        "equal-tailed credible intervals. The first parameter is the main one."
    )


def _methods(study: Study) -> str:
    rows = [
        (
            _cell(method.name),
            _code(method.kind.name),
            _code(study.formula_of(method)),
            _code(method.backend),
            _cell(_settings(method)),
            f"`{method.id}`",
        )
        for method in study.methods
    ]
    heads = ("method", "kind", "model", "backend", "settings", "id of its content")
    if len(study.methods) == 1:
        return _table(heads, rows)
    return (
        _table(heads, rows)
        + f"\n\nDifferences and relative precision compare with {_code(study.baseline)}, on the "
        "replications for which both methods have usable fits."
    )


def _settings(method: Method) -> str:
    config = method.config
    if method.backend in CLASSICAL:
        clusters = ", ".join(config.get("cluster") or [])
        return f"{config['errors']} standard errors" + f" by {clusters}" * bool(clusters)
    sampler = {k: v for k, v in config["sampler"].items() if v != {}}
    words = ", ".join(f"{k} {v}" for k, v in sampler.items())
    return f"priors {config['priors']}; {words}"


def _measures(study: Study) -> str:
    rows = [
        (f"`{name}`", *(_cell(text) for text in MEASURES[name].formula))
        for name in study.measures
    ]  # fmt: skip
    return (
        "n usable replications, T estimates, V squared standard errors (posterior variances), "
        "S = sd(T − θ), θ the truth. Every measure is reported with its Monte Carlo standard "
        "error (MCSE) and n.\n\n" + _table(("measure", "what it is", "estimate", "MCSE"), rows)
    )


# -- replications ----------------------------------------------------------------------------


def _replications(study: Study) -> str:
    alphas = dict.fromkeys(a for e in study.estimands for a in e.alpha)
    heads = [
        "method",
        "replications",
        *(f"rate at {a:g} or {1 - a:g}" for a in alphas),
        "rate at 0.5",
    ]
    rows = []
    for method in study.methods:
        sizes = [study.replications_of(s, method) for s in study.scenarios]
        errors = [_mcse_span(rate, sizes) for rate in (*alphas, 0.5)]
        rows.append((_cell(method.name), _span(sizes), *errors))
    fits = sum(study.replications_of(s, m) for s in study.scenarios for m in study.methods)
    return (
        "Replications of each scenario, and the MCSE √(p(1 − p) / n) that they give a rate of "
        "rejection or coverage if all fits are usable; 0.5 is the worst case.\n\n"
        f"{_table(heads, rows)}\n\n{fits:,} fits in all. The number is fixed in advance and does "
        "not depend on results."
    )


def _mcse_span(rate: float, sizes: Sequence[int]) -> str:
    ends = dict.fromkeys((max(sizes), min(sizes)))
    return " to ".join(f"{math.sqrt(rate * (1 - rate) / n):.4f}" for n in ends)


def _seeds(study: Study) -> str:
    rows = [
        (f"`{s.id}`", *(_cell(str(s.factors[f])) for f in study.factors)) for s in study.scenarios
    ]
    return (
        f"Study seed: {study.seed}. The data of a replication follow from this seed, the content "
        "of its scenario and the number of the replication (SHA-256 of the content, NumPy’s Philox "
        "generator); the chains of a fit follow from that and the content of the method. Neither "
        "the order of jobs nor the number of cores changes a number.\n\n"
        f"{_table(('scenario', *map(_cell, study.factors)), rows)}"
    )


def _gate(method: Method) -> str:
    """When a fit of a method counts as converged."""
    gate, chains = method.config["gate"], method.config["sampler"]["chains"]
    wanted = f"{gate['ess_per_chain'] * chains:g}"
    if find_backend(method.backend).weighted_draws:
        return (
            f"the effective sample size of the importance weights is at least {wanted}, their "
            f"Pareto k at most min(1 - 1/log10(S), {PARETO_K_LIMIT:g}) at S points, and the "
            f"variance of the log weights of the effects at most {INNER_LIMIT:g}"
        )
    of = "all structural parameters" if gate["parameters"] == "all" else "the estimands"
    return (
        f"of {of}, every R-hat is at most {gate['rhat']:g} and every bulk and tail effective "
        f"sample size at least {wanted}; at most {gate['divergences']} divergent transitions"
    )


def _convergence(study: Study) -> str:
    lines = []
    for method in study.methods:
        if method.backend in CLASSICAL:
            lines.append(
                f"* {_code(method.name)}: no sampler; an error of the regression (collinear "
                "regressors, separation, an estimate that is not finite) makes the fit `failed`."
            )
            continue
        lines.append(f"* {_code(method.name)}: {_gate(method)}.")
    return "A fit counts as converged by these rules alone:\n\n" + "\n".join(lines)


_FAILURES = """\
Every fit ends as one of `ok`, `not_converged`, `failed` (an error) or `timeout`, and is kept with
its message. No replication is drawn again, no fit is repeated with other settings, and none leaves
the count of fits that were started. Usable fits are those that end `ok`; the numbers of the others
stand beside every measure. A method without usable fits in a scenario has no value there, never 0.

Measures are computed under two policies, and both are reported:

* `per_method`: all usable fits of each method (the main analysis);
* `complete_case`: without the replications in which a method that has the parameter, and was to
  fit them, has no usable fit.
"""


def _known(study: Study) -> str:
    lines = [
        f"* {_code(one['parameter'])}, {_code(one['method'])}: "
        + (
            f"closed form {_code(one['closed_form'])}"
            if one.get("closed_form")
            else f"published values of {_code(one['measure'])}, "
            f"{_text(str(one.get('source') or 'no source named'))}"
        )
        for one in study.reference
    ]
    lines += [f"* criterion `{name}`: {_code(str(dict(c)))}" for name, c in study.criteria.items()]
    if not lines:
        return "None are named in the study file."
    return (
        "\n".join(lines)
        + "\n\nThe report shows each known value beside ours with the difference in MCSEs."
    )


def _versions(study: Study) -> str:
    found = running_on()
    rows = [("rmm", __version__), ("Python", found["python"]), ("System", found["system"])]
    rows += [("Libraries", found["packages"]), *_engines(study)]
    return (
        _table(("what", "version where this was written"), [(a, _cell(b)) for a, b in rows])
        + "\n\nThe versions that each fit ran with are stored with its estimates."
    )


def _engines(study: Study) -> list[tuple[str, str]]:
    names = dict.fromkeys(m.backend for m in study.methods if m.backend not in CLASSICAL)
    return [(f"Engine {name}", find_backend(name).available().what) for name in names]


_PARTS: tuple[tuple[str, Callable[[Study], str]], ...] = (
    ("Aims", _aims),
    ("Data-generating mechanisms", _mechanisms),
    ("Estimands", _estimands),
    ("Methods", _methods),
    ("Performance measures", _measures),
    ("Replications and Monte Carlo errors", _replications),
    ("Seeds and scenarios", _seeds),
    ("What counts as converged", _convergence),
    ("Failures", lambda study: _FAILURES),
    ("Known values and criteria", _known),
    ("Versions", _versions),
)


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
    import yaml

    text = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=92)
    return "\n".join(f"    {line}" for line in text.splitlines())
