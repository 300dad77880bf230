"""A formula with other weights: the text of one `fn()` is replaced, the rest stays as written."""

from __future__ import annotations

from rmm.errors import FormulaError, counted
from rmm.formula import parser as syntax
from rmm.formula.parser import Argument, Call, Infix, Syntax, parse


def with_weights(formula: str, weights: str, block: int = 1) -> str:
    """The formula with other weights in one of its `mm()` blocks.

    Parameters
    ----------
    formula : str
    weights : str
        What stands in `fn()`: ``"w ~ 1/n"``, ``"1/n"``, or with a constraint ``"1, c = FALSE"``.
        Without one, the constraint of the block stays.
    block : int
        Number of the `mm()` block, from 1.

    Returns
    -------
    str

    Raises
    ------
    FormulaError
        If there is no such block, or the weights cannot be read.

    Examples
    --------
    >>> with_weights("y ~ 1 + mm(id(m, g), vars(x), fn(w ~ 1/n, c = 2), RE = TRUE)", "share^b1")
    'y ~ 1 + mm(id(m, g), vars(x), fn(w ~ share^b1, c = 2), RE = TRUE)'
    """
    blocks = [c for c in _calls(parse(formula)) if c.function == "mm"]
    if not 1 <= block <= len(blocks):
        raise FormulaError(
            f"The formula has {counted(len(blocks), 'mm() block')}, but `block` is {block}: "
            f"{formula}"
        )
    written = f"fn({_whole(weights)}"
    given = parse(f"{written})")
    assert isinstance(given, Call)
    mm = blocks[block - 1]
    old = next((a for a in mm.arguments if _has_weights(a)), None)
    if old is None or not isinstance(old.value, Call):
        end = mm.span.end - 1
        return f"{formula[:end].rstrip()}, fn = {written}){formula[end:]}"
    if len(given.arguments) == 1:
        written += "".join(f", {_constraint(a, formula)}" for a in old.value.arguments[1:])
    start = old.span.start if old.keyword == "w" else old.value.span.start
    return f"{formula[:start]}{written}){formula[old.value.span.end :]}"


def _whole(weights: str) -> str:
    """The weights with `w ~`, if that is left out; read once alone, so that carets point there."""
    tree = parse(f"fn({weights})")
    if not isinstance(tree, Call):
        raise FormulaError(f"The weights must be one expression, not {weights!r}.")
    if not tree.arguments:
        raise FormulaError("A weight function is empty.", hint='Write one such as "1/n".')
    first = tree.arguments[0].value
    has_name = isinstance(first, Infix) and first.operator == "~"
    return weights.strip() if has_name else f"w ~ {weights.strip()}"


def _has_weights(argument: Argument) -> bool:
    """`fn(w ~ 1/n)` or bml's `w(~ 1/n)`, and not bml's `fn("sum")`."""
    call = argument.value
    if not isinstance(call, Call) or call.function not in ("fn", "w"):
        return False
    return not (call.function == "fn" and any(_is_text(a.value) for a in call.arguments[:1]))


def _is_text(tree: Syntax) -> bool:
    return isinstance(tree, syntax.Literal) and isinstance(tree.value, str)


def _constraint(argument: Argument, formula: str) -> str:
    """The constraint as `fn()` has it: `scale = FALSE` of bml is `c = FALSE`."""
    written = formula[argument.span.start : argument.span.end]
    return f"c{written.removeprefix('scale')}" if argument.keyword == "scale" else written


def _calls(tree: Syntax) -> list[Call]:
    """All calls that are not inside another, from left to right."""
    match tree:
        case Call():
            return [tree]
        case Infix():
            return [*_calls(tree.left), *_calls(tree.right)]
        case syntax.Prefix():
            return _calls(tree.operand)
        case _:
            return []
