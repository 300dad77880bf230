"""What a table cannot tell about a multinomial model, by the names of its parameters.

What concerns members, groups and predictors is found in the binomial model of the same formula;
the separation of the choices in the conditional logit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rmm.design.checks.design_warnings import (
    Look,
    groups_of_one,
    many_levels,
    separation,
    standard_deviations,
)
from rmm.design.prepare import Model
from rmm.design.unordered.choice_model import CategoryModel
from rmm.design.unordered.choice_priors import SIGMA
from rmm.errors import counted, quoted


def category_warnings(model: CategoryModel, choices: Model) -> Iterator[str]:
    """Texts of warnings: what was found, and what follows for the results.

    Parameters
    ----------
    model : CategoryModel
    choices : Model
        Its conditional logit.

    Yields
    ------
    str
    """
    base = Look(model.base)
    yield from groups_of_one(base)
    statements = model.choice.statements
    if not any(s.target == SIGMA and s.prior.family == "fixed" for s in statements):
        yield from standard_deviations(base)
    yield from separation(Look(choices))
    yield from _rare_categories(model)
    yield from many_levels(base)


def _rare_categories(model: CategoryModel) -> Iterator[str]:
    """Fewer groups of a category than it has parameters; the reference is part of each."""
    count = np.bincount(model.codes, minlength=len(model.categories.labels))
    random = model.block is not None and model.block.random
    parameters = len(model.slopes) + len(model.covariates) + int(random)
    for value, own in zip(model.categories.values[1:], count[1:].tolist(), strict=True):
        rare, least = (value, own) if own < count[0] else (model.categories.values[0], count[0])
        if least < parameters:
            yield (
                f"Only {counted(int(least), 'group has', 'groups have')} the category "
                f"{quoted(rare)} of `{model.outcome}`, but {quoted(value)} has {parameters} "
                "parameters besides the intercept. The information is in the rarer of the two "
                "categories, not in the number of groups. The posterior of these parameters "
                "depends mostly on the priors. Combine rare categories, or choose a frequent "
                "`reference`."
            )
