"""Reading priors: the neutral notation and R's JAGS strings, both into one description."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmm.errors import PriorError, counted, unknown_name


@dataclass(frozen=True)
class PriorFamily:
    """One row: names of the hyperparameters (in order of writing) and the support."""

    hyper: tuple[str, ...]
    support: str = "real"


# The whole prior language. The programs have a line of text for each row.
PRIOR_FAMILIES: dict[str, PriorFamily] = {
    "normal": PriorFamily(("location", "scale")),
    "student_t": PriorFamily(("df", "location", "scale")),
    "half_normal": PriorFamily(("scale",), "positive"),
    "half_t": PriorFamily(("df", "scale"), "positive"),
    "half_cauchy": PriorFamily(("scale",), "positive"),
    "exponential": PriorFamily(("rate",), "positive"),
    "gamma": PriorFamily(("shape", "rate"), "positive"),
    "uniform": PriorFamily(("lower", "upper"), "interval"),
    "beta": PriorFamily(("alpha", "beta"), "probability"),
    "precision_gamma": PriorFamily(("shape", "rate"), "positive"),
    "lkj": PriorFamily(("eta",), "correlation"),
    "fixed": PriorFamily(("value",), "fixed"),
}
MAX_LENGTH = 2_000  # characters of one statement: longer ones are mistakes
PRIOR_SETS = ("weakly_informative", "rmm")
_POSITIVE_HYPER = ("scale", "df", "rate", "shape", "eta", "alpha", "beta")


@dataclass(frozen=True)
class Prior:
    """A prior: a family of the table and its hyperparameters, in the table's order."""

    family: str
    values: tuple[float, ...]

    @property
    def hyper(self) -> dict[str, float]:
        """Hyperparameters by name."""
        return dict(zip(PRIOR_FAMILIES[self.family].hyper, self.values, strict=True))

    def __str__(self) -> str:
        return f"{self.family}({', '.join(f'{v:g}' for v in self.values)})"


@dataclass(frozen=True)
class PriorStatement:
    """A prior for `target` (``"b_l1"``), for one element (`element`: label or 1-based number)."""

    target: str
    element: str | None
    prior: Prior
    text: str


@dataclass(frozen=True)
class PriorChoice:
    """What the user asked for: a named set and statements that override it, later ones first."""

    base: str
    statements: tuple[PriorStatement, ...]


def read_priors(priors: Any) -> PriorChoice:
    """Read the `priors=` argument.

    Parameters
    ----------
    priors : str, mapping, sequence of str, PriorChoice or None
        A named set (``"weakly_informative"`` or ``"rmm"``); a mapping
        ``{"b_w": "normal(0, 1)"}`` (key ``"default"`` names the set); a list of strings, each
        a set's name, ``"b_w ~ normal(0, 1)"`` or a JAGS string such as
        ``"tau.l1 ~ dscaled.gamma(25, 1)"`` or ``"b.w[1] <- 1"``.

    Returns
    -------
    PriorChoice
        The set (``base``) and the statements, in their order.

    Raises
    ------
    PriorError
        If a prior cannot be read; the message shows it and what is allowed.

    Examples
    --------
    >>> choice = read_priors({"b_w": "normal(0, 1)"})
    >>> choice.base, [statement.text for statement in choice.statements]
    ('weakly_informative', ['b_w ~ normal(0, 1)'])
    """
    if isinstance(priors, PriorChoice):
        return priors
    lines: list[str] = []
    if priors is None:
        priors = "weakly_informative"
    if isinstance(priors, str):
        lines = [line for line in re.split(r"[;\n]", priors) if line.strip()]
    elif isinstance(priors, Mapping):
        lines = [
            _written(value) if key == "default" else _joined(_written(key), value)
            for key, value in priors.items()
        ]
    elif isinstance(priors, Sequence):
        lines = [_written(item) for item in priors]
    else:
        raise PriorError(f"`priors` cannot be of type {type(priors).__name__}. {_FORMS}")
    base, statements = "weakly_informative", []
    for line in lines:
        if not re.search(r"~|<-|=", line):
            base = _set_name(line.strip())
        else:
            statements.append(read_statement(line))
    return PriorChoice(base, tuple(statements))


_FORMS = (
    "Give the name of a set (weakly_informative, rmm), a dict such as "
    '{"b_w": "normal(0, 1)"}, or a list of strings such as "b_w ~ normal(0, 1)".'
)


def _joined(key: str, value: Any) -> str:
    return f"{key} {'<-' if isinstance(value, numbers.Real) else '~'} {_written(value)}"


