"""Outcome families, one file each; a new family is a file and a row here."""

from __future__ import annotations

from rmm.errors import FormulaError
from rmm.families.base import Family, Parameter
from rmm.families.gaussian import GAUSSIAN

FAMILIES: dict[str, Family] = {family.name: family for family in (GAUSSIAN,)}


def find_family(family: str | Family) -> Family:
    """The family of a name; `FormulaError` lists the known ones for any other name."""
    if isinstance(family, Family):
        return family
    if not isinstance(family, str) or family not in FAMILIES:
        raise FormulaError(
            f"Unknown family {family!r}.", hint=f"Known families: {', '.join(FAMILIES)}."
        )
    return FAMILIES[family]


__all__ = ["FAMILIES", "Family", "Parameter", "find_family"]
