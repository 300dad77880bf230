"""Covariates of members, memberships, groups and nesting units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmm.simulation.covariates.distributions import DISTRIBUTIONS, UNSCALED, shaped
from rmm.simulation.memberships.structures import Memberships
from rmm.simulation.recipe_errors import RecipeError, check_name, listed

Array = np.ndarray[Any, Any]
LEVELS = ("membership", "member", "group", "nesting")
#: Levels whose values a level can take over: the coarser ones.
_COARSER = {
    "membership": LEVELS,
    "member": ("member",),
    "group": ("group", "nesting"),
    "nesting": ("nesting",),
}


_TOGETHER = (
    "Correlated covariates need the same `level` and the same `redraw`, and cannot have `column`."
)


@dataclass(frozen=True, eq=False)
class Column:
    """A covariate: its level, one value per unit of that level, and their latent normals.

    `latent` is None for columns of a table.
    """

    level: str
    values: Array
    latent: Array | None = None


def check_covariates(config: Mapping[str, Any], nested: bool, fixed: bool) -> None:
    """Check covariates by name before anything is drawn.

    Parameters
    ----------
    config : mapping
        Name -> settings; see ``study.schema.json``.
    nested : bool
        Whether there are nesting units.
    fixed : bool
        Whether memberships are the same in every replication.

    Raises
    ------
    RecipeError
    """
    for name, one in config.items():
        key = f"covariates.{name}"
        if one.get("column") is not None:
            continue
        if one.get("level") is None:
            raise RecipeError(f"{key}.level", "`level` is missing.", f"Allowed: {listed(LEVELS)}.")
        check_name(f"{key}.level", "a level", one["level"], LEVELS)
        check_name(
            f"{key}.distribution",
            "a distribution of covariates",
            one.get("distribution", "normal"),
            DISTRIBUTIONS,
        )
        if one["level"] == "nesting" and not nested:
            raise RecipeError(
                f"{key}.level",
                "The level is nesting, but the memberships have no nesting units.",
                "Set membership.units.",
            )
        if one.get("icc") and one["level"] != "membership":
            raise RecipeError(f"{key}.icc", "Only covariates of level membership can have `icc`.")
        if not one.get("redraw", True) and not fixed:
            raise RecipeError(
                f"{key}.redraw",
                "A covariate can be drawn once only if the memberships are drawn once.",
                "Set membership.redraw: false.",
            )
        _check_around(name, one, config)
        _check_correlation(name, one, config)
    for level in LEVELS:
        _cholesky(_drawn(config, level), config)


def _check_around(name: str, one: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    other = one.get("around")
    if other is None:
        return
    key = f"covariates.{name}.around"
    check_name(key, "covariate", other, [n for n in config if n != name])
    if config[other].get("around") is not None or config[other].get("column") is not None:
        raise RecipeError(
            key, f"{other!r} cannot be used: it has `around` or `column` itself.", "Name another."
        )
    if config[other].get("level") not in _COARSER[one["level"]]:
        raise RecipeError(
            key,
            f"{other!r} has level {config[other].get('level')}, {name!r} has level {one['level']}.",
            "`around` must name a covariate of a higher level, such as group for a member.",
        )
    if not one.get("redraw", True) and config[other].get("redraw", True):
        raise RecipeError(
            key,
            f"{other!r} is drawn for each data set, but {name!r} only once.",
            f"Set covariates.{other}.redraw: false.",
        )


def _check_correlation(name: str, one: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    for other, value in (one.get("correlation") or {}).items():
        key = f"covariates.{name}.correlation.{other}"
        check_name(key, "covariate", other, [n for n in config if n != name])
        same = [
            config[other].get(k, d) == one.get(k, d) for k, d in (("level", None), ("redraw", True))
        ]
        if not all(same) or config[other].get("column") is not None:
            raise RecipeError(key, _TOGETHER)
        back = (config[other].get("correlation") or {}).get(name, value)
        if back != value:
            raise RecipeError(
                key,
                f"The correlation is {value} here, but {back} under {other!r}.",
                "Give the same value in both places, or give it once.",
            )


def _drawn(config: Mapping[str, Any], level: str) -> list[str]:
    """Names drawn at a level, in an order that does not depend on the file's."""
    return sorted(n for n, c in config.items() if c.get("column") is None and c["level"] == level)


def correlations(names: Sequence[str], config: Mapping[str, Any]) -> Array:
    """(names, names) correlations of the latent normals of covariates of one level."""
    matrix = np.eye(len(names))
    for i, name in enumerate(names):
        for other, value in (config[name].get("correlation") or {}).items():
            if other in names:
                j = names.index(other)
                matrix[i, j] = matrix[j, i] = value
    return matrix


