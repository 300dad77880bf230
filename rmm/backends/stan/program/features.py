"""Features of members in Stan programs: declarations and statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rmm.backends.feature_data import (
    coefficient_index,
    data_stems,
    describe_stem,
    feature_name,
    given_above,
    label,
    needs_share,
)
from rmm.formula.features import NEAR_ZERO
from rmm.model.spec import MemberPart

# Templates: {f} is the feature's name, {sum} sums over the members of each group, {share} and
# {group} are vectors by membership, {number} is the feature's number. One row per feature.
STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "variance": (
        "vector[J] {f} = {sum}({share} .* values_{f});  // mean, then variance",
        "{f} = {sum}({share} .* square(values_{f} - {f}[{group}]));",
    ),
    "herfindahl": ("vector[J] {f} = {sum}(square({share}));",),
    "entropy": ("vector[J] {f} = -{sum}({share} .* log(fmax({share}, 1e-300)));",),
    "threshold": (
        "vector[{M}] part_{f} = {share} .* inv_logit(slope_{f} * (values_{f} - {number}));",
        "vector[J] {f} = {sum}(part_{f});",
    ),
    "softmax": (
        "vector[{M}] tilted_{f} = {share}"
        " .* exp({number} * d_{f} - abs({number}) * half_{f}[{group}]);",
        "vector[J] {f} = {sum}(tilted_{f} .* d_{f});",
        "{f} = middle_{f} + {f} ./ {sum}(tilted_{f});",
    ),
    "genmean": (
        f"real q_{{f}} = abs({{number}}) < {NEAR_ZERO:g} ? {NEAR_ZERO:g} : {{number}};  // not 0",
        "vector[{M}] tilted_{f} = {share} .* exp(q_{f} * d_{f} - abs(q_{f}) * half_{f}[{group}]);",
        "vector[J] {f} = log({sum}(tilted_{f}));",
        "{f} = exp(middle_{f} + (abs(q_{f}) * half_{f} + {f}) / q_{f});",
    ),
}
KNOWN = ("vector[J] {f} = known_{f};",)
ABOVE = ("vector[J] {f} = {sum}({share} .* values_{f});",)


def declared(part: MemberPart) -> list[str]:
    """Declarations of the features' data."""
    s, lines = part.suffix, list[str]()
    if not part.features_in_program:
        return lines
    lines.append(f"array[M{s}] int<lower=1, upper=J> group{s};  // group of each membership")
    if needs_share(part) and not part.estimated:
        lines.append(f"vector[M{s}] portion{s};  // known weights, divided by their sums in groups")
    if part.columns:
        lines.append(f"int<lower=1> K_x_l1{s};  // number of columns of X_l1{s}")
    if part.parametric_features:
        lines.append(f"int<lower=1> K_f{s};  // number of features with an estimated number")
    for number, term in enumerate(part.features_in_program, start=1):
        f = feature_name(part, number)
        for name in data_stems(term):
            size = "J" if name in ("middle", "half", "known") else f"M{s}"
            scalar = name in ("slope", "number")
            what = f"{label(term)}: {describe_stem(term, name)}"
            lines.append(f"{'real' if scalar else f'vector[{size}]'} {name}_{f};  // {what}")
    return lines


def statements(part: MemberPart, sums: Callable[[str], str]) -> list[str]:
    """Lines that compute the features and add them to `eta`.

    Parameters
    ----------
    part : MemberPart
    sums : callable
        Text of a vector by membership -> text of its sums by group.
    """
    s, lines, estimated = part.suffix, [], 0
    if needs_share(part) and part.estimated:
        lines.append(f"vector[M{s}] portion{s} = uw{s} ./ {sums(f'uw{s}')}[group{s}];")
    for number, term in enumerate(part.features_in_program, start=1):
        f, b = feature_name(part, number), coefficient_index(part, number)
        value = f"number_{f}"
        if term.parameter is not None:
            estimated += 1
            value = f"{part.b_f}[{estimated}]"
        rows = STATEMENTS[term.function]
        rows = KNOWN if not term.weighted else ABOVE if given_above(term) else rows
        names = {
            "f": f,
            "share": f"portion{s}",
            "group": f"group{s}",
            "M": f"M{s}",
            "number": value,
            "sum": "{sum}",
        }
        lines += [_summed(row.format(**names), sums) for row in rows]
        lines.append(f"eta += ({f} - center_l1{s}[{b}]) * {part.b}[{b}];  // {label(term)}")
    return lines


def _summed(line: str, sums: Callable[[str], str]) -> str:
    """Every ``{sum}(...)`` as the program's sum by group."""
    while (start := line.find("{sum}(")) >= 0:
        depth, end = 0, start + 5
        for end in range(start + 5, len(line)):
            depth += (line[end] == "(") - (line[end] == ")")
            if depth == 0:
                break
        line = line[:start] + sums(line[start + 6 : end]) + line[end + 1 :]
    return line
