"""The grammar of R's bml 0.10 and later, rewritten as arguments that `mm()` and `hm()` have here.

================================ ====================================
there                            here
================================ ====================================
`w = w(~ 1/n)`                   `fn = fn(w ~ 1/n, c = TRUE)`
`w = w(~ x, scale = FALSE)`      `fn = fn(w ~ x, c = FALSE)`
`fn = fn("sum")`                 nothing: a weighted sum is the default
`RE = re(1, ar = TRUE)`          `RE = TRUE, ar = TRUE`
`hm(..., RE = re(1))`            `hm(..., type = RE)`
`hm(..., FE = fe(1))`            `hm(..., type = FE)`
`hm(..., labels = name)`         `hm(..., name = name)`
================================ ====================================

Whatever else that grammar has, and means another model or none here, is an error that names the
spelling or says that there is none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from rmm.errors import FormulaError, did_you_mean
from rmm.formula import parser as syntax
from rmm.formula.parser import Argument, Call, Infix, Literal, Name, Prefix, Syntax

#: What `fn("...")` computes there, as a feature in `vars()` here.
_FEATURES = {
    "var": "vars(variance(x))",
    "hhi": "vars(herfindahl())",
    "entropy": "vars(entropy())",
    "threshold": "vars(threshold(x))",
    "smax": "vars(softmax(x)), another smooth maximum",
    "gmean": "vars(genmean(x))",
}
_WEIGHTS = "Write w(~ 1/n) or w(~ x, scale = FALSE); or fn(w ~ 1/n)."
_EFFECTS = "Write type = RE for a random intercept of each unit, or type = FE for fixed effects."


def member_arguments(tree: Call, text: str) -> Call:
    """`mm(...)` in the grammar of this package.

    Raises
    ------
    FormulaError
    """
    out: list[Argument] = []
    for argument in tree.arguments:
        call, keyword = _call(argument), argument.keyword
        if keyword == "FE":
            _fail(
                text,
                argument.value,
                "mm() has no fixed effects of members.",
                "Write RE = TRUE for random effects.",
            )
        elif keyword == "w" or (keyword in (None, "fn") and call and call.function == "w"):
            out.append(_weights(argument, text))
        elif keyword in (None, "fn") and call and call.function == "fn" and _is_type(call):
            _refuse_type(call, text)
        elif keyword == "RE" and call and call.function == "re":
            out.extend(_random(argument, call, text))
        else:
            out.append(argument)
    return replace(tree, arguments=tuple(out))


def nesting_arguments(tree: Call, text: str) -> Call:
    """`hm(...)` in the grammar of this package.

    Raises
    ------
    FormulaError
    """
    out: list[Argument] = []
    for argument in tree.arguments:
        if argument.keyword == "labels":
            out.append(replace(argument, keyword="name"))
        elif argument.keyword == "RE":
            if not (_is_true(argument.value) or _is_intercept(argument.value, "re")):
                _fail(
                    text,
                    argument.value,
                    "`RE =` in hm() must be TRUE or re(1). Slopes that vary over nesting units "
                    "are not available.",
                    _EFFECTS,
                )
            out.append(_type("RE", argument))
        elif argument.keyword == "FE":
            out.extend(_fixed(argument, text))
        else:
            out.append(argument)
    return replace(tree, arguments=tuple(out))


# -- mm() ------------------------------------------------------------------------------------


def _weights(argument: Argument, text: str) -> Argument:
    """`w(~ 1/n, scale = TRUE)` as `fn(w ~ 1/n, c = TRUE)`."""
    call = _call(argument)
    if call is None or call.function != "w":
        _fail(text, argument.value, "`w =` in mm() must be a call of w().", _WEIGHTS)
    formulas = [a.value for a in call.arguments if a.keyword in (None, "formula")]
    named = [a for a in call.arguments if a.keyword not in (None, "formula")]
    for other in named:
        if other.keyword != "scale":
            name = other.keyword or ""
            hint = did_you_mean(name, ["scale"])
            _fail(text, call, f"`w()` has no argument `{name} =`.{hint}", _WEIGHTS)
    if len(formulas) != 1 or not _is_formula(formulas[0]):
        _fail(text, call, "`w()` needs one formula that starts with `~`.", _WEIGHTS)
    if len(named) > 1:
        _fail(text, call, "`scale` is given twice in w().", "Keep one of them.")
    scale: Syntax = named[0].value if named else Literal(True, call.span)
    if not (_is_true(scale) or _is_false(scale)):
        _fail(text, scale, "`scale =` in w() must be TRUE or FALSE.", _WEIGHTS)
    given = (Argument(None, formulas[0], call.span), Argument("c", scale, call.span))
    return replace(argument, keyword="w", value=Call("fn", given, call.span))


def _is_type(call: Call) -> bool:
    """`fn("sum")`, and not `fn(w ~ 1/n)`."""
    return bool(call.arguments) and (
        call.arguments[0].keyword == "type" or _text(call.arguments[0].value) is not None
    )


def _refuse_type(call: Call, text: str) -> None:
    """Nothing for a weighted sum; an error that names the feature for all else."""
    name = _text(call.arguments[0].value)
    if name == "sum" and len(call.arguments) == 1:
        return
    written = syntax.source(text, call)
    if name in _FEATURES:
        _fail(
            text,
            call,
            f"`{written}` cannot be used in mm(). This is a feature of the members of a group, "
            "and features are written in vars().",
            f"Leave `{written}` out, and write vars = {_FEATURES[name]}. All features: "
            "docs/reference/features.md.",
        )
    _fail(
        text,
        call,
        f"`{written}` is not available in mm().",
        "Weights are written as fn = fn(w ~ 1/n), and features of the members as "
        "vars = vars(variance(x)): docs/reference/features.md.",
    )


def _random(argument: Argument, call: Call, text: str) -> list[Argument]:
    """`re(1, ar = TRUE)` as two arguments; every other `re()` unchanged."""
    walks = [a for a in call.arguments if a.keyword == "ar"]
    rest = replace(call, arguments=tuple(a for a in call.arguments if a.keyword != "ar"))
    out = [replace(argument, value=rest)]
    for walk in walks:
        if not (_is_true(walk.value) or _is_false(walk.value)):
            written = syntax.source(text, walk.value)
            _fail(
                text,
                walk.value,
                f"`ar = {written}` cannot be used in re(): in bml, steps of this random walk are "
                "larger if more time has passed, and this model is not available.",
                f"For steps of the same size, in the order of {written}, write RE = TRUE, "
                f"ar = {written}.",
            )
        out.append(walk)
    return out


# -- hm() ------------------------------------------------------------------------------------


def _fixed(argument: Argument, text: str) -> list[Argument]:
    """`fe(1, showFE = TRUE)` as `type = FE, showFE = TRUE`."""
    call = _call(argument)
    shown = [a for a in call.arguments if a.keyword == "showFE"] if call else []
    rest = [a for a in call.arguments if a.keyword != "showFE"] if call else []
    plain = replace(call, arguments=tuple(rest)) if call else argument.value
    if not _is_intercept(plain, "fe"):
        _fail(
            text,
            argument.value,
            "`FE =` in hm() must be fe(1) or fe(1, showFE = TRUE).",
            _EFFECTS,
        )
    return [_type("FE", argument), *shown]


def _type(effect: str, argument: Argument) -> Argument:
    return replace(argument, keyword="type", value=Name(effect, span=argument.value.span))


# -- parts -----------------------------------------------------------------------------------


def _call(argument: Argument) -> Call | None:
    return argument.value if isinstance(argument.value, Call) else None


def _is_formula(tree: Syntax) -> bool:
    return isinstance(tree, Prefix | Infix) and tree.operator == "~"


def _is_intercept(tree: Syntax, function: str) -> bool:
    """`re(1)` or `fe(1)`."""
    return (
        isinstance(tree, Call)
        and tree.function == function
        and [(a.keyword, getattr(a.value, "value", None)) for a in tree.arguments] == [(None, 1.0)]
    )


def _is_true(tree: Syntax) -> bool:
    return _is_boolean(tree, True, "T")


def _is_false(tree: Syntax) -> bool:
    return _is_boolean(tree, False, "F")


def _is_boolean(tree: Syntax, value: bool, short: str) -> bool:
    if isinstance(tree, Literal):
        return tree.value is value
    return isinstance(tree, Name) and tree.name == short and not tree.quoted


def _text(tree: Syntax) -> str | None:
    return tree.value if isinstance(tree, Literal) and isinstance(tree.value, str) else None


def _fail(text: str, tree: Syntax, problem: str, hint: str) -> NoReturn:
    span = tree.span
    raise FormulaError(problem, text, span.start, max(1, span.end - span.start), hint)
