"""Which level a predictor belongs to, and what coefficients are called."""

from __future__ import annotations

import warnings
from dataclasses import replace

from rmm.encoding import encode
from rmm.errors import SpecificationWarning
from rmm.grouping import Grouped
from rmm.spec import ModelSpec
from rmm.tables import first_varying
from rmm.terms import Formula
from rmm.weights import leaf_columns


def find_levels(grouped: Grouped) -> tuple[Formula, dict[str, int]]:
    """Which predictors outside `mm()` are level 3.

    A predictor that is constant within the units of an `hm(type=RE)` block belongs to that block
    (the first such one). One that is constant within the units of an `hm(type=FE)` block is
    collinear with its dummies: it is dropped, with a `SpecificationWarning`.

    Returns
    -------
    formula : Formula
        Without the dropped terms.
    levels : dict
        Term label -> index of its `hm()` block.
    """
    formula, frame = grouped.formula, grouped.group_frame
    levels: dict[str, int] = {}
    dropped: list[str] = []
    for term in formula.terms:
        columns = [c for a in term.atoms for c in leaf_columns(a.expression)]
        constant = [
            all(first_varying(frame[c].to_numpy(), units.code) is None for c in columns)
            for units in grouped.nestings
        ]
        blocks = list(enumerate(formula.nestings))
        fixed = [b.unit for i, b in blocks if constant[i] and b.effect == "FE"]
        random = [i for i, b in blocks if constant[i] and b.effect == "RE" and b.terms is None]
        if fixed:
            dropped.append(term.label)
            warnings.warn(
                f"`{term.label}` is constant within `{fixed[0]}` and is dropped: the fixed effects "
                "of hm(type = FE) already hold every difference between nesting units.",
                SpecificationWarning,
                stacklevel=2,
            )
        elif random:
            levels[term.label] = random[0]
    kept = tuple(t for t in formula.terms if t.label not in dropped)
    return replace(formula, terms=kept), levels


def coefficient_labels(spec: ModelSpec, grouped: Grouped) -> dict[str, list[str]]:
    """Names of the elements of every coefficient vector, as summaries show them."""
    frame = grouped.group_frame
    columns = encode(spec.terms, frame, intercept=spec.spanned)
    out = {"b_l2": ["Intercept"] * spec.intercept + list(columns.labels)}
    spanned = spec.spanned or columns.full
    for nest in spec.nestings:
        found = encode(nest.terms, frame, intercept=spanned)
        out[nest.b] = list(found.labels)
    for part, units in zip(spec.members, grouped.members, strict=True):
        contrast = spanned and part.weight.constraint == "group" and units.everywhere
        own = units.of(grouped.frame)
        found = encode(part.block.terms, own, intercept=contrast, start=units.segments)
        out[part.b] = list(found.labels)
        out[part.b_w] = list(part.weight.parameters)
    return out
