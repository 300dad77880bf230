"""Arguments of public functions: mistakes in a call get our errors, and R's order is understood.

A `TypeError` of Python's own says which name it did not expect; ours says which are known, and
which of them was meant.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmm.errors import RmmError, counted, did_you_mean

#: Arguments of R's rmm and bml that have another name here, and what takes their place.
R_NAMES = {
    "iter": "`draws`, which counts what is kept of each chain (R's iterations less burn-in)",
    "n_iter": "`draws`, which counts what is kept of each chain (R's iterations less burn-in)",
    "burnin": "`warmup`",
    "n_burnin": "`warmup`",
    "n_thin": "`thin`",
    "n_chains": "`chains`",
    "parallel": "`cores`, the number of processes at the same time",
    "run": "rmm.program() and rmm.program_data(), which run nothing",
    "modelfile": "`program`: your own text or file; `fit.program` is the text that was run",
    "cox_intervals": '`intervals`, with family "cox"',
    "hdi": "fit.summary(), which has the quantiles of the 95% interval",
}
_KINDS = inspect.Parameter
_WHOLE = (int, np.integer)
#: Annotation -> types of values, and what they are called.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "bool": ((bool, np.bool_), "True or False"),
    "int": (_WHOLE, "a whole number"),
    "str | None": ((str, type(None)), "text or None"),
    "int | None": ((*_WHOLE, type(None)), "a whole number or None"),
    "str | Path": ((str, os.PathLike), "a path"),
}


def readable[**P, T](
    error: type[RmmError],
    *,
    typed: bool = False,
    is_family: Callable[[Any], bool] | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: calls that do not fit the signature raise `error` and say what is wrong.

    With `typed` values must have the types that plain annotations (``str``, ``int | None``) say.
    Where a function takes `data` and `family`, `is_family` decides which of two positional
    arguments is which: ``fit(formula, "weibull", data=table)`` and ``fit(formula, table,
    "weibull")`` are the same call.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        known = tuple(signature.parameters)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            given = args
            if is_family is not None:
                given, named = _by_type(known, args, kwargs, is_family)
                kwargs.update(named)
            name = function.__qualname__.rpartition("<locals>.")[2]
            name = re.sub("^(AfterFit|FitTables)[.]", "Fit.", name)
            try:
                bound = signature.bind(*given, **kwargs)
            except TypeError:
                raise error(_mistake(name, signature, given, kwargs)) from None
            if typed:
                _check_types(name, signature, bound.arguments, error)
            return function(*given, **kwargs)

        return checked

    return decorate


def readable_methods[C: type](error: type[RmmError]) -> Callable[[C], C]:
    """`readable` for all public methods that a class defines itself."""

    def decorate(cls: C) -> C:
        for name, member in list(vars(cls).items()):
            if inspect.isfunction(member) and not name.startswith("_"):
                setattr(cls, name, readable(error, typed=True)(member))
        return cls

    return decorate


def _check_types(
    name: str, signature: inspect.Signature, given: Mapping[str, Any], error: type[RmmError]
) -> None:
    for key, value in given.items():
        types, called = _TYPES.get(str(signature.parameters[key].annotation), ((object,), ""))
        whole = types[0] is int
        if not isinstance(value, types) or (whole and isinstance(value, bool)):
            raise error(f"{name}(): `{key}` must be {called}, not {shortened(value)}.")


def shortened(value: Any) -> str:
    """A value as a message shows it: plain ones as they are, of others the type."""
    plain = isinstance(value, str | bytes | int | float | complex | type(None))
    return repr(value) if plain else f"of type {type(value).__name__}"


def check_seed(seed: Any, error: type[RmmError]) -> None:
    """Raise `error` unless a seed is None or a whole number of at least 0."""
    whole = isinstance(seed, _WHOLE) and not isinstance(seed, bool)
    if seed is not None and not (whole and seed >= 0):
        raise error(
            f"`seed` must be None or a whole number of at least 0, but is {shortened(seed)}."
        )


def _by_type(
    known: tuple[str, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    is_family: Callable[[Any], bool],
) -> tuple[Any, dict[str, Any]]:
    """Positional arguments, and by name those that stand in each other's place."""
    places = dict(zip(known, args, strict=False))
    named = {}
    if "data" in places and is_family(places["data"]):
        named["family"] = places["data"]
    if "family" in places and _is_table(places["family"], is_family):
        named["data"] = places["family"]
    both = "data" in places and "family" in places
    if not named or (both and len(named) < 2) or any(name in kwargs for name in named):
        return args, {}
    moved = {"data", "family"}
    first = min(known.index(name) for name in moved & set(places))
    rest = dict(zip(known[first:], args[first:], strict=False))
    named |= {name: value for name, value in rest.items() if name not in moved}
    return args[:first], named


def _is_table(value: Any, is_family: Callable[[Any], bool]) -> bool:
    """Whether something can be data, and no family."""
    if isinstance(value, str):
        return "." in value and not is_family(value)
    return isinstance(value, Mapping | os.PathLike) or hasattr(value, "columns")


def _mistake(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """What is wrong with a call that does not fit a signature."""
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    args = args[1:] if "self" in signature.parameters else args
    positional = [
        p.name
        for p in parameters
        if p.kind in (_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD)
    ]
    known = [p.name for p in parameters if p.kind not in (_KINDS.VAR_KEYWORD,)]
    shown = ", ".join(f"`{k}`" for k in known)
    takes = f"Its argument{'s are' if len(known) > 1 else ' is'} {shown}."
    for key in kwargs:
        if key not in known and len(known) == len(parameters):
            return f"{name}() has no argument `{key}`.{meant(key, known)} {takes}"
    if not known and args:
        return f"{name}() takes no arguments, but was called with {len(args)}."
    if len(args) > len(positional):
        first = ", ".join(f"`{p}`" for p in positional)
        only = f"Only {first} can be given without a name" if first else "All arguments need names"
        return (
            f"{name}() was called with {counted(len(args), 'argument')} without a name. {only}; "
            f"write the others as NAME=VALUE. {takes}"
        )
    twice = [key for key in positional[: len(args)] if key in kwargs]
    if twice:
        return (
            f"{name}() was called with `{twice[0]}` twice: as argument "
            f"{positional.index(twice[0]) + 1} and by name. {takes}"
        )
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.name not in kwargs
        and p.kind not in (_KINDS.VAR_KEYWORD, _KINDS.VAR_POSITIONAL)
        and p.name not in positional[: len(args)]
    ]
    return f"{name}() was called without its argument `{missing[0]}`. {takes}"


def meant(key: str, known: list[str] | tuple[str, ...]) -> str:
    """A sentence with the argument that was meant by an unknown one, or nothing."""
    plain = key.replace(".", "_").lower()
    if plain in R_NAMES:
        return f" What R calls `{key}` is {R_NAMES[plain]}."
    return did_you_mean(plain, known)
