"""The methods of a study file, checked before the first job starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

from rmm.errors import RmmError, StudyError, counted
from rmm.formula.parse_formula import parse_formula
from rmm.formula.terms import Formula, MemberBlock, NestingBlock
from rmm.formula.weights.weight_function import TableCall, walk
from rmm.model.spec import build_spec
from rmm.simulation import OUTCOMES
from rmm.simulation.schema import schema
from rmm.simulation.true_model import level3, parameter_names, term_columns
from rmm.study.design.check_own_methods import (
    Source,
    check_own_method,
    meaning_of,
    read_source,
)
from rmm.study.design.scenarios import Scenario, addresses_of
from rmm.study.files import seeds
from rmm.study.files.checked_yaml import with_defaults
from rmm.study.files.messages import StudyFileErrors
from rmm.study.methods.method import (
    CLASSICAL,
    ENGINES,
    FAKE,
    KINDS,
    PILOTED,
    REML,
    TRUTH,
    Kind,
    Method,
    said,
)
from rmm.study.methods.regressions import (
    BY_FAMILY,
    CLUSTERED,
    REGRESSIONS,
    UNITS,
    default_regression,
    regression_of,
)

if TYPE_CHECKING:
    from rmm.simulation import Recipe

#: Keys that belong to some kinds, or to one sort of backend.
_KIND_KEYS = (
    "formula",
    "summary",
    "weights",
    "log_likelihood",
    "candidates",
    "by",
    "rescale",
    "fallback",
    *("function", "script", "estimates", "arguments", "layout", "estimands", "timeout"),
)
_WITHOUT_MEMBERS = (*REGRESSIONS, BY_FAMILY)
_BACKEND_KEYS = {
    "errors": _WITHOUT_MEMBERS,
    "cluster": _WITHOUT_MEMBERS,
    "bootstrap_draws": ("ols",),
    "correlation": ("gee",),
    "tests": (REML,),
    "priors": ENGINES,
    "sampler": ENGINES,
    "gate": ENGINES,
    "fallback": ENGINES,
}


def build_methods(
    config: Mapping[str, Any],
    scenarios: list[Scenario],
    file_errors: StudyFileErrors,
    only: tuple[str, tuple[str, ...]] | None = None,
    allow_code: bool = False,
) -> list[Method]:
    """The methods of a study, checked against every scenario; errors are collected.

    Parameters
    ----------
    config : mapping
        The study file with defaults said.
    only : (scenario, methods), optional
        Check this method alone, in this scenario; default: all.
    allow_code : bool
        Whether code of the user's may run.
    """
    checked = _checked(scenarios, only)
    methods: dict[int, Method] = {}
    for index, one in enumerate(config["methods"]):
        key = f"methods[{index}]"
        with file_errors.collecting():
            if one["name"] in (m.name for m in methods.values()):
                raise file_errors.about(
                    f"{key}.name",
                    f"Two methods have the name {one['name']!r}.",
                    "Give each method its own name.",
                )
            method = _method(key, one, scenarios, file_errors, allow_code)
            methods[index] = method
            if only is None or method.name in only[1]:
                unchanged = [s for s in checked if method.name not in s.settings]
                _check_formulas(key, method, unchanged, file_errors)
    valid = list(methods.values())
    for index, method in methods.items():
        with file_errors.collecting():
            _check_confirms(f"methods[{index}].confirms", method, valid, file_errors)
    return valid


#: Name of a method and canonical changes of its settings -> the method with these settings.
Versions = dict[tuple[str, str], Method]


def build_versions(
    config: Mapping[str, Any],
    scenarios: list[Scenario],
    methods: list[Method],
    file_errors: StudyFileErrors,
    only: tuple[str, tuple[str, ...]] | None = None,
    allow_code: bool = False,
) -> Versions:
    """Methods with the settings that factors give them, checked as others; errors are collected.

    Parameters
    ----------
    config, scenarios, only, allow_code
        As for `build_methods`.
    methods : list of Method
        As they are under `methods`.
    """
    rule = schema()["$defs"]["method"]
    indices = {one["name"]: index for index, one in enumerate(config["methods"])}
    found: Versions = {}
    for scenario in scenarios:
        for name, settings in scenario.settings.items():
            place = version_key(scenario, name)
            if place in found:
                continue
            key = f"methods[{indices[name]}]"
            within = file_errors.within(f"scenario {words_of(scenario)}")
            with within.collecting():
                entry = with_defaults(dict(settings.entry), rule)
                found[place] = _method(key, entry, scenarios, within, allow_code)
    for scenario in _checked(scenarios, only) if any(s.settings for s in scenarios) else ():
        within = file_errors.within(f"scenario {words_of(scenario)}")
        here = [found.get(version_key(scenario, m.name), m) for m in methods]
        for method in here:
            if method.name in scenario.settings and (only is None or method.name in only[1]):
                key = f"methods[{indices[method.name]}]"
                with within.collecting():
                    _check_formulas(key, method, [scenario], within)
                    _check_confirms(f"{key}.confirms", method, here, within)
    return found


def version_key(scenario: Scenario, name: str) -> tuple[str, str]:
    """Key of `Versions`."""
    settings = scenario.settings.get(name)
    return name, seeds.canonical(settings.changes if settings else {})


def words_of(scenario: Scenario) -> str:
    """Levels of the factors of a scenario, as in messages."""
    return ", ".join(f"{k} = {v}" for k, v in scenario.factors.items())


def _checked(scenarios: list[Scenario], only: tuple[str, tuple[str, ...]] | None) -> list[Scenario]:
    """Scenarios in which methods are checked."""
    return [s for s in scenarios if only is None or only[0] in addresses_of(s)]


def _check_formulas(
    key: str, method: Method, scenarios: list[Scenario], file_errors: StudyFileErrors
) -> None:
    """Check the formulas of a method, one that the file states in every scenario."""
    if method.kind.own:
        check_own_method(key, method, scenarios, file_errors)
        return
    for scenario in scenarios:
        if scenario.own is not None and not scenario.content["truth"]["formula"]:
            raise file_errors.about(
                f"{key}.kind",
                f"A method of kind {method.kind.name} needs a model, but `data` has no `formula`.",
                "Give `data` a `formula` that names the outcome and, in mm(), the ids.",
            )
    if method.kind.name == "mm" and method.config.get("weights") == TRUTH:
        _check_true_weights(f"{key}.weights", scenarios, file_errors)
    checked: set[tuple[str, str]] = set()
    written = method.config.get("formula") or method.config.get("candidates")
    for scenario in scenarios:
        for name, text in method.formulas(scenario.recipe).items():
            if (name, text) not in checked or written:
                place = f"{key}.candidates.{name}" if name else f"{key}.formula"
                _check_formula(place, method, text, scenario, file_errors)
                checked.add((name, text))


def _check_true_weights(key: str, scenarios: list[Scenario], file_errors: StudyFileErrors) -> None:
    """`weights: truth` needs coefficients of weights that are the same in all data sets."""
    for scenario in scenarios:
        truth = scenario.recipe.truth
        for part in truth.spec.members:
            for name in part.block.weight.parameters:
                parameter = f"{part.b_w}[{name}]"
                if parameter not in truth.parameters:
                    raise file_errors.about(
                        key,
                        f"`weights: {TRUTH}` needs the true value of {parameter}, which is not a "
                        "number in the study file.",
                        "Give it one under truth.parameters, or use kind mmmm.",
                    )


def _check_confirms(
    key: str, method: Method, methods: list[Method], file_errors: StudyFileErrors
) -> None:
    """What a method confirms is the same model by another engine."""
    wanted = method.config.get("confirms")
    if wanted is None:
        return
    others = {m.name: m for m in methods if m is not method and m.kind.name == method.kind.name}
    if wanted not in others:
        raise file_errors.name(
            key, f"the name of another method of kind {method.kind.name}", wanted, list(others)
        )
    for name in ("weights", "formula", "candidates", "by", "priors", "backend"):
        mine, theirs = (m.config.get(name) for m in (method, others[wanted]))
        if (mine == theirs) == (name == "backend"):
            needed = "must be different" if name == "backend" else "must be the same"
            raise file_errors.about(
                _beside(key, name),
                f"Method {method.name} confirms method {wanted}, so `{name}` {needed} in both.",
                f"It is {mine!r} in {method.name} and {theirs!r} in {wanted}.",
            )


def _method(
    key: str,
    one: Mapping[str, Any],
    scenarios: list[Scenario],
    file_errors: StudyFileErrors,
    allow_code: bool,
) -> Method:
    if one["kind"] not in KINDS:
        raise file_errors.name(f"{key}.kind", "a kind of method", one["kind"], list(KINDS))
    kind = KINDS[one["kind"]]
    backend = one.get("backend") or _default_backend(key, kind, scenarios, file_errors)
    if backend == "auto":
        raise file_errors.about(
            f"{key}.backend",
            "'auto' cannot be used in a study: the results would depend on whether the computer "
            "has a compiler.",
            f"Allowed: {', '.join(n for n in ENGINES if n in kind.backends)}.",
        )
    if backend not in (*kind.backends, FAKE):
        what = f"a backend of methods of kind {kind.name}"
        raise file_errors.name(f"{key}.backend", what, backend, kind.backends)
    config = {**one, "backend": backend, "errors": one.get("errors", kind.errors)}
    content = said(config, kind)
    _check_keys(key, content, kind, backend, file_errors)
    source = Source(None, None, "")
    if kind.own:
        source = read_source(key, config, file_errors, allow_code)
        config = {**config, "sha256": source.sha256}
    found = _of_config(config, kind, _fallback(config, kind))
    return replace(found, code=source.code, table=source.table)


def _fallback(config: Mapping[str, Any], kind: Kind) -> Method | None:
    """The method's model by the other engine, as a method of its own would have it."""
    other = config.get("fallback")
    if other is None:
        return None
    own = {k: v for k, v in config.items() if k not in ("fallback", "confirms")}
    return _of_config({**own, **other}, kind, None)


