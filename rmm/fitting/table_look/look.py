"""`rmm.look`: groups, members and variables of a table, and what can be estimated from it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.arguments import readable
from rmm.design.checks.design_warnings import listed_in_cells
from rmm.design.rows.table_checks import check_ids, numbered_alike
from rmm.errors import DataError, SpecificationWarning, counted, quoted
from rmm.fitting.table_look.estimable import Answer, answers
from rmm.fitting.table_look.look_text import text_of
from rmm.fitting.table_look.membership_facts import MembershipFacts, read_memberships
from rmm.fitting.table_look.variable_facts import Variable, describe_variables
from rmm.tables.data_files import is_text_file
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import Array, read_table
from rmm.tables.table import Table
from rmm.tables.wide_to_long import to_long_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Ids that often stand for nobody.
_NOBODY = {"0", "-1", "-9", "-99", "99", "-999", "999", "9999", "none", "na", "n/a", "nan", "."}

#: Memberships of each value of a code, on average, at least.
_REPEATED = 4


@dataclass(frozen=True, eq=False)
class TableLook:
    """What `rmm.look` has found; `print` shows it.

    Attributes
    ----------
    name : str
        Of the file; empty for a table in memory.
    memberships : MembershipFacts
    variables : tuple of Variable
        What each column holds, and at which level it varies.
    facts : pandas.DataFrame
        One row per variable: ``level``, ``holds``, ``different`` values, ``missing`` memberships,
        ``incomplete`` groups, ``varies`` (groups within which it varies) and ``within`` (share of
        its variance over memberships that is within groups).
    answers : tuple of Answer
        What can be estimated: ``what``, ``answer`` (yes, partly, no) and ``why``.
    notes : tuple of str
        What may be wrong with the table.
    """

    name: str
    memberships: MembershipFacts
    variables: tuple[Variable, ...]
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]

    @property
    def facts(self) -> pd.DataFrame:
        """The variables as a table."""
        columns = ("level", "holds", "different", "missing", "incomplete", "varies", "within")
        rows = [[getattr(v, c) for c in columns] for v in self.variables]
        index = pd.Index([v.name for v in self.variables], name="variable")
        return pd.DataFrame(rows, index, list(columns))

    def plot(self) -> Figure:
        """The network of groups and members, with the sizes of both.

        Returns
        -------
        matplotlib.figure.Figure
            Tables with thousands of groups and members are drawn as a matrix.

        Raises
        ------
        PlotError
            If matplotlib is absent.
        """
        # Late: figures need matplotlib, the numbers do not.
        from rmm.posterior.plots import need_matplotlib

        need_matplotlib()
        # Late: as above.
        from rmm.fitting.table_look.network_figure import draw

        return draw(self.memberships)

    def as_dict(self) -> dict[str, Any]:
        """Everything that was found, as numbers and texts."""
        m = self.memberships
        return {
            "rows": m.rows,
            "memberships": len(m.member),
            "groups": len(m.groups),
            "members": len(m.members),
            "members_of_a_group": _counts(m.sizes),
            "groups_of_a_member": _counts(m.spread),
            "members_in_several_groups": int(m.shared.sum()),
            "memberships_of_these": m.shared_memberships,
            "groups_that_share_a_member": m.sharing_groups,
            "sets_that_share_no_member": m.set_sizes.tolist(),
            "variables": [asdict(variable) for variable in self.variables],
            "estimable": [asdict(answer) for answer in self.answers],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return text_of(self.name, self.memberships, self.variables, self.answers, self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def _counts(numbers: Array) -> dict[int, int]:
    """Number -> how often it occurs."""
    values, count = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), count.tolist(), strict=True))


@readable(DataError)
def look(data: Any, member: str, group: str, *, na: Sequence[str] | None = None) -> TableLook:
    """Look at a table before a model: groups, members, variables, and what can be estimated.

    Parameters
    ----------
    data : frame, table, mapping or path
        One row per membership; what `rmm.fit` reads.
    member, group : str
        Columns of ids. The outcome is measured on the groups.
    na : sequence of str, optional
        Texts that mean a missing value, if `data` is the path of a text file.

    Returns
    -------
    TableLook
        `print` shows it, `plot` draws the membership network.

    Raises
    ------
    DataError
        If the table cannot be read, has no such columns, or no row with both ids.

    Examples
    --------
    >>> import rmm
    >>> table = {
    ...     "party": ["red", "green", "red", "blue"], "government": [1, 1, 2, 2],
    ...     "seats": [0.7, 0.3, 0.6, 0.4], "days": [400, 400, 250, 250],
    ... }
    >>> seen = rmm.look(table, "party", "government")
    >>> seen.facts[["level", "varies", "within"]]
                   level  varies  within
    variable
    days           group     NaN     NaN
    seats     membership     2.0     1.0
    """
    for key, name in (("member", member), ("group", group)):
        if not isinstance(name, str):
            raise DataError(f"`{key}` must be the name of a column, not {name!r}.")
    frame = read_table(data, ids=[member, group], na=na)
    frame = simplify_columns(frame, list(frame.columns), [member, group])
    seen = read_memberships(frame, member, group)
    variables = describe_variables(frame, seen)
    in_file = is_text_file(data)
    notes = [*_lost_rows(seen), *_suspect_ids(frame, seen, in_file and na is None, not in_file)]
    name = Path(data).name if isinstance(data, str | os.PathLike) else ""
    table = f'"{name}"' if name else "data"
    notes += [*_suspect_members(seen, [str(name) for name in frame.columns], table)]
    if seen.sizes.max() > 1:  # a wide table has other variables
        notes += _suspect_codes(variables, len(seen.member))
    return TableLook(name, seen, variables, answers(seen, variables), tuple(notes))


def _lost_rows(seen: MembershipFacts) -> list[str]:
    """Rows that are no membership."""
    out = []
    if seen.without_member:
        rows = counted(seen.without_member, "row has", "rows have")
        out.append(
            f"{rows} no id in `{seen.member_column}`. They are left out here, but rmm.fit stops at "
            "them: drop them if they are empty slots of a wide table, and give the member an id if "
            "it is not known who it is."
        )
    if seen.without_group:
        rows = counted(seen.without_group, "row has", "rows have")
        out.append(
            f"{rows} no id in `{seen.group_column}`. They are left out here, but rmm.fit stops at "
            "them: give the group an id, or drop its rows."
        )
    if seen.repeated:
        rows = counted(seen.repeated, "row repeats", "rows repeat")
        out.append(
            f"{rows} a member of a group that is already there. Only the first is used here, but "
            "rmm.fit stops at them: keep one row, and count the rows in a new column."
        )
    return out


def _suspect_ids(
    frame: pd.DataFrame, seen: MembershipFacts, from_text: bool, in_memory: bool
) -> list[str]:
    """What `rmm.fit` would warn of in the ids."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", SpecificationWarning)
        ids = [seen.member_column, seen.group_column]
        check_ids(Table(frame), ids, from_text=from_text, in_memory=in_memory)
    return [str(warning.message) for warning in heard]


