"""What a criterion says about a study's estimates: a table, sentences, passed or not."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd

from rmm.errors import counted
from rmm.study.files.parquet import FAILED, NOT_CONVERGED, TIMEOUT

#: One row per fit; every other row of a fit repeats these.
FIT = ["scenario", "method", "replication"]
_NONE = pd.Series(dtype=object)


@dataclass(frozen=True, eq=False)
class Verdict:
    """One criterion of one study.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per comparison; the column `passed` says which hold.
    notes : tuple of str
        How many fits there are and what became of them, and how often a correct engine fails.
    complete : bool
        False where something is missing that the criterion needs, such as failed fits.
    """

    study: str
    criterion: str
    table: pd.DataFrame
    notes: tuple[str, ...]
    complete: bool = True

    @property
    def passed(self) -> bool:
        """Whether every comparison holds, and there is one."""
        return self.complete and len(self.table) > 0 and bool(self.table["passed"].all())

    def text(self) -> str:
        """The verdict for people."""
        body = self._shown().to_string(index=False, float_format="{:.3g}".format, na_rep="")
        return "\n".join([self._headline(), body, *self.notes])

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, as a table."""
        table = self._shown().to_html(
            index=False, float_format="{:.3g}".format, na_rep="", border=0
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p>{escape(self._headline())}</p>{table}{notes}"

    def _headline(self) -> str:
        word = "passed" if self.passed else "NOT PASSED"
        return f"{self.study}: {self.criterion} {word}"

    def _shown(self) -> pd.DataFrame:
        """The comparisons, without scenario and replication where there is only one."""
        same = [c for c in ("scenario", "replication") if self.table.get(c, _NONE).nunique() < 2]
        shown = self.table.drop(columns=same, errors="ignore")
        shown = shown.assign(passed=["" if p else "FAILS" for p in shown.get("passed", [])])
        return shown.rename(columns={"passed": ""})


def fit_notes(estimates: pd.DataFrame) -> tuple[str, ...]:
    """How many fits there are, and which methods have some that are not in order."""
    fits = estimates.drop_duplicates(FIT)
    notes = [f"{counted(len(fits), 'fit')} by {counted(fits['method'].nunique(), 'method')}."]
    for method, status in fits.groupby("method", sort=False)["status"]:
        failed = int(status.isin([FAILED, TIMEOUT]).sum())
        slow = int((status == NOT_CONVERGED).sum())
        if failed or slow:
            notes.append(
                f"{method}: of {counted(len(status), 'fit')}, {slow:,} did not converge (they are "
                f"counted too) and {failed:,} failed."
            )
    return tuple(notes)


def broken(estimates: pd.DataFrame) -> int:
    """Number of fits without estimates."""
    fits = estimates.drop_duplicates(FIT)
    return int(fits["status"].isin([FAILED, TIMEOUT]).sum())