def _of_config(config: Mapping[str, Any], kind: Kind, fallback: Method | None) -> Method:
    content = said(config, kind)
    for name in ("name", "replications", "confirms"):
        content.pop(name, None)
    # A longer time limit, another gate or a fallback must not change the draws of fits that finish.
    sampled = {k: v for k, v in content.items() if k not in ("gate", "fallback", "timeout")}
    sampled["sampler"] = {k: v for k, v in content.get("sampler", {}).items() if k != "timeout"}
    return Method(
        name=config["name"],
        kind=kind,
        backend=config["backend"],
        id=seeds.short_id("m", content),
        digest=seeds.digest(sampled),
        config=config,
        replications=config.get("replications"),
        fallback=fallback,
    )


def _default_backend(
    key: str, kind: Kind, scenarios: list[Scenario], file_errors: StudyFileErrors
) -> str:
    if not kind.by_family:
        return kind.backends[0]
    families = dict.fromkeys(s.content["truth"]["family"] for s in scenarios)
    defaults: dict[str, None] = {}
    for family in families:
        name = default_regression(family)
        if name is None:
            missing = "`backend` is missing"
            raise _no_regression(f"{key}.backend", missing, family, kind, file_errors)
        defaults[name] = None
    return next(iter(defaults)) if len(defaults) == 1 else BY_FAMILY


