"""The weight language: text -> weight function -> numbers, JAGS text, Stan text.

No user text is evaluated by Python, and none reaches a program unparsed. The table of functions is
`FUNCTIONS`; the dialect with `offset()` is read in `rewrite`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmm.errors import FormulaError
from rmm.formula import parser as syntax
from rmm.formula.expression import (
    Aggregate,
    Binary,
    Call,
    Column,
    GroupSize,
    LogisticSize,
    Node,
    Number,
    Parameter,
    TableCall,
    Unary,
    children,
    describe,
    has_parameters,
    leaf_columns,
    value_columns,
    walk,
)
from rmm.formula.expression_reader import Reader
from rmm.formula.functions import AGGREGATES, FUNCTIONS
from rmm.formula.weights.evaluate import (
    CONSTRAINTS,
    LOG_N1_OF_ONE,
    Array,
    evaluate,
    log_size_less_one,
    normalise,
    normalise_log,
)
from rmm.formula.weights.render import (
    input_key,
    program_inputs,
    stan_definitions,
    to_jags,
    to_stan,
    uses_log_size,
    uses_size,
)
from rmm.formula.weights.rewrite import (
    is_offset_dialect,
    multipliers,
    recognise,
    refuse_parameters,
    substituted,
    with_coefficients,
)

__all__ = [
    "AGGREGATES",
    "CONSTRAINTS",
    "FUNCTIONS",
    "LOG_N1_OF_ONE",
    "Aggregate",
    "Binary",
    "Call",
    "Column",
    "GroupSize",
    "LogisticSize",
    "Node",
    "Number",
    "Parameter",
    "TableCall",
    "Unary",
    "WeightFunction",
    "build_weights",
    "children",
    "describe",
    "evaluate",
    "has_parameters",
    "leaf_columns",
    "log_size_less_one",
    "normalise",
    "normalise_log",
    "parse_weights",
    "program_names",
    "read_constraint",
    "stan_definitions",
    "to_jags",
    "to_stan",
    "uses_log_size",
    "uses_size",
    "value_columns",
    "walk",
]

_CONSTRAINT_VALUES: tuple[tuple[object, str], ...] = (
    (True, "group"),
    (1.0, "group"),
    (2.0, "total"),
    (False, "none"),
)


@dataclass(frozen=True)
class WeightFunction:
    """A weight function, parsed.

    Attributes
    ----------
    text : str
        Right-hand side as written.
    expression : Node
    constraint : str
        ``"group"`` (weights sum to 1 in each group), ``"total"`` (to the number of groups over
        all rows) or ``"none"``.
    dialect : str
        ``"explicit"`` (`b0`, `b1`, ... are parameters) or ``"offset"`` (columns outside
        `offset()` carry one each).
    """

    text: str
    expression: Node
    constraint: str = "group"
    dialect: str = "explicit"

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names in order of their numbers: `b`, `b0`, `b1`, ..."""
        found = {n.name for n in walk(self.expression) if isinstance(n, Parameter)}
        return tuple(sorted(found, key=lambda name: int(name[1:] or -1)))

    @property
    def estimated(self) -> bool:
        """Whether it has parameters."""
        return bool(self.parameters)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Data columns used, `within =` too; `n` is not one."""
        return leaf_columns(self.expression)

    @property
    def variables(self) -> tuple[str, ...]:
        """Data columns used as numbers, in order of appearance."""
        return value_columns(self.expression)

    @property
    def uses_size(self) -> bool:
        """Whether the group size `n` is used in any form."""
        return uses_size(self.expression) or self.uses_log_size

    @property
    def uses_log_size(self) -> bool:
        """Whether a program needs the data vector `log_n1`."""
        return uses_log_size(self.expression)

    @cached_property
    def inputs(self) -> tuple[tuple[str, Node], ...]:
        """(identifier, leaf) of the data vectors that a program needs; see `program_inputs`."""
        return program_inputs(self.expression)

    def multiplier(self, parameter: str) -> Node | None:
        """The data expression that a parameter multiplies; None for an intercept.

        ``b1*x/2`` gives ``x/2``, ``share^b1`` gives ``log(share)``. None too where it multiplies
        different expressions in several places.
        """
        found = multipliers(self.expression, parameter)
        if not found or any(slope != found[0] for slope in found):
            return None
        return None if isinstance(found[0], Number) else found[0]

    def with_fixed(self, parameter: str, value: float) -> WeightFunction:
        """The function with a number in place of a parameter; `text` is rewritten."""
        expression = substituted(self.expression, {parameter: value})
        return replace(self, text=describe(expression), expression=expression)

    def raw(
        self,
        columns: Mapping[str, Array],
        start: Array,
        parameters: Mapping[str, Array | float] | None = None,
    ) -> Array:
        """Raw weights, (..., M); see `evaluate`."""
        return evaluate(self.expression, columns, start, parameters)

    def weights(
        self,
        columns: Mapping[str, Array],
        start: Array,
        parameters: Mapping[str, Array | float] | None = None,
    ) -> Array:
        """Weights after the constraint, (..., M).

        Where all raw weights of a group underflow (1/n^exp(8) does), logarithms take over. Where a
        weight is not a number or infinite it is returned so: see `invalid_weights`.
        """
        raw = self.raw(columns, start, parameters)
        values = normalise(raw, self.constraint, start)
        bad = ~np.isfinite(values)
        if bad.any() and self.constraint != "none" and not (raw < 0).any():
            logs = evaluate(self.expression, columns, start, parameters, log=True)
            values = np.where(bad, normalise_log(logs, self.constraint, start), values)
        return values


def parse_weights(text: str, *, constraint: object = None) -> WeightFunction:
    """A weight function from its text.

    Parameters
    ----------
    text : str
        ``"w ~ 1/n^exp(-(b0 + b1*x))"``, or the right-hand side alone.
    constraint : optional
        1 or True, 2, or False; or ``"group"``, ``"total"``, ``"none"``. The default is 1, but 2
        for the offset dialect with parameters.

    Raises
    ------
    FormulaError
        With a caret.
    """
    tree = syntax.parse(text)
    return build_weights(tree, text, None if constraint is None else read_constraint(constraint))


def read_constraint(value: object) -> str:
    """``"group"``, ``"total"`` or ``"none"`` from what users write; `FormulaError` otherwise."""
    if isinstance(value, str) and value in CONSTRAINTS:
        return value
    for written, meaning in _CONSTRAINT_VALUES:
        same_kind = isinstance(value, bool) == isinstance(written, bool)
        if same_kind and isinstance(value, (bool, int, float)) and value == written:
            return meaning
    is_number = isinstance(value, str) and value.strip() in ("1", "2")
    raise FormulaError(
        f"`c` in fn() is the text {value!r}. Write the number without quotes: {value}."
        if is_number
        else f"`c` in fn() cannot be {'the text ' * isinstance(value, str)}{value!r}.",
        hint="Allowed: 1, TRUE or group (the weights of each group sum to 1); 2 or total (all "
        "weights sum to the number of groups); FALSE or none (weights are not normalised).",
    )


def build_weights(tree: syntax.Syntax, text: str, constraint: str | None = None) -> WeightFunction:
    """A weight function from the syntax tree of ``w ~ ...`` inside `text`."""
    tree = _right_side(tree, text)
    offset = is_offset_dialect(tree)
    reader = Reader(text, parameters=not offset, weights=True)
    if offset:
        refuse_parameters(tree, reader)
    expression = with_coefficients(tree, reader) if offset else reader.read(tree)
    expression = recognise(expression)
    dialect = "offset" if offset else "explicit"
    if constraint is None:
        constraint = "total" if offset and has_parameters(expression) else "group"
    return WeightFunction(syntax.source(text, tree), expression, constraint, dialect)


def _right_side(tree: syntax.Syntax, text: str) -> syntax.Syntax:
    if isinstance(tree, syntax.Prefix) and tree.operator == "~":
        return tree.operand
    if isinstance(tree, syntax.Infix) and tree.operator == "~":
        if not isinstance(tree.left, syntax.Name):
            raise FormulaError(
                "The left side of a weight function must be a name: w ~ ...",
                text,
                tree.left.span.start,
                tree.left.span.end - tree.left.span.start,
            )
        return tree.right
    return tree


# -- programs --------------------------------------------------------------------------------


def program_names(
    function: WeightFunction, coefficient: str = "b_w", prefix: str = ""
) -> dict[str, str]:
    """`names` for `to_jags` and `to_stan`: data vectors get `prefix`, parameters an index."""
    names = {"n": f"{prefix}n", "log_n1": f"{prefix}log_n1"}
    for number, parameter in enumerate(function.parameters, start=1):
        names[f"param:{parameter}"] = f"{coefficient}[{number}]"
    for identifier, leaf in function.inputs:
        names[f"input:{input_key(leaf)}"] = f"{prefix}{identifier}"
    return names
