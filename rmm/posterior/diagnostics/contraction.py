"""How much the data have narrowed each prior: 1 - var(posterior) / var(prior).

0 says that the posterior is as wide as the prior, 1 that the prior has no part in it. Schad,
Betancourt and Vasishth (2021), "Toward a principled Bayesian workflow in cognitive science",
Psychological Methods 26, 103-126; Betancourt (2018), "Calibrating model-based inferences and
decisions".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from rmm.design.design import slope_centres
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import sampled_draws
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.prior_distributions import draw, quantile, variance
from rmm.formula.prior_syntax import Prior
from rmm.model.spec import CUT

Array = np.ndarray[Any, Any]
#: Below it the posterior's sd is above 0.8 of the prior's.
MOSTLY_PRIOR = 0.36
_QUARTILES = (0.25, 0.75)
_DRAWS, _SEED = 20_000, 20_190_905  # of sums of priors that have no variance
#: A parameter as a sum of a factor times a quantity with a prior, for each of these.
Sum = tuple[tuple[float, Prior], ...]


def contraction(model: Model, draws: Mapping[str, Array]) -> tuple[Array, Array]:
    """The contraction of each element of some parameters.

    Parameters
    ----------
    model : Model
        Its priors are those that the draws have been made with.
    draws : mapping
        Structural parameter -> draws, (chain, draw, *dims).

    Returns
    -------
    contraction : (elements,) array
        1 - var(posterior) / var(prior), or 1 - (ratio of the interquartile ranges)^2 where the
        prior has no variance; NaN for values that are held fixed. In the order of `draws`.
    quartiles : (elements,) bool array
        Where it is of interquartile ranges.
    """
    priors = dict(_priors(model))
    # On the scale of the priors: see `rmm.design.priors.group_sizes`.
    stated = sampled_draws(model.spec, model.design.members, draws)
    each = [v.reshape(v.shape[0] * v.shape[1], -1) for v in stated.values()]
    if not each:
        return np.zeros(0), np.zeros(0, dtype=bool)
    rows: list[tuple[float, bool]] = []
    for name, values in zip(stated, each, strict=True):
        if name == "tau":
            rows += _of_thresholds(model, values)
            continue
        narrow = np.var(values, axis=0, ddof=1).tolist()
        rows += [_one(*one) for one in zip(priors[name], narrow, values.T, strict=True)]
    return np.array([r for r, _ in rows], dtype=float), np.array([q for _, q in rows], dtype=bool)


def _one(prior: Sum, narrow: float, draws: Array) -> tuple[float, bool]:
    """Contraction of one element with variance `narrow`, and whether it is of quartiles."""
    wide = sum(factor**2 * variance(one) for factor, one in prior)
    if wide == 0:
        return np.nan, False
    if np.isfinite(wide):
        return float(1 - narrow / wide), False
    return float(1 - (_range(draws) / _interquartile(prior)) ** 2), True


def _of_thresholds(model: Model, draws: Array) -> list[tuple[float, bool]]:
    """Contraction of sorted draws, from draws of their prior; by ranges where it has no variance.

    The prior at zero of all predictors is wider than at their centres by what slopes add.
    """
    rng, known = np.random.default_rng(_SEED), model.priors.elements
    prior = np.sort(np.column_stack([draw(one, _DRAWS, rng) for one in known[CUT]]), axis=1)
    for name, centre in slope_centres(model.spec, model.design).items():
        for value, one in zip(centre, known[name], strict=True):
            if value:
                prior += (value * draw(one, _DRAWS, rng))[:, None]
    used = [one for priors in known.values() for one in priors]
    ranges = not all(np.isfinite(variance(one)) for one in used if one.family != "fixed")
    width = _range if ranges else np.std
    pairs = zip(draws.T, prior.T, strict=True)
    return [(float(1 - (width(mine) / width(wide)) ** 2), ranges) for mine, wide in pairs]


def _range(values: Array) -> float:
    """The interquartile range."""
    return float(np.ptp(np.quantile(values, _QUARTILES)))


def _interquartile(prior: Sum) -> float:
    """Of a sum by drawing from it; the seed is fixed, so that the same fit has the same table."""
    if len(prior) == 1:
        (factor, one), *_ = prior
        return float(abs(factor) * np.ptp(quantile(one, np.array(_QUARTILES))))
    rng = np.random.default_rng(_SEED)
    total = sum(factor * draw(one, _DRAWS, rng) for factor, one in prior)
    return _range(np.asarray(total))


def _priors(model: Model) -> Iterator[tuple[str, list[Sum]]]:
    """Structural parameter -> the prior of each of its elements."""
    known = model.priors.elements
    for parameter in model.spec.parameters:
        if parameter.name in known:
            yield parameter.name, [((1.0, prior),) for prior in known[parameter.name]]
        elif parameter.name == "b_l2":
            slopes: list[Sum] = [((1.0, prior),) for prior in known.get("beta_l2", ())]
            yield "b_l2", [intercept_prior(model), *slopes] if model.spec.intercept else slopes
        elif parameter.name == B_SIGMA:
            yield B_SIGMA, sigma_priors(model)
    for found in model.spec.correlated:
        first, *_ = known[found.pcor]  # it has the prior of all correlations
        yield found.cor, [((1.0, first),)] * len(known[found.pcor])


def intercept_prior(model: Model) -> Sum:
    """The prior of the intercept at zero of all predictors.

    It is that of alpha - c' b: b all slopes, c the centres at which the prior is stated (0 where
    the user stated one of the intercept).
    """
    spec, design, known = model.spec, model.design, model.priors.elements
    out = [(1.0, known["alpha"][0])]
    for name, centre in slope_centres(spec, design).items():
        pairs = zip(centre, known[name], strict=True)
        out += [(-float(c), prior) for c, prior in pairs if c != 0]
    return tuple(out)


def sigma_priors(model: Model) -> list[Sum]:
    """The priors of `b_sigma`, the first at zero of all predictors of the residual sd."""
    known, centre = model.priors.elements[AT_CENTRES], model.design.outcome["center_sigma"]
    first, *rest = known
    moved = [(-float(c), prior) for c, prior in zip(centre, known, strict=True) if c != 0]
    return [((1.0, first), *moved), *(((1.0, prior),) for prior in rest)]


def mostly_prior(table: pd.DataFrame) -> list[str]:
    """Names of the rows of a summary whose contraction is below `MOSTLY_PRIOR`."""
    return [str(name) for name in table.index[table["contraction"] < MOSTLY_PRIOR]]


def by_quartiles(table: pd.DataFrame) -> list[str]:
    """Names of the rows of a table of contractions that compare interquartile ranges."""
    return [str(name) for name in table.index[table["quartiles"]]]