def _no_regression(
    key: str, said: str, family: str, kind: Kind, file_errors: StudyFileErrors
) -> StudyError:
    """There is no silent least squares: its estimates are on another scale than the truth."""
    found = f"{said}, but no regression estimates family {family} on the scale of its parameters."
    allowed = ", ".join(name for name in ENGINES if name in kind.backends)
    return file_errors.about(
        key, found, f"Allowed: {allowed}, and ols, whose estimates are on another scale."
    )


def _check_keys(
    key: str, plain: Mapping[str, Any], kind: Kind, backend: str, file_errors: StudyFileErrors
) -> None:
    """`plain`: what the method says besides its defaults."""
    for name in _KIND_KEYS:
        if name in plain and name not in kind.keys:
            having = ", ".join(k.name for k in KINDS.values() if name in k.keys)
            found = f"`{name}` cannot be used in a method of kind {kind.name}."
            raise file_errors.about(
                f"{key}.{name}", found, f"Kinds that can have `{name}`: {having}."
            )
    for name, having_it in _BACKEND_KEYS.items():
        if plain.get(name) and backend not in (*having_it, *(FAKE,) * (having_it is ENGINES)):
            found = f"`{name}` cannot be used with backend {backend}."
            raise file_errors.about(
                f"{key}.{name}", found, f"Backends that can have `{name}`: {', '.join(having_it)}."
            )
    if plain.get("rescale") and plain.get("summary", "mean") != "sum" and kind.by_family:
        _check_rescale(key, plain, kind, file_errors)
    if plain.get("fallback"):
        _check_fallback(f"{key}.fallback", plain["fallback"], kind, backend, file_errors)
    if kind.own and kind.source not in plain:
        raise file_errors.about(
            f"{key}.{kind.source}", f"`{kind.source}` is missing.", meaning_of(kind.source)
        )
    if "candidates" in kind.keys and "candidates" not in plain:
        raise file_errors.about(
            f"{key}.candidates", "`candidates` is missing.", "Give two or more candidates."
        )
    if plain.get("log_likelihood") and plain.get("priors") != TRUTH:
        raise file_errors.about(
            f"{key}.log_likelihood",
            "`log_likelihood: true` needs true values that are drawn from the priors of the fit.",
            f"Set `priors: {TRUTH}`, or leave `log_likelihood` out.",
        )
    _check_pilot(key, plain, kind, backend, file_errors)
    _check_errors(key, plain, kind, backend, file_errors)
    _check_clusters(key, plain, kind, backend, file_errors)


