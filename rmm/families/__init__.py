"""Outcome families, one file each; a new family is a file and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.errors import FormulaError
from rmm.families.base import Curvature, Family, Parameter, Widths
from rmm.families.binomial import BINOMIAL
from rmm.families.condlogit import CONDLOGIT
from rmm.families.cox import COX, Cox
from rmm.families.gaussian import GAUSSIAN
from rmm.families.weibull import WEIBULL

FAMILIES: dict[str, Family] = {
    family.name: family for family in (GAUSSIAN, BINOMIAL, CONDLOGIT, WEIBULL, COX)
}


def find_family(family: str | Family, options: Mapping[str, Any] | None = None) -> Family:
    """The family of a name, with its options.

    Parameters
    ----------
    family : str or Family
    options : mapping, optional
        Such as ``{"intervals": 10}`` for ``"cox"``.

    Returns
    -------
    Family

    Raises
    ------
    FormulaError
        For an unknown name or option; it lists the known ones.

    Examples
    --------
    >>> find_family("cox", {"intervals": 10}).options
    {'intervals': 10}
    """
    if not isinstance(family, Family):
        if not isinstance(family, str) or family not in FAMILIES:
            raise FormulaError(
                f"Unknown family {family!r}.", hint=f"Known families: {', '.join(FAMILIES)}."
            )
        family = FAMILIES[family]
    for name in options or {}:
        if name not in family.option_names:
            raise FormulaError(
                f"Family {family.name!r} has no option `{name}`.",
                hint=f"It has: {', '.join(family.option_names) or 'none'}.",
            )
    if not options or family.configure is None:
        return family
    return family.configure(**options)


def family_options() -> frozenset[str]:
    """Names of the options of all families."""
    return frozenset(name for family in FAMILIES.values() for name in family.option_names)


__all__ = [
    "FAMILIES",
    "Cox",
    "Curvature",
    "Family",
    "Parameter",
    "Widths",
    "family_options",
    "find_family",
]