def _suspect_codes(variables: Sequence[Variable], memberships: int) -> list[str]:
    """Columns that number a few values from 0 or 1 on, as codes of categories do."""
    codes = [v for v in variables if v.codes and memberships >= _REPEATED * v.different]
    if not codes:
        return []
    listed = ", ".join(f"`{v.name}` ({v.holds})" for v in codes)
    return [
        f"A model uses these columns as numbers: {listed}. If the values are codes of categories, "
        f"write factor({codes[0].name}) in the formula."
    ]


def _suspect_members(seen: MembershipFacts, names: list[str], table: str) -> list[str]:
    """Wide tables, and a member that stands for nobody."""
    out = []
    others = numbered_alike(seen.member_column, names)
    if seen.sizes.max() == 1 and (cells := listed_in_cells(seen.members)):
        out.append(f"Every group has one member.{cells}")
    elif seen.sizes.max() == 1 and others:
        members = [seen.member_column, *others]
        out.append(
            f"Every group has one member (column `{seen.member_column}`), but there are columns "
            "with similar names. If this is a wide table, make a long one: "
            f"{to_long_text(members, names, seen.group_column, table)}."
        )
    most = int(np.argmax(seen.spread))
    label = seen.members[most]
    if len(seen.groups) > 2 and str(label).lower() in _NOBODY and seen.spread[most] > 1:
        out.append(
            f"Member {quoted(label)} is in {seen.spread[most]:,} of {len(seen.groups):,} groups, "
            "more than any other. If it is a code for an empty slot, drop these rows; they are no "
            "memberships."
        )
    return out
