"""Log prior densities of posterior draws, for each parameter as its prior is stated.

Two kinds of parameters are reported on another scale than that of their prior: the intercept, whose
prior holds at the predictors' centres, and coefficients of a group of typical size (`w ~ 1/n^b`
without a constraint; see `rmm.design.priors.group_sizes`). Densities are those of the prior's own
scale, without a Jacobian. Effects of members and units have no prior here: their normal
distribution given the standard deviation is part of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rmm.design.design import at_centres
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import sampled_draws
from rmm.design.priors.places import IN_PROGRAMS
from rmm.formula.prior_distributions import log_density
from rmm.formula.prior_syntax import Prior
from rmm.posterior.prediction.linear_predictor import Draws
from rmm.tables.read import Array


@dataclass(frozen=True)
class Element:
    """One number with a prior of its own.

    Attributes
    ----------
    label : str
        As in summaries, ``b_l1[x]``; the intercept at the predictors' centres has the name of the
        intercept.
    name : str
        Of the parameter in programs, such as ``alpha``.
    index : int
    prior : Prior
    """

    label: str
    name: str
    index: int
    prior: Prior


def elements(model: Model) -> tuple[Element, ...]:
    """All elements with a prior, values that are held fixed included."""
    return tuple(_elements(model))


def _elements(model: Model) -> Iterator[Element]:
    dims, known = {p.name: p.dims for p in model.spec.sampled}, model.priors.elements
    # The partial correlation of two effects is their correlation.
    cor = {c.pcor: c.cor for c in model.spec.correlated if len(known.get(c.pcor, ())) == 1}
    for name, priors in known.items():
        labels = [str(v) for v in model.design.coords[dims[name][0]]] if dims[name] else [""]
        shown = cor.get(name, IN_PROGRAMS.get(name, name))
        for index, (label, prior) in enumerate(zip(labels, priors, strict=True)):
            yield Element(f"{shown}[{label}]" if dims[name] else shown, name, index, prior)


def stated_draws(model: Model, draws: Draws) -> dict[str, Array]:
    """Draws on the scales on which priors are stated.

    Parameters
    ----------
    model : Model
    draws : mapping
        Structural parameter -> (S, *dims), as `flat_draws` gives them.

    Returns
    -------
    dict
        Parameter of the program -> (S, K).
    """
    found = dict(sampled_draws(model.spec, model.design.members, draws))
    found |= at_centres(model.spec, model.design, found)
    return {
        name: found[name].reshape(len(found[name]), -1)
        for name in model.priors.elements
        if name in found
    }


def log_priors(model: Model, draws: Draws) -> Mapping[str, Array]:
    """Log prior density of each element that is estimated, by label; (S,) each.

    Parameters are those of `stated_draws`.
    """
    stated = stated_draws(model, draws)
    return {
        one.label: log_density(one.prior, stated[one.name][:, one.index])
        for one in elements(model)
        if one.prior.family != "fixed" and one.name in stated
    }


def total_log_prior(model: Model, draws: Draws) -> Array:
    """(S,) log prior density of all structural parameters together."""
    return np.sum(list(log_priors(model, draws).values()), axis=0)
