"""Analysis models: what a study file says about one.

`KINDS` says how each kind lays out the data and which formula it makes; `BACKENDS` (in
`fit_task`) how an engine fits it. A new kind or backend is a row. What a file says is
checked in `rmm.study.design.check_methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmm.formula.weights.weight_function import WeightFunction
from rmm.simulation import Recipe
from rmm.simulation.schema import schema
from rmm.simulation.true_model import Truth
from rmm.study.files.checked_yaml import without_defaults
from rmm.study.methods.coefficient_scales import of_means, of_members, of_summary, of_weights
from rmm.study.methods.formulas import (
    candidate_formulas,
    flat_formula,
    member_formula,
    true_weights_formula,
)
from rmm.study.methods.regressions import BY_FAMILY, REGRESSIONS
from rmm.study.own.named_code import NamedCode

#: Backend of models with member effects and known weights, by restricted maximum likelihood.
REML = "reml"
#: Frequentist backends: regressions without member effects, and REML.
CLASSICAL = (*REGRESSIONS, BY_FAMILY, REML)
#: Value of a method's `priors` and, for kind mm, of its `weights`: those of the truth.
TRUTH = "truth"
#: Backends that run through `rmm.fit`.
ENGINES = ("jags", "stan", "laplace")
#: Those of them whose programs are compiled before they run (`rmm.backends.Backend.compiler`).
COMPILED = ("stan",)
#: Those whose fits take seconds: each has jobs of its own.
SAMPLING = ("jags", "stan")
#: Those whose studies can have pilot fits (`rmm.study.methods.pilot_fits`).
PILOTED = ("stan", "jags")
#: For tests of studies; no message names it.
FAKE = "fake"
#: Backends of a user's own methods, each of a kind of this name (`rmm.study.own`).
OWN = ("python", "rscript", "external")
#: Backends that are no engine: no priors, draws or gate.
WITHOUT_ENGINE = (*CLASSICAL, *OWN)


@dataclass(frozen=True)
class Kind:
    """One row of `KINDS`.

    Attributes
    ----------
    layout : str
        ``"groups"`` (one row per group), ``"adjusted"`` (the same with adjusted means),
        ``"memberships"`` (one row per membership, each a unit of its own) or ``"members"`` (the
        data as they are, for models with `mm()`).
    backends : tuple of str
        The first is the default, unless `by_family`.
    formula : callable
        ``(truth, method settings) -> text``.
    keys : tuple of str
        Keys of a method that only some kinds understand.
    by_family : bool
        Whether the default backend is the regression of the truth's family.
    errors : str
        Standard errors that a regression has by default.
    scale : callable
        ``(weights of a block, method settings) -> text``: what a coefficient of a member covariate
        is about; see `rmm.study.methods.coefficient_scales`.
    source : str
        Key that names the file of a user's own method.
    """

    name: str
    layout: str
    backends: tuple[str, ...]
    formula: Callable[[Truth, Mapping[str, Any]], str]
    keys: tuple[str, ...]
    by_family: bool = False
    errors: str = "classical"
    scale: Callable[[WeightFunction, Mapping[str, Any]], str] = of_weights
    source: str = ""

    @property
    def own(self) -> bool:
        """Whether it is a method of the user's, which has no formula."""
        return bool(self.source)


def _flat(truth: Truth, config: Mapping[str, Any]) -> str:
    return flat_formula(truth.formula, nesting=config["backend"] not in CLASSICAL)


def _conventional(truth: Truth, config: Mapping[str, Any]) -> str:
    if config.get("weights") == TRUTH:
        return true_weights_formula(truth)
    return member_formula(truth.formula, weights=config.get("weights"), estimated=False)


def _estimated(truth: Truth, config: Mapping[str, Any]) -> str:
    return member_formula(truth.formula, weights=config.get("weights"), estimated=True)


def _candidates(truth: Truth, config: Mapping[str, Any]) -> str:
    found = candidate_formulas(truth.formula, config["candidates"])
    return "; ".join(f"{name}: {text}" for name, text in found.items())


def _source(truth: Truth, config: Mapping[str, Any]) -> str:
    return str(config[KINDS[config["kind"]].source])


def _own(name: str, source: str, *keys: str) -> Kind:
    return Kind(name, "own", (name,), _source, (source, "estimands", *keys), source=source)