def _check_rescale(
    key: str, plain: Mapping[str, Any], kind: Kind, file_errors: StudyFileErrors
) -> None:
    """Only coefficients that are about one member can be rescaled."""
    if kind.layout == "groups":
        summary = plain.get("summary", "mean")
        raise file_errors.about(
            f"{key}.rescale",
            f"`rescale` cannot be used with `summary: {summary}`: its coefficients are not about "
            "one member.",
            "Use `summary: sum`, or leave `rescale` out.",
        )


def _check_errors(
    key: str, plain: Mapping[str, Any], kind: Kind, backend: str, file_errors: StudyFileErrors
) -> None:
    """A regression has some kinds of standard errors; BY_FAMILY is checked with each family."""
    errors = plain.get("errors", kind.errors)
    if backend in REGRESSIONS and errors not in REGRESSIONS[backend].errors:
        raise file_errors.about(
            f"{key}.errors",
            f"`errors: {errors}` cannot be used with backend {backend}.",
            f"Allowed: {', '.join(REGRESSIONS[backend].errors)}.",
        )
    if errors != "bootstrap" and "bootstrap_draws" in plain:
        raise file_errors.about(
            f"{key}.bootstrap_draws",
            f"`bootstrap_draws` cannot be used with `errors: {errors}`.",
            "It needs `errors: bootstrap`.",
        )


def _check_fallback(
    key: str, given: Mapping[str, Any], kind: Kind, backend: str, file_errors: StudyFileErrors
) -> None:
    """Another engine; its settings are checked as those of a method."""
    allowed = [name for name in (*ENGINES, FAKE) if name in (*kind.backends, FAKE)]
    allowed = [name for name in allowed if name != backend]
    if given["backend"] not in allowed:
        shown = [name for name in allowed if name != FAKE]
        what = "another engine for this method"
        raise file_errors.name(f"{key}.backend", what, given["backend"], shown)
    if "pilot" in given.get("sampler", {}) or "ess" in given.get("sampler", {}):
        raise file_errors.about(
            f"{key}.sampler",
            "A fallback has no pilot fit: it fits few data sets.",
            "Give `warmup` and `draws` instead of `pilot` and `ess`.",
        )


def _check_pilot(
    key: str, plain: Mapping[str, Any], kind: Kind, backend: str, file_errors: StudyFileErrors
) -> None:
    """Stan's pilot adapts (`pilot`), that of JAGS determines chain lengths (`pilot` and `ess`)."""
    sampler = plain.get("sampler", {})
    if "ess" in sampler and backend != "jags":
        advice = "It needs backend jags."
        if backend == "laplace":
            advice = "For laplace it is an option: `sampler: {options: {ess: 500}}`."
        raise file_errors.about(
            f"{key}.sampler.ess", f"`ess` cannot be used with backend {backend}.", advice
        )
    for name in ("pilot", "ess"):
        if name in sampler and (backend not in PILOTED or "candidates" in kind.keys):
            raise file_errors.about(
                f"{key}.sampler.{name}",
                f"`{name}` cannot be used with kind {kind.name} and backend {backend}.",
                f"It needs backend {' or '.join(PILOTED)} and kind mm, mmmm, aggregation or "
                "disaggregation.",
            )
    if backend == "jags" and ("pilot" in sampler) != ("ess" in sampler):
        missing, given = ("pilot", "ess") if "ess" in sampler else ("ess", "pilot")
        raise file_errors.about(
            f"{key}.sampler.{given}",
            f"`{given}` is given without `{missing}`. With backend jags they belong together.",
            "Give both, such as `pilot: 1000` and `ess: 400`, or neither.",
        )
    for name in ("warmup", "draws"):
        if name in sampler and "ess" in sampler:
            raise file_errors.about(
                f"{key}.sampler.{name}",
                f"`{name}` is {sampler[name]}, but with `ess` the pilot fit determines it.",
                f"Remove `{name}`, or remove `pilot` and `ess`.",
            )


