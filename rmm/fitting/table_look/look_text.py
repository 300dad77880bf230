"""What `rmm.look` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from rmm.errors import counted, printable
from rmm.fitting.table_look.estimable import Answer
from rmm.fitting.table_look.membership_facts import MembershipFacts
from rmm.fitting.table_look.variable_facts import Variable
from rmm.tables.printed_table import table_lines
from rmm.tables.read import Array

_WIDTH = 96
_SIZES = 10  # different sizes that are listed one by one
_NAME = 40  # characters of a column's name


def text_of(
    name: str,
    seen: MembershipFacts,
    variables: Sequence[Variable],
    answers: Sequence[Answer],
    notes: Sequence[str],
) -> str:
    """All that was found, as lines of text."""
    parts = [_memberships(name, seen), _variables(variables, seen)]
    if notes:  # before what can be estimated: that is right only if these are
        parts.append(["Please check", *(line for note in notes for line in _wrapped(note, "  "))])
    parts.append(_answers(answers))
    return "\n\n".join("\n".join(part) for part in parts if part)


def _memberships(name: str, m: MembershipFacts) -> list[str]:
    groups, members, shared = len(m.groups), len(m.members), int(m.shared.sum())
    count = len(m.member)
    lines = [
        f"{printable(name)}: " * bool(name)
        + f"{counted(m.rows, 'row')}, {counted(count, 'membership')}",
        f"  {counted(groups, 'group')} (`{m.group_column}`), "
        f"{counted(members, 'member')} (`{m.member_column}`)",
        f"  members of a group: {_spread(m.sizes)}",
        f"  groups of a member: {_spread(m.spread)}",
        f"  members in several groups: {_of(shared, members)}; they have "
        f"{_of(m.shared_memberships, count)} of the memberships",
        f"  groups that share a member with another group: {_of(m.sharing_groups, groups)}",
    ]
    sets = m.set_sizes
    if len(sets) > 1:
        largest = _of(int(sets[0]), groups)
        lines.append(
            f"  sets of groups that share no member: {len(sets):,}; the largest has {largest} of "
            "the groups"
        )
    return lines


def _of(part: int, total: int) -> str:
    return f"{part:,} ({100 * part / total:.0f}%)"


def _spread(numbers: Array) -> str:
    """``2 to 9, on average 3.3 (2: 240, 3: 188, ...)``."""
    low, high = int(numbers.min()), int(numbers.max())
    if low == high:
        return f"{low:,} each"
    text = f"{low:,} to {high:,}, on average {numbers.mean():.1f}"
    values, count = np.unique(numbers, return_counts=True)
    if len(values) <= _SIZES:
        listed = ", ".join(f"{v:,}: {n:,}" for v, n in zip(values, count, strict=True))
        return f"{text} ({listed})"
    quarter, half, three = np.quantile(numbers, [0.25, 0.5, 0.75])
    return f"{text} (quartiles {quarter:g}, {half:g}, {three:g})"


def _variables(variables: Sequence[Variable], m: MembershipFacts) -> list[str]:
    if not variables:
        return ["There are no columns besides the ids."]
    several = int((m.sizes > 1).sum())
    rows = [("variable", "level", "holds", "missing", "varies in groups", "variance in groups")]
    for v in variables:
        varies = "" if v.varies is None or not several else f"{100 * v.varies / several:.0f}%"
        within = "" if v.within is None else f"{100 * v.within:.0f}%"
        missing = f"{v.missing:,} in {counted(v.incomplete, 'group')}" if v.missing else ""
        name = v.name if len(v.name) <= _NAME else f"{v.name[: _NAME - 3]}..."
        rows.append((printable(name), v.level, v.holds, missing, varies, within))
    return table_lines(rows, "   rrr")


def _answers(answers: Sequence[Answer]) -> list[str]:
    lines = ["What can be estimated"]
    for a in answers:
        lines += _wrapped(f"{a.what}: {a.why}", f"  {a.answer:<8}")
    return lines


def _wrapped(text: str, start: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
