"""The reference of Python names: all names in `__all__` of the public modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import isclass, isfunction, ismodule

#: Page -> public modules whose names it documents.
PAGES = {
    "fitting": ("rmm",),
    "families": ("rmm.families",),
    "simulation": ("rmm.simulation",),
    "datasets": ("rmm.datasets",),
    "studies": ("rmm.study",),
    "engines": ("rmm.backends",),
}
#: Other useful names below these modules.
MORE = {
    "fitting": (
        "rmm.formula.prior_syntax.read_priors",
        "rmm.posterior.diagnostics.summary.summarise",
        "rmm.posterior.diagnostics.summary.Diagnostics",
        "rmm.posterior.prediction.variance_components.variance_components",
        "rmm.posterior.prediction.conditional_effects.reference_groups",
        "rmm.posterior.prediction.cross_validation.waic",
        "rmm.posterior.inference.prior_checks.power_scaling.PriorSensitivity",
        "rmm.posterior.inference.hypotheses.evidence_of_hypotheses.Hypotheses",
        "rmm.posterior.prediction.explained_variance.explained_variance",
        "rmm.posterior.reporting.report.Report",
        "rmm.posterior.prediction.predictive_checks.statistics",
        "rmm.posterior.prediction.predictive_checks.survival",
    ),
    "simulation": ("rmm.simulation.memberships.overlap.overlap_facts",),
    "studies": (),
    "engines": (),
    "datasets": ("rmm.datasets.content.checksum",),
    "families": (),
}
ERRORS = "rmm.errors"  # on a page of their own, with examples


def names(page: str) -> list[str]:
    """Return the dotted names of a page, without errors and plain values."""
    found = []
    for module in PAGES[page]:
        loaded = import_module(module)
        for name in loaded.__all__:
            value = getattr(loaded, name)
            known = (isclass(value) or isfunction(value)) and not _error(value)
            # Names of simulation are on the page of simulation.
            if known and not (module == "rmm" and value.__module__.startswith("rmm.simulation")):
                found.append(f"{module}.{name}")
    # Functions first, then the classes that they return.
    found.sort(
        key=lambda name: isclass(
            getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
        )
    )
    return found + list(MORE[page])


def values(page: str) -> list[str]:
    """Return registries and other values of a page."""
    out = []
    for module in PAGES[page]:
        loaded = import_module(module)
        for name in loaded.__all__:
            value = getattr(loaded, name)
            if not (isclass(value) or isfunction(value) or ismodule(value)):
                out.append(f"{module}.{name}")
    return out


def _error(value: object) -> bool:
    return isclass(value) and issubclass(value, Exception)


def write(page: str) -> str:
    """Return autodoc directives for the names of a page."""
    parts = []
    for name in names(page):
        module, _, last = name.rpartition(".")
        value = getattr(import_module(module), last)
        kind, options = (
            ("class", "   :members:\n   :inherited-members: dict, Exception\n")
            if (isclass(value))
            else ("function", "")
        )
        parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {name}\n{options}```")
    listed = values(page)
    if listed:
        parts.append("Registries: " + ", ".join(f"`{name}`" for name in listed) + ".")
    return "\n\n".join(parts)


WRITERS: dict[str, Callable[[], str]] = {page: partial(write, page) for page in PAGES}
