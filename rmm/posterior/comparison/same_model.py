"""Whether fits are of the same model of the same groups, and otherwise how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rmm.design.prepare import Model
from rmm.design.rows.units import Units
from rmm.errors import DataError, quoted
from rmm.posterior.fit import Fit
from rmm.tables.read import Array


def check_same_model(fits: Sequence[Fit]) -> None:
    """Raise `DataError` unless all fits are of one model and the same groups, by one engine.

    Values of covariates and outcomes may differ, as they do where missing ones were imputed.

    Parameters
    ----------
    fits : sequence of Fit
        The message numbers them from 1.
    """
    known = dict(_facts(fits[0]))
    for number, fit in enumerate(fits[1:], start=2):
        for name, value in _facts(fit):
            if value != known[name]:
                raise DataError(
                    f"Fits 1 and {number} differ in {name}: {known[name]!r} and {value!r}. {_RULE}"
                )
        _check_units(fits[0], fit, number)


_RULE = (
    "Fits that are pooled must be of the same model and the same groups, by the same engine with "
    "the same options; only imputed values differ."
)


def _facts(fit: Fit) -> Iterator[tuple[str, str]]:
    """What must be the same, in the words of `rmm.fit`, as text."""
    model, family, settings = fit.model, fit.model.spec.family, fit.settings
    yield "the formula", " ".join(model.formula.split())
    yield "the family", family.name
    yield "the options of the family", _listed(family.options)
    yield "the priors", "; ".join([model.choice.base, *(s.text for s in model.choice.statements)])
    yield "`transform`", str(model.transform)
    yield "the engine", fit.backend
    yield "the program", "your own" if fit.own_program else "rmm's"
    for name in ("chains", "warmup", "draws", "thin"):
        yield f"`{name}`", str(getattr(settings, name))
    yield "`monitor`", ", ".join(settings.monitor)
    yield "the options of the engine", _listed(settings.options)


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items()) or "none"


def _check_units(first: Fit, fit: Fit, number: int) -> None:
    """Coefficients, groups, members of each membership, and nesting units."""
    if fit.own_program and fit.program != first.program:
        raise DataError(f"Fits 1 and {number} are of different programs of your own. {_RULE}")
    one, two = first.model, fit.model
    names = [np.array(f._estimates.elements.labels, dtype=object) for f in (first, fit)]
    _compare("parameters", names[0], names[1], number)
    _compare("groups", one.design.coords["group"], two.design.coords["group"], number)
    for name, matrix in one.covariances.items():
        if not matrix.same(two.covariances[name]):
            raise DataError(f"Fits 1 and {number} have different matrices `{name}`. {_RULE}")
    for a, b in zip(one.grouped.members, two.grouped.members, strict=True):
        _compare("members", a.labels, b.labels, number)
        same = np.array_equal(a.code, b.code) and np.array_equal(a.group, b.group)
        if not same:
            raise DataError(f"Members are in other groups in fit {number} than in fit 1. {_RULE}")
    for c, d in zip(one.grouped.nestings, two.grouped.nestings, strict=True):
        _compare("nesting units", c.labels, d.labels, number)
        if _units_of_groups(one, c) != _units_of_groups(two, d):
            raise DataError(
                f"Groups are in other nesting units in fit {number} than in fit 1. {_RULE}"
            )


def _units_of_groups(model: Model, units: Units) -> dict[str, str]:
    """Group -> nesting unit. Groups without members are in an order that the outcome decides."""
    groups = model.design.coords["group"]
    return dict(zip(map(str, groups), map(str, units.labels[units.code]), strict=True))


def _compare(kind: str, one: Array, two: Array, number: int) -> None:
    """Raise `DataError` with the first label that only one of them has."""
    for here, other, place in ((one, two, 1), (two, one, number)):
        there = set(map(str, other))
        alone = [label for label in here if str(label) not in there]
        if alone:
            raise DataError(
                f"Fits 1 and {number} have different {kind}: only fit {place} has "
                f"{quoted(alone[0])}. {_RULE}"
            )
