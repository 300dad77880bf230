"""Who belongs to whom: the registry of structures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmm.simulation.memberships.arrays import Draw, IdNames, Memberships, Structure
from rmm.simulation.memberships.empirical import EMPIRICAL
from rmm.simulation.memberships.neighbours import NEIGHBOURS
from rmm.simulation.memberships.synthetic import SYNTHETIC
from rmm.simulation.recipe_errors import RecipeError, check_keys, check_name

__all__ = ["STRUCTURES", "Draw", "IdNames", "Memberships", "Structure", "prepare_membership"]

_LARGEST = 10_000_000  # of any number below `membership`: more has no place in memory

#: Kind of memberships -> its keys, and how they are drawn.
STRUCTURES: dict[str, Structure] = {s.name: s for s in (SYNTHETIC, EMPIRICAL, NEIGHBOURS)}


def prepare_membership(config: Mapping[str, Any], root: Path) -> tuple[Draw, bool]:
    """How memberships are drawn, and whether they are the same in every replication.

    Parameters
    ----------
    config : mapping
        ``kind`` and its keys; see ``study.schema.json``.
    root : Path
        Folder that relative paths start from.

    Raises
    ------
    RecipeError
    """
    check_name("membership.kind", "a kind of memberships", str(config.get("kind")), STRUCTURES)
    _check_size("membership", config)
    structure = STRUCTURES[config["kind"]]
    given = {k: v for k, v in config.items() if k != "kind"}
    check_keys("membership", given, structure.required, structure.optional)
    whole = {**structure.optional, **given}
    return structure.prepare(whole, root), not structure.redrawn(whole)


def _check_size(key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_size(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_size(key, inner)
    elif isinstance(value, int | float) and value > _LARGEST:
        raise RecipeError(key, f"The value is {value:,.0f}.", f"At most {_LARGEST:,} is allowed.")
