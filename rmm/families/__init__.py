"""Outcome families, one file each; a new family is a file and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rmm.errors import FormulaError, unknown_name
from rmm.families.base import Curvature, Domain, Family, KernelOutcome, Parameter, Widths
from rmm.families.beta import BETA
from rmm.families.binomial import BINOMIAL
from rmm.families.cloglog import CLOGLOG
from rmm.families.condlogit import CONDLOGIT
from rmm.families.cox import COX, Cox
from rmm.families.gamma import GAMMA
from rmm.families.gaussian import GAUSSIAN
from rmm.families.hurdle_negbinomial import HURDLE_NEGBINOMIAL
from rmm.families.hurdle_poisson import HURDLE_POISSON
from rmm.families.lognormal import LOGNORMAL
from rmm.families.negbinomial import NEGBINOMIAL
from rmm.families.ordinal import ORDINAL, Ordinal
from rmm.families.poisson import POISSON
from rmm.families.probit import PROBIT
from rmm.families.student import STUDENT
from rmm.families.variants.observation_weights import OPTION, check_takes_weights
from rmm.families.weibull import WEIBULL
from rmm.families.zero_inflated_negbinomial import ZERO_INFLATED_NEGBINOMIAL
from rmm.families.zero_inflated_poisson import ZERO_INFLATED_POISSON

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        GAUSSIAN,
        BINOMIAL,
        CONDLOGIT,
        WEIBULL,
        COX,
        POISSON,
        NEGBINOMIAL,
        ZERO_INFLATED_POISSON,
        ZERO_INFLATED_NEGBINOMIAL,
        HURDLE_POISSON,
        HURDLE_NEGBINOMIAL,
        LOGNORMAL,
        GAMMA,
        STUDENT,
        BETA,
        PROBIT,
        CLOGLOG,
        ORDINAL,
    )
}

#: What R's packages and other programs call the families, without capitals and spaces.
SYNONYMS: dict[str, str] = {
    "linear": "gaussian",
    "normal": "gaussian",
    "logit": "binomial",
    "logistic": "binomial",
    "bernoulli": "binomial",
    "binary": "binomial",
    "conditionallogit": "condlogit",
    "clogit": "condlogit",
    "coxph": "cox",
    "count": "poisson",
    "negativebinomial": "negbinomial",
    "negbin": "negbinomial",
    "nb2": "negbinomial",
    "zip": "zero_inflated_poisson",
    "zinb": "zero_inflated_negbinomial",
    "zeroinflatednegativebinomial": "zero_inflated_negbinomial",
    "hurdlenegativebinomial": "hurdle_negbinomial",
    "t": "student",
    "studentt": "student",
    "cumulative": "ordinal",
    "ordered": "ordinal",
    "orderedlogit": "ordinal",
    "ologit": "ordinal",
    "polr": "ordinal",
    "clm": "ordinal",
    "clmm": "ordinal",
}

#: Names of the model of `rmm.multinomial`, which is no family of one linear predictor.
_UNORDERED = ("multinomial", "multinom", "categorical", "mlogit", "multinomiallogit")

#: Families that are another one with another link: name and link -> family.
OTHER_LINKS: dict[str, dict[str, str]] = {
    "binomial": {"logit": "binomial", "probit": "probit", "cloglog": "cloglog"},
}

#: Links that may be stated: name and link -> family. Families of one link have it as `Family.link`.
LINKS: dict[str, dict[str, str]] = {
    name: {family.link: name} for name, family in FAMILIES.items() if family.link
} | OTHER_LINKS


def family_name(text: str) -> str | None:
    """Our name of a family, whatever its capitals and by which synonym.

    Parameters
    ----------
    text : str

    Returns
    -------
    str or None
        None if there is no such family.
    """
    plain = _plain_name(text)
    return _PLAIN.get(plain) or SYNONYMS.get(plain)


def _plain_name(text: str) -> str:
    return "".join(c for c in text.casefold() if c not in " _-.")


#: A family's name without its underscores, as that of a user is compared with it.
_PLAIN = {_plain_name(name): name for name in FAMILIES}


def is_family(value: object) -> bool:
    """Whether a value is a family or the name of one.

    Parameters
    ----------
    value : object

    Returns
    -------
    bool
    """
    return isinstance(value, Family) or (isinstance(value, str) and family_name(value) is not None)


def find_family(family: str | Family, options: Mapping[str, Any] | None = None) -> Family:
    """The family of a name, with its options.

    Parameters
    ----------
    family : str or Family
        In any case; R's ``"Linear"``, ``"Logit"`` and ``"CondLogit"`` are understood.
    options : mapping, optional
        Such as ``{"intervals": 10}`` for ``"cox"``, or ``{"link": "probit"}`` for ``"binomial"``:
        the family ``"probit"``.

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
        known = family_name(family) if isinstance(family, str) else None
        if known is None and isinstance(family, str) and _plain_name(family) in _UNORDERED:
            raise FormulaError(
                f"Family {family!r} is fitted by rmm.multinomial(formula, data), which takes the "
                "options of rmm.fit(): each category has its own coefficients. The program is "
                "`program` of the fit."
            )
        if known is None:
            raise FormulaError(unknown_name(family, "a family", FAMILIES, SYNONYMS))
        family = FAMILIES[known]
    options = dict(options or {})
    if "link" in options and family.name in LINKS:
        family = _with_link(family, options.pop("link"))
    column = options.pop(OPTION, None)
    if column is not None:
        check_takes_weights(family, column)
    for name in options:
        if name not in family.option_names:
            kind = f"an option of family {family.name!r}"
            others = [f.name for f in FAMILIES.values() if name in f.option_names]
            more = f" Families with this option: {', '.join(others)}." * bool(others)
            raise FormulaError(unknown_name(name, kind, family.option_names) + more)
    if options and family.configure is not None:
        family = family.configure(**options)
    return family if column is None else replace(family, observation_weights=column)


def _with_link(family: Family, link: Any) -> Family:
    links = LINKS[family.name]
    if not isinstance(link, str) or link not in links:
        raise FormulaError(unknown_name(link, f"a link of family {family.name!r}", links))
    return FAMILIES[links[link]]


def family_options() -> frozenset[str]:
    """Names of the options of all families."""
    names = (name for family in FAMILIES.values() for name in family.option_names)
    return frozenset((*names, OPTION))


__all__ = [
    "FAMILIES",
    "SYNONYMS",
    "Cox",
    "Curvature",
    "Domain",
    "Family",
    "KernelOutcome",
    "Ordinal",
    "Parameter",
    "family_name",
    "Widths",
    "family_options",
    "find_family",
    "is_family",
]