def _written(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python does not write out integers of thousands of digits
        raise PriorError(f"`priors` contains a number with thousands of digits. {_FORMS}") from None


def _set_name(name: str) -> str:
    if name not in PRIOR_SETS:
        raise PriorError(f"{name!r} is not a set of priors. {_FORMS}")
    return name


_STATEMENT = re.compile(
    r"^\s*(?P<target>[A-Za-z][\w.]*)\s*(?:\[(?P<element>.+?)\])?\s*(?:"
    r"(?:<-|=)\s*(?P<value>[-+0-9.eE]+)|~\s*(?P<family>[A-Za-z_][\w.]*)\s*"
    r"\((?P<args>[^()]*)\)\s*(?P<cut>[TI]\s*\([^()]*\))?)\s*$",
    re.DOTALL,  # a category may be any text
)


def read_statement(text: str) -> PriorStatement:
    """One prior statement; see `read_priors`."""
    if len(text) > MAX_LENGTH:
        raise PriorError(
            f"This prior has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed."
        )
    match = _STATEMENT.match(text)
    if match is None:
        raise PriorError(f"The prior `{text.strip()}` cannot be read. {_FORMS}")
    target, precision = _target(match["target"])
    element = match["element"]
    if match["value"] is not None:
        value = _number(match["value"], text)
        if precision:
            if value <= 0:
                raise PriorError(f"`{text.strip()}`: a precision must be positive.")
            value = value**-0.5
        return PriorStatement(target, element, Prior("fixed", (value,)), text.strip())
    arguments = (
        [_number(a, text) for a in match["args"].split(",")] if match["args"].strip() else []
    )
    prior = _prior(match["family"], arguments, match["cut"], precision, text.strip())
    return PriorStatement(target, element, prior, text.strip())


def _target(name: str) -> tuple[str, bool]:
    """Our spelling of a parameter's name, and whether the statement is about a precision."""
    name = name.replace(".", "_")
    if name.startswith("tau_"):
        return "sigma_" + name.removeprefix("tau_"), True
    return name, False


def _number(text: str, statement: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PriorError(f"`{statement.strip()}`: `{text.strip()}` is not a finite number.")
    return value


def _prior(family: str, args: list[float], cut: str | None, precision: bool, text: str) -> Prior:
    if family in _JAGS:
        return _jags_prior(family, args, cut, precision, text)
    row = PRIOR_FAMILIES.get(family)
    if row is None or family == "fixed":
        rows = {name: row.hyper for name, row in PRIOR_FAMILIES.items() if name != "fixed"}
        known = [f"{name}({', '.join(hyper)})" for name, hyper in rows.items()]
        wrong = unknown_name(family, "a distribution of priors", known, [*rows, *_JAGS])
        raise PriorError(
            f"`{text}`: {wrong} In the notation of JAGS, with precisions: {', '.join(_JAGS)}."
        )
    if cut is not None or precision:
        raise PriorError(
            f"`{text}`: T(,) and tau can be used only with the distributions of JAGS, not with "
            f"`{family}`."
        )
    return _checked(family, args, text)


def _checked(family: str, args: list[float], text: str) -> Prior:
    names = PRIOR_FAMILIES[family].hyper
    if len(args) != len(names):
        raise PriorError(
            f"`{text}`: {family}() takes {counted(len(names), 'number')}: "
            f"{family}({', '.join(names)})."
        )
    for name, value in zip(names, args, strict=True):
        if name in _POSITIVE_HYPER and value <= 0:
            raise PriorError(f"`{text}`: the {name} must be positive, not {value:g}.")
    if family == "uniform" and args[0] >= args[1]:
        raise PriorError(f"`{text}`: the lower limit must be below the upper one.")
    return Prior(family, tuple(args))


# JAGS distribution -> (number of arguments, family on the parameter itself, its arguments).
_JAGS: dict[str, tuple[int, str, Callable[..., list[float]]]] = {
    "dnorm": (2, "normal", lambda m, tau: [m, _sd(tau)]),
    "dt": (3, "student_t", lambda m, tau, df: [df, m, _sd(tau)]),
    "dunif": (2, "uniform", lambda a, b: [a, b]),
    "dexp": (1, "exponential", lambda rate: [rate]),
    "dgamma": (2, "gamma", lambda a, b: [a, b]),
    "dbeta": (2, "beta", lambda a, b: [a, b]),
    "dscaled.gamma": (2, "half_t", lambda s, df: [df, s]),
}
_HALF = {"normal": "half_normal", "student_t": "half_t"}


def _sd(tau: float) -> float:
    if tau <= 0:
        raise PriorError(f"a precision of JAGS must be positive, not {tau:g}.")
    return float(tau**-0.5)


def _jags_prior(
    family: str, args: list[float], cut: str | None, precision: bool, text: str
) -> Prior:
    count, ours, translate = _JAGS[family]
    if len(args) != count:
        raise PriorError(f"`{text}`: {family}() of JAGS takes {counted(count, 'number')}.")
    try:
        values = translate(*args)
    except PriorError as error:
        raise PriorError(f"`{text}`: {error}") from None
    if (family == "dscaled.gamma") != precision and family not in ("dgamma",):
        raise PriorError(
            f"`{text}`: {family}() cannot be the prior of "
            f"{'a precision' if precision else 'this parameter'}. For a precision, tau, use "
            "dgamma(shape, rate) or dscaled.gamma(scale, df). Or give the prior of the standard "
            "deviation, sigma."
        )
    if precision and family == "dgamma":
        ours = "precision_gamma"
    if cut is not None:
        if re.sub(r"\s", "", cut)[1:] != "(0,)" or ours not in _HALF or values[-2] != 0:
            raise PriorError(
                f"`{text}`: this truncation is not available. Only T(0,) can be used, after dnorm "
                "or dt with mean 0."
            )
        ours, values = _HALF[ours], [v for i, v in enumerate(values) if i != len(values) - 2]
    return _checked(ours, values, text)