def _cholesky(names: Sequence[str], config: Mapping[str, Any]) -> Array | None:
    matrix = correlations(names, config)
    if np.array_equal(matrix, np.eye(len(names))):
        return None
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise RecipeError(
            f"covariates.{names[0]}.correlation",
            f"These correlations contradict each other: the correlation matrix of {listed(names)} "
            "is not positive definite.",
            "Make the correlations smaller.",
        ) from None


def draw_covariates(
    config: Mapping[str, Any], memberships: Memberships, rng: np.random.Generator, *, once: bool
) -> dict[str, Column]:
    """Draw the covariates that are drawn once (`once`) or those drawn in each replication.

    `around` is not yet added; see `finish_covariates`.
    """
    out: dict[str, Column] = {}
    for level in LEVELS:
        names = [n for n in _drawn(config, level) if config[n].get("redraw", True) != once]
        if names:
            latent = _latent(names, config, memberships, level, rng)
            for name, z in zip(names, latent, strict=True):
                out[name] = Column(level, _scaled(z, config[name]), z)
    return out


def _latent(
    names: Sequence[str],
    config: Mapping[str, Any],
    memberships: Memberships,
    level: str,
    rng: np.random.Generator,
) -> Array:
    """(names, units) standard normals, correlated and with intra-group correlation."""
    factor = _cholesky(names, config)
    z = rng.standard_normal((len(names), memberships.counts[level]))
    z = z if factor is None else factor @ z
    icc = np.array([config[n].get("icc", 0.0) for n in names])[:, None]
    if not icc.any():
        return z
    common = rng.standard_normal((len(names), memberships.counts["group"]))
    common = common if factor is None else factor @ common
    return np.sqrt(icc) * common[:, memberships.group] + np.sqrt(1 - icc) * z


def _scaled(z: Array, config: Mapping[str, Any]) -> Array:
    values = shaped(z, config)
    if config.get("distribution") in UNSCALED:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return config.get("mean", 0.0) + config.get("sd", 1.0) * values


def finish_covariates(
    drawn: Mapping[str, Column], config: Mapping[str, Any], memberships: Memberships
) -> dict[str, Column]:
    """All covariates: drawn ones with what they are `around`, and columns of the real table."""
    out: dict[str, Column] = {}
    for name, one in config.items():
        if one.get("column") is not None:
            out[name] = _from_table(name, one, memberships)
            continue
        column, other = drawn[name], one.get("around")
        if other is not None:
            base = memberships.expand(drawn[other].values, drawn[other].level, column.level)
            column = replace(column, values=base + column.values)
        if not np.isfinite(column.values).all():
            raise RecipeError(
                f"covariates.{name}",
                "A value that was drawn is not finite.",
                "Make sd, shape or mean smaller.",
            )
        out[name] = column
    return out


def _from_table(name: str, one: Mapping[str, Any], memberships: Memberships) -> Column:
    """A real column at the coarsest level within whose units it is constant."""
    key, wanted = f"covariates.{name}.column", one["column"]
    if not memberships.columns:
        raise RecipeError(key, "Only memberships of kind empirical or neighbours have columns.")
    check_name(key, "a numeric column of the memberships", wanted, list(memberships.columns))
    whole = memberships.table or memberships
    values = whole.columns[wanted]
    if not np.isfinite(values).all():
        raise RecipeError(key, f"The column {wanted!r} has missing or infinite values.")
    mean, sd = (values.mean(), values.std()) if one.get("standardize") else (0.0, 1.0)
    if sd == 0:
        raise RecipeError(
            f"covariates.{name}.standardize",
            f"The column {wanted!r} is the same in all rows, so its standard deviation is 0.",
            "Leave `standardize` out.",
        )
    level = memberships.levels.get(wanted) or _coarsest(values, whole)
    if one.get("level") is not None and level not in _COARSER[one["level"]]:
        raise RecipeError(
            f"covariates.{name}.level",
            f"The level is {one['level']}, but the column {wanted!r} varies within a "
            f"{one['level']}.",
        )
    return Column(level, _by_unit((memberships.columns[wanted] - mean) / sd, level, memberships))


def column_of_rows(values: Array, memberships: Memberships) -> Column:
    """A covariate from its (M,) values, at the coarsest level within whose units it is constant."""
    level = _coarsest(values, memberships)
    return Column(level, _by_unit(values, level, memberships))


def _coarsest(values: Array, memberships: Memberships) -> str:
    """The level within whose units the values are constant."""
    levels = ("nesting", "group") if memberships.nesting is not None else ("group",)
    for level in (*levels, "member"):
        by_unit = _by_unit(values, level, memberships)
        if (memberships.expand(by_unit, level, "membership") == values).all():
            return level
    return "membership"


def _by_unit(values: Array, level: str, memberships: Memberships) -> Array:
    """One value of the rows of each unit; 0 for units without rows."""
    if level == "membership":
        return values
    out = np.zeros(memberships.counts[level])
    codes = memberships.expand(np.arange(len(out)), level, "membership")
    out[codes] = values
    return out