def _check_clusters(
    key: str, plain: Mapping[str, Any], kind: Kind, backend: str, file_errors: StudyFileErrors
) -> None:
    if (plain.get("errors") in CLUSTERED) != ("cluster" in plain):
        errors = plain["errors"] if plain.get("errors") in CLUSTERED else "cluster"
        raise file_errors.about(
            f"{key}.cluster",
            f"`errors: {errors}` and `cluster` must be given together.",
            f"Give both, such as `errors: {errors}` and `cluster: [group]`, or neither.",
        )
    units = plain.get("cluster", [])
    if len(units) > 1 and (backend == "gee" or plain["errors"] == "bootstrap"):
        what = "backend gee" if backend == "gee" else "`errors: bootstrap`"
        raise file_errors.about(
            f"{key}.cluster",
            f"Two units are given, but {what} has one kind of clusters.",
            f"Allowed: one of {', '.join(UNITS)}.",
        )
    for unit in units:
        if kind.layout in ("groups", "adjusted") and unit != "nesting":
            raise file_errors.about(
                f"{key}.cluster",
                f"{unit!r} cannot be used: methods of kind {kind.name} have one row per group.",
                "Allowed: [nesting].",
            )
        allowed = UNITS if backend == BY_FAMILY else REGRESSIONS[backend].clusters
        if unit not in allowed:
            raise file_errors.about(
                f"{key}.cluster",
                f"{unit!r} cannot be used with backend {backend}.",
                f"Allowed: [{', '.join(allowed)}].",
            )
    if len(set(units)) < len(units):
        raise file_errors.about(
            f"{key}.cluster", f"{units[0]!r} is given twice.", f"Allowed: {', '.join(UNITS)}."
        )


def _check_formula(
    key: str, method: Method, text: str, scenario: Scenario, file_errors: StudyFileErrors
) -> None:
    file_errors = file_errors.within(f"method {method.name}")
    try:
        formula = parse_formula(text)
    except RmmError as error:
        raise file_errors.convert(key, error) from error
    for block in formula.members:
        if block.covariance is not None:
            raise file_errors.about(
                key,
                f"The formula has `cov = {block.covariance}`.",
                "Studies cannot use known covariance matrices: leave `cov =` out.",
            )
    wanted = scenario.recipe.truth.formula.outcome
    if formula.outcome.label != wanted.label:
        found = f"The outcome is `{formula.outcome.label}`, but the truth has `{wanted.label}`."
        raise file_errors.about(key, found, "Use the outcome of the truth.")
    _check_family(key, method, formula, scenario, file_errors)
    _check_columns(key, formula, scenario, file_errors)
    if method.kind.layout == "members":
        _check_members(key, method, formula, file_errors)
    else:
        _check_flat(key, method, formula, file_errors)
    if method.config["priors"] == TRUTH:
        _check_drawn_priors(_beside(key, "priors"), formula, scenario, file_errors)
    nested = scenario.recipe.names.nesting is not None
    if "nesting" in method.config.get("cluster", []) and not nested:
        raise file_errors.about(
            _beside(key, "cluster"),
            "'nesting' cannot be used: the memberships have no nesting units.",
            "Allowed: group, member.",
        )


def _check_columns(
    key: str, formula: Formula, scenario: Scenario, file_errors: StudyFileErrors
) -> None:
    if scenario.own is None:  # other columns are known once data have been drawn
        check_columns_known(key, formula, scenario.recipe, scenario.recipe.levels, file_errors)


