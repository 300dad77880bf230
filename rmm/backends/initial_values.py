"""Initial values: dispersed over chains, valid for priors and weight functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.design.members.memberships import places_of, weight_columns
from rmm.design.prepare import Model
from rmm.design.priors.places import IN_PROGRAMS
from rmm.design.weights.invalid_weights import finite_weights
from rmm.errors import BackendError, DataError, unknown_name
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA, at_zero
from rmm.formula.prior_distributions import quantile
from rmm.formula.prior_syntax import Prior
from rmm.model.correlations import partial_correlations
from rmm.model.spec import CUT

Array = np.ndarray[Any, Any]
_TRIES = 20
_OWN_RULES = ("weight", "feature", "threshold", "imputation", "log_sd")  # roles
_LOW, _HIGH = np.log(0.2), np.log(2.0)  # of a standard deviation, relative to its scale


def initial_values(
    model: Model, chains: int, seed: int, inits: Any = None
) -> list[dict[str, float | Array]]:
    """One mapping of sampled structural parameters to values per chain.

    Locations are drawn about zero (the intercept about the outcome's mean) with the outcome's
    scale, standard deviations between a fifth and twice that scale, weight coefficients within
    one standardised unit of zero and halved until every weight is finite: dispersed, so that
    R-hat can see chains that do not meet.

    Parameters
    ----------
    inits : mapping or sequence of mappings, optional
        The user's values by parameter name, for all chains or one mapping per chain.

    Raises
    ------
    BackendError
        If `inits` does not fit the model, or no valid weight coefficients can be found.
    """
    given = _given(inits, chains, model)
    streams = np.random.SeedSequence([seed, 0x1B17]).spawn(chains)
    plausible = _Plausible(model)
    drawn = [plausible.values(np.random.default_rng(stream)) for stream in streams]
    for index, part in enumerate(model.spec.members):
        if part.estimated:
            _make_valid(index, model, drawn)
    return [{**values, **own} for values, own in zip(drawn, given, strict=True)]


def _given(inits: Any, chains: int, model: Model) -> list[dict[str, Any]]:
    if inits is None:
        return [{} for _ in range(chains)]
    if not isinstance(inits, Mapping | list | tuple):
        raise BackendError(f"`inits` must be one mapping, or a list of {chains} (one per chain).")
    per_chain = [inits] * chains if isinstance(inits, Mapping) else list(inits)
    if len(per_chain) != chains or not all(isinstance(i, Mapping) for i in per_chain):
        raise BackendError(f"`inits` must be one mapping, or a list of {chains} (one per chain).")
    allowed = {p.name for p in model.spec.sampled if p.structural} | {"b_l2"}
    allowed |= {"tau"} if model.spec.thresholds else set()
    allowed |= {B_SIGMA} if model.spec.family.sigma is not None else set()
    allowed |= {found.cor for found in model.spec.correlated}
    hidden = {*IN_PROGRAMS, *(found.pcor for found in model.spec.correlated)}
    out = []
    for values in per_chain:
        unknown = set(values) - allowed
        if unknown:
            raise BackendError(
                "In `inits`, "
                + unknown_name(
                    sorted(unknown)[0],
                    "a parameter with initial values",
                    sorted(allowed - hidden),
                )
            )
        out.append(_sampled({k: _numbers(k, v, model) for k, v in values.items()}, model))
    return out


def _numbers(name: str, given: Any, model: Model) -> Any:
    """A user's initial value as floats of the parameter's shape and support."""
    parameter = next(p for p in (*model.spec.sampled, *model.spec.parameters) if p.name == name)
    length = len(model.design.coords[parameter.dims[0]]) if parameter.dims else 1
    try:
        values = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        values = np.array([np.nan])
    wanted = f"{length} finite numbers" if parameter.dims else "a finite number"
    if values.shape != (length,) or not np.isfinite(values).all():
        raise BackendError(
            f"The initial value of `{name}` in `inits` must be {wanted}, not {given!r}."
        )
    if parameter.support == "ordered" and (np.diff(values) <= 0).any():
        raise BackendError(
            f"The initial values of `{name}` in `inits` must increase, but are {given!r}."
        )
    if parameter.support == "correlation" and not _positive_definite(values):
        raise BackendError(
            f"The initial values of `{name}` in `inits` must be the correlations of a positive "
            f"definite matrix, but are {given!r}."
        )
    if parameter.support == "probability" and ((values <= 0) | (values >= 1)).any():
        raise BackendError(
            f"The initial value of `{name}` in `inits` must be between 0 and 1, not {given!r}."
        )
    if parameter.support == "positive" and (values <= 0).any():
        raise BackendError(
            f"The initial value of `{name}` in `inits` must be positive, not {given!r}."
        )
    return values if parameter.dims else float(values[0])


def _positive_definite(correlations: Array) -> bool:
    try:
        partial_correlations(correlations)
    except np.linalg.LinAlgError:
        return False
    return True


def _sampled(values: dict[str, Any], model: Model) -> dict[str, Any]:
    """`b_l2` and `tau` as what programs sample (those at the centres are near enough), `cor_l1`."""
    for found in model.spec.correlated:
        if found.cor in values:
            values[found.pcor] = partial_correlations(values.pop(found.cor))
    if "b_l2" in values:
        b = np.atleast_1d(np.asarray(values.pop("b_l2"), dtype=float))
        if model.spec.intercept:
            values["alpha"], b = float(b[0]), b[1:]
        if model.spec.terms:
            values["beta_l2"] = b
    if "tau" in values:
        values[CUT] = values.pop("tau")
    if B_SIGMA in values:
        center = model.design.outcome["center_sigma"]
        values[AT_CENTRES] = at_zero(np.asarray(values.pop(B_SIGMA), dtype=float), -center)
    return values


class _Plausible:
    """Where parameters of a model may well be: locations and scales, the same for all chains."""

    def __init__(self, model: Model) -> None:
        self.model = model
        location, s = model.spec.family.scale(model.design.outcome)
        if model.design.offset is not None:
            location -= float(np.mean(model.design.offset))
        scales = _slope_scales(model)
        #: Parameter without a rule of its own -> its centre, and the spread of its elements.
        self.ranges: dict[str, tuple[float, list[float]]] = {}
        for parameter in model.spec.sampled:
            if not parameter.structural or parameter.role in _OWN_RULES:
                continue
            ones = np.ones(len(model.priors.elements[parameter.name]))
            if parameter.name == "alpha":
                centre, spread = location, np.array([s])
            elif parameter.support == "positive":  # a Weibull shape is an inverse sd
                unit = np.array([1 / s if parameter.role == "shape" else s])
                centre, spread = 0.0, unit * scales.get(parameter.name, ones)
            else:
                centre, spread = 0.0, 0.5 * scales.get(parameter.name, ones) * s
            self.ranges[parameter.name] = centre, spread.tolist()

    def values(self, rng: np.random.Generator) -> dict[str, float | Array]:
        """Values of all parameters for one chain."""
        out: dict[str, float | Array] = {}
        for parameter in self.model.spec.sampled:
            if not parameter.structural:
                continue
            name, priors = parameter.name, self.model.priors.elements[parameter.name]
            if parameter.role == "threshold":
                out[name] = self.thresholds(rng)
            elif parameter.role == "weight":
                out[name] = self.weights(name, priors, rng)
            elif parameter.role == "feature":
                out[name] = _near(priors, rng)
            elif parameter.role == "imputation":
                near = _near(priors, rng)
                out[name] = near if parameter.dims else float(near[0])
            elif parameter.role == "log_sd":
                out[name] = self.log_sds(priors, rng)
            else:
                centre, spread = self.ranges[name]
                found = [_one(p, centre, d, rng) for p, d in zip(priors, spread, strict=True)]
                out[name] = np.array(found) if parameter.dims else found[0]
        return out

    def thresholds(self, rng: np.random.Generator) -> Array:
        """Thresholds of the shares of the levels, moved and stretched."""
        model = self.model
        assert model.spec.family.thresholds is not None  # it has this parameter
        plain = model.spec.family.thresholds(model.design.outcome)
        known = 0.0 if model.design.offset is None else float(np.mean(model.design.offset))
        return np.asarray(
            known + plain * np.exp(rng.uniform(-0.5, 0.5)) + rng.uniform(-0.5, 0.5), dtype=float
        )

    def log_sds(self, priors: tuple[Prior, ...], rng: np.random.Generator) -> Array:
        """Coefficients with which the residual sds of all groups are near the outcome's sd."""
        outcome = self.model.design.outcome
        largest = np.abs(outcome["X_sigma"]).max(axis=0)
        spread = 0.5 / np.where(largest > 0, largest, 1.0)
        centre = np.zeros(len(priors))
        centre[0] = np.log(self.model.spec.family.scale(outcome)[1]) - 0.5
        found = zip(priors, centre, spread, strict=True)
        return np.array([_one(prior, float(c), float(d), rng) for prior, c, d in found])

    def weights(self, name: str, priors: tuple[Prior, ...], rng: np.random.Generator) -> Array:
        """Weight coefficients within one standardised unit of 0."""
        index = next(i for i, p in enumerate(self.model.spec.members) if p.b_w == name)
        units = 1 / self.model.design.members[index].multiplier_scale
        return np.array([_one(p, 0.0, unit, rng) for p, unit in zip(priors, units, strict=True)])


def _slope_scales(model: Model) -> dict[str, Array]:
    design = model.design
    out = {"beta_l2": _inverse(design.scale_l2)}
    for part, member in zip(model.spec.members, design.members, strict=True):
        out[part.b] = _inverse(member.b_scale)
        out[part.sigma_slope] = _inverse(member.slope_scale)
    for nest, nesting in zip(model.spec.nestings, design.nestings, strict=True):
        out[nest.b] = _inverse(nesting.scale)
    return out


def _inverse(scale: Array) -> Array:
    return 1.0 / np.where(scale > 0, scale, 1.0)


def _near(priors: tuple[Prior, ...], rng: np.random.Generator) -> Array:
    """Values within half a scale of their priors' locations, where they have one."""
    values = []
    for prior in priors:
        centre, spread = prior.hyper.get("location", 0.0), prior.hyper.get("scale", 1.0)
        values.append(_one(prior, centre, 0.5 * spread, rng))
    return np.array(values)


def _one(prior: Prior, centre: float, spread: float, rng: np.random.Generator) -> float:
    """One value within the support of a prior."""
    if prior.family == "fixed":
        return prior.values[0]
    if prior.family == "uniform":
        low, high = prior.values
        return float(low + (high - low) * rng.uniform(0.25, 0.75))
    if prior.family == "lkj":
        return float(rng.uniform(-0.5, 0.5))
    if prior.family == "beta":
        return float(quantile(prior, rng.uniform(0.25, 0.75)))
    if prior.family in ("normal", "student_t"):
        return float(centre + spread * rng.uniform(-1, 1))
    return float(spread * np.exp(rng.uniform(_LOW, _HIGH)))


def _make_valid(index: int, model: Model, drawn: list[dict[str, float | Array]]) -> None:
    """Halve weight coefficients of a block until they give finite weights in every chain."""
    name = model.spec.members[index].b_w
    priors = model.priors.elements[name]
    free = [p.family in ("normal", "student_t") for p in priors]
    if _problem(index, model, np.array([chain[name] for chain in drawn])) is None:
        return
    for chain in drawn:
        for _ in range(_TRIES):
            if _problem(index, model, np.array([chain[name]])) is None:
                break
            chain[name] = np.where(free, np.asarray(chain[name]) / 2, chain[name])
        else:
            raise BackendError(
                f"No initial values of {name} that were tried give finite weights. "
                f"{_problem(index, model, np.array([chain[name]]))} Or give initial values with "
                "`inits`."
            )


def _problem(index: int, model: Model, values: Array) -> str | None:
    """Why weights are not finite at some (chains, K) coefficients; None if they are."""
    part, units = model.spec.members[index], model.grouped.members[index]
    parameters = {name: values[:, [k]] for k, name in enumerate(part.weight.parameters)}
    columns = weight_columns(part, model.grouped, units)
    places = places_of(part, model.grouped, units)
    try:
        finite_weights(part.weight, columns, units.segments, places, parameters)
    except DataError as error:
        return str(error)
    return None
