"""Estimands of a fit on scales that people report, one file each; a new one is a file and a row.

Each file has one function ``draw(source, *, options...) -> Quantity``. Definitions and formulas
are on the page "Estimands" of the documentation. `rmm.simulation.estimands` computes the true
values of simulated data, and shares no code with this package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.errors import BackendError, unknown_name
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.draws import text_labels
from rmm.posterior.estimands import (
    contrast,
    effective_members,
    largest_weight,
    marginal_effect,
    member_rank,
    member_weight,
    variance_share,
)
from rmm.posterior.estimands.quantity import Quantity, Source

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class ReadyEstimand:
    """One row: how an estimand is computed, and what it is."""

    draw: Callable[..., Quantity]
    shows: str

    @property
    def options(self) -> dict[str, Any]:
        """Option -> default; `inspect.Parameter.empty` where it is needed."""
        parameters = inspect.signature(self.draw).parameters
        return {name: p.default for name, p in parameters.items() if name != "source"}


ESTIMANDS: dict[str, ReadyEstimand] = {
    "largest_weight": ReadyEstimand(
        largest_weight.draw, "weight of the member with the largest value of a column in its group"
    ),
    "member_weight": ReadyEstimand(member_weight.draw, "weight of a named member"),
    "effective_members": ReadyEstimand(
        effective_members.draw, "effective number of members of a group"
    ),
    "variance_share": ReadyEstimand(variance_share.draw, "share of the variance per level"),
    "marginal_effect": ReadyEstimand(
        marginal_effect.draw, "average marginal effect of a covariate on the outcome's scale"
    ),
    "contrast": ReadyEstimand(
        contrast.draw, "change of the expected outcome between two compositions of a group"
    ),
    "rank": ReadyEstimand(member_rank.draw, "rank of members by effect or contribution"),
}


def estimate(source: Source, name: str, options: Mapping[str, Any]) -> Quantity:
    """Draws of a ready estimand.

    Parameters
    ----------
    source : Source
    name : str
        A key of `ESTIMANDS`.
    options : mapping

    Raises
    ------
    BackendError
        For an unknown name or option, one that is missing, or what the model does not have.
    DataError
        For members, groups, columns or levels that the fit does not know.
    """
    if name not in ESTIMANDS:
        raise BackendError(unknown_name(name, "an estimand", ESTIMANDS))
    known = ESTIMANDS[name].options
    for option in options:
        if option not in known:
            raise BackendError(unknown_name(option, f"an option of estimand {name!r}", known))
    for option, default in known.items():
        if default is inspect.Parameter.empty and options.get(option) is None:
            raise BackendError(
                f"The estimand {name!r} needs `{option}`. Its options are: {', '.join(known)}."
            )
    return ESTIMANDS[name].draw(source, **options)


#: Keys of an entry of a study file that are no options of the estimand.
_OF_STUDIES = ("estimand", "baseline", "null", "alpha", "truth")


def split_spec(name_or_spec: Any, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options of ``estimand("rank", member="a")`` or of a study file's mapping.

    Raises
    ------
    BackendError
        For anything else.
    """
    if isinstance(name_or_spec, str):
        return name_or_spec, dict(options)
    if not isinstance(name_or_spec, Mapping) or "estimand" not in name_or_spec:
        raise BackendError(
            "The estimand must be a name, such as 'largest_weight', or a mapping as in a study "
            f"file, such as {{'estimand': 'largest_weight', 'by': 'x'}}. {_listed()}"
        )
    rest = {k: v for k, v in name_or_spec.items() if k not in _OF_STUDIES}
    return str(name_or_spec["estimand"]), {**rest, **options}


def _listed() -> str:
    return f"Allowed: {', '.join(ESTIMANDS)}."


def as_table(name: str, found: Quantity) -> pd.DataFrame:
    """One row per label, or one for a single number: mean, sd, q2.5, median, q97.5."""
    labels = [name] if found.labels is None else found.labels
    return pd.DataFrame(spread(found.values), index=pd.Index(labels, name=found.dim))


def as_array(name: str, found: Quantity, chains: int) -> xarray.DataArray:
    """Draws (chain, draw, labels), or (chain, draw) of a single number."""
    import xarray  # a study, which reads the registry, does without it

    shaped = found.values.reshape(chains, -1, found.values.shape[1])
    coords: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(shaped.shape[1])}
    if found.labels is None:
        return xarray.DataArray(shaped[:, :, 0], dims=("chain", "draw"), coords=coords, name=name)
    coords[found.dim] = text_labels(found.labels)
    return xarray.DataArray(shaped, dims=("chain", "draw", found.dim), coords=coords, name=name)
