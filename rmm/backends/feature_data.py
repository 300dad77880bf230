"""Features of members in programs of either language: names of their data, and the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.design.members.feature_values import FeatureArrays
from rmm.design.members.memberships import Membership
from rmm.formula.terms import FeatureTerm
from rmm.formula.weights.weight_function import normalise
from rmm.model.spec import MemberPart


def feature_name(part: MemberPart, number: int) -> str:
    """Name of the `number`-th feature that the program computes: ``"f1_party"``."""
    return f"f{number}{part.suffix}"


def coefficient_index(part: MemberPart, number: int) -> str:
    """Index of a feature's coefficient in `b_l1`, after those of the columns."""
    return f"K_x_l1{part.suffix} + {number}" if part.columns else str(number)


def given_above(term: FeatureTerm) -> bool:
    """Whether the feature is a threshold with a given cut: a weighted share of 0s and 1s."""
    return term.function == "threshold" and term.parameter is None


def needs_share(part: MemberPart) -> bool:
    """Whether a feature reads the weights divided by their sums in groups."""
    return any(term.weighted for term in part.features_in_program)


def data_stems(term: FeatureTerm) -> tuple[str, ...]:
    """Stems of the names of a feature's data, such as ``values`` of ``values_f1``."""
    if not term.weighted:
        return ("known",)
    number = () if term.value is None or given_above(term) else ("number",)
    match term.function:
        case "variance":
            return ("values",)
        case "threshold":
            return ("values",) if given_above(term) else ("values", "slope", *number)
        case "softmax" | "genmean":
            return ("d", "middle", "half", *number)
    return ()


def describe_stem(term: FeatureTerm, stem: str) -> str:
    """What the data of a feature are, for a comment."""
    x = "logarithms" if term.function == "genmean" else "values"
    above = given_above(term)
    return {
        "known": "its values",
        "values": "1 for members above the cut, else 0" if above else "values of the members",
        "slope": "steepness of the smooth step at the cut",
        "number": "its given number",
        "d": f"{x} of the members, minus the middle of their group's range",
        "middle": f"middle of the range of {x} in each group",
        "half": f"half the range of {x} in each group",
    }[stem]


def values(part: MemberPart, m: Membership) -> dict[str, Any]:
    """The features' data by name, with the block's suffix; for either language."""
    s, out = part.suffix, dict[str, Any]()
    if not part.features_in_program:
        return out
    if needs_share(part) and m.weight is not None:
        out[f"portion{s}"] = normalise(m.weight, "group", m.start)
    if part.columns:
        out[f"K_x_l1{s}"] = m.X.shape[1]
    for number, (term, arrays) in enumerate(
        zip(part.features_in_program, m.features, strict=True), start=1
    ):
        known = _known_values(term, arrays)
        f = feature_name(part, number)
        out |= {f"{name}_{f}": known[name] for name in data_stems(term)}
    return out


def _known_values(term: FeatureTerm, arrays: FeatureArrays) -> dict[str, Any]:
    if not term.weighted:
        return {"known": arrays.reference}
    if term.function in ("softmax", "genmean"):
        d, middle, half = arrays.ranges
        return {"d": d, "middle": middle, "half": half, "number": term.value}
    if given_above(term):
        assert term.value is not None
        return {"values": np.asarray(arrays.x > term.value, dtype=float)}
    return {"values": arrays.x, "slope": arrays.slope, "number": term.value}


def label(term: FeatureTerm) -> str:
    """The user's text of a feature, safe inside a comment."""
    line = " ".join(term.label.split())
    return "".join(c if " " <= c <= "~" else "?" for c in line).replace("*/", "* /")
