"""Features of members in JAGS programs."""

from __future__ import annotations

from collections.abc import Mapping

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

_TILTED = "part_{f}[r] <- {share}[r] * exp({k} * d_{f}[r] - abs({k}) * half_{f}[{group}[r]])"

# Feature -> lines for each membership r, and for each group j; {rows} are the memberships of j.
TEXTS: Mapping[str, tuple[str, str]] = {
    "variance": (
        "part_{f}[r] <- {share}[r] * pow(values_{f}[r] - mean_{f}[{group}[r]], 2)",
        "mean_{f}[j] <- inprod({share}[{rows}], values_{f}[{rows}])\n{f}[j] <- "
        "sum(part_{f}[{rows}])",
    ),
    "herfindahl": ("", "{f}[j] <- inprod({share}[{rows}], {share}[{rows}])"),
    "entropy": (
        "part_{f}[r] <- -{share}[r] * log(max({share}[r], 1.0E-300))",
        "{f}[j] <- sum(part_{f}[{rows}])",
    ),
    "threshold": (
        "part_{f}[r] <- {share}[r] * ilogit(slope_{f} * (values_{f}[r] - {number}))",
        "{f}[j] <- sum(part_{f}[{rows}])",
    ),
    "softmax": (
        _TILTED.replace("{k}", "{number}"),
        "{f}[j] <- middle_{f}[j] + inprod(part_{f}[{rows}], d_{f}[{rows}]) / sum(part_{f}[{rows}])",
    ),
    "genmean": (
        _TILTED.replace("{k}", "q_{f}"),
        "{f}[j] <- exp(middle_{f}[j]"
        " + (abs(q_{f}) * half_{f}[j] + log(sum(part_{f}[{rows}]))) / q_{f})",
    ),
}
KNOWN = ("", "{f}[j] <- known_{f}[j]")
ABOVE = ("", "{f}[j] <- inprod({share}[{rows}], values_{f}[{rows}])")


def terms(part: MemberPart) -> list[tuple[str, str]]:
    """Terms of eta[j], each with its meaning."""
    s, out = part.suffix, []
    for number, term in enumerate(part.features_in_program, start=1):
        f, b = feature_name(part, number), coefficient_index(part, number)
        out.append((f"({f}[j] - center_l1{s}[{b}]) * {part.b}[{b}]", label(term)))
    return out


def reads_group(part: MemberPart) -> bool:
    """Whether the features' lines name the group of each membership."""
    tilted = ("softmax", "genmean")
    return any(
        t.weighted and (part.estimated or t.function in tilted) for t in part.features_in_program
    )


def section(part: MemberPart, rows: str) -> list[str]:
    """Lines that compute the features; `rows` is the text of the memberships of group j."""
    if not part.features_in_program:
        return []
    s, estimated = part.suffix, 0
    by_row, by_group, outside = list[str](), list[str](), list[str]()
    if needs_share(part) and part.estimated:
        by_group.append(f"portion_total{s}[j] <- sum(uw{s}[{rows}])")
        by_row.append(f"portion{s}[r] <- uw{s}[r] / portion_total{s}[group{s}[r]]")
    for number, term in enumerate(part.features_in_program, start=1):
        f = feature_name(part, number)
        value = f"number_{f}"
        if term.parameter is not None:
            estimated += 1
            value = f"{part.b_f}[{estimated}]"
        text = TEXTS[term.function]
        text = KNOWN if not term.weighted else ABOVE if given_above(term) else text
        names = {
            "f": f,
            "share": f"portion{s}",
            "group": f"group{s}",
            "rows": rows,
            "number": value,
        }
        by_row += [line for line in text[0].format(**names).splitlines() if line]
        by_group += text[1].format(**names).splitlines()
        if term.function == "genmean":
            near = f"{NEAR_ZERO:.1E}"
            outside.append(f"  q_{f} <- ifelse(abs({value}) < {near}, {near}, {value})  # not 0")
    lines = ["", f"  # ---- features of the members of a group{f', block {s[1:]}' if s else ''}"]
    if needs_share(part):
        lines.append(f"  # portion{s}: weights, divided by their sums in groups")
    for number, term in enumerate(part.features_in_program, start=1):
        f, known = feature_name(part, number), []
        for stem in data_stems(term):
            known.append(f"; {stem}_{f}: {describe_stem(term, stem)}")
        lines.append(f"  # {f}: {label(term)}{''.join(known)}")
    if by_row:
        lines += [f"  for (r in 1:M{s}) {{", *(f"    {line}" for line in by_row), "  }"]
    lines += ["  for (j in 1:J) {", *(f"    {line}" for line in by_group), "  }"]
    return [*lines, *outside]
