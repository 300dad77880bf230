"""Distributions of group sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmm.errors import counted
from rmm.simulation.memberships.real_tables import id_column, read_file
from rmm.simulation.recipe_errors import RecipeError, check_keys, check_name

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sizes:
    """Distribution of group sizes; `largest` is None where it has no upper end."""

    draw: Callable[[int, np.random.Generator], Array]
    largest: int | None


def prepare_sizes(config: Any, root: Path) -> Sizes:
    """The distribution of group sizes that `membership.size` says.

    Raises
    ------
    RecipeError
    """
    if isinstance(config, int):
        return Sizes(lambda groups, rng: np.full(groups, config), config)
    key, given = "membership.size", {k: v for k, v in config.items() if k != "distribution"}
    check_name(f"{key}.distribution", "a distribution of sizes", config["distribution"], SIZES)
    required, optional, make = SIZES[config["distribution"]]
    check_keys(key, given, required, optional)
    return make(given, root)


def _uniform_sizes(config: Mapping[str, Any], root: Path) -> Sizes:
    low, high = config["low"], config["high"]
    if low > high:
        raise RecipeError("membership.size.low", f"`low` is {low}, which is above `high`: {high}.")
    return Sizes(lambda groups, rng: rng.integers(low, high + 1, size=groups), high)


def _poisson_sizes(config: Mapping[str, Any], root: Path) -> Sizes:
    least = config.get("minimum", 1)
    if config["mean"] < least:
        raise RecipeError(
            "membership.size.mean",
            f"`mean` is {config['mean']}, which is below the minimum size {least}.",
        )
    rate = config["mean"] - least
    return Sizes(lambda groups, rng: least + rng.poisson(rate, size=groups), None)


def _table_sizes(config: Mapping[str, Any], root: Path) -> Sizes:
    values = np.asarray(config["values"])
    chances = np.asarray(config.get("probabilities", np.ones(len(values))), dtype=float)
    if len(chances) != len(values) or chances.sum() <= 0:
        raise RecipeError(
            "membership.size.probabilities",
            f"There are {counted(len(values), 'size')} under `values`, and "
            f"{counted(len(chances), 'probability', 'probabilities')} with sum {chances.sum():g}.",
            "Give one probability for each size; their sum must be above 0.",
        )
    chances = chances / chances.sum()
    return Sizes(lambda groups, rng: rng.choice(values, size=groups, p=chances), int(values.max()))


def _empirical_sizes(config: Mapping[str, Any], root: Path) -> Sizes:
    """Sizes of the groups of a real table, each as likely as it is frequent there."""
    from rmm.tables.read import codes  # pandas, which other sizes do without

    group = config.get("group", "group")
    frame = read_file("membership.size.file", config["file"], root, [group])
    column = id_column("membership.size", "group", group, frame)
    sizes = np.bincount(codes(frame[column])[0])
    return Sizes(lambda groups, rng: rng.choice(sizes, size=groups), int(sizes.max()))


type _Maker = Callable[[Mapping[str, Any], Path], Sizes]

#: Distribution of sizes: required keys, optional keys, maker.
SIZES: dict[str, tuple[tuple[str, ...], tuple[str, ...], _Maker]] = {
    "uniform": (("low", "high"), (), _uniform_sizes),
    "poisson": (("mean",), ("minimum",), _poisson_sizes),
    "table": (("values",), ("probabilities",), _table_sizes),
    "empirical": (("file",), ("group",), _empirical_sizes),
}
