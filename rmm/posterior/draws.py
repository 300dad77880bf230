"""Run -> ArviZ DataTree. The only file that knows axis orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from rmm.backends.base import Run
from rmm.design.prepare import Model
from rmm.errors import BackendError, counted
from rmm.families import Parameter

if TYPE_CHECKING:
    import xarray

Array = np.ndarray[Any, Any]


def check_draws(run: Run, model: Model, chains: int, draws: int) -> None:
    """Refuse what is no sample of the model's parameters, whichever engine it came from.

    Raises
    ------
    BackendError
        For a variable of other dims, of another number of chains or draws, or with draws that
        are not finite.
    """
    for name, values in run.draws.items():
        if values.shape[:2] != (chains, draws):
            raise BackendError(
                f"The engine returned {name} with shape {values.shape}, but there should be "
                f"{counted(chains, 'chain')} of {draws} draws."
            )
        finite = np.isfinite(values)
        if not finite.all():
            chain, draw = (int(i[0]) for i in np.nonzero(~finite)[:2])
            raise BackendError(
                f"Draws of {name} are not finite numbers ({(~finite).sum():,} in all). The "
                f"first is draw {draw + 1} of chain {chain + 1}."
            )
    for parameter in model.spec.parameters:
        if parameter.name in run.draws:
            _shaped(run.draws[parameter.name], parameter, model)


@dataclass(frozen=True)
class Elements:
    """Draws of the elements of all structural parameters, in the order of `summary()`.

    Attributes
    ----------
    labels : tuple of str
        Such as ``b_l1[fdep]``.
    values : array, shape (chains, draws, elements)
    parameters : mapping
        Parameter -> (chains, draws, *dims) array, which `values` holds as well.
    """

    labels: tuple[str, ...]
    values: Array
    parameters: Mapping[str, Array]


def structural_draws(run: Run, model: Model) -> Elements:
    """The structural parameters of a run.

    Parameters
    ----------
    run : Run
        Draws of shape (chain, draw, *dims).
    model : Model
    """
    labels: list[str] = []
    blocks: list[Array] = []
    parameters: dict[str, Array] = {}
    for parameter in model.spec.parameters:
        if not parameter.structural or parameter.name not in run.draws:
            continue
        values = _shaped(run.draws[parameter.name], parameter, model)
        parameters[parameter.name] = values
        blocks.append(values.reshape(*values.shape[:2], -1))
        named = [""]
        for dim in parameter.dims:
            own = [str(label) for label in model.design.coords[dim]]
            named = [f"{before},{label}" if before else label for before in named for label in own]
        name = parameter.name
        labels += [f"{name}[{label}]" for label in named] if parameter.dims else [name]
    if not blocks:
        return Elements((), np.zeros((*next(iter(run.draws.values())).shape[:2], 0)), {})
    return Elements(tuple(labels), np.concatenate(blocks, axis=2), parameters)


def to_datatree(run: Run, model: Model) -> xarray.DataTree:
    """The draws of a run with the covariates', members' and units' own labels.

    Parameters
    ----------
    run : Run
        Draws of shape (chain, draw, *dims).
    model : Model

    Returns
    -------
    xarray.DataTree
        Groups ``posterior``, ``sample_stats``, ``observed_data``, ``constant_data``.

    Raises
    ------
    BackendError
        If an engine returned other shapes than the model's.
    """
    variables: dict[str, Any] = {}
    used: set[str] = set()
    for parameter in model.spec.parameters:
        if parameter.name in run.draws:
            values = _shaped(run.draws[parameter.name], parameter, model)
            variables[parameter.name] = (("chain", "draw", *parameter.dims), values)
            used.update(parameter.dims)
    # A user's own program may monitor more than the model's parameters.
    for name, values in run.draws.items():
        if name not in variables:
            extra = [f"{name}_dim_{i}" for i in range(values.ndim - 2)]
            variables[name] = (("chain", "draw", *extra), values)
    posterior = xarray.Dataset(
        variables, coords=_coords(run, {d: model.design.coords[d] for d in used})
    )
    stats = {k: (("chain", "draw"), v) for k, v in run.sample_stats.items()}
    tree = {
        "posterior": posterior,
        "sample_stats": xarray.Dataset(stats, coords=_coords(run, {})),
        "observed_data": _outcome(model),
        "constant_data": _constant(model),
    }
    return xarray.DataTree.from_dict(tree)


def _coords(run: Run, labels: dict[str, Array]) -> dict[str, Any]:
    first = next(iter(run.draws.values()))
    own = {name: text_labels(values) for name, values in labels.items()}
    return {"chain": np.arange(first.shape[0]), "draw": np.arange(first.shape[1]), **own}


def text_labels(labels: Array) -> Array:
    """Labels of one NetCDF type: integers of 64 bits where all are, else text."""
    if all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in labels):
        for kind in (np.int64, np.uint64):
            limits = np.iinfo(kind)
            if all(limits.min <= v <= limits.max for v in labels):
                return np.array([int(v) for v in labels], dtype=kind)
    return np.array([str(v) for v in labels], dtype=str)


def _shaped(values: Array, parameter: Parameter, model: Model) -> Array:
    shape = tuple(len(model.design.coords[d]) for d in parameter.dims)
    if values.shape[2:] == shape:
        return values
    if int(np.prod(values.shape[2:])) == int(np.prod(shape)):  # length-1 vectors and scalars
        return values.reshape(*values.shape[:2], *shape)
    raise BackendError(
        f"The engine returned {parameter.name} with shape {values.shape[2:]} instead of {shape}."
    )


def _outcome(model: Model) -> xarray.Dataset:
    coords = {"group": text_labels(model.design.coords["group"])}
    outcome = model.design.outcome
    arrays = {k: ("group", np.asarray(outcome[k])) for k in model.spec.family.observed}
    return xarray.Dataset(arrays, coords=coords)


def _constant(model: Model) -> xarray.Dataset:
    arrays: dict[str, Any] = {"row": ("membership", model.design.rows)}
    for part, member in zip(model.spec.members, model.design.members, strict=True):
        dim = part.memberships
        if part.partial:  # memberships of its own
            arrays[f"row{part.suffix}"] = (dim, member.rows)
        arrays[f"member_index{part.suffix}"] = (dim, member.member)
        arrays[f"group_index{part.suffix}"] = (dim, member.group)
        if member.weight is not None:
            arrays[f"weight{part.suffix}"] = (dim, member.weight)
    return xarray.Dataset(arrays)
