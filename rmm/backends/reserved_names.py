"""Names of weight variables in programs, which have names of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rmm.errors import FormulaError
from rmm.model.spec import ModelSpec

# Every name that the programs of either language may use, without a block's suffix.
_OWN = re.compile(
    r"(J|M|K_w|K_l[123]|N_l1|H|X_l[123]|center_l[123]|offset|offset_l[12]|start|first|last|member"
    r"|group|weight|nesting|row|one|uw|lw|xw|absent|top|total|w|effect|eta|alpha|beta_l2|intercept"
    r"|portion|portion_total|f\d+|(values|d|middle|half|slope|number|known|part|mean|q|tilted)_f\d+"
    r"|y|j|r|k|i|h|path|shape|log_t|log_z|event|events|tiny|cum_hazard"
    r"|mu|at|share|seen|one|risk|time|K_time|by_time|at_risk|exposure|(prior|shape|rate|cum)_dH|dH|e"
    r"|residual|cells|effect|C|n_groups|n_units|alone|size_place|fixed|K_fixed"
    r"|spread|sd_from_raw|log_sd_derivative|raw|bordered|components_lpdf|components_rng"
    r"|std_b_w(_.*)?|p|S|trials|stratum|by_stratum|stratum_start|chosen|place|ordered_eta|odds"
    r"|((X|K|L|slope|N|M|H|J|center|offset|weight|member|first|last|prior|lower|upper|tau|sigma|b|u|z|Z"
    r"|step|path|place|begin|earliest|later|zero|raw|singular|basis|turn|fixed|rest|count|one|column|size|order|unit"
    r"|row|direction|load|information|signal|along|gain|shrunk|effect|score"
    r"|base|start|uw|absent|shared|own|group)_.*))"
    r"(_\d+)?"
)


def standard_name(b_w: str) -> str:
    """Name of the standardised weight coefficients that a program samples."""
    return f"std_{b_w}"


def vector_name(identifier: str, suffix: str) -> str:
    """Name of a weight variable's data vector; the programs' own names are left alone."""
    safe = f"x_{identifier}" if _OWN.fullmatch(identifier) else identifier
    return f"{safe}{suffix}"


def check_distinct(spec: ModelSpec) -> None:
    """Raise `FormulaError` if two weight variables would share one name in a program."""
    taken: dict[str, str] = {}
    for part in spec.members:
        inputs: Iterable[str] = [i for i, _ in part.weight.inputs] if part.estimated else []
        for identifier in inputs:
            name = vector_name(identifier, part.suffix)
            if name in taken:
                raise FormulaError(
                    f"The weight variables `{taken[name]}` and `{identifier}` would both be called "
                    f"`{name}` in the program.",
                    hint="Rename one of the columns.",
                )
            taken[name] = identifier
