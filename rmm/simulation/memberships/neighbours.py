"""Groups with a home member, some of which move to a neighbour of it: pupils and schools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmm.simulation.memberships.arrays import Draw, IdNames, Memberships, Structure
from rmm.simulation.recipe_errors import RecipeError

Array = np.ndarray[Any, Any]


def _prepare_neighbours(config: Mapping[str, Any], root: Path) -> Draw:
    members, each = config["members"], config["groups_per_member"]
    if members < 3:
        raise RecipeError(
            "membership.members",
            f"The value is {members}.",
            "At least 3 members are needed: each has a neighbour on either side.",
        )
    movers = round(config["mobility"] * members * each)
    names = IdNames(config["member"], config["group"], None)

    def draw(rng: np.random.Generator) -> Memberships:
        return _draw_neighbours(names, members, each, movers, rng)

    return draw


def _draw_neighbours(
    names: IdNames, members: int, each: int, movers: int, rng: np.random.Generator
) -> Memberships:
    """Movers are exactly so many: the share is the design's, and has no sampling error.

    Members stand in a ring, so that all of them get and send as many movers on average; in a line
    the two at its ends would differ from the others.
    """
    home = np.repeat(np.arange(members), each)
    moving = np.sort(rng.choice(len(home), size=movers, replace=False))
    side = rng.choice([-1, 1], size=movers)
    group = np.concatenate([np.arange(len(home)), moving])
    member = np.concatenate([home, (home[moving] + side) % members])
    first = np.repeat([1.0, 0.0], [len(home), movers])
    order = np.lexsort([member, group])
    return Memberships(
        names=names,
        member=member[order],
        group=group[order],
        start=np.searchsorted(group[order], np.arange(len(home) + 1)),
        nesting=None,
        member_labels=np.arange(1, members + 1),
        group_labels=np.arange(1, len(home) + 1),
        nesting_labels=None,
        columns={"first": first[order]},
        levels={"first": "membership"},
    )


NEIGHBOURS = Structure(
    "neighbours",
    ("members", "groups_per_member", "mobility"),
    {"member": "member", "group": "group", "redraw": True},
    _prepare_neighbours,
)