def check_columns_known(
    key: str,
    formula: Formula,
    recipe: Recipe,
    levels: Mapping[str, str],
    file_errors: StudyFileErrors,
) -> None:
    """Check the columns that a formula uses against those of the data, with their levels.

    Raises
    ------
    StudyError
    """
    columns = {c for t in _terms(formula) for c in term_columns(t)}
    columns |= {c for b in formula.members for c in b.weight.variables}
    columns |= set(formula.strata) - {recipe.names.nesting}
    for column in sorted(columns):
        if column not in levels:
            raise file_errors.name(key, "a covariate of this study", column, list(levels))
    allowed = [*levels, *(i for i in astuple(recipe.names) if i is not None)]
    for column in _within(formula):
        if column not in allowed:
            raise file_errors.name(key, "a column that `within =` can name", column, allowed)


def _within(formula: Formula) -> list[str]:
    """What `within =` names: columns or ids."""
    expressions = [a.expression for t in _terms(formula) for a in t.atoms]
    expressions += [b.weight.expression for b in formula.members]
    calls = [n for e in expressions for n in walk(e) if isinstance(n, TableCall)]
    return [n.within for n in calls if n.within is not None and not n.own_group]


def _check_flat(key: str, method: Method, formula: Formula, file_errors: StudyFileErrors) -> None:
    kind = f"in a method of kind {method.kind.name}"
    if formula.members:
        raise file_errors.about(key, f"mm() cannot be used {kind}.")
    bases = [a.label for t in _terms(formula) for a in t.atoms if a.basis is not None]
    if bases:
        raise file_errors.about(
            key, f"{bases[0]} cannot be used {kind}.", "Use columns and I(...)."
        )
    if _within(formula):
        raise file_errors.about(key, f"`within =` cannot be used {kind}.")
    if formula.nestings and method.backend in CLASSICAL:
        found = f"hm() cannot be used with backend {method.backend}."
        raise file_errors.about(key, found, "Use backend jags or stan, or leave hm() out.")


def _check_members(
    key: str, method: Method, formula: Formula, file_errors: StudyFileErrors
) -> None:
    if not formula.members:
        raise file_errors.about(
            key, f"The formula has no mm(), which a method of kind {method.kind.name} needs."
        )
    estimated = [p for b in formula.members for p in b.weight.parameters]
    if method.kind.name == "mmmm" and not estimated:
        raise file_errors.about(
            _beside(key, "weights"),
            "A method of kind mmmm estimates weights, but these weights have no parameter.",
            "Use, for example, w ~ 1/(1 + (n-1)*exp(-(b1*x))).",
        )
    if method.kind.name == "mm" and estimated and "weights" in method.config:
        raise file_errors.about(
            _beside(key, "weights"),
            f"A method of kind mm has known weights, but these weights have "
            f"{counted(len(estimated), 'parameter')}: {', '.join(estimated)}.",
            "Use known weights, such as w ~ x, or kind mmmm, which estimates weights.",
        )


def _check_family(
    key: str, method: Method, formula: Formula, scenario: Scenario, file_errors: StudyFileErrors
) -> None:
    """A regression takes some kinds of outcomes, and some families; a stratum has one choice."""
    family = scenario.recipe.truth.spec.family
    if method.backend == REML:
        _check_reml(key, method, formula, family.name, file_errors)
    elif method.backend in CLASSICAL:
        _check_regression(key, method, formula, family.name, file_errors)
    elif family.needs_strata and method.kind.layout == "memberships":
        allowed = ", ".join(n for n, r in REGRESSIONS.items() if family.name in r.families)
        raise file_errors.about(
            _beside(key, "backend"),
            f"Backend {method.backend} cannot be used here: with one row per membership, each "
            "member of the chosen group would be a choice.",
            f"Allowed: {allowed}.",
        )
    if family.needs_strata and not formula.strata and method.backend not in ("ols", "glm"):
        raise file_errors.about(
            key, f"The formula has no strata(), which family {family.name} needs."
        )
    if method.config.get("log_likelihood") and OUTCOMES[family.name].log_density is None:
        able = [name for name, row in OUTCOMES.items() if row.log_density is not None]
        raise file_errors.about(
            _beside(key, "log_likelihood"),
            f"`log_likelihood: true` cannot be used with family {family.name}: the fit has another "
            "prior of the baseline than the truth.",
            f"Allowed with the families: {', '.join(able)}.",
        )


