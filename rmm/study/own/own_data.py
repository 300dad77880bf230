"""Data sets that a user's function draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rmm.errors import BackendError, BackendTimeout, RmmError, StudyError
from rmm.simulation import Recipe
from rmm.study.own.given_data import GivenData, given_data
from rmm.study.own.named_code import NamedCode
from rmm.study.own.process_pool import call


@dataclass(frozen=True, eq=False)
class OwnData:
    """The data function of a scenario.

    Attributes
    ----------
    code : NamedCode
        Its arguments are those of the scenario.
    estimands : tuple of str
        Names whose true values it must return.
    """

    code: NamedCode
    estimands: tuple[str, ...]


def draw_own(own: OwnData, recipe: Recipe, seed: Mapping[str, Any]) -> GivenData:
    """One data set of a user's function.

    Parameters
    ----------
    own : OwnData
    recipe : Recipe
        Of `rmm.study.own.given_data.given_recipe`.
    seed : mapping
        ``entropy`` and ``spawn_key`` of its address.

    Raises
    ------
    StudyError
        If the code may not run.
    BackendTimeout, BackendError
        If it takes too long, raises an exception, or returns what cannot be used: every method
        has a failed fit of this data set.
    """
    try:
        header, tables = call(own.code, "data", seed)
        truth = _true_values(own, header["truth"])
        return given_data(recipe, tables, truth)
    except BackendTimeout as error:
        raise BackendTimeout(f"The data set was not drawn: {error}") from None
    except BackendError as error:
        raise BackendError(f"The data set was not drawn: {error}") from None
    except StudyError:
        raise
    except RmmError as error:
        raise BackendError(
            f"{own.code.written} returned data that cannot be used: {error}"
        ) from None


def _true_values(own: OwnData, truth: Mapping[str, Any]) -> dict[str, float]:
    for name, value in truth.items():
        if not isinstance(value, int | float) or value != value:
            raise BackendError(f"the true value of {name} is {value!r}, not a number")
    missing = [name for name in own.estimands if name not in truth]
    if missing:
        raise BackendError(
            f"{own.code.written} returned no true value of {', '.join(missing)} (returned: "
            f"{', '.join(truth) or 'none'})"
        )
    return {name: float(value) for name, value in truth.items()}
