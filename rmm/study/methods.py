"""Analysis models: what a study file says about one, checked.

`KINDS` says how each kind lays out the data and which formula it makes; `BACKENDS` (in
`rmm.study.fitting`) how an engine fits it. A new kind or backend is a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rmm.errors import RmmError
from rmm.formula import parse_formula
from rmm.simulation import Recipe
from rmm.simulation.truth import Truth, level3, parameter_names, term_columns
from rmm.spec import build_spec
from rmm.study import addresses
from rmm.study.formulas import flat_formula, member_formula
from rmm.study.letters import Letters
from rmm.study.reading import schema, without_defaults
from rmm.study.regressions import REGRESSIONS
from rmm.study.scenarios import Scenario
from rmm.terms import Formula, MemberBlock, NestingBlock, Outcome

#: Backends that are regressions without member effects.
CLASSICAL = tuple(REGRESSIONS)
#: Value of a method's `priors`: those of the truth.
TRUTH = "truth"
#: Backends that run through `rmm.fit`.
ENGINES = ("jags", "stan", "laplace")


@dataclass(frozen=True)
class Kind:
    """One row of `KINDS`.

    Attributes
    ----------
    layout : str
        ``"groups"`` (one row per group), ``"memberships"`` (one row per membership, each a unit
        of its own) or ``"members"`` (the data as they are, for models with `mm()`).
    backends : tuple of str
        The first is the default.
    formula : callable
        ``(truth, method settings) -> text``.
    keys : tuple of str
        Keys of a method that only some kinds understand.
    """

    name: str
    layout: str
    backends: tuple[str, ...]
    formula: Callable[[Formula, Mapping[str, Any]], str]
    keys: tuple[str, ...]


def _flat(truth: Formula, config: Mapping[str, Any]) -> str:
    return flat_formula(truth, nesting=config["backend"] not in CLASSICAL)


def _conventional(truth: Formula, config: Mapping[str, Any]) -> str:
    return member_formula(truth, weights=config.get("weights"), estimated=False)


def _estimated(truth: Formula, config: Mapping[str, Any]) -> str:
    return member_formula(truth, weights=config.get("weights"), estimated=True)


_REGRESSION = (*CLASSICAL, *ENGINES)
KINDS: dict[str, Kind] = {
    "aggregation": Kind("aggregation", "groups", _REGRESSION, _flat, ("summary",)),
    "disaggregation": Kind("disaggregation", "memberships", _REGRESSION, _flat, ()),
    "mm": Kind("mm", "members", ENGINES, _conventional, ("weights",)),
    "mmmm": Kind("mmmm", "members", ENGINES, _estimated, ("weights",)),
}
#: Keys that belong to one kind, or to one sort of backend.
_KIND_KEYS = ("summary", "weights")
_BACKEND_KEYS = {"errors": True, "cluster": True, "priors": False, "sampler": False, "gate": False}


@dataclass(frozen=True, eq=False)
class Method:
    """One analysis model of a study.

    Attributes
    ----------
    id : str
        ``m`` and 10 hexadecimal digits of the hash of its content (its name is not part of it).
    digest : str
        Address of its chains.
    config : mapping
        The method as in the study file, defaults said.
    replications : int or None
        How many of a scenario's data sets it fits; None means all.
    """

    name: str
    kind: Kind
    backend: str
    id: str
    digest: str
    config: Mapping[str, Any]
    replications: int | None

    def formula(self, recipe: Recipe) -> str:
        """Formula of the model in a scenario."""
        written = self.config.get("formula")
        return str(written) if written else self.kind.formula(recipe.truth.formula, self.config)

    def priors(self, truth: Truth) -> Any:
        """Priors as `rmm.fit` takes them; `truth`: those that the true values are drawn from."""
        if self.config["priors"] != TRUTH:
            return self.config["priors"]
        # All digits: the prior of the fit is the one drawn from, to the last bit.
        return {
            name: f"{prior.family}({', '.join(map(repr, prior.values))})"
            for name, prior in truth.priors.items()
        }


def build_methods(
    config: Mapping[str, Any], scenarios: list[Scenario], letters: Letters
) -> list[Method]:
    """The methods of a study, checked against every scenario.

    Parameters
    ----------
    config : mapping
        The study file with defaults said.
    """
    methods: list[Method] = []
    for index, one in enumerate(config["methods"]):
        key = f"methods[{index}]"
        if one["name"] in (m.name for m in methods):
            raise letters.about(
                f"{key}.name", f"{one['name']!r}, for the second time", "a new name"
            )
        method = _method(key, one, letters)
        checked: set[str] = set()
        for scenario in scenarios:
            text = method.formula(scenario.recipe)
            if text not in checked or method.config.get("formula"):
                _check_formula(key, method, text, scenario, letters)
                checked.add(text)
        methods.append(method)
    return methods


def _method(key: str, one: Mapping[str, Any], letters: Letters) -> Method:
    if one["kind"] not in KINDS:
        raise letters.name(f"{key}.kind", "kind of method", one["kind"], list(KINDS))
    kind = KINDS[one["kind"]]
    backend = one.get("backend", kind.backends[0])
    if backend not in kind.backends:
        raise letters.name(f"{key}.backend", f"backend of {kind.name}", backend, kind.backends)
    _check_keys(key, one, kind, backend, letters)
    config = {**one, "backend": backend}
    rule = schema()["$defs"]["method"]
    content = without_defaults(config, rule)
    for name in ("name", "replications"):
        content.pop(name, None)
    # A longer time limit or another gate must not change the draws of the fits that finish.
    sampled = {k: v for k, v in content.items() if k != "gate"}
    sampled["sampler"] = {k: v for k, v in content.get("sampler", {}).items() if k != "timeout"}
    return Method(
        name=one["name"],
        kind=kind,
        backend=backend,
        id=addresses.short_id("m", content),
        digest=addresses.digest(sampled),
        config=config,
        replications=one.get("replications"),
    )


def _check_keys(
    key: str, one: Mapping[str, Any], kind: Kind, backend: str, letters: Letters
) -> None:
    plain = without_defaults(dict(one), schema()["$defs"]["method"])
    for name in _KIND_KEYS:
        if name in plain and name not in kind.keys:
            having = ", ".join(k.name for k in KINDS.values() if name in k.keys)
            raise letters.about(f"{key}.{name}", f"given for kind {kind.name}", f"for {having}")
    for name, classical in _BACKEND_KEYS.items():
        if plain.get(name) and classical != (backend in CLASSICAL):
            other = ", ".join(CLASSICAL if classical else ENGINES)
            raise letters.about(f"{key}.{name}", f"given for backend {backend}", f"for {other}")
    if (one.get("errors") == "cluster") != ("cluster" in one):
        raise letters.about(
            f"{key}.cluster",
            "`errors: cluster` and `cluster` do not go together",
            "both, such as errors: cluster with cluster: [group], or neither",
        )
    for unit in one.get("cluster", []):
        if kind.layout == "groups" and unit != "nesting":
            raise letters.about(f"{key}.cluster", f"{unit!r} for one row per group", "[nesting]")


def _check_formula(
    key: str, method: Method, text: str, scenario: Scenario, letters: Letters
) -> None:
    recipe, key = scenario.recipe, f"{key}.formula"
    letters = Letters(letters.file, f"method {method.name}")
    try:
        formula = parse_formula(text)
    except RmmError as error:
        raise letters.convert(key, error) from error
    wanted = recipe.truth.formula.outcome
    if formula.outcome.label != wanted.label:
        raise letters.about(key, f"the outcome {formula.outcome.label}", wanted.label)
    _check_outcome(key, method.backend, wanted, recipe.truth, letters)
    columns = {c for t in _terms(formula) for c in term_columns(t)}
    columns |= {c for b in formula.members for c in b.weight.columns}
    for column in sorted(columns):
        if column not in recipe.levels:
            raise letters.name(key, "covariate", column, list(recipe.levels))
    if method.kind.layout != "members":
        if formula.members:
            raise letters.about(key, "mm()", f"no mm() in kind {method.kind.name}")
        if formula.nestings and method.backend in CLASSICAL:
            allowed = f"no hm() with backend {method.backend}; use jags or stan"
            raise letters.about(key, "hm()", allowed)
    elif not formula.members:
        raise letters.about(key, "no mm()", f"mm() in kind {method.kind.name}")
    elif method.kind.name == "mmmm" and not any(b.weight.estimated for b in formula.members):
        raise letters.about(
            key.replace("formula", "weights"),
            "no weight has a parameter to estimate",
            "weights such as w ~ 1/(1 + (n-1)*exp(-(b1*x)))",
        )
    if method.config["priors"] == TRUTH:
        _check_drawn_priors(key.replace("formula", "priors"), formula, scenario, letters)
    if "nesting" in method.config.get("cluster", []) and recipe.names.nesting is None:
        raise letters.about(key.replace("formula", "cluster"), "no nesting units", "group, member")


def _check_outcome(
    key: str, backend: str, outcome: Outcome, truth: Truth, letters: Letters
) -> None:
    """A regression takes some kinds of outcomes, and some families."""
    regression = REGRESSIONS.get(backend)
    if regression is None:
        return
    family = truth.spec.family.name
    if regression.families and family not in regression.families:
        other = [n for n, r in REGRESSIONS.items() if not r.families or family in r.families]
        raise letters.about(
            key.replace("formula", "backend"),
            f"{backend!r} for family {family}",
            ", ".join([*(n for n in other if outcome.kind in REGRESSIONS[n].outcomes), *ENGINES]),
        )
    if outcome.kind not in regression.outcomes:
        names = {"plain": "one column", "cbind": "cbind()", "surv": "Surv()"}
        allowed = " or ".join(names[kind] for kind in regression.outcomes)
        raise letters.about(
            key, f"the outcome {outcome.label}", f"{allowed} with backend {backend}"
        )


def _check_drawn_priors(key: str, formula: Formula, scenario: Scenario, letters: Letters) -> None:
    """`priors: truth` needs a prior for each parameter of the model, and none besides."""
    truth = scenario.recipe.truth
    fixed = [name for name in truth.names if name not in truth.priors]
    if fixed:
        raise letters.about(
            key, f"{TRUTH!r}, where {', '.join(fixed)} is not drawn from a prior",
            "truth.parameters that all have a prior, or priors as rmm.fit takes them",
        )  # fmt: skip
    model = parameter_names(
        build_spec(formula, truth.spec.family, level3(formula, scenario.recipe.levels))
    )
    other = sorted(set(model) ^ set(truth.names))
    if other:
        raise letters.about(
            key, f"{TRUTH!r}, where truth and model differ in {', '.join(other)}",
            "a model with the parameters of the truth",
        )  # fmt: skip


def _terms(formula: Formula) -> list[Any]:
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    blocks: list[MemberBlock | NestingBlock] = [*formula.members, *formula.nestings]
    for block in blocks:
        terms += [*(block.terms or ()), *(f.term for f in block.fixed)]
    return terms
