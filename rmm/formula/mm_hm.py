"""Formula parts `mm(...)` and `hm(...)` -> `MemberBlock`, `NestingBlock`.

Each block is a table of slots; a row says by which keywords and calls a slot is filled.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeGuard

from rmm.errors import FormulaError, SpecificationWarning, counted, did_you_mean
from rmm.formula import parser as syntax
from rmm.formula.bml_grammar import member_arguments, nesting_arguments
from rmm.formula.expression_reader import Reader
from rmm.formula.features import FEATURES
from rmm.formula.term_expansion import (
    expand,
    ordered,
    read_feature,
    read_fix,
    refuse_both,
    summands,
    without,
)
from rmm.formula.terms import FeatureTerm, FixedTerm, MemberBlock, NestingBlock, Series, Term
from rmm.formula.weights.weight_function import (
    WeightFunction,
    build_weights,
    parse_weights,
    read_constraint,
)

# Keyword or function name -> slot.
_MEMBER_SLOTS = {
    "id": "id",
    "vars": "vars",
    "mmc": "vars",
    "fn": "fn",
    "mmw": "fn",
    "w": "fn",
    "RE": "RE",
    "ar": "ar",
    "cov": "cov",
    "cor": "cor",
    "name": "name",
}
_MEMBER_USAGE = (
    "The arguments of mm() are: id(member, group); vars = vars(...) or NULL; fn = fn(w ~ ..., "
    "c = TRUE); RE = TRUE, FALSE, re(1 + x) or re(1 + x, cor = TRUE); ar = TRUE, FALSE or a time "
    "column (random walks), or ar1(time) (AR(1) in time); cov = the name of a covariance matrix; "
    "cor = a name that mm() terms share whose effects of a member are correlated; name = a name "
    "for this mm() term. Older "
    "spellings are also accepted: mmc(...) instead of vars(...), and "
    "mmw(w ~ ..., constraint = 1) instead of fn(w ~ ..., c = 1). So is w(~ ..., scale = TRUE)."
)
_NESTING_SLOTS = {s: s for s in ("id", "name", "type", "showFE", "vars", "block")}
_NESTING_USAGE = (
    "The arguments of hm() are: id = a column; name = a column of labels; type = RE or FE; showFE "
    "= TRUE or FALSE; vars = vars(...); block = a name."
)
_WEIGHT_SLOTS = {"constraint": "constraint", "c": "constraint", "ar": "ar"}
_WEIGHT_USAGE = (
    "Write w ~ ...; and, if needed, constraint = (or c =) 1, 2, TRUE, FALSE, group, total or none."
)


#: Of what becomes a part of parameters' names in every engine.
_NAME = r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*"


@dataclass(frozen=True)
class _Filled:
    """An argument in its slot; `spelling` is how the slot was named."""

    spelling: str
    tree: syntax.Syntax


def read_member_block(tree: syntax.Call, text: str) -> MemberBlock:
    """`mm(...)`; see the module `rmm.formula.parse_formula` for the spellings.

    Raises
    ------
    FormulaError
    """
    reader, tree = Reader(text), member_arguments(tree, text)
    slots = _fill(tree, text, _MEMBER_SLOTS, _MEMBER_USAGE)
    member, group = _ids(tree, slots, 2, reader)
    terms, fixed, features = _variables(slots.get("vars"), ("vars", "mmc"), reader)
    weight, ar_inside = _weight(slots.get("fn"), reader)
    if ar_inside is not None:
        if "ar" in slots:
            reader.fail("`ar =` is given twice.", slots["ar"].tree)
        slots = {**slots, "ar": ar_inside}
    autoregressive, series = _autoregressive(slots.get("ar"), reader)
    in_time = autoregressive is not False or series is not None
    variables = bool(terms or fixed or features)
    covariance = _covariance(slots, in_time, reader)
    special = "ar" if in_time else "cov" if covariance is not None else ""
    roles = _roles(slots, special, reader)
    special = special or ("cor" if roles is not None else "")
    random, slopes, correlated = _random(slots, variables, special, reader)
    if not random and not slopes and not variables:
        reader.fail(
            "This mm() has neither variables nor random effects, so it adds nothing to the model.",
            tree,
            "Set RE = TRUE, or give vars = vars(...).",
        )
    return MemberBlock(
        member=member,
        group=group,
        terms=terms,
        fixed=fixed,
        weight=weight,
        random=random,
        autoregressive=autoregressive,
        series=series,
        slopes=slopes,
        correlated=correlated,
        features=features,
        covariance=covariance,
        roles=roles,
        name=_block_name(slots.get("name"), reader),
        position=tree.span.position,
    )


def read_nesting_block(tree: syntax.Call, text: str) -> NestingBlock:
    """`hm(...)`.

    Raises
    ------
    FormulaError
    """
    reader, tree = Reader(text), nesting_arguments(tree, text)
    slots = _fill(tree, text, _NESTING_SLOTS, _NESTING_USAGE)
    (unit,) = _ids(tree, slots, 1, reader)
    effect = _choice(slots.get("type"), ("RE", "FE"), "RE", reader)
    terms: tuple[Term, ...] | None = None
    fixed: tuple[FixedTerm, ...] = ()
    given = slots.get("vars")
    if given is not None and not _is_null(given.tree):
        terms, fixed, _ = _variables(given, ("vars",), reader)
    if effect == "FE" and (terms or fixed):
        labels = [t.label for t in (*(terms or ()), *(f.term for f in fixed))]
        named = ", ".join(f"`{label}`" for label in labels)
        verb = "is" if len(labels) == 1 else "are"
        warnings.warn(
            f"hm({unit}, type = FE): {named} {verb} left out, because the fixed effects "
            "already contain all differences between nesting units.",
            SpecificationWarning,
            stacklevel=4,
        )
        terms, fixed = None, ()
    label = slots.get("name")
    return NestingBlock(
        unit=unit,
        effect=effect,
        label_column=None if label is None else _column(label.tree, "`name =`", reader),
        show=_boolean(slots["showFE"], reader) if "showFE" in slots else False,
        terms=terms,
        fixed=fixed,
        name=_block_name(slots.get("block"), reader),
        position=tree.span.position,
    )


# -- slots -----------------------------------------------------------------------------------


def _fill(tree: syntax.Call, text: str, slots: Mapping[str, str], usage: str) -> dict[str, _Filled]:
    """Arguments by slot; positional ones are known by their call (`id()`, `vars()`, ...)."""
    reader, filled = Reader(text), dict[str, _Filled]()
    for argument in tree.arguments:
        spelling = argument.keyword
        if spelling is None:
            spelling = _positional(argument, filled, tree, reader, slots, usage)
        if spelling not in slots:
            _unknown_keyword(argument, tree, text, slots, usage)
        slot = slots[spelling]
        if slot in filled:
            raise FormulaError(
                f"`{spelling}` is given twice in {tree.function}()."
                if filled[slot].spelling == spelling
                else f"`{spelling}` and `{filled[slot].spelling}` are two names of the same "
                f"argument of {tree.function}().",
                text,
                argument.span.start,
                len(spelling),
                "Keep one of them.",
            )
        filled[slot] = _Filled(spelling, argument.value)
    return filled


def _positional(
    argument: syntax.Argument,
    filled: Mapping[str, _Filled],
    tree: syntax.Call,
    reader: Reader,
    slots: Mapping[str, str],
    usage: str,
) -> str:
    value = argument.value
    if isinstance(value, syntax.Call) and value.function in slots:
        return value.function
    if tree.function == "hm" and isinstance(value, syntax.Name) and not filled:
        return "id"
    calls = [name for name in ("id", "vars", "fn", "mmc", "mmw") if name in slots]
    close = did_you_mean(value.function, sorted(calls)) if isinstance(value, syntax.Call) else ""
    reader.fail(
        f"`{syntax.source(reader.text, value)}` cannot be used in {tree.function}().{close}",
        value,
        usage,
    )


def _unknown_keyword(
    argument: syntax.Argument,
    tree: syntax.Call,
    text: str,
    slots: Mapping[str, str],
    usage: str,
) -> NoReturn:
    name = argument.keyword or ""
    raise FormulaError(
        f"{tree.function}() has no argument `{name} =`.{did_you_mean(name, sorted(slots))}",
        text,
        argument.span.start,
        len(name),
        usage,
    )


def _ids(
    tree: syntax.Call, slots: Mapping[str, _Filled], count: int, reader: Reader
) -> tuple[str, ...]:
    wanted = "id(member, group)" if count == 2 else "id = a column"
    if "id" not in slots:
        reader.fail(f"`{tree.function}()` needs {wanted}.", tree)
    given = slots["id"].tree
    if count == 1 and isinstance(given, syntax.Name):
        return (given.name,)
    if not isinstance(given, syntax.Call) or given.function != "id":
        reader.fail(f"`id` in {tree.function}() must be written as {wanted}.", given)
    names = [a.value for a in given.arguments if a.keyword is None]
    if len(names) != count or len(given.arguments) != count:
        number = len(given.arguments)
        reader.fail(f"`id()` has {counted(number, 'column')}. Write {wanted}.", given)
    return tuple(_column(name, "`id()`", reader) for name in names)


def _column(tree: syntax.Syntax, where: str, reader: Reader) -> str:
    if isinstance(tree, syntax.Name):
        return tree.name
    if isinstance(tree, syntax.Literal) and isinstance(tree.value, str) and tree.value:
        return tree.value
    reader.fail(f"{where} must name a column.", tree)


def _is_null(tree: syntax.Syntax) -> bool:
    return isinstance(tree, syntax.Literal) and tree.value is None


def _variables(
    given: _Filled | None, calls: tuple[str, ...], reader: Reader
) -> tuple[tuple[Term, ...], tuple[FixedTerm, ...], tuple[FeatureTerm, ...]]:
    if given is None or _is_null(given.tree):
        return (), (), ()
    if not isinstance(given.tree, syntax.Call) or given.tree.function not in calls:
        reader.fail("Variables must be written as vars = vars(a, b), or vars = NULL.", given.tree)
    terms: list[Term] = []
    fixed: list[FixedTerm] = []
    features: list[FeatureTerm] = []
    for argument in given.tree.arguments:
        if argument.keyword is not None:
            reader.fail(f"`{given.tree.function}()` has no arguments with names.", given.tree)
        for part in summands(argument.value):
            if isinstance(part.tree, syntax.Literal):
                reader.fail(
                    "The variables of mm() and hm() cannot include an intercept (0, 1 or -1).",
                    part.tree,
                    "Write the intercept outside mm() and hm().",
                )
            if part.sign == "-":
                terms = without(terms, expand(part.tree, reader.text))
            elif isinstance(part.tree, syntax.Call) and part.tree.function == "fix":
                fixed.append(read_fix(part.tree, reader.text))
            elif "mmc" in calls and _is_feature(part.tree):
                features.append(read_feature(part.tree, reader.text))
            else:
                terms.extend(expand(part.tree, reader.text))
    refuse_both(terms, fixed, reader.text)
    return ordered(terms), tuple(fixed), tuple(dict.fromkeys(features))


def _is_feature(tree: syntax.Syntax) -> TypeGuard[syntax.Call]:
    return isinstance(tree, syntax.Call) and tree.function in FEATURES


def _weight(given: _Filled | None, reader: Reader) -> tuple[WeightFunction, _Filled | None]:
    """The weight function, and the `ar =` that may stand inside `fn()` too."""
    if given is None:
        return parse_weights("1/n"), None
    call = given.tree
    if not isinstance(call, syntax.Call) or call.function not in ("fn", "mmw"):
        reader.fail("Weights must be written as fn = fn(w ~ ...).", call)
    formulas = [a.value for a in call.arguments if a.keyword is None]
    keywords = [a for a in call.arguments if a.keyword is not None]
    if len(formulas) != 1:
        found = counted(len(formulas), "formula")
        reader.fail(f"`{call.function}()` has {found}; one is needed.", call, _WEIGHT_USAGE)
    tree = formulas[0]
    if not isinstance(tree, (syntax.Infix, syntax.Prefix)) or tree.operator != "~":
        reader.fail("A weight function must start with `w ~`.", tree, _WEIGHT_USAGE)
    inside = syntax.Call(call.function, tuple(keywords), call.span)
    slots = _fill(inside, reader.text, _WEIGHT_SLOTS, _WEIGHT_USAGE)
    constraint = None
    if "constraint" in slots:
        constraint = _constraint(slots["constraint"].tree, reader)
    return build_weights(tree, reader.text, constraint), slots.get("ar")


def _constraint(tree: syntax.Syntax, reader: Reader) -> str:
    value: object = syntax.source(reader.text, tree)
    if isinstance(tree, syntax.Name) and tree.name in ("T", "F"):
        value = tree.name == "T"
    elif isinstance(tree, syntax.Literal) and not isinstance(tree.value, str):
        value = tree.value
    try:
        return read_constraint(value)
    except FormulaError as error:
        found = syntax.source(reader.text, tree)
        quoted = isinstance(tree, syntax.Literal) and isinstance(tree.value, str)
        problem = f"`c` in fn() cannot be `{found}`."
        if quoted:
            problem = f"`c` in fn() is the text `{found}`, in quotes. Write it without quotes."
        raise FormulaError(problem, reader.text, tree.span.start, len(found), error.hint) from None


def _random(
    slots: Mapping[str, _Filled], variables: bool, special: str, reader: Reader
) -> tuple[bool, tuple[Term, ...], bool]:
    """Random intercepts and slopes, and whether those of a member are correlated.

    Intercepts are on in the spelling of mmc/mmw; else as `RE =` says, by default where vars is
    NULL. `special` is "ar", "cov" or "cor" where such an argument says more of the intercepts.
    """
    given = slots["RE"].tree if "RE" in slots else None
    if isinstance(given, syntax.Call) and given.function == "re":
        random, slopes, correlated = _random_terms(given, reader)
        if special and slopes:
            reader.fail(
                f"`{special} =` can be used only with random intercepts, not with random slopes.",
                given,
                f"Write RE = TRUE, or leave `{special} =` out.",
            )
        return random, slopes, correlated
    if "RE" in slots:
        random = _boolean(slots["RE"], reader)
        if special and not random:
            reader.fail(f"`{special} =` needs random effects, but RE is FALSE.", slots["RE"].tree)
        return random, (), False
    older = any(s in slots and slots[s].spelling in ("mmc", "mmw") for s in ("vars", "fn"))
    return older or bool(special) or not variables, (), False


_RE_USAGE = (
    "Random slopes are written RE = re(1 + x), or re(0 + x) without random intercepts. Effects of "
    "a member are independent unless you write re(1 + x, cor = TRUE)."
)


def _random_terms(tree: syntax.Call, reader: Reader) -> tuple[bool, tuple[Term, ...], bool]:
    """`re(1 + x, cor = TRUE)`: whether members have intercepts (yes, unless 0 or -1), their slopes,
    and whether all of these are correlated.
    """
    usage, correlated = _RE_USAGE, False
    named = [argument for argument in tree.arguments if argument.keyword is not None]
    if any(argument.keyword != "cor" for argument in named) or len(named) > 1:
        reader.fail("`re()` has one argument with a name, `cor = TRUE` or FALSE.", tree, usage)
    if named:
        correlated = _boolean(_Filled("cor", named[0].value), reader)
    plain = [argument for argument in tree.arguments if argument.keyword is None]
    if len(plain) != 1:
        found = counted(len(plain), "argument")
        reader.fail(f"`re()` has {found}; one sum of terms is needed.", tree, usage)
    random, terms = True, list[Term]()
    for part in summands(plain[0].value):
        if isinstance(part.tree, syntax.Literal) and part.tree.value in (0.0, 1.0):
            random = (part.tree.value == 1.0) == (part.sign == "+")
        elif isinstance(part.tree, syntax.Literal) or part.sign == "-":
            reader.fail("`re()` must contain a sum of 0 or 1 and covariates.", part.tree, usage)
        else:
            terms.extend(expand(part.tree, reader.text))
    if not random and not terms:
        reader.fail(
            "`re()` has neither an intercept nor slopes. For no random effects write RE = FALSE.",
            tree,
            usage,
        )
    if correlated and not terms:
        reader.fail(
            "`cor = TRUE` in re() needs two or more effects of a member, but there is only the "
            "intercept.",
            tree,
            "Write RE = TRUE, or add a covariate: re(1 + x, cor = TRUE).",
        )
    return random, ordered(terms), correlated


def _autoregressive(given: _Filled | None, reader: Reader) -> tuple[str | bool, Series | None]:
    """Random walks (`ar = time` or TRUE), or an AR(1) process (`ar = ar1(time)`)."""
    if given is None:
        return False, None
    if isinstance(given.tree, syntax.Call):
        return False, _series(given.tree, reader)
    if _as_boolean(given.tree) is None:
        return _column(given.tree, "`ar =`", reader), None
    return _boolean(given, reader), None


_SERIES_USAGE = (
    "Write ar = ar1(time), where time is a numeric column, for an AR(1) process, or ar = ar1() for "
    "one in the order of the group ids; ar = time or ar = TRUE for random walks."
)


def _series(call: syntax.Call, reader: Reader) -> Series:
    """`ar1(year)`, `ar1(time = year)` or `ar1()`."""
    written = syntax.source(reader.text, call)
    if call.function != "ar1":
        reader.fail(
            f"`ar = {written}` is not available.{did_you_mean(call.function, ['ar1'])}",
            call,
            _SERIES_USAGE,
        )
    if not call.arguments:
        return Series()
    first = call.arguments[0]
    if len(call.arguments) > 1 or first.keyword not in (None, "time"):
        reader.fail(
            f"`{written}` must have one argument, the time column.",
            call,
            f"{_SERIES_USAGE} Members are those of id(), and the order of the process is 1.",
        )
    return Series(_column(first.value, "`ar1()`", reader))


def _covariance(slots: Mapping[str, _Filled], autoregressive: bool, reader: Reader) -> str | None:
    """The name of a covariance matrix; it becomes a key of `cov=` and a name in saved fits."""
    if "cov" not in slots or _is_null(slots["cov"].tree):
        return None
    tree = slots["cov"].tree
    name = tree.name if isinstance(tree, syntax.Name) else ""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or _as_boolean(tree) is not None:
        reader.fail(
            "`cov =` must be the name of a matrix: letters, digits and underscores.",
            tree,
            'Write cov = A, and give the matrix to the fit: rmm.fit(..., cov={"A": matrix}).',
        )
    if autoregressive:
        reader.fail(
            "`cov =` and `ar =` cannot be used together.",
            tree,
            "Members have either effects with a known covariance or effects that change in time: "
            "leave one out.",
        )
    return name


def _roles(slots: Mapping[str, _Filled], special: str, reader: Reader) -> str | None:
    """The name that mm() terms share whose effects are correlated; a part of parameters' names."""
    if "cor" not in slots or _is_null(slots["cor"].tree):
        return None
    tree = slots["cor"].tree
    name = tree.name if isinstance(tree, syntax.Name) else ""
    if not re.fullmatch(_NAME, name) or _as_boolean(tree) is not None:
        reader.fail(
            "`cor =` in mm() must be a name: letters, digits and single underscores.",
            tree,
            "Write the same name in each mm() term whose effects of a member are correlated, for "
            "example cor = party. For correlated intercepts and slopes of one mm() term write "
            "RE = re(1 + x, cor = TRUE).",
        )
    if special:
        what = {"ar": "effects that change in time", "cov": "effects with a known covariance"}
        reader.fail(
            f"`cor =` and `{special} =` cannot be used together.",
            tree,
            "Correlations with effects of other mm() terms are not available for "
            f"{what[special]}: leave one out.",
        )
    return name