_CALLED = ("arguments", "layout", "summary", "timeout")
_ANY = (*REGRESSIONS, BY_FAMILY, *ENGINES)
_MODEL = ("formula",)
_SAMPLED = (*_MODEL, "weights", "log_likelihood")
KINDS: dict[str, Kind] = {
    "aggregation": Kind(
        "aggregation",
        "groups",
        _ANY,
        _flat,
        (*_MODEL, "summary", "rescale", "fallback"),
        by_family=True,
        scale=of_summary,
    ),
    "disaggregation": Kind(
        "disaggregation",
        "memberships",
        _ANY,
        _flat,
        (*_MODEL, "rescale", "fallback"),
        by_family=True,
        scale=of_members,
    ),
    "adjusted_means": Kind(
        "adjusted_means", "adjusted", ("ols",), _flat, _MODEL, errors="robust", scale=of_means
    ),
    "mm": Kind("mm", "members", (*ENGINES, REML), _conventional, (*_SAMPLED, "fallback")),
    "mmmm": Kind("mmmm", "members", ENGINES, _estimated, (*_SAMPLED, "fallback")),
    "choice": Kind("choice", "members", ENGINES, _candidates, ("candidates",)),
    "average": Kind("average", "members", ENGINES, _candidates, ("candidates", "by")),
    "python": _own("python", "function", *_CALLED),
    "rscript": _own("rscript", "script", *_CALLED),
    "external": _own("external", "estimates"),
}


def said(config: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """What a method says besides its defaults; its id and seeds are made from it."""
    content: dict[str, Any] = without_defaults(dict(config), schema()["$defs"]["method"])
    if content.get("errors") == kind.errors:
        del content["errors"]
    return content


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
    fallback : Method or None
        The same model by another engine, for data sets whose fit is not usable: its fits are those
        of a method of its own.
    code : NamedCode or None
        The user's function or script that fits it.
    table : Path or None
        Table of another program's estimates.
    """

    name: str
    kind: Kind
    backend: str
    id: str
    digest: str
    config: Mapping[str, Any]
    replications: int | None
    fallback: Method | None = None
    code: NamedCode | None = None
    table: Path | None = None

    @property
    def attempts(self) -> tuple[Method, ...]:
        """The method, and its fallback."""
        return (self,) if self.fallback is None else (self, self.fallback)

    @property
    def compiled(self) -> bool:
        """Whether its programs are compiled before they run."""
        return any(one.backend in COMPILED for one in self.attempts)

    @property
    def shares_jobs(self) -> bool:
        """Whether a job fits it together with other methods of the same data sets."""
        return not any(one.backend in SAMPLING for one in self.attempts)

    @property
    def sampler_settings(self) -> dict[str, Any]:
        """Settings of the sampler that apply: with `ess` pilot fits determine chain lengths."""
        sampler = self.config["sampler"]
        ignored = ("warmup", "draws") if "ess" in sampler else ()
        return {k: v for k, v in sampler.items() if v != {} and k not in ignored}

    def formula(self, recipe: Recipe) -> str:
        """Formula of the model in a scenario."""
        written = self.config.get("formula")
        return str(written) if written else self.kind.formula(recipe.truth, self.config)

    def candidates(self, recipe: Recipe) -> dict[str, str]:
        """Formulas by name of a method that chooses among them; none for others."""
        return candidate_formulas(recipe.truth.formula, self.config.get("candidates", {}))

    def formulas(self, recipe: Recipe) -> dict[str, str]:
        """Formula of each model that it fits: candidates by name, or the one model by ``""``."""
        return self.candidates(recipe) or {"": self.formula(recipe)}

    def priors(self, truth: Truth) -> Any:
        """Priors as `rmm.fit` takes them; `truth`: those that the true values are drawn from."""
        if self.config["priors"] != TRUTH:
            return self.config["priors"]
        # All digits: the prior of the fit is the one drawn from, to the last bit.
        # Thresholds have one prior, without brackets, and so have correlations.
        return {
            name.partition("[")[0]
            if name.startswith(("tau[", "cor_l1"))
            else name: f"{prior.family}({', '.join(map(repr, prior.values))})"
            for name, prior in truth.priors.items()
        }
