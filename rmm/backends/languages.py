"""Program languages, one file each, written independently of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rmm.design.design import Design
from rmm.design.integration import Integration
from rmm.errors import BackendError
from rmm.model.spec import ModelSpec

Forms = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Language:
    """One row: how a model becomes text, data and initial values of a program language."""

    name: str
    write: Callable[[ModelSpec, Forms, Integration | None], str]
    data: Callable[[ModelSpec, Design, Mapping[str, Any], Integration | None], dict[str, Any]]
    initial: Callable[[ModelSpec, Forms, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    monitored: Callable[[ModelSpec, Forms], tuple[str, ...]]
    engine_options: Callable[[ModelSpec, Forms, Integration | None], dict[str, Any]]
    nuisance: Callable[[ModelSpec, Design], dict[str, Any]]

    def values(self, model: Any) -> dict[str, Any]:
        """What the engine gets of a model, by the program's names."""
        priors: Mapping[str, Any] = model.priors.data
        if self.name == "laplace":  # it has no text that would name the families of priors
            priors = {**priors, "elements": model.priors.elements}
        return self.data(model.spec, model.design, priors, model.integration)


def _no_nuisance(spec: ModelSpec, design: Design) -> dict[str, Any]:
    return {}


LANGUAGES: dict[str, str] = {
    "jags": "rmm.backends.jags.program",
    "stan": "rmm.backends.stan.program.program",
    "laplace": "rmm.backends.laplace.latent_model",
}


def find_language(name: str) -> Language:
    """The functions of a program language."""
    if name not in LANGUAGES:
        raise BackendError(f"Unknown program language {name!r}. Known: {', '.join(LANGUAGES)}.")
    module = import_module(LANGUAGES[name])
    nuisance = getattr(module, "nuisance", _no_nuisance)
    return Language(
        name, module.write, module.data, module.initial, module.monitored,
        module.engine_options, nuisance,
    )  # fmt: skip