def _check_regression(
    key: str, method: Method, formula: Formula, family: str, file_errors: StudyFileErrors
) -> None:
    outcome, backend = formula.outcome, method.backend
    if backend == BY_FAMILY and default_regression(family) is None:
        found = f"The backend is {backend!r}"
        raise _no_regression(_beside(key, "backend"), found, family, method.kind, file_errors)
    regression = regression_of(backend, family)
    errors = method.config["errors"]
    if errors not in regression.errors:
        raise file_errors.about(
            _beside(key, "errors"),
            f"`errors: {errors}` cannot be used with the regression of family {family}.",
            f"Allowed: {', '.join(regression.errors)}.",
        )
    for unit in method.config.get("cluster", []):
        if unit not in regression.clusters:
            allowed_units = f"Allowed: [{', '.join(regression.clusters)}]."
            found = f"{unit!r} cannot be used with the regression of family {family}."
            raise file_errors.about(_beside(key, "cluster"), found, allowed_units)
    if regression.families and family not in regression.families:
        other = [
            n
            for n, r in REGRESSIONS.items()
            if (not r.families or family in r.families) and outcome.kind in r.outcomes
        ]
        allowed = [n for n in (*other, *ENGINES) if n in method.kind.backends]
        found = f"Backend {backend} cannot be used with family {family}."
        raise file_errors.about(_beside(key, "backend"), found, f"Allowed: {', '.join(allowed)}.")
    if outcome.kind not in regression.outcomes:
        names = {
            "plain": "one column",
            "cbind": "cbind()",
            "surv": "Surv()",
            "spell": "Surv() with entry",
            "interval": 'Surv() with type = "interval2"',
        }
        allowed_kinds = " or ".join(names[kind] for kind in regression.outcomes)
        raise file_errors.about(
            key,
            f"The outcome `{outcome.label}` cannot be used with backend {backend}.",
            f"Allowed: {allowed_kinds}.",
        )


def _check_reml(
    key: str, method: Method, formula: Formula, family: str, file_errors: StudyFileErrors
) -> None:
    """REML is of the gaussian model, whose weights are known."""
    if family != "gaussian":
        allowed = ", ".join(n for n in ENGINES if n in method.kind.backends)
        raise file_errors.about(
            _beside(key, "backend"),
            f"Backend {REML} cannot be used with family {family}.",
            f"Allowed: {allowed}.",
        )
    for block in formula.members:
        what = (
            "weights with parameters"
            if block.weight.parameters
            else "random walks (ar =)"
            if block.autoregressive is not False
            else "AR(1) processes (ar = ar1())"
            if block.series is not None
            else "correlated effects of members (cor = TRUE)"
            if block.correlated
            else "correlated effects of several mm() terms (cor =)"
            if block.roles is not None
            else "features with a number to estimate"
            if any(f.parameter is not None for f in block.features)
            else ""
        )
        if what:
            raise file_errors.about(
                key,
                f"{what[0].upper()}{what[1:]} cannot be used with backend {REML}.",
                f"Use known weights, or backend {', '.join(ENGINES)}.",
            )


def _check_drawn_priors(
    key: str, formula: Formula, scenario: Scenario, file_errors: StudyFileErrors
) -> None:
    """`priors: truth` needs a prior for each parameter of the model, and none besides."""
    truth = scenario.recipe.truth
    fixed = [name for name in truth.names if name not in truth.priors]
    if fixed:
        raise file_errors.about(
            key,
            f"`priors: {TRUTH}` needs a prior for every true parameter, but these have a fixed "
            f"value: {', '.join(fixed)}.",
            "Give them a prior under truth.parameters, or write priors as for rmm.fit().",
        )
    model = parameter_names(
        build_spec(formula, truth.spec.family, level3(formula, scenario.recipe.levels))
    )
    other = sorted(set(model) ^ set(truth.names))
    if other:
        raise file_errors.about(
            key,
            f"`priors: {TRUTH}` needs a model with the parameters of the truth. These "
            f"parameters are in only one of the two: {', '.join(other)}.",
        )


def _beside(key: str, other: str) -> str:
    """Path of another key of the method that `key` belongs to."""
    return f"{key.partition('].')[0]}].{other}"


def _terms(formula: Formula) -> list[Any]:
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    blocks: list[MemberBlock | NestingBlock] = [*formula.members, *formula.nestings]
    for block in blocks:
        terms += [*(block.terms or ()), *(f.term for f in block.fixed)]
    return terms
