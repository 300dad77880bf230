"""Texts of weight functions in both languages, for the tests that compare them."""

from __future__ import annotations

from rmm.formula.weights.render import is_vector, to_jags, to_stan
from rmm.formula.weights.weight_function import (
    WeightFunction,
    program_names,
)


def render_jags(
    function: WeightFunction, coefficient: str = "b_w", prefix: str = "", index: str = "r"
) -> str:
    """JAGS text of the raw weight of row `index`: ``ilogit(b_w[1] * x_pseat[r] - log_n1[r])``."""
    return to_jags(function.expression, program_names(function, coefficient, prefix), index)


def render_stan(
    function: WeightFunction, coefficient: str = "b_w", prefix: str = "", rows: str = "M"
) -> str:
    """Stan text of the (M,) vector of raw weights."""
    text = to_stan(function.expression, program_names(function, coefficient, prefix))
    return text if is_vector(function.expression) else f"rep_vector({text}, {rows})"