def _as_boolean(tree: syntax.Syntax) -> bool | None:
    if isinstance(tree, syntax.Literal) and isinstance(tree.value, bool):
        return tree.value
    if isinstance(tree, syntax.Name) and tree.name in ("T", "F") and not tree.quoted:
        return tree.name == "T"
    return None


def _boolean(given: _Filled, reader: Reader) -> bool:
    value = _as_boolean(given.tree)
    if value is None:
        more = ", or re(1 + x)" if given.spelling == "RE" else ""
        reader.fail(f"`{given.spelling} =` must be TRUE or FALSE{more}.", given.tree)
    return value


def _choice(given: _Filled | None, allowed: tuple[str, ...], default: str, reader: Reader) -> str:
    if given is None:
        return default
    tree = given.tree
    value = tree.name if isinstance(tree, syntax.Name) else None
    if isinstance(tree, syntax.Literal) and isinstance(tree.value, str):
        value = tree.value
    if value not in allowed:
        reader.fail(f"`{given.spelling} =` must be {' or '.join(allowed)}.", tree)
    return value


def _block_name(given: _Filled | None, reader: Reader) -> str | None:
    """A block's own name: it becomes a part of parameters' names in every engine."""
    if given is None or _is_null(given.tree):
        return None
    name = _column(given.tree, f"`{given.spelling} =`", reader)
    if not re.fullmatch(_NAME, name):
        reader.fail(
            f"`{name}` cannot be the name of a block.",
            given.tree,
            "The name becomes a part of parameter names. Use letters, digits and single "
            "underscores.",
        )
    return name
